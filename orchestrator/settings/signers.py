"""Settings of whose signatures under statements about artifacts count, and for what."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, model_validator

from orchestrator.settings.fields import Group, Name

ClaimName = Literal["signature", "sbom", "provenance", "scan"]
Level = Annotated[int, Field(ge=0, le=3)]
ShortText = Annotated[str, Field(min_length=1, max_length=512)]


class SignerSettings(Group):
    """Somebody else whose signed statements about artifacts count. What is not listed for a signer it may not say."""

    key_files: tuple[Path, ...] = Field(min_length=1, max_length=16)
    """PEM files with public keys: ECDSA P-256 or P-384, Ed25519, RSA of at least 2048 bits. Several while a key is
    being replaced. Read again on SIGHUP."""
    may: tuple[ClaimName, ...] = Field(min_length=1, max_length=4)
    """What its statements may be: `signature` (it has signed the artifact), `sbom`, `provenance`, `scan`."""
    builders: dict[ShortText, Level] = Field(default_factory=dict, max_length=100)
    """For `provenance`: the exact ids of the builders it may speak for, each with the SLSA Build level (0 to 3) that
    its provenance is worth here."""
    scanners: tuple[ShortText, ...] = Field(default=(), max_length=100)
    """For `scan`: names of the scanners whose reports it may sign, in lower case, such as `trivy`."""
    external_parameters: tuple[ShortText, ...] | None = Field(default=None, max_length=100)
    """For `provenance`: names of the external parameters that a build may have had; provenance with another one is
    refused. None: all are taken, and policy sees their names."""
    not_before: AwareDatetime | None = None
    """Its word counts from then on, whenever it was signed; RFC 3339 with a zone. None: always."""
    not_after: AwareDatetime | None = None
    """Its word counts no more from then on. None: for ever; an end that is moved on says that somebody still looks."""

    @model_validator(mode="after")
    def _fits_together(self) -> SignerSettings:
        if ("provenance" in self.may) is not bool(self.builders):
            raise ValueError("`builders` and `provenance` in `may` go together: give both or neither")
        if ("scan" in self.may) is not bool(self.scanners):
            raise ValueError("`scanners` and `scan` in `may` go together: give both or neither")
        if self.external_parameters is not None and not self.builders:
            raise ValueError("`external_parameters` are for signers with `builders`")
        if any(name != name.lower() for name in self.scanners):
            raise ValueError("names of `scanners` are in lower case")
        first: datetime | None = self.not_before
        if first is not None and self.not_after is not None and self.not_after <= first:
            raise ValueError("`not_after` must be later than `not_before`")
        return self


class ReporterSettings(Group):
    """Jobs whose reports count although another job built the artifact. Empty: nobody's."""

    pools: tuple[Name, ...] = Field(default=(), max_length=100)
    """Names of pools: whatever runs in them."""
    callers: tuple[ShortText, ...] = Field(default=(), max_length=100)
    """Ids of callers (`caller.id` in policy's input)."""
