"""Decides recorded decisions again, under another bundle, and counts what would be different. Nothing comes of it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from orchestrator.policy.decision_log.compare import difference
from orchestrator.policy.decision_log.entry import Entry, EntryDamagedError, subject_of
from orchestrator.policy.decision_log.reading import Finding, SegmentReader, Window, chosen
from orchestrator.policy.decision_log.segments import Segment
from orchestrator.policy.decision_log.tally import Tally
from orchestrator.policy.document import Evaluation
from orchestrator.policy.engine import RegorusEngine
from orchestrator.policy.files import Bundle

MAX_WORKERS = 32
_WORTH_A_PROCESS = 512 << 10
"""Compressed bytes of the log: less of it is replayed sooner than a process is started."""

Progress = Callable[[int, int, int], None]
"""Told of files done, files in all, and decisions replayed so far."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to replay: decisions of `window`, of one environment or (None) of all, under `new`, against what `old`
    decides now or (None) what was decided then."""

    window: Window
    new: Bundle
    old: Bundle | None = None
    environment: str | None = None


class Replayer:
    """Replays files one by one, in the thread that made it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._new = _engine(plan.new)
        self._old = _engine(plan.old) if plan.old is not None else None

    def replay(self, segment: Segment) -> Tally:
        """Everything of a file that the plan is about."""
        tally, reader = Tally(), SegmentReader(segment)
        for entry in reader.entries():
            if self._plan.window.holds(entry) and self._wanted(entry):
                self._one(entry, tally)
        tally.findings += reader.findings
        tally.spans.append(reader.span)
        return tally

    def _wanted(self, entry: Entry) -> bool:
        wanted = self._plan.environment
        return wanted is None or subject_of(entry).environment == wanted

    def _one(self, entry: Entry, tally: Tally) -> None:
        text = entry.input_json
        if not text:
            tally.without_input += 1
            return
        try:
            old = self._before(entry, text)
        except EntryDamagedError as error:
            tally.findings.append(Finding(f"decision {entry.decision_id[:64]}", str(error)))
            return
        found = difference(old, self._new.evaluate_now(text))
        if found is None:
            tally.same(entry)
        else:
            tally.differs(entry, found)

    def _before(self, entry: Entry, text: str) -> Evaluation:
        return entry.evaluation() if self._old is None else self._old.evaluate_now(text)


def replay(folder: Path, plan: Plan, workers: int = 0, progress: Progress | None = None) -> Tally:
    """Everything in the log's folder that the plan is about. The log is only read, and may be written meanwhile.

    Args:
        folder: the log, or a copy.
        plan: what to replay.
        workers: processes; 0 takes as many as there are processors where the log is large enough for that.
        progress: told after each file.

    Raises:
        OSError: the folder cannot be read.
    """
    segments = chosen(folder, plan.window)
    count = _workers(segments, workers)
    total = Tally()
    for done, part in enumerate(_parts(segments, plan, count), 1):
        total.merge(part)
        if progress is not None:
            progress(done, len(segments), total.replayed)
    return total


def _workers(segments: Sequence[Segment], wanted: int) -> int:
    if wanted:
        return max(1, min(wanted, len(segments), MAX_WORKERS))
    size = sum(_size(segment.path) for segment in segments)
    return max(1, min(_processors(), len(segments), size // _WORTH_A_PROCESS, MAX_WORKERS))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _parts(segments: Sequence[Segment], plan: Plan, workers: int) -> Iterator[Tally]:
    if workers == 1:
        replayer = Replayer(plan)
        yield from (replayer.replay(segment) for segment in segments)
        return
    # Started afresh rather than forked: the interpreter of policy has threads and locks that a fork would tear.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(plan,)) as pool:
        for future in as_completed([pool.submit(_replay, segment) for segment in segments]):
            yield future.result()


_mine: list[Replayer] = []
"""The replayer of a worker process, made once."""


def _begin(plan: Plan) -> None:
    _mine.append(Replayer(plan))


def _replay(segment: Segment) -> Tally:
    return _mine[0].replay(segment)


def _engine(bundle: Bundle) -> RegorusEngine:
    return RegorusEngine(bundle.modules, bundle.data_json, bundle.digest)
