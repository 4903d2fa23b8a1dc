"""Settings of policy: the bundle in force, a candidate beside it, and the log of what was decided."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from orchestrator.settings.fields import Group, Seconds


class DecisionLogSettings(Group):
    enabled: bool = True
    """Keep every decision with the whole document it was taken on, for `policy replay`, `policy decisions` and
    `policy blame`. Decisions never wait for it, and go on when it cannot be written."""
    folder: Path | None = None
    """Folder of the log, made with mode 0700; none: `decisions` in the state folder."""
    retention_seconds: Annotated[float, Field(gt=0, le=400 * 86400)] = 30 * 86400
    """A decision is kept this long."""
    max_bytes: Annotated[int, Field(ge=16 << 20, le=1 << 44)] = 2 << 30
    """Most bytes of the log, compressed; beyond it the oldest decisions go first. One takes about 500 bytes."""


class DenyWatchSettings(Group):
    share: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Alarm when, after a reload changed the bundle, the share of denied questions is higher by so much than before:
    0.25 is from 5 % to 30 %. 0: never."""
    least: int = Field(default=20, ge=5, le=1000)
    """So many different questions must have been answered before and after; fewer prove nothing."""
    seconds: Seconds = 3600
    """For how long after a reload it is looked at."""
    rollback: bool = False
    """At the alarm, put the bundle before it in force again, until its folder changes or the daemon is restarted. Who
    can have many jobs denied can bring back laxer rules so: leave it off where that matters more than an outage."""


class PolicySettings(Group):
    bundle: Path | None = None
    """Folder with `.rego` and `data.json` or `data.yaml`; none uses the bundle shipped with the program."""
    engine: Literal["regorus", "opa"] = "regorus"
    """`regorus` runs in this process; `opa` asks an OPA server."""
    opa_url: str = ""
    """Base URL of the OPA server, e.g. `http://127.0.0.1:8181`, when the engine is `opa`."""
    timeout_seconds: Seconds = 5
    """Longest wait for an OPA server's answer; after it the answer is *error*, which denies."""
    candidate: Path | None = None
    """Folder of a bundle that is asked beside the one in force, off the way of jobs. What it would answer differently
    is counted and kept in the log of decisions; nothing comes of it. Loaded again on SIGHUP."""
    decisions: DecisionLogSettings = DecisionLogSettings()
    """The log of decisions."""
    deny_watch: DenyWatchSettings = DenyWatchSettings()
    """Notices a new bundle that denies far more than the one before."""

    @model_validator(mode="after")
    def _opa_needs_url(self) -> PolicySettings:
        if self.engine == "opa" and not self.opa_url.startswith(("http://", "https://")):
            raise ValueError("engine opa needs opa_url, for example http://127.0.0.1:8181")
        return self

    @model_validator(mode="after")
    def _candidate_needs_the_log(self) -> PolicySettings:
        if self.candidate is not None and not self.decisions.enabled:
            raise ValueError("candidate needs decisions.enabled: that log is where its answers are kept")
        return self
