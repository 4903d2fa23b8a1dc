"""Settings of the gate of a cluster: which namespaces are which environment, and where its API server asks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from orchestrator.settings.fields import Group, Name

Environment = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:/@()+,=#-]{0,127}$")]
Text = Annotated[str, Field(min_length=1, max_length=253)]


class DeploymentWebhookSettings(Group):
    """The HTTPS listener that an API server asks before it starts a workload (AdmissionReview v1)."""

    host: str = "0.0.0.0"  # noqa: S104 -- API servers are other machines
    """Address to listen on."""
    port: int = Field(default=8458, ge=0, le=65535)
    """TCP port; 0 takes a free one."""
    url: str = "https://orchestrator-admission.orchestrator.svc:8458"
    """How the API server reaches it: a Service of `kubernetes.namespace`, or an address. Its host stands in the
    certificate, which is of the daemon's own CA."""
    timeout_seconds: int = Field(default=10, ge=2, le=30)
    """Longest wait of the API server; half a second before it the answer is no."""
    client_ca_file: Path | None = None
    """PEM file of the CA whose client certificates API servers show. None lets everybody ask who reaches the port: an
    answer grants nothing, but tells what is allowed, is recorded, and counts as a use of the exception it stands on."""
    client_names: tuple[Text, ...] = Field(default=(), max_length=100)
    """Common names of those certificates; empty takes any that the CA signed."""

    @field_validator("url")
    @classmethod
    def _is_https(cls, value: str) -> str:
        if not value.startswith("https://") or value.endswith("/"):
            raise ValueError("must start with https:// and have no trailing slash")
        return value

    @model_validator(mode="after")
    def _names_need_a_ca(self) -> DeploymentWebhookSettings:
        if self.client_names and self.client_ca_file is None:
            raise ValueError("client_names needs client_ca_file: without a CA nobody shows a certificate")
        return self


class DeploymentSettings(Group):
    """What starts in a cluster is judged by the same facts and rules as what deploys there."""

    cluster: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")] = "default"
    """Name of the cluster, for policy, records and messages."""
    namespaces: dict[Name, Environment] = Field(default_factory=dict, max_length=1000)
    """Namespace to the environment that it is. Only these are guarded; not those of the cluster, the daemon or its
    pools, whose pods must be able to start while the daemon is away. Empty: nothing is."""
    webhook: DeploymentWebhookSettings = DeploymentWebhookSettings()

    @field_validator("namespaces")
    @classmethod
    def _not_the_clusters_own(cls, value: dict[str, str]) -> dict[str, str]:
        own = sorted(name for name in value if name.startswith("kube-"))
        if own:
            raise ValueError(f"{own[0]} is the cluster's own: nothing could start there while the daemon is away")
        return value
