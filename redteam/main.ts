import { isGood, textOf } from './report.ts';
import { runRedTeam } from './redteam.ts';

const report = await runRedTeam();
process.stdout.write(textOf(report));
process.exitCode = isGood(report) ? 0 : 1;
