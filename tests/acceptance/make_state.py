"""Makes the state folder of today's version for `test_upgrade.py`: run it once for each version that is released.

    .venv/bin/python tests/acceptance/make_state.py

A real daemon runs jobs to every kind of end, and is killed while one runs and others wait. Beside the archive, a file
says what the daemon itself told of all that, which is what later versions are held to.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from installation import Installation

from orchestrator import __version__

STATES = Path(__file__).parent / "states"
URL = "https://runners.example"
AUDIENCE = "https://cache.example"
MONTH = 30 * 86400
SETTINGS: dict[str, Any] = {
    "identity": {"audiences": {AUDIENCE: {}}, "rotation_seconds": MONTH},
    "journal": {"retention_seconds": MONTH, "forget_seconds": MONTH},
    "logs": {"retention_seconds": MONTH},
    "deadlines": {"capacity_seconds": MONTH},
}
"""As patient as settings can be: the state grows old in the repository."""

ENDED = {
    "built": "echo content > app; orchestrator-artifact app; orchestrator-token print --audience $AUDIENCE || true",
    "red": "echo no; exit 3",
    "late": "sleep 60",
    "unwanted": "sleep 60",
}
_NOT_KEPT = frozenset({"daemon.json", "caller-token"})


def configure(here: Installation, **more: Any) -> None:
    here.configure(server={"port": here.port, "public_url": URL}, **SETTINGS, **more)


async def make(folder: Path) -> None:
    here = Installation(folder)
    configure(here, capacity=1)
    await here.start()
    try:
        jobs = await _jobs(here)
        told = {
            "version": __version__,
            "jobs": {name: await here.job(job_id) for name, job_id in jobs.items()},
            "receipts": {name: (await here.call("GET", f"/v1/jobs/{jobs[name]}/receipt")).body for name in ENDED},
            "logs": {name: (await here.command("logs", jobs[name])).out for name in ENDED},
            "keys": (await here.call("GET", "/v1/keys")).body,
        }
        await here.kill()
    finally:
        await here.close()
    log = json.loads((await here.command("audit", "verify", "--json")).out)
    STATES.mkdir(exist_ok=True)
    (STATES / f"{__version__}.json").write_text(json.dumps(told | {"audit": log}, indent=1) + "\n", encoding="utf-8")
    with tarfile.open(STATES / f"{__version__}.tar.gz", "w:gz") as archive:
        archive.add(here.state, "state", filter=lambda one: None if Path(one.name).name in _NOT_KEPT else one)


async def _jobs(here: Installation) -> dict[str, str]:
    jobs: dict[str, str] = {}
    for name, script in ENDED.items():
        limit = {"timeout_seconds": 1} if name == "late" else {}
        jobs[name] = await here.dispatch(name, script.replace("$AUDIENCE", AUDIENCE), **limit)
        if name == "unwanted":
            await here.phase(jobs[name], "running")
            await here.call("DELETE", f"/v1/jobs/{jobs[name]}")
        await here.finished(jobs[name])
    jobs["running"] = await here.dispatch("running", "sleep 600")
    await here.phase(jobs["running"], "running")
    for name in ("waiting", "next"):
        jobs[name] = await here.dispatch(name, "echo begun by the next daemon")
        await here.until(jobs[name], lambda view: view["wait"])
    return jobs


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(make(Path(place) / "installation"))
