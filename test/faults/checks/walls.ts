import { Look, tenantOf, wordsIn, type Finding, type Observed } from '../history.ts';

/** The words of other tenants in a text. */
const foreign = (text: string, tenant: string): string[] => wordsIn(text).filter((word) => tenantOf(word) !== tenant);

/** I10: no byte of one tenant reaches another: in no answer, event, list, error, log line, or call of the model. */
export function keptApart({ operations, calls, lines, logs, tenants }: Observed): Finding {
  const look = new Look();
  for (const { number, tenant, path, received, events } of operations) {
    const found = foreign(received + JSON.stringify(events), tenant);
    look.at(found.length === 0, () => `operation ${number} (${path}) gave ${tenant} ${found.join(', ')}`);
  }
  for (const { tenant, conversation, whole } of logs) {
    const found = foreign(JSON.stringify(whole), tenant);
    look.at(found.length === 0, () => `the log of ${conversation} of ${tenant} holds ${found.join(', ')}`);
  }
  for (const { at, words } of calls) {
    const found = new Set(words.map(tenantOf));
    look.at(found.size <= 1, () => `a call of the model at ${at} holds words of ${[...found].join(', ')}`);
  }
  for (const line of lines) {
    const named = tenants.filter((tenant) => line.includes(`"${tenant}"`));
    const found = wordsIn(line).filter((word) => named.length > 0 && !named.includes(tenantOf(word)));
    look.at(found.length === 0, () => `a log line of ${named.join(', ')} holds ${found.join(', ')}`);
  }
  return look.finding;
}

/** I11: no secret stands in environments or arguments of processes, in logs, events, answers or errors. */
export function noSecrets({ secrets, surroundings, lines, operations, logs }: Observed): Finding {
  const look = new Look();
  const texts: [string, string][] = [
    ...surroundings.map((text): [string, string] => ['a process of Claude Code', text]),
    ...lines.map((text): [string, string] => ['a log line', text]),
    ...operations.map(({ number, received, events }): [string, string] => [
      `operation ${number}`,
      received + JSON.stringify(events),
    ]),
    ...logs.map(({ conversation, whole }): [string, string] => [`the log of ${conversation}`, JSON.stringify(whole)]),
  ];
  for (const [where, text] of texts) {
    const found = Object.entries(secrets).filter(([, secret]) => text.includes(secret));
    look.at(found.length === 0, () => `${where} holds ${found.map(([what]) => what).join(', ')}`);
  }
  return look.finding;
}
