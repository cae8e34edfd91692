import { createHash } from 'node:crypto';

/** The prompt that has the reciter say so many pieces, so many of them in a second. */
export function recitalPrompt(word: string, pieces: number, rate: number): string {
  return `Recite ${pieces} pieces at ${rate} a second for ${word}.`;
}

/** What a prompt orders; null when it is none of `recitalPrompt`. Of several the last counts. */
export function orderIn(text: string): { word: string; pieces: number; rate: number } | null {
  const found = [...text.matchAll(/Recite (\d+) pieces at (\d+) a second for (bench-[0-9a-f]{16})/gu)].at(-1);
  if (!found) return null;
  const [, pieces, rate, word = ''] = found;
  return { word, pieces: Number(pieces), rate: Number(rate) };
}

/** The length of each piece. */
export const pieceChars = 32;

/** A clock that all processes of a machine share, in microseconds. */
export function sharedMicros(): number {
  return Number(process.hrtime.bigint() / 1000n);
}

/** Says the pieces of a recital one by one. Each holds its number, when it was said, and a hash over all before it. */
export class Reciter {
  #hash: string;
  #number = 0;

  constructor(word: string) {
    this.#hash = word;
  }

  next(at: number): string {
    const head = `${String(this.#number).padStart(6, '0')}-${at.toString(36).padStart(12, '0')}`;
    this.#number += 1;
    this.#hash = createHash('sha256')
      .update(this.#hash + head)
      .digest('hex')
      .slice(0, 11);
    return `${head}-${this.#hash} `;
  }
}

/** When each piece of a recital was said, in shared microseconds; or why the text is not what was said. */
export function readRecital(text: string, word: string, pieces: number): { saidAt: number[]; problem: string | null } {
  const saidAt: number[] = [];
  const wrong = (problem: string) => ({ saidAt, problem });
  if (text.length !== pieces * pieceChars) {
    return wrong(`the recital has ${text.length} characters, not ${pieces * pieceChars}: ${text.slice(0, 100)}`);
  }
  const reciter = new Reciter(word);
  for (let from = 0; from < text.length; from += pieceChars) {
    const piece = text.slice(from, from + pieceChars);
    const at = Number.parseInt(piece.slice(7, 19), 36);
    if (piece !== reciter.next(at)) return wrong(`piece ${from / pieceChars} of the recital is wrong: ${piece}`);
    saidAt.push(at);
  }
  return { saidAt, problem: null };
}
