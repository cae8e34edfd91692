import { busContract } from '../testing/bus.ts';
import { LocalBus } from './local-bus.ts';

busContract(async () => new LocalBus());
