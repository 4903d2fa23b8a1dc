"""The daemon's own log: one line an event on standard error, JSON or for eyes, with trace ids, without secrets."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

from orchestrator.model.job import JobId
from orchestrator.telemetry import ids

Redact = Callable[[str], str]
MAX_VALUE_CHARS = 8192
"""Longest single value in a line; a traceback fits, an API answer does not."""
_MAX_DEPTH = 4
_QUIET = ("aiohttp", "asyncio", "urllib3", "opentelemetry")


def configure(
    level: Literal["debug", "info", "warning", "error"] = "info",
    format: Literal["json", "console"] = "json",  # noqa: A002 -- the setting's name
    redact: Redact = lambda text: text,
    stream: TextIO | None = None,
) -> None:
    """Set up structlog and the standard library's logging, both into `stream` (standard error by default).

    `redact` masks secrets in a text; every string of every line goes through it, tracebacks included, and
    tracebacks never show local variables. A line with `job_id` gets its `trace_id`. May be called again.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        add_trace_id,
        Redactor(redact),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    out = stream or sys.stderr
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(format, out)],
        )
    )
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    logging.captureWarnings(capture=True)


def add_trace_id(_logger: Any, _method: str, event_dict: EventDict) -> EventDict:
    """A line about a job belongs to the job's trace."""
    job_id = event_dict.get("job_id")
    if isinstance(job_id, str) and job_id and "trace_id" not in event_dict:
        event_dict["trace_id"] = ids.trace_id(JobId(job_id))
    return event_dict


class Redactor:
    """The last processor before rendering: masks, and cuts what is too long. Never fails a line."""

    def __init__(self, redact: Redact) -> None:
        self._redact = redact

    def __call__(self, _logger: Any, _method: str, event_dict: EventDict) -> EventDict:
        return {key: value if key.startswith("_") else self._clean(value, 0) for key, value in event_dict.items()}

    def _clean(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            masked = self._redact(value)
            return masked if len(masked) <= MAX_VALUE_CHARS else masked[: MAX_VALUE_CHARS - 1] + "…"
        if depth < _MAX_DEPTH:
            if isinstance(value, Mapping):
                return {self._clean(str(key), depth): self._clean(item, depth + 1) for key, item in value.items()}
            if isinstance(value, list | tuple | set | frozenset):
                return [self._clean(item, depth + 1) for item in value]
        return self._clean(str(value), depth)


def _renderer(style: str, out: TextIO) -> Processor:
    if style == "console":
        return structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)
    return structlog.processors.JSONRenderer(serializer=_dumps)


def _dumps(value: MutableMapping[str, Any], **_: Any) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), default=str)
