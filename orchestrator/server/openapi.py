"""The OpenAPI 3.1 document, made from the route table and the models. Pure."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from orchestrator import __version__
from orchestrator.server import schemas, shapes
from orchestrator.server.artifacts.shapes import DIGEST_PATTERN
from orchestrator.server.entrance.problems import MEDIA_TYPE as PROBLEM
from orchestrator.server.operation import JSON, SSE, Answer, Operation
from orchestrator.server.routes import OPERATIONS

_REF = "#/components/schemas/{model}"
_PROBLEM_NAMES = {
    400: "The request is malformed",
    401: "The caller's token is missing or refused",
    403: "The caller may not see or do this, or the sender's signature is missing or refused",
    404: "There is no such job, source, issuer or key, or it is another caller's",
    408: "The body came too slowly",
    409: "Not as things stand",
    413: "The body is too large",
    415: "The media type is not supported",
    421: "The request is for another host",
    422: "The request does not fit the schema, or its idempotency key was used for another one",
    429: "The queue is full",
    500: "A defect of ours",
    503: "Not now",
}
_RETRY = {429, 503}


def document(version: str) -> dict[str, Any]:
    """The whole document. `version` is the program's."""
    models = _models()
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ephemeral runner orchestrator",
            "version": version,
            "description": "Dispatch CI jobs to single-use runners and see what became of them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "caller": {"type": "http", "scheme": "bearer", "description": "OIDC token of a configured issuer"},
                "page": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "__Host-orchestrator",
                    "description": "Session of the live page, good with the page's own secret in X-Orchestrator-Page; "
                    "by plain http its name has the port in it",
                },
            },
        },
    }


def _models() -> list[type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {"ProblemView": shapes.ProblemView}
    for operation in OPERATIONS:
        answers = (answer.model for answer in operation.answers.values())
        for model in (operation.body, *answers):
            if model is not None:
                found[model.__name__] = model
    return [found[name] for name in sorted(found)]


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _operation(operation: Operation) -> dict[str, Any]:
    result: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "responses": _responses(operation),
    }
    parameters = [*_path_parameters(operation.path), *_query_parameters(operation.query), *_headers(operation)]
    if parameters:
        result["parameters"] = parameters
    if operation.body is not None:
        result["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(operation.body)}}}
    if operation.form:
        result["requestBody"] = {
            "required": True,
            "content": {"application/x-www-form-urlencoded": {"schema": INTROSPECTION_FORM}},
        }
    if operation.webhook:
        result["requestBody"] = {"required": True, "content": {JSON: {"schema": {"type": "object"}}}}
    result["security"] = _security(operation)
    return result


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    if not operation.protected:
        return []
    return [{"caller": []}] if operation.page is None else [{"caller": []}, {"page": []}]


KID_PATTERN = "^[A-Za-z0-9_-]{43}$"
"""A SHA-256 thumbprint (RFC 7638) in base64url."""
FILE_PATTERN = "^[a-z0-9][a-z0-9._-]{0,63}$"
NAME_PATTERN = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
WEBHOOK_HEADERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "X-Hub-Signature-256",
        "HMAC-SHA256 of the body with the webhook's secret",
        {"type": "string", "pattern": "^sha256=[0-9a-f]{64}$"},
    ),
    ("X-GitHub-Event", "What happened", {"type": "string", "pattern": "^[a-z_]{1,64}$"}),
    ("X-GitHub-Delivery", "The same for each try", {"type": "string", "pattern": "^[0-9A-Za-z-]{8,64}$"}),
)

INTROSPECTION_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["token"],
    "properties": {
        "token": {"type": "string", "minLength": 1, "maxLength": 16384},
        "token_type_hint": {"type": "string", "description": "Ignored: there is one kind of token"},
    },
}


def _responses(operation: Operation) -> dict[str, Any]:
    responses = {str(status): _answer(answer) for status, answer in operation.answers.items()}
    for status in sorted(_problem_statuses(operation)):
        if str(status) not in responses:
            responses[str(status)] = _problem(status)
    return responses


def _problem_statuses(operation: Operation) -> Iterable[int]:
    statuses = {400, 500, *operation.problems}
    if operation.protected:
        statuses.add(401)
    if operation.page is not None:
        statuses |= {403, 421}
    if operation.method != "GET":
        statuses |= {408, 413, 415}
    return statuses


def _answer(answer: Answer) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"} if answer.media_type == JSON else {"type": "string"}
    if not answer.media_type:
        return {"description": answer.description}
    content: dict[str, Any] = {answer.media_type: {"schema": _ref(answer.model) if answer.model else schema}}
    if answer.media_type == SSE:
        content = {SSE: {}}  # OpenAPI 3.1 has no schema for a stream of events
    result: dict[str, Any] = {"description": answer.description, "content": content}
    if answer.headers:
        result["headers"] = {
            name: {"description": text, "required": True, "schema": {"type": "string"}}
            for name, text in answer.headers.items()
        }
    return result


def _problem(status: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "description": _PROBLEM_NAMES[status],
        "content": {PROBLEM: {"schema": _ref(shapes.ProblemView)}},
    }
    if status in _RETRY:
        schema = {"type": "integer", "minimum": 1}
        result["headers"] = {"Retry-After": {"description": "Seconds", "required": True, "schema": schema}}
    if status == 401:
        schema_text = {"type": "string"}
        result["headers"] = {"WWW-Authenticate": {"description": "RFC 6750", "required": True, "schema": schema_text}}
    return result


def _path_parameters(path: str) -> list[dict[str, Any]]:
    patterns = {"job_id": schemas.JOB_ID_PATTERN, "source": NAME_PATTERN, "issuer": NAME_PATTERN, "kid": KID_PATTERN}
    patterns |= {"name": NAME_PATTERN, "file": FILE_PATTERN, "provider": NAME_PATTERN}
    patterns |= dict.fromkeys(("digest", "attestation", "approval_id"), DIGEST_PATTERN)
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": patterns[name]}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    document = model.model_json_schema(ref_template=_REF)
    definitions = document.get("$defs", {})
    parameters = []
    for name, schema in document.get("properties", {}).items():
        flat = _flatten(schema, definitions)
        required = name in document.get("required", ())
        parameter = {"name": name, "in": "query", "required": required, "schema": flat}
        if description := flat.pop("description", ""):
            parameter["description"] = description
        parameters.append(parameter)
    return parameters


def _flatten(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema in one piece: a query parameter is left out, it is never null."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    base = options[0] if options else schema
    if "$ref" in base:
        base = definitions[base["$ref"].rpartition("/")[2]]
    merged = {**base, **{key: value for key, value in schema.items() if key not in ("anyOf", "$ref")}}
    if merged.get("default", 0) is None:
        del merged["default"]
    return {key: value for key, value in merged.items() if key != "title"}


def _headers(operation: Operation) -> list[dict[str, Any]]:
    if operation.webhook:
        return [
            {"name": name, "in": "header", "required": True, "description": text, "schema": schema}
            for name, text, schema in WEBHOOK_HEADERS
        ]
    if not operation.dispatch:
        return []
    return [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": True,
            "description": "One key for each job, the same for each retry of it; kept as long as the job is known",
            "schema": {"type": "string", "pattern": schemas.KEY_PATTERN},
        },
        {
            "name": "traceparent",
            "in": "header",
            "required": False,
            "description": "W3C trace context of the caller; linked to the job's trace, ignored when malformed",
            "schema": {"type": "string"},
        },
    ]


def main() -> None:
    """Print the document, for the copy in the docs: `python -m orchestrator.server.openapi`."""
    sys.stdout.write(json.dumps(document(__version__), indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
