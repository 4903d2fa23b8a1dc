"""Issuers of their own in the whole daemon: found by their URL, with keys that outlive a restart, and apart."""

from __future__ import annotations

import json
import stat
from contextlib import AsyncExitStack

import pytest

from orchestrator.daemon.loops import periodic_loops
from orchestrator.daemon.presence import Presence
from orchestrator.daemon.rooms import open_rooms, prepare_state_dir
from orchestrator.errors import ConfigurationError
from orchestrator.settings import Settings
from tests.integration.daemon.conftest import AUDIENCE, document

IDENTITY = {"audiences": {AUDIENCE: {}, "other": {}}, "issuers": {"prod": {"audiences": [AUDIENCE]}, "staging": {}}}


@pytest.mark.parametrize("world", [{"identity": IDENTITY}], indirect=True)
async def test_each_serves_its_own_keys(world):
    found = {}
    for path in ("", "/issuers/prod", "/issuers/staging"):
        config = json.loads(await world.get(f"{path}/.well-known/openid-configuration"))
        assert config["issuer"] == world.url + path
        assert config["introspection_endpoint"] == f"{world.url}/v1/introspect"
        keys = json.loads(await world.get(config["jwks_uri"].removeprefix(world.url)))["keys"]
        found[path] = {key["kid"] for key in keys}
    assert len(set.union(*found.values())) == sum(map(len, found.values())) == 6
    prod = world.rooms.issuers.of("prod")
    assert set(prod.config.audiences) == {AUDIENCE}
    folder = world.state / "keys" / "issuers"
    assert {path.name for path in folder.iterdir()} == {"prod", "staging"}
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "prod")] == [0o700, 0o700]


@pytest.mark.parametrize("world", [{"identity": IDENTITY}], indirect=True)
async def test_each_rotates_by_itself(world):
    loops = dict(periodic_loops(world.rooms, Presence(world.state, world.url, world.rooms.issuer)))
    try:
        assert {"key-rotation", "key-rotation prod", "key-rotation staging"} <= loops.keys()
    finally:
        for work in loops.values():
            work.close()


@pytest.mark.parametrize("world", [{"identity": IDENTITY}], indirect=True)
async def test_a_jobs_token_of_another_issuer_dispatches_nothing(world):
    """Not even one that was signed for the daemon itself, which no issuer lists as an audience."""
    prod = world.rooms.issuers.of("prod")
    token, _ = prod.mint_caller_token()
    asked = await world.client.get(f"{world.url}/v1/jobs", headers={"Authorization": f"Bearer {token}"})
    assert asked.status == 401
    assert (await asked.json())["reason"] == "issuer_unknown"


@pytest.mark.parametrize(
    ("identity", "callers", "words"),
    [
        ({"issuers": {"prod": {"audiences": ["other"]}}}, [], "issuers.prod.audiences names 'other'"),
        ({"issuers": {"Prod!": {}}}, [], "issuers"),
        ({"issuers": {"prod": {"rotation_seconds": 0}}}, [], "rotation_seconds"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, identity, callers, words):
    with pytest.raises(ValueError, match=words):
        Settings(**document(tmp_path, identity=identity, callers=callers))


async def test_an_issuer_of_ours_cannot_be_a_caller(tmp_path):
    url = "http://127.0.0.1:1"
    caller = {"issuer": f"{url}/issuers/prod", "audience": "a", "require": {"sub": ".*"}}
    settings = Settings(**document(tmp_path, identity={"issuers": {"prod": {}}}, callers=[caller]))
    prepare_state_dir(settings.state_dir)
    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigurationError, match="its jobs could dispatch jobs"):
            await open_rooms(settings, url, stack)
