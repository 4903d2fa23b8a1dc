"""What every group of settings is made of."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from orchestrator.model.egress import EgressProtocol
from orchestrator.model.hostname import is_host

Seconds = Annotated[float, Field(gt=0, le=30 * 86400)]
Bytes = Annotated[int, Field(gt=0, le=1 << 44)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


def _host(text: str) -> str:
    if not is_host(text):
        raise ValueError("must be a full host name in lower case, of two labels or more, and no address")
    return text


def _host_or_suffix(text: str) -> str:
    if not is_host(text.removeprefix("*.")):
        raise ValueError("must be a full host name in lower case, of two labels or more, or *.suffix; no address")
    return text


def _address(text: str) -> str:
    try:
        ip_address(text)
    except ValueError:
        raise ValueError("must be one IPv4 or IPv6 address") from None
    return text


HostName = Annotated[str, AfterValidator(_host)]
HostPattern = Annotated[str, AfterValidator(_host_or_suffix)]
Address = Annotated[str, AfterValidator(_address)]


class Group(BaseModel):
    """A frozen table of settings that refuses keys it does not know and never repeats a text in an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


class EgressRuleSettings(Group):
    host: HostPattern
    """Full host name in lower case, never an address, or `*.suffix`."""
    port: int = Field(default=443, ge=1, le=65535)
    """TCP port."""
    protocol: EgressProtocol = EgressProtocol.TLS
    """`tls` (CONNECT, name checked in the SNI) or `http` (plain; for hosts you run yourself)."""
