"""`orchestrator submit`: a job from a file or from flags, followed to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.session import client_of

EXAMPLES = (
    "orchestrator submit build.yaml",
    "orchestrator submit --name hello --script 'echo hello'",
    "orchestrator submit pipeline.yaml --no-follow --json",
)


File = Annotated[
    Path | None,
    typer.Argument(metavar="JOB.yaml", help="Job or pipeline file; `-` is standard input. Flags win over it."),
]
Name = Annotated[str | None, typer.Option(help="What people call the job.")]
Pool = Annotated[str | None, typer.Option(help="Class of runners it needs.")]
Script = Annotated[str | None, typer.Option(help="Shell script.")]
ScriptFile = Annotated[Path | None, typer.Option(help="File with the shell script; `-` is standard input.")]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="K=V", help="Variable for the script; repeatable. Not for secrets."),
]
Timeout = Annotated[int | None, typer.Option(min=0, metavar="SECONDS", help="Longest run; 0 takes the pool's limit.")]
Environment = Annotated[str | None, typer.Option(metavar="NAME", help="Where it deploys to, for example staging.")]
Artifact = Annotated[str | None, typer.Option(metavar="sha256:HEX", help="Digest of what a deploy job deploys.")]
Ticket = Annotated[str | None, typer.Option(metavar="ID", help="Release ticket of a deployment.")]
Secret = Annotated[
    list[str] | None,
    typer.Option("--secret", metavar="NAME", help="Registered secret that the job needs; repeatable."),
]
Pipeline = Annotated[str | None, typer.Option(help="Pipeline that the job belongs to.")]
Key = Annotated[
    str | None,
    typer.Option(help="Submitting again with this key and the same job is the same job. Default: a new key."),
]
Follow = Annotated[bool, typer.Option(help="Show the log until the end; the exit code tells the result.")]
Json = Annotated[bool, typer.Option("--json", help="Print job views as JSON, and no log.")]


def submit(
    context: typer.Context,
    file: File = None,
    name: Name = None,
    pool: Pool = None,
    script: Script = None,
    script_file: ScriptFile = None,
    env: Env = None,
    timeout: Timeout = None,
    environment: Environment = None,
    artifact: Artifact = None,
    ticket: Ticket = None,
    secret: Secret = None,
    pipeline: Pipeline = None,
    idempotency_key: Key = None,
    follow: Follow = True,
    json: Json = False,
) -> None:
    """Submit a job, or each job of a pipeline file, and follow it to its end.

    A file's jobs are submitted at once and followed in their order; the exit code is that of the first that did
    not succeed.
    """
    from orchestrator.cli.output import note, print_json

    flags = {
        "name": name,
        "pool": pool,
        "timeout_seconds": timeout,
        "deployment_environment": environment,
        "artifact_digest": artifact,
        "ticket": ticket,
        "secrets": secret or None,
        "pipeline": pipeline,
    }
    jobs = _jobs(file, flags, script, script_file, env or [])
    client = client_of(context)
    views = []
    for number, job in enumerate(jobs, 1):
        key = f"{idempotency_key}.{number}" if idempotency_key and len(jobs) > 1 else idempotency_key
        view, replayed = client.dispatch(job, key)
        views.append(view)
        if not json:
            note(f"{view['id']}  {view['name']}: " + ("was submitted before" if replayed else "submitted"))
    if follow:
        views, code = _follow(context, views, quiet=json)
    else:
        code = 0
    if json:
        print_json(views[0] if len(views) == 1 else {"jobs": views})
    elif not follow:
        from orchestrator.cli.output import say

        for view in views:
            say(view["id"])
    raise typer.Exit(code)


def _follow(context: typer.Context, views: list[dict[str, Any]], *, quiet: bool) -> tuple[list[dict[str, Any]], int]:
    """Each job's last view, and the exit code of the first that did not succeed."""
    from orchestrator.cli.exits import ExitCode, exit_for_result
    from orchestrator.cli.jobs.follow import follow, wait_for_end
    from orchestrator.cli.output import console, note
    from orchestrator.cli.render import job_headline

    client = client_of(context)
    ended, code = [], 0
    for view in views:
        try:
            last = wait_for_end(client, view["id"]) if quiet else follow(client, view["id"], tell=note)
        except KeyboardInterrupt:
            note("")  # ^C stands in the line
            note(f"{view['id']} goes on; end it with: orchestrator cancel {view['id']}")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        ended.append(last)
        code = code or int(exit_for_result(last.get("result")))
        if not quiet:
            console(stderr=True).print(job_headline(last))
            for line in why(last):
                note(f"  {line}")
    return ended, code


def why(view: dict[str, Any]) -> list[str]:
    """Why a job did not succeed: a line for each reason of a denial, else the outcome's message."""
    if view.get("result") == "success":
        return []
    denials = [decision for decision in view.get("decisions") or [] if decision.get("verdict") != "allow"]
    if view.get("result") == "denied" and denials and denials[-1].get("reasons"):
        return [f"{reason['message']} [{reason['code']}]" for reason in denials[-1]["reasons"]]
    return [view["message"]] if view.get("message") else []


def _jobs(
    file: Path | None, flags: dict[str, Any], script: str | None, script_file: Path | None, env: list[str]
) -> list[dict[str, Any]]:
    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.jobs.jobfile import read_jobs, read_text

    if script is not None and script_file is not None:
        raise UsageError("give --script or --script-file, not both")
    given = {key: value for key, value in flags.items() if value is not None}
    if script_file is not None:
        script = read_text(script_file)
    if script is not None:
        given["script"] = script
    variables = dict(_variable(text) for text in env)
    jobs = read_jobs(file) if file else [{}]
    if len(jobs) > 1 and given.keys() & {"name", "script"}:
        raise UsageError("--name and --script do not fit a file with several jobs")
    jobs = [job | given for job in jobs]
    for job in jobs:
        if variables:
            job["environment"] = {**job.get("environment", {}), **variables}
        missing = [key for key in ("name", "script") if not job.get(key)]
        if missing:
            raise UsageError(
                f"a job needs {' and '.join(missing)}", fix="orchestrator submit --name NAME --script 'echo hello'"
            )
    return jobs


def _variable(text: str) -> tuple[str, str]:
    from orchestrator.cli.exits import UsageError

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError("--env takes NAME=VALUE")
    return name, value
