"""What the gateway process is told once, at its start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Limits are per runner unless said otherwise; times are seconds, sizes bytes.

    `names` maps host names to the one IP address they stand for, instead of DNS. `head_timeout_seconds` bounds the
    request head, and after the answer to CONNECT the ClientHello. `uid` is an unused user id to change to when
    started as root, None to stay.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    connect_timeout_seconds: float = 10.0
    idle_timeout_seconds: float = 300.0
    head_timeout_seconds: float = 15.0
    max_connections: int = 256
    max_bytes_up: int = 8 << 30
    max_bytes_down: int = 32 << 30
    uid: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "names": dict(self.names)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> GatewayConfig:
        return cls(**value)
