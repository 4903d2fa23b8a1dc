"""What a program needs to run: modules by reading its imports, shared libraries by asking the loader."""

from __future__ import annotations

import modulefinder
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

HIDDEN_IMPORTS = (
    "_strptime",  # time.strptime, in C
    "encodings.aliases",
    "encodings.ascii",
    "encodings.idna",  # host names, by the codec's name
    "encodings.latin_1",  # http.client
    "encodings.utf_8",
    "linecache",  # tracebacks, in C
    "runpy",  # python -m
    "site",
    "stringprep",
    "traceback",
    "warnings",
)
"""Modules that are imported by name from C or by a registry, where no reading of imports finds them."""

IRRELEVANT = (
    *("doctest", "msvcrt", "multiprocessing", "nt", "pdb", "pydoc", "readline", "rlcompleter"),
    *("statistics", "test", "tkinter", "unittest", "webbrowser"),
)
"""Imported by standard modules only when these are run as a program, are typed at, or run on another system."""

PT_INTERP = 3


def modules(program: str, search: Iterable[Path]) -> Iterator[Path]:
    """Files of all modules that `program` can import, those inside functions too."""
    finder = modulefinder.ModuleFinder(path=[str(path) for path in search], excludes=list(IRRELEVANT))
    for name in (*HIDDEN_IMPORTS, program):
        finder.import_hook(name, fromlist=["*"] if "." in name else None)
    for _, module in sorted(finder.modules.items()):
        if file := vars(module)["__file__"]:
            yield Path(file)
    ours = program.partition(".")[0]
    if missing := sorted(name for name in finder.badmodules if name.partition(".")[0] == ours):
        sys.exit(f"images: {program} imports what is not there: {', '.join(missing)}")


def loader_of(program: Path) -> Path:
    """The dynamic loader that a 64-bit ELF program names (System V ABI, program header PT_INTERP)."""
    data = program.read_bytes()
    if data[:5] != b"\x7fELF\x02":
        sys.exit(f"images: {program} is no 64-bit ELF program")
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for number in range(count):
        kind, _, start, _, _, length = struct.unpack_from("<IIQQQQ", data, offset + number * size)
        if kind == PT_INTERP:
            return Path(data[start : start + length].rstrip(b"\0").decode())
    sys.exit(f"images: {program} names no dynamic loader")


def libraries(root: Path, loader: Path, more: Iterable[str]) -> Iterator[Path]:
    """Shared libraries outside `root`'s own that its ELF files are linked with, and those named in `more`.

    Each file is asked about at its place in the base, so that paths relative to it hold.
    """
    found: set[Path] = set()
    for copy in sorted(path for path in root.rglob("*") if _is_elf(path)):
        found.update(_linked(loader, Path("/") / copy.relative_to(root)))
    folders = {path.parent for path in found}
    for name in more:
        found.update(folder / name for folder in folders if (folder / name).exists())
    yield from sorted(found)


def _is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _linked(loader: Path, path: Path) -> Iterator[Path]:
    """By the loader's own list: `name => /path (0x...)`, or `/path (0x...)` for the loader itself."""
    listing = subprocess.run([loader, "--list", path], capture_output=True, text=True, check=False)
    if listing.returncode and "statically linked" not in listing.stdout + listing.stderr:
        sys.exit(f"images: {path}: {listing.stderr.strip() or listing.stdout.strip()}")
    for line in listing.stdout.splitlines():
        if "not found" in line:
            sys.exit(f"images: {path} needs {line.strip()}")
        place = line.partition("=>")[2].strip().partition(" (")[0]
        if place.startswith("/"):
            yield Path(place)
