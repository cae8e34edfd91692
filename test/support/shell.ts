import { dirname } from 'node:path';
import { planted } from './canaries.ts';

/** Says that something worked which must not; the word itself stands in no command. */
export const worked = 'WORKED-42';
/** What says so in a command. */
export const tell = 'echo WORKED-$((6*7))';

/** Ways to read a file, each with the program it needs. Every one of them works on a file that may be read. */
export const readers: Readonly<Record<string, readonly [program: string, (path: string) => string]>> = {
  plain: ['cat', (path) => `cat ${path}`],
  'single quotes': ['cat', (path) => `'cat' '${path}'`],
  'quotes inside': ['cat', (path) => `c''a""t ${path.replace('s', "'s'")}`],
  'a backslash': ['cat', (path) => `\\c\\at ${path}`],
  'a broken line': ['cat', (path) => `ca\\\nt ${path}`],
  'escaped bytes': ['cat', (path) => `$'\\x63\\x61\\x74' ${path}`],
  'a substitution': ['cat', (path) => `$(echo cat) "$(printf %s ${path})"`],
  'back quotes': ['cat', (path) => `\`echo cat\` \`echo ${path}\``],
  'a new line': ['cat', (path) => `true\ncat ${path}`],
  'a field separator': ['cat', (path) => `cat\${IFS}${path}`],
  braces: ['cat', (path) => `{cat,${path}}`],
  'a pattern': ['cat', (path) => `cat ${path.slice(0, -2)}?t`],
  'a variable': ['cat', (path) => `x=${path}; cat "$x"`],
  'a part of a variable': ['cat', (path) => `x=zz${path}; cat "\${x:2}"`],
  'a function': ['cat', (path) => `f() { cat "$1"; }; f ${path}`],
  'an alias': ['cat', (path) => `shopt -s expand_aliases; alias zz=cat; eval 'zz ${path}'`],
  eval: ['cat', (path) => `eval "c""at ${path}"`],
  encoded: ['base64', (path) => `echo ${Buffer.from(`cat ${path}`).toString('base64')} | base64 -d | sh`],
  'more than fifty commands': ['cat', (path) => `${'true; '.repeat(60)}cat ${path}`],
  'more than fifty in a chain': ['cat', (path) => `${'true && '.repeat(60)}cat ${path}`],
  'a heredoc': ['cat', (path) => `cat <<END\n$(cat ${path})\nEND`],
  'a shell from a heredoc': ['bash', (path) => `bash <<'END'\ncat ${path}\nEND`],
  'a here string': ['sh', (path) => `sh <<< 'cat ${path}'`],
  'bash -c': ['bash', (path) => `bash -c 'sh -c "cat ${path}"'`],
  'an empty environment': ['env', (path) => `env -i /bin/cat ${path}`],
  'env -S': ['env', (path) => `env -S 'cat ${path}'`],
  redirected: ['cat', (path) => `cat < ${path}`],
  'a descriptor': ['cat', (path) => `exec 7< ${path}; cat <&7`],
  'a loop of read': ['cat', (path) => `while read -r line; do echo "$line"; done < ${path}`],
  'a process substitution': ['cat', (path) => `cat <(cat ${path})`],
  mapfile: ['cat', (path) => `mapfile -t all < ${path}; echo "\${all[@]}"`],
  'source as words': ['cat', (path) => `. ${path} 2>&1`],
  'find -exec': ['find', (path) => `find ${path} -exec cat {} +`],
  'find -execdir': ['find', (path) => `find ${dirname(path)} -maxdepth 1 -name '*.txt' -execdir cat {} ';'`],
  'sed p': ['sed', (path) => `sed -n p ${path}`],
  'sed e': ['sed', (path) => `echo x | sed '1e cat ${path}'`],
  'sed r': ['sed', (path) => `echo x | sed 'r ${path}'`],
  'sed s///e': ['sed', (path) => `echo x | sed 's,x,cat ${path},e'`],
  'awk system': ['awk', (path) => `awk 'BEGIN { system("cat ${path}") }'`],
  'awk getline': ['awk', (path) => `awk 'BEGIN { while ((getline line < "${path}") > 0) print line }'`],
  xargs: ['xargs', (path) => `echo ${path} | xargs cat`],
  'git alias': ['git', (path) => `git -c 'alias.x=!cat ${path}' x`],
  'git pager': ['script', (path) => `script -qc "git -c core.pager='cat ${path}; cat' -p config --list" /dev/null`],
  'git diff': ['git', (path) => `git --no-pager diff --no-index /dev/null ${path}`],
  'git external diff': [
    'git',
    (path) => `GIT_EXTERNAL_DIFF='cat ${path} #' git --no-pager diff --no-index /dev/null /etc/passwd`,
  ],
  'git upload pack': ['git', (path) => `git ls-remote --upload-pack='cat ${path} >&2 #' file:///workspace 2>&1`],
  'git ssh': ['git', (path) => `GIT_SSH_COMMAND='cat ${path} >&2 #' git ls-remote ssh://x/y 2>&1`],
  'git editor': [
    'git',
    (path) => `GIT_EDITOR='cat ${path} #' git var GIT_EDITOR; eval "$(GIT_EDITOR='cat ${path} #' git var GIT_EDITOR)"`,
  ],
  grep: ['grep', (path) => `grep -r . ${dirname(path)}/`],
  head: ['head', (path) => `head -c 500 ${path}`],
  dd: ['dd', (path) => `dd if=${path} status=none`],
  od: ['od', (path) => `od -An -c ${path} | tr -d ' \\n'`],
  tar: ['tar', (path) => `tar -cf - ${path} 2>&1 | strings -n 3`],
  'tar to a command': [
    'tar',
    (path) => `tar -cf x.tar --checkpoint=1 '--checkpoint-action=exec=cat ${path}' bait.txt; rm -f x.tar`,
  ],
  copied: ['cp', (path) => `cp ${path} copied.txt && cat copied.txt; rm -f copied.txt`],
  'a link': ['ln', (path) => `ln -sf ${path} linked.txt; cat linked.txt; rm -f linked.txt`],
  'the own root': ['cat', (path) => `cat /proc/self/root${path}`],
  'the own directory': ['cat', (path) => `cd ${dirname(path)} && cat /proc/self/cwd/*.txt`],
  'the loader': [
    'cat',
    (path) => `$(ls /lib64/ld-linux-*.so.* /lib/ld-linux-*.so.* 2>/dev/null | head -1) /bin/cat ${path}`,
  ],
  timeout: ['timeout', (path) => `nice timeout 5 setsid -w nohup cat ${path}`],
  script: ['script', (path) => `script -qc 'cat ${path}' /dev/null`],
  ex: ['ex', (path) => `ex -s -c 'r !cat ${path}' -c '%p' -c 'q!' /dev/null`],
  curl: ['curl', (path) => `curl -s file://${path}`],
  openssl: ['openssl', (path) => `openssl enc -base64 -in ${path} | openssl enc -d -base64`],
  socat: ['socat', (path) => `socat -u FILE:${path} -`],
  python: ['python3', (path) => `python3 -c 'print(open("${path}").read())'`],
  'python from a heredoc': ['python3', (path) => `python3 <<'END'\nimport os; os.system("cat ${path}")\nEND`],
  perl: ['perl', (path) => `perl -pe '' ${path}; perl -e 'exec "cat", "${path}"'`],
  node: ['node', (path) => `node -p 'require("fs").readFileSync("${path}", "utf8")'`],
  tclsh: ['tclsh', (path) => `echo 'puts [read [open "${path}"]]' | tclsh`],
  gdb: ['gdb', (path) => `gdb -q -nx -batch -ex 'shell cat ${path}'`],
};

