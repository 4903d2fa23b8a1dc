"""A registered secret on its way: policy, delivery with the work, masking, rotation while a job holds it, its end."""

from __future__ import annotations

import codecs
import json
import re
import sys
from pathlib import Path

import pytest

from orchestrator.model.events import JobEnded, JobRefused, SecretDelivered
from orchestrator.policy.bundle import default_bundle

from .conftest import write_bundle

HOOK = Path(__file__).parents[2] / "unit" / "identity" / "secrets" / "hook.py"
POLICY = """package orchestrator

default decision := {"allow": false, "reasons": [{"code": "secret_not_allowed", "message": "a secret is not for it"}]}

decision := {"allow": true} if {
	input.job.source == "dispatch"
	every secret in object.get(input, ["credentials", "secrets"], []) { secret.allowed == true }
}
"""
VALUE = "s3cr3t-of-the-registry-1f9a"
SHOUT = r"""
test "$(stat -c %a "$REGISTRY_KEY_FILE")" = 400
key=$(cat "$REGISTRY_KEY_FILE")
echo "the key is $key"
printf 'turned %s\n' "$key" | tr 'A-Za-z' 'N-ZA-Mn-za-m'
printf %s "$key" | base64
env | grep -c "$key" || true
"""

pytestmark = pytest.mark.sandbox


class Site:
    """What `settings` of a world name: a value in a file, and a place that its hook changes."""

    def __init__(self, folder: Path) -> None:
        self.file, self.place = folder / "registry-key", folder / "place"
        self.place.mkdir()
        self.bundle = str(write_bundle(folder / "small-policy", POLICY))
        self.file.write_text(VALUE + "\n")
        self.file.chmod(0o400)
        (self.place / "works.json").write_text(json.dumps([VALUE + "\n"]))

    @property
    def works(self) -> list[str]:
        return list(json.loads((self.place / "works.json").read_text()))

    def settings(self, **more: object) -> dict[str, object]:
        hook = {"command": [sys.executable, "-I", "-S", str(HOOK), str(self.place)], "timeout_seconds": 20}
        secret = {"name": "registry-key", "owner": "team-a", "file": str(self.file), "pools": ["default"]}
        return {
            "policy": {"bundle": self.bundle},
            "secrets": [secret | {"rotate": hook, "remove": hook} | more],
        }


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def facts(world, job_id, kind):
    return [one.event for one in await world.rooms.journal.facts_of(job_id) if isinstance(one.event, kind)]


async def turn(world):
    """What the daemon does by itself, and at once when it is asked to."""
    room = world.rooms.static_secrets
    await room.turn(room.registry.get("registry-key"))


async def test_a_secret_comes_as_a_file_and_is_shown_nowhere(open_world, site):
    async with open_world(**site.settings()) as world:
        job_id = await world.offer("shout", SHOUT, secrets=("registry-key",))
        await world.finished(job_id)
        log = await world.log(job_id)
        turned = re.search(r"^gharq|^ghearq (\S+)$", log, re.MULTILINE)
        assert codecs.decode(turned[1], "rot13") == VALUE, "the job had it, whole"
        assert "the key is ***" in log
        assert log.rstrip().endswith("0"), "it was in no variable"
        [delivered] = await facts(world, job_id, SecretDelivered)
        assert delivered.name == "registry-key"
        assert delivered.version.startswith("hmac-sha256:")
        paths = ("", "/trace", "/events?follow=false", "/log")
        shown = {path: (await world.get(f"/v1/jobs/{job_id}{path}")).encode() for path in paths}
        shown |= {str(path): path.read_bytes() for path in world.state.rglob("*") if path.is_file()}
        assert [where for where, text in shown.items() if VALUE.encode() in text] == []
        assert json.loads(shown[""])["secrets"] == ["registry-key"]
        audit = b"".join(text for where, text in shown.items() if "/audit/" in where)
        assert b"secret.delivered" in audit
        assert delivered.version.encode() in audit


async def test_who_is_not_listed_does_not_run(open_world, site):
    pools = {"pools": [{"name": "default"}, {"name": "other"}]}
    async with open_world(**site.settings(pools=["other"]), **pools) as world:
        job_id = await world.offer("shout", SHOUT, secrets=("registry-key",))
        await world.finished(job_id)
        [refused] = await facts(world, job_id, JobRefused)
        assert "secret_not_allowed" in {reason.code for reason in refused.decision.reasons}
        assert await facts(world, job_id, SecretDelivered) == []


