"""The build context: sources, the lock, and every wheel it names, so that the build itself needs no network."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker

from steps.buildah import EX_CONFIG, BaseFacts, BuildError

OLDEST_GLIBC = 5
"""manylinux_2_5 is manylinux1, the oldest there is (PEP 600)."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is built: the working tree, its version, and the commit it stands on with that commit's time."""

    root: Path
    version: str
    revision: str
    epoch: int
    """Seconds since 1970, put on every file; SOURCE_DATE_EPOCH where it is set (reproducible-builds.org)."""

    @classmethod
    def of(cls, root: Path, revision: str = "") -> Source:
        """`revision` instead of git's, where there is no git or the build is to be repeated elsewhere."""
        version = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
        changed = ("status", "--porcelain", "--", "orchestrator", "images", "requirements", "pyproject.toml")
        revision = revision or (_git(root, "rev-parse", "HEAD") or "unknown") + (
            "-dirty" if _git(root, *changed) else ""
        )
        epoch = os.environ.get("SOURCE_DATE_EPOCH") or _git(root, "log", "-1", "--format=%ct") or "0"
        return cls(root, version, revision, int(epoch))

    @property
    def arguments(self) -> dict[str, str]:
        return {"VERSION": self.version, "REVISION": self.revision, "SOURCE_DATE_EPOCH": str(self.epoch)}


def made(source: Source, folder: Path) -> Path:
    """The context in `folder`, as far as our own sources go."""
    _copy_sources(source.root / "images/assembly", folder / "assembly")
    _copy_sources(source.root / "orchestrator/agent", folder / "agent/orchestrator/agent")
    shutil.copyfile(source.root / "orchestrator/__init__.py", folder / "agent/orchestrator/__init__.py")
    return folder


def add_wheels(source: Source, folder: Path, base: BaseFacts) -> None:
    """The lock and its wheels. They stay from one build to the next; the lock's hashes are checked each time."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    for own in wheels.glob("ephemeral_runner_orchestrator-*.whl"):
        own.unlink()
    lock = source.root / "requirements/runtime.txt"
    shutil.copyfile(lock, folder / "requirements.txt")
    _download(lock.read_text("utf-8"), wheels, base)
    _build_wheel(source, wheels)
    own = next(wheels.glob("ephemeral_runner_orchestrator-*.whl"))
    digest = hashlib.sha256(own.read_bytes()).hexdigest()
    (folder / "own.txt").write_text(f"/wheels/{own.name} --hash=sha256:{digest}\n")


def add_runner(folder: Path, archive: Path | None, digest: str) -> dict[str, str]:
    """The GitHub runner's release in the context, and build arguments for it. The build checks the hash."""
    if not archive or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise BuildError("github-runner needs --archive and --archive-sha256 (64 hexadecimal digits)", EX_CONFIG)
    shutil.copyfile(archive, folder / "actions-runner.tar.gz")
    return {"RUNNER_SHA256": digest}


def _copy_sources(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))


def _download(lock: str, wheels: Path, base: BaseFacts) -> None:
    """By pip, as this machine is configured, for the base's interpreter and not for this one."""
    wanted = wheels.parent / "download.txt"
    wanted.write_text("\n".join(_for_base(lock, base)) + "\n")
    _, minor = base.glibc.split(".")[:2]
    platforms = [f"manylinux_2_{number}_{base.machine}" for number in range(int(minor), OLDEST_GLIBC - 1, -1)]
    platforms += [f"{old}_{base.machine}" for old in ("manylinux2014", "manylinux2010", "manylinux1")]
    _python(
        *("-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"),
        *("--require-hashes", "--implementation", "cp", "--python-version", "{}.{}".format(*base.python)),
        *(part for platform in platforms for part in ("--platform", platform)),
        *("--dest", str(wheels), "--requirement", str(wanted)),
    )
    named = {_normal(line.partition("==")[0]) for line in wanted.read_text().splitlines() if line[0].isalnum()}
    for path in wheels.glob("*.whl"):
        if _normal(path.name.split("-")[0]) not in named:
            path.unlink()


def _for_base(lock: str, base: BaseFacts) -> list[str]:
    """The lock's entries that hold on the base, without their markers: pip would judge those by this machine."""
    version = "{}.{}".format(*base.python)
    environment = {
        "python_version": version,
        "python_full_version": f"{version}.0",
        "platform_machine": base.machine,
        "platform_system": "Linux",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "sys_platform": "linux",
        "os_name": "posix",
        "extra": "",
    }
    kept = []
    for entry in re.split(r"\n(?=[A-Za-z0-9])", lock):
        head, *rest = [line for line in entry.splitlines() if not line.lstrip().startswith("#")]
        requirement, _, marker = head.rstrip("\\").partition(";")
        if not marker or Marker(marker.strip()).evaluate(environment):
            kept += [f"{requirement.strip()} \\", *rest]
    return kept


def _build_wheel(source: Source, wheels: Path) -> None:
    """Our own wheel, by the build backend itself. The same sources and time give the same bytes."""
    target = str(wheels.resolve())
    _python("-m", "hatchling", "build", "--target", "wheel", "--directory", target, at=source.root, epoch=source.epoch)


def _python(*arguments: str, at: Path | None = None, epoch: int = 0) -> None:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=at, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError("\n".join([f"{' '.join(arguments[:3])} failed:", *done.stderr.strip().splitlines()[-10:]]))


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if not done.returncode else ""


def _normal(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
