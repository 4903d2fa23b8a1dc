"""cosign verifies what a running daemon signed about a job's artifact, and the daemon counts what cosign signed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cosign import Cosign
from installation import Installation
from interop import needs

pytestmark = [needs("cosign"), pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]

CONTENT = "what the build made\n"
SIGN = "https://sigstore.dev/cosign/sign/v1"
VULN = "https://cosign.sigstore.dev/attestation/vuln/v1"
BOM = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"type": "library", "name": "a"}]}
REPORT = {"SchemaVersion": 2, "ArtifactName": "app", "CreatedAt": "2026-01-02T03:04:05Z", "Results": []}
BUILD = f"""printf '{CONTENT.strip()}\\n' > app
cat > bom.json <<'END'
{json.dumps(BOM)}
END
cat > report.json <<'END'
{json.dumps(REPORT)}
END
orchestrator-artifact app --sbom bom.json --scan report.json --scanner trivy
"""


@dataclass
class World:
    here: Installation
    cosign: Cosign
    blob: Path
    public: Path
    auditor: Path

    async def printed(self, *arguments: str) -> Any:
        done = await self.here.command(*arguments)
        assert done.code == 0, done.err
        return done.out


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("signed")
    cosign = Cosign(folder)
    releaser = cosign.generate("releaser")
    auditor = folder / "auditor.pem"
    openssl("ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", str(auditor))
    openssl("ec", "-in", str(auditor), "-pubout", "-out", str(folder / "auditor.pub"))
    signers: dict[str, Any] = {
        "releaser": {"key_files": [str(releaser)], "may": ["signature", "scan"], "scanners": ["trivy"]}
    }
    signers["auditor"] = {"key_files": [str(folder / "auditor.pub")], "may": ["signature"]}
    here = Installation(folder / "site")
    here.configure(promotion={"signers": signers, "scanners": {"trivy": {"pools": ["default"]}}})
    blob = folder / "app"
    blob.write_text(CONTENT)
    try:
        await here.start()
        job_id = await here.dispatch("build", BUILD)
        view = await here.finished(job_id, 60)
        assert view["result"] == "success", (await here.command("logs", job_id)).out
        public = folder / "evidence.pub"
        public.write_text((await here.command("receipt", job_id, "--public-key")).out)
        yield World(here, cosign, blob, public, auditor)
    finally:
        await here.close()
    assert await here.left() == []


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("https://slsa.dev/provenance/v1", "slsaprovenance1"),
        ("https://cyclonedx.org/bom", "cyclonedx"),
        (SIGN, SIGN),
        (VULN, "vuln"),
    ],
)
async def test_cosign_verifies_what_the_daemon_signed(world: World, kind: str, word: str) -> None:
    bundle = await world.printed("artifacts", "fetch", str(world.blob), "--type", kind)
    assert world.cosign.refusal(bundle, world.public, word, world.blob) == ""
    stranger = world.cosign.folder / "releaser.pub"
    assert "signature" in world.cosign.refusal(bundle, stranger, word, world.blob)
    other = world.cosign.folder / "other"
    other.write_text("something else\n")
    assert "digest" in world.cosign.refusal(bundle, world.public, word, other)


async def test_verify_answers_from_the_daemon_and_without_it(world: World) -> None:
    asked = json.loads(await world.printed("verify", str(world.blob), "--json"))
    assert asked["verified"] is True
    assert asked["what"]["name"] == "app"
    assert asked["policy"]["admitted_under"].startswith("sha256:")
    assert asked["policy"]["decision"]
    builder = asked["system"]["builder"]
    files = []
    for one in asked["facts"]["signatures"] + asked["facts"]["sboms"] + asked["facts"]["provenances"]:
        file = world.cosign.folder / f"{one['attestation'].removeprefix('sha256:')}.json"
        file.write_text(await world.printed("artifacts", "fetch", str(world.blob), one["attestation"]))
        files.append(str(file))
    offline = ["verify", str(world.blob), "--key", str(world.public), "--json"]
    told = json.loads(await world.printed(*offline, "--builder", f"{builder}=2", "--level", "2", *files))
    assert told["system"]["builder"] == builder
    assert told["facts"]["built"]["job"] == asked["system"]["job"]
    assert (await world.here.command(*offline, "--builder", f"{builder}x", *files)).code == 1


async def test_what_cosign_signed_counts_by_its_signer(world: World) -> None:
    bundle = world.cosign.folder / "releaser.json"
    bundle.write_text(world.cosign.sign_blob("releaser", world.blob))
    world.cosign.generate("nobody")
    unknown = world.cosign.folder / "nobody.json"
    unknown.write_text(world.cosign.sign_blob("nobody", world.blob))
    await world.printed("artifacts", "upload", str(world.blob), str(bundle), str(unknown))
    facts = json.loads(await world.printed("artifacts", "show", str(world.blob), "--json"))["facts"]
    assert {one["signer"] for one in facts["signatures"]} == {"control-plane", "releaser"}
    assert "key_unknown" in {one["reason"] for one in facts["refused"]}


async def test_what_attest_uploads_counts_at_once(world: World) -> None:
    """A key that neither cosign nor we have made, and its public half lies where the settings say."""
    facts = json.loads(await world.printed("artifacts", "show", str(world.blob), "--json"))["facts"]
    before = len(facts["signatures"])
    done = await world.here.command(
        "attest", str(world.blob), "--type", "signature", "--key", str(world.auditor), "--upload"
    )
    assert done.code == 0, done.err
    assert "counts for signature" in done.err
    facts = json.loads(await world.printed("artifacts", "show", str(world.blob), "--json"))["facts"]
    assert len(facts["signatures"]) == before + 1
    assert "auditor" in {one["signer"] for one in facts["signatures"]}
