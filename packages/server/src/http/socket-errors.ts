import type { ServerFrame, SocketFrames, SocketFrameType } from '@sallyport/protocol';
import { SallyportError } from '../engine/errors.ts';
import { parseJson } from './body.ts';

/** Reads the type of a frame. Throws `bad_message` for anything but a JSON object of a known one. */
export function readMessage(frames: SocketFrames, bytes: Buffer): { type: SocketFrameType; message: object } {
  let message: unknown;
  try {
    message = parseJson(bytes);
  } catch (error) {
    throw new SallyportError('bad_message', { cause: error });
  }
  const type: unknown = typeof message === 'object' && message !== null ? Reflect.get(message, 'type') : undefined;
  if (typeof type !== 'string' || !Object.hasOwn(frames, type)) throw new SallyportError('bad_message');
  return { type: type as SocketFrameType, message: message as object };
}

/** What an error is about, as far as it could be told. */
export interface About {
  /** The frame that was refused; null: none was, or it has no known type. */
  readonly type: SocketFrameType | null;
  /** The conversation that the frame named, or that is followed. */
  readonly sessionId: string | null;
}

/** The frame of an error. Only the log sees its cause. */
export function errorFrame(error: SallyportError, about: About, requestId: string): ServerFrame {
  const { code, detail, retryable, issues, retryAfter } = error;
  return {
    type: 'error',
    error: detail,
    code,
    request_id: requestId,
    retryable,
    in_reply_to: about.type,
    session_id: about.sessionId,
    ...(issues && { issues: [...issues] }),
    ...(retryAfter !== undefined && { retry_after: Math.max(1, Math.ceil(retryAfter)) }),
  };
}
