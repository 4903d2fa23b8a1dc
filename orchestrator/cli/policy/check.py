"""`orchestrator policy check`: would a deployment be allowed, told so that a pull request can show it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.session import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECK_EXAMPLES = (
    "orchestrator policy check --environment prod --file dist/app.tar",
    "orchestrator policy check --environment prod --artifact sha256:3f2a… --ticket SHOP-12 --format github",
    "orchestrator policy check --bundle policies/ --input decision.json",
)

EXIT_ALLOWED, EXIT_DENIED, EXIT_ERROR = 0, 1, 2

_HASH_BYTES = 1 << 20
_MAX_INPUT_BYTES = 1 << 20


class Format(StrEnum):
    """How the answer is printed; `github` are workflow commands, which GitHub shows as annotations."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


Environment = Annotated[
    str | None, typer.Option("--environment", "-e", metavar="NAME", help="Where it would be deployed to.")
]
Artifact = Annotated[str | None, typer.Option(metavar="sha256:HEX", help="Digest of what would be deployed.")]
File = Annotated[Path | None, typer.Option(help="File that would be deployed; its digest is asked about.")]
Ticket = Annotated[str | None, typer.Option(metavar="ID", help="The release ticket.")]
Pool = Annotated[str | None, typer.Option(help="Pool of the deploying job. Without it, rules on pools are left out.")]
Secret = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Registered secret of the job; repeatable.")]
Bundle = Annotated[Path | None, typer.Option(help="Ask this bundle, and no daemon; needs --input.")]
Input = Annotated[Path | None, typer.Option("--input", help="Input document to ask --bundle about, in JSON.")]
Format_ = Annotated[Format, typer.Option("--format", help="How to print the answer.")]


def check(
    context: typer.Context,
    environment: Environment = None,
    artifact: Artifact = None,
    file: File = None,
    ticket: Ticket = None,
    pool: Pool = None,
    secret: Secret = None,
    bundle: Bundle = None,
    input_file: Input = None,
    shown: Format_ = Format.TEXT,
) -> None:
    """Ask policy whether a deployment would be allowed, with the rules and facts that judge it for real.

    Nothing is granted or used up, and the job is judged again when it comes. Ends with 0 when it would be allowed, 1
    when not, 2 when the question could not be answered. With --bundle and --input a bundle is asked on this machine,
    without a daemon and without any fact but those of the document.
    """
    from orchestrator.cli.exits import ExitCode
    from orchestrator.cli.output import complain
    from orchestrator.errors import OrchestratorError

    try:
        if bundle is not None or input_file is not None:
            answer = _offline(bundle, input_file)
        else:
            asked = _question(environment, artifact, file, ticket, pool, secret or [])
            answer = client_of(context).check_policy(asked)
    except OrchestratorError as error:
        complain(error)
        code = getattr(error, "exit_code", ExitCode.FAILURE)
        # 1 says that policy was asked and said no; whatever else is wrong must not look like that.
        raise typer.Exit(EXIT_ERROR if code == ExitCode.FAILURE else code) from None
    _print(answer, shown)
    raise typer.Exit(EXIT_ALLOWED if answer["allowed"] else EXIT_ERROR if answer["verdict"] == "error" else EXIT_DENIED)


def _question(
    environment: str | None,
    artifact: str | None,
    file: Path | None,
    ticket: str | None,
    pool: str | None,
    secrets: list[str],
) -> dict[str, Any]:
    from orchestrator.cli.exits import UsageError
    from orchestrator.policy.input import is_digest

    if not environment:
        raise UsageError("where would it be deployed to?", fix="give --environment, for example --environment prod")
    if artifact is not None and not is_digest(artifact):
        fix = "give sha256: and 64 hexadecimal digits, or --file with the artifact itself"
        raise UsageError(f"--artifact {artifact[:80]!r} is no digest", fix=fix)
    if artifact and file:
        raise UsageError("give --artifact or --file, not both")
    given = {
        "environment": environment,
        "artifact_digest": digest_of(file) if file else artifact,
        "ticket": ticket,
        "pool": pool,
        "secrets": secrets,
    }
    return {name: value for name, value in given.items() if value}


def digest_of(path: Path) -> str:
    """`sha256:<hex>` of a file.

    Raises:
        UsageError: it cannot be read.
    """
    import hashlib

    from orchestrator.cli.exits import UsageError

    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_HASH_BYTES):
                found.update(chunk)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", fix="name a file that exists") from None
    return f"sha256:{found.hexdigest()}"


