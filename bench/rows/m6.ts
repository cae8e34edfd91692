import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { listProcesses } from '../admin.ts';
import { sendForJson } from '../client.ts';
import type { Answer } from '../peers.ts';
import { firstOf, NoFigure, problemOf, type Round, type Row } from '../row.ts';
import type { Stage } from '../stage.ts';
import { median } from '../statistics.ts';
import { atLength, promptWith } from '../words.ts';

export const resumes = 3;
/** Of an answer that makes a transcript long: large ones, so that a long transcript is soon there. */
const longChars = 250_000;
const pollMs = 10;
const warningMs = 1000;

/** A conversation of the service, and the words that were said in it. */
export interface Talk {
  readonly session: string;
  readonly words: string[];
}

/** Reads the service's database beside it. */
function select(stage: Stage, sql: string, ...values: string[]) {
  const database = new DatabaseSync(join(stage.service.dataDir, 'sallyport.db'), { readOnly: true });
  try {
    return database.prepare(sql).all(...values) as Record<string, any>[];
  } finally {
    database.close();
  }
}

/** Claude Code's own transcript of a conversation, as the service has stored it. */
function transcriptOf(stage: Stage, { session }: Talk) {
  const [row] = select(stage, 'select sdk_session from conversations where id = ?', session);
  const sdkSession = String(row?.['sdk_session']);
  const sql = `select entry from transcripts where session = ? and subpath = '' order by position`;
  const lines = select(stage, sql, sdkSession).map(({ entry }) => `${entry}\n`);
  return { sdkSession, text: lines.join('') };
}

/** Adds a turn, whose answer must be right. */
async function say(stage: Stage, talk: Talk | null, word: string, wish: string): Promise<Talk> {
  const words = [...(talk?.words ?? []), word];
  const answer = await stage.sallyport.converse(promptWith(word, wish), talk?.session ?? null);
  const text = wish === '' ? answer.text : answer.text.slice(0, -longChars);
  const problem = problemOf({ ...answer, text }, words);
  if (problem !== null) throw new NoFigure(`the conversation could not be made: ${problem}`);
  return { session: answer.session, words };
}

/** Makes a conversation whose transcript has at least so many bytes: of ordinary turns, but with long answers. */
export async function makeTalk(stage: Stage, round: Round, bytes: number): Promise<Talk> {
  let number = 1000;
  let talk = await say(stage, null, round.word(number), '');
  while (transcriptOf(stage, talk).text.length < bytes) {
    number += 1;
    talk = await say(stage, talk, round.word(number), atLength(longChars));
  }
  return talk;
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    // It has gone since it was listed.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Kills the process that waits in the conversation, if there is one, and waits until the service knows. */
async function evict(stage: Stage, { session }: Talk): Promise<void> {
  for (;;) {
    const found = (await listProcesses(stage)).find(({ session_id }) => session_id === session);
    if (found === undefined) return;
    if (found.state === 'idle') kill(found.pid);
    await delay(pollMs);
  }
}

const eventsOf = ({ service }: Stage, { session }: Talk, query: string) => ({
  url: `${service.url}/api/claude/conversation/${session}/events?${query}`,
  headers: { authorization: `Bearer ${service.keys[0]}` },
});

/** Where the log of a conversation ends. */
async function cursorOf(stage: Stage, talk: Talk): Promise<string> {
  const { url, headers } = eventsOf(stage, talk, 'follow=false');
  const ids = [...(await (await fetch(url, { headers })).text()).matchAll(/^id: (.*)$/gmu)];
  return ids.at(-1)?.[1] ?? '';
}

/** Opens the events of the conversation, and goes on with it a second later. */
async function afterWarning(stage: Stage, talk: Talk, prompt: string): Promise<Answer> {
  const { url, headers } = eventsOf(stage, talk, `after=${encodeURIComponent(await cursorOf(stage, talk))}`);
  const left = new AbortController();
  const { status, body } = await fetch(url, { headers, signal: left.signal });
  const following = body?.pipeTo(new WritableStream()).catch(() => {});
  try {
    if (status !== 200) throw new NoFigure(`the events could not be opened: status ${status}`);
    await delay(warningMs);
    return await stage.sallyport.converse(prompt, talk.session);
  } finally {
    left.abort();
    await following;
  }
}

/** Goes on from a copy of the transcript as it is now. */
export async function rawResume(stage: Stage, talk: Talk, prompt: string): Promise<Answer> {
  const env = { ...stage.bare, BENCH_BASE: stage.base };
  const { url } = await stage.once('raw resume', () => stage.start('resume', 'bench/raw/resume.ts', { env }));
  const { sdkSession: session, text } = transcriptOf(stage, talk);
  const transcript = join(stage.base, 'transcript.jsonl');
  await writeFile(transcript, text);
  await sendForJson({ url: `${url}/prepare`, method: 'POST', body: { session, transcript } });
  const { body } = await sendForJson({ url, method: 'POST', body: { prompt } });
  return body as unknown as Answer;
}

async function resume(stage: Stage, talk: Talk, side: string, prompt: string): Promise<Answer> {
  await evict(stage, talk);
  if (side === 'raw') return await rawResume(stage, talk, prompt);
  if (side === 'warned') return await afterWarning(stage, talk, prompt);
  return await stage.sallyport.converse(prompt, talk.session);
}

const howTo = `the same conversation on both sides, made by the service; ${resumes} resumes each, the median is the figure of a round; before each the idle process is killed; raw finds a copy of the transcript where it looks for it, in a jail that is ready, and times itself`;

function row(size: string, bytes: number, side: 'evicted' | 'warned'): Row {
  const isWarned = side === 'warned';
  return {
    id: `M6-${isWarned ? 'warned-' : ''}${size}`,
    what: `next turn of a conversation without a process, transcript of ${size}${isWarned ? ', its events opened 1 s before' : ''}: time to first text`,
    how: howTo,
    unit: 'ms',
    sides: [side, 'raw'],
    goal: { of: side, to: 'raw', atMost: isWarned ? 0.3 : 1.1 },
    rounds: 3,
    seconds: 0,
    async measure(stage, which, round) {
      const made = await stage.once('M6', async () => ({ talk: await makeTalk(stage, round, bytes) }));
      const [raw, problems]: [number[], (string | null)[]] = [[], []];
      for (let number = 0; number < resumes; number += 1) {
        const word = round.word(number + (which === 'raw' ? 100 : 0));
        const words = [...made.talk.words, word];
        const answer = await resume(stage, made.talk, which, promptWith(word));
        const problem = problemOf(answer, words);
        problems.push(problem);
        if (problem === null && answer.firstTextMs !== null) raw.push(answer.firstTextMs);
        // The other side asks a copy, which is dropped.
        if (which !== 'raw') made.talk = { ...made.talk, words };
      }
      const wrong = resumes - raw.length;
      const value = wrong === 0 ? median(raw) : null;
      const length = transcriptOf(stage, made.talk).text.length;
      const note = `a transcript of ${(length / 1000).toFixed(0)} kB`;
      return { value, right: raw.length, wrong, problems: firstOf(problems), raw, note };
    },
  };
}

const sizes = { '10KB': 10_000, '1MB': 1_000_000, '10MB': 10_000_000 };

/** For each size, once without and once with a warning. */
export const m6: readonly Row[] = Object.entries(sizes).flatMap(([size, bytes]) => [
  row(size, bytes, 'evicted'),
  row(size, bytes, 'warned'),
]);
