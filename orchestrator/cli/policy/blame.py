"""`orchestrator policy blame`: where did a bundle come from, and what was decided under it?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.policy.log import Folder, Since, Until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.policy.decision_log.bundles import BundleArchive, Load

EXAMPLES = (
    "orchestrator policy blame sha256:3f2a91 --repository ~/policies",
    "orchestrator policy blame 3f2a91 --since 7d --json",
)

_LEAST = 6


def policy_blame(
    digest: Annotated[
        str, typer.Argument(metavar="DIGEST", help="The bundle's digest as decisions have it, or a beginning of it.")
    ],
    folder: Folder = None,
    repository: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The bundle's folder in a git clone. Default: where the daemon read it, if that is one.",
        ),
    ] = None,
    since: Since = "30d",
    until: Until = "",
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON, with all jobs.")] = False,
) -> None:
    """Tell who made a bundle of rules and why, when it was in force, and which jobs were decided under it.

    The commit is found by the content of the repository, not by anybody's word. Needs no daemon, and may run beside
    one.
    """
    from orchestrator.cli.output import print_json, show
    from orchestrator.cli.policy.log import log_folder, readable, tell_problems, window_of
    from orchestrator.cli.render.policy import blame_lines
    from orchestrator.policy.decision_log.blame import uses_of
    from orchestrator.policy.decision_log.bundles import BundleArchive

    chosen, window = log_folder(folder), window_of(since, until)
    archive = BundleArchive(chosen / "bundles")
    whole = _whole(digest, archive.loads())
    loads = [load for load in archive.loads() if load.digest == whole]
    uses = readable(lambda: uses_of(chosen, whole, window))
    report: dict[str, Any] = {
        "digest": whole,
        **_commit(whole, repository, loads),
        "loads": [{name: getattr(load, name) for name in load.__struct_fields__} for load in loads],
        "changed_files": _changed(archive, loads),
        "uses": uses.as_json(),
    }
    if json:
        print_json(report)
    else:
        show(*blame_lines(report))
    tell_problems(uses.problems)


def _whole(beginning: str, loads: Sequence[Load]) -> str:
    """The digest meant: a whole one is taken as it is, for a copy of the log may have lost what was kept beside it.

    Raises:
        UsageError: no bundle that was in force, or several, begin so.
    """
    import re

    from orchestrator.cli.exits import UsageError
    from orchestrator.policy.decision_log.blame import digests_like

    if re.fullmatch(r"sha256:[0-9a-f]{64}", beginning):
        return beginning
    wanted = beginning.removeprefix("sha256:")
    if not re.fullmatch(r"[0-9a-f]{1,64}", wanted) or len(wanted) < _LEAST:
        raise UsageError(f"{beginning[:80]!r} is no digest", fix=f"give at least {_LEAST} of its hexadecimal digits")
    found = digests_like(wanted, (load.digest for load in loads))
    if len(found) == 1:
        return found[0]
    raise UsageError(
        f"{'several bundles' if found else 'no bundle'} that were in force begin with {wanted}",
        fix="give more digits" if found else "orchestrator policy decisions --json shows the digest of each decision",
    )


def _commit(digest: str, repository: Path | None, loads: Sequence[Load]) -> dict[str, Any]:
    """The commit that gave the bundle, or why there is none to tell.

    Raises:
        HistoryUnreadableError: the repository that was named is none.
    """
    from orchestrator.policy.decision_log.commits import MAX_COMMITS, History, HistoryUnreadableError

    folder = repository or next((Path(load.folder) for load in reversed(loads) if Path(load.folder).is_dir()), None)
    if folder is None:
        return {"commit": None, "commit_unknown": "name the bundle's folder in a clone with --repository"}
    try:
        commit = History(folder).find(digest)
    except HistoryUnreadableError as error:
        if repository is not None:
            raise
        return {"commit": None, "commit_unknown": f"{error}; {error.fix}"}
    if commit is None:
        unknown = f"none of the last {MAX_COMMITS} commits of {folder} gives this bundle: it was never committed there"
        return {"commit": None, "commit_unknown": unknown}
    return {"commit": asdict(commit), "commit_unknown": ""}


def _changed(archive: BundleArchive, loads: Sequence[Load]) -> list[str]:
    """What its first load changed; empty where the bundle before is not known."""
    from orchestrator.policy.decision_log.blame import changed_files

    if not loads or not loads[0].before:
        return []
    before, after = archive.read(loads[0].before), archive.read(loads[0].digest)
    return list(changed_files(before, after)) if before is not None and after is not None else []
