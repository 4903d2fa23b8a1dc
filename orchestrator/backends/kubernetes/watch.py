"""One list and one endless watch of a namespace's pods, and the cache they keep.

List first (consistent, in pages), then watch from its resourceVersion with bookmarks; after a cut, watch from
the last version seen; when the server has forgotten that (410, as status or as event), list again and tell the
differences. The cache is what the server said last; `live` says whether it is being told now.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Never

import msgspec

from orchestrator.backends.kubernetes.answers import GoneError, error_of
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.pod import Pod, PodObject, strip
from orchestrator.errors import OrchestratorError, TryAgainError

_log = logging.getLogger(__name__)

PAGE = 500
_PAGES = 10_000
_LISTS_CUT_SHORT = 3
"""A list whose `continue` expired this often in a row is asked for whole."""
_RESUMES = 3
"""Watches from one version that fail in a row before its version is doubted and all is listed again."""
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 30.0
_SHORT = 1.0
"""A watch that ends sooner than this without an event counts as a failure: it must not become a busy loop."""


class _ListMeta(msgspec.Struct):
    resourceVersion: str = ""  # noqa: N815 -- the API's names
    continue_: str = msgspec.field(name="continue", default="")


class _PodList(msgspec.Struct):
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[PodObject] | None = None


class _Event(msgspec.Struct):
    type: str
    object: PodObject = msgspec.field(default_factory=PodObject)


class _Other(msgspec.Struct):
    """An event whose object need not be a pod: an ERROR holds a Status."""

    type: str
    object: msgspec.Raw = msgspec.Raw(b"{}")


_LIST = msgspec.json.Decoder(_PodList)
_EVENT = msgspec.json.Decoder(_Event)
_OTHER = msgspec.json.Decoder(_Other)


@dataclass(frozen=True, slots=True)
class Change:
    """`new` None: the pod is gone. `seen` False: it went while nobody watched, so its last state is not known."""

    old: Pod | None
    new: Pod | None
    seen: bool = True


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. The server ends a watch after `watch`; no word for `idle` means the connection is dead."""

    watch: int = 300
    idle: float = 360.0


