"""`orchestrator init`: a hardened starting point in a folder of its own, and how it fares after upgrades."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.starting_point.files import Backend, Platform

if TYPE_CHECKING:
    from orchestrator.cli.starting_point.files import Choices, StartingFile
    from orchestrator.cli.starting_point.stamp import Standing

EXAMPLES = (
    "orchestrator init ci-runners",
    "orchestrator init ci-runners --backend kubernetes --ci github --ci gitlab --url https://runners.example",
    "orchestrator init ci-runners --check",
)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where it goes. It is made when it is not there.")]
Url = Annotated[str, typer.Option(help="Where the daemon is reached: the issuer of its tokens. Can be chosen later.")]


def init(
    folder: Folder,
    backend: Annotated[Backend, typer.Option(help="Where runners live.")] = Backend.SANDBOX,
    ci: Annotated[list[Platform] | None, typer.Option("--ci", help="Where jobs come from; repeatable.")] = None,
    url: Url = "",
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; say which files of a folder that init wrote are stale.")
    ] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Write the files again that were not changed since they were written.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print what was written, or how each file fares, as JSON.")
    ] = False,
) -> None:
    """Write a starting point: settings with pools by tier, policies with tests, a trust map for each environment,
    approvers, jobs and pipelines.

    It is closed: nobody may deploy, and no token is made, before the files name who may. Nothing is overwritten. With
    --check and --update a folder is compared with what this version of the program would write for the same choices;
    --check ends with 1 when a file is stale.
    """
    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.starting_point.files import Choices

    if check and update:
        raise UsageError("give --check or --update, not both")
    if check or update:
        _compare(folder, json=json, update=update)
        return
    _check_url(url)
    chosen = tuple(dict.fromkeys(ci or [Platform.DISPATCH]))
    _begin(folder, Choices(backend, chosen, url.rstrip("/")), json=json)


def _check_url(url: str) -> None:
    from pydantic import ValidationError

    from orchestrator.cli.exits import UsageError
    from orchestrator.settings import ServerSettings

    try:
        ServerSettings(public_url=url.rstrip("/"))
    except ValidationError:
        raise UsageError("--url must start with http:// or https://", fix="--url https://runners.example") from None
    if any(not ("!" <= one <= "~") or one in "\"'\\{}$`" for one in url):
        raise UsageError("--url has characters that no URL has", fix="--url https://runners.example")


def _begin(folder: Path, choices: Choices, *, json: bool) -> None:
    from orchestrator.cli.exits import CommandError
    from orchestrator.cli.output import note, print_json
    from orchestrator.cli.starting_point.files import files_of
    from orchestrator.cli.starting_point.stamp import STAMP, Stamp, digest_of

    files = files_of(choices)
    there = [name for name in (*files, STAMP) if (folder / name).is_symlink() or (folder / name).exists()]
    if there:
        shown = ", ".join(there[:5]) + (f" and {len(there) - 5} more" if len(there) > 5 else "")
        raise CommandError(f"{folder} already has {shown}; nothing was written", fix="name another folder, or --update")
    digests = {name: digest_of(file.content) for name, file in files.items()}
    _write(folder, files, replace=False)
    _put(folder / STAMP, Stamp(choices, digests).encode(), replace=False)
    if json:
        print_json({"folder": str(folder), "files": sorted(files)})
    else:
        note(f"wrote {len(files)} files to {folder}; begin with {folder / 'README.md'}, and run {folder / 'check'}")


def _compare(folder: Path, *, json: bool, update: bool) -> None:
    from orchestrator.cli.exits import ExitCode
    from orchestrator.cli.output import note, print_json
    from orchestrator.cli.starting_point.files import TEMPLATE, files_of
    from orchestrator.cli.starting_point.stamp import (
        NEEDS_A_LOOK,
        STAMP,
        Stamp,
        Standing,
        digest_of,
        read_stamp,
        standing,
    )

    stamp = read_stamp(folder)
    files = files_of(stamp.choices)
    found = standing(folder, stamp, files)
    if update:
        ours = {name: files[name] for name, how in found.items() if how in (Standing.STALE, Standing.NEW)}
        _write(folder, ours, replace=True)
        digests = {name: digest_of(files[name].content) for name in files if name in stamp.digests or name in ours}
        _put(folder / STAMP, Stamp(stamp.choices, digests).encode(), replace=True)
    wanted = (Standing.BOTH,) if update else NEEDS_A_LOOK
    if json:
        print_json(
            {"written_by": stamp.template, "now": TEMPLATE, "files": {name: str(how) for name, how in found.items()}}
        )
    else:
        for line in _lines(found, update=update):
            note(line)
    if any(how in wanted for how in found.values()):
        raise typer.Exit(ExitCode.FAILURE)


_SAID: Mapping[str, str] = {
    "stale": "stale: the starting point has a newer one, and you have not changed yours",
    "both": "changed here and in the starting point: compare them by hand",
    "new": "new in the starting point",
    "gone": "taken away here",
}


def _lines(found: Mapping[str, Standing], *, update: bool) -> list[str]:
    lines = []
    for name, how in found.items():
        if update and how.value in ("stale", "new"):
            lines.append(f"{name}: written")
        elif how.value in _SAID:
            lines.append(f"{name}: {_SAID[how.value]}")
    return lines or [f"all {len(found)} files are current, or yours"]


def _write(folder: Path, files: Mapping[str, StartingFile], *, replace: bool) -> None:
    from orchestrator.cli.exits import CommandError

    for below in sorted({parent for name in files for parent in Path(name).parents}):
        if below.parts and (folder / below).is_symlink():
            raise CommandError(f"{folder / below} is a link; nothing was written", fix="put a folder in its place")
    for name, file in files.items():
        _put(folder / name, file.content, replace=replace, executable=file.executable)


def _put(path: Path, content: bytes, *, replace: bool, executable: bool = False) -> None:
    """Never through a link, and without `replace` never over anything. Raises CommandError."""
    from orchestrator.cli.exits import CommandError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if replace:
            path.unlink(missing_ok=True)
        with path.open("xb") as file:
            file.write(content)
        if executable:
            path.chmod(0o755)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}", fix="check its permissions") from None
