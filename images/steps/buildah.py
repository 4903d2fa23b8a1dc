"""buildah with a storage of its own, thrown away at the end: nothing of the machine's is read or left changed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

EX_UNAVAILABLE, EX_SOFTWARE, EX_CONFIG = 69, 70, 78

DESCRIPTION = (
    "import json, platform, sys; print(json.dumps([sys.version_info[:2], platform.machine(), platform.libc_ver()[1]]))"
)


class BuildError(Exception):
    """The build cannot go on; `code` is the exit code (sysexits.h)."""

    def __init__(self, message: str, code: int = EX_SOFTWARE) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """What decides which wheels run on a base image."""

    python: tuple[int, int]
    machine: str
    glibc: str


class Buildah:
    """Builds without a daemon, without network in the build, and by `chroot`: no container runtime is needed."""

    def __init__(self, program: str, storage: Path) -> None:
        self._program = program
        self._storage = storage
        self._lock: IO[bytes] | None = None

    @classmethod
    def open(cls, storage: Path) -> Buildah:
        """Raises BuildError where buildah is missing or may not work."""
        program = shutil.which("buildah")
        if not program:
            raise BuildError("buildah is missing\n  fix: run images/prepare as root", EX_UNAVAILABLE)
        if os.geteuid() != 0:
            raise BuildError("buildah's chroot isolation needs root here\n  fix: run this as root", EX_UNAVAILABLE)
        return cls(program, storage)

    def __enter__(self) -> Self:
        self._lock = self._storage.with_suffix(".lock").open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # another build in this folder goes first
        self._remove()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._remove()
        if self._lock:
            self._lock.close()

    def build(self, file: Path, folder: Path, arguments: Mapping[str, str]) -> str:
        """The id of the image that `file` makes of the context `folder`. Every time stamp in it is the source's."""
        options = [part for key, value in sorted(arguments.items()) for part in ("--build-arg", f"{key}={value}")]
        epoch = arguments.get("SOURCE_DATE_EPOCH", "0")
        with tempfile.NamedTemporaryFile(prefix="image-id-") as result:
            self._run(
                *(
                    "bud",
                    "--quiet",
                    "--isolation",
                    "chroot",
                    "--layers=false",
                    "--identity-label=false",
                    "--pull-never",
                ),
                *("--format", "oci", "--timestamp", epoch, "--iidfile", result.name, *options),
                *("--file", str(file), str(folder)),
                offline=True,
            )
            return Path(result.name).read_text("ascii").strip()

    def fetch(self, reference: str) -> None:
        """Have an image in the storage; local ones are there already."""
        if not self._run("images", "--quiet", reference, check=False):
            self._run("pull", "--quiet", reference)

    def tag(self, image: str, name: str) -> str:
        """`name@sha256:...`, by which the image can then be used as a base."""
        self._run("tag", image, name)
        listed = json.loads(self._run("images", "--json", name))
        return f"{name.rpartition(':')[0]}@{listed[0]['digest']}"

    def describe(self, reference: str) -> BaseFacts:
        """Asks the own interpreter of a base that is in the storage."""
        container = self._run("from", "--pull-never", reference)
        try:
            answer = self._run("run", "--isolation", "chroot", container, "--", "python3", "-I", "-c", DESCRIPTION)
        finally:
            self._run("rm", container)
        (major, minor), machine, glibc = json.loads(answer)
        return BaseFacts((major, minor), machine, glibc)

    def layout(self, image: str, folder: Path) -> Path:
        """The image as an OCI layout in `folder`, which is emptied first."""
        shutil.rmtree(folder, ignore_errors=True)
        self._run("push", "--quiet", "--format", "oci", image.removeprefix("sha256:"), f"oci:{folder}:latest")
        return folder

    def _remove(self) -> None:
        if self._storage.exists():
            self._run("rm", "--all", check=False)
            shutil.rmtree(self._storage)

    def _run(self, *arguments: str, check: bool = True, offline: bool = False) -> str:
        """What buildah wrote. `offline` runs it in an empty network namespace: `chroot` has none of its own."""
        command = [
            *(("unshare", "--net") if offline else ()),
            *(self._program, "--storage-driver", "vfs"),
            *("--root", str(self._storage / "root"), "--runroot", str(self._storage / "run"), *arguments),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if check and done.returncode:
            words = (done.stderr or done.stdout).strip().splitlines()[-20:]
            raise BuildError("\n".join([f"buildah {arguments[0]} failed:", *words]))
        return done.stdout.strip() if not done.returncode else ""
