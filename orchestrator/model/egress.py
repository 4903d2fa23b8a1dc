"""What a runner may reach, and what became of each attempt."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EgressProtocol(StrEnum):
    """How a host may be spoken to: TLS by CONNECT with its name in the SNI, or plain HTTP."""

    TLS = "tls"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class EgressRule:
    """One allowed destination. `host` is a full name or `*.suffix` (which does not match the suffix itself)."""

    host: str
    port: int = 443
    protocol: EgressProtocol = EgressProtocol.TLS

    def __str__(self) -> str:
        return f"{self.protocol.value}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class EgressProof:
    """What the agent saw when it tried what must fail, before it asked for work.

    `denied` are the probes that failed as they must, `reached` those that got through: one is enough to
    refuse the claim where the pool demands proof.
    """

    denied: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return bool(self.denied) and not self.reached
