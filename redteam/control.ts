import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { startClaude } from '../test/sdk/claude.ts';
import { bareGit, orders, sprungIn, writeRepository } from './repository.ts';
import type { World } from './world.ts';

/** What works of the world's traps and listeners where nothing holds it back. */
export interface Control {
  /** Names of the traps that ran. */
  readonly traps: ReadonlySet<string>;
  /** Files whose orders reached the model. */
  readonly orders: readonly string[];
  /** Model calls that went to the attacker's model. */
  readonly moved: number;
}

/**
 * Springs the traps of a repository on purpose: by a Claude Code that trusts it, without a jail, by git without our
 * settings, and by running what nothing should ever run. An attempt whose trap does not work here proves nothing.
 */
export async function springTraps(world: World): Promise<Control> {
  const project = join(world.service.root, 'control');
  await writeRepository(project, { url: world.elsewhere.url, beside: world.beside });
  const claude = await startClaude(
    { steps: [{ text: 'Done.' }] },
    { cwd: project, settingSources: ['project', 'local'], strictMcpConfig: false },
  );
  try {
    claude.send('Good morning.');
    await claude.turn();
  } finally {
    await claude.close();
  }
  const said = JSON.stringify([...world.elsewhere.requests, ...claude.simulator.requests].map(({ body }) => body));
  const moved = world.elsewhere.requests.length;
  world.elsewhere.reset();
  springByHand(project);
  return {
    traps: await sprungIn(project),
    orders: Object.entries(orders).flatMap(([path, word]) => (said.includes(word) ? [path] : [])),
    moved,
  };
}

function springByHand(project: string): void {
  const commit = ['-c', 'user.name=x', '-c', 'user.email=x@x', 'commit', '--allow-empty', '--message=control'];
  bareGit(project, ['status']);
  bareGit(project, ['log', '-1']);
  bareGit(project, ['diff']);
  bareGit(project, commit);
  bareGit(project, ['-c', 'core.hooksPath=.git/hooks', ...commit]);
  const run = (file: string, ...args: string[]) =>
    execFileSync(file, args, { cwd: project, env: { PATH: process.env['PATH'] }, stdio: 'ignore' });
  for (const file of ['.envrc', '.bashrc', '.profile']) run('/bin/sh', file);
  run(process.execPath, '--require', './preload.js', '--eval', '0');
  run('./git', '--version');
  run('/bin/sh', '-c', './rg --version || true');
}
