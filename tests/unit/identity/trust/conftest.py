"""Small documents as their content, and the maps that they make."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.identity.trust.trust_map import TrustMap

EXAMPLES = Path(__file__).parents[4] / "docs" / "examples" / "trust-map"
ROLE = "arn:aws:iam::123456789012:role/app-release"

PROD: dict[str, Any] = {
    "trust_map": 1,
    "environment": "prod",
    "issuer": "prod",
    "targets": {"aws-prod": {"kind": "aws", "audience": "sts.amazonaws.com", "session_seconds": 900}},
    "grants": [
        {
            "name": "app-release",
            "when": {
                "repository_id": {"equals": "42"},
                "ref": {"matches": "refs/heads/release/*"},
                "ref_protected": {"equals": "true"},
                "trust_tier": {"equals": "protected"},
            },
            "target": "aws-prod",
            "roles": [ROLE],
            "max_ttl_seconds": 300,
            "session_tags": {"repository": {"claim": "repository"}, "stage": {"value": "prod"}},
            "transitive": ["stage"],
        }
    ],
}

FACTS = {
    "environment": "prod",
    "repository": "acme/app",
    "repository_id": "42",
    "ref": "refs/heads/release/1.2",
    "ref_protected": "true",
    "trust_tier": "protected",
}


@pytest.fixture
def prod() -> dict[str, Any]:
    return copy.deepcopy(PROD)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., TrustMap]:
    """The map of these contents, by way of files; each is named for its environment."""

    def load(*contents: Any) -> TrustMap:
        paths = []
        for number, content in enumerate(contents):
            name = content.get("environment") or "none" if isinstance(content, dict) else str(number)
            path = tmp_path / f"{name}.yaml"
            while path in paths:
                path = path.with_name(f"other-{path.name}")
            path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
            paths.append(path)
        return TrustMap.load(paths)

    return load
