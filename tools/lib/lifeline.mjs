// Loaded into the program before its own code. The program runs in a session of its own, so a SIGKILL of the starter
// (or of its whole process group) would leave it behind, holding its port: the end of this pipe tells it instead.
import { Socket } from 'node:net';

if (process.env.SALLYPORT_LIFELINE === '1') {
  delete process.env.SALLYPORT_LIFELINE;
  const line = new Socket({ fd: 3 });
  line.on('error', () => {});
  line.once('close', () => process.kill(process.pid, 'SIGTERM'));
  line.resume();
  line.unref();
}
