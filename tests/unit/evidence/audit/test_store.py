"""The files of the log: what a kill at any step leaves, what is refused at the next start, and full disks."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.evidence.audit.checkpoint import sign_checkpoint
from orchestrator.evidence.audit.note import NoteKey
from orchestrator.evidence.audit.record import prepare
from orchestrator.evidence.audit.segments import HISTORY, NEWEST, VKEY
from orchestrator.evidence.audit.store import AuditStore, Pace
from orchestrator.evidence.audit.verify import verify

from .conftest import Clock, event, lines, put

SMALL = Pace(checkpoint_records=4, segment_bytes=3000)


class KilledError(BaseException):
    """The process ends here."""


class Steps:
    """Counts the calls that change files, and ends the process, or fails, at one of them.

    Syncs are counted and not made: a kill does not take what the kernel has, and hundreds of them would take long.
    """

    def __init__(self, monkeypatch) -> None:
        self.count = 0
        self.at = -1
        self.how = "before"
        self.error: OSError | None = None
        for owner, name in (
            (os, "write"), (os, "fdatasync"), (os, "fsync"), (os, "ftruncate"), (os, "open"), (Path, "rename"),
        ):  # fmt: skip
            real = (lambda descriptor: None) if name.endswith("sync") else getattr(owner, name)
            monkeypatch.setattr(owner, name, self._wrapped(name, real))

    def _wrapped(self, name, real):
        def call(*given, **named):
            number, self.count = self.count, self.count + 1
            if number != self.at:
                return real(*given, **named)
            if self.error is not None:
                if name == "write" and self.how == "half":
                    real(given[0], bytes(given[1])[: len(given[1]) // 2])
                raise self.error
            if self.how == "half" and name == "write":
                real(given[0], bytes(given[1])[: len(given[1]) // 2])
            elif self.how == "after":
                real(*given, **named)
            raise KilledError

        return call


@pytest.fixture
def steps(monkeypatch):
    with monkeypatch.context() as patch:
        yield Steps(patch)


def life(folder, key, acknowledged, opened):
    """Two starts of a daemon that writes; what `commit` has confirmed goes into `acknowledged`."""
    for _ in range(2):
        store = AuditStore.open(folder, key, Clock(), SMALL)
        opened.append(store)
        for _ in range(3):
            numbers = [store.last_journal_seq + 1, store.last_journal_seq + 2]
            if store.commit([prepare(event(number)) for number in numbers]):
                acknowledged += numbers
            store.checkpoint_if_due()
        store.close()


def let_go(opened):
    """What the kernel does when a process ends."""
    for store in opened:
        store._ownership.release()


@pytest.mark.parametrize("how", ["before", "half", "after"])
def test_a_kill_at_any_step_loses_nothing_that_was_confirmed(tmp_path, key, steps, how):
    at = 0
    while True:
        folder = tmp_path / f"{how}-{at}"
        acknowledged: list[int] = []
        opened: list[AuditStore] = []
        steps.count, steps.at, steps.how = 0, at, how
        try:
            life(folder, key, acknowledged, opened)
        except KilledError:
            killed = True
        else:
            killed = False
        steps.at = -1
        let_go(opened)
        # As it lies there, before any repair: an offline look finds no tampering once a log has been begun.
        if acknowledged:
            report = verify(folder, key.verifier)
            assert report.ok, (at, report)
        store = AuditStore.open(folder, key, Clock(), SMALL)
        assert store.last_journal_seq == store.size >= len(acknowledged), at
        assert acknowledged == list(range(1, len(acknowledged) + 1))
        # At most one group more: it was written, and killed before it could be confirmed.
        assert store.size <= len(acknowledged) + 2
        assert store.commit([prepare(event(store.last_journal_seq + 1))]), store.problem
        store.close()
        report = verify(folder, key.verifier)
        assert report.ok, (at, report)
        assert report.vouched == report.records
        if not killed:
            break
        shutil.rmtree(folder)
        at += 1
    assert at > 60


@pytest.mark.parametrize("how", ["before", "half"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failure_at_any_step_confirms_nothing_and_heals(tmp_path, key, steps, how, code):
    """Each commit that fails is tried again until it works, as the writer does."""
    at = 0
    while True:
        folder = tmp_path / f"{how}-{at}"
        store = AuditStore.open(folder, key, Clock(), SMALL)
        steps.count, steps.at, steps.how, steps.error = 0, at, how, OSError(code, os.strerror(code))
        failures = 0
        for _ in range(4):
            numbers = [store.last_journal_seq + 1, store.last_journal_seq + 2]
            records = [prepare(event(number)) for number in numbers]
            while not store.commit(records):
                failures += 1
                assert store.problem is not None
                assert store.problem.reason == "audit_unavailable"
                assert ("free space" in store.problem.fix) is (code == errno.ENOSPC)
            assert store.problem is None
            assert store.last_journal_seq == numbers[-1]
            if store.due_seconds() == 0 and not store.checkpoint_if_due():
                failures += 1
                assert store.probe()
                assert store.checkpoint_if_due()
        reached = steps.count > at
        steps.at = -1
        store.close()
        report = verify(folder, key.verifier)
        assert report.ok, (at, report)
        assert (report.records, report.vouched) == (8, 8)
        shutil.rmtree(folder)
        if not reached:
            break
        assert failures == 1, at
        at += 1
    assert at > 20


def test_a_log_can_be_opened_on_a_full_disk(written, key, monkeypatch):
    folder = written(30)
    with next(folder.glob("*.jsonl")).open("ab") as file:
        file.write(b"torn")

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        store = AuditStore.open(folder, key, Clock(), Pace())
        assert store.size == 30
        assert not store.probe()
        assert store.problem is not None
        assert not (folder / "probe").exists()
    assert store.probe()
    assert store.commit([prepare(event(31))])
    store.close()
    assert verify(folder, key.verifier).records == 31


@contextmanager
def refused(reason, word):
    with pytest.raises(ConfigurationError) as caught:
        yield
    assert caught.value.reason == reason
    assert word in str(caught.value)
    assert caught.value.fix


def flip(folder):
    these = lines(folder)
    put(folder, [*these[:20], these[20].replace(b"allow", b"denie"), *these[21:]])


def forget(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def edit(name, old, new):
    def change(folder):
        (folder / name).write_text((folder / name).read_text().replace(old, new))

    return change


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (flip, "record 21"),
        (lambda folder: put(folder, lines(folder)[:29]), "ends at record 29"),
        (lambda folder: put(folder, []), "ends at record 0"),
        (lambda folder: put(folder, [*lines(folder)[:4], *lines(folder)[5:]]), "record 5 does not follow"),
        (lambda folder: put(folder, [*lines(folder), b"x" * 100_000]), "longer"),
        (forget(NEWEST), "checkpoint is missing"),
        (forget("00000000000000000001.jsonl"), "all 30 records are missing"),
        (forget("00000000000000000001.start"), "start is missing"),
        (edit(NEWEST, "\n30\n", "\n3\n"), "cannot be trusted"),
        (edit("00000000000000000001.start", "journal_seq 0", "journal_seq 9"), "cannot be trusted"),
        (lambda folder: shutil.copy(folder / NEWEST, folder / "00000000000000000001.start"), "cannot be trusted"),
    ],
)
def test_a_log_that_is_not_what_was_written_is_not_gone_on_with(written, key, change, word):
    folder = written(30)
    change(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with refused("audit_tampered", word):
        AuditStore.open(folder, key, Clock(), Pace())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    # The lock was let go: mending it is enough.
    with refused("audit_tampered", word):
        AuditStore.open(folder, key, Clock(), Pace())


def test_an_older_checkpoint_put_back_is_noticed_by_the_history(written, key):
    folder, short = written(30), written(20, name="short")
    shutil.copy(short / NEWEST, folder / NEWEST)
    put(folder, lines(folder)[:20])
    with refused("audit_tampered", "a checkpoint of 30 was signed"):
        AuditStore.open(folder, key, Clock(), Pace())


def test_a_rewritten_tail_contradicts_the_last_checkpoint(written, key):
    folder = written(30)
    other = written(30, group=3, name="other")
    [path] = other.glob("*.jsonl")
    text = path.read_bytes()
    assert text == b"".join(lines(folder))
    line, _ = prepare(event(1, actor="mallory")).line(1, "0" * 64)
    put(folder, [line + b"\n"])
    (folder / HISTORY).unlink()
    tree_of_one = sign_checkpoint(key, 1, b"r" * 32)
    (folder / NEWEST).write_text(tree_of_one.note)
    with refused("audit_tampered", "others than those"):
        AuditStore.open(folder, key, Clock(), Pace())


def test_a_missing_last_segment_is_noticed(written, key):
    folder = written(48, segment=4000)
    max(folder.glob("*.jsonl")).unlink()
    with refused("audit_tampered", "a checkpoint of 48"):
        AuditStore.open(folder, key, Clock(), Pace())


def test_segments_that_were_archived_are_not_needed_to_go_on(written, key, tmp_path):
    folder = written(48, segment=4000)
    *old, _ = sorted(folder.glob("*.jsonl"))
    archive = tmp_path / "archive"
    archive.mkdir()
    for path in old:
        path.rename(archive / path.name)
    store = AuditStore.open(folder, key, Clock(), Pace())
    assert (store.size, store.last_journal_seq) == (48, 48)
    assert store.commit([prepare(event(49))])
    store.close()
    for path in archive.iterdir():
        path.rename(folder / path.name)
    report = verify(folder, key.verifier)
    assert report.ok, report
    assert report.vouched == 49


def test_another_key_is_another_log(written):
    folder = written(3)
    with refused("audit_foreign", "another key"):
        AuditStore.open(folder, NoteKey.generate("ci.example/audit"), Clock(), Pace())


def test_one_writer_at_a_time(tmp_path, key):
    store = AuditStore.open(tmp_path / "audit", key, Clock(), Pace())
    with refused("audit_in_use", "in use"):
        AuditStore.open(tmp_path / "audit", key, Clock(), Pace())
    store.close()
    AuditStore.open(tmp_path / "audit", key, Clock(), Pace()).close()


def test_a_folder_that_others_may_read_is_refused(tmp_path, key):
    (tmp_path / "audit").mkdir(mode=0o755)
    with refused("audit_unwritable", "not the daemon's alone"):
        AuditStore.open(tmp_path / "audit", key, Clock(), Pace())


def test_a_folder_that_cannot_be_made_is_told_as_the_logs(tmp_path, key):
    (tmp_path / "file").touch()
    with refused("audit_unwritable", "Not a directory"):
        AuditStore.open(tmp_path / "file" / "audit", key, Clock(), Pace())


@pytest.mark.parametrize("name", ["lock", "checkpoint", "00000000000000000001.jsonl"])
def test_a_folder_that_cannot_be_used_is_told(written, key, name):
    folder = written(3)
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    with refused("audit_unwritable", "cannot be opened"):
        AuditStore.open(folder, key, Clock(), Pace())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-10]), "length"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x\n"), "length"),
        (lambda path: path.unlink(), "removed"),
        (lambda path: shutil.copy(path, f"{path}.new") and Path(f"{path}.new").rename(path), "replaced"),
    ],
)
def test_a_file_that_is_changed_while_the_daemon_runs_is_noticed_before_the_next_record(tmp_path, key, change, word):
    folder = tmp_path / "audit"
    store = AuditStore.open(folder, key, Clock(), Pace())
    assert store.commit([prepare(event(1))])
    [path] = folder.glob("*.jsonl")
    kept = tmp_path / "kept"
    os.link(path, kept)
    good = kept.read_bytes()
    change(path)
    assert not store.commit([prepare(event(2))])
    assert store.problem is not None
    assert store.problem.reason == "audit_tampered"
    assert word in str(store.problem)
    assert not store.probe()
    # Put back as it was, it goes on.
    kept.write_bytes(good)
    if not path.exists() or path.stat().st_ino != kept.stat().st_ino:
        path.unlink(missing_ok=True)
        os.link(kept, path)
    assert store.commit([prepare(event(2))]), store.problem
    store.close()
    assert verify(folder, key.verifier).ok


def test_checkpoints_come_by_number_and_by_time(tmp_path, key):
    clock = Clock()
    store = AuditStore.open(tmp_path / "audit", key, clock, Pace(checkpoint_seconds=10, checkpoint_records=3))
    assert store.checkpoint.size == 0
    assert store.due_seconds() is None
    clock.ns = 100 * 10**9
    store.commit([prepare(event(1))])
    assert store.due_seconds() == 10
    assert not store.checkpoint_if_due()
    clock.ns += 4 * 10**9
    store.commit([prepare(event(2))])
    assert store.due_seconds() == 6
    clock.ns += 6 * 10**9
    assert store.checkpoint_if_due()
    assert store.checkpoint.size == 2
    assert store.due_seconds() is None
    store.commit([prepare(event(number)) for number in (3, 4, 5)])
    assert store.due_seconds() == 0
    assert store.checkpoint_if_due()
    assert not store.close()
    assert (tmp_path / "audit" / NEWEST).read_text() == store.checkpoint.note
    assert (tmp_path / "audit" / VKEY).read_text() == f"{key.verifier.vkey}\n"
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "audit").iterdir())
