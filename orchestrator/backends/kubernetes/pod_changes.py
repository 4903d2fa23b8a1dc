"""Is the pod that the API server took the one that was sent? Pure.

Between the two stands whatever the cluster's administrators, or somebody who has become one, put into admission: a
mutating webhook can swap an image, add a container, mount a volume. What the API server fills in by itself is no
change; a field that it does not know, and therefore drops, is told by preflight. Where a pod may run, and what else is
written on it, others may add to: tolerations, node selectors, labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from orchestrator.backends.kubernetes.render.quantity import value

_MAY_BE_DROPPED: Final = frozenset({"hostUsers"})
"""Newer than the oldest API server that is supported."""

_NOTHING: Final[tuple[Any, ...]] = (None, "", [], {})
"""Values that the API leaves out of its answers."""

_MAY_NOT_APPEAR: Final = frozenset(
    {
        *("hostNetwork", "hostPID", "hostIPC", "ephemeralContainers", "runtimeClassName", "hostAliases"),
        *("env", "envFrom", "valueFrom", "command", "args", "workingDir", "ports", "stdin", "tty"),
        *("lifecycle", "livenessProbe", "readinessProbe", "startupProbe", "restartPolicy", "restartPolicyRules"),
        *("volumeDevices", "subPath", "subPathExpr", "mountPropagation", "claims", "resourceClaims"),
        *("procMount", "sysctls", "fsGroup", "supplementalGroups", "add"),
        *("seLinuxOptions", "appArmorProfile", "windowsOptions"),
    }
)
"""What would give a pod more, or run something else in it, where nothing of the kind was sent."""

_MAY_GROW: Final = frozenset({"tolerations"})
"""Lists that the API server adds to by itself: how long a pod outlives its node. What was sent is still there."""

_CLOSED: Final = frozenset({"requests", "limits"})
"""Objects whose every entry is something to have: devices too are resources."""

_AMOUNTS: Final = frozenset({"cpu", "memory", "ephemeral-storage", "sizeLimit"})

_ANNOTATIONS: Final = (
    "container.apparmor.security.beta.kubernetes.io/",
    "io.katacontainers.",
    "io.kubernetes.cri-o.",
    "dev.gvisor.",
)
"""Beginnings of the annotations by which container runtimes are told to isolate less; no other is read by them."""

_MOST_TOLD: Final = 5
_LONGEST_PATH: Final = 120


class _Metadata(msgspec.Struct):
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Document(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    spec: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))


_DECODER: Final = msgspec.json.Decoder(_Document)


def changes(sent: Mapping[str, Any], taken: Mapping[str, Any]) -> list[str]:
    """Each field of a pod's `spec` that is not as sent, as a path; empty when the pod is ours.

    Named entries of lists (containers, volumes, mounts) are compared by their place: order is part of what was sent.
    """
    return list(_compare(sent, taken, "spec"))


class Unchanged:
    """Compares pods, and knows the specs that were found unchanged, since the pods of a pool are alike: for those a
    look costs reading both texts once."""

    MOST_KEPT = 256

    def __init__(self) -> None:
        self._seen: set[tuple[bytes, bytes]] = set()

    def changes(self, sent: bytes, taken: bytes) -> list[str]:
        """Each field of a pod that is not as sent, from the JSON of both pods.

        Raises:
            msgspec.DecodeError: one of them is no pod.
        """
        ours, theirs = _DECODER.decode(sent), _DECODER.decode(taken)
        return [*_metadata(ours.metadata, theirs.metadata), *self._specs(bytes(ours.spec), bytes(theirs.spec))]

    def _specs(self, sent: bytes, taken: bytes) -> list[str]:
        if (sent, taken) in self._seen:
            return []
        found = changes(msgspec.json.decode(sent, type=dict), msgspec.json.decode(taken, type=dict))
        if not found:
            if len(self._seen) >= self.MOST_KEPT:
                self._seen.clear()
            self._seen.add((sent, taken))
        return found


def told(paths: Sequence[str]) -> str:
    """Changed fields in words: a few, without values."""
    more = f" and {len(paths) - _MOST_TOLD} more" if len(paths) > _MOST_TOLD else ""
    return ", ".join(path[:_LONGEST_PATH] for path in paths[:_MOST_TOLD]) + more


def _metadata(sent: _Metadata, taken: _Metadata) -> Iterator[str]:
    labels, found = taken.labels or {}, taken.annotations or {}
    for key, wanted in (sent.labels or {}).items():
        if labels.get(key) != wanted:
            yield f"metadata.labels[{key}]"
    ours = sent.annotations or {}
    for key, wanted in ours.items():
        if found.get(key) != wanted:
            yield f"metadata.annotations[{key}]"
    for key in found:
        if key.startswith(_ANNOTATIONS) and key not in ours:
            yield f"metadata.annotations[{key}]"


def _compare(sent: Any, taken: Any, path: str) -> Iterator[str]:
    if isinstance(sent, Mapping) and isinstance(taken, Mapping):
        yield from _object(sent, taken, path)
    elif isinstance(sent, list) and isinstance(taken, list):
        yield from _list(sent, taken, path)
    elif not _equal(sent, taken, _key(path)):
        yield path


def _object(sent: Mapping[str, Any], taken: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, wanted in sent.items():
        if key in taken:
            yield from _compare(wanted, taken[key], f"{path}.{key}")
        elif wanted not in _NOTHING and key not in _MAY_BE_DROPPED:
            yield f"{path}.{key}"
    closed = _key(path) in _CLOSED
    for key, found in taken.items():
        if key not in sent and (closed or _gives_more(key, found)):
            yield f"{path}.{key}"


def _gives_more(key: str, found: Any) -> bool:
    """Whether a field that was not sent changes what the pod is. That what it says is the default changes nothing."""
    if key not in _MAY_NOT_APPEAR or found is False or found in _NOTHING:
        return False
    if key == "procMount":
        return bool(found != "Default")
    if key == "seLinuxOptions":
        return not isinstance(found, Mapping) or found.keys() != {"level"}  # OpenShift's own admission sets it
    return True


def _list(sent: Sequence[Any], taken: Sequence[Any], path: str) -> Iterator[str]:
    if _key(path) in _MAY_GROW:
        if not all(any(not list(_compare(wanted, found, path)) for found in taken) for wanted in sent):
            yield path
        return
    if len(taken) != len(sent):
        yield path
        return
    for number, (wanted, found) in enumerate(zip(sent, taken, strict=True)):
        yield from _compare(wanted, found, f"{path}[{number}]")


def _equal(sent: Any, taken: Any, key: str) -> bool:
    if sent == taken and type(sent) is type(taken):
        return True
    if key not in _AMOUNTS or not isinstance(sent, str) or not isinstance(taken, str):
        return False
    amount = value(sent)
    return amount is not None and amount == value(taken)


def _key(path: str) -> str:
    return path.rpartition(".")[2]
