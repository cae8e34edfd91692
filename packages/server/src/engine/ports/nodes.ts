import type { UnfinishedTurn } from './store.ts';

/** A node of the service as the others see it. */
export interface NodeRecord {
  /** Made anew with every start, and whenever the node has lost its lease. */
  readonly id: string;
  /** Raised with every heartbeat. No time: that a node is lost is told by how long others see the same number. */
  readonly beat: number;
}

/**
 * Who serves, and whose each running turn is. A lease is no time in the store: whoever has seen the same `beat` of a node
 * for the length of a lease, by its own clock that only grows, may take over from it, so that no wall clock is trusted.
 */
export interface NodeStore {
  join(id: string): Promise<void>;
  /** Raises the beat of a node. False when it is not there any more: others have taken over what it ran. */
  beat(id: string): Promise<boolean>;
  list(): Promise<NodeRecord[]>;
  /** Says that nothing runs on a node any more: whoever sees it takes over at once what is left of it. */
  leave(id: string): Promise<void>;
  /**
   * Takes over from a node whose beat is still the one that was seen: removes it, and gives its turns without an end to
   * the node `by`, with raised epochs. Null, with nothing changed, when its beat is another one or it is not there.
   */
  takeOver(seen: NodeRecord, by: string): Promise<UnfinishedTurn[] | null>;
}
