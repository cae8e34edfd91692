import { setTimeout as delay } from 'node:timers/promises';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { until } from '../test/support/runs.ts';
import { connect, createServer, type AddressInfo } from 'node:net';

/** Hears whoever gets out: TCP, UDP and an abstract socket of this machine. */
export interface Listener {
  readonly tcpPort: number;
  readonly udpPort: number;
  /** Name of the abstract socket. */
  readonly abstractName: string;
  /** Connections and packets so far. */
  heard(): number;
  /** Connects to all three itself. True when each of them was heard. */
  works(): Promise<boolean>;
  close(): void;
}

/** Listens on free ports of all addresses. */
export async function listen(): Promise<Listener> {
  let heard = 0;
  const abstractName = `sallyport-redteam-${process.pid}`;
  const accept = () =>
    createServer((socket) => {
      heard += 1;
      socket.on('error', () => {}).destroy();
    });
  const tcp = accept().listen(0, '0.0.0.0');
  const abstract = accept().listen(`\0${abstractName}`);
  const udp = createSocket('udp4').bind(0, '0.0.0.0');
  await Promise.all([tcp, abstract, udp].map((server) => once(server, 'listening')));
  udp.on('message', () => (heard += 1));
  const tcpPort = (tcp.address() as AddressInfo).port;
  const udpPort = udp.address().port;
  return {
    tcpPort,
    udpPort,
    abstractName,
    heard: () => heard,
    async works() {
      const before = heard;
      const sender = createSocket('udp4');
      sender.send('control', udpPort, '127.0.0.1');
      const sockets = [connect(tcpPort, '127.0.0.1'), connect(`\0${abstractName}`)];
      for (const socket of sockets) socket.on('error', () => {});
      await Promise.race([until(() => heard >= before + 3), delay(5_000, undefined, { ref: false })]);
      sender.close();
      for (const socket of sockets) socket.destroy();
      return heard === before + 3;
    },
    close() {
      tcp.close();
      abstract.close();
      udp.close();
    },
  };
}
