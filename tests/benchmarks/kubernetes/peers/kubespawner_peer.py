"""kubespawner's own spawners, started and polled as JupyterHub does. Runs with kubespawner's virtual environment.

    python kubespawner_peer.py NAMESPACE JOBS default|tuned

Prints `ready`, then for each line on standard input one round: JOBS spawners at once, a JSON line with what it took.
*default* polls every 30 s and gives a request 3 s, as shipped; *tuned* polls every 50 ms and gives it 30 s.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time

from jupyterhub.objects import Hub
from kubespawner import KubeSpawner
from traitlets.config import Config

PATIENCE = 120


class _Name:
    """What a spawner asks of its user and of JupyterHub's database."""

    def __init__(self, **kept: object) -> None:
        self.__dict__.update(kept)


def spawner(namespace: str, number: int, settings: dict[str, object]) -> KubeSpawner:
    config = Config()
    chosen = {
        "namespace": namespace,
        "cmd": ["true"],
        "image": "image",
        "events_enabled": False,
        "start_timeout": PATIENCE,
    }
    config.KubeSpawner.update({**chosen, **settings})
    user = _Name(name=f"user{number}", escaped_name=f"user{number}", id=number, url="/", settings={})
    orm = _Name(name="", server=None, user_options={}, state=None, oauth_client=None, oauth_client_id=f"user{number}")
    made = KubeSpawner(
        _mock=True, config=config, hub=Hub(), user=user, orm_spawner=orm, api_token="token", oauth_client_id="x"
    )
    made.log = logging.getLogger("quiet")
    return made


async def one(namespace: str, number: int, settings: dict[str, object], period: float, failures: list[str]) -> float:
    """Seconds from handed over to gone."""
    began = time.perf_counter()
    try:
        made = spawner(namespace, number, settings)
        await made.start()
        while await made.poll() is None:
            await asyncio.sleep(period)
    except Exception as error:  # noqa: BLE001 -- a start that never saw its pod running is a result, too
        failures.append(f"{type(error).__name__}: {error}"[:200])
    return time.perf_counter() - began


async def main(namespace: str, jobs: int, tuned: bool) -> None:
    logging.disable(logging.CRITICAL)
    period = 0.05 if tuned else 30.0
    settings: dict[str, object] = {"k8s_api_request_timeout": 30} if tuned else {}
    number = 0
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        failures: list[str] = []
        began = time.perf_counter()
        latencies = await asyncio.gather(
            *(one(namespace, number + offset, settings, period, failures) for offset in range(jobs))
        )
        number += jobs
        taken = {"seconds": time.perf_counter() - began}
        print(json.dumps({**taken, "latencies": latencies, "failures": failures}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "tuned"))
