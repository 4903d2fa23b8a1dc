from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.egress.ledger import (
    FIRST_FLUSH_SECONDS,
    MAX_DETAILED,
    MAX_SAME,
    MAX_SUMS,
    OTHERS,
    VerdictLedger,
)
from orchestrator.egress.rules import CANARY_HOST
from orchestrator.model.events import EgressDecided


def verdict(host: str, *, allowed: bool = False, reason: str = "host_not_listed", up: int = 0, canary: bool = False):
    return EgressDecided(
        host=host, port=443, protocol="tls", allowed=allowed, rule="r", reason=reason, bytes_up=up, canary=canary
    )


def test_the_first_ones_are_told_in_full():
    ledger = VerdictLedger(0)
    told = [ledger.add(verdict("a.test", up=i)) for i in range(MAX_SAME + 3)]
    assert [v.bytes_up for v in told if v] == list(range(MAX_SAME))
    (rest,) = ledger.flush(0)
    assert (rest.host, rest.connections, rest.bytes_up) == ("a.test", 3, sum(range(MAX_SAME, MAX_SAME + 3)))
    assert list(ledger.flush(0)) == []


def test_a_flood_of_names_is_bounded_and_counted():
    ledger = VerdictLedger(0)
    told = [v for i in range(5000) if (v := ledger.add(verdict(f"h{i}.test")))]
    sums = list(ledger.flush(0))
    assert len(told) == MAX_DETAILED
    assert len(sums) == MAX_SUMS + 1
    assert sum(v.connections for v in told + sums) == 5000
    assert sums[-1].host == OTHERS


def test_the_canary_is_told_also_after_a_flood():
    ledger = VerdictLedger(0)
    for i in range(1000):
        ledger.add(verdict(f"h{i}.test"))
    assert ledger.add(verdict(CANARY_HOST, canary=True)) is not None


def test_sums_leave_at_growing_intervals():
    ledger, flushed = VerdictLedger(0), []
    for second in range(7 * 86400 // 10):
        now = second * 10.0
        ledger.add(verdict("a.test"))
        if ledger.due(now):
            flushed.append(now)
            list(ledger.flush(now))
    assert flushed[0] >= FIRST_FLUSH_SECONDS
    assert len(flushed) < 16


@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.booleans(), st.integers(0, 9), st.sampled_from(["a", "b"]), st.booleans()),
        max_size=600,
    )
)
def test_nothing_goes_uncounted(items):
    ledger, out, expected = VerdictLedger(0), [], Counter()
    for host, allowed, up, reason, flush in items:
        made = verdict(f"h{host}.test", allowed=allowed, reason=reason, up=up)
        expected[allowed, reason] += 1
        expected["up"] += up
        if (told := ledger.add(made)) is not None:
            out.append(told)
        if flush:
            out += ledger.flush(0)
    out += ledger.flush(0)
    found = Counter()
    for made in out:
        found[made.allowed, made.reason] += made.connections
        found["up"] += made.bytes_up
    assert +found == +expected
