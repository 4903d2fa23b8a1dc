import os
from pathlib import Path

from orchestrator.evidence.store import EvidenceStore

DIGEST = "sha256:" + "a" * 64


def test_the_first_envelope_of_a_digest_stands(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path / "evidence")
    store.put([DIGEST], "first")
    store.put([DIGEST], "second")
    assert store.get(DIGEST) == "first"
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "evidence").iterdir()] == [0o600]


def test_many_artifacts_of_one_envelope_take_the_room_of_one(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path)
    digests = [f"sha256:{number:064x}" for number in range(20)]
    store.put([digests[3]], "there before")
    store.put(digests, "of all")
    assert [store.get(digest) for digest in digests] == ["of all"] * 3 + ["there before"] + ["of all"] * 16
    assert len({path.stat().st_ino for path in tmp_path.iterdir()}) == 2


def test_a_name_that_is_no_digest_reads_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("x", encoding="utf-8")
    assert EvidenceStore(tmp_path / "evidence").get("../secret") == ""


def test_two_jobs_that_end_at_once_with_one_digest_do_not_write_into_each_other(tmp_path: Path, monkeypatch) -> None:
    store = EvidenceStore(tmp_path / "evidence")
    sync, raced = os.fsync, []

    def sync_while_another_job_ends(descriptor: int) -> None:
        if not raced:
            raced.append(True)
            store.put([DIGEST], "the other's, which is done first")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync_while_another_job_ends)
    store.put([DIGEST], "mine")
    assert store.get(DIGEST) == "the other's, which is done first"
    assert len(list((tmp_path / "evidence").iterdir())) == 1


def test_what_a_killed_daemon_left_half_written_goes_at_the_next_start(tmp_path: Path) -> None:
    folder = tmp_path / "evidence"
    EvidenceStore(folder).put([DIGEST], "whole")
    (folder / "sha256-half.json.1.new").write_text("ha", encoding="utf-8")
    store = EvidenceStore(folder)
    assert [path.suffix for path in folder.iterdir()] == [".json"]
    assert store.get(DIGEST) == "whole"


def test_an_envelope_is_on_the_disk_with_its_name_when_put_returns(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "evidence"
    store = EvidenceStore(folder)
    sync, synced = os.fsync, []

    def note(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), store.get(DIGEST)))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    store.put([DIGEST], "envelope")
    assert synced[-1] == (folder, "envelope")


def test_an_envelope_that_is_damaged_on_the_disk_is_read_and_names_nobody(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path / "evidence")
    store.put([DIGEST], "{}")
    (tmp_path / "evidence" / f"{DIGEST.replace(':', '-')}.json").write_bytes(b"\xff\xfe{")
    assert store.get(DIGEST).endswith("{")
    assert store.built_by(DIGEST) == ""
