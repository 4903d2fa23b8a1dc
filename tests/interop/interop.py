"""Where the programs of others are, and whether they are: what `make test-interop` prepared below `build/interop`."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.testing.ports import free_port

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build/interop"
PYTHON = FOLDER / "python/bin/python"
WEED = FOLDER / "python/bin/weed"
APACHE = FOLDER / "apache/root"
AUDIT_CHECK = FOLDER / "go/audit_check"
STEP_CA = FOLDER / "step-ca/step_ca"
PROMETHEUS = FOLDER / "prometheus/root/usr/bin"
COSIGN = FOLDER / "cosign/root/usr/bin/cosign"
FIX = "run `make test-interop` where the package registries answer"


def missing() -> dict[str, str]:
    """What is not there, by name, with the reason."""
    found = {}
    if not (FOLDER / ".ready").exists() or not PYTHON.exists():
        found["python"] = "requirements/interop.txt is not installed"
    if not (FOLDER / "apache/.ready").exists():
        found["apache"] = "Apache with mod_auth_openidc could not be unpacked (tests/interop/prepare)"
    if not AUDIT_CHECK.exists():
        found["go"] = "Go with its transparency log could not be had (tests/interop/prepare-go)"
    if not STEP_CA.exists():
        found["step-ca"] = "step-ca could not be built (tests/interop/prepare-step-ca)"
    elif not shutil.which("openssl"):
        found["step-ca"] = "this machine has no openssl, with which jobs ask for certificates"
    if not COSIGN.exists():
        found["cosign"] = "cosign 3 could not be unpacked (tests/interop/prepare-cosign)"
    if not (FOLDER / "prometheus/.ready").exists():
        found["prometheus"] = "Prometheus could not be unpacked (tests/interop/prepare-prometheus)"
    return found


def needs(name: str) -> pytest.MarkDecorator:
    reason = missing().get(name, "")
    return pytest.mark.skipif(bool(reason), reason=f"NOT TESTED: {reason}; fix: {FIX}")


def toolchain() -> list[str]:
    """Folders that jobs see, so that they can run the clouds' own libraries."""
    base = Path(sys.base_prefix)
    folders = [*([FOLDER / "python"] if PYTHON.exists() else []), *([] if base.is_relative_to("/usr") else [base])]
    return [str(folder) for folder in folders]


def promtool(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Prometheus' own tool, to its end."""
    return subprocess.run([PROMETHEUS / "promtool", *arguments], input=given, capture_output=True, timeout=60)


def lost(ours: Any, theirs: Any, where: str = "") -> Iterator[str]:
    """What of ours is not in theirs, or is something else there. They may have more: defaults that we do not name."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            yield from lost(value, theirs[key], f"{where}/{key}") if key in theirs else [f"{where}/{key}"]
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(one, other, f"{where}/{number}")
    elif ours != theirs:
        yield where


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


class Program:
    """A program of others as a process: started, waited for, and ended by its id whatever happens."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
        self.log = folder / f"{Path(arguments[0]).name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    async def ready(self, answers: Callable[[], bool], seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while not await asyncio.to_thread(answers):
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"it did not start: {self.log.read_text(errors='replace')[-3000:]}")
            await asyncio.sleep(0.05)

    def end(self) -> None:
        """At once: what it holds is for the test only."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(15)
