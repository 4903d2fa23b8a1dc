"""Runners registered by GitHub's REST API where there is no scale set, in the words of the client for scale sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.intake.github.rest.client import RestClient
from orchestrator.intake.github.scale_sets.messages import JitConfig, RunnerEntry
from orchestrator.intake.github.source_config import ScaleSetConfig


@dataclass(frozen=True, slots=True)
class LabelRule:
    """Which runners take jobs of which labels. `runners.labels` are those of the rule, without `self-hosted`."""

    runners: ScaleSetConfig
    group_id: int = 1


class RestRunners:
    """`mark` is a label that every runner of ours has besides: nobody else's runner is ever touched."""

    def __init__(self, rest: RestClient, rules: Sequence[LabelRule], mark: str) -> None:
        self._rest = rest
        self._rules = tuple(rules)
        self._mark = mark

    async def generate_jit(self, set_id: int, name: str, work_folder: str) -> JitConfig:
        """Register a runner of the rule with this number. Errors: as `RestClient.generate_jitconfig`."""
        rule = self._rules[set_id]
        labels = ("self-hosted", *rule.runners.labels, self._mark)
        return await self._rest.generate_jitconfig(name, labels, rule.group_id, work_folder)

    async def runner_by_name(self, name: str) -> RunnerEntry | None:
        return await self._rest.runner_by_name(name)

    async def remove_runner(self, runner_id: int) -> None:
        """Raises BusyError while it has a job; nothing happens when it is gone."""
        await self._rest.remove_runner(runner_id)

    async def runners(self) -> list[RunnerEntry]:
        """Ours only. None of them is of a scale set, so their `scale_set_id` is 0."""
        return [entry for entry in await self._rest.runners() if self._mark in entry.labels]
