"""What `make demo-promotion` is set up with: settings, policy, people, and a repository that GitHub knows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ci import ISSUER, Platform
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pipeline import PROD, PROJECT, STAGING
from release import Cosign

from orchestrator.policy.bundle import default_bundle
from orchestrator.testing.github.history import WEB_FLOW, CommitEntry, Person
from orchestrator.testing.github.server import GitHubServer
from orchestrator.testing.tracker import TrackerServer

REPOSITORY = "acme/orchestrator"
HEAD = subprocess.run(
    ["git", "-C", str(PROJECT), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
).stdout.strip()
NAMESPACE, REGISTRY = "shop-prod", "registry.demo.internal"
KIM, ALEX = Person(101, "kim"), Person(102, "alex")


@dataclass(frozen=True)
class Site:
    folder: Path
    port: int
    gate_port: int
    git_port: int
    store_port: int
    target_port: int
    github: GitHubServer
    tracker: TrackerServer
    cosign: Cosign
    platform: Platform

    @property
    def state(self) -> Path:
        return self.folder / "state"


def history(github: GitHubServer) -> int:
    """Tell the stand-in of this repository's HEAD: a signed commit of kim's, merged into main after alex's review."""
    repository = github.add_repository(REPOSITORY, branches={"main": True})
    known = repository.history
    known.rights |= {"kim": "write", "alex": "write"}
    before = known.commit(KIM, branch="main", message="before")
    known.commits[HEAD] = CommitEntry(HEAD, (before,), KIM, WEB_FLOW, True, "HEAD")
    pull = known.propose(KIM, "main", HEAD)
    known.review(pull, ALEX)
    pull.merged_at, pull.landed = time.time(), [HEAD]
    known.heads["main"] = HEAD
    return repository.id


def policy(folder: Path) -> Path:
    """The shipped rules with this team's data: who signs releases, which scanner, which tickets."""
    bundle = folder / "policy"
    shutil.copytree(default_bundle(), bundle)
    path = bundle / "data.json"
    data = json.loads(path.read_text("utf-8"))
    prod = data["environments"]["prod"]
    prod["approved_bases"].append("host-toolchain")  # the sandboxes of this machine
    prod["signers"] = ["release"]
    prod["registries"] = [REGISTRY]
    prod["source"] |= {"signed": True, "reviewed": True}
    prod["scans"]["scanners"] = ["demo-scanner"]
    prod["ticket"] |= {"projects": ["REL"], "types": ["Release"]}
    path.write_text(json.dumps(data, indent=2), encoding="utf-8")
    return bundle


def people(site: Site) -> Path:
    """Four people with keys: alex approves, sam and robin may break the glass, kim is the author and can only ask."""
    rights = {
        "alex": [{"kinds": ["security", "override", "break_glass", "review"], "environments": ["prod"]}],
        "sam": [{"kinds": ["break_glass", "override"], "environments": ["prod"]}],
        "robin": [{"kinds": ["break_glass"], "environments": ["prod"]}],
    }
    entries: dict[str, Any] = {
        name: {"keys": [own_key(site.folder, name)], "may": rights.get(name, [])} for name in ("kim", *rights)
    }
    entries["kim"]["facts"] = {"actor": ["kim"]}
    path = site.folder / "people.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "people": entries}), encoding="utf-8")
    return path


def own_key(folder: Path, name: str) -> str:
    """Make a person's key, `NAME.pem` in the folder; its public half."""
    private = Ed25519PrivateKey.generate()
    path = folder / f"{name}.pem"
    path.touch(mode=0o600)
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    return private.public_key().public_bytes(serialization.Encoding.PEM, public).decode("ascii")


def _github(site: Site) -> dict[str, Any]:
    key = site.folder / "app.pem"
    key.touch(mode=0o600)
    key.write_text(site.github.app.private_key, encoding="ascii")
    app = site.github.app
    return {
        "name": "acme",
        "url": site.github.config_url("acme"),
        "app": {
            "client_id": app.client_id, "installation_id": app.installation_id, "private_key_file": str(key),
        },
        "hosts": [{"host": "github.demo.internal", "port": site.github.port, "protocol": "http"}],
        "scale_sets": [{"name": "unused", "pool": "build", "runner_command": ["/bin/false"]}],
    }  # fmt: skip


def _pools(site: Site) -> list[dict[str, Any]]:
    def host(name: str, port: int) -> dict[str, Any]:
        return {"host": f"{name}.demo.internal", "port": port, "protocol": "http"}

    store, protected = host("store", site.store_port), {"trust_tier": "protected"}
    toolchain = {"toolchain": sorted({sys.prefix, sys.base_prefix})}
    return [
        {"name": "build", **protected, "egress": [host("git", site.git_port), store], "sandbox": toolchain},
        {"name": "scan", **protected, "egress": [store]},
        {"name": "deploy", **protected, "egress": [store, host("deploy", site.target_port)]},
    ]


def configuration(site: Site) -> Path:
    """The daemon's settings."""
    release = site.cosign.key_pair("release")
    site.cosign.key_pair("mallory")
    names = {f"{name}.demo.internal": "127.0.0.1" for name in ("git", "store", "deploy")}
    document = {
        "state_dir": str(site.state),
        "server": {"port": site.port},
        "callers": [site.platform.setting],
        "identity": {"audiences": {STAGING: {}, PROD: {}}},
        "policy": {"bundle": str(policy(site.folder))},
        "promotion": {
            "signers": {"release": {"key_files": [str(release)], "may": ["signature"]}},
            "scanners": {"demo-scanner": {"pools": ["scan"]}},
            "commits": {"sources": ["acme"], "issuers": [ISSUER], "max_age_seconds": 0},
            "tickets": {"url": site.tracker.url},
        },
        "approvals": {"people": str(people(site))},
        "deployment": {
            "cluster": "demo",
            "namespaces": {NAMESPACE: "prod"},
            "webhook": {"host": "127.0.0.1", "port": site.gate_port, "url": f"https://127.0.0.1:{site.gate_port}"},
        },
        "egress": {"names": names},
        "pools": _pools(site),
        "github": [_github(site)],
    }
    path = site.folder / "orchestrator.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path
