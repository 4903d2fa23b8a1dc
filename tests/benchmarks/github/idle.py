"""What scale sets without jobs cost: calls to GitHub in an hour, and processor time of the daemon.

The daemon rests for a while in real time, with one set and with twenty; that tells its processor time. Then GitHub's
clock is stepped through an hour, so that every long poll of 50 s ends by itself and is asked again; that tells the
calls. GitHub's tokens expire on the way as they do in an hour, and are fetched again; the source has a personal token,
so that an App's makes one call more.

The floor of the calls is one long poll of 50 s after the other, of the processor time the daemon without any set.

    python tests/benchmarks/github/idle.py [seconds of rest]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path

import uvloop
from arena import Daemon, Platform, listening, service_calls
from cluster import cpu_of, figure, rss_mib, write
from verdict import Figures

POLL = "GET /scalesets/message"
HOLD_SECONDS = 50
HOUR = 3600
SETS = (1, 20)
STARTED_SECONDS = 5.0
"""The start's own work is over."""
FLOOR_CALLS = HOUR / HOLD_SECONDS


def daemon_of(folder: Path, platform: Platform, sets: int) -> Daemon:
    folder.mkdir()
    host = {"host": "github.test.example", "port": platform.server.port, "protocol": "http"}
    named = [{"name": f"set-{number}", "pool": "default"} for number in range(sets)]
    pool = {"name": "default", "egress": [host]}
    # The daemon cannot sign for an App by a clock that was stepped.
    token = folder / "token"
    token.write_text(platform.server.personal_token)
    token.chmod(0o600)
    source = {"hosts": [host], "scale_sets": named, "app": None, "token_file": str(token)} if sets else None
    return Daemon(folder, platform, {"pools": [pool]}, source)


async def rest(daemon: Daemon, seconds: int) -> float:
    """Processor milliseconds of the daemon for each second of rest."""
    await asyncio.sleep(STARTED_SECONDS)
    before = cpu_of(daemon.pid)
    await asyncio.sleep(seconds)
    return (cpu_of(daemon.pid) - before) / seconds * 1e3


async def an_hour(platform: Platform, sets: int) -> Counter[str]:
    """The daemon's calls while GitHub's clock goes through an hour."""
    server, before = platform.server, platform.calls
    for _ in range(HOUR // HOLD_SECONDS):
        asked = server.counters[POLL]
        await server.clock.step(HOLD_SECONDS)
        await server.until(lambda asked=asked: server.counters[POLL] >= asked + sets, 30)
        await listening(platform, sets)
    return platform.calls - before


async def measure(folder: Path, sets: int, seconds: int) -> tuple[float, float, Counter[str]]:
    platform = Platform()
    async with platform.server:
        daemon = daemon_of(folder / f"sets-{sets}", platform, sets)
        try:
            await daemon.start()
            await listening(platform, sets)
            cpu, memory = await rest(daemon, seconds), rss_mib(daemon.pid)
            calls = await an_hour(platform, sets) if sets else Counter()
            assert (code := daemon.end()) == 0, f"the daemon ended with {code}\n{daemon.last_words()}"
        finally:
            daemon.end()
    return cpu, memory, calls


async def main(seconds: int) -> Figures:
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="bench-github-") as name:
        bare_cpu, bare_memory, _ = await measure(Path(name), 0, seconds)
        for sets in SETS:
            cpu, memory, calls = await measure(Path(name), sets, seconds)
            print(f"{sets} sets, in an hour: {dict(calls)}")
            service = service_calls(calls)
            figures |= {
                f"service_calls_per_set_and_hour_{sets}": figure(service / sets, FLOOR_CALLS, ""),
                f"rest_calls_per_hour_{sets}": figure(sum(calls.values()) - service, None, ""),
                f"cpu_per_second_{sets}": figure(cpu, bare_cpu, "ms"),
                f"memory_{sets}": figure(memory, bare_memory, "MiB"),
            }
    return figures


if __name__ == "__main__":
    write("github_idle", uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)))
