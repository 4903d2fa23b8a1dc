"""How the cluster is reached: address, TLS, and the header that says who we are.

The only file that knows kubernetes_asyncio: it reads kubeconfigs, runs their exec plugins and follows the
rotation of a ServiceAccount's token. Nothing here is ever logged. The library is imported when a cluster is first
reached: it takes a second and 60 MB, which nobody else should pay.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.backends.kubernetes.config import KubernetesConfig
from orchestrator.errors import ConfigurationError, TryAgainError

if TYPE_CHECKING:
    from kubernetes_asyncio.client import Configuration

_TOKEN_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class Access:
    """`host` has no trailing slash. One object for a client's life; `refresh` is for a 401."""

    def __init__(self, config: KubernetesConfig) -> None:
        self._config = config
        self._refreshing = asyncio.Lock()
        self._loaded: Configuration
        self._generation = 0
        self.tls: ssl.SSLContext | None = None

    @classmethod
    async def open(cls, config: KubernetesConfig) -> Access:
        """Read the configuration once.

        Raises:
            ConfigurationError: there is none, or it cannot be used.
        """
        access = cls(config)
        try:
            await access._load()
            access.tls = access._context()
        except Exception as error:  # noqa: BLE001 -- a kubeconfig can be wrong in any way
            raise ConfigurationError(
                f"the cluster's configuration cannot be used: {_plain(error)}",
                fix="set kubernetes.kubeconfig, or run inside the cluster with a ServiceAccount",
            ) from None
        return access

    @property
    def host(self) -> str:
        return str(self._loaded.host)

    @property
    def server_name(self) -> str | None:
        """The name that the server's certificate is checked for, where it is not the host's."""
        return self._loaded.tls_server_name or None

    @property
    def proxy(self) -> str | None:
        return self._loaded.proxy or None

    @property
    def generation(self) -> int:
        """Grows with each refresh; what was sent under an older one may be tried again."""
        return self._generation

    async def headers(self) -> dict[str, str]:
        """The Authorization header, read anew from a rotated token file; empty with a client certificate."""
        value = await self._loaded.get_api_key_with_prefix("BearerToken")
        return {"Authorization": str(value).strip()} if value else {}

    async def refresh(self, generation: int) -> None:
        """Load the credentials again, once for all that were refused under `generation`.

        Raises:
            TryAgainError: reason `api_unauthorized`; they cannot be loaded now.
        """
        async with self._refreshing:
            if self._generation != generation:
                return
            try:
                await self._load()
                if self.tls is not None and self._loaded.cert_file:
                    self.tls.load_cert_chain(self._loaded.cert_file, self._loaded.key_file)
            except Exception as error:  # noqa: BLE001 -- plugins fail in any way
                # A plugin's words may hold a credential, so only the error's kind is told.
                raise TryAgainError(
                    f"credentials cannot be renewed: {type(error).__name__}", reason="api_unauthorized"
                ) from None
            self._generation += 1

    async def _load(self) -> None:
        from kubernetes_asyncio.client import Configuration
        from kubernetes_asyncio.config import load_incluster_config, load_kube_config

        loaded = Configuration()
        config = self._config
        if not config.kubeconfig and _inside_cluster():
            load_incluster_config(client_configuration=loaded)  # type: ignore[no-untyped-call]
        else:
            await load_kube_config(
                config_file=config.kubeconfig or None,
                context=config.context or None,
                client_configuration=loaded,
                persist_config=False,
            )
        loaded.host = str(loaded.host).rstrip("/")
        self._loaded = loaded

    def _context(self) -> ssl.SSLContext | None:
        loaded = self._loaded
        if not self.host.startswith("https://"):
            raise ValueError("the API server's address is not https")
        context = ssl.create_default_context(cafile=loaded.ssl_ca_cert or None)
        if loaded.cert_file:
            context.load_cert_chain(loaded.cert_file, loaded.key_file)
        if not loaded.verify_ssl:
            raise ValueError("insecure-skip-tls-verify is not supported: anybody could be the API server")
        return context


def _inside_cluster() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and _TOKEN_FILE.is_file()


def _plain(error: Exception) -> str:
    """Which error it is. A parser quotes the file it reads and a plugin says what it likes, credentials included,
    so only the system's words and our own are passed on."""
    ours = isinstance(error, OSError) or type(error) is ValueError
    return f"{type(error).__name__}: {error}"[:300] if ours else type(error).__name__