def _offline(bundle: Path | None, input_file: Path | None) -> dict[str, Any]:
    """The same answer from a bundle on disk, which is put through every check first."""
    import hashlib

    from orchestrator.cli.exits import UsageError
    from orchestrator.policy.bundle import load_bundle
    from orchestrator.policy.engine import RegorusEngine

    if bundle is None or input_file is None:
        raise UsageError("--bundle and --input belong together", fix="give both, or neither to ask the daemon")
    text = _read(input_file)
    document = _object(text, input_file)
    loaded = load_bundle(bundle)
    evaluation = RegorusEngine(loaded.modules, loaded.data_json, loaded.digest).evaluate_now(text)
    found = evaluation.document
    failed = [{"code": f"policy_{evaluation.verdict.value}", "message": evaluation.detail or "no answer"}]
    request = document.get("request")
    asked = request if isinstance(request, dict) else {}
    return {
        "allowed": evaluation.verdict.value == "allow",
        "verdict": evaluation.verdict.value,
        "environment": str(asked.get("deployment_environment") or ""),
        "artifact_digest": str(asked.get("artifact_digest") or ""),
        "reasons": [{"code": one.code, "message": one.message} for one in found.reasons] if found else failed,
        "observed": [{"code": one.code, "message": one.message} for one in found.observed] if found else [],
        "waivers": [{"exception": one.exception, "codes": list(one.codes)} for one in found.waived] if found else [],
        "decision_id": "",
        "input_digest": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}",
        "bundle_digest": evaluation.bundle_digest,
        "engine": evaluation.engine,
    }


def _read(path: Path) -> str:
    from orchestrator.cli.exits import UsageError

    try:
        if path.stat().st_size > _MAX_INPUT_BYTES:
            raise UsageError(f"{path} is larger than {_MAX_INPUT_BYTES} bytes", fix="is it one input document?")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", "") or "it is not UTF-8"
        raise UsageError(f"{path} cannot be read: {why}", fix="name a JSON file with one input document") from None


def _object(text: str, path: Path) -> dict[str, Any]:
    import json

    from orchestrator.cli.exits import UsageError

    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise UsageError(f"{path} is no JSON object", fix="see docs/reference/policy-input.md for the input document")
    return document


def _print(answer: dict[str, Any], shown: Format) -> None:
    from orchestrator.cli.output import print_json, say

    if shown is Format.JSON:
        print_json(answer)
        return
    for line in github_lines(answer) if shown is Format.GITHUB else text_lines(answer):
        say(line)


def text_lines(answer: dict[str, Any]) -> Iterator[str]:
    """The answer for people."""
    yield f"{_subject(answer)}: {'allowed' if answer['allowed'] else 'not allowed'}"
    for reason in answer["reasons"]:
        yield f"  - [{reason['code']}] {reason['message']}"
    if answer["observed"]:
        yield "only watched for now, and would refuse:"
        for reason in answer["observed"]:
            yield f"  - [{reason['code']}] {reason['message']}"
    for waiver in answer["waivers"]:
        yield f"would use the exception {waiver['exception']}, which sets aside: {', '.join(waiver['codes'])}"
    yield f"policy {answer['bundle_digest'] or 'unknown'}, decision {answer['decision_id'] or 'of this machine'}"


def github_lines(answer: dict[str, Any]) -> Iterator[str]:
    """The answer as GitHub's workflow commands, one annotation for each reason."""
    for reason in answer["reasons"]:
        yield _command("error", f"policy: {reason['code']}", reason["message"])
    for reason in answer["observed"]:
        yield _command("warning", f"policy, watched only: {reason['code']}", reason["message"])
    for waiver in answer["waivers"]:
        text = f"would use {waiver['exception']}, which sets aside {', '.join(waiver['codes'])}"
        yield _command("warning", "policy: exception", text)
    if answer["allowed"]:
        yield _command("notice", "policy", f"{_subject(answer)}: allowed by {answer['bundle_digest']}")


def _subject(answer: dict[str, Any]) -> str:
    where = answer["environment"] or "no environment"
    return f"{answer['artifact_digest']} into {where}" if answer["artifact_digest"] else where


def _command(kind: str, title: str, message: str) -> str:
    return annotation(kind, {"title": title}, message)


def annotation(kind: str, properties: dict[str, str], message: str) -> str:
    """A workflow command of GitHub, escaped as its runner reads it: no text can begin a command of its own."""
    named = [f"{name}={_escaped(value).replace(':', '%3A').replace(',', '%2C')}" for name, value in properties.items()]
    return f"::{kind} {','.join(named)}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