class PodWatch:
    """`pods` by name. `changed` is called for each difference, in order; it must not raise and not wait.

    `events` and `lists` count what came; `error` is why it is not live, in words.
    """

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        selector: str,
        changed: Callable[[Change], None],
        timing: Timing | None = None,
    ) -> None:
        self.namespace = namespace
        self.pods: dict[str, Pod] = {}
        self.live = False
        self.error = "not listed yet"
        self.synced = asyncio.Event()
        self.events = 0
        self.lists = 0
        self._client = client
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._selector = selector
        self._changed = changed
        self._timing = timing or Timing()
        self._version = ""
        self._failures = 0

    async def run(self) -> Never:
        """Follow the namespace until cancelled. `synced` is set once it has been listed and is being watched."""
        try:
            while True:
                try:
                    if not self._version:
                        await self.list_once()
                    await self._watch()
                except GoneError:
                    # Not a fault: the server's history is short. The list that follows tells what was missed.
                    self._version = ""
                    self._failures += 1
                    self._down("the server's history was too short; listing again")
                except OrchestratorError as error:
                    self._fail(f"{error} [{error.reason}]")
                except Exception as error:  # noqa: BLE001 -- one namespace's defect is not the others'
                    _log.exception("watch of namespace %s failed", self.namespace)
                    self._version = ""
                    self._fail(f"internal error: {type(error).__name__}")
                await asyncio.sleep(self._delay())
        finally:
            self._down("stopped")

    def _fail(self, why: str) -> None:
        if not self._failures:
            _log.warning("pods of namespace %s are not being watched: %s", self.namespace, why)
        self._failures += 1
        if self._failures % _RESUMES == 0:
            self._version = ""
        self._down(why)

    def _down(self, why: str) -> None:
        self.live, self.error = False, why[:500]

    def _delay(self) -> float:
        """Nothing after a watch that ran its course; else doubled with each failure, with jitter."""
        if not self._failures:
            return 0.0
        doubled = _FIRST_DELAY * float(1 << min(self._failures - 1, 12))
        return min(_LONGEST_DELAY, doubled) * random.uniform(0.5, 1.0)  # noqa: S311

    # List.

    async def list_once(self) -> None:
        """List the whole namespace and tell the differences.

        Raises:
            OrchestratorError: it cannot be listed now; the cache is as it was.
        """
        listed: dict[str, Pod] = {}
        version = ""
        for tries in range(_LISTS_CUT_SHORT + 1):
            try:
                version = await self._pages(listed, PAGE if tries < _LISTS_CUT_SHORT else 0)
                break
            except GoneError:
                if tries == _LISTS_CUT_SHORT:
                    raise
                listed.clear()
        self.lists += 1
        for name in [name for name in self.pods if name not in listed]:
            self._apply(name, None, seen=False)
        for name, pod in listed.items():
            self._apply(name, pod)
        self._version = version

    async def _pages(self, listed: dict[str, Pod], limit: int) -> str:
        params = {"labelSelector": self._selector}
        if limit:
            params["limit"] = str(limit)
        for _ in range(_PAGES):
            answer = await self._client.request("GET", self._path, params=params)
            try:
                page = _LIST.decode(answer)
            except msgspec.DecodeError as error:
                raise TryAgainError(
                    f"the list of pods cannot be read: {error}"[:300], reason="api_unavailable"
                ) from None
            for item in page.items or ():
                pod = strip(item)
                listed[pod.name] = pod
            if not page.metadata.continue_:
                if not page.metadata.resourceVersion:
                    raise TryAgainError("a list of pods without a version", reason="api_unavailable")
                return page.metadata.resourceVersion
            params["continue"] = page.metadata.continue_
            await asyncio.sleep(0)
        raise TryAgainError("a list of pods without an end", reason="api_unavailable")

    # Watch.

    async def _watch(self) -> None:
        """Until the server ends it, which is no failure."""
        params = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "labelSelector": self._selector,
            "resourceVersion": self._version,
            # All watches of a daemon must not end in the same second.
            "timeoutSeconds": str(max(1, int(self._timing.watch * random.uniform(0.9, 1.0)))),  # noqa: S311
        }
        began, before = time.monotonic(), self.events
        async with self._client.stream(self._path, params=params, idle=self._timing.idle) as lines:
            if self._failures and self.error:
                _log.info("pods of namespace %s are being watched", self.namespace)
            self.live, self.error = True, ""
            self.synced.set()
            await self._follow(lines)
        if time.monotonic() - began < min(_SHORT, self._timing.watch / 2) and self.events == before:
            self._failures += 1
            self._down("the server ends every watch at once")
        else:
            self._failures = 0
            self._down("between two watches")

    async def _follow(self, lines: AsyncIterator[bytes]) -> None:
        async for line in lines:
            try:
                event = _read(line)
            except msgspec.DecodeError as error:
                # A version cannot be skipped: what this line said is only learnt by listing.
                self._version = ""
                raise TryAgainError(f"a watch event cannot be read: {error}"[:300], reason="api_unavailable") from None
            pod = strip(event.object)
            self._failures = 0
            self.events += 1
            if event.type == "BOOKMARK":
                self._version = pod.version or self._version
                continue
            if not pod.name or not pod.uid or not pod.version or event.type not in ("ADDED", "MODIFIED", "DELETED"):
                self._version = ""
                raise TryAgainError("a watch event that says nothing", reason="api_unavailable")
            if event.type == "DELETED":
                self._gone(pod)
            else:
                self._apply(pod.name, pod)
            self._version = pod.version

    def _gone(self, last: Pod) -> None:
        known = self.pods.get(last.name)
        if known is not None and known.uid != last.uid:
            self._apply(last.name, None, seen=False)
        elif known is not None:
            self._apply(last.name, last)
        if known is not None and known.uid == last.uid:
            self._apply(last.name, None)

    def _apply(self, name: str, new: Pod | None, *, seen: bool = True) -> None:
        old = self.pods.get(name)
        if old is not None and new is not None and old.uid != new.uid:
            self._apply(name, None, seen=False)
            old = None
        if new is None:
            self.pods.pop(name, None)
        elif old is not None and old.version == new.version:
            return
        else:
            self.pods[name] = new
        if old is not None or new is not None:
            self._changed(Change(old, new, seen))


def _read(line: bytes) -> _Event:
    """One event, parsed in one go: most are of pods.

    Raises:
        OrchestratorError: it is the server's word that the watch is over.
        msgspec.DecodeError: nobody can read it.
    """
    try:
        event = _EVENT.decode(line)
    except msgspec.ValidationError:
        other = _OTHER.decode(line)
        if other.type == "ERROR":
            raise _refused(other.object) from None
        raise
    if event.type == "ERROR":
        raise _refused(_OTHER.decode(line).object)
    return event


def _refused(answer: msgspec.Raw) -> OrchestratorError:
    """The error inside an ERROR event; whatever it is, the events after it are lost, so all is listed again."""
    try:
        code = int(msgspec.json.decode(answer).get("code") or 500)
    except (msgspec.DecodeError, AttributeError, TypeError, ValueError):
        code = 500
    return GoneError(str(error_of("GET", code if code >= 400 else 500, answer)))
