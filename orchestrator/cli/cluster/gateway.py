"""`orchestrator gateway`: the egress gateway of a cluster, in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orchestrator.settings.gateway import GatewaySettings

EXAMPLES = (
    "orchestrator gateway --config gateway.yaml",
    "orchestrator gateway --daemon-url https://runner-api.example:8456 --ca-file ca.pem --token-file token",
)


def gateway(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar="EGRESS_GATEWAY_CONFIG", help="Settings of the gateway in YAML."),
    ] = None,
    daemon_url: Annotated[str | None, typer.Option(help="Where the daemon's runner API answers; https.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="PEM file with the CA that vouches for the daemon.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the gateway's ServiceAccount token.")] = None,
    host: Annotated[str | None, typer.Option(help="Address for jobs' connections. Default: every address.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port for jobs' connections. Default: 3128.")] = None,
    probe_port: Annotated[int | None, typer.Option(help="TCP port of probes and metrics. Default: 8457.")] = None,
) -> None:
    """Run the egress gateway of a cluster in the foreground until SIGTERM or SIGINT.

    It serves the runners that the daemon tells it of, each under its own rules, and refuses everything while the
    daemon is away. Options rank above variables (`EGRESS_GATEWAY_` and the setting's name), these above the file.
    Embedded in the daemon the gateway needs no command.
    """
    from orchestrator.settings.gateway import load_gateway_settings

    flags = {
        "daemon_url": daemon_url, "ca_file": ca_file, "token_file": token_file, "host": host, "port": port,
        "probe_port": probe_port,
    }  # fmt: skip
    _run(load_gateway_settings(config, flags))


def _run(settings: GatewaySettings) -> None:
    import asyncio

    from orchestrator.egress.__main__ import loop_factory
    from orchestrator.egress.addresses import checked_names
    from orchestrator.egress.config import GatewayConfig
    from orchestrator.egress.confine import give_up, limit
    from orchestrator.egress.service import ServiceConfig, serve_gateway
    from orchestrator.telemetry.logging import configure

    configure(settings.log_level, settings.log_format)
    egress = GatewayConfig(
        names=checked_names(settings.names),
        connect_timeout_seconds=settings.connect_timeout_seconds,
        idle_timeout_seconds=settings.idle_timeout_seconds,
        head_timeout_seconds=settings.head_timeout_seconds,
        max_connections=settings.max_connections,
        max_bytes_up=settings.max_bytes_up,
        max_bytes_down=settings.max_bytes_down,
    )
    files = limit()
    give_up()
    service = ServiceConfig(
        daemon_url=settings.daemon_url,
        ca_file=settings.ca_file,
        token_file=settings.token_file,
        host=settings.host,
        port=settings.port,
        probe_host=settings.probe_host,
        probe_port=settings.probe_port,
        linger_seconds=settings.linger_seconds,
        drain_seconds=settings.drain_seconds,
        files=files,
        egress=egress,
    )
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve_gateway(service))
