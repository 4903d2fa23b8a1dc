"""Settings of the gate in front of a deployment: what is asked about what is to be deployed, and whose word counts."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pydantic import Field, field_validator

from orchestrator.settings.commits import CommitSettings
from orchestrator.settings.fields import Group, Name
from orchestrator.settings.signers import Level, ReporterSettings, ShortText, SignerSettings
from orchestrator.settings.tickets import TicketSettings


class PromotionSettings(Group):
    signers: dict[Name, SignerSettings] = Field(default_factory=dict, max_length=64)
    """Whose signed statements about artifacts count besides the daemon's own, by name. The name is what policy sees."""
    scanners: dict[ShortText, ReporterSettings] = Field(default_factory=dict, max_length=100)
    """Which jobs may report the findings of which scanner (name in lower case, such as `trivy`). No other job's report
    counts, not even that of the job that built the artifact."""
    sbom_reporters: ReporterSettings = ReporterSettings()
    """Jobs whose bills of materials count although another job built the artifact."""
    build_levels: dict[Name, Level] = Field(default_factory=dict, max_length=200)
    """SLSA Build level (0 to 3) that our own provenance is worth, by pool. Default: 3 for pods, 2 for sandboxes, which
    share the daemon's machine; 1 for a job that ran by an exception."""
    previous_keys: tuple[Path, ...] = Field(default=(), max_length=16)
    """PEM files with public halves of evidence keys that this daemon had before: what they signed still counts as its
    own. Read again on SIGHUP."""
    commits: CommitSettings | None = None
    """What GitHub says of the commit behind an artifact. None: policy is told nothing, and rules that need it deny."""
    tickets: TicketSettings | None = None
    """The tracker of release tickets. None: policy is told nothing, and rules that need it deny."""

    @field_validator("signers")
    @classmethod
    def _name_is_free(cls, signers: dict[str, SignerSettings]) -> dict[str, SignerSettings]:
        if "control-plane" in signers:
            raise ValueError("`control-plane` is the daemon itself; give the signer another name")
        return signers

    @field_validator("scanners")
    @classmethod
    def _lower_case(cls, scanners: dict[str, ReporterSettings]) -> dict[str, ReporterSettings]:
        if any(name != name.lower() for name in scanners):
            raise ValueError("names of scanners are in lower case")
        return scanners

    def check_pools(self, pools: Collection[str]) -> None:
        """Raises:
        ValueError: something here names a pool that is none.
        """
        named = [(f"scanners.{name}.pools", one.pools) for name, one in self.scanners.items()]
        named += [("sbom_reporters.pools", self.sbom_reporters.pools), ("build_levels", tuple(self.build_levels))]
        for path, given in named:
            unknown = sorted(set(given) - set(pools))
            if unknown:
                known = ", ".join(sorted(pools))
                raise ValueError(f"promotion.{path} names {unknown[0]!r}, which is no pool; pools: {known}")
