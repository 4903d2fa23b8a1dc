"""The credential in a request: one reading, or none."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.egress.http_head import parse_head
from orchestrator.egress.proxy_credential import MAX_CREDENTIAL, credential_digest, presented_digest


def digest_of(*values: str) -> str | None:
    lines = "".join(f"Proxy-Authorization: {value}\r\n" for value in values)
    return presented_digest(parse_head(f"CONNECT a.test:443 HTTP/1.1\r\n{lines}\r\n".encode("latin-1")))


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_none_at_all():
    assert digest_of() is None


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=100))
def test_the_digest_is_that_of_the_credential(credential):
    wanted = hashlib.sha256(credential.encode()).hexdigest()
    assert digest_of(basic(f"runner:{credential}")) == credential_digest(credential) == wanted
    assert digest_of(basic(f"runner:{credential}").replace("Basic ", "bAsIc   ")) == wanted


@pytest.mark.parametrize(
    "values",
    [
        [""],
        ["Basic"],
        [basic("runner:")],
        [basic("runner")],
        [basic("Runner:secret")],
        [basic("")],
        ["Bearer secret"],
        [basic("runner:secret")[:-1] + "*"],
        [basic("runner:secret") + " more"],
        [basic("runner:secret")] * 2,
        [basic("runner:" + "x" * 2 * MAX_CREDENTIAL)],
        ["Basic " + base64.b64encode(b"runner:\xff").decode()],
    ],
)
def test_what_is_none_never_matches(values):
    assert digest_of(*values) == ""


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=80))
def test_any_value_has_a_reading(value):
    found = digest_of(value)
    assert found == "" or len(found) == 64
