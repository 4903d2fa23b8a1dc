"""Settings as plain values for people and files, without anything secret."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from orchestrator.settings import Settings

_MASK = "********"


def shown(settings: Settings) -> dict[str, Any]:
    """The whole tree as JSON values. Secret types come out masked, as does what a URL holds before its `@`."""
    masked: dict[str, Any] = _masked(settings.model_dump(mode="json"))
    return masked


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return _masked_url(value) if isinstance(value, str) and "://" in value and "@" in value else value


def _masked_url(text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:
        return _MASK
    before, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{_MASK}@{host}")) if at and before else text
