"""`orchestrator manifests`: what a cluster needs to run an installation, from the daemon's own settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = (
    "orchestrator manifests --config orchestrator.yaml --output cluster && kubectl apply -k cluster",
    "orchestrator manifests --config orchestrator.yaml | kubectl diff -f -",
    "orchestrator manifests --config orchestrator.yaml --restore newest | kubectl apply -f -",
)


def manifests(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar="ORCHESTRATOR_CONFIG", help="Settings in YAML, as the daemon's."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for one file a group and a kustomization. Default: print all."),
    ] = None,
    gate_ca: Annotated[
        Path | None,
        typer.Option(help="PEM file of the daemon's CA, for the webhook of `deployment.namespaces`: `runner-api-ca`."),
    ] = None,
    restore: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Print the Job alone that restores this backup of the volume of backups, `newest` of them, or - for "
            "one that is attached to it.",
        ),
    ] = None,
) -> None:
    """Render the manifests of a cluster: pools with their guards, admission rules, daemon, gateway, webhook.

    They come from the same settings that the daemon reads, which are also in them. Equal settings give equal bytes.
    Files of an earlier rendering that are no longer part of it are removed from the folder; other files are left alone.
    """
    from orchestrator.cli.output import note
    from orchestrator.daemon.cluster.manifests import GATE, KUSTOMIZATION, documents, restore_job, yaml_text
    from orchestrator.settings import load_settings

    settings = load_settings(config)
    if restore is not None:
        _refuse_output(output)
        typer.echo(yaml_text([restore_job(settings, restore)]), nl=False)
        return
    ca_pem = _read_ca(gate_ca) if gate_ca else ""
    files = documents(settings, config.read_text(encoding="utf-8") if config else "", ca_pem)
    if GATE in files and not ca_pem:
        note(_NO_CA)
    if output is None:
        typer.echo(
            yaml_text([one for name, group in files.items() if name != KUSTOMIZATION for one in group]), nl=False
        )
        return
    _write(output, {f"{name}.yaml": yaml_text(group) for name, group in files.items()})
    note(f"wrote {len(files)} files to {output}; apply them with: kubectl apply -k {output}")


_NO_CA = (
    "the webhook trusts no certificate yet, so nothing will start in the guarded namespaces: once the daemon has run, "
    "render again with --gate-ca and what `orchestrator runner-api-ca` prints"
)


def _refuse_output(output: Path | None) -> None:
    from orchestrator.cli.exits import UsageError

    if output is not None:
        raise UsageError(
            "--restore prints a Job that runs once, and --output is for what stays applied",
            fix="leave --output out, and pipe it into kubectl apply --filename -",
        )


def _read_ca(path: Path) -> str:
    from orchestrator.errors import ConfigurationError

    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        text = ""
    if "-----BEGIN CERTIFICATE-----" not in text or "PRIVATE KEY" in text:
        raise ConfigurationError(
            f"--gate-ca: {path} is no PEM file of certificates alone",
            fix="give the file that `orchestrator runner-api-ca` printed",
        )
    return text


def _write(folder: Path, files: dict[str, str]) -> None:
    """
    Raises:
        ConfigurationError: the folder cannot be written, or a file of somebody else has one of the names.
    """
    from orchestrator.errors import ConfigurationError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = {path: _is_rendered(path) for path in sorted(folder.glob("*.yaml"))}
        for path, rendered in found.items():
            if path.name in files and not rendered:
                raise ConfigurationError(
                    f"{path} was not rendered by this command, and would be overwritten",
                    fix="name another folder, and have a kustomization of yours point to it; or move that file away",
                )
        for path, rendered in found.items():
            if path.name not in files and rendered:
                path.unlink()
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write to {folder}: {error.strerror}", fix="check its permissions") from error


def _is_rendered(path: Path) -> bool:
    from orchestrator.daemon.cluster.manifests import HEADER

    expected = HEADER.encode()
    with path.open("rb") as file:
        return file.read(len(expected)) == expected
