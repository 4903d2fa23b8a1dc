"""`orchestrator reload`: have the daemon read its settings, rules and keys again, without a restart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from orchestrator.cli.session import client_of

EXAMPLES = ("orchestrator reload", "orchestrator reload --json")


def reload(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Read settings, policy, trust map and keys again. What does not fit changes nothing, and exit code 1 says so.

    Jobs that have begun keep their pool as it was. Settings that need a restart are named and stay as they are.
    """
    from orchestrator.cli import output
    from orchestrator.cli.exits import ExitCode
    from orchestrator.cli.operations.calls import Operating

    answer = Operating(client_of(context)).reload()
    if json:
        output.print_json(answer)
    else:
        for part in answer["parts"]:
            for line in _lines(part):
                output.say(line)
    if answer["outcome"] == "refused":
        raise typer.Exit(ExitCode.FAILURE)


def _lines(part: Mapping[str, Any]) -> Iterator[str]:
    from orchestrator.cli.render import plain

    what, outcome = plain(part["what"]), part["outcome"]
    if outcome == "refused":
        yield f"{what}: refused, and what was in force stays [{part['reason']}]"
        yield from (f"  {plain(line)}" for line in part["detail"].splitlines())
        if part["fix"]:
            yield f"  fix: {plain(part['fix'])}"
        return
    yield f"{what}: {outcome}"
    yield from (f"  in force: {plain(name)}" for name in part["changed"])
    yield from (f"  needs a restart: {plain(name)}" for name in part["needs_restart"])
    yield from (
        f"  pool {plain(pool)} is gone: {count} job(s) that had not begun end as unknown_pool"
        for pool, count in part["jobs_ending"].items()
    )
    yield from (
        f"  pool {plain(pool)}: gateways cannot reach {_ports(ports)} before the manifests are rendered and applied"
        for pool, ports in part["ports_closed"].items()
    )


def _ports(ports: Sequence[int]) -> str:
    return f"port{'s' if len(ports) > 1 else ''} {', '.join(map(str, ports))}"
