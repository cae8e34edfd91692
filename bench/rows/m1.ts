import { quiet } from '../admin.ts';
import { haveConversations } from '../conversations.ts';
import { livePeer } from '../peers.ts';
import { NoFigure, quantileOfAll, type Row } from '../row.ts';
import type { Stage } from '../stage.ts';

const conversations = 4;
const turns = 20;

/** The SDK alone, with the jail and the broker of the service. */
export async function rawPeer(stage: Stage) {
  return await stage.once('raw', async () => {
    const env = { BENCH_BASE: stage.base, ANTHROPIC_BASE_URL: stage.upstream.url };
    const child = await stage.start('raw', 'bench/raw/main.ts', { env });
    if (child.banner.includes('WITHOUT A JAIL') === stage.jailed) throw new NoFigure('only one of the sides is jailed');
    return livePeer(child.url, 'told');
  });
}

export const m1: Row = {
  id: 'M1',
  what: 'next turn of a live conversation: time to first text, against the same turn on the SDK alone',
  how: `the SDK is in a process of its own, with streaming input, the same jail and the same broker, and times itself; ${conversations} conversations of ${turns} counted turns in each round`,
  unit: 'ms',
  sides: ['sallyport', 'raw'],
  goal: [
    { of: 'sallyport', to: 'raw', by: 'difference', figure: quantileOfAll(0.5, 'ms'), atMost: 1.5 },
    { of: 'sallyport', to: 'raw', by: 'difference', figure: quantileOfAll(0.99, 'ms'), atMost: 3 },
  ],
  rounds: 9,
  seconds: 0,
  async measure(stage, side, round) {
    const peer = side === 'raw' ? await rawPeer(stage) : stage.sallyport;
    return await haveConversations({ peer, round, count: conversations, turns, settled: () => quiet(stage) });
  },
};