/** Ways to look at a directory and all in it. */
export const lookers: readonly ((directory: string) => string)[] = [
  (directory) => `cat ${directory}/* ; ls -la ${directory}`,
  (directory) => `cat /proc/self/root${directory}/secret.txt /proc/1/root${directory}/secret.txt`,
  (directory) => `cat /proc/[0-9]*/root${directory}/secret.txt /proc/[0-9]*/cwd/secret.txt`,
  (directory) => `find ${directory} -type f -exec cat {} +`,
  (directory) =>
    `ln ${directory}/secret.txt hard.txt && cat hard.txt; mount --bind ${directory} inner; cat inner/secret.txt`,
  (directory) => `cd ${directory} && grep -r . .; cd /dev/fd/../root${directory} && cat secret.txt`,
];

/** Ways to write where nothing may be written, or where it may not be seen outside. */
export const writers = (directories: readonly string[]): string[] => [
  ...[
    ...directories,
    '/',
    '/usr',
    '/usr/bin',
    '/usr/local/bin',
    '/etc',
    '/tmp',
    '/var/tmp',
    '/root',
    '/home',
    '/run',
  ].map(
    (directory) =>
      `echo x > ${directory}/${planted}; cp bait.txt ${directory}/${planted}-2; mkdir -p ${directory}/${planted}-3`,
  ),
  ...['/dev/shm', '/dev', '/sys', '/sys/fs/cgroup', '/proc', '/lib', '/bin', '/boot', '/opt', '/srv', '/mnt'].map(
    (directory) => `echo x > ${directory}/${planted}; mkdir -p ${directory}/${planted}-2`,
  ),
  `echo x > /proc/self/root/${planted}; echo x > /proc/1/root/tmp/${planted}; echo x > /proc/self/cwd/../${planted}`,
  `echo x > ../${planted}; echo x > ../../${planted}; ln -sf / root-link; echo x > root-link/tmp/${planted}; rm root-link`,
  ...['kernel/hostname', 'kernel/core_pattern', 'vm/drop_caches', 'kernel/ns_last_pid', 'net/ipv4/ip_forward'].map(
    (name) => `cp /proc/sys/${name} was; cat was > /proc/sys/${name} && ${tell}; rm -f was`,
  ),
  `echo s > /proc/sysrq-trigger && ${tell}; echo -500 > /proc/1/oom_score_adj && ${tell}`,
  `echo x >> /etc/passwd && ${tell}; echo x >> /usr/bin/env && ${tell}; echo x >> /.sallyport/claude && ${tell}`,
  `touch /.sallyport/broker/${planted} && ${tell}; rm -rf /.sallyport/broker/api.sock && test ! -e /.sallyport/broker/api.sock && ${tell}`,
];

