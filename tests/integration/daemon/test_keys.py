"""A signing key is withdrawn in the whole daemon: told first, in force at once, and for good."""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest

from tests.integration.daemon.conftest import AUDIENCE
from tests.integration.daemon.test_audit import checked, records, sick_disk
from tests.integration.daemon.test_trust import IDENTITY, SHOP, write_map

pytestmark = pytest.mark.sandbox

UNTIL_ANOTHER_KEY = rf"""
ask() {{ orchestrator-token --audience {AUDIENCE}; }}
# Turned, so that the log's masker does not know it: the test needs the token.
tell() {{ printf 'turned %s\n' "$1" | tr 'A-Za-z' 'N-ZA-Mn-za-m'; }}
first=$(ask)
tell "$first"
next=$first
while test "${{next%%.*}}" = "${{first%%.*}}"; do sleep 0.3; next=$(ask); done
tell "$next"
sleep 60
"""
"""The part of a token before its first dot has the key's id."""


async def introspected(world: Any, token: str) -> bool:
    async with world.client.post(f"{world.url}/v1/introspect", data={"token": token}) as answer:
        return bool((await answer.json())["active"])


async def revoked(world: Any, kid: str, status: int = 200, headers: dict[str, str] | None = None) -> dict[str, Any]:
    headers = headers or world.operator
    async with world.client.post(f"{world.url}/v1/keys/{kid}/revoke", headers=headers) as answer:
        assert answer.status == status, await answer.text()
        document: dict[str, Any] = await answer.json()
        return document


async def tokens_of(world: Any, job_id: Any) -> AsyncIterator[str]:
    """The tokens that the job prints, as it does."""
    url = f"{world.url}/v1/jobs/{job_id}/log?follow=true"
    async with asyncio.timeout(60), world.client.get(url, headers=world.operator) as answer:
        async for line in answer.content:
            word, _, token = codecs.decode(line.decode().strip(), "rot13").partition(" ")
            if word == "turned":
                yield token


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


@pytest.mark.parametrize("name", ["", "staging"])
async def test_a_withdrawn_key_is_worth_nothing_at_once_and_after_a_restart(open_world, tmp_path, name):
    identity = write_map(tmp_path) if name else IDENTITY
    path = f"/issuers/{name}" if name else ""
    async with open_world(identity=identity) as world:
        spec = {"deployment_environment": "staging"} if name else {}
        job_id = await world.offer("two tokens", UNTIL_ANOTHER_KEY, SHOP, **spec)
        tokens = tokens_of(world, job_id)
        first = await anext(tokens)
        gone = kid_of(first)
        assert await introspected(world, first)
        done = await revoked(world, gone)
        assert (done["issuer"], done["url"], done["changed"]) == (name, world.url + path, True)
        assert not await introspected(world, first)
        published = jwt.PyJWKSet.from_json(await world.get(f"{path}/jwks.json"))
        assert gone not in {key.key_id for key in published.keys}

        second = await anext(tokens)
        assert kid_of(second) != gone
        assert await introspected(world, second)
        claims = jwt.decode(second, published[kid_of(second)], audience=AUDIENCE, algorithms=["RS256"])
        assert claims["iss"] == world.url + path
        await tokens.aclose()
        await world.rooms.engine.cancel(job_id, "test")
        await world.finished(job_id)
        assert (await revoked(world, gone))["changed"] is False
        state = world.state
    about = [one for one in records(state) if one["kind"] in ("keys.revoked", "keys.rotated")]
    assert [one["kind"] for one in about] == ["keys.revoked", "keys.rotated"]
    assert about[0]["data"] == {"issuer": name, "kid": gone, "algorithm": "RS256", "state": "active"}
    assert about[0]["actor"] == about[1]["actor"] != "daemon"
    assert about[0]["actor"].startswith("hmac-sha256:")
    assert about[1]["data"]["created"] == ["RS256 active"]
    checked(state)

    async with open_world(identity=identity) as world:
        listed = {one["issuer"]: one["keys"] for one in json.loads(await world.get("/v1/keys"))["issuers"]}
        assert [key["state"] for key in listed[name] if key["kid"] == gone] == ["revoked"]
        assert [key["kid"] for key in listed[name] if (key["state"], key["algorithm"]) == ("active", "RS256")] == [
            kid_of(second)
        ]
        assert gone not in await world.get(f"{path}/jwks.json")
        assert (await revoked(world, gone))["changed"] is False
        assert (await revoked(world, "A" * 43, 404))["reason"] == "key_unknown"


async def test_the_command_lines_own_token_goes_on(world):
    old = world.operator
    kid = world.rooms.issuer.keys.signing_key("ES256").kid
    await revoked(world, kid, headers=old)
    assert (await revoked(world, kid, 401, headers=old))["reason"] == "signature_invalid"
    renewed = {"Authorization": f"Bearer {(world.state / 'caller-token').read_text()}"}
    assert (await revoked(world, kid, headers=renewed))["changed"] is False


async def test_a_rotation_is_told_before_it_happens_and_breaks_nobodys_token(open_world):
    async with open_world(identity=IDENTITY) as world:
        old, keys = world.operator, world.rooms.issuer.keys
        kid = keys.signing_key("ES256").kid
        async with world.client.post(f"{world.url}/v1/keys/rotate?issuer={world.url}", headers=old) as answer:
            (done,) = (await answer.json())["issuers"]
        assert done["changed"]
        assert done["signs_at"]
        assert keys.signing_key("ES256").kid == kid
        async with world.client.post(
            f"{world.url}/v1/keys/rotate?issuer={world.url}&at_once=true", headers=old
        ) as answer:
            (done,) = (await answer.json())["issuers"]
        assert done["signs_at"] is None
        assert keys.signing_key("ES256").kid != kid
        assert kid in await world.get("/jwks.json")
        assert (await revoked(world, "A" * 43, 404, headers=old))["reason"] == "key_unknown", "the old token counts"
        state = world.state
    about = [one for one in records(state) if one["kind"] in ("keys.rotation_asked", "keys.rotated")]
    assert [one["kind"] for one in about] == ["keys.rotation_asked", "keys.rotated"] * 2
    assert [one["data"]["at_once"] for one in about[::2]] == [False, True]
    assert {one["actor"] for one in about} == {about[0]["actor"]}
    assert about[0]["actor"].startswith("hmac-sha256:")
    assert about[1]["data"]["created"] == ["RS256 next", "ES256 next"]
    assert len(about[3]["data"]["activated"]) == len(about[3]["data"]["retired"]) == 2
    checked(state)
    async with open_world(identity=IDENTITY) as world:
        assert kid in await world.get("/jwks.json")


@pytest.mark.slow
async def test_nothing_is_withdrawn_that_cannot_be_told(world, monkeypatch):
    kid = world.rooms.issuer.keys.signing_key("RS256").kid
    with sick_disk(monkeypatch):
        await world.offer("finds out", "true")
        await world.until(lambda: not world.rooms.audit.log.healthy)
        assert (await revoked(world, kid, 503))["reason"] == "audit_unavailable"
        async with world.client.post(f"{world.url}/v1/keys/rotate", headers=world.operator) as answer:
            assert (answer.status, (await answer.json())["reason"]) == (503, "audit_unavailable")
        assert len(world.rooms.issuer.keys.states()) == 2
        assert world.rooms.issuer.keys.publishes(kid)
    await world.until(lambda: world.rooms.audit.log.healthy)
    assert (await revoked(world, kid))["changed"] is True
