"""`orchestrator policy`: a bundle's own tests, with coverage, and the commands of other modules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.policy import blame as policy_blame
from orchestrator.cli.policy import decisions as policy_decisions
from orchestrator.cli.policy import replay as policy_replay
from orchestrator.cli.policy.check import CHECK_EXAMPLES, check
from orchestrator.cli.policy.lint_pipeline import LINT_EXAMPLES, lint_pipeline
from orchestrator.cli.session import examples

if TYPE_CHECKING:
    from orchestrator.policy.rego_test_runner import TestReport

EXAMPLES = ("orchestrator policy test policies/", "orchestrator policy test policies/ --coverage --min-coverage 90")

app = typer.Typer(no_args_is_help=True, help="Work with policy bundles.")

app.command("check", epilog=examples(CHECK_EXAMPLES))(check)
app.command("lint-pipeline", epilog=examples(LINT_EXAMPLES))(lint_pipeline)


@app.command("test", epilog=examples(EXAMPLES))
def policy_test(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", help="Bundle folder. Default: the bundle shipped with the program."),
    ] = None,
    coverage: Annotated[bool, typer.Option("--coverage", help="Name the lines that no test reached.")] = False,
    min_coverage: Annotated[
        float, typer.Option(min=0, max=100, metavar="PERCENT", help="Fail when less of the lines is covered.")
    ] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Run the tests of a policy bundle: every `test_` rule in its `_test.rego` files."""
    from orchestrator.cli.exits import ExitCode
    from orchestrator.cli.output import complain, print_json
    from orchestrator.errors import GiveUpError
    from orchestrator.policy.bundle import default_bundle, run_tests

    report = run_tests(path or default_bundle())
    if json:
        print_json(report.as_json())
    else:
        _print(report, coverage=coverage)
    if report.coverage_percent < min_coverage:
        complain(
            GiveUpError(
                f"coverage is {report.coverage_percent:.1f} %, less than {min_coverage:g} %",
                fix="write tests for the lines that --coverage names",
            )
        )
    raise typer.Exit(ExitCode.OK if report.passed and report.coverage_percent >= min_coverage else ExitCode.FAILURE)


app.command("replay", epilog=examples(policy_replay.EXAMPLES))(policy_replay.policy_replay)
app.command("decisions", epilog=examples(policy_decisions.EXAMPLES))(policy_decisions.policy_decisions)
app.command("blame", epilog=examples(policy_blame.EXAMPLES))(policy_blame.policy_blame)


def _print(report: TestReport, *, coverage: bool) -> None:
    from rich.text import Text

    from orchestrator.cli.output import show
    from orchestrator.cli.render import duration, plain

    colours = {"pass": "green", "fail": "red", "error": "bold red", "skip": "yellow"}
    for result in report.results:
        word = result.outcome.value
        line = Text.assemble((f"{word:<6}", colours.get(word, "")), plain(result.name))
        show(line.append(f"  {duration(result.duration_ns / 1e9)}", "dim"))
        if word in ("fail", "error"):
            show(Text(f"      {plain(result.file)}:{result.line}: {plain(result.detail)}"))
            for text in result.prints:
                show(Text(f"      print: {plain(text)}", "dim"))
    if coverage:
        for file in report.coverage:
            missed = f"  not reached: {_ranges(file.not_covered)}" if file.not_covered else ""
            show(Text(f"{file.percent:5.1f} %  {plain(file.file)}{missed}"))
    counts: dict[str, int] = {}
    for result in report.results:
        counts[result.outcome.value] = counts.get(result.outcome.value, 0) + 1
    total = ", ".join(f"{count} {word}" for word, count in counts.items()) or "no tests"
    show(Text(f"{total}; {report.coverage_percent:.1f} % of lines covered", "bold"))


def _ranges(lines: tuple[int, ...]) -> str:
    """`1-3, 7` for (1, 2, 3, 7)."""
    parts: list[list[int]] = []
    for line in lines:
        if parts and line == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], line]
        else:
            parts.append([line])
    return ", ".join("-".join(str(number) for number in dict.fromkeys(part)) for part in parts)
