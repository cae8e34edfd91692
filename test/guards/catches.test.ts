import assert from 'node:assert/strict';
import { matchesGlob } from 'node:path';
import { test } from 'node:test';
import * as ast from 'typescript/unstable/ast';
import { createVirtualFileSystem } from 'typescript/unstable/fs';
import { API } from 'typescript/unstable/sync';

import { isTestCode } from './imports.ts';
import { repositorySources } from './source.ts';

/** Files in which a failure that is caught could let somebody do what nobody allowed; new files of these names too. */
const guarded = [
  'engine/{policy,gate,approvals,approval-desk,principal,tickets,inbox,tool-inputs,turn-log}.ts',
  'engine/{admin,audit,budget,create-admin,journal,key,narrowing,stop,tenant}*.ts',
  'claude/{hooks,permission,tool-gate}*.ts',
  'http/{auth,admission,key-watch,rate-limit,routes,socket-admission}*.ts',
  'broker/{ledger,tokens,broker,request}*.ts',
  'coordination/*.ts',
  'webhooks/*.ts',
].map((glob) => `packages/server/src/${glob}`);

/**
 * Every place in them that catches, by file and by the names of the functions around it, with why it cannot lead to
 * allow. Of several in one function the later ones have a number.
 */
const listed: Record<string, Record<string, string>> = {
  'engine/gate.ts': {
    'Gate.#hold': 'waits only: what it gives is null, on which the call is freed or denied',
  },
  'engine/journal.ts': {
    append: 'throws it again as an error of the catalogue',
    'Hourly.once': 'throws it again, and has the line written anew the next time',
    'Refusals.count': 'throws it again, and counts what was not told to the next line',
  },
  'engine/key-admin.ts': {
    directory: 'gives no directory, and a root that is none is refused',
    creation: 'throws it again, as a name that is taken where it is that',
  },
  'engine/keys.ts': {
    'Ring.#poll': 'of waiting, which is cut short when nobody is watched any more',
    'Ring.#poll 2': 'a key that cannot be looked at is gone at its known end, and in any case after ten seconds',
    'Ring.#poll 3': 'the same for all keys, when it cannot be found out which of them were changed',
  },
  'engine/audit-spool.ts': {
    'AuditSpool.#writeIn': 'of writing what others added: that it fails keeps whoever comes next from passing',
    'AuditSpool.flush': 'of an earlier writing, which has told whoever waited for it',
    'AuditSpool.#write': 'throws it again, and keeps what was added for the next time',
  },
  'engine/stops.ts': {
    'Stops.start.poll':
      'what is known goes on holding, for half a second what begins too; then that and every call of a tool need the store',
  },
  'engine/approval-desk.ts': {
    'ApprovalDesk.#poll': 'tells nobody anything: who waits goes on waiting, and only a row of the store settles',
  },
  'engine/turn-log.ts': {
    'TurnLog.commit.begin': 'hands the failure on to whoever commits',
    'TurnLog.finish': 'of withdrawing a text before the end; the failure keeps the end from being committed too',
    'TurnLog.#overtake':
      'of withdrawing a text; the log is broken from then on and commits nothing, no start of a call either',
    'TurnLog.#enqueue': 'throws the failure again, and has every later commit of the turn fail',
    'TurnLog.#enqueue 2': 'of the place in the queue only: the caller has the promise that rejects',
  },
  'claude/hooks.ts': {
    guarded: 'answers what stands for "not checked": a denial, or the stop of the run',
  },
  'claude/permission.ts': {
    createCanUseTool: 'answers a denial',
  },
  'http/auth.ts': {
    letIn: 'throws it again, after the refusal was written down',
  },
  'http/rate-limit.ts': {
    'Rates.admit': 'throws the failure again, or that the address is over its limit',
  },
  'http/socket-admission.ts': {
    connectionIdOf: 'gives a label that is none, which the schema refuses; a label gives no access anyway',
  },
  'coordination/degrading-limiter.ts': {
    'DegradingLimiter.take': 'has the limiter of this node decide, by its share of the limit',
  },
  'coordination/redis.ts': {
    redisVersion: 'throws it again, as one line',
    'Redis.start': 'of waiting for the first connection only',
    'Redis.ask': 'throws the failure again, after it was logged',
  },
  'coordination/redis-limiter.ts': {
    'RedisLimiter.take': 'sends the script to a Redis that has not got it; throws every other failure again',
  },
  'coordination/redis-cache.ts': {
    'RedisCache.get': 'finds nothing, so that the run takes place',
    'RedisCache.set': 'keeps nothing, which is a miss next time',
  },
  'webhooks/sender.ts': {
    resolveName: 'of a kind of address that a name has none of; those that are found are judged',
    'createWebhookSender.send': 'nothing more is sent; says why',
    checked: 'a name without an address, to which nothing is sent',
    'Sending.#unlessCut': 'hands the failure on',
    'Sending.#send': 'hands the failure on',
  },
  'coordination/queue-bullmq.ts': {
    'BullQueue.announce': 'tells nobody of a job; whoever is told takes what the rows allow',
    'BullQueue.close': 'of closing; nothing is told any more',
  },
  'coordination/redis-bus.ts': {
    'RedisBus.#send': 'tells the others that messages were lost; a message allows nothing',
    'RedisBus.#settle': 'of a subscription, which the next connection tries again; a message allows nothing',
    'RedisBus.#call': 'of a listener of messages, for the log; a message allows nothing',
  },
  'broker/ledger.ts': {
    'Ledger.#keep': 'keeps the failure, with which every later call is refused and the turn fails',
    'Ledger.#waitInLine': 'throws the failure again, after it gave its place to the next',
  },
  'broker/broker.ts': {
    'SocketBroker.#store': 'of what closing waits for only: the same failure is thrown below',
    'SocketBroker.#store 2': 'throws the failure again, after it was logged',
    'SocketBroker.#answer': 'cuts the connection: nothing was passed',
    'SocketBroker.#passAdmitted': 'answers a refusal, or nothing where the call was stopped',
    removeStaleSocket: 'of looking whether there is a file; whatever there is, listening fails on it',
  },
  'broker/request.ts': {
    prepareBody: 'gives a refusal: what is not JSON is not passed',
  },
};

