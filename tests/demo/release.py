"""The demo's release desk: cosign with keys of its own, and cosign as the judge of what the control plane signed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pipeline import PROJECT, DemoError

PROVENANCE, SBOM = "https://slsa.dev/provenance/v1", "https://cyclonedx.org/bom"
SUMMARY = "https://slsa.dev/verification_summary/v1"


class Cosign:
    """`program` is cosign 3; keys and bundles lie in `folder`."""

    def __init__(self, folder: Path) -> None:
        prepare = PROJECT / "tests/interop/prepare-cosign"
        found = subprocess.run(
            [prepare, str(PROJECT / "build/interop")], capture_output=True, text=True, check=False, timeout=300
        )
        if found.returncode:
            raise DemoError(f"the demo needs cosign 3 for the release signature: {found.stderr.strip()}")
        self.program = found.stdout.strip()
        self.folder = folder
        folder.mkdir()
        self._run("signing-config", "create", "--out", "signing.json")

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            [self.program, *words],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "COSIGN_PASSWORD": "demo"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            raise DemoError(f"cosign {words[0]}: {done.stderr.strip()}")
        return done.stdout + done.stderr

    def key_pair(self, name: str) -> Path:
        """Make a key; the file with its public half."""
        self._run("generate-key-pair", "--output-key-prefix", name)
        return self.folder / f"{name}.pub"

    def sign(self, artifact: Path, key: str) -> Path:
        """A bundle with the signature of this key over the file."""
        bundle = self.folder / f"{key}.sigstore.json"
        self._run(
            "sign-blob", "--yes", "--key", f"{key}.key", "--signing-config", "signing.json", "--bundle", bundle.name,
            str(artifact.resolve()),
        )  # fmt: skip
        return bundle

    def verify(self, artifact: Path, bundle: Path, key: Path) -> str:
        """Raises:
        DemoError: cosign does not accept the signature.
        """
        words = ("verify-blob", "--insecure-ignore-tlog", "--key", str(key), "--bundle", str(bundle), str(artifact))
        return self._run(*words).strip()

    def verify_statement(self, artifact: Path, bundle: Path, key: Path, kind: str) -> str:
        """Raises:
        DemoError: cosign does not accept the statement, or it is of another type or about another file.
        """
        words = ("--key", str(key), "--type", kind, "--bundle", str(bundle), str(artifact))
        return self._run("verify-blob-attestation", "--insecure-ignore-tlog", *words).strip()
