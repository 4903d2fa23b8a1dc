"""Signing keys over HTTP: for operators only, and never anything private."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.identity.keys import KeyStore
from orchestrator.identity.rotation import RotationSchedule
from orchestrator.server.key_shapes import KeyListView, KeyRevokedView
from orchestrator.server.shapes import ProblemView


@pytest.fixture
def key_folder(tmp_path: Path) -> Path:
    """Of this test alone, which may withdraw what it likes."""
    KeyStore.open(tmp_path / "keys", RotationSchedule(), time.time())
    return tmp_path / "keys"


async def test_an_operator_sees_every_issuers_keys(api):
    async with api.client.get(f"{api.url}/v1/keys", headers=api.operator) as answer:
        assert answer.status == 200
        assert "PRIVATE" not in await answer.text()
        seen = KeyListView.model_validate(await answer.json()).issuers
    assert [one.issuer for one in seen] == ["", "prod"]
    assert {key.kid for key in seen[0].keys} == {key.kid for key in api.issuer.keys.states()}


async def test_nobody_else_sees_or_withdraws_one(api):
    kid = api.issuer.keys.signing_key("ES256").kid
    for method, path in (("GET", "/v1/keys"), ("POST", f"/v1/keys/{kid}/revoke")):
        async with api.client.request(method, api.url + path, headers=api.forge()) as answer:
            assert answer.status == 403
            assert kid not in (await answer.text()).replace(path, "")
            assert ProblemView.model_validate(await answer.json()).reason == "operators_only"
        async with api.client.request(method, api.url + path) as answer:
            assert answer.status == 401
    assert api.issuer.keys.signing_key("ES256").kid == kid


async def test_a_withdrawn_key_leaves_the_key_set_and_its_tokens_are_worth_nothing(api):
    kid, before = api.issuer.keys.signing_key("ES256").kid, api.operator
    for changed in (True, False):
        async with api.client.post(f"{api.url}/v1/keys/{kid}/revoke", headers=api.operator) as answer:
            assert answer.status == 200
            done = KeyRevokedView.model_validate(await answer.json())
        assert (done.kid, done.changed, done.issuer) == (kid, changed, "")
        assert [key.state for key in done.keys if key.kid == kid] == ["revoked"]
    async with api.client.get(f"{api.url}/jwks.json") as answer:
        published = {key["kid"] for key in (await answer.json())["keys"]}
    assert kid not in published
    assert api.issuer.keys.signing_key("ES256").kid in published
    async with api.client.get(f"{api.url}/v1/keys", headers=before) as answer:
        assert answer.status == 401


@pytest.mark.parametrize("kid", ["a" * 43, "x", "%2e%2e%2fissuer"])
async def test_an_unknown_key(api, kid):
    async with api.client.post(f"{api.url}/v1/keys/{kid}/revoke", headers=api.operator) as answer:
        assert answer.status == 404
        assert (await answer.json())["reason"] == "key_unknown"
