"""Everything that is said of an artifact: kept once, bounded by who says it, ours apart from others'."""

from __future__ import annotations

import json
import threading

import pytest

from orchestrator.errors import GiveUpError
from orchestrator.evidence import attestation_store
from orchestrator.evidence.attestation_store import AttestationStore, Standing
from orchestrator.evidence.attestations.reading import read_attestation
from orchestrator.evidence.envelope import sign_envelope
from orchestrator.evidence.provenance import IN_TOTO

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


@pytest.fixture
def store(tmp_path) -> AttestationStore:
    return AttestationStore(tmp_path / "kept")


@pytest.fixture
def envelope(key):
    return lambda text: sign_envelope(json.dumps({"said": text}).encode(), IN_TOTO, key)


def test_what_is_kept_is_given_back_as_it_was_under_the_id_that_readers_compute(store, envelope):
    first, second = envelope("one"), envelope("two")
    ids = [store.add((DIGEST,), text, Standing.LOOSE) for text in (first, second)]
    assert ids == [read_attestation(text).id for text in (first, second)]
    assert {(one.id, one.text) for one in store.of(DIGEST)} == set(zip(ids, (first, second), strict=True))
    assert store.get(DIGEST, ids[0]).text == first
    assert store.get(OTHER, ids[0]) is None
    assert not store.of(OTHER)


def test_ours_come_first(store, envelope):
    store.add((DIGEST,), envelope("theirs"), Standing.LOOSE)
    ours = store.add((DIGEST, OTHER), envelope("ours"), Standing.OWN)
    assert [one.standing for one in store.of(DIGEST)] == [Standing.OWN, Standing.LOOSE]
    assert [one.id for one in store.of(OTHER)] == [ours]


def test_one_statement_about_many_artifacts_takes_the_room_of_one(tmp_path, envelope):
    digests = [f"sha256:{number:064x}" for number in range(20)]
    store = AttestationStore(tmp_path)
    kept = store.add(digests, envelope("one"), Standing.OWN)
    files = list(tmp_path.glob("*/own.*.json"))
    assert [file.stat().st_nlink for file in files] == [20] * 20
    assert store.add(digests[:1], envelope("one more"), Standing.OWN) != kept
    assert all(kept in {one.id for one in store.of(digest)} for digest in digests)


def test_the_same_statement_signed_again_and_the_same_envelope_wrapped_again_are_kept_once(store, envelope):
    first = store.add((DIGEST,), envelope("one"), Standing.OWN, key="c" * 64)
    assert store.add((DIGEST,), envelope("one"), Standing.OWN, key="c" * 64) == first
    loose = envelope("two")
    kept = store.add((DIGEST,), loose, Standing.LOOSE)
    bundle = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "a-name"}},
        "dsseEnvelope": json.loads(loose),
    }
    assert store.add((DIGEST,), json.dumps(bundle), Standing.VOUCHED) == kept
    assert len(store.of(DIGEST)) == 2


def test_strangers_fill_their_own_room_only(store, envelope, monkeypatch):
    monkeypatch.setattr(attestation_store, "MOST", dict.fromkeys(Standing, 3))
    for number in range(3):
        store.add((DIGEST,), envelope(number), Standing.LOOSE)
    with pytest.raises(GiveUpError) as full:
        store.add((DIGEST,), envelope("more"), Standing.LOOSE)
    assert full.value.reason == "evidence_full"
    store.add((DIGEST,), envelope("vouched"), Standing.VOUCHED)
    store.add((DIGEST,), envelope("own"), Standing.OWN)
    assert len(store.of(DIGEST)) == 5


def test_where_we_speak_the_newest_word_takes_the_place_of_the_oldest_of_its_room(store, envelope, monkeypatch):
    monkeypatch.setattr(attestation_store, "MOST_IN_ROOM", {Standing.OWN: 2, Standing.HEARSAY: 1})
    other = store.add((DIGEST,), envelope("an SBOM"), Standing.OWN, room="sbom")
    scans = [store.add((DIGEST,), envelope(number), Standing.OWN, room="scan") for number in range(4)]
    heard = [store.add((DIGEST,), envelope(f"hearsay {number}"), Standing.HEARSAY) for number in range(3)]
    assert {one.id for one in store.of(DIGEST)} == {other, *scans[2:], heard[-1]}
    assert store.get(DIGEST, scans[0]) is None


def test_a_room_of_first_words_stays_as_it_is_when_it_is_full(store, envelope):
    first = [store.add((DIGEST,), envelope(number), Standing.LOOSE) for number in range(16)]
    with pytest.raises(GiveUpError):
        store.add((DIGEST,), envelope("late"), Standing.LOOSE)
    assert {one.id for one in store.of(DIGEST)} == set(first)


def test_all_that_strangers_say_is_bounded_also_after_a_restart(tmp_path, envelope, monkeypatch):
    text = envelope("x")
    monkeypatch.setattr(attestation_store, "MAX_BYTES", {Standing.LOOSE: 2 * len(text) + 10})
    store = AttestationStore(tmp_path)
    store.add((DIGEST,), text, Standing.LOOSE)
    store.add((OTHER,), text, Standing.LOOSE)
    for again in (store, AttestationStore(tmp_path)):
        with pytest.raises(GiveUpError):
            again.add(("sha256:" + "c" * 64,), text, Standing.LOOSE)
        again.add((DIGEST,), envelope("signed by one we know"), Standing.VOUCHED)


