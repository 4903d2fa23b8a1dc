"""The OpenAPI document is valid, covers every operation, and is the one that is checked in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from orchestrator import __version__
from orchestrator.server.openapi import document
from orchestrator.server.routes import BY_ID, OPERATIONS

PUBLIC = {"introspect", "evidence_key", "audit_checkpoint", "audit_key"}
"""Operations below /v1/ that relying parties and auditors need, who have no token of ours."""
PUBLIC |= {"read_session", "redeem_code", "end_session"}
"""How somebody gets in by the page who has no token."""
CHECKED_IN = Path(__file__).parents[3] / "docs" / "reference" / "openapi.json"


@pytest.fixture(scope="module")
def paths():
    return document("0")["paths"]


def test_it_is_a_valid_openapi_3_1_document():
    OpenAPIV31SpecValidator(document(__version__)).validate()


def test_the_checked_in_copy_is_current():
    """If this fails, `python -m orchestrator.server.openapi > docs/reference/openapi.json` and read the difference."""
    assert json.loads(CHECKED_IN.read_text()) == json.loads(json.dumps(document(__version__)))


def test_every_operation_is_described_once(paths):
    described = {(method.upper(), path) for path, item in paths.items() for method in item}
    assert described == {(operation.method, operation.path) for operation in OPERATIONS}
    assert len(BY_ID) == len(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_protected_operations_and_only_they_need_a_token(paths, operation):
    item = paths[operation.path][operation.method.lower()]
    assert bool(item["security"]) is operation.protected
    assert ("401" in item["responses"]) is operation.protected
    assert operation.protected is (operation.path.startswith("/v1/") and operation.id not in PUBLIC)
