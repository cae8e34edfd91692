import type { IncomingMessage } from 'node:http';
import secureJsonParse from 'secure-json-parse';
import { SallyportError } from '../engine/errors.ts';
import { valuesOf } from './hosts.ts';

const maxDepth = 50;
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Checks what is said about a body before a byte of it is read. Throws `unsupported_media_type` for anything but plain
 * JSON in UTF-8, and `body_too_large` when more than `maxBytes` are announced.
 */
export function checkBodyHeaders(raw: IncomingMessage, maxBytes: number): void {
  const types = valuesOf(raw, 'content-type');
  const isJson = /^application\/json(?: *; *charset=(?:utf-8|"utf-8"))?$/i.test(types[0] ?? '');
  const encoding = raw.headers['content-encoding'] ?? 'identity';
  if (types.length !== 1 || !isJson || encoding.toLowerCase() !== 'identity') {
    throw new SallyportError('unsupported_media_type');
  }
  if (Number(raw.headers['content-length'] ?? 0) > maxBytes) throw new SallyportError('body_too_large');
}

/** True when brackets nest deeper than the limit. Counts them outside of strings, so it also bounds what is not JSON. */
function nestsDeeperThan(limit: number, text: string): boolean {
  let depth = 0;
  let inString = false;
  for (let at = 0; at < text.length; at += 1) {
    const char = text.charCodeAt(at);
    if (inString) {
      if (char === 0x5c) at += 1;
      else if (char === 0x22) inString = false;
    } else if (char === 0x22) inString = true;
    else if (char === 0x7b || char === 0x5b) {
      depth += 1;
      if (depth > limit) return true;
    } else if (char === 0x7d || char === 0x5d) depth -= 1;
  }
  return false;
}

/**
 * Reads a body. Throws `invalid_json` for anything but one JSON text in UTF-8 without a byte order mark, for keys that
 * would reach an object's prototype, and for more than 50 levels of nesting.
 */
export function parseJson(bytes: Buffer): unknown {
  try {
    const text = decoder.decode(bytes);
    if (!text.startsWith('\uFEFF') && !nestsDeeperThan(maxDepth, text)) {
      return secureJsonParse.parse(text) as unknown;
    }
  } catch {
    // The parser's own message quotes the body, which is nothing for a log.
  }
  throw new SallyportError('invalid_json');
}
