"""Which destinations a runner may reach: its rules as one lookup table. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.errors import ConfigurationError, GiveUpError
from orchestrator.model.egress import EgressProtocol, EgressRule
from orchestrator.model.hostname import BadHostError, is_host, normalise_host, printable

CANARY_HOST = "egress-canary.invalid"
"""The name that the agent tries in order to prove that refusal works; `.invalid` never resolves (RFC 6761)."""

DEFAULT_DENY = "default deny"
MAX_RULES = 3000
"""Of one runner; keeps the message that carries them below the control line's limit."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say of one destination.

    `host` is the normalised name when `allowed`, else what was asked for in printable form. `rule` is the rule
    that decided, or `default deny`. `reason` is empty when allowed, else one of `address_literal`, `bad_host`,
    `host_not_listed`, `port_not_listed`, `protocol_not_listed`. `hint` is what to do about a refusal.
    """

    allowed: bool
    host: str
    port: int
    protocol: EgressProtocol
    rule: str
    reason: str = ""
    hint: str = ""

    def __str__(self) -> str:
        word = "allowed" if self.allowed else "blocked"
        return f"{word} {self.host}:{self.port} ({self.protocol.value}) by rule: {self.rule}"


class RuleSet:
    """A runner's rules. An empty set allows nothing."""

    def __init__(self, rules: Sequence[EgressRule]) -> None:
        """Raises ConfigurationError, reason `egress_rule_invalid`, naming the rule that can never match."""
        self._exact: dict[str, list[EgressRule]] = {}
        self._below: dict[str, list[EgressRule]] = {}
        for rule in rules:
            wildcard = rule.host.startswith("*.")
            name = rule.host.removeprefix("*.")
            # `*.com` is a mistake, not a wish; a lone label cannot be asked for at all.
            if not is_host(name) or not 1 <= rule.port <= 65535:
                raise ConfigurationError(
                    f"egress rule {printable(str(rule))} can never match",
                    reason="egress_rule_invalid",
                    fix="write a full host name of two labels or more in lower case, or *.suffix; port 1-65535",
                )
            (self._below if wildcard else self._exact).setdefault(name, []).append(rule)

    def decide(self, raw_host: str, port: int, protocol: EgressProtocol) -> Verdict:
        """The verdict on `raw_host` as the job wrote it. Never raises."""
        try:
            host = normalise_host(raw_host)
        except BadHostError as error:
            hint = (
                "use the host's name: addresses cannot be allowed; give a private one a name in egress.names"
                if error.reason == "address_literal"
                else "use a full host name in ASCII (international names as xn--...)"
            )
            return Verdict(False, printable(raw_host), port, protocol, DEFAULT_DENY, error.reason, hint)
        candidates = self._matching(host)
        for rule in candidates:
            if rule.port == port and rule.protocol is protocol:
                return Verdict(True, host, port, protocol, str(rule))
        if not candidates:
            return Verdict(
                False, host, port, protocol, DEFAULT_DENY, "host_not_listed", allow_line(host, port, protocol)
            )
        nearest = next((rule for rule in candidates if rule.port == port), candidates[0])
        reason = "protocol_not_listed" if nearest.port == port else "port_not_listed"
        return Verdict(False, host, port, protocol, str(nearest), reason, allow_line(host, port, protocol))

    def _matching(self, host: str) -> list[EgressRule]:
        found = list(self._exact.get(host, ()))
        parent = host
        while "." in parent:
            parent = parent.partition(".")[2]
            found += self._below.get(parent, ())
        return found


def check_rules(rules: Sequence[EgressRule]) -> None:
    """A look whether these can be the rules of one runner at all.

    Raises:
        ConfigurationError: reason `egress_rule_invalid`.
        GiveUpError: reason `egress_rules_too_many`.
    """
    RuleSet(rules)
    if len(rules) > MAX_RULES:
        raise GiveUpError(f"more than {MAX_RULES} egress rules", reason="egress_rules_too_many")


NO_RULES = RuleSet(())
"""What applies to a caller that is not known: nothing."""


def allow_line(host: str, port: int, protocol: EgressProtocol) -> str:
    """What to add where the refusal is a mistake."""
    line = f"- {{host: {host}, port: {port}, protocol: {protocol.value}}}"
    return f"add this line to the pool's egress to allow it (policy may still narrow it): {line}"
