"""Bills of materials: what they list, and that they do not name another artifact. Not a validation of their schemas,
which costs hundreds of milliseconds and says nothing about truth.

Only the parts that are needed are decoded: thousands of objects for each decision would keep the collector busy.

Sources: CycloneDX 1.x JSON (bomFormat, specVersion, components, metadata.component.hashes), SPDX 2.x JSON
(spdxVersion, packages, creationInfo.created), SPDX 3 JSON-LD (@graph, software_Package).
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

import msgspec

from orchestrator.evidence.attestations.documents import NOT_THERE, Entry, decoded, is_there, optional_time, refused

CYCLONEDX_TYPE: Final = "https://cyclonedx.org/bom"
SPDX_TYPE: Final = "https://spdx.dev/Document"
TYPES: Final = re.compile(r"https://(cyclonedx\.org/bom(/v1\.\d+)?|spdx\.dev/Document(/v[23](\.\d+)?)?)")
"""Predicate types of bills of materials; the version may stand behind."""

_MALFORMED: Final = "sbom_malformed"
_DEEPEST: Final = 32


class _Component(msgspec.Struct, gc=False):
    name: str
    components: list[_Component] = []


class _Hash(msgspec.Struct):
    alg: Any = None
    content: Any = None


class _Described(msgspec.Struct):
    hashes: list[_Hash] = []


class _Metadata(msgspec.Struct):
    timestamp: Any = None
    component: _Described | None = None


class _CycloneDx(msgspec.Struct, rename="camel"):
    bom_format: Literal["CycloneDX"]
    spec_version: str
    components: list[_Component] = []
    metadata: _Metadata | None = None


class _Package(msgspec.Struct, gc=False):
    name: str


class _Creation(msgspec.Struct):
    created: Any = None


class _Spdx(msgspec.Struct, rename="camel"):
    spdx_version: str
    packages: list[_Package] = []
    creation_info: _Creation | None = None


class _Element(msgspec.Struct, gc=False):
    type: str = ""
    created: str = ""


class _Either(msgspec.Struct):
    """SPDX 3 has a graph, SPDX 2 has none."""

    graph: msgspec.Raw = msgspec.field(default=NOT_THERE, name="@graph")


_cyclonedx = msgspec.json.Decoder(_CycloneDx)
_spdx = msgspec.json.Decoder(_Spdx)
_either = msgspec.json.Decoder(_Either)
_graph = msgspec.json.Decoder(list[_Element])


def read_sbom(predicate_type: str, predicate: msgspec.Raw, digest: str, now_ns: int) -> Entry:
    """{format, components, created_at} of a bill of materials of the artifact `digest`.

    Raises:
        AttestationRefusedError: reason `sbom_malformed`, `sbom_of_other_artifact`, `time_in_the_future`.
    """
    if predicate_type.startswith(CYCLONEDX_TYPE):
        return _read_cyclonedx(decoded(_cyclonedx, predicate, _MALFORMED), digest, now_ns)
    graph = decoded(_either, predicate, _MALFORMED).graph
    if is_there(graph):
        return _read_spdx_3(decoded(_graph, graph, _MALFORMED), now_ns)
    return _read_spdx(decoded(_spdx, predicate, _MALFORMED), now_ns)


def _read_cyclonedx(bom: _CycloneDx, digest: str, now_ns: int) -> Entry:
    if not bom.spec_version.startswith("1."):
        raise refused("not CycloneDX 1.x", _MALFORMED)
    metadata = bom.metadata or _Metadata()
    hashes = metadata.component.hashes if metadata.component is not None else []
    named = [str(entry.content).lower() for entry in hashes if entry.alg == "SHA-256"]
    if named and digest.removeprefix("sha256:") not in named:
        raise refused("the bill of materials names another artifact", "sbom_of_other_artifact")
    return _entry("cyclonedx", _count(bom.components, _DEEPEST), metadata.timestamp, now_ns)


def _count(components: list[_Component], deepest: int) -> int:
    """All of them, also those within others."""
    if not deepest:
        raise refused("its components are nested too deep", _MALFORMED)
    within = sum(_count(component.components, deepest - 1) for component in components if component.components)
    return len(components) + within


def _read_spdx(document: _Spdx, now_ns: int) -> Entry:
    if not document.spdx_version.startswith("SPDX-2."):
        raise refused("not SPDX 2.x in JSON", _MALFORMED)
    created = document.creation_info.created if document.creation_info is not None else None
    return _entry("spdx", len(document.packages), created, now_ns)


def _read_spdx_3(graph: list[_Element], now_ns: int) -> Entry:
    packages = sum(element.type == "software_Package" for element in graph)
    created = next((element.created for element in graph if element.type == "CreationInfo"), None)
    return _entry("spdx", packages, created, now_ns)


def _entry(kind: str, components: int, created: object, now_ns: int) -> Entry:
    return {"format": kind, "components": components, "created_at": optional_time(created, now_ns)}
