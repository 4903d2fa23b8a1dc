"""`orchestrator manifests`: what a cluster needs to run an installation, from the daemon's own settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = (
    "orchestrator manifests --config orchestrator.yaml --output cluster && kubectl apply -k cluster",
    "orchestrator manifests --config orchestrator.yaml | kubectl diff -f -",
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
) -> None:
    """Render the manifests of a cluster: pools with their guards, admission rules, daemon, gateway.

    They come from the same settings that the daemon reads, which are also in them. Equal settings give equal bytes.
    Files of an earlier rendering that are no longer part of it are removed from the folder; other files are left alone.
    """
    from orchestrator.cli.output import note
    from orchestrator.daemon.manifests import KUSTOMIZATION, documents, yaml_text
    from orchestrator.settings import load_settings

    settings = load_settings(config)
    files = documents(settings, config.read_text(encoding="utf-8") if config else "")
    if output is None:
        typer.echo(
            yaml_text([one for name, group in files.items() if name != KUSTOMIZATION for one in group]), nl=False
        )
        return
    _write(output, {f"{name}.yaml": yaml_text(group) for name, group in files.items()})
    note(f"wrote {len(files)} files to {output}; apply them with: kubectl apply -k {output}")


def _write(folder: Path, files: dict[str, str]) -> None:
    """Raises ConfigurationError when the folder cannot be written."""
    from orchestrator.daemon.manifests import HEADER
    from orchestrator.errors import ConfigurationError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob("*.yaml")):
            if old.name not in files and old.read_text(encoding="utf-8").startswith(HEADER):
                old.unlink()
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write to {folder}: {error.strerror}", fix="check its permissions") from error
