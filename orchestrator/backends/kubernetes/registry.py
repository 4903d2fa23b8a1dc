"""Which pod is which runner: what the watches say, what this process made, and what it saw go. No I/O.

A runner's pod has the runner's own name, unless the runner was adopted: then it is the pod of that uid,
whatever its name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.backends.kubernetes.journeys import Journeys
from orchestrator.backends.kubernetes.pod import Pod
from orchestrator.backends.kubernetes.view import Limits, absent_view, obstacle, runner_view
from orchestrator.backends.kubernetes.watch import Change
from orchestrator.model.journey import Journey
from orchestrator.model.runner import Obstacle, RunnerName, RunnerState, RunnerView

T = TypeVar("T")

MAX_REMEMBERED = 20_000
"""Pods made or gone that are remembered; older ones are asked for at the API server again."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod is: enough to ask for it and to delete exactly it."""

    namespace: str
    pod: str
    uid: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The last of a pod that the watch saw go, or missed going."""

    namespace: str
    pod: Pod
    seen: bool


class Registry:
    """All runners of all pool namespaces."""

    def __init__(self, limits: Limits, journeys: Journeys | None = None) -> None:
        self.journeys = journeys or Journeys()
        self._limits = limits
        self._pods: dict[str, tuple[str, Pod]] = {}
        self._by_name: dict[RunnerName, str] = {}
        self._adopted: dict[str, RunnerName] = {}
        self._adopted_uids: dict[RunnerName, str] = {}
        self._made: OrderedDict[RunnerName, Place] = OrderedDict()
        self._gone: OrderedDict[RunnerName, Gone] = OrderedDict()
        self._obstacles: dict[str, tuple[Obstacle, int]] = {}
        self._views: dict[str, tuple[Pod, RunnerView]] = {}
        """By uid, how the pod shows its runner: it is looked at several times before there is news of it."""

    def __len__(self) -> int:
        return len(self._pods)

    def name_of(self, pod: Pod) -> RunnerName:
        return self._adopted.get(pod.uid) or RunnerName(pod.name)

    def adopt(self, name: RunnerName, uid: str) -> None:
        """From now on the pod of this uid is runner `name`."""
        self.disown(name)
        self._adopted[uid] = name
        self._adopted_uids[name] = uid
        known = self._pods.get(uid)
        if known is not None:
            if self._by_name.get(RunnerName(known[1].name)) == uid:
                del self._by_name[RunnerName(known[1].name)]
            self._by_name[name] = uid

    def adopted_uid(self, name: RunnerName) -> str:
        """The uid that was adopted under this name; empty when none was."""
        return self._adopted_uids.get(name, "")

    def adopted_name(self, uid: str) -> RunnerName | None:
        """The runner that this pod was adopted as."""
        return self._adopted.get(uid)

    def disown(self, name: RunnerName) -> None:
        """The adopted pod is no more."""
        self._adopted.pop(self._adopted_uids.pop(name, ""), None)

    def made(self, name: RunnerName, place: Place) -> None:
        """This process made it, or found it made; the watch may not know yet."""
        gone = self._gone.get(name)
        if gone is not None and gone.pod.uid == place.uid:
            return
        self._gone.pop(name, None)
        _remember(self._made, name, place)

    def apply(self, namespace: str, change: Change, now_ns: int) -> tuple[RunnerName, bool] | None:
        """Take a change in; returns whose it is, and whether a place came free, if the runner looks different."""
        new, old = change.new, change.old
        if new is None:
            return self._remove(namespace, old, seen=change.seen) if old is not None else None
        return self._update(namespace, old, new, now_ns)

    def _update(self, namespace: str, old: Pod | None, pod: Pod, now_ns: int) -> tuple[RunnerName, bool] | None:
        name = self.name_of(pod)
        self.journeys.heard(namespace, pod, now_ns)
        before = (self._held(old, name) or runner_view(old, name, self._limits)) if old is not None else None
        self._pods[pod.uid] = (namespace, pod)
        self._by_name[name] = pod.uid
        self._gone.pop(name, None)
        made = name in self._made and self._made[name].uid == pod.uid
        if made:
            del self._made[name]
        after = self._new_view(pod, name, now_ns)
        self._views[pod.uid] = (pod, after)
        stands = after.pending.obstacle if after.pending else None
        if before is None:
            if made and after.state is RunnerState.ALIVE and stands is None:
                return None  # whoever made it has been told so much
        elif before == after and stands is (before.pending.obstacle if before.pending else None):
            return None
        ended = after.state is RunnerState.EXITED and (before is None or before.state is RunnerState.ALIVE)
        return name, ended and before is not None

    def view(self, pod: Pod, now_ns: int) -> RunnerView:
        """The runner as this pod shows it; an obstacle counts from when it was first seen in a row."""
        name = self.name_of(pod)
        return self._held(pod, name) or self._new_view(pod, name, now_ns)

    def _new_view(self, pod: Pod, name: RunnerName, now_ns: int) -> RunnerView:
        word = obstacle(pod)
        if word is None:
            self._obstacles.pop(pod.uid, None)
            return runner_view(pod, name, self._limits)
        stands = self._obstacles.get(pod.uid)
        if stands is None or stands[0] is not word[0]:
            stands = self._obstacles[pod.uid] = (word[0], now_ns)
        return runner_view(pod, name, self._limits, stands[1])

    def find(self, name: RunnerName) -> tuple[str, Pod] | None:
        """Namespace and pod as the watch knows them, unless this process made a newer one of the name."""
        made = self._made.get(name)
        uid = self._by_name.get(name)
        if uid is None or (made is not None and made.uid != uid):
            return None
        return self._pods.get(uid)

    def gone(self, name: RunnerName) -> Gone | None:
        """What is known of a runner's end, when no newer pod of the name was made."""
        return self._gone.get(name) if name not in self._made and name not in self._by_name else None

    def last_of(self, gone: Gone, name: RunnerName) -> RunnerView:
        return absent_view(gone.pod, name, seen=gone.seen)

    def journey(self, name: RunnerName) -> Journey | None:
        """What was seen of the runner's way, also of one that went lately."""
        made, gone = self._made.get(name), self._gone.get(name)
        uid = made.uid if made else self._by_name.get(name) or (gone.pod.uid if gone else "")
        return self.journeys.of(uid)

    def place(self, name: RunnerName) -> Place | None:
        """Where the runner's pod is, as far as is known without asking."""
        made = self._made.get(name)
        if made is not None:
            return made
        found = self.find(name)
        return Place(found[0], found[1].name, found[1].uid) if found else None

    def forget(self, name: RunnerName, uid: str) -> None:
        """The API server says that this pod is no more."""
        made = self._made.get(name)
        if made is not None and made.uid == uid:
            del self._made[name]

    def runners(self, namespace: str | None = None) -> Iterator[tuple[str, Pod]]:
        """Pods that are somebody's: warm ones that nobody took yet are not."""
        for where, pod in self._pods.values():
            if (namespace is None or where == namespace) and self.owned(pod):
                yield where, pod

    def warm(self) -> Iterator[tuple[str, Pod]]:
        """Pods that wait for a job."""
        for where, pod in self._pods.values():
            if not self.owned(pod):
                yield where, pod

    def owned(self, pod: Pod) -> bool:
        return not pod.warm or pod.uid in self._adopted

    def _held(self, pod: Pod, name: RunnerName) -> RunnerView | None:
        held = self._views.get(pod.uid)
        return held[1] if held is not None and held[0] is pod and held[1].name == name else None

    def _remove(self, namespace: str, pod: Pod, *, seen: bool) -> tuple[RunnerName, bool]:
        name = self.name_of(pod)
        view = self._held(pod, name) or runner_view(pod, name, self._limits)
        self._pods.pop(pod.uid, None)
        self._obstacles.pop(pod.uid, None)
        self._views.pop(pod.uid, None)
        if self._by_name.get(name) == pod.uid:
            del self._by_name[name]
        self.forget(name, pod.uid)
        if name not in self._made and name not in self._by_name:
            _remember(self._gone, name, Gone(namespace, pod, seen))
        self.disown(name)
        return name, view.state is RunnerState.ALIVE


def _remember(kept: OrderedDict[RunnerName, T], name: RunnerName, value: T) -> None:
    kept[name] = value
    kept.move_to_end(name)
    if len(kept) > MAX_REMEMBERED:
        kept.popitem(last=False)
