"""Signing keys over HTTP: for operators only, and never anything private."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.identity.keys import KeyStore
from orchestrator.identity.rotation import RotationSchedule
from orchestrator.server.keys.shapes import KeyListView, KeyRevokedView, KeysRotatedView
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
    for method, path in (("GET", "/v1/keys"), ("POST", f"/v1/keys/{kid}/revoke"), ("POST", "/v1/keys/rotate")):
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


async def rotated(api, query: str = "", status: int = 200) -> dict[str, object]:
    async with api.client.post(f"{api.url}/v1/keys/rotate{query}", headers=api.operator) as answer:
        assert answer.status == status, await answer.text()
        document: dict[str, object] = await answer.json()
        return document


async def test_a_rotation_is_published_before_it_signs_and_asking_again_is_without_effect(api):
    before = {key.kid for key in api.issuer.keys.states()}
    for changed in (True, False):
        done = KeysRotatedView.model_validate(await rotated(api, f"?issuer={api.issuer.url}")).issuers
        assert [(one.issuer, one.changed, bool(one.signs_at)) for one in done] == [("", changed, True)]
        assert [key.kid for key in done[0].keys if key.state == "active"] == [
            api.issuer.keys.signing_key(algorithm).kid for algorithm in ("RS256", "ES256")
        ]
    async with api.client.get(f"{api.url}/jwks.json") as answer:
        published = {key["kid"] for key in (await answer.json())["keys"]}
    assert before < published
    assert len(published) == 4


async def test_at_once_new_keys_sign_and_tokens_of_the_old_ones_go_on(api):
    kid, operator = api.issuer.keys.signing_key("ES256").kid, api.operator
    (done,) = KeysRotatedView.model_validate(await rotated(api, f"?at_once=true&issuer={api.issuer.url}")).issuers
    assert (done.issuer, done.changed, done.signs_at) == ("", True, None)
    assert api.issuer.keys.signing_key("ES256").kid != kid
    async with api.client.get(f"{api.url}/v1/keys", headers=operator) as answer:
        assert answer.status == 200
    everyone = KeysRotatedView.model_validate(await rotated(api)).issuers
    assert [one.issuer for one in everyone] == ["", "prod"]


async def test_a_rotation_of_nobodys_keys_or_of_too_many(api):
    assert (await rotated(api, "?issuer=nobody", 404))["reason"] == "key_issuer_unknown"
    assert (await rotated(api, "?at_once=yes", 400))["reason"] == "query_invalid"
    for _ in range(8):
        await rotated(api, "?at_once=true&issuer=prod")
    assert (await rotated(api, "?at_once=true&issuer=prod", 409))["reason"] == "keys_too_many"


@pytest.mark.parametrize("kid", ["a" * 43, "x", "%2e%2e%2fissuer"])
async def test_an_unknown_key(api, kid):
    async with api.client.post(f"{api.url}/v1/keys/{kid}/revoke", headers=api.operator) as answer:
        assert answer.status == 404
        assert (await answer.json())["reason"] == "key_unknown"
