"""From the bytes of a request to what shall become of it. Pure.

CONNECT asks for a `tls` rule, and what then goes through the tunnel must be TLS to that very name. An absolute
`http://` request asks for an `http` rule, and exactly one request goes to the destination. CONNECT to a host that
only an `http` rule lists is refused: nothing we could check would keep the tunnel on that host.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.egress.http_body import BodyFramer
from orchestrator.egress.http_head import (
    RequestHead,
    connect_destination,
    find_head,
    forwarded_head,
    framing,
    http_destination,
    parse_head,
)
from orchestrator.egress.rules import RuleSet, Verdict
from orchestrator.model.egress import EgressProtocol


@dataclass(frozen=True, slots=True)
class Request:
    """`body` is None for a tunnel; `head` is what the destination gets before the body of a plain request."""

    verdict: Verdict
    body: BodyFramer | None = None
    head: bytes = b""


def take_head(buffer: bytearray) -> RequestHead | None:
    """The request head at the start of `buffer`, taken out of it; None while it is not complete.

    Raises:
        HeadError: it is none that we answer.
    """
    length = find_head(buffer)
    if not length:
        return None
    head = parse_head(bytes(buffer[:length]))
    del buffer[:length]
    return head


def judge(head: RequestHead, rules: RuleSet) -> Request:
    """What `rules` make of a request.

    Raises:
        HeadError: it is none that we answer.
    """
    if head.method == "CONNECT":
        wanted = connect_destination(head)
        return Request(rules.decide(wanted.host, wanted.port, EgressProtocol.TLS))
    wanted, body = http_destination(head), framing(head)
    verdict = rules.decide(wanted.host, wanted.port, EgressProtocol.HTTP)
    if not verdict.allowed:
        return Request(verdict, BodyFramer(body))
    forwarded = forwarded_head(head, verdict.host, verdict.port, wanted.path, body)
    return Request(verdict, BodyFramer(body), forwarded)
