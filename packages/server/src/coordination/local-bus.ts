import type { Bus } from '../engine/ports.ts';

/** The bus of a service of one node: there is nobody to tell, and nothing is ever told or lost. */
export class LocalBus implements Bus {
  publish(): void {}

  subscribe(): () => void {
    return () => undefined;
  }

  onGap(): () => void {
    return () => undefined;
  }
}
