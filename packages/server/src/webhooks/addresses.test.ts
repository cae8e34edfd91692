import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { test } from 'node:test';
import { createAddresses } from './addresses.ts';
import { createWebhookSender } from './sender.ts';

/** Where names lead in these tests; no name server is asked. */
const names: Readonly<Record<string, readonly string[]>> = {
  'hooks.example.com': ['93.184.216.34', '2606:2800:220:1:248:1893:25c8:1946'],
  localhost: ['127.0.0.1', '::1'],
  'localhost.': ['127.0.0.1'],
  'localtest.me': ['127.0.0.1'],
  '127.0.0.1.nip.io': ['127.0.0.1'],
  'metadata.google.internal': ['169.254.169.254'],
  'metadata.google.internal.': ['169.254.169.254'],
  'kubernetes.default.svc': ['10.96.0.1'],
  'half.example.com': ['93.184.216.34', '10.0.0.7'],
  'six.example.com': ['93.184.216.34', '::ffff:127.0.0.1'],
  'ula.example.com': ['fd00:ec2::254'],
  'nat64.example.com': ['64:ff9b::a9fe:a9fe'],
  'zone.example.com': ['fe80::1%eth0'],
  'odd.example.com': ['not an address'],
  'nothing.example.com': [],
  'xn--bcher-kva.example': ['192.168.0.7'],
};

const resolve = async (name: string): Promise<readonly string[]> => {
  const found = names[name];
  if (found === undefined) throw new Error(`ENOTFOUND ${name}`);
  return found;
};

/** Each is refused before anything is connected to. */
const corpus = [
  // Other schemes, and what is no URL.
  'http://hooks.example.com/',
  'ftp://hooks.example.com/',
  'file:///etc/passwd',
  'gopher://127.0.0.1:6379/_FLUSHALL',
  'data:text/plain,x',
  'javascript:alert(1)',
  'unix:///var/run/docker.sock',
  'https://',
  'https:///127.0.0.1/',
  '//hooks.example.com/',
  'hooks.example.com',
  '',
  'https://a b/',
  'https://[::1',
  'https://hooks.example.com:99999/',
  `https://hooks.example.com/${'x'.repeat(2000)}`,
  // Users, and what looks like one.
  'https://user@hooks.example.com/',
  'https://user:password@hooks.example.com/',
  'https://:password@hooks.example.com/',
  'https://hooks.example.com@127.0.0.1/',
  'https://hooks.example.com%00@127.0.0.1/',
  'https://127.0.0.1\\@hooks.example.com/',
  'https://127.0.0.1#@hooks.example.com/',
  'https://127.0.0.1?@hooks.example.com/',
  'https://127.0.0.1\\.hooks.example.com/',
  // Ports of other services.
  'https://hooks.example.com:22/',
  'https://hooks.example.com:25/',
  'https://hooks.example.com:80/',
  'https://hooks.example.com:0/',
  // Loopback in every notation.
  'https://127.0.0.1/',
  'https://127.0.0.1./',
  'https://127.1/',
  'https://127.0.1/',
  'https://2130706433/',
  'https://017700000001/',
  'https://0177.0.0.1/',
  'https://0x7f.0.0.1/',
  'https://0x7f000001/',
  'https://0x7F.1/',
  'https://%31%32%37.0.0.1/',
  'https://127。0。0。1/',
  'https://127．0．0．1/',
  'https://１２７.０.０.１/',
  'https://①②⑦.⓪.⓪.①/',
  'https://127.255.255.254/',
  'https://0.0.0.0/',
  'https://0/',
  'https://0.1.2.3/',
  // Private, shared, link-local, reserved.
  'https://10.0.0.1/',
  'https://10.1/',
  'https://172.16.0.1/',
  'https://172.31.255.255/',
  'https://192.168.1.1/',
  'https://0xc0a80101/',
  'https://100.64.0.1/',
  'https://100.100.100.200/',
  'https://169.254.169.254/latest/meta-data/',
  'https://2852039166/',
  'https://0xa9fea9fe/',
  'https://0251.0376.0251.0376/',
  'https://168.63.129.16/',
  'https://192.0.0.192/',
  'https://192.0.2.1/',
  'https://192.88.99.1/',
  'https://198.18.0.1/',
  'https://198.51.100.1/',
  'https://203.0.113.1/',
  'https://224.0.0.1/',
  'https://239.255.255.250/',
  'https://240.0.0.1/',
  'https://255.255.255.255/',
  // IPv6, also where IPv4 is in it.
  'https://[::]/',
  'https://[::1]/',
  'https://[0:0:0:0:0:0:0:1]/',
  'https://[::ffff:127.0.0.1]/',
  'https://[::ffff:7f00:1]/',
  'https://[::ffff:a9fe:a9fe]/',
  'https://[::ffff:93.184.216.34]/',
  'https://[::127.0.0.1]/',
  'https://[::ffff:0:127.0.0.1]/',
  'https://[64:ff9b::127.0.0.1]/',
  'https://[64:ff9b:1::a00:1]/',
  'https://[2002:7f00:1::]/',
  'https://[2002:a9fe:a9fe::]/',
  'https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/',
  'https://[2001:db8::1]/',
  'https://[3fff::1]/',
  'https://[fc00::1]/',
  'https://[fd00:ec2::254]/',
  'https://[fe80::1]/',
  'https://[fe80::1%25eth0]/',
  'https://[fe80::1%eth0]/',
  'https://[fec0::1]/',
  'https://[ff02::1]/',
  'https://[100::1]/',
  'https://[5f00::1]/',
  // Names that lead there, wholly or in part.
  'https://localhost/',
  'https://LOCALHOST/',
  'https://localhost./',
  'https://localtest.me/',
  'https://127.0.0.1.nip.io/',
  'https://metadata.google.internal/computeMetadata/v1/',
  'https://metadata.google.internal./',
  'https://kubernetes.default.svc/',
  'https://half.example.com/',
  'https://six.example.com/',
  'https://ula.example.com/',
  'https://nat64.example.com/',
  'https://zone.example.com/',
  'https://odd.example.com/',
  'https://nothing.example.com/',
  'https://unknown.example.com/',
  'https://bücher.example/',
];