@pytest.mark.slow  # the shipped policy proves itself first
async def test_strict_environments_have_none(open_world, site):
    site.bundle = str(default_bundle())
    async with open_world(**site.settings()) as world:
        wanted = {
            "deployment_environment": "prod",
            "secrets": ("registry-key",),
            "artifact_digest": "sha256:" + "0" * 64,
        }
        job_id = await world.offer("deploy", "true", **wanted)
        await world.finished(job_id)
        [refused] = await facts(world, job_id, JobRefused)
        assert "static_secrets" in {reason.code for reason in refused.decision.reasons}


async def test_a_rotation_breaks_no_job_that_holds_the_old_value(open_world, site):
    async with open_world(**site.settings()) as world:
        room = world.rooms.static_secrets
        waits = 'cat "$REGISTRY_KEY_FILE" >/dev/null; while :; do sleep 0.05; done'
        job_id = await world.offer("holds", waits, secrets=("registry-key",))
        await world.until(lambda: room.holders.count("registry-key") == 1)
        await room.rotate("registry-key", "test")
        await turn(world)
        assert len(site.works) == 2, "the old one works on"
        await turn(world)
        assert site.works[0] == VALUE + "\n"
        await world.rooms.engine.cancel(job_id, "test")
        await world.finished(job_id)
        await turn(world)
        assert len(site.works) == 1
        assert VALUE + "\n" not in site.works
        after = await world.offer("after", SHOUT, secrets=("registry-key",))
        await world.finished(after)
        turned = re.search(r"^ghearq (\S+)$", await world.log(after), re.MULTILINE)
        assert [codecs.decode(turned[1], "rot13")] == site.works


async def test_a_value_that_leaked_is_withdrawn_at_once_if_so_asked(open_world, site):
    async with open_world(**site.settings()) as world:
        room = world.rooms.static_secrets
        waits = 'cat "$REGISTRY_KEY_FILE" >/dev/null; while :; do sleep 0.05; done'
        await world.offer("holds", waits, secrets=("registry-key",))
        await world.until(lambda: room.holders.count("registry-key") == 1)
        room.woken("registry-key").clear()
        await room.rotate("registry-key", "test", at_once=True)
        assert room.woken("registry-key").is_set()
        await turn(world)
        assert len(site.works) == 1
        assert VALUE + "\n" not in site.works


async def test_a_retired_secret_is_refused_by_name_and_leaves_no_value(open_world, site):
    async with open_world(**site.settings()) as world:
        room = world.rooms.static_secrets
        await room.rotate("registry-key", "test")
        await turn(world)
        [value] = site.works
        assert await room.retire("registry-key", "test")
        await turn(world)
        assert site.works == []
        assert not site.file.exists()
        kept = {str(path): path.read_bytes() for path in world.state.rglob("*") if path.is_file()}
        assert [where for where, text in kept.items() if value.encode() in text or VALUE.encode() in text] == []
        audit = b"".join(text for where, text in kept.items() if "/audit/" in where)
        for kind in (b"secret.rotated", b"secret.old_withdrawn", b"secret.retired", b"secret.removed"):
            assert kind in audit
        job_id = await world.offer("late", SHOUT, secrets=("registry-key",))
        await world.finished(job_id)
        [refused] = await facts(world, job_id, JobRefused)
        assert "secret_not_allowed" in {reason.code for reason in refused.decision.reasons}


async def test_a_secret_that_goes_after_admission_ends_the_job_and_tells_why(open_world, site):
    async with open_world(**site.settings()) as world:
        room = world.rooms.static_secrets
        policy = world.rooms.decider
        admitted = policy.admit

        async def then_retired(record, pool):
            decision = await admitted(record, pool)
            await room.retire("registry-key", "test")
            return decision

        policy.admit = then_retired
        job_id = await world.offer("late", SHOUT, secrets=("registry-key",))
        await world.finished(job_id)
        [ended] = await facts(world, job_id, JobEnded)
        assert "secret_retired" in ended.outcome.message
        assert await facts(world, job_id, SecretDelivered) == []
