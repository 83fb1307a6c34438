/**
 * Who is connected to which node, so that nobody is woken who is connected to another one. Only that is decided by it: what
 * it does not know costs a needless wake-up. Names are whatever tells those apart who may be woken.
 */
export interface Presence {
  /** It is connected to this node. One small write, which nobody waits for; to say it twice is to say it once. */
  came(name: string): void;
  /** It is connected to this node no more. */
  went(name: string): void;
  /**
   * For each name, in order, a node other than this one that it is connected to. Undefined where there is none, or where that
   * is not known. One question for each other node, whatever the number of names. Never rejects.
   */
  elsewhere(names: readonly string[]): Promise<readonly (string | undefined)[]>;
  /** Whether a node has said within {@link NODE_SILENCE_MS} that it lives. */
  isAlive(node: string): boolean;
  /** This node has no connections any more. */
  close(): Promise<void>;
}

/** A node that has been silent for this long is taken for dead, and with it everybody's connection to it. */
export const NODE_SILENCE_MS = 15_000;
