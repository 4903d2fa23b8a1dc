"""The image that the demo's jobs run in as pods: Debian's packages, and this virtual environment's libraries on top."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

from node import IMAGES, ROOT, Node, NoNodeError, of_layers, python_base

NAME = "runner.local/demo-job:1"
TOOLCHAIN = "/opt/toolchain"
LOCK = ROOT / "requirements/dev.txt"
LEFT_OUT = re.compile(
    r"/(kubernetes_validate|cel_expr_python|kubernetes_asyncio|mypy|mypyc|pip|setuptools|grimp)(/|$)"
    r"|__mypyc\.[^/]*\.so$|/_?(ephemeral_runner_orchestrator|__editable__)[^/]*\.pth$"
)
"""Large, and no job of the demo uses it."""


def job_image(node: Node) -> str:
    """Have the node hold it; its name. What it is made of is kept beside the other images.

    Raises:
        NoNodeError: it cannot be made here.
    """
    base = python_base(ROOT / "tests/demo/packages")
    version = _python_of(base)
    key = hashlib.sha256(f"{base.name} {version}".encode() + LOCK.read_bytes()).hexdigest()[:16]
    layer = IMAGES / f"demo-toolchain-{key}.tar"
    if not layer.is_file():
        _toolchain(version, layer)
    with tempfile.TemporaryDirectory(prefix="orchestrator-demo-") as place:
        return node.load(of_layers(NAME, [base, layer], Path(place, "image.tar")))


def _python_of(base: Path) -> str:
    with tarfile.open(base) as tar:
        return Path(tar.getmember("./usr/bin/python3").linkname).name.removeprefix("python")


def _toolchain(version: str, target: Path) -> None:
    """A virtual environment over the image's Python: this one's libraries, or the lock's for another Python."""
    with tempfile.TemporaryDirectory(prefix="orchestrator-demo-") as place:
        packages = Path(sysconfig.get_path("purelib"))
        if version != "{}.{}".format(*sys.version_info):
            packages = Path(place)
            _install(version, packages)
        partial = target.with_suffix(".partial")
        inside = f"{TOOLCHAIN.lstrip('/')}/lib/python{version}/site-packages"
        with tarfile.open(partial, "w") as tar:
            tar.add(packages, inside, filter=lambda one: None if LEFT_OUT.search(f"/{one.name}") else one)
            link = tarfile.TarInfo(f"{TOOLCHAIN.lstrip('/')}/bin/python")
            link.type, link.linkname = tarfile.SYMTYPE, "/usr/bin/python3"
            tar.addfile(link)
            config = Path(place, "pyvenv.cfg")
            config.write_text(f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {version}\n")
            tar.add(config, f"{TOOLCHAIN.lstrip('/')}/pyvenv.cfg")
        partial.replace(target)


def _install(version: str, target: Path) -> None:
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(target),
        "--python-version", version, "--implementation", "cp", "--only-binary", ":all:", "--no-deps",
        "--require-hashes", "--requirement", str(LOCK),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoNodeError(f"the demo's libraries cannot be had for Python {version}: {done.stderr[-500:]}")
