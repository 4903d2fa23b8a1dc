from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.decision import Stage
from orchestrator.model.egress import EgressProtocol, EgressRule
from orchestrator.model.pool import Pool
from orchestrator.policy.document import EgressDocument, ObligationsDocument
from orchestrator.policy.obligations import bind_obligations, narrow

R = EgressRule


def test_policy_narrows_and_never_widens() -> None:
    pool = (R("*.example.com"), R("git.example.org"))
    assert narrow(pool, [R("api.example.com")]) == (R("api.example.com"),)
    assert narrow(pool, [R("git.example.org")]) == (R("git.example.org"),)
    assert narrow(pool, [R("evil.example.net")]) == ()
    assert narrow(pool, [R("example.com")]) == ()
    assert narrow(pool, [R("notexample.com"), R("api.example.com.evil.net")]) == ()
    assert narrow(pool, []) == ()


def test_of_two_patterns_the_narrower_one_stays() -> None:
    assert narrow([R("*.example.com")], [R("*.a.example.com")]) == (R("*.a.example.com"),)
    assert narrow([R("*.a.example.com")], [R("*.example.com")]) == (R("*.a.example.com"),)
    assert narrow([R("api.example.com")], [R("*.example.com")]) == (R("api.example.com"),)
    assert narrow([R("*.example.com")], [R("*.com")]) == (R("*.example.com"),)


def test_port_and_protocol_must_be_equal() -> None:
    pool = [R("a.example", 443, EgressProtocol.TLS)]
    assert narrow(pool, [R("a.example", 8443)]) == ()
    assert narrow(pool, [R("a.example", 443, EgressProtocol.HTTP)]) == ()


_LABELS = st.sampled_from(["a", "b", "com"])
_NAMES = st.lists(_LABELS, min_size=1, max_size=4).map(".".join)
_RULES = st.lists(
    st.builds(R, _NAMES | _NAMES.map("*.{}".format), st.sampled_from([80, 443]), st.sampled_from(EgressProtocol)),
    max_size=5,
)


def matches(rules: tuple[EgressRule, ...] | list[EgressRule], target: EgressRule) -> bool:
    """By the model's words: a full name, or `*.suffix`, which does not match the suffix itself."""
    return any(
        (rule.port, rule.protocol) == (target.port, target.protocol)
        and (target.host.endswith(rule.host[1:]) if rule.host.startswith("*.") else target.host == rule.host)
        for rule in rules
    )


@given(_RULES, _RULES, st.builds(R, _NAMES, st.sampled_from([80, 443]), st.sampled_from(EgressProtocol)))
def test_exactly_what_both_allow(pool: list[EgressRule], wanted: list[EgressRule], target: EgressRule) -> None:
    assert matches(narrow(pool, wanted), target) == (matches(pool, target) and matches(wanted, target))


def test_absent_egress_is_the_pools_and_an_empty_list_is_none(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool()
    assert bind_obligations(ObligationsDocument(), pool, Stage.ADMISSION).egress == pool.egress
    assert bind_obligations(ObligationsDocument(egress=[]), pool, Stage.ADMISSION).egress == ()
    narrowed = ObligationsDocument(egress=[EgressDocument("x.example.com"), EgressDocument("other.example")])
    assert bind_obligations(narrowed, pool, Stage.ADMISSION).egress == (R("x.example.com"),)
    assert bind_obligations(ObligationsDocument(), pool, Stage.EXCHANGE).egress == ()


def test_the_pools_duration_is_the_most(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(max_job_seconds=100)
    assert bind_obligations(ObligationsDocument(), pool, Stage.ADMISSION).max_duration_seconds is None
    for wanted, got in ((50, 50), (500, 100)):
        document = ObligationsDocument(max_duration_seconds=wanted)
        assert bind_obligations(document, pool, Stage.ADMISSION).max_duration_seconds == got
