"""What the subcommands have in common: their options, what is done first, and a token into a file."""

from __future__ import annotations

import argparse

from .exchange import Answer, exchange


def parser(name: str, purpose: str, audience: str = "", more: str = "") -> argparse.ArgumentParser:
    """Of one subcommand, with what all of them take. `audience` is the one that its party expects."""
    made = argparse.ArgumentParser(
        prog=f"orchestrator-token {name}", description=purpose, epilog=more, allow_abbrev=False
    )
    default = f"; default {audience}" if audience else ""
    made.add_argument(
        "--audience",
        required=not audience,
        default=audience,
        help=f"who the token is for, as that party expects it in 'aud'{default}",
    )
    made.add_argument("--role", default="", help="role there, which the trust map must list for this job")
    made.add_argument(
        "--artifact",
        default="",
        metavar="FILE|DIGEST",
        help="what this job deploys, where it was dispatched without: named first, and the token is bound to it",
    )
    return made


def name_first(options: argparse.Namespace) -> None:
    """Say what the job deploys, if its command does; then ask for whatever is bound to it."""
    if options.artifact:
        from . import artifact

        artifact.name_artifact(options.artifact)


def into_file(path: str, audience: str, role: str, *, watch: bool) -> Answer:
    """Ask and write; with `watch` a process in the background goes on doing so."""
    from . import files

    answer = exchange(audience, role)
    files.put(path, answer.token)
    if watch:
        files.keep_fresh(path, answer, lambda: exchange(audience, role))
    return answer
