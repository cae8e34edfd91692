/** A node that serves. */
export interface NodeTable {
  id: string;
  /** The data directory that it alone may use. */
  place: string;
  beat: number;
}
