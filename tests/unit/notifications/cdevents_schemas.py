"""What CDEvents 0.5.0 and its event versions 0.3.0 demand of the events that we make, as JSON Schemas.

Written by hand after the specification's own schemas, in one function, for they differ in their content only.
"""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_FILLED = {"type": "string", "minLength": 1}
_REFERENCE = {"type": "string", "minLength": 1, "format": "uri-reference"}
_URI = {"type": "string", "format": "uri"}
_RUN = {
    "type": "object",
    "properties": {"id": _FILLED, "source": _REFERENCE},
    "required": ["id"],
    "additionalProperties": False,
}
_OUTCOME = {"type": "string", "enum": ["success", "failure", "cancel", "error"]}
_ENDED = {"outcome": _OUTCOME, "errors": _TEXT}

CUSTOM = r"^dev\.cdeventsx\.[a-zA-Z0-9]+-[a-zA-Z]+\.[a-zA-Z]+\.[0-9]\.[0-9]\.[0-9]$"


def _schema(kind: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    context = {
        "specversion": _FILLED,
        "id": _FILLED,
        "source": _REFERENCE,
        "type": {"type": "string", **kind},
        "timestamp": {"type": "string", "format": "date-time"},
        "schemaUri": {"type": "string", "minLength": 1, "format": "uri"},
        "chainId": _FILLED,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "context": {
                "type": "object",
                "properties": context,
                "required": ["specversion", "id", "source", "type", "timestamp"],
                "additionalProperties": False,
            },
            "subject": {
                "type": "object",
                "properties": {"id": _FILLED, "source": _REFERENCE, "content": {"type": "object", **content}},
                "required": ["id", "content"],
                "additionalProperties": False,
            },
            "customData": {"oneOf": [{"type": "object"}, {"type": "string", "contentEncoding": "base64"}]},
            "customDataContentType": _TEXT,
        },
        "required": ["context", "subject"],
        "additionalProperties": False,
    }


def _known(subject: str, predicate: str, properties: dict[str, Any], required: list[str]) -> tuple[str, dict[str, Any]]:
    kind = f"dev.cdevents.{subject}.{predicate}.0.3.0"
    content = {"properties": properties, "required": required, "additionalProperties": False}
    return kind, _schema({"enum": [kind]}, content)


_PIPELINE = {"pipelineName": _TEXT, "uri": _URI}
_TASK = {"taskName": _TEXT, "uri": _URI, "pipelineRun": _RUN}

SCHEMAS: dict[str, dict[str, Any]] = dict(
    (
        _known("pipelinerun", "queued", _PIPELINE, []),
        _known("pipelinerun", "started", _PIPELINE, ["pipelineName", "uri"]),
        _known("pipelinerun", "finished", _PIPELINE | _ENDED, []),
        _known("taskrun", "started", _TASK, []),
        _known("taskrun", "finished", _TASK | _ENDED, []),
    )
)
"""By type."""

CUSTOM_SCHEMA = _schema({"pattern": CUSTOM}, {})
"""Of every event that is not CDEvents' own."""
