"""The way of one release through the gate, with every wrong turn on it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from ci import PlatformApi
from gate_site import HEAD, NAMESPACE, REGISTRY, Site
from pipeline import JOBS, PROD, STAGING, DemoError, console
from release import PROVENANCE, SBOM, SUMMARY

from orchestrator.cli import render

ADVISORIES = [
    {"id": "DEMO-2026-1", "name": "aiohttp", "below": "3.0", "severity": "CRITICAL"},
    {"id": "DEMO-2026-2", "name": "pyyaml", "below": "99", "severity": "LOW"},
]
"""What the demo's scanner knows: one that is mended here, one that is not and is below the threshold."""
LIFE_SECONDS = 12
"""Of the break-glass, at least: long enough to be asked for, signed twice and looked at."""
STEPS = 15
"""On a slow machine it lives as long as so many of the slowest command so far."""


class Release:
    """`problems` is what did not go as promised; `digest` the artifact's, once it is built."""

    def __init__(self, site: Site, api: PlatformApi) -> None:
        self.site, self.api = site, api
        self.problems: list[str] = []
        self.digest = ""
        self._deploys = 0
        self._slowest = 0.0

    async def run(self) -> list[str]:
        """From the commit to production; what did not go as promised."""
        await self._build()
        await self._staging()
        await self._signed()
        await self._scanned()
        await self._approved()
        await self._elsewhere()
        await self._prod()
        await self._started()
        await self._judged()
        return self.problems

    # --- the way ---

    async def _build(self) -> None:
        hosts = {
            "REPOSITORY_URL": f"http://git.demo.internal:{self.site.git_port}/repository.git",
            "STORE_URL": self._store,
            "TOOLCHAIN": sys.prefix,
            "COMMIT": HEAD,
        }
        self._title("commit → validate → build")
        await self._job("validate", "build", script("validate.sh"), hosts)
        built = await self._job("build", "build", script("release_build.sh"), hosts)
        (self.digest,) = [one["digest"] for one in built["artifacts"] if one["name"].endswith(".whl")]
        self.artifact.write_bytes((self.site.folder / "store" / self.digest.removeprefix("sha256:")).read_bytes())

    async def _staging(self) -> None:
        self._title("staging: built here, signed by the control plane, with a bill of materials")
        await self._deploy("staging", STAGING, 0, "success")

    async def _signed(self) -> None:
        self._title("wrong turn: unsigned, unscanned, unapproved")
        await self._refused("signer_missing", "scan_missing", "security_approval_missing", "ticket_missing", ticket="")
        self._title("wrong turn: signed, by the wrong key")
        await self._upload(self.site.cosign.sign(self.artifact, "mallory"))
        await self._refused("signer_missing", "scan_missing", "security_approval_missing")
        self._title("the release key signs")
        await self._upload(self.site.cosign.sign(self.artifact, "release"))
        await self._refused("scan_missing", "security_approval_missing")

    async def _scanned(self) -> None:
        self._title("wrong turn: a scan of three days ago")
        await self._scan("scan-of-old", 3 * 86400)
        await self._refused("scan_stale", "security_approval_missing")
        self._title("a fresh scan, but nobody has approved")
        await self._scan("scan", 0)
        await self._refused("security_approval_missing")

    async def _approved(self) -> None:
        self._title("wrong turn: a break-glass with one approver, then two, then expired")
        words = ("break_glass", "-e", "prod", "--artifact", self.digest, "--waive", "approval_missing")
        life = max(LIFE_SECONDS, int(STEPS * self._slowest))
        words += ("--waive", "security_approval_missing", "--as", "kim", "-r", "hotfix", "--lasts", f"{life}s")
        asked = await self._command("approvals", "request", *words, "--key", self._key("kim"))
        asked_at = time.monotonic()
        exception = asked.split()[0]
        await self._command("approvals", "sign", exception, "--yes", "--key", self._key("sam"))
        await self._refused("security_approval_missing")
        await self._command("approvals", "sign", exception, "--yes", "--key", self._key("robin"))
        await self._asked_before()
        await asyncio.sleep(max(0.0, life + 1 - (time.monotonic() - asked_at)))
        await self._refused("security_approval_missing")
        await self._command("approvals", "show", exception)
        self._title("alex approves this very digest")
        words = ("security", "-e", "prod", "--artifact", self.digest, "-r", "reviewed the change")
        await self._command("approvals", "request", *words, "--key", self._key("alex"))

    async def _asked_before(self) -> None:
        """What a pull request would be told: allowed, by the exception; nothing of it is used up."""
        token = self.site.folder / "ci-token"
        token.touch(mode=0o600)
        token.write_text(self.site.platform.token(), encoding="ascii")
        words = ("policy", "check", "-e", "prod", "--artifact", self.digest, "--ticket", "REL-7", "--pool", "deploy")
        await self._command("--token-file", str(token), *words)

    async def _elsewhere(self) -> None:
        self._title("wrong turn: another digest, with the same approval")
        other = hashlib.sha256(self.artifact.read_bytes() + b"tampered").hexdigest()
        await self._refused("artifact_unknown", "security_approval_missing", digest=f"sha256:{other}")
        self._title("wrong turn: the approved artifact, started in production by hand, not released")
        await self._review("ticket_missing")

    async def _prod(self) -> None:
        self._title("production")
        done = await self._deploy("prod", PROD, 1, "success")
        console.print(render.waterfall(await self.api.call("GET", f"/v1/jobs/{done['id']}/trace")))
        console.print(render.job_detail(done))

    async def _started(self) -> None:
        self._title("the cluster may start what was released")
        await self._review("")
        self._title("wrong turn: privileged")
        await self._review("privileged", privileged=True)

    async def _judged(self) -> None:
        """What the control plane signed, before the eyes of others."""
        self._title("cosign judges")
        key = self.site.folder / "evidence.pub"
        key.write_text(await self.api.text("/v1/evidence/key"), encoding="ascii")
        cosign = self.site.cosign
        signed = cosign.verify(self.artifact, cosign.folder / "release.sigstore.json", cosign.folder / "release.pub")
        console.print(f"release signature: {signed}")
        bundles = []
        for kind in (PROVENANCE, SBOM, SUMMARY):
            for bundle in await self._bundles(kind):
                console.print(f"{kind}: {cosign.verify_statement(self.artifact, bundle, key, kind)}")
                bundles.append(str(bundle))
        await self._command("artifacts", "show", self.digest)
        words = ("--key", str(key), "--signer", f"release={cosign.folder / 'release.pub'}", "--environment", "prod")
        shown = (str(cosign.folder / "release.sigstore.json"), *bundles)
        await self._command("verify", str(self.artifact), *shown, *words)

    async def _bundles(self, kind: str) -> list[Path]:
        """What the control plane signed of this type, fetched as bundles: for staging and prod a summary each."""
        known = json.loads(await self._command("artifacts", "show", self.digest, "--json", quiet=True))
        found = []
        for one in known["attestations"]:
            if one["predicate_type"] == kind and one["standing"] == "own":
                found.append(self.site.folder / f"{one['id'].removeprefix('sha256:')}.sigstore.json")
                found[-1].write_text(await self._command("artifacts", "fetch", self.digest, one["id"], quiet=True))
        if not found:
            self.problems.append(f"nothing of type {kind} was signed")
        return found

    # --- what it takes ---

    @property
    def artifact(self) -> Path:
        return self.site.folder / "artifact.whl"

    @property
    def _store(self) -> str:
        return f"http://store.demo.internal:{self.site.store_port}"

    def _key(self, name: str) -> str:
        return str(self.site.folder / f"{name}.pem")

    def _title(self, text: str) -> None:
        console.print()
        console.rule(text)

    async def _job(
        self, name: str, pool: str, work: str, variables: dict[str, str], wanted: str = "success", **more: Any
    ) -> dict[str, Any]:
        body = {"name": name, "pool": pool, "script": work, "environment": variables, **more}
        done = await self.api.run(body)
        if done["result"] != wanted:
            self.problems.append(f"{name} ended {done['result']} ({done['message']}), and {wanted} was due")
            if wanted == "success":
                raise DemoError("; ".join(self.problems))
        return done

    async def _deploy(self, environment: str, audience: str, target: int, wanted: str, **more: Any) -> dict[str, Any]:
        self._deploys += 1
        asked = {"deployment_environment": environment, "artifact_digest": self.digest, "ticket": "REL-7"} | more
        address = f"http://deploy.demo.internal:{self.site.target_port}/{target}"
        variables = {"AUDIENCE": audience, "TARGET_URL": address, "STORE_URL": self._store}
        variables["DIGEST"] = asked["artifact_digest"]
        name = f"deploy-{environment}-{self._deploys}"
        return await self._job(name, "deploy", script("release_deploy.sh"), variables, wanted, **asked)

    async def _refused(self, *codes: str, ticket: str = "REL-7", digest: str = "") -> None:
        """A deployment to production that is denied for these reasons; those of an unknown artifact are more."""
        done = await self._deploy("prod", PROD, 1, "denied", ticket=ticket, artifact_digest=digest or self.digest)
        found = {reason["code"] for one in done["decisions"] for reason in one["reasons"]}
        if not set(codes) <= found or (not digest and found != set(codes)):
            self.problems.append(f"refused for {', '.join(sorted(found))}, and {', '.join(codes)} was due")

    async def _scan(self, name: str, age_seconds: int) -> None:
        finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - age_seconds))
        variables = {
            "STORE_URL": self._store,
            "DIGEST": self.digest.removeprefix("sha256:"),
            "ADVISORIES": json.dumps(ADVISORIES),
            "SCANNER": script("scanner.py"),
            "FINISHED_AT": finished,
        }
        await self._job(name, "scan", script("scan.sh"), variables)

    async def _upload(self, bundle: Path) -> None:
        await self._command("artifacts", "upload", self.digest, str(bundle))

    async def _review(self, refused: str, *, privileged: bool = False) -> None:
        """Ask the gate as the API server of a cluster does before it starts a pod; `refused` is the rule that says no,
        alone."""
        container = {
            "name": "app",
            "image": f"{REGISTRY}/orchestrator@{self.digest}",
            "securityContext": {"privileged": privileged},
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app"}, "spec": {"containers": [container]}}
        request = {
            "uid": f"demo-{refused}",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": NAMESPACE,
            "operation": "CREATE",
            "object": pod,
        }
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
        trust = ssl.create_default_context(cafile=str(self.site.state / "runner-api-ca.pem"))
        url = f"https://127.0.0.1:{self.site.gate_port}/admission/v1/review"
        async with self.api.session.post(url, json=review, ssl=trust) as answer:
            told = (await answer.json())["response"]
        why = told.get("status", {}).get("message", "")
        console.print(f"pod in {NAMESPACE}: {'may start' if told['allowed'] else why}", markup=False, soft_wrap=True)
        found = re.findall(r"^- \[([a-z_]+)\]", why, re.MULTILINE)
        if found != [refused] * bool(refused) or told["allowed"] is bool(refused):
            self.problems.append(f"the cluster's gate answered {told}, and {refused or 'yes'} was due")

    async def _command(self, *words: str, code: int | None = 0, quiet: bool = False) -> str:
        """Do and show a command as a user would; what it printed."""
        if not quiet:
            console.print(
                f"$ orchestrator {' '.join(words)}", markup=False, highlight=False, soft_wrap=True, style="bold"
            )
        variables = {**os.environ, "ORCHESTRATOR_STATE_DIR": str(self.site.state), "COLUMNS": str(console.width)}
        begun = time.monotonic()
        done = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "orchestrator", *words, env=variables, stdout=-1, stderr=asyncio.subprocess.STDOUT
        )
        output = (await done.communicate())[0].decode()
        self._slowest = max(self._slowest, time.monotonic() - begun)
        if not quiet:
            console.print(output.rstrip(), markup=False, highlight=False, soft_wrap=True)
        if code is not None and done.returncode != code:
            raise DemoError(f"orchestrator {' '.join(words[:2])} ended with exit code {done.returncode}: {output}")
        return output


def script(name: str) -> str:
    return (JOBS / name).read_text("utf-8")
