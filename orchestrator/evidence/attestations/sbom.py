"""Bills of materials: what they list, and that they do not name another artifact. Not a validation of their schemas,
which costs hundreds of milliseconds and says nothing about truth.

Sources: CycloneDX 1.x JSON (bomFormat, specVersion, components, metadata.component.hashes), SPDX 2.x JSON
(spdxVersion, packages, creationInfo.created), SPDX 3 JSON-LD (@graph, software_Package).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from orchestrator.evidence.attestations.documents import (
    Entry,
    optional_list,
    optional_table,
    optional_text,
    optional_time,
    refused,
)

CYCLONEDX_TYPE: Final = "https://cyclonedx.org/bom"
SPDX_TYPE: Final = "https://spdx.dev/Document"
TYPES: Final = re.compile(r"https://(cyclonedx\.org/bom(/v1\.\d+)?|spdx\.dev/Document(/v[23](\.\d+)?)?)")
"""Predicate types of bills of materials; the version may stand behind."""

_MALFORMED: Final = "sbom_malformed"
_DEEPEST: Final = 32


def read_sbom(predicate_type: str, predicate: Mapping[str, Any], digest: str, now_ns: int) -> Entry:
    """{format, components, created_at} of a bill of materials of the artifact `digest`.

    Raises:
        AttestationRefusedError: reason `sbom_malformed`, `sbom_of_other_artifact`, `time_in_the_future`.
    """
    if predicate_type.startswith(CYCLONEDX_TYPE):
        return _read_cyclonedx(predicate, digest, now_ns)
    return _read_spdx_3(predicate, now_ns) if "@graph" in predicate else _read_spdx(predicate, now_ns)


def _read_cyclonedx(bom: Mapping[str, Any], digest: str, now_ns: int) -> Entry:
    if bom.get("bomFormat") != "CycloneDX" or not optional_text(bom.get("specVersion")).startswith("1."):
        raise refused("not CycloneDX 1.x", _MALFORMED)
    metadata = optional_table(bom.get("metadata"))
    named = [
        str(entry.get("content")).lower()
        for entry in optional_list(optional_table(metadata.get("component")).get("hashes"))
        if isinstance(entry, dict) and entry.get("alg") == "SHA-256"
    ]
    if named and digest.removeprefix("sha256:") not in named:
        raise refused("the bill of materials names another artifact", "sbom_of_other_artifact")
    return _entry(
        "cyclonedx", _count_components(bom.get("components", []), _DEEPEST), metadata.get("timestamp"), now_ns
    )


def _count_components(components: object, deepest: int) -> int:
    """All of them, also those within others."""
    if not isinstance(components, list) or deepest == 0:
        raise refused("its components are no list, or nested too deep", _MALFORMED)
    count = 0
    for component in components:
        if not isinstance(component, dict) or not isinstance(component.get("name"), str):
            raise refused("a component has no name", _MALFORMED)
        count += 1
        if "components" in component:
            count += _count_components(component["components"], deepest - 1)
    return count


def _read_spdx(document: Mapping[str, Any], now_ns: int) -> Entry:
    packages = document.get("packages", [])
    if not optional_text(document.get("spdxVersion")).startswith("SPDX-2.") or not isinstance(packages, list):
        raise refused("not SPDX 2.x in JSON", _MALFORMED)
    if not all(isinstance(package, dict) and isinstance(package.get("name"), str) for package in packages):
        raise refused("a package has no name", _MALFORMED)
    created = optional_table(document.get("creationInfo")).get("created")
    return _entry("spdx", len(packages), created, now_ns)


def _read_spdx_3(document: Mapping[str, Any], now_ns: int) -> Entry:
    graph = document["@graph"]
    if not isinstance(graph, list) or not all(isinstance(element, dict) for element in graph):
        raise refused("not SPDX 3 in JSON-LD", _MALFORMED)
    packages = sum(element.get("type") == "software_Package" for element in graph)
    created = next((element.get("created") for element in graph if element.get("type") == "CreationInfo"), None)
    return _entry("spdx", packages, created, now_ns)


def _entry(kind: str, components: int, created: object, now_ns: int) -> Entry:
    return {"format": kind, "components": components, "created_at": optional_time(created, now_ns)}
