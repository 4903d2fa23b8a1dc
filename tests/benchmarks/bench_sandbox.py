"""Sandbox start: create to first instruction of the job, and CPU per start, against the bare floor.

The floor is the same hardened bubblewrap command line with the agent's interpreter doing nothing but
saying so, started by a helper as small as the launcher. Both are measured in turns, so that a busy
machine is busy for both. Also: what is left how long after a SIGKILL of the daemon.

Run: python tests/benchmarks/bench_sandbox.py [starts]
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import uvloop

import orchestrator
from orchestrator.backends.sandbox.config import SandboxConfig, SandboxPool
from orchestrator.backends.sandbox.plan import Plans
from orchestrator.model.runner import RunnerState

ROOT = Path(orchestrator.__file__).resolve().parent.parent
AT_ONCE = 8

FLOOR = """
import sys; sys.path.append(sys.argv[1])
import base64, json, os, resource, select, time
from orchestrator.backends.sandbox.launcher import staging
plan = json.loads(sys.stdin.readline())
if plan['stage']: staging.stage(plan['stage_at'], plan['stage'])
memory = []
for _ in range(64): os.dup(0)
for text in plan['files']:
    memory.append(os.memfd_create('f')); os.write(memory[-1], base64.b64decode(text))
null = os.open('/dev/null', os.O_RDWR)
def start():
    read, write = os.pipe(); block, go = os.pipe(); os.write(go, b'.')
    files = [os.open('/proc/self/fd/%d' % fd, os.O_RDONLY) for fd in memory]
    order = [null, write, 2, files[0], null, block, null, *files[1:]]
    pid = os.fork()
    if pid == 0:
        for number, fd in enumerate(order): os.dup2(fd, number)
        if plan['uid']: os.setgroups([]); os.setresgid(*[plan['uid']] * 3); os.setresuid(*[plan['uid']] * 3)
        os.execve(plan['argv'][0], plan['argv'], {})
    for fd in (write, block, go, *files): os.close(fd)
    return pid, read
for line in sys.stdin:
    began = time.perf_counter(); before = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    runs = [start() for _ in range(int(line))]
    firsts = []
    for pid, read in runs:
        assert os.read(read, 1) == b'!'; firsts.append(time.perf_counter() - began); os.close(read)
    for pid, _ in runs: os.waitpid(pid, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN); mine = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    cpu += mine.ru_utime + mine.ru_stime - own.ru_utime - own.ru_stime
    print(json.dumps({'first': sum(firsts) / len(firsts), 'cpu': cpu / len(runs)}), flush=True)
"""


def load_world():
    """The tests' neighbours of the backend, from their file: tests are no package."""
    path = ROOT / "tests/integration/sandbox/world.py"
    spec = importlib.util.spec_from_file_location("sandbox_world", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Floor:
    """The helper that starts bare sandboxes."""

    def __init__(self) -> None:
        plans = Plans.make(SandboxConfig(pools={"default": SandboxPool()}))
        message, files = plans.pool("default", b"")
        cut = message["argv"].index("--") + 1
        interpreter = message["argv"][cut:-2]
        argv = [*message["argv"][:cut], *interpreter, "-c", "import os; os.write(1, b'!')"]
        plan = plans.hello() | {"argv": argv, "uid": 220_000 if os.geteuid() == 0 else None}
        plan["files"] = [base64.b64encode(data).decode() for data in files]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", FLOOR, str(ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={},
            start_new_session=True,
        )
        self._process.stdin.write(json.dumps(plan) + "\n")

    def measure(self, count: int) -> dict[str, float]:
        """Seconds to the first instruction and CPU seconds of a start, means over `count` at once."""
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and of its reaped children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class FirstInstruction:
    """A log writer that notes when the job's first output came."""

    def __init__(self, done: asyncio.Event) -> None:
        self.at, self.done, self.data = 0.0, done, b""

    def write(self, data: bytes) -> None:
        self.data += data
        if not self.at:
            self.at = time.perf_counter()
            self.done.set()

    async def drain(self) -> None:
        return

    async def close(self) -> None:
        return


class Firsts:
    def __init__(self) -> None:
        self.writers: dict[str, FirstInstruction] = {}

    def open(self, job_id):
        return self.writers.setdefault(job_id, FirstInstruction(asyncio.Event()))


