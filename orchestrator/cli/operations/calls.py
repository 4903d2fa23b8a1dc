"""Calls by which operators have the daemon reload and drain."""

from __future__ import annotations

from orchestrator.cli.link.client import DaemonClient, Document


class Operating:
    """Each may raise `UnreachableError` and `AnswerError`."""

    def __init__(self, client: DaemonClient) -> None:
        self._client = client

    def reload(self) -> Document:
        """Have settings, rules and keys read again; what came of each part."""
        return self._client.call("POST", "/v1/reload")

    def draining(self) -> Document:
        """Whether the daemon drains, and how far it has come."""
        return self._client.call("GET", "/v1/drain")

    def drain(self, limit_seconds: float | None) -> Document:
        """Begin no job any more; running ones are cancelled after the limit, if there is one."""
        return self._client.call("POST", "/v1/drain", {"limit_seconds": limit_seconds})

    def resume(self) -> Document:
        """Begin jobs again."""
        return self._client.call("DELETE", "/v1/drain")
