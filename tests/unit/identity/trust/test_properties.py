"""What holds for every map and every job."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ConfigurationError
from orchestrator.identity.trust.answers import Grant, Refusal
from orchestrator.identity.trust.checks import check
from orchestrator.identity.trust.difference import diff
from orchestrator.identity.trust.reading import document
from orchestrator.identity.trust.strict import Place
from orchestrator.identity.trust.trust_map import TrustMap
from tests.unit.identity.trust.slow_map import holds, slow_answer

AUDIENCES = ("https://a.example", "https://b.example")
ROLES = ("read", "write", "admin")
VALUES = {
    "repository_id": ("1", "2"),
    "repository_owner_id": ("8", "9"),
    "caller": ("0" * 16, "1" * 16),
    "caller_issuer": ("https://x.example", "https://y.example"),
    "ref": ("refs/heads/main", "refs/heads/release/1", "refs/tags/v1", "refs/heads/main\n"),
    "ref_protected": ("true", "false"),
    "trust_tier": ("standard", "protected"),
    "stage": ("build", "deploy;now"),
}
GLOBS = ("refs/heads/*", "refs/**", "**/main", "*", "**1")


@st.composite
def conditions(draw, claim):
    values = [value for value in VALUES[claim] if value.isprintable()]
    forms = [
        st.sampled_from(values).map(lambda value: {"equals": value}),
        st.lists(st.sampled_from(values), min_size=1, unique=True).map(lambda found: {"one_of": found}),
    ]
    if claim in ("ref", "stage", "repository_id"):
        forms.append(st.sampled_from(GLOBS).map(lambda pattern: {"matches": pattern}))
    return draw(st.one_of(forms))


def exact(claim):
    return conditions(claim).filter(lambda condition: "matches" not in condition)


@st.composite
def grants(draw, name):
    pin = draw(st.sampled_from(["repository_id", "repository_owner_id", "caller"]))
    when = {pin: draw(exact(pin))}
    for claim in VALUES:
        if claim not in when and draw(st.booleans()) and draw(st.booleans()):
            when[claim] = draw(conditions(claim))
    if pin == "caller" and "caller_issuer" not in when:
        when["caller_issuer"] = draw(conditions("caller_issuer"))
    made = {
        "name": name,
        "when": dict(draw(st.permutations(list(when.items())))),
        "target": draw(st.sampled_from(["a", "b"])),
        "max_ttl_seconds": draw(st.sampled_from([60, 300])),
    }
    roles = draw(st.lists(st.sampled_from(ROLES), max_size=2, unique=True))
    if roles:
        made["roles"] = roles
    if draw(st.booleans()):
        made["session_tags"] = {"ref": {"claim": draw(st.sampled_from(["ref_protected", "repository_id", "sha"]))}}
    return made


@st.composite
def contents(draw, environment):
    names = [f"g{number}" for number in range(draw(st.integers(0, 4)))]
    return {
        "trust_map": 1,
        "environment": environment,
        "shared_roles": list(ROLES),
        "targets": {name: {"kind": "oidc", "audience": AUDIENCES[index]} for index, name in enumerate("ab")},
        "grants": [draw(grants(name)) for name in names],
    }


facts = st.fixed_dictionaries(
    {},
    optional={claim: st.sampled_from((*values, "")) for claim, values in VALUES.items()}
    | {
        "environment": st.sampled_from(["", "staging", "prod", "qa"]),
        "trust_tier": st.sampled_from(["untrusted", "standard", "protected", ""]),
        "sha": st.sampled_from(["a1", "a;1", ""]),
    },
)
audiences = st.sampled_from((*AUDIENCES, "https://c.example"))
roles = st.sampled_from(("", *ROLES, "other"))


def unchecked(*several) -> TrustMap:
    return TrustMap(document(content, Place(f"{content['environment']}.yaml")) for content in several)


def fast_answer(trust_map: TrustMap, job, audience, role) -> tuple[str, ...]:
    answer = trust_map.grant(job, audience, role)
    return ("granted", answer.rule, answer.role) if isinstance(answer, Grant) else (answer.code,)


@given(contents("prod"), contents(""), facts, audiences, roles)
def test_a_compiled_map_says_what_the_slow_one_says(prod, build, job, audience, role):
    assert fast_answer(unchecked(prod, build), job, audience, role) == slow_answer([prod, build], job, audience, role)


@st.composite
def fitting(draw, content):
    """A job that is close to some grant: each claim it names has a value that it wants, or may have."""
    grant = draw(st.sampled_from(content["grants"]))
    job = {"environment": content["environment"], "trust_tier": "protected", "sha": "a1", "ref_protected": "true"}
    for claim, condition in grant["when"].items():
        good = [value for value in VALUES[claim] if holds(condition, value)] or [""]
        job[claim] = draw(st.sampled_from(good))
    audience = content["targets"][grant["target"]]["audience"]
    return job, audience, draw(st.sampled_from(("", *grant.get("roles", ()))))


@given(contents("prod").filter(lambda content: content["grants"]).flatmap(
    lambda content: st.tuples(st.just(content), fitting(content), facts)))  # fmt: skip
def test_the_two_agree_also_on_jobs_that_nearly_match(drawn):
    content, (job, audience, role), other = drawn
    trust_map = unchecked(content)
    assert fast_answer(trust_map, job, audience, role) == slow_answer([content], job, audience, role)
    for claim in (*job, *other):
        changed = job | {claim: other.get(claim, "")}
        assert fast_answer(trust_map, changed, audience, role) == slow_answer([content], changed, audience, role)


@given(contents("prod").filter(lambda content: content["grants"]).flatmap(
    lambda content: st.tuples(st.just(content), fitting(content), facts)))  # fmt: skip
def test_no_job_is_granted_what_has_a_condition_that_does_not_hold(drawn):
    content, (job, audience, role), other = drawn
    trust_map = unchecked(content)
    by_rule = {grant.rule: grant for grant in trust_map.documents[0].grants}
    for each in (job, job | other):
        answer = trust_map.grant(each, audience, role)
        if isinstance(answer, Refusal):
            continue
        written = next(one for one in content["grants"] if f"prod/{one['name']}" == answer.rule)
        assert all(holds(condition, each.get(claim, "")) for claim, condition in written["when"].items())
        assert each["trust_tier"] in ("standard", "protected")
        assert each["environment"] == "prod"
        assert answer.role in written.get("roles", [""])
        assert answer.max_ttl_seconds == written["max_ttl_seconds"]
        assert all(one.holds(each) for one in by_rule[answer.rule].conditions)


@given(contents("prod"), contents("staging"), contents("staging"), facts, audiences, roles)
def test_an_edit_of_staging_changes_no_answer_for_prod(prod, staging, edited, job, audience, role):
    """M-98: not the grant, nor a word of the refusal or of the explanation."""
    job = job | {"environment": "prod"}
    before, after, alone = unchecked(prod, staging), unchecked(edited, prod), unchecked(prod)
    assert before.grant(job, audience, role) == after.grant(job, audience, role) == alone.grant(job, audience, role)
    told = [each.explain(job, audience, role) for each in (before, after)]
    assert told[0].answer == told[1].answer
    assert told[0].candidates == told[1].candidates


@given(contents("prod").flatmap(lambda content: st.tuples(st.just(content), facts)), audiences, roles)
def test_an_answer_is_the_same_as_its_explanation(drawn, audience, role):
    content, job = drawn
    told = unchecked(content).explain(job, audience, role)
    fit = [one for one in told.candidates if one.matched and (role in one.roles if role else True)]
    assert isinstance(told.answer, Refusal) or [one.rule for one in fit] == [told.answer.rule]


@st.composite
def twins(draw):
    """A document of two grants for one identity and audience, and a job that is made to match both if any can."""
    first, second = (draw(grants(name)) for name in ("g0", "g1"))
    first["when"]["repository_id"] = {"equals": "1"}
    second["when"]["repository_id"] = {"one_of": ["1", "2"]}
    first["target"] = second["target"] = "a"
    content = draw(contents("prod")) | {"grants": [first, second]}
    job = {"environment": "prod", "trust_tier": "protected", "sha": "a1", "ref_protected": "true"}
    for claim in {**first["when"], **second["when"]}:
        wanted = [one["when"][claim] for one in (first, second) if claim in one["when"]]
        good = [value for value in VALUES[claim] if all(holds(condition, value) for condition in wanted)]
        job[claim] = draw(st.sampled_from(good or [""]))
    return content, job, draw(st.sampled_from(("", *first.get("roles", ()), *second.get("roles", ()))))


@given(twins())
def test_a_map_that_passed_the_checks_is_never_ambiguous(drawn):
    content, job, role = drawn
    made = document(content, Place("prod.yaml"))
    answer = TrustMap([made]).grant(job, AUDIENCES[0], role)
    try:
        check([made])
    except ConfigurationError:
        return
    assert not (isinstance(answer, Refusal) and answer.code == "trust_ambiguous")


@given(twins())
def test_two_grants_that_some_job_meets_are_refused_unless_their_roles_part_them(drawn):
    content, *_ = drawn
    first, second = content["grants"]
    roles = set(first.get("roles", ())), set(second.get("roles", ()))
    apart = all(roles) and not roles[0] & roles[1]
    wanted = {claim: [one["when"][claim] for one in (first, second) if claim in one["when"]] for claim in VALUES}
    meet = all(
        any(all(holds(condition, value) for condition in wanted[claim]) for value in values)
        for claim, values in VALUES.items()
    )
    if apart or not meet:
        return
    with pytest.raises(ConfigurationError, match=r"both match|same conditions"):
        check([document(content, Place("prod.yaml"))])


@st.composite
def edits(draw):
    """A document of one grant, and another that is made from it by changing what it says in one or two places."""
    old = draw(contents("prod")) | {"grants": [draw(grants("g"))]}
    new = copy.deepcopy(old)
    grant = new["grants"][0]
    for _ in range(draw(st.integers(1, 2))):
        how = draw(st.sampled_from(["condition", "condition", "drop", "ttl", "roles", "tag"]))
        claim = draw(st.sampled_from(["ref", "stage", "ref_protected", "trust_tier", "caller_issuer", "repository_id"]))
        if how == "condition":
            grant["when"][claim] = draw(exact(claim) if claim == "repository_id" else conditions(claim))
        elif how == "drop" and claim not in ("repository_id", "caller_issuer"):
            grant["when"].pop(claim, None)
        elif how == "ttl":
            grant["max_ttl_seconds"] = draw(st.sampled_from([30, 60, 300]))
        elif how == "roles":
            grant["roles"] = draw(st.lists(st.sampled_from(ROLES), min_size=1, max_size=2, unique=True))
        else:
            grant["session_tags"] = {"ref": {"claim": draw(st.sampled_from(["ref_protected", "repository_id", "sha"]))}}
    return old, new


@given(edits().flatmap(lambda pair: st.tuples(st.just(pair), fitting(pair[1]))))
def test_a_change_that_does_not_widen_grants_nothing_new(drawn):
    (old, new), (job, audience, role) = drawn
    if diff(unchecked(old), unchecked(new)).widens:
        return
    answer = unchecked(new).grant(job, audience, role)
    if isinstance(answer, Grant):
        was = unchecked(old).grant(job, audience, answer.role)
        assert isinstance(was, Grant)
        assert answer.max_ttl_seconds <= was.max_ttl_seconds
        assert answer.session_tags == was.session_tags