interface Catch {
  /** File, functions around it and number. */
  readonly place: string;
  readonly line: number;
}

/** What gives a function its name, where it has none itself. */
function nameOf(node: ast.Node): string | null {
  if (ast.isConstructorDeclaration(node)) return 'constructor';
  const isNamed =
    ast.isFunctionDeclaration(node) ||
    ast.isFunctionExpression(node) ||
    ast.isClassDeclaration(node) ||
    ast.isMethodDeclaration(node) ||
    ast.isGetAccessorDeclaration(node) ||
    ast.isSetAccessorDeclaration(node) ||
    ast.isPropertyDeclaration(node) ||
    ast.isPropertyAssignment(node);
  if (isNamed) return node.name?.getText() ?? null;
  const isFunction =
    ast.isVariableDeclaration(node) &&
    node.initializer !== undefined &&
    (ast.isArrowFunction(node.initializer) || ast.isFunctionExpression(node.initializer));
  return isFunction ? node.name.getText() : null;
}

/** True for `catch`, `.catch(…)`, `.then(…, …)` and `allSettled`, however the method is named. */
function catches(node: ast.Node): boolean {
  if (ast.isCatchClause(node)) return true;
  if (ast.isStringLiteral(node) || ast.isNoSubstitutionTemplateLiteral(node)) {
    return ast.isElementAccessExpression(node.parent) && ['catch', 'allSettled'].includes(node.text);
  }
  if (!ast.isPropertyAccessExpression(node)) return false;
  const name = node.name.getText();
  if (name === 'catch' || name === 'allSettled') return true;
  const call = node.parent;
  return name === 'then' && ast.isCallExpression(call) && call.expression === node && call.arguments.length > 1;
}

