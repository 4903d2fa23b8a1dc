"""cosign 3, without a transparency log or any other service: it signs and verifies with key files alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from interop import COSIGN

PASSPHRASE = "of this test only"


class Cosign:
    """Everything in one folder. `home` is cosign's own state: it must find no settings of this machine's user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TUF_ROOT": str(folder / "tuf"),
            "COSIGN_PASSWORD": PASSPHRASE,
            # Nothing may be fetched: an address that refuses at once, should it try.
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "HTTP_PROXY": "http://127.0.0.1:9",
        }
        self._config = folder / "no-services.json"
        # An empty list of services: nothing is logged or timestamped anywhere.
        self("signing-config", "create", "--out", str(self._config))

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COSIGN, *arguments],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def generate(self, name: str) -> Path:
        """A new key pair; the public half's file. The private one lies beside it."""
        self("generate-key-pair", "--output-key-prefix", name)
        return self.folder / f"{name}.pub"

    def take_over(self, name: str, pem: Path) -> Path:
        """The same with a private key of another tool."""
        self("import-key-pair", "--key", str(pem), "--output-key-prefix", name)
        return self.folder / f"{name}.pub"

    def sign_blob(self, name: str, blob: Path) -> str:
        """The bundle of a signature over the bytes."""
        bundle = self.folder / "signed.json"
        self("sign-blob", *self._with(name, bundle), str(blob))
        return bundle.read_text()

    def attest_blob(self, name: str, blob: Path, kind: str, predicate: Path) -> str:
        """The bundle of a statement."""
        bundle = self.folder / "attested.json"
        self("attest-blob", *self._with(name, bundle), "--type", kind, "--predicate", str(predicate), str(blob))
        return bundle.read_text()

    def _with(self, name: str, bundle: Path) -> list[str]:
        key = str(self.folder / f"{name}.key")
        return ["--key", key, "--signing-config", str(self._config), "--bundle", str(bundle), "--yes"]

    def refusal(self, bundle: str, public: Path, kind: str, blob: Path) -> str:
        """Why it does not verify the statement in a bundle; empty when it does."""
        file = self.folder / "given.json"
        file.write_text(bundle)
        done = self.run(
            "verify-blob-attestation",
            *("--bundle", str(file), "--key", str(public), "--type", kind, "--insecure-ignore-tlog"),
            str(blob),
        )
        return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]

    def refusal_of_signature(self, bundle: str, public: Path, blob: Path) -> str:
        """The same for a signature over the bytes."""
        file = self.folder / "given.json"
        file.write_text(bundle)
        done = self.run(
            "verify-blob",
            *("--bundle", str(file), "--key", str(public), "--insecure-ignore-tlog"),
            str(blob),
        )
        return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]