const sendTo = (sender: ReturnType<typeof createWebhookSender>, url: string) =>
  sender.send({ url, headers: {}, body: '{}' }, new AbortController().signal);

test('nothing is sent to what the internet cannot reach, however it is written', async () => {
  ok(corpus.length >= 100, String(corpus.length));
  strictEqual(new Set(corpus).size, corpus.length);
  const sender = createWebhookSender({ privateNetworks: [], resolve });
  for (const url of corpus) {
    const answer = await sendTo(sender, url);
    const unresolved = /nothing|unknown/.test(url);
    deepStrictEqual(answer, { status: null, problem: unresolved ? 'unresolved' : 'address_refused' }, url);
  }
});

test('what names no address is let pass at first, and an address itself never', () => {
  const { refusal } = createWebhookSender({ privateNetworks: [], resolve });
  strictEqual(refusal('https://hooks.example.com/in?a=b'), null);
  strictEqual(refusal('https://hooks.example.com:8443/'), null);
  strictEqual(refusal('https://93.184.216.34/'), null);
  strictEqual(refusal('https://[2606:2800:220:1:248:1893:25c8:1946]/'), null);
  strictEqual(refusal('https://localhost/'), null, 'names are judged when something is sent');
  for (const literal of ['https://127.1/', 'https://[::ffff:10.0.0.1]/', 'https://169.254.169.254/']) {
    strictEqual(refusal(literal), 'is not one that the internet can reach');
  }
  strictEqual(refusal('http://hooks.example.com/'), 'must be an https URL');
});

test('every address that is given out is allowed, and only encrypted', () => {
  const { allows } = createAddresses([]);
  for (const address of ['1.1.1.1', '93.184.216.34', '172.32.0.1', '2606:4700::1111', '2a00:1450::1', '2001:4860::8']) {
    deepStrictEqual([allows(address, true), allows(address, false)], [true, false], address);
  }
});

test('a private network is allowed when it is named, and nothing beside it', () => {
  const { allows } = createAddresses(['10.1.0.0/16', '127.0.0.1', 'fd12::/32', '::1']);
  for (const address of ['10.1.2.3', '127.0.0.1', 'fd12::9', '::1']) {
    deepStrictEqual([allows(address, true), allows(address, false)], [true, true], address);
  }
  for (const address of [
    '10.2.0.1',
    '127.0.0.2',
    '::ffff:127.0.0.1',
    '::ffff:10.1.2.3',
    'fd13::1',
    '169.254.169.254',
  ]) {
    deepStrictEqual([allows(address, true), allows(address, false)], [false, false], address);
  }
  deepStrictEqual([allows('1.1.1.1', true), allows('1.1.1.1', false)], [true, false]);
});