/** Everything that catches in the files, in order. Throws when one cannot be parsed. */
function catchesIn(files: Readonly<Record<string, string>>): Catch[] {
  const config = { compilerOptions: { noLib: true, noResolve: true, types: [] }, files: Object.keys(files) };
  const virtual = Object.entries(files).map(([path, text]) => [`/${path}`, text]);
  const api = new API({
    cwd: '/',
    fs: createVirtualFileSystem({ ...Object.fromEntries(virtual), '/tsconfig.json': JSON.stringify(config) }),
  });
  try {
    const [project] = api.updateSnapshot({ openProjects: ['/tsconfig.json'] }).getProjects();
    return Object.keys(files).flatMap((path) => {
      const file = project?.program.getSourceFile(`/${path}`);
      if (!file) throw new Error(`${path} cannot be parsed`);
      const counts = new Map<string, number>();
      const found: Catch[] = [];
      const walk = (node: ast.Node, around: readonly string[]): void => {
        if (catches(node)) {
          const name = [path, around.join('.') || '(file)'].join(': ');
          const count = (counts.get(name) ?? 0) + 1;
          counts.set(name, count);
          const line = file.text.slice(0, node.getStart(file)).split('\n').length;
          found.push({ place: count === 1 ? name : `${name} ${count}`, line });
        }
        const name = nameOf(node);
        node.forEachChild((child) => walk(child, name === null ? around : [...around, name]));
      };
      walk(file, []);
      return found;
    });
  } finally {
    api.close();
  }
}

test('every place that catches in policy, authentication, audit, approvals and limits is listed, and no other', () => {
  const sources = repositorySources().filter(
    ({ path }) => !isTestCode(path) && guarded.some((glob) => matchesGlob(path, glob)),
  );
  assert.ok(sources.length > 20);
  const found = catchesIn(Object.fromEntries(sources.map(({ path, text }) => [path, text])));
  const known = Object.entries(listed).flatMap(([path, entries]) =>
    Object.keys(entries).map((name) => `packages/server/src/${path}: ${name}`),
  );
  const unknown = found
    .filter(({ place }) => !known.includes(place))
    .map(({ place, line }) => `${place} (line ${line})`);
  assert.deepEqual(unknown, [], 'say in the list why it cannot lead to allow');
  const places = new Set(found.map(({ place }) => place));
  assert.deepEqual(
    known.filter((place) => !places.has(place)),
    [],
    'these are gone: remove them from the list',
  );
  const reasons = Object.values(listed).flatMap((entries) => Object.values(entries));
  assert.ok(reasons.every((reason) => reason.trim().length > 10));
});

const forms = `
// try { no(); } catch {}
const text = 'a.catch(() => 1)';
try { a(); } catch { b(); }
export async function first() {
  try { a(); } catch (error) { throw error; }
  await b().catch(() => null);
  await b()?.catch(() => null);
  c().then(d, () => null);
  c().then(d);
}
const second = async () => Promise.allSettled([c()]);
class Third {
  #field = b().catch(() => null);
  constructor() { b()['catch'](() => null); }
  get own() { return b().then(c, d); }
  async #method(): Promise<void> {
    const inner = () => b().catch;
    [1].map(async () => { try { a(); } finally { b(); } });
  }
}
export const fourth = { fifth: () => b().catch(c), sixth() { try { a(); } catch {} } };
catches.push('catch');
`;

test('a place that catches is found in every form, under the functions around it, and nothing else is', () => {
  assert.deepEqual(
    catchesIn({ 'a.ts': forms }).map(({ place, line }) => [place.slice('a.ts: '.length), line]),
    [
      ['(file)', 4],
      ['first', 6],
      ['first 2', 7],
      ['first 3', 8],
      ['first 4', 9],
      ['second', 12],
      ['Third.#field', 14],
      ['Third.constructor', 15],
      ['Third.own', 16],
      ['Third.#method.inner', 18],
      ['fifth', 22],
      ['sixth', 22],
    ],
  );
});
