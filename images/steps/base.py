"""The base image for machines that reach no registry, made from Debian's packages by mmdebstrap."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from steps.buildah import EX_CONFIG, EX_UNAVAILABLE, Buildah, BuildError

SUITE = "bookworm"
NAME = "localhost/orchestrator-base"
EPOCH = 1_700_000_000
"""Seconds; what the base's files are dated. Only that it is always the same matters."""

_ASSEMBLY = Path(__file__).resolve().parent.parent / "assembly"


def made(buildah: Buildah, folder: Path, listed: Path, output: Path, refresh: bool) -> str:
    """The base by digest, with the packages in the file `listed` as they were on the day: `refresh` fetches newer."""
    archive = root(listed, output, refresh)
    with tempfile.TemporaryDirectory(dir=output) as place:
        (Path(place) / "base.tar").hardlink_to(archive)
        image = buildah.build(folder / "Containerfile", Path(place), {"SOURCE_DATE_EPOCH": str(EPOCH)})
    return buildah.tag(image, f"{NAME}:{SUITE}-{archive.stem.removeprefix('base-')}")


def root(listed: Path, output: Path, refresh: bool = False) -> Path:
    """The root folder of Debian with those packages, as a tar that is kept in `output`."""
    wanted = packages(listed)
    key = hashlib.sha256("\n".join([SUITE, *wanted]).encode()).hexdigest()[:16]
    archive = output / f"base-{key}.tar"
    if refresh or not archive.is_file():
        _bootstrap(wanted, archive)
    return archive


def packages(file: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in file.read_text("ascii").splitlines())
    return sorted(line for line in lines if line)


def check_pinned(reference: str) -> None:
    """The same check that the build makes, before anything is fetched."""
    command = [sys.executable, "-I", str(_ASSEMBLY / "pinned.py")]
    done = subprocess.run(command, env={"BASE": reference}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(done.stderr.strip().removeprefix("images: "), EX_CONFIG)


def _bootstrap(wanted: list[str], target: Path) -> None:
    """apt resolves and verifies by the machine's Debian keyring. Raises BuildError with its last words."""
    program = shutil.which("mmdebstrap")
    if not program:
        raise BuildError("mmdebstrap is missing\n  fix: run images/prepare as root", EX_UNAVAILABLE)
    partial = target.with_suffix(".partial")
    print(f"images: making the base from {SUITE} (once; two minutes or so)", file=sys.stderr)
    command = [program, "--variant=essential", f"--include={','.join(wanted)}", "--format=tar", SUITE, str(partial)]
    try:
        done = subprocess.run(
            command,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SOURCE_DATE_EPOCH": str(EPOCH), **_proxies()},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            words = [line for line in done.stderr.splitlines() if re.match(r"[EW]:", line)] or done.stderr.splitlines()
            raise BuildError("\n".join(["mmdebstrap failed:", *words[-10:]]))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _proxies() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key.lower() in ("http_proxy", "https_proxy", "no_proxy")}