def _refusal(store, digests, text, standing) -> str:
    try:
        store.add(digests, text, standing)
    except GiveUpError as error:
        return error.reason
    return ""


def test_what_jobs_say_that_nobody_asked_is_bounded_in_bytes(tmp_path, envelope, monkeypatch):
    size = len(envelope(0))
    monkeypatch.setattr(attestation_store, "MOST_BYTES", dict.fromkeys((Standing.LOOSE, Standing.HEARSAY), 3 * size))
    monkeypatch.setattr(attestation_store, "MAX_BYTES", dict.fromkeys((Standing.LOOSE, Standing.HEARSAY), 4 * size))
    store = AttestationStore(tmp_path)
    heard = [store.add((DIGEST,), envelope(number), Standing.HEARSAY) for number in range(5)]
    assert len(store.of(DIGEST)) in (2, 3)  # signatures differ in length by a few bytes
    assert heard[-1] in {one.id for one in store.of(DIGEST)}
    for again in (store, AttestationStore(tmp_path)):
        third = ("sha256:" + "c" * 64,)
        reasons = {_refusal(again, third, envelope(number), Standing.HEARSAY) for number in range(3)}
        assert "evidence_full" in reasons
    store.add((DIGEST,), envelope("ours"), Standing.OWN)


def test_a_word_is_as_old_as_it_says(store, envelope, monkeypatch):
    monkeypatch.setattr(attestation_store, "MOST_IN_ROOM", {Standing.VOUCHED: 2})
    first, second = (store.add((DIGEST,), envelope(n), Standing.VOUCHED, said_at_ns=n * 10**9) for n in (10, 20))
    for late in (5, 10):
        with pytest.raises(GiveUpError) as refused:
            store.add((DIGEST,), envelope(f"old {late}"), Standing.VOUCHED, said_at_ns=late * 10**9)
        assert refused.value.reason == "evidence_full"
    assert {one.id for one in store.of(DIGEST)} == {first, second}
    third = store.add((DIGEST,), envelope(15), Standing.VOUCHED, said_at_ns=15 * 10**9)
    assert {one.id for one in store.of(DIGEST)} == {third, second}


def test_a_damaged_file_and_one_that_has_just_gone_stop_nobody(tmp_path, envelope, monkeypatch):
    store = AttestationStore(tmp_path)
    whole, damaged, gone = (store.add((DIGEST,), envelope(number), Standing.OWN) for number in range(3))
    files = {one.name.split("-")[-1][:8]: one for one in (tmp_path / DIGEST.replace(":", "-")).iterdir()}
    files[damaged[7:15]].write_bytes(b"\xff\xfe{")
    listed = list(attestation_store._names(tmp_path / DIGEST.replace(":", "-")))
    monkeypatch.setattr(attestation_store, "_names", lambda _folder: iter(listed))
    files[gone[7:15]].unlink()
    assert {one.id for one in store.of(DIGEST)} == {whole, damaged}
    assert store.get(DIGEST, gone) is None


@pytest.mark.parametrize("digest", ["", "sha256:../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "a" * 32])
def test_a_digest_that_is_none_never_becomes_a_path(store, envelope, digest):
    with pytest.raises(GiveUpError) as refused:
        store.add((digest,), envelope("x"), Standing.LOOSE)
    assert refused.value.reason == "digest_malformed"
    assert not store.of(digest)
    assert store.get(DIGEST, digest) is None


def test_what_is_no_attestation_is_not_kept(store):
    with pytest.raises(GiveUpError) as refused:
        store.add((DIGEST,), '{"no": "envelope"}', Standing.OWN)
    assert refused.value.reason == "envelope_malformed"
    assert store.digests(10) == []


def test_half_a_file_of_a_killed_daemon_is_swept_and_never_read(tmp_path, envelope):
    store = AttestationStore(tmp_path)
    store.add((DIGEST,), envelope("x"), Standing.OWN)
    half = tmp_path / DIGEST.replace(":", "-") / "00.new"
    half.write_text("{")
    again = AttestationStore(tmp_path)
    assert not half.exists()
    assert len(again.of(DIGEST)) == 1


def test_many_threads_at_once_keep_each_statement_once(store, envelope):
    texts = [envelope(number % 4) for number in range(16)]
    threads = [
        threading.Thread(target=store.add, args=((DIGEST,), text, Standing.OWN), kwargs={"key": f"{n % 4:064x}"})
        for n, text in enumerate(texts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(store.of(DIGEST)) == 4


def test_artifacts_are_listed_by_the_last_word_on_them(store, envelope):
    store.add((DIGEST,), envelope("one"), Standing.OWN)
    store.add((OTHER,), envelope("two"), Standing.OWN)
    assert sorted(store.digests(10)) == sorted([DIGEST, OTHER])
    assert len(store.digests(1)) == 1
