"""A backup is whole or it is none: every damage is named, and nothing leaves the folder it is unpacked into."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from orchestrator.daemon.backup import archive
from orchestrator.daemon.backup.archive import MANIFEST, Entry, Manifest, Writer, read_all
from orchestrator.daemon.backup.places import AUDIT, DECISIONS, STATE, places, sources
from orchestrator.errors import GiveUpError
from orchestrator.settings import Settings
from orchestrator.settings.audit import AuditSettings

CONTENT = b"a key, for one" * 1000


def made(tmp_path: Path, *, listed: bool = True) -> bytes:
    (tmp_path / "file").write_bytes(CONTENT)
    out = io.BytesIO()
    writer = Writer(out)
    copied = writer.add("state/file", tmp_path / "file", lambda _: None)
    entries = (Entry("state/file", copied.size, copied.sha256),) if listed else ()
    writer.finish(Manifest("2026-01-02T03:04:05Z", "1.2.3", 7, 1, entries))
    return out.getvalue()


def read(data: bytes) -> tuple[Manifest, dict[str, bytes]]:
    found: dict[str, bytes] = {}

    def take(member: Any) -> Any:
        def give(part: bytes) -> None:
            found[member.name] = found.get(member.name, b"") + part

        return give

    return read_all(io.BytesIO(data), take), found


def tarred(**files: bytes) -> bytes:
    return tarred_of([(tarfile.TarInfo(name.replace("__", "/")), data) for name, data in files.items()])


def tarred_of(files: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb") as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for info, data in files:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    manifest, found = read(made(tmp_path))
    assert found == {"state/file": CONTENT}
    assert (manifest.version, manifest.last_seq, manifest.unfinished, manifest.size) == ("1.2.3", 7, 1, len(CONTENT))


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_part_is_no_backup(part: float, tmp_path: Path) -> None:
    data = made(tmp_path)
    with pytest.raises(GiveUpError, match="no whole backup") as caught:
        read(data[: int(len(data) * part)])
    assert caught.value.reason == "backup_damaged"


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    data = bytearray(gzip.decompress(made(tmp_path)))
    data[512 + len(CONTENT) // 2] ^= 1
    with pytest.raises(GiveUpError, match="state/file is not what the list says"):
        read(gzip.compress(bytes(data)))


def test_a_file_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GiveUpError, match="state/file is not what the list says"):
        read(made(tmp_path, listed=False))


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "state/../../x",
        "../x",
        "state//x",
        "./state/x",
        "state/" + "a/" * 1000 + "x",
        "state/" + "a" * 1100,
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(GiveUpError, match="no file of ours"):
        read(tarred_of([(tarfile.TarInfo(name), b"x")]))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_only_files_are_taken(kind: bytes) -> None:
    info = tarfile.TarInfo("state/x")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(GiveUpError, match="no file of ours"):
        read(tarred_of([(info, b"")]))


def test_a_later_form_is_told_apart_from_damage() -> None:
    with pytest.raises(GiveUpError) as caught:
        read(tarred(**{MANIFEST: json.dumps({"format": 2, "version": "9.0.0"}).encode()}))
    assert caught.value.reason == "backup_newer"
    assert "9.0.0" in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"format": 1, "files": [{}]}', b"\xff"])
def test_a_list_that_is_none_is_damage(text: bytes) -> None:
    with pytest.raises(GiveUpError, match="list of files"):
        read(tarred(**{MANIFEST: text}))


def test_nothing_may_follow_the_list(tmp_path: Path) -> None:
    list_first = Manifest("", "", 0, 0, ()).encode()
    with pytest.raises(GiveUpError, match="after the list"):
        read(tarred(**{MANIFEST: list_first, "state__file": CONTENT}))


def test_the_journal_comes_first_and_checkpoints_before_records(tmp_path: Path) -> None:
    kept = ("journal.db", "audit/checkpoint", "audit/00000000000000000001.jsonl", "keys/a", "logs/j")
    left = ("journal.db-wal", "journal.db.lock", "daemon.json", "caller-token", "audit/lock", ".restoring/x", "k.tmp")
    for name in (*kept, *left):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [one.name for one in sources({STATE: tmp_path}, logs=False)]
    assert names == [
        "state/journal.db", "state/audit/checkpoint", "state/audit/00000000000000000001.jsonl", "state/keys/a",
    ]  # fmt: skip
    assert "state/logs/j" in [one.name for one in sources({STATE: tmp_path}, logs=True)]


def test_folders_outside_of_the_state_folder_are_places_of_their_own(tmp_path: Path) -> None:
    near = Settings(state_dir=tmp_path, audit=AuditSettings(folder=tmp_path / "audit"))
    assert places(near) == {STATE: tmp_path}
    far = Settings(state_dir=tmp_path / "s", audit=AuditSettings(folder=tmp_path / "a"))
    assert places(far) == {STATE: tmp_path / "s", AUDIT: tmp_path / "a"}
    assert DECISIONS not in places(far)


def head(body: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """What describes the file `state/x`, before it."""
    first, file = tarfile.TarInfo("x"), tarfile.TarInfo("state/x")
    first.type, first.size, file.size = kind, len(body), 1
    blocks = (first.tobuf(tarfile.USTAR_FORMAT), body, b"\0" * (-len(body) % 512))
    return b"".join((*blocks, file.tobuf(tarfile.USTAR_FORMAT), b"x".ljust(512, b"\0"), b"\0" * 1024))


def record(name: str, value: str) -> bytes:
    """A line of a pax head: its own length comes first."""
    line = f" {name}={value}\n"
    return f"{len(line) + 2}{line}".encode()


@pytest.mark.parametrize(
    "body",
    [
        record("path", "state/a\0b.more"),
        record("GNU.sparse.map", "x,y"),
        record("GNU.sparse.size", "x") + record("GNU.sparse.numblocks", "1"),
        record("GNU.sparse.map", "0,1") + record("GNU.sparse.size", "1000000"),
        b"9" * 5000 + b" a=b\n",
    ],
)
def test_a_head_that_makes_no_sense_is_damage(body: bytes) -> None:
    with pytest.raises(GiveUpError, match=r"no file of ours|something else"):
        read(gzip.compress(head(body)))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_head_that_would_fill_the_memory_is_not_read(kind: bytes) -> None:
    packed = gzip.compress(head(b"8 path=x\n" + bytes(32 << 20), kind), 1)
    assert len(packed) < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(GiveUpError, match="something else"):
            read(packed)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"format": 1, "jobs": {"last_seq": 1e999}, "version": ""}'])
def test_a_list_that_breaks_its_reader_is_damage(text: bytes) -> None:
    with pytest.raises(GiveUpError, match="list of files"):
        read(tarred(**{MANIFEST: text}))


def test_no_more_files_are_taken_than_a_list_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MAX_FILES", 2)
    with pytest.raises(GiveUpError, match="more than 2 files"):
        read(tarred(state__a=b"", state__b=b"", state__c=b""))


def test_what_follows_the_end_is_not_read_on_and_on(tmp_path: Path) -> None:
    """A few bytes can stand for many zeros: nothing of it is stored, but somebody waits for its end."""
    data = made(tmp_path)
    padded = data + gzip.compress(bytes(64 << 10))
    assert read(padded)[1] == {"state/file": CONTENT}
    with pytest.raises(GiveUpError, match="something follows"):
        read(data + gzip.compress(bytes(4 << 20)))
