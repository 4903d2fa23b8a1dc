"""What every group of settings is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.model.egress import EgressProtocol

Seconds = Annotated[float, Field(gt=0, le=30 * 86400)]
Bytes = Annotated[int, Field(gt=0, le=1 << 44)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
HostPattern = Annotated[str, Field(pattern=r"^(\*\.)?[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9])?$")]


class Group(BaseModel):
    """A frozen table of settings that refuses keys it does not know and never repeats a text in an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


class EgressRuleSettings(Group):
    host: HostPattern
    """Host name in lower case, or `*.suffix`."""
    port: int = Field(default=443, ge=1, le=65535)
    """TCP port."""
    protocol: EgressProtocol = EgressProtocol.TLS
    """`tls` (CONNECT, name checked in the SNI) or `http` (plain; for hosts you run yourself)."""
