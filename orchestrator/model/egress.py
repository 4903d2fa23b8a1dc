"""What a runner may reach, and what became of each attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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


def narrow(limits: Sequence[EgressRule], wanted: Sequence[EgressRule]) -> tuple[EgressRule, ...]:
    """The destinations that both lists allow, in order of `wanted` and each once.

    A host within a `*.suffix` of the other list stays; of two suffixes the longer one stays.
    """
    cut: dict[EgressRule, None] = {}
    for rule in wanted:
        for limit in limits:
            if (rule.port, rule.protocol) == (limit.port, limit.protocol):
                if _within(rule.host, limit.host):
                    cut[rule] = None
                elif _within(limit.host, rule.host):
                    cut[limit] = None
    return tuple(cut)


def _within(host: str, pattern: str) -> bool:
    """Whether everything that `host` (a name or a pattern) matches is matched by `pattern`."""
    return host == pattern or (pattern.startswith("*.") and host.removeprefix("*").endswith(pattern[1:]))


@dataclass(frozen=True, slots=True)
class EgressProof:
    """What the agent saw when it tried what must fail, before it asked for work.

    `denied` are the probes that failed as they must, `reached` those that got through: one is enough to
    refuse the claim where the pool demands proof.

    The times are when the agent began, when it began to try and when it had tried all (Unix time by our own clock,
    from how long ago the agent says each was); 0 where it does not say. Proofs are equal when they saw the same.
    """

    denied: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()
    agent_began_ns: int = field(default=0, compare=False)
    began_ns: int = field(default=0, compare=False)
    ended_ns: int = field(default=0, compare=False)

    @property
    def holds(self) -> bool:
        return bool(self.denied) and not self.reached
