"""`orchestrator trust`: checks a trust map, lists who could reach what, compares two, explains one answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.session import client_of, examples
from orchestrator.cli.trust.recipe import RECIPE_EXAMPLES, recipe

if TYPE_CHECKING:
    from orchestrator.identity.trust.trust_map import TrustMap

_MAX_FACTS = 200

CHECK_EXAMPLES = ("orchestrator trust check trust/", "orchestrator trust check staging.yaml prod.yaml --strict")
INVENTORY_EXAMPLES = ("orchestrator trust inventory", "orchestrator trust inventory trust/ --by target --json")
DIFF_EXAMPLES = (
    "orchestrator trust diff trust/ trust-new/",
    "orchestrator trust diff old.yaml new.yaml --exit-status",
)
EXPLAIN_EXAMPLES = (
    "orchestrator trust explain 3f2a sts.amazonaws.com",
    "orchestrator trust explain --claims job.json --map trust/ sts.amazonaws.com --exit-status",
)

app = typer.Typer(no_args_is_help=True, help="Work with the trust map: which job may get which token.")

app.command("recipe", epilog=examples(RECIPE_EXAMPLES))(recipe)

Json = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
Documents = Annotated[
    list[Path], typer.Argument(metavar="PATH…", help="Documents, or folders of them (.yaml and .yml).")
]


@app.command("check", epilog=examples(CHECK_EXAMPLES))
def check(
    paths: Documents,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
    json: Json = False,
) -> None:
    """Load a trust map with all its checks, as the daemon does."""
    from orchestrator.cli.exits import ExitCode
    from orchestrator.cli.output import note, print_json, show
    from orchestrator.cli.render.trust import documents_table

    trust_map = _load(paths)
    summary = _summary(trust_map)
    if json:
        print_json(summary)
    else:
        show(documents_table(summary))
    for warning in summary["warnings"]:
        note(f"warning: {warning}")
    if strict and summary["warnings"]:
        raise typer.Exit(ExitCode.FAILURE)


def _summary(trust_map: TrustMap) -> dict[str, Any]:
    return {
        "trust_digest": trust_map.digest,
        "documents": [
            {
                "environment": one.environment,
                "file": one.path,
                "digest": one.digest,
                "issuer": one.issuer,
                "protected": one.protected,
                "stricter_than": one.stricter_than,
                "targets": len(one.targets),
                "grants": len(one.grants),
            }
            for one in trust_map.documents
        ],
        "audiences": sorted(trust_map.audiences),
        "warnings": [
            f"{rule} pins no caller_issuer: an id is unique within one issuer only" for rule in trust_map.unscoped
        ],
    }


@app.command("inventory", epilog=examples(INVENTORY_EXAMPLES))
def inventory(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH…]", help="Documents, or folders of them. Default: what the daemon has in force."),
    ] = None,
    by: Annotated[str, typer.Option("--by", metavar="identity|target", help="Group by who, or by what.")] = "identity",
    json: Json = False,
) -> None:
    """List which identity could reach what, or who could reach a target."""
    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.output import print_json, show
    from orchestrator.cli.render.trust import inventory_lines
    from orchestrator.identity.trust.inventory import inventory as of

    if by not in ("identity", "target"):
        raise UsageError(f"--by is {by!r}", fix="it is identity or target")
    found = of(_load(paths)).as_json() if paths else client_of(context).trust_inventory()
    if json:
        print_json(found)
    else:
        show(*inventory_lines(found, by))


@app.command("diff", epilog=examples(DIFF_EXAMPLES))
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The map as it is: a document, or a folder of them.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The map as it would be.")],
    exit_status: Annotated[
        bool, typer.Option("--exit-status", help="Exit with 1 when anybody might get more than before.")
    ] = False,
    json: Json = False,
) -> None:
    """Tell what a change of the trust map adds, removes, widens and narrows."""
    from orchestrator.cli.exits import ExitCode
    from orchestrator.cli.output import print_json, show
    from orchestrator.cli.render.trust import difference_lines
    from orchestrator.identity.trust.difference import diff as between

    found = between(_load([old]), _load([new]))
    if json:
        print_json(found.as_json())
    else:
        show(*difference_lines(found.as_json()))
    if exit_status and found.widens:
        raise typer.Exit(ExitCode.FAILURE)


@app.command("explain", epilog=examples(EXPLAIN_EXAMPLES))
def explain(
    context: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(metavar="[JOB] AUDIENCE", help="The job, or a beginning of its id, and the token's audience."),
    ],
    claims: Annotated[
        Path | None,
        typer.Option("--claims", metavar="FILE", help="Instead of a job: its facts, claim to text, in JSON or YAML."),
    ] = None,
    maps: Annotated[
        list[Path] | None,
        typer.Option("--map", metavar="PATH", help="With --claims: a document, or a folder of them; may be repeated."),
    ] = None,
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="The role asked for. Default: none.")] = "",
    exit_status: Annotated[bool, typer.Option("--exit-status", help="Exit with 1 when it is refused.")] = False,
    json: Json = False,
) -> None:
    """Show why a job gets a token for an audience, or does not: each grant, each condition, and what was recorded.

    The daemon is asked about a job of its own. With `--claims` and `--map` no daemon is needed.
    """
    from orchestrator.cli.exits import ExitCode
    from orchestrator.cli.output import print_json, show
    from orchestrator.cli.render.trust import explanation_lines, job_lines

    if claims is not None or maps:
        document = _offline(names, claims, maps or [], role)
        explanation, lines = document, explanation_lines(document)
    else:
        document = _of_job(context, names, role)
        explanation, lines = document["explanation"], job_lines(document)
    if json:
        print_json(document)
    else:
        show(*lines)
    if exit_status and not (explanation and explanation["answer"]["granted"]):
        raise typer.Exit(ExitCode.FAILURE)


def _offline(names: list[str], claims: Path | None, maps: list[Path], role: str) -> dict[str, Any]:
    """Raises UsageError: something is missing, or a job is named too."""
    from orchestrator.cli.exits import UsageError

    if len(names) != 1 or claims is None or not maps:
        raise UsageError(
            "without a daemon give --claims FILE, --map PATH and the audience alone",
            fix="or name a job and an audience, without both options",
        )
    return _load(maps).explain(_facts(claims), names[0], role).as_json()


def _of_job(context: typer.Context, names: list[str], role: str) -> dict[str, Any]:
    """Raises UsageError: not exactly a job and an audience."""
    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.jobs.ids import resolve

    if len(names) != 2:
        raise UsageError("name a job and an audience", fix="or an audience with --claims FILE and --map PATH")
    client = client_of(context)
    return client.trust(resolve(client, names[0]), names[1], role)


def _load(paths: list[Path]) -> TrustMap:
    from orchestrator.identity.trust.trust_map import TrustMap

    return TrustMap.load(paths)


def _facts(path: Path) -> Mapping[str, str]:
    """The facts in a file.

    Raises:
        UsageError: it is no mapping of texts.
    """
    import yaml

    from orchestrator import strict_yaml
    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.jobs.jobfile import read_text

    try:
        given = strict_yaml.load(read_text(path))
    except yaml.YAMLError as error:
        raise UsageError(f"{path} {strict_yaml.describe(error)}") from None
    if not isinstance(given, Mapping) or len(given) > _MAX_FACTS:
        raise UsageError(f"{path} must be a mapping of at most {_MAX_FACTS} claims")
    for claim, value in given.items():
        if not isinstance(claim, str) or not isinstance(value, str):
            raise UsageError(f"{path}: {claim} must be a text", fix='put it in quotes; true is "true", 42 is "42"')
    return dict(given)
