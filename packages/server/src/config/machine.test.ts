import { deepStrictEqual } from 'node:assert/strict';
import { test } from 'node:test';
import { boundedResources } from './machine.ts';

const all = { cores: 16, memoryBytes: 64e9 };
const group = '/sys/fs/cgroup';

/** Cores and memory where these files are there, and no other. */
function bounded(files: Readonly<Record<string, string>>): [number, number] {
  const { cores, memoryBytes } = boundedResources(all, (path) => files[path] ?? null);
  return [cores, memoryBytes];
}

test('without control groups all cores may be used, and the memory that is available', () => {
  deepStrictEqual(bounded({}), [16, 64e9]);
  const meminfo =
    'MemTotal:       62500000 kB\nMemFree:        1000000 kB\nMemAvailable:   40000000 kB\nBuffers: 1 kB\n';
  deepStrictEqual(bounded({ '/proc/meminfo': meminfo }), [16, 40_960_000_000]);
  deepStrictEqual(bounded({ '/proc/meminfo': 'MemTotal: 5 kB\nMemAvailable: many kB\n' }), [16, 64e9]);
});

test('groups of version 2 bound both, and those around them too', () => {
  const own = '0::/system.slice/sallyport.service\n';
  const at = `${group}/system.slice`;
  deepStrictEqual(
    bounded({
      '/proc/self/cgroup': own,
      [`${at}/sallyport.service/cpu.max`]: '400000 100000\n',
      [`${at}/sallyport.service/memory.max`]: '8000000000\n',
      [`${at}/cpu.max`]: 'max 100000\n',
      [`${at}/memory.max`]: 'max\n',
    }),
    [4, 8e9],
  );
  deepStrictEqual(
    bounded({
      '/proc/self/cgroup': own,
      [`${at}/sallyport.service/cpu.max`]: 'max 100000\n',
      [`${at}/sallyport.service/memory.max`]: '8000000000\n',
      [`${at}/cpu.max`]: '250000 100000\n',
      [`${at}/memory.max`]: '4000000000\n',
    }),
    [3, 4e9],
  );
  const container = { '/proc/self/cgroup': '0::/\n', [`${group}/cpu.max`]: '50000 100000\n' };
  deepStrictEqual(bounded(container), [1, 64e9]);
  deepStrictEqual(
    bounded({ ...container, [`${group}/memory.max`]: '2147483648\n', '/proc/meminfo': 'MemAvailable: 1000 kB\n' }),
    [1, 1_024_000],
  );
});

test('groups of version 1 bound both, in a container and beside version 2', () => {
  const lists = '7:memory:/docker/0f\n4:cpu,cpuacct:/docker/0f\n1:name=systemd:/\n0::/\n';
  const cpu = `${group}/cpu,cpuacct`;
  deepStrictEqual(
    bounded({
      '/proc/self/cgroup': lists,
      [`${cpu}/cpu.cfs_quota_us`]: '600000\n',
      [`${cpu}/cpu.cfs_period_us`]: '200000\n',
      [`${group}/memory/memory.limit_in_bytes`]: '3000000000\n',
    }),
    [3, 3e9],
  );
  deepStrictEqual(
    bounded({
      '/proc/self/cgroup': lists,
      [`${group}/cpu/docker/0f/cpu.cfs_quota_us`]: '-1\n',
      [`${group}/cpu/docker/0f/cpu.cfs_period_us`]: '100000\n',
      // What the kernel says of a group without a limit.
      [`${group}/memory/docker/0f/memory.limit_in_bytes`]: '9223372036854771712\n',
    }),
    [16, 64e9],
  );
  deepStrictEqual(bounded({ '/proc/self/cgroup': lists, [`${group}/unified/memory.max`]: '1000000000\n' }), [16, 1e9]);
});

test('what makes no sense bounds nothing', () => {
  deepStrictEqual(
    bounded({
      '/proc/self/cgroup': '0::/a\nnonsense\n3::\n',
      [`${group}/a/cpu.max`]: '0 0\n',
      [`${group}/a/memory.max`]: '-5\n',
      [`${group}/cpu.max`]: '',
      [`${group}/memory.max`]: 'lots\n',
    }),
    [16, 64e9],
  );
});
