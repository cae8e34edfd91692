import { setTimeout as delay } from 'node:timers/promises';
import { below, names } from './procfs.ts';
import type { Dice } from './random.ts';
import { kill, type Service } from './service.ts';

const perSecond = 0.2;

/**
 * Kills processes of Claude Code and what is below them, one every few seconds, until the signal. Gives how many it
 * killed; `tell` gets a line for each.
 */
export async function killAtRandom(
  service: Service,
  dice: Dice,
  signal: AbortSignal,
  tell: (line: string) => void,
): Promise<number> {
  let count = 0;
  for (;;) {
    await delay(dice.gapMs(perSecond), undefined, { signal }).catch(() => {});
    if (signal.aborted) return count;
    const found = await service.processes();
    const draws = [dice.number(), dice.number()] as const;
    const chosen = found[Math.floor(draws[0] * found.length)];
    if (chosen === undefined) continue;
    const tree = await below(chosen.pid);
    const pid = tree[Math.floor(draws[1] * tree.length)] ?? chosen.pid;
    // The pid may have been given to another process meanwhile.
    if (!(await names(pid, service.runDir)) || !kill(pid)) continue;
    count += 1;
    const depth = tree.indexOf(pid);
    tell(`kill ${count}: pid ${pid}, number ${depth} of ${tree.length} of ${chosen.process_id}, ${chosen.state}`);
  }
}
