/** A node that serves. */
export interface NodeTable {
  id: string;
  /** The data directory that it alone may use. */
  place: string;
  beat: number;
}

/** One row: the directory in which all nodes keep files. */
export interface KeptPlaceTable {
  id: string;
  name: string;
}
