/**
 * Messages between the nodes of the service. Any of them may be lost, and all of them are while the bus is down: whoever
 * listens finds out in another way too, only later. Of one sender they come in order.
 */
export interface Bus {
  /** Sends a text to the other nodes that listen to a channel; not to this one. Never throws. */
  publish(channel: string, message: string): void;
  /** Calls back for every message of a channel until the given function is called. What the listener throws is logged. */
  subscribe(channel: string, listener: (message: string) => void): () => void;
  /** Calls back each time messages may have been lost: after the bus was down. */
  onGap(listener: () => void): () => void;
}
