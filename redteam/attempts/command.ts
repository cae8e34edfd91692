import { gated, modes, success, type CallAttempt, type Expected } from '../attempt.ts';
import type { Ground } from '../world.ts';

/** What a command prints when it ran inside the walls: outside, the host has another name. */
export const ranInside = /^ran-in-workspace$/mu;

/** Without a jail the attempt has succeeded before it does any harm. */
const guard = `[ "$HOSTNAME" = workspace ] || { ${success} no jail; exit; }`;

/** An attempt that runs a command, as it is described. */
export interface CommandAttempt {
  readonly name: string;
  readonly reaches: string;
  readonly line: (at: Ground) => string;
  /** What stops it where it runs. */
  readonly inside: readonly Expected[];
  /** True: once more with the input that asks Claude Code for no sandbox. */
  readonly unboxed?: boolean;
  /** True: it prints so much that its end is not seen. It says where it runs at its beginning then. */
  readonly endless?: boolean;
  readonly gained?: CallAttempt['gained'];
  readonly known?: string;
}

/** An attempt that runs a command. Where the mode does not let it run by itself, that stops it. */
export function command(described: CommandAttempt): CallAttempt {
  const { name, reaches, line, inside, unboxed = false, endless = false, gained, known } = described;
  return {
    name,
    reaches,
    modes,
    calls(at) {
      const lines = [line(at), 'echo ran-in-$HOSTNAME'];
      const input = { command: [guard, ...(endless ? lines.toReversed() : lines)].join('\n') };
      const boxed = { name: 'Bash', input };
      return unboxed ? [boxed, { name: 'Bash', input: { ...input, dangerouslyDisableSandbox: true } }] : [boxed];
    },
    expected: gated(...inside),
    ...(gained && { gained }),
    ...(known !== undefined && { known }),
  };
}
