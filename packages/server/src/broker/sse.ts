import { StringDecoder } from 'node:string_decoder';

/** Reads server-sent events out of bytes that arrive in any pieces. */
export interface SseScanner {
  push(chunk: Buffer): void;
  /** Takes a last event that has no blank line after it. */
  end(): void;
}

/** Characters of one event that are kept. What is longer is left out, so that no stream can fill the memory. */
const maxEventLength = 16 * 1024 * 1024;

/** Makes a scanner that calls `onData` with the data of each event, in order. Events without data are left out. */
export function createSseScanner(onData: (data: string) => void): SseScanner {
  const decoder = new StringDecoder('utf8');
  let line = '';
  let data: string[] = [];
  let length = 0;

  const take = (piece: string): void => {
    length += piece.length;
    if (length <= maxEventLength) line += piece;
  };
  const endLine = (): void => {
    const text = line.endsWith('\r') ? line.slice(0, -1) : line;
    line = '';
    if (text === '') {
      if (data.length > 0 && length <= maxEventLength) onData(data.join('\n'));
      data = [];
      length = 0;
    } else if (text.startsWith('data:')) {
      data.push(text.slice(text.startsWith('data: ') ? 6 : 5));
    }
  };
  /** Takes the whole events that a text begins with and that are as nearly all are, without looking at lines. Gives where they end. */
  const takeWhole = (text: string): number => {
    let start = 0;
    for (;;) {
      const end = text.indexOf('\n\n', start);
      const at = text.startsWith('event: ', start) ? text.indexOf('\n', start) + 1 : start;
      const isPlain = end > at && text.startsWith('data: ', at) && text.indexOf('\n', at) === end;
      if (!isPlain || text[end - 1] === '\r') return start;
      onData(text.slice(at + 6, end));
      start = end + 2;
    }
  };
  return {
    push(chunk) {
      const text = decoder.write(chunk);
      let start = line === '' && data.length === 0 && length === 0 ? takeWhole(text) : 0;
      for (let end = text.indexOf('\n', start); end !== -1; end = text.indexOf('\n', start)) {
        take(text.slice(start, end));
        endLine();
        start = end + 1;
      }
      take(text.slice(start));
    },
    end() {
      take(decoder.end());
      endLine();
      endLine();
    },
  };
}
