"""The words between daemon and launcher: one SOCK_SEQPACKET message each, JSON with descriptors attached.

To the launcher:
  `hello`   stage_at, stage [[source, name]], instance, uid_base
  `pool`    pool, argv, limits {..}, spares; descriptors: seccomp program, then the carried files
  `start`   run, pool; descriptors: the job's output pipe, the pipe that holds the runner token
  `signal`  run, number
From the launcher:
  `ready`     version, controllers, privileged
  `listening` run, pid; descriptors: gateway listener, runner API listener, pidfd of the sandbox's PID 1
  `failed`    run, error; the run's `exited` follows when a process had been started, else nothing is left
  `exited`    run, code, oom_kills, lost; nothing of the run is left
"""

from __future__ import annotations

MAX_MESSAGE = 128 * 1024
MAX_DESCRIPTORS = 64
