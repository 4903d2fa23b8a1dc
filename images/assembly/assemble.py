"""Assembles an image's root folder inside the build stage: an interpreter, its library, our program, and no more.

Everything is copied from the machine this runs on, the base image. Shared libraries are those that the copied
programs and extension modules are linked with, by the base's own loader. What is not asked for (shell, package
manager, pip, tests of the standard library) is not there in the end. The result is the same for the same base:
modes are normalized, caches are compiled by content and not by time.

Standard library only; Python 3.11 or newer.
"""

from __future__ import annotations

import argparse
import compileall
import os
import py_compile
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # -I leaves it out

import closure
import sbom

OMITTED = frozenset(
    (
        *("EXTERNALLY-MANAGED", "curses", "dbm", "distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data"),
        *("test", "tests", "tkinter", "turtle.py", "turtledemo", "venv"),
    )
)
"""Of the standard library: development tools, user interfaces, tests. At its top level, `test(s)` anywhere."""
OMITTED_EXTENSIONS = ("_tkinter", "_test", "_xx", "xx", "_ctypes_test", "readline", "_curses", "_dbm", "_gdbm", "nis")
"""Extension modules by prefix that are for the above, or link with libraries that nothing else needs."""

LOADED_LATE = ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2")
"""What glibc opens by name when a thread is cancelled or a host is looked up; the latter two are in glibc from 2.34."""

MOUNT_POINTS = ("dev", "etc", "proc", "run", "sys", "tmp")
KEPT_FILES = ("/etc/os-release", "/etc/ssl/openssl.cnf", "/usr/lib/ssl/openssl.cnf", "/etc/ld.so.conf")
STATE = Path("/state")
"""Becomes the state folder: empty, and the user's own (the build file says so)."""


class Tree:
    """The root folder being made. A file keeps its path; folders that are links in the base stay links."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sources: set[Path] = set()
        """Paths in the base that something was copied from."""

    def of(self, path: Path) -> Path:
        return self.root / path.relative_to("/")

    def place(self, path: Path) -> None:
        """One file, under its real folder; a link with what it leads to."""
        real = Path(os.path.realpath(path.parent)) / path.name
        target = self.of(real)
        if target.exists() or target.is_symlink():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        self.sources.add(real)
        if real.is_symlink():
            target.symlink_to(real.readlink())
            self.place(Path(os.path.normpath(real.parent / real.readlink())))
        else:
            shutil.copyfile(real, target)
            target.chmod(0o755 if real.stat().st_mode & stat.S_IXUSR else 0o644)

    def place_folder(self, folder: Path, omitted: frozenset[str] = frozenset()) -> None:
        for path in sorted(folder.iterdir()):
            if path.name in omitted or path.name in ("__pycache__", "tests", "test"):
                continue
            if path.is_dir() and not path.is_symlink():
                self.place_folder(path)
            else:
                self.place(path)

    def link_folders(self) -> None:
        """`/lib` and `/lib64` are links in a base with merged `/usr`; the loader's path goes through them."""
        for name in ("lib", "lib64"):
            source = Path("/", name)
            if source.is_symlink() and (self.root / source.readlink()).is_dir():
                (self.root / name).symlink_to(source.readlink())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", type=Path, required=True, help="root folder to make")
    parser.add_argument("--name", required=True, help="the image's name, for its SBOM")
    parser.add_argument("--folder", type=Path, required=True, help="virtual environment with our program")
    parser.add_argument("--package", type=Path, help="folder of modules to put into that environment")
    parser.add_argument("--program", help="module that is run; the library is cut down to what it can import")
    parser.add_argument("--wheels", type=Path, help="folder of the wheels that were installed, for their hashes")
    parser.add_argument("--user", required=True, help="NAME:UID")
    parser.add_argument("--file", type=Path, action="append", default=[], help="another file of the base")
    options = parser.parse_args()

    tree = Tree(options.image)
    packages = next(options.folder.glob("lib/python*/site-packages"))
    if options.package:
        shutil.copytree(options.package, packages, dirs_exist_ok=True)
    _tidy(options.folder)
    tree.place_folder(options.folder)
    interpreter = Path(os.path.realpath(sys.executable))
    tree.place(interpreter)
    _place_library(tree, options.program, packages)
    for path in (*options.file, *map(Path, KEPT_FILES), *sorted(Path("/etc/ld.so.conf.d").glob("*.conf"))):
        if path.exists():
            tree.place(path)
        elif path in options.file:
            sys.exit(f"images: the base has no {path}")
    loader = closure.loader_of(interpreter)
    tree.place(loader)
    for library in closure.libraries(tree.root, loader, LOADED_LATE):
        tree.place(library)
    tree.link_folders()
    _write_users(tree.root, options.user)
    for name in MOUNT_POINTS:
        (tree.root / name).mkdir(exist_ok=True)
    STATE.mkdir(exist_ok=True)
    subprocess.run(["ldconfig", "-X", "-r", tree.root], check=True)
    shutil.rmtree(tree.root / "var/cache/ldconfig", ignore_errors=True)
    _compile(tree, packages)
    debian = sbom.debian_packages(tree.sources)
    sbom.keep_records(tree.root, debian)
    sbom.write(tree.root, options.name, sbom.components(tree.of(packages), options.wheels, debian, interpreter))
    _normalize(tree.root)


