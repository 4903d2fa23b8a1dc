"""Settings of the audit log, and of the places that keep its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from orchestrator.settings.fields import Group, Seconds


class HttpAnchorSettings(Group):
    """An address that takes checkpoints and answers 2xx once it keeps them."""

    url: str
    """Where each checkpoint is sent as `text/plain`. Over plain http no secret is sent but to this machine. All but
    its query stands in metrics: a secret belongs into `headers_file`."""
    method: Literal["POST", "PUT"] = "POST"
    """Method of the request."""
    headers_file: Path | None = None
    """File with lines `Name: value` for the request, such as `Authorization: Bearer …`; read anew each time."""
    ca_file: Path | None = None
    """PEM file of certificates to trust besides the system's."""


class ObjectStoreAnchorSettings(Group):
    """A bucket of an S3-compatible store; each checkpoint is an object of its own."""

    url: str
    """The bucket's address with or without a prefix, such as `https://s3.example/bucket/audit`."""
    region: str = Field(default="us-east-1", pattern=r"^[a-z0-9-]{1,64}$")
    """Region that requests are signed for."""
    credentials_file: Path
    """File in the form of AWS's shared credentials, profile `default`; read anew each time. The right to put objects
    is enough."""
    ca_file: Path | None = None
    """PEM file of certificates to trust besides the system's."""


class AuditAnchorSettings(Group):
    """A place that this machine cannot change, and which keeps checkpoints: exactly one of the three."""

    file: Path | None = None
    """File that checkpoints are appended to: on another machine's share, or append-only (`chattr +a`)."""
    http: HttpAnchorSettings | None = None
    """Address that checkpoints are sent to."""
    object_store: ObjectStoreAnchorSettings | None = None
    """Bucket that checkpoints are put into."""

    @model_validator(mode="after")
    def _one_of_them(self) -> AuditAnchorSettings:
        given = [name for name in ("file", "http", "object_store") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("needs exactly one of file, http and object_store")
        return self


class AuditSettings(Group):
    enabled: bool = True
    """Write every decision, token and end into the audit log before anything follows from it."""
    folder: Path | None = None
    """Folder of the log, made with mode 0700; none: `audit` in the state folder."""
    checkpoint_seconds: Seconds = 10
    """A record is covered by a signed checkpoint, and on its way to the anchors, after so long at most."""
    checkpoint_records: int = Field(default=1000, ge=1, le=1_000_000)
    """The same by number: so many records at most are not covered yet."""
    anchors: tuple[AuditAnchorSettings, ...] = Field(default=(), max_length=8)
    """Where checkpoints are kept. Without one, who can write the folder can cut the log off unseen, and who has its key
    too can rewrite it."""
    anchor_required_seconds: Annotated[float, Field(ge=0, le=30 * 86400)] = 0
    """When no anchor has accepted the newest checkpoint for so long, no new job is admitted and no token is issued,
    with the reason `audit_unanchored`; at least 5. 0: jobs go on, and metrics and readiness tell."""

    @field_validator("anchor_required_seconds")
    @classmethod
    def _longer_than_a_try(cls, value: float) -> float:
        if 0 < value < 5:
            raise ValueError("must be 0, or 5 or more: an anchor is given that long for one try")
        return value

    @model_validator(mode="after")
    def _required_of_somebody(self) -> AuditSettings:
        if self.anchor_required_seconds and not (self.enabled and self.anchors):
            raise ValueError("anchor_required_seconds needs the audit log to be enabled and at least one of anchors")
        return self
