/**
 * A place in a conversation's stream: the last durable event seen, and how many UTF-16 units were seen of the text or
 * thinking block that was open then.
 */
export interface Cursor {
  readonly seq: number;
  readonly chars: number;
}

export const startOfLog: Cursor = { seq: 0, chars: 0 };

export function formatCursor(cursor: Cursor): string {
  return `${cursor.seq}.${cursor.chars}`;
}

/** Reads a cursor; null when the text is not one. */
export function parseCursor(text: string): Cursor | null {
  const match = /^(0|[1-9]\d{0,14})\.(0|[1-9]\d{0,14})$/.exec(text);
  return match ? { seq: Number(match[1]), chars: Number(match[2]) } : null;
}