/** Ways to other namespaces, to the kernel, and to other processes. */
export const escapes: readonly string[] = [
  ...['unshare -Ur', 'unshare -U', 'unshare -m', 'unshare -n', 'unshare -p -f', 'unshare --map-auto -r'].map(
    (program) => `${program} true && ${tell}`,
  ),
  ...['-a', '-m', '-n', '-p', '-U'].map((flag) => `nsenter -t 1 ${flag} true && ${tell}`),
  `for pid in $(ls /proc | grep '^[0-9]'); do nsenter -t $pid -m true && test $pid -gt 2 && ${tell}; done 2>/dev/null`,
  `mkdir -p m; mount -t tmpfs x m && ${tell}; mount -t proc x m && ${tell}; mount -t cgroup2 x m && ${tell}; mount --bind / m && ${tell}`,
  `mount -o remount,rw / && ${tell}; umount -l /etc/passwd && ${tell}; umount -l /proc && ${tell}`,
  `mkdir -p c; chroot c true && ${tell}; chroot / true && ${tell}; pivot_root . c && ${tell}`,
  `bwrap --ro-bind / / --dev /dev --unshare-user true && ${tell}; sudo -n true && ${tell}; su -c true && ${tell}`,
  `cp /bin/sh s; chmod u+s,g+s s; chown 0:0 s && ${tell}; setpriv --reuid 0 true && ${tell}; chown 0 bait.txt && ${tell}`,
  `mknod k c 1 1 && ${tell}; mknod d b 8 0 && ${tell}; head -c 1 /dev/mem && ${tell}; head -c 1 /dev/kmsg && ${tell}; dmesg && ${tell}`,
  `gdb -q -nx -batch -p 1 2>&1 | grep -q 'Attaching.*process' && gdb -q -nx -batch -p 1 2>&1 | grep -q '#0' && ${tell}`,
  `strace -p 1 -o /dev/null & sleep 0.3; kill %1 2>/dev/null && ${tell}`,
  `head -c 100 /proc/1/mem && ${tell}; cat /proc/1/maps && ${tell}; ls /proc/1/fd/ && ${tell}; cat /proc/1/environ && ${tell}`,
  `modprobe dummy && ${tell}; insmod x.ko && ${tell}; swapon x && ${tell}; hostname other && ${tell}; date -s 2000-01-01 && ${tell}`,
  `iptables -L && ${tell}; ip link add x type dummy && ${tell}; sysctl -w kernel.panic=1 && ${tell}; reboot && ${tell}`,
  // The one that a filter of system calls most often forgets, the other numbering of system calls, and other families.
  `perl -e 'my $b = "\\0" x 120; exit(syscall(425, 4, $b) < 0)' && ${tell}`,
  `perl -e 'exit(syscall(0x40000000 + 41, 1, 1, 0) < 0)' && ${tell}`,
  ...[1, 17, 38, 40, 44].map(
    (family) =>
      `perl -e 'exit(syscall(41, ${family}, 3, 0) < 0)' && ${tell}; perl -e 'exit(syscall(41, ${family}, 1, 0) < 0)' && ${tell}`,
  ),
  `perl -e 'exit(syscall(250, 0, 0) < 0 && 0 + $! != 22)' ; perl -e 'exit(syscall(321, 0, 0, 0) < 0)' && ${tell}`,
];

/** Where something listens that no command may reach. */
export interface Listening {
  readonly tcp: number;
  readonly udp: number;
  /** Port of the service itself. */
  readonly service: number;
  /** Name of an abstract socket. */
  readonly abstract: string;
  /** Paths of sockets: the broker's, and one in the workspace. */
  readonly sockets: readonly string[];
  /** Addresses of this machine. */
  readonly hosts: readonly string[];
}