async def ours(world, count: int) -> list[dict[str, float]]:
    """Start `count` at once; seconds from create to claim and to the job's first instruction."""

    async def one():
        began = time.perf_counter()
        spec = await world.launch("echo !")
        writer = world.backend._logs.writers[spec.job_id]
        await writer.done.wait()
        assert writer.data.startswith(b"!"), writer.data
        times = {"first": writer.at - began, "claim": world.api.claimed_at[spec.name] - began}
        await world.until(spec.name, RunnerState.EXITED)
        await world.remove(spec)
        return times

    return list(await asyncio.gather(*(one() for _ in range(count))))


def marked(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


DAEMON = """
import asyncio, importlib.util, sys
spec = importlib.util.spec_from_file_location('sandbox_world', sys.argv[1])
world_module = importlib.util.module_from_spec(spec); sys.modules['sandbox_world'] = world_module
spec.loader.exec_module(world_module)
async def main():
    world = world_module.World(instance='bench-residue')
    await world.backend.start()
    script = 'for i in 1 2 3; do setsid sleep %s & done; echo up; wait' % sys.argv[2]
    jobs = [await world.launch(script) for _ in range(4)]
    for spec in jobs: await world.said(spec, 'up')
    print('up', flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def residue() -> float:
    """Seconds from a SIGKILL of a daemon with four busy sandboxes until no process of theirs is left."""
    mark = "600.0625"
    path = str(ROOT / "tests/integration/sandbox/world.py")
    daemon = subprocess.Popen([sys.executable, "-c", DAEMON, path, mark], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert daemon.stdout.readline() == "up\n"
        while len(marked(f"sleep\0{mark}")) < 12:
            time.sleep(0.01)
    finally:
        daemon.send_signal(signal.SIGKILL)
    began = time.perf_counter()
    daemon.wait()
    while marked(f"sleep\0{mark}"):
        time.sleep(0.002)
    took = time.perf_counter() - began
    daemon.stdout.close()
    return took


def figure(value: float, floor: float, unit: str) -> dict[str, object]:
    return {"ours": round(value, 3), "floor": round(floor, 3), "ratio": round(value / floor, 2), "unit": unit}


async def main(starts: int) -> dict[str, dict[str, object]]:
    module = load_world()
    world = module.World(pools={"default": SandboxPool()}, instance="bench")
    world.backend._logs = Firsts()
    floor = Floor()
    try:
        await world.backend.start()
        singles, bare, many, bare_many, cpu, launcher = [], [], [], [], [], world.backend._link.pid
        await ours(world, 2)
        floor.measure(2)
        for _ in range(starts):
            bare.append(floor.measure(1)["first"])
            singles += await ours(world, 1)
        for _ in range(max(4, starts // 4)):
            bare_many.append(floor.measure(AT_ONCE))
            before = own_cpu(), cpu_of(launcher)
            many += await ours(world, AT_ONCE)
            after = own_cpu(), cpu_of(launcher)
            cpu.append((after[0] - before[0] + after[1] - before[1]) / AT_ONCE)
    finally:
        floor.close()
        await world.backend.close()
    median = statistics.median
    return {
        "create_to_first_instruction": figure(median(t["first"] for t in singles) * 1e3, median(bare) * 1e3, "ms"),
        "create_to_claim": figure(median(t["claim"] for t in singles) * 1e3, median(bare) * 1e3, "ms"),
        "first_instruction_8_at_once": figure(
            median(t["first"] for t in many) * 1e3, median(t["first"] for t in bare_many) * 1e3, "ms"
        ),
        "cpu_per_start_8_at_once": figure(
            statistics.mean(cpu) * 1e3, statistics.mean(t["cpu"] for t in bare_many) * 1e3, "ms"
        ),
    }


if __name__ == "__main__":
    figures = uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 40))
    figures["gone_after_sigkill_of_daemon"] = {"ours": round(residue() * 1e3, 1), "floor": 0, "ratio": 0, "unit": "ms"}
    for name, values in figures.items():
        print(f"{name:32} {values['ours']:8} {values['unit']}  floor {values['floor']:8}  ratio {values['ratio']}")
    target = ROOT / "build/bench/sandbox.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(figures, indent=2) + "\n")
