"""`orchestrator runner-api-ca`: the public CA of the runner API, which an operator hands to the gateways."""

from __future__ import annotations

import typer

EXAMPLES = (
    "kubectl --namespace orchestrator exec deployment/orchestrator -- orchestrator runner-api-ca > ca.pem",
    "orchestrator --state-dir /var/lib/orchestrator runner-api-ca",
)


def runner_api_ca() -> None:
    """Print the CA that vouches for the daemon's runner API, as PEM, from the state folder.

    It is public. The daemon makes it at its first start; the gateways of a cluster find it in the ConfigMap
    `orchestrator-runner-api-ca`, which an operator writes, since the daemon may not.
    """
    from orchestrator.cli.exits import CommandError
    from orchestrator.cli.link.target import state_dir
    from orchestrator.daemon.cluster.room import CA_FILE

    path = state_dir() / CA_FILE
    try:
        text = path.read_text("ascii")
    except FileNotFoundError:
        raise CommandError(
            f"no daemon with a cluster pool has left its CA in {path.parent}",
            fix="start the daemon first; where its state is elsewhere, say so with --state-dir",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {path}: {error}", fix="check the path and its permissions") from None
    typer.echo(text, nl=False)
