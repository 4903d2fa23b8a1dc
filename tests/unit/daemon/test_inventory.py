"""The inventory of an installation that is known exactly: everything planted is there, by risk, and nothing is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.daemon.secrets.desk import SecretDesk
from orchestrator.daemon.secrets.inventory import Sources, inventory
from orchestrator.daemon.secrets.room import SecretsRoom
from orchestrator.daemon.secrets.slice import registry
from orchestrator.daemon.trust import TrustHolder
from orchestrator.evidence.audit.keyed import KeyedHash
from orchestrator.identity.issuer import AudienceConfig, Issuer, IssuerConfig
from orchestrator.identity.issuers import IssuerSet
from orchestrator.identity.keys import KeyStore
from orchestrator.identity.rotation import RotationSchedule
from orchestrator.identity.secrets.state import Retired, SecretState, StateStore
from orchestrator.settings import Settings
from orchestrator.telemetry.scores.tally import DayTally

DAY = 86_400
VALUE = "planted-value-of-a-secret"
TRUST_MAP = """trust_map: 1
environment: prod
protected: true
targets: {cloud: {kind: oidc, audience: "https://deploy.example"}}
grants:
  - name: release
    when:
      caller_issuer: {equals: "https://ci.example"}
      repository_id: {equals: "42"}
      ref_protected: {equals: "true"}
      trust_tier: {equals: protected}
    target: cloud
    max_ttl_seconds: 60
"""


class Plant:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []
        self.now = 0

    def file(self, name: str, mode: int = 0o400) -> Path:
        path = self.folder / name
        path.write_text(VALUE)
        path.chmod(mode)
        self.files.append(path)
        self.now = max(self.now, path.stat().st_mtime_ns + 10 * DAY * 10**9)
        return path

    async def sources(self, *secrets: dict, **more: object) -> Sources:
        given = [{"owner": "team-a", "pools": ["default"], **one} for one in secrets]
        settings = Settings(state_dir=self.folder / "state", secrets=given, **more)
        keys = KeyStore.open(settings.state_dir / "keys", RotationSchedule(), 1_000_000.0)
        audience = {"https://deploy.example": AudienceConfig()}
        issuers = IssuerSet(Issuer(IssuerConfig("https://ci.example", audience), keys, lambda: self.now), {})
        trust_map = self.folder / "prod.yaml"
        trust_map.write_text(TRUST_MAP)
        trust = TrustHolder([trust_map], issuers, lambda _audience: False, {})
        await trust.load()
        tally = DayTally.read(None, self.now)
        store = StateStore(self.folder / "secrets")
        room = SecretsRoom(registry(settings), store, AuditNotes(None), KeyedHash(bytes(32)).of, lambda: self.now)
        desk = SecretDesk(room, tally, AuditNotes(None), lambda: self.now)
        return Sources(settings, issuers, trust, desk, tally, lambda: self.now)


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


async def listed(sources: Sources) -> dict[str, dict]:
    found = await inventory(sources)
    assert VALUE not in json.dumps(found)
    risks = [one["risk"] for one in found["credentials"]]
    assert risks == sorted(risks, reverse=True)
    return {one["id"]: one for one in found["credentials"]}


async def test_everything_planted_is_there(plant):
    github = {
        "name": "acme", "url": "https://github.com/acme", "token_file": str(plant.file("pat", 0o444)),
        "webhooks": {
            "secret_files": [str(plant.file("hook"))],
            "runners": [{"labels": ["self-hosted"], "pool": "default"}],
        },
    }  # fmt: skip
    key = str(plant.file("app"))
    app = {"url": "https://github.com/acme", "client_id": "1", "installation_id": 1, "private_key_file": key}
    sources = await plant.sources(
        {"name": "deploy-key", "file": str(plant.file("key")), "environments": ["prod"], "opens": ["production"]},
        {"name": "test-key", "file": str(plant.file("test")), "environments": ["staging"], "max_age_seconds": 5 * DAY},
        identity={"github_apps": {"bot": app}, "trust_maps": [str(plant.folder)]},
        github=[github],
    )
    sources.tally.add("use secret deploy-key", plant.now)
    sources.tally.add("use grant prod/release ", plant.now)
    found = await listed(sources)
    assert {
        "secret deploy-key", "secret test-key", "setting github.0.token_file", "setting github.0.webhooks.secret_files",
        "setting identity.github_apps.bot.private_key_file", "grant prod/release",
    } < found.keys()  # fmt: skip
    assert sum(name.startswith("issuer key") for name in found) >= 2
    deploy, test = found["secret deploy-key"], found["secret test-key"]
    assert (deploy["age_seconds"] // DAY, deploy["uses"], deploy["owner"]) == (10, 1, "team-a")
    assert (deploy["opens"], deploy["jobs"]) == (["production"], ["pool default", "environment prod"])
    assert deploy["rotation"] == "file"
    assert (test["flags"], deploy["flags"]) == (["overdue"], [])
    assert next(iter(found)) == "secret deploy-key", "what opens production comes first"
    assert found["setting github.0.token_file"]["flags"] == ["readable_by_others"]
    assert found["grant prod/release"]["flags"] == []
    assert found["grant prod/release"]["opens"] == ["prod/cloud"]


async def test_a_state_that_nobody_registered_is_told(plant):
    plant.file("x")
    sources = await plant.sources()
    StateStore(sources.secrets.folder).put("left-over", SecretState())
    found = await listed(sources)
    assert found["secret left-over"]["flags"] == ["no_value", "unregistered"]


async def test_idle_and_removed(plant):
    sources = await plant.sources({"name": "deploy-key", "file": str(plant.file("key")), "idle_seconds": DAY})
    assert (await listed(sources))["secret deploy-key"]["flags"] == []
    plant.now += 2 * DAY * 10**9
    assert (await listed(sources))["secret deploy-key"]["flags"] == ["idle"]
    sources.tally.add("use secret deploy-key", plant.now)
    assert (await listed(sources))["secret deploy-key"]["flags"] == []
    gone = Retired(plant.now, "anna", plant.now, left="a file")
    sources.secrets._store.put("deploy-key", SecretState(retired=gone))
    one = (await listed(sources))["secret deploy-key"]
    assert (one["state"], one["risk"], one["flags"]) == ("removed", 0, ["left_behind"])
