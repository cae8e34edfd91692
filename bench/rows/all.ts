import type { Row } from '../row.ts';
import { m10 } from './m10.ts';
import { m2 } from './m2.ts';
import { m3 } from './m3.ts';
import { m5 } from './m5.ts';

export const rows: readonly Row[] = [m2, m3, m5, m10];
