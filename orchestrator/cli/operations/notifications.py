"""`orchestrator notifications`: who is told of jobs, whether messages arrive, and the keys that sign them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer

from orchestrator.cli.session import client_of, examples

LIST_EXAMPLES = (
    "orchestrator notifications",
    "orchestrator notifications --json",
    "orchestrator notifications --exit-status",
)
TEST_EXAMPLES = ("orchestrator notifications test ops",)
RETRY_EXAMPLES = ("orchestrator notifications retry ops",)
KEY_EXAMPLES = (
    "orchestrator notifications new-key /etc/orchestrator/ops.key",
    "orchestrator notifications new-key /etc/orchestrator/ops.key --kind shared",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The endpoint, as the settings name it.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]

app = typer.Typer(help="Messages to other systems about jobs: who gets them, and whether they arrive.")


@app.callback(invoke_without_command=True, epilog=examples(LIST_EXAMPLES))
def notifications(
    context: typer.Context,
    exit_status: Annotated[
        bool, typer.Option("--exit-status", help="Exit with 1 when an endpoint fails or is disabled.")
    ] = False,
    json: Json = False,
) -> None:
    """List the endpoints: state, what waits, what was delivered and what was given up. For operators."""
    if context.invoked_subcommand is not None:
        return
    from datetime import UTC, datetime

    from orchestrator.cli import output
    from orchestrator.cli.exits import CommandError
    from orchestrator.cli.render.notifications import endpoint_failures, endpoint_table

    found = client_of(context).read("/v1/notifications")
    endpoints: list[dict[str, Any]] = found["endpoints"]
    if json:
        output.print_json(found)
    elif endpoints:
        now = datetime.now(UTC)
        output.show(endpoint_table(endpoints, now), *endpoint_failures(endpoints, now))
    else:
        output.say("nobody is told: notifications.endpoints is empty")
    broken = [one["name"] for one in endpoints if one["state"] != "active"]
    if exit_status and broken:
        raise CommandError(f"messages do not arrive at: {', '.join(broken)}", fix="see `orchestrator notifications`")


@app.command("test", epilog=examples(TEST_EXAMPLES))
def send_test(context: typer.Context, name: Name, json: Json = False) -> None:
    """Send a test message now, and say how it went. It passes by whatever waits."""
    from orchestrator.cli import output
    from orchestrator.cli.exits import CommandError

    done = client_of(context).send(f"/v1/notifications/{quote(name, safe='')}/test", {})
    if json:
        output.print_json(done)
    if not done["delivered"]:
        raise CommandError(
            f"the test message did not arrive at {name}: {done['detail']} [{done['reason']}]",
            fix="see `orchestrator notifications` for what to do about it",
        )
    if not json:
        output.say(f"{name} took {done['message_id']} in {done['seconds']:g} s, and answered {done['status']}")


@app.command("retry", epilog=examples(RETRY_EXAMPLES))
def retry(context: typer.Context, name: Name, json: Json = False) -> None:
    """Have everything that waits for an endpoint tried now; one that is disabled is sent to again."""
    from orchestrator.cli import output

    done = client_of(context).send(f"/v1/notifications/{quote(name, safe='')}/retry", {})
    if json:
        output.print_json(done)
    else:
        output.say(f"{name}: {done['waiting']} messages are tried now")


@app.command("new-key", epilog=examples(KEY_EXAMPLES))
def new_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the key is written; it must not exist.")],
    kind: Annotated[
        Literal["ed25519", "shared"],
        typer.Option(help="`ed25519`: the receiver gets a public key. `shared`: it gets the same secret."),
    ] = "ed25519",
    json: Json = False,
) -> None:
    """Make a key that signs messages, in a file of mode 0600, and print what the receiver needs to verify them.

    No daemon is needed. A shared secret is not printed: give the receiver the file's content.
    """
    from orchestrator.cli import output
    from orchestrator.cli.exits import CommandError
    from orchestrator.identity.webhook_keys import PrivateKey, new_private_key, new_shared_key, parse_key
    from orchestrator.private_file import create_private_file, sync_folder

    text = new_private_key() if kind == "ed25519" else new_shared_key()
    try:
        create_private_file(file, f"{text}\n".encode())
        sync_folder(file.parent)
    except FileExistsError:
        raise CommandError(f"{file} exists already", fix="name another file; no key is overwritten") from None
    except OSError as error:
        fix = "name a folder that is there and that you may write to, on a disk with free space"
        raise CommandError(f"{file} cannot be written: {error.strerror}", fix=fix) from None
    key = parse_key(text)
    public = key.public if isinstance(key, PrivateKey) else None
    if json:
        output.print_json({"file": str(file), "kind": kind, "public_key": public})
    elif public:
        output.say(f"the receiver verifies with {public}")
    else:
        output.say(f"the receiver needs the content of {file}")