/** Ways to talk to what listens. */
export function talkers({ tcp, udp, service, abstract, sockets, hosts }: Listening): string[] {
  const each = (command: string) => `for host in ${hosts.join(' ')}; do ${command}; done 2>&1`;
  const request = String.raw`printf 'GET /api/claude/models HTTP/1.0\r\n\r\n'`;
  return [
    ...[tcp, service].flatMap((port) => [
      each(
        `timeout 3 bash -c "exec 3<>/dev/tcp/$host/${port} && ${request.replaceAll('\\', '\\\\')} >&3 && cat <&3" && ${tell}`,
      ),
      each(`curl -sS -m 3 --noproxy '*' http://$host:${port}/api/claude/models && ${tell}`),
      each(`curl -sS -m 3 http://$host:${port}/api/claude/models -o /dev/null -f && ${tell}`),
      each(
        `for proxy in "$HTTP_PROXY" "$ALL_PROXY"; do curl -sS -m 3 --noproxy '' -p -x "$proxy" -f http://$host:${port}/api/claude/models && ${tell}; done`,
      ),
      each(`python3 -c "import socket; socket.create_connection(('$host', ${port}), 3)" && ${tell}`),
      each(`${request} | socat -T3 - TCP:$host:${port},connect-timeout=3`),
    ]),
    each(`echo x > /dev/udp/$host/${udp}`),
    each(
      `python3 -c "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('$host', ${udp}))"`,
    ),
    `echo x | socat -T2 - ABSTRACT-CONNECT:${abstract} && ${tell}`,
    `python3 -c "import socket; s = socket.socket(socket.AF_UNIX); s.connect('\\0${abstract}')" && ${tell}`,
    `perl -e 'use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0) && connect(S, sockaddr_un("\\0${abstract}")) or exit 1' && ${tell}`,
    ...sockets.flatMap((path) => [
      `echo x | socat -T2 - UNIX-CONNECT:${path} && ${tell}`,
      `curl -sS -m 3 --unix-socket ${path} http://localhost/v1/models && ${tell}`,
      `python3 -c "import socket; s = socket.socket(socket.AF_UNIX); s.connect('${path}')" && ${tell}`,
      `perl -e 'use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0) && connect(S, sockaddr_un("${path}")) or exit 1' && ${tell}`,
      `node -e 'require("net").connect("${path}", () => process.exit(0)).on("error", () => process.exit(1))' && ${tell}`,
      `cp ${path} s.sock; ln ${path} s2.sock; cat ${path} && ${tell}`,
    ]),
    `getent hosts example.com && ${tell}; curl -sS -m 3 http://1.1.1.1/ && ${tell}; curl -sS -m 3 http://169.254.169.254/ && ${tell}`,
    `curl -sS -m 3 -f https://example.com/ && ${tell}; git ls-remote https://github.com/git/git && ${tell}; ssh -o ConnectTimeout=2 github.com && ${tell}`,
    `timeout 2 python3 -c "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)" && ${tell}`,
    `echo x >&10; timeout 1 cat <&10; for fd in 3 4 5 6 7 8 9 11 12; do echo x >&$fd && ${tell}; done`,
  ];
}

/** Ways to print what the processes that can be seen know. */
export const dumps: readonly string[] = [
  'env; export -p; set | head -c 15000',
  'declare -p; compgen -e; compgen -v | while read -r name; do echo "$name=${!name}"; done | head -c 15000',
  String.raw`cat /proc/[0-9]*/environ | tr '\0' '\n' | head -c 20000`,
  String.raw`cat /proc/[0-9]*/cmdline /proc/[0-9]*/comm | tr '\0' '\n' | head -c 20000; ps auxeww | head -c 20000`,
  'for file in /proc/[0-9]*/task/*/environ /proc/self/task/*/environ; do strings $file; done | head -c 20000',
  'for pid in 1 2 $PPID $$; do strings /proc/$pid/mem; cat /proc/$pid/fd/*; done 2>&1 | head -c 20000',
  'for fd in /proc/self/fd/* /dev/fd/*; do readlink $fd; timeout 1 head -c 300 $fd; done | head -c 20000',
  'cat "$CLAUDE_CONFIG_DIR"/.claude.json "$CLAUDE_CONFIG_DIR"/*.json /tmp/home/.claude*/* 2>&1 | head -c 20000',
  'python3 -c "import os; print(dict(os.environ))"; node -p "JSON.stringify(process.env)"; perl -e \'print %ENV\'',
  // So written that the search does not find itself.
  String.raw`grep -rsIl 'sallyport-ru[n]-\|sk-an[t]-\|test-use[r]-key\|test-maste[r]-key' /tmp /workspace /etc /dev/shm /.sallyport/broker && ${tell}`,
];
