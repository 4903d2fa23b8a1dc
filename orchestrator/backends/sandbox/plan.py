"""From settings to what the launcher is told about a pool. No process is started here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orchestrator.agent
from orchestrator.backends.sandbox import command, seccomp, toolchain
from orchestrator.backends.sandbox.command import CarriedFile
from orchestrator.backends.sandbox.config import SandboxConfig, SandboxPool
from orchestrator.backends.sandbox.preflight import PROBE, Fitness
from orchestrator.backends.sandbox.toolchain import Staging, Toolchain
from orchestrator.errors import ConfigurationError

SPARES = 4
"""Children of the launcher that wait ready for each pool."""

COMMANDS = {
    "orchestrator-token": "token.py",
    "orchestrator-artifact": "artifact.py",
    "orchestrator-github-runner": "github_runner.py",
    "orchestrator-github-hook": "github_hook.py",
}
LIBRARY = "tokens"
"""The folder of modules that `orchestrator-token` and `orchestrator-artifact` find in `../lib`."""


@dataclass(frozen=True, slots=True)
class Plans:
    """All pools, made ready for one launcher."""

    bwrap: Path
    staging: Staging
    toolchains: Mapping[str, Toolchain]
    config: SandboxConfig

    @staticmethod
    def make(config: SandboxConfig) -> Plans:
        """Check the settings against this machine.

        Raises:
            ConfigurationError: no bubblewrap, a bad toolchain folder, sizes that do not fit each other.
        """
        bwrap = toolchain.find_bwrap(config.bwrap)
        check_sizes(config.pools)
        toolchains = {name: toolchain.resolve(pool, config.private) for name, pool in config.pools.items()}
        folders = [folder for chain in toolchains.values() for folder in chain.folders]
        staging = toolchain.plan_staging(folders, bwrap, privileged=os.geteuid() == 0)
        return Plans(bwrap, staging, toolchains, config)

    def changed_to(self, pools: Mapping[str, SandboxPool]) -> Plans:
        """These pools for the launcher that runs.

        Raises:
            ConfigurationError: as `make`; reason `restart_needed` when only another launcher can show a folder.
        """
        made = Plans.make(replace(self.config, pools=pools))
        if not set(made.staging.moved) <= set(self.staging.moved):
            raise ConfigurationError(
                "a toolchain folder that not everybody may read is shown to sandboxes from the daemon's start on only",
                reason="restart_needed",
                fix="restart the daemon, or make the folder and those above it readable for others",
            )
        return replace(made, staging=self.staging)

    def hello(self) -> dict[str, Any]:
        return {
            "instance": self.config.instance,
            "uid_base": self.config.host_uid_base,
            "stage_at": self.staging.place,
            "stage": self.staging.folders,
        }

    def probe(self, name: str) -> tuple[dict[str, Any], list[bytes]]:
        """The pool's preflight: same sandbox, but the probe runs in it instead of the agent."""
        source = CarriedFile(command.AGENT_SOURCE, 0o444, _agent_file("main.py"))
        return self._message(name, f"preflight:{name}", [source], ["-c", PROBE], spares=0)

    def pool(self, name: str, agent: bytes, spares: int = SPARES) -> tuple[dict[str, Any], list[bytes]]:
        """The pool as jobs get it, with the agent compiled for its interpreter."""
        program = [command.AGENT, str(self.config.pools[name].max_processes)]
        return self._message(name, name, [CarriedFile(command.AGENT, 0o444, agent)], program, spares=spares)

    def _message(
        self, name: str, label: str, files: list[CarriedFile], program: list[str], *, spares: int
    ) -> tuple[dict[str, Any], list[bytes]]:
        pool, chain = self.config.pools[name], self.toolchains[name]
        interpreter = [str(chain.python), "-I", "-S", "-E", "-B", "-X", "utf8"]
        carried = [*command.ETC, *files, *_commands(chain.python)]
        binds = [(self.staging.source(folder), str(folder)) for folder in chain.folders]
        bwrap = toolchain.staged_bwrap(self.bwrap, self.staging)
        message = {
            "pool": label,
            "spares": spares,
            "argv": [bwrap, *command.arguments(pool, binds, carried, [*interpreter, *program])],
            "limits": {
                "memory_bytes": pool.memory_bytes,
                "max_processes": pool.max_processes,
                "cpu_cores": pool.cpu_cores,
                "max_open_files": pool.max_open_files,
                "max_file_bytes": pool.max_file_bytes,
            },
        }
        return message, [seccomp.build(), *(file.data for file in carried)]


@dataclass(frozen=True, slots=True)
class NewPools:
    """Pools that were seen to work. Runners of those that are `gone` may still be there, and some yet be made."""

    plans: Plans
    agents: Mapping[str, Fitness]
    gone: frozenset[str]


def _commands(python: Path) -> list[CarriedFile]:
    """The commands that jobs find on PATH, with the sandbox's interpreter in the first line."""
    first = f"#!{python} -I\n".encode()
    programs = [
        CarriedFile(f"{command.HOME}/bin/{name}", 0o555, first + _agent_file(file)) for name, file in COMMANDS.items()
    ]
    folder = Path(orchestrator.agent.__file__).parent / LIBRARY
    modules = [
        CarriedFile(f"{command.HOME}/lib/{LIBRARY}/{path.name}", 0o444, path.read_bytes())
        for path in sorted(folder.glob("*.py"))
    ]
    return programs + modules


def _agent_file(name: str) -> bytes:
    folder = Path(orchestrator.agent.__file__).parent
    return (folder / name).read_bytes()


def check_sizes(pools: Mapping[str, SandboxPool]) -> None:
    """Raises ConfigurationError, reason `sandbox_sizes_invalid`: what lies in memory does not fit in it."""
    for name, pool in pools.items():
        total = pool.workspace_bytes + pool.tmp_bytes + pool.shm_bytes
        if total >= pool.memory_bytes:
            raise ConfigurationError(
                f"pool {name}: workspace, /tmp and /dev/shm together ({total} bytes) must stay below its memory "
                f"({pool.memory_bytes} bytes): they lie in memory, and a full workspace would end the sandbox",
                reason="sandbox_sizes_invalid",
                fix="raise memory_bytes or lower workspace_bytes",
            )
