"""The request grammar against everything a job can send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.identity.grammar import (
    ID_TOKEN_TYPE,
    JWT_TYPE,
    TOKEN_EXCHANGE,
    ExchangeRefusedError,
    parse_request,
)

GOOD = {
    "grant_type": TOKEN_EXCHANGE,
    "subject_token": "runner-token",
    "subject_token_type": JWT_TYPE,
    "audience": "cloud",
}


def refused(fields) -> ExchangeRefusedError:
    with pytest.raises(ExchangeRefusedError) as caught:
        parse_request(fields)
    return caught.value


def test_a_plain_request():
    request = parse_request(GOOD.items())
    assert (request.subject_token, request.audience, request.issued_token_type) == (
        "runner-token",
        "cloud",
        ID_TOKEN_TYPE,
    )
    assert "runner-token" not in repr(request)


@pytest.mark.parametrize("kind", [JWT_TYPE, "urn:ietf:params:oauth:token-type:access_token"])
def test_subject_token_types(kind):
    assert parse_request((GOOD | {"subject_token_type": kind}).items()).audience == "cloud"


@pytest.mark.parametrize("kind", [JWT_TYPE, ID_TOKEN_TYPE])
def test_requested_token_types(kind):
    assert parse_request((GOOD | {"requested_token_type": kind}).items()).issued_token_type == kind


@pytest.mark.parametrize("role", ["arn:aws:iam::123456789012:role/app", "deploy@p.iam.gserviceaccount.com", "a"])
def test_one_scope_is_the_role_asked_for(role):
    assert parse_request((GOOD | {"scope": role}).items()).role == role
    assert refused([*GOOD.items(), ("scope", role), ("scope", role)]).error == "invalid_request"


def test_unknown_fields_are_ignored_and_empty_ones_absent():
    request = parse_request((GOOD | {"client_note": "hello", "scope": "", "actor_token": "", "resource": ""}).items())
    assert request.audience == "cloud"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": TOKEN_EXCHANGE + " "}, "unsupported_grant_type"),
        ({"grant_type": TOKEN_EXCHANGE.upper()}, "unsupported_grant_type"),
        ({"subject_token": ""}, "invalid_request"),
        ({"subject_token": "x" * 16_385}, "invalid_request"),
        ({"subject_token_type": ""}, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:access_token"}, "invalid_request"),
        ({"actor_token": "someone"}, "invalid_request"),
        ({"actor_token_type": JWT_TYPE}, "invalid_request"),
        ({"scope": "two roles"}, "invalid_scope"),
        ({"scope": "r" * 513}, "invalid_scope"),
        ({"scope": "r\u00f6le"}, "invalid_scope"),
        ({"scope": 'ro"le'}, "invalid_scope"),
        ({"scope": "line\n"}, "invalid_scope"),
        ({"resource": "https://cloud.example"}, "invalid_target"),
        ({"audience": ""}, "invalid_request"),
        ({"audience": "a" * 256}, "invalid_target"),
        ({"audience": "two\nlines"}, "invalid_target"),
        ({"audience": "nul\0"}, "invalid_target"),
        ({"audience": "right-to-left \u202e"}, "invalid_target"),
        ({"audience": "half \ud800"}, "invalid_target"),
        ({"x" * 65: "y"}, "invalid_request"),
        ({"x": "y" * 1025}, "invalid_request"),
    ],
)
def test_each_fault_has_its_error(change, error):
    assert refused((GOOD | change).items()).error == error


@pytest.mark.parametrize("name", [*GOOD, "requested_token_type", "unknown"])
@pytest.mark.parametrize("values", [("same", "same"), ("one", "two"), ("", "late"), ("early", "")])
def test_no_field_comes_twice(name, values):
    fields = [item for item in GOOD.items() if item[0] != name] + [(name, value) for value in values]
    assert refused(fields).error == "invalid_request"
    assert str(refused(fields)).startswith("a field is" if name == "unknown" else f"{name} is")


def test_a_value_that_is_too_long_is_told_by_its_field():
    assert "the value of audience is too long" in str(refused((GOOD | {"audience": "a" * 2000}).items()))
    assert "the value of a field is too long" in str(refused((GOOD | {"other": "a" * 2000}).items()))


def test_two_audiences_are_refused():
    assert refused([*GOOD.items(), ("audience", "cluster")]).error == "invalid_request"


def test_too_many_fields_are_refused_before_they_are_kept():
    assert refused((f"f{i}", "") for i in range(10_000_000)).error == "invalid_request"


names = st.one_of(
    st.sampled_from([*GOOD, "requested_token_type", "scope", "resource", "actor_token"]), st.text(max_size=80)
)
values = st.one_of(st.sampled_from([*GOOD.values(), ID_TOKEN_TYPE, ""]), st.text(max_size=300))


@given(st.lists(st.tuples(names, values), max_size=20))
def test_any_input_is_a_sound_request_or_a_refusal(fields):
    try:
        request = parse_request(fields)
    except ExchangeRefusedError as caught:
        error = caught
    else:
        error = None
    if error is not None:
        assert error.error in {"invalid_request", "unsupported_grant_type", "invalid_scope", "invalid_target"}
        assert error.status == 400
        assert set(error.wire()) == {"error", "error_description"}
        return
    assert [value for name, value in fields if name == "audience"] == [request.audience]
    assert [value for name, value in fields if name == "subject_token"] == [request.subject_token]
    assert not {name for name, value in fields if value} & {"actor_token", "resource"}
    assert [value for name, value in fields if name == "scope" and value] == ([request.role] if request.role else [])
    assert request.role.isascii()
    assert not set(request.role) & set(' \n\r\t\\"')
    assert 0 < len(request.audience) <= 255
