import type { Row } from '../row.ts';
import { m1 } from './m1.ts';
import { m10 } from './m10.ts';
import { m4, m4Beyond, m4Project, m4Share } from './m4.ts';
import { m11, m11Refusals, m11Tenants } from './m11.ts';
import { m6 } from './m6.ts';
import { m2 } from './m2.ts';
import { m3 } from './m3.ts';
import { m5 } from './m5.ts';
import { m7, m7Many } from './m7.ts';
import { m8, m8Delay } from './m8.ts';
import { m9, m9Idle, m9Sockets, m9Stored } from './m9.ts';
import { m12 } from './m12.ts';
import { m13, m13Cpu } from './m13.ts';
import { m14, m14Running } from './m14.ts';
import { m15 } from './m15.ts';

export const rows: readonly Row[] = [
  m1,
  m2,
  m3,
  m4,
  m4Beyond,
  m4Share,
  m4Project,
  m5,
  ...m6,
  m7,
  m7Many,
  m8,
  m8Delay,
  m9,
  m9Sockets,
  m9Idle,
  m9Stored,
  m10,
  m11,
  m11Refusals,
  m11Tenants,
  m12,
  m13,
  m13Cpu,
  m14,
  m14Running,
  m15,
];
