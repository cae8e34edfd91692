import { tell } from './shell.ts';

/** Ways to leave a process behind: each starts something that sleeps so many seconds and holds on. */
export const daemons = (seconds: string): string[] => [
  `setsid sleep ${seconds} >/dev/null 2>&1 </dev/null &`,
  `nohup sleep ${seconds} >/dev/null 2>&1 & disown -a`,
  `(setsid sh -c 'trap "" HUP TERM INT; (sleep ${seconds} &) ; exec sleep ${seconds}' >/dev/null 2>&1 &)`,
  `( ( ( sleep ${seconds} & ) & ) & ) >/dev/null 2>&1`,
  `perl -e 'fork and exit; use POSIX; POSIX::setsid(); fork and exit; $0 = "kworker"; exec "sleep", "${seconds}"' >/dev/null 2>&1`,
  `env -i setsid -f sleep ${seconds} >/dev/null 2>&1; coproc sleep ${seconds}`,
  `tmux -S ./t.sock new-session -d 'sleep ${seconds}'; script -qc 'setsid -f sleep ${seconds}' /dev/null`,
  `echo 'sleep ${seconds}' | at now; (crontab -l; echo '* * * * * sleep ${seconds}') | crontab -; systemd-run --user sleep ${seconds}`,
  `setsid -f sleep ${seconds} >/dev/null 2>&1; python3 -c "import subprocess; subprocess.Popen(['sleep', '${seconds}'], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)"`,
];

const gitHooks = ['pre-commit', 'post-checkout', 'post-index-change', 'reference-transaction', 'fsmonitor-watchman'];
const gitSettings = [
  'core.fsmonitor',
  'core.pager',
  'core.editor',
  'core.sshCommand',
  'diff.external',
  'filter.x.clean',
];

/** Ways to have a program run by whoever looks at the workspace later. It leaves a file `mark-…` in `at`. */
export const gitTraps = (at: string): string[] => {
  const mark = (name: string) => `touch ${at}/mark-${name}`;
  const hooks = (directory: string) =>
    gitHooks.map(
      (hook) => `printf '#!/bin/sh\\n${mark(hook)}\\n' > ${directory}/${hook}; chmod +x ${directory}/${hook}`,
    );
  const settings = (repository: string) =>
    gitSettings.map((name) => `git -C ${repository} config ${name} '${mark(name)}; cat'`);
  return [
    ...['.', 'repo'].flatMap((repository) => [
      `git init -q ${repository}; cp bait.txt ${repository}/tracked.txt; git -C ${repository} add -A 2>/dev/null`,
      `git -C ${repository} -c user.name=x -c user.email=x@x commit -qm first`,
      `echo '* filter=x diff=x' > ${repository}/.gitattributes; echo y >> ${repository}/tracked.txt`,
      ...hooks(`${repository}/.git/hooks`),
      ...settings(repository),
      `git -C ${repository} config core.hooksPath ${at}/hooks; git -C ${repository} config include.path ${at}/included`,
      `git -C ${repository} submodule add -q --force -- 'ext::sh -c ${mark('ext')}' sub`,
      `git -C ${repository} fetch --upload-pack='${mark('upload-pack')}' ext::x; git -C ${repository} worktree add -q ../tree-$RANDOM`,
    ]),
    // All at once: what is there already when a command starts, it may not change.
    [
      'git init -q other; cp bait.txt other/tracked.txt; git -C other add -A',
      'git -C other -c user.name=x -c user.email=x@x commit -qm first; echo y >> other/tracked.txt',
      ...hooks('other/.git/hooks'),
      ...settings('other'),
      "echo '* filter=x diff=x' > other/.gitattributes",
    ].join('; '),
    ...['gitconfig', 'bashrc', 'profile', 'bash_profile', 'npmrc', 'envrc'].map(
      (name) => `echo '${mark(name)}' > /tmp/home/.${name}; echo '${mark(name)}' > .${name}`,
    ),
    `mkdir -p hooks .claude .vscode; ${hooks('hooks').join('; ')}`,
    `echo '{"hooks":{"SessionStart":[{"hooks":[{"type":"command","command":"${mark('claude')}"}]}]}}' | tee .claude/settings.json .claude/settings.local.json "$CLAUDE_CONFIG_DIR/settings.json"`,
    `echo '{"mcpServers":{"x":{"command":"/bin/sh","args":["-c","${mark('mcp')}"]}}}' > .mcp.json`,
    `echo '${mark('snapshot')}' >> "$CLAUDE_CONFIG_DIR"/shell-snapshots/*; echo '${mark('snapshot')}' > "$CLAUDE_CONFIG_DIR/x"`,
  ];
};

/** Ways to end or stop processes that are not their own. */
export const killers = (pids: readonly number[]): string[] => [
  `for pid in ${pids.join(' ')}; do kill -STOP $pid && ${tell}; kill -9 $pid && ${tell}; done`,
  `perl -e '(kill 9, ${pids.join(', ')}) or exit 1' && ${tell}; python3 -c "import os; os.kill(${pids[0]}, 9)" && ${tell}`,
  `prlimit --pid ${pids[0]} --nofile=1 && ${tell}; renice 19 ${pids[0]} && ${tell}; ls /proc/${pids[0]}/ && ${tell}`,
];

const raise = 'ulimit -Su unlimited; ulimit -Hu unlimited; ulimit -u 100000; prlimit --pid $$ --nproc=100000:100000';

/** Ways to take more than there is for one. */
export const bombs: readonly string[] = [
  `${raise} && ${tell}; ulimit -n 1000000 && ${tell}; ulimit -f unlimited && ${tell}; ulimit -c 1000 && ${tell}`,
  `${raise}; timeout -k 1 4 bash -c 'f() { f | f & }; f; sleep 600'; true`,
  `${raise}; timeout -k 1 4 perl -e 'fork while 1'; true`,
];