def _tidy(environment: Path) -> None:
    """The environment's activation scripts are for shells, and its other commands are not ours."""
    for path in (environment / "bin").iterdir():
        if path.name != "orchestrator" and not path.name.startswith("python"):
            path.unlink()
    for name in ("include", "lib64"):
        path = environment / name
        path.unlink() if path.is_symlink() else shutil.rmtree(path, ignore_errors=True)


def _place_library(tree: Tree, program: str | None, packages: Path) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    extensions = Path(sysconfig.get_path("platstdlib")) / "lib-dynload"
    if program:
        for path in closure.modules(program, [packages, library, extensions]):
            if path.is_relative_to(library):
                tree.place(path)
    else:
        tree.place_folder(library, OMITTED | {"lib-dynload", "site-packages", "dist-packages"} | _build_files(library))
        for path in extensions.iterdir():
            if not path.name.startswith(OMITTED_EXTENSIONS):
                tree.place(path)


def _build_files(library: Path) -> set[str]:
    """Makefile, headers and static library of the interpreter."""
    return {path.name for path in library.glob("config-*")}


def _write_users(root: Path, user: str) -> None:
    name, uid = user.split(":")
    etc = root / "etc"
    etc.mkdir(exist_ok=True)
    nologin = "/nonexistent"
    (etc / "passwd").write_text(f"root:x:0:0:root:/:{nologin}\n{name}:x:{uid}:{uid}:{name}:/:{nologin}\n")
    (etc / "group").write_text(f"root:x:0:\n{name}:x:{uid}:\n")
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")


def _compile(tree: Tree, packages: Path) -> None:
    """The root is read-only at run time, so a cache that is not made now would be missing at every start."""
    for folder in (Path(sysconfig.get_path("stdlib")), packages):
        done = compileall.compile_dir(
            tree.of(folder),
            maxlevels=30,
            stripdir=str(tree.root),
            quiet=1,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        if not done:
            sys.exit(f"images: not everything below {folder} can be compiled")


def _normalize(root: Path) -> None:
    """Nobody but root may change anything, and nothing gives its caller more rights."""
    for folder, folders, names in os.walk(root):
        Path(folder).chmod(0o755)
        for name in (*folders, *names):
            path = Path(folder, name)
            os.chown(path, 0, 0, follow_symlinks=False)
            if path.is_file() and not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
    (root / "tmp").chmod(0o1777)


if __name__ == "__main__":
    main()
