"""Settings of `orchestrator gateway`, the egress gateway of a cluster: a program of its own, with a file of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from orchestrator.errors import ConfigurationError
from orchestrator.settings.fields import Address, Bytes, HostName, Seconds
from orchestrator.settings.load import invalid_settings, read_settings_file

PREFIX = "EGRESS_GATEWAY_"
"""Not `ORCHESTRATOR_GATEWAY_`: for a Service named `orchestrator-gateway` Kubernetes sets such variables itself."""

CONFIG_VARIABLE = f"{PREFIX}CONFIG"
"""Path of the file; read by the command line."""


class GatewaySettings(BaseSettings):
    """The egress gateway of a cluster."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    daemon_url: str
    """Where the daemon's runner API answers, https and without a trailing slash."""
    ca_file: Path
    """PEM file with the CA that vouches for the daemon; read again when it is replaced."""
    token_file: Path
    """File with the gateway's own projected ServiceAccount token; read again for each request."""
    host: str = ""
    """Address that jobs' connections come in on; empty for every address, IPv4 and IPv6."""
    port: int = Field(default=3128, ge=0, le=65535)
    """TCP port for jobs' connections; 0 takes a free one."""
    probe_host: str = ""
    """Address for probes and metrics; empty for every address."""
    probe_port: int = Field(default=8457, ge=0, le=65535)
    """TCP port of `/healthz`, `/readyz` and `/metrics`; 0 takes a free one."""
    names: dict[HostName, Address] = Field(default_factory=dict)
    """Host name to the IP address it stands for, instead of DNS; the only way to allow a private address."""
    connect_timeout_seconds: Seconds = 10
    """Longest wait for a connection to a destination."""
    head_timeout_seconds: Seconds = 15
    """Longest wait for a request, and for the ClientHello in a tunnel."""
    idle_timeout_seconds: Seconds = 300
    """A tunnel without traffic for this long is closed."""
    max_connections: int = Field(default=256, ge=1, le=65536)
    """Open connections of one job at this gateway."""
    max_bytes_up: Bytes = 8 << 30
    """Bytes one job may send in all through this gateway; beyond it its connections are closed."""
    max_bytes_down: Bytes = 32 << 30
    """Bytes one job may receive in all through this gateway."""
    linger_seconds: float = Field(default=5, ge=0, le=300)
    """How long new connections are still served after SIGTERM: until every node sends them elsewhere."""
    drain_seconds: float = Field(default=20, ge=0, le=86400)
    """How long open connections may go on after that; the pod's grace period must be longer than both and 10 s."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe messages that are logged."""
    log_format: Literal["json", "console"] = "json"
    """`json` for machines, `console` for eyes."""

    @field_validator("daemon_url")
    @classmethod
    def _is_https(cls, value: str) -> str:
        if not value.startswith("https://") or value.endswith("/"):
            raise ValueError("must start with https:// and have no trailing slash")
        return value


def load_gateway_settings(path: Path | None = None, flags: Mapping[str, Any] | None = None) -> GatewaySettings:
    """Settings from flags, the environment, a YAML file and defaults, the first of these strongest.

    Raises:
        ConfigurationError: as `load_settings`.
    """
    file = read_settings_file(path) if path else {}
    _refuse_unknown_variables(os.environ)

    class Layered(GatewaySettings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, file)

    try:
        return Layered(**{name: value for name, value in (flags or {}).items() if value is not None})
    except ValidationError as error:
        raise invalid_settings(error, path, GatewaySettings) from None
    except SettingsError as error:
        raise ConfigurationError(
            f"in the environment: {error}", fix=f"{PREFIX}NAMES is a mapping in JSON; see docs/reference/settings.md"
        ) from None


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = {PREFIX + name.upper() for name in GatewaySettings.model_fields}
    for variable in environment:
        if variable.startswith(PREFIX) and variable.upper() not in {*known, CONFIG_VARIABLE}:
            raise ConfigurationError(
                f"environment variable {variable} names no setting of the gateway",
                fix=f"unset it, or make it one of {', '.join(sorted(known))}",
            )
