"""What an API server asks before it starts a workload (`admission.k8s.io/v1` AdmissionReview), and the answer. Pure.

Read are pods and what pods are made from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from orchestrator.server.cluster.pod_demands import Demands, Image, ReviewError, Struct, demands, given, read_spec

API_VERSION = "admission.k8s.io/v1"
KIND = "AdmissionReview"

MAX_MEMBERS = 40_000
"""Commas in a review, about as many as it has members. Reading them holds up everybody else, 10 ms for so many."""
MAX_MESSAGE = 4000
"""Characters of a refusal's message."""
_MAX_NAME = 253
_MAX_WARNING = 250
_MAX_WARNINGS = 10

_TEMPLATE = ("spec", "template")
TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    "ReplicationController": _TEMPLATE,
    "ReplicaSet": _TEMPLATE,
    "Deployment": _TEMPLATE,
    "StatefulSet": _TEMPLATE,
    "DaemonSet": _TEMPLATE,
    "Job": _TEMPLATE,
    "CronJob": ("spec", "jobTemplate", *_TEMPLATE),
}
"""Each kind that is read, to where in it the pod is described."""


class _Owner(Struct, frozen=True):
    kind: str = ""
    name: str = ""
    controller: bool | None = None


class _Metadata(Struct, frozen=True):
    name: str = ""
    generate_name: str = ""
    owner_references: list[_Owner] | None = None


class _Kind(Struct, frozen=True):
    kind: str


class _User(Struct, frozen=True):
    username: str = ""


class _Request(Struct, frozen=True):
    uid: str
    kind: _Kind
    operation: str
    namespace: str = ""
    name: str = ""
    user_info: _User = _User()
    object: msgspec.Raw = msgspec.Raw()
    old_object: msgspec.Raw = msgspec.Raw()
    dry_run: bool | None = None


class _Review(Struct, frozen=True):
    api_version: str
    kind: str
    request: _Request


@dataclass(frozen=True, slots=True)
class Workload:
    """What a cluster wants to start, as its API server tells it.

    `uid` is the request's. `name` may end with `*`: the rest is made up later. `owner` is what the object belongs to
    (`ReplicaSet/shop-5d8`), `requested_by` who asks, in the cluster's words. `changed` is False for an update that
    leaves what the pods ask for as it is.
    """

    uid: str
    namespace: str
    kind: str
    name: str
    operation: str
    owner: str = ""
    requested_by: str = ""
    service_account: str = ""
    images: tuple[Image, ...] = ()
    privileges: tuple[str, ...] = ()
    dry_run: bool = False
    changed: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """`message` says why not; `warnings` are shown to whoever asked, `notes` go into the cluster's own audit log."""

    allowed: bool
    message: str = ""
    warnings: Sequence[str] = ()
    notes: Mapping[str, str] = field(default_factory=dict)


_REVIEW = msgspec.json.Decoder(_Review, strict=True)
_TREE = msgspec.json.Decoder(dict[str, msgspec.Raw])
_METADATA = msgspec.json.Decoder(_Metadata, strict=True)


def read_review(body: bytes) -> Workload:
    """The workload of a review.

    Raises:
        ReviewError: it is none of this version, of a kind that is not read, of an operation that starts nothing, or
            has more members or images than are looked at.
    """
    if body.count(b",") > MAX_MEMBERS:
        raise ReviewError(f"the body has more than {MAX_MEMBERS} members")
    try:
        review = _REVIEW.decode(body)
        if (review.api_version, review.kind) != (API_VERSION, KIND):
            raise ReviewError(f"the body is no {KIND} of {API_VERSION}")
        return _workload(review.request)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ReviewError(f"the body is no {KIND} of {API_VERSION} that can be read") from None


def answer_review(uid: str, answer: Answer) -> bytes:
    """The AdmissionReview that answers the request of this uid."""
    response: dict[str, object] = {"uid": uid, "allowed": answer.allowed}
    if not answer.allowed:
        message = answer.message if len(answer.message) <= MAX_MESSAGE else f"{answer.message[:MAX_MESSAGE]}…"
        response["status"] = {"code": 403, "reason": "Forbidden", "message": message}
    if answer.warnings:
        response["warnings"] = [text[:_MAX_WARNING] for text in answer.warnings[:_MAX_WARNINGS]]
    if answer.notes:
        response["auditAnnotations"] = dict(answer.notes)
    return msgspec.json.encode({"apiVersion": API_VERSION, "kind": KIND, "response": response})


def _workload(request: _Request) -> Workload:
    kind = request.kind.kind
    if kind not in TEMPLATES:
        raise ReviewError("the object is of a kind that starts no pods, or that is not known here")
    if request.operation not in ("CREATE", "UPDATE"):
        raise ReviewError("only CREATE and UPDATE are judged")
    if not given(request.object):
        raise ReviewError("the request has no object")
    tree = _TREE.decode(request.object)
    spec = read_spec(_pod_spec(kind, tree))
    asked = demands(spec)
    metadata = _METADATA.decode(tree["metadata"]) if "metadata" in tree else _Metadata()
    return Workload(
        uid=request.uid,
        namespace=request.namespace[:_MAX_NAME],
        kind=kind,
        name=_name(request, metadata),
        operation=request.operation.lower(),
        owner=_owner(metadata),
        requested_by=request.user_info.username[:_MAX_NAME],
        service_account=(spec.service_account_name or "")[:_MAX_NAME],
        images=asked.images,
        privileges=asked.privileges,
        dry_run=bool(request.dry_run),
        changed=_changed(kind, request, asked),
    )


def _changed(kind: str, request: _Request, asked: Demands) -> bool:
    if request.operation != "UPDATE" or not given(request.old_object):
        return True
    return asked != demands(read_spec(_pod_spec(kind, _TREE.decode(request.old_object))))


def _pod_spec(kind: str, tree: Mapping[str, msgspec.Raw]) -> msgspec.Raw:
    for step in TEMPLATES[kind]:
        if step not in tree:
            raise ReviewError("the object does not say which pods it makes")
        tree = _TREE.decode(tree[step])
    if "spec" not in tree:
        raise ReviewError("the object does not say what its pods are")
    return tree["spec"]


def _name(request: _Request, metadata: _Metadata) -> str:
    made_up = f"{metadata.generate_name}*" if metadata.generate_name else ""
    return (request.name or metadata.name or made_up)[:_MAX_NAME]


def _owner(metadata: _Metadata) -> str:
    owners = metadata.owner_references or []
    first = next((one for one in owners if one.controller), owners[0] if owners else None)
    return f"{first.kind}/{first.name}"[:_MAX_NAME] if first is not None else ""
