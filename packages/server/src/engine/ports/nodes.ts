/** A node of the service as the others see it. */
export interface NodeRecord {
  /** Made anew with every start, and whenever the node has lost its lease. */
  readonly id: string;
  /** Raised with every heartbeat. No time: that a node is lost is told by how long others see the same number. */
  readonly beat: number;
}

/**
 * The nodes that serve. A lease is no time in the store: whoever has seen the same `beat` of a node for most of a lease,
 * by its own clock that only grows, may remove it, so that no wall clock is trusted. What was a node's that is not
 * in the list is nobody's, and whoever comes first takes it (`TurnStore.takeUnfinished`).
 */
export interface NodeStore {
  /** Puts a node into the list. `place` names the data directory that it alone may use. */
  join(id: string, place: string): Promise<void>;
  /** Raises the beat of a node. False when it is not there any more: what it ran is not its own. */
  beat(id: string): Promise<boolean>;
  list(): Promise<NodeRecord[]>;
  /** Removes a node, if it is there, whose beat is still the one that was seen. False when it is another one. */
  evict(seen: NodeRecord): Promise<boolean>;
  /** Removes the nodes of a place and gives their ids: whoever has its lock knows that they are dead. */
  evictPlace(place: string): Promise<string[]>;
  /** Removes a node by its own wish: nothing runs on it any more. */
  leave(id: string): Promise<void>;
  /** The name of the directory in which all nodes keep files: the one that was told first. Null as long as none was. */
  keptPlace(told: string | null): Promise<string | null>;
}
