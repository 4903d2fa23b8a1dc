"""A real sandbox of a pool in which the probe runs instead of the agent."""

from __future__ import annotations

from orchestrator.backends.sandbox.link import LauncherLink
from orchestrator.backends.sandbox.plan import Plans
from orchestrator.backends.sandbox.ports import LogWriter
from orchestrator.backends.sandbox.preflight import Fitness, judge
from orchestrator.backends.sandbox.sandbox import Sandbox
from orchestrator.errors import TryAgainError
from orchestrator.model.job import JobId, PoolName
from orchestrator.model.runner import RunnerName, RunnerSpec

_SECONDS = 30


async def try_pool(link: LauncherLink, plans: Plans, name: str) -> Fitness:
    """What the probe finds in the pool of this name.

    Raises:
        ConfigurationError: reason `isolation_unavailable`.
    """
    link.define_pool(*plans.probe(name))
    runner, heard = RunnerName(f"preflight-{name}"), _Heard()
    spec = RunnerSpec(runner, JobId(runner), PoolName(f"preflight:{name}"), (), _SECONDS)
    sandbox = Sandbox(spec, link, lambda: None)
    problem = ""
    try:
        listening = await sandbox.launch(heard, plans.config.start_timeout)
        listening.gateway.close()
        listening.runner_api.close()
    except TryAgainError as error:
        problem = str(error)
    await sandbox.settled.wait()
    return judge(bytes(heard.data), name, problem)


class _Heard(LogWriter):
    """Keeps what the preflight says."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        if len(self.data) < 1 << 20:
            self.data += data

    async def drain(self) -> None:
        return

    async def close(self) -> None:
        return
