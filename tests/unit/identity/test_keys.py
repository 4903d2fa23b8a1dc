"""The key file: who may read it, what damage does, and what survives a crash."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import ConfigurationError, GiveUpError, TryAgainError
from orchestrator.identity.jwks import thumbprint
from orchestrator.identity.keys import KeyStore
from orchestrator.identity.rotation import KeyState, RotationSchedule
from orchestrator.private_file import replace_private_file

NOW = 1_800_000_000.0
SCHEDULE = RotationSchedule()
DAY = 86400


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def kids(store: KeyStore, state: KeyState) -> set[str]:
    return {key.kid for key in store.states() if key.state is state}


def test_a_fresh_store_is_for_its_owner_only(tmp_path):
    previous = os.umask(0)
    try:
        store = KeyStore.open(tmp_path / "state" / "keys", SCHEDULE, NOW)
    finally:
        os.umask(previous)
    assert mode(tmp_path / "state" / "keys") == 0o700
    assert mode(tmp_path / "state" / "keys" / "issuer.json") == 0o600
    assert {key.algorithm for key in store.states()} == {"RS256", "ES256"}


def test_kid_is_the_thumbprint_and_only_public_members_are_published(keys):
    for jwk in keys.published():
        assert jwk["kid"] == thumbprint(jwk)
        material = {"n", "e"} if jwk["kty"] == "RSA" else {"crv", "x", "y"}
        assert set(jwk) == {"kty", "alg", "use", "kid"} | material


def test_a_restart_finds_the_same_keys(keys, tmp_path):
    again = KeyStore.open(tmp_path / "keys", SCHEDULE, NOW)
    assert again.states() == keys.states()
    assert again.published() == keys.published()


def test_no_private_key_in_a_representation(keys):
    text = repr(keys.signing_key("RS256"))
    assert "private" not in text
    assert "PRIVATE" not in text


@pytest.mark.parametrize("bits", [0o040, 0o020, 0o004, 0o002, 0o001, 0o010])
@pytest.mark.parametrize("target", ["", "issuer.json"])
def test_looser_modes_are_refused(keys, tmp_path, target, bits):
    path = tmp_path / "keys" / target
    path.chmod(mode(path) | bits)
    with pytest.raises(ConfigurationError) as caught:
        KeyStore.open(tmp_path / "keys", SCHEDULE, NOW)
    assert caught.value.reason == "keys_unsafe"
    assert "chmod" in caught.value.fix


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("target", ["", "issuer.json"])
def test_a_foreign_owner_is_refused(keys, tmp_path, target):
    os.chown(tmp_path / "keys" / target, 65534, 65534)
    with pytest.raises(ConfigurationError) as caught:
        KeyStore.open(tmp_path / "keys", SCHEDULE, NOW)
    assert caught.value.reason == "keys_unsafe"


def test_a_link_in_place_of_the_file_is_refused(keys, tmp_path):
    file = tmp_path / "keys" / "issuer.json"
    file.rename(tmp_path / "elsewhere.json")
    file.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(TryAgainError) as caught:
        KeyStore.open(tmp_path / "keys", SCHEDULE, NOW)
    assert caught.value.reason == "keys_unavailable"


def test_a_link_in_place_of_the_folder_is_refused(keys, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "keys")
    with pytest.raises(ConfigurationError) as caught:
        KeyStore.open(tmp_path / "link", SCHEDULE, NOW)
    assert caught.value.reason == "keys_unsafe"


def test_a_fifo_in_place_of_the_file_is_refused_without_hanging(tmp_path):
    (tmp_path / "keys").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "keys" / "issuer.json", 0o600)
    with pytest.raises(ConfigurationError) as caught:
        KeyStore.open(tmp_path / "keys", SCHEDULE, NOW)
    assert caught.value.reason == "keys_unsafe"


def swap_keys(document):
    first, second = document["keys"]
    first["private_key"], second["private_key"] = second["private_key"], first["private_key"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.update(version=2),
        lambda d: d.pop("keys"),
        lambda d: d["keys"][0].update(kid="another"),
        lambda d: d["keys"][0].update(state="unknown"),
        lambda d: d["keys"][0].update(since=float("nan")),
        lambda d: d["keys"][0].update(private_key="nonsense"),
        lambda d: d["keys"][0].update(private_key=7),
        swap_keys,
    ],
)
def test_a_damaged_file_is_a_clear_error_without_key_material(keys, tmp_path, damage):
    file = tmp_path / "keys" / "issuer.json"
    document = json.loads(file.read_text())
    damage(document)
    file.write_text(json.dumps(document))
    with pytest.raises(ConfigurationError) as caught:
        KeyStore.open(tmp_path / "keys", SCHEDULE, NOW)
    assert caught.value.reason == "keys_corrupt"
    assert "PRIVATE" not in caught.value.diagnostics()
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]", b"null", b"{" * 100_000])
def test_garbage_is_a_clear_error(keys, tmp_path, data):
    (tmp_path / "keys" / "issuer.json").write_bytes(data)
    with pytest.raises(ConfigurationError) as caught:
        KeyStore.open(tmp_path / "keys", SCHEDULE, NOW)
    assert caught.value.reason == "keys_corrupt"


def test_what_a_crash_left_half_written_is_dropped(keys, tmp_path):
    half = tmp_path / "keys" / "issuer.json.tmp"
    half.write_text("{")
    again = KeyStore.open(tmp_path / "keys", SCHEDULE, NOW)
    assert not half.exists()
    assert again.states() == keys.states()


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "secret"
    replace_private_file(file, b"old")

    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        replace_private_file(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_rotation_that_cannot_be_written_does_not_happen(keys, monkeypatch):
    before = keys.states()

    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(TryAgainError) as caught:
        keys.rotate(NOW + 30 * DAY)
    assert caught.value.reason == "keys_unavailable"
    assert keys.states() == before


def test_rotation_with_overlap_over_stepped_days(keys):
    """A week to sign, a day of notice, a bit more than a day of grace."""
    first = kids(keys, KeyState.ACTIVE)
    assert not keys.rotate(NOW + 6 * DAY - 1)
    keys.rotate(NOW + 6 * DAY)
    following = kids(keys, KeyState.NEXT)
    assert len(following) == 2
    assert kids(keys, KeyState.ACTIVE) == first
    assert {jwk["kid"] for jwk in keys.published()} == first | following
    keys.rotate(NOW + 7 * DAY)
    assert kids(keys, KeyState.ACTIVE) == following
    assert kids(keys, KeyState.RETIRING) == first
    keys.rotate(NOW + 7 * DAY + SCHEDULE.retire_seconds - 1)
    assert kids(keys, KeyState.RETIRING) == first
    keys.rotate(NOW + 7 * DAY + SCHEDULE.retire_seconds)
    assert {jwk["kid"] for jwk in keys.published()} == following


def test_revoking_the_active_key_puts_another_in_its_place(keys, tmp_path):
    gone = keys.signing_key("RS256").kid
    keys.revoke(gone, NOW + 5)
    assert keys.verify_key(gone) is None
    assert keys.signing_key("RS256").kid != gone
    again = KeyStore.open(tmp_path / "keys", SCHEDULE, NOW + 5)
    assert gone not in {key.kid for key in again.states()}


def test_revoking_the_active_key_promotes_the_published_one(keys):
    keys.rotate(NOW + 6 * DAY)
    active = keys.signing_key("ES256").kid
    (following,) = [k.kid for k in keys.states() if k.state is KeyState.NEXT and k.algorithm == "ES256"]
    keys.revoke(active, NOW + 6 * DAY + 1)
    assert keys.signing_key("ES256").kid == following


def test_revoking_a_retiring_key_changes_nothing_else(keys):
    keys.rotate(NOW + 6 * DAY)
    keys.rotate(NOW + 7 * DAY)
    gone = next(iter(kids(keys, KeyState.RETIRING)))
    before = {key for key in keys.states() if key.kid != gone}
    keys.revoke(gone, NOW + 7 * DAY + 1)
    assert set(keys.states()) == before


def test_revoking_again_changes_nothing_and_a_restart_remembers(keys, tmp_path):
    gone = keys.signing_key("ES256").kid
    plan = keys.revoke(gone, NOW + 5)
    assert plan.create == (("ES256", KeyState.ACTIVE),)
    before = keys.states()
    assert not keys.revoke(gone, NOW + 6)
    again = KeyStore.open(tmp_path / "keys", SCHEDULE, NOW + 7)
    assert not again.revoke(gone, NOW + 8)
    assert keys.states() == again.states() == before
    assert [(key.kid, key.algorithm, key.since) for key in again.revoked()] == [(gone, "ES256", NOW + 5)]
    again.rotate(NOW + 7 * DAY)
    assert [key.kid for key in KeyStore.open(tmp_path / "keys", SCHEDULE, NOW + 7 * DAY).revoked()] == [gone]


def test_only_the_newest_withdrawn_keys_are_remembered(keys, tmp_path):
    gone = []
    for number in range(66):
        gone.append(keys.signing_key("ES256").kid)
        keys.revoke(gone[-1], NOW + number)
    assert [key.kid for key in keys.revoked()] == gone[-64:]
    with pytest.raises(GiveUpError) as caught:
        keys.revoke(gone[0], NOW + 70)
    assert caught.value.reason == "key_unknown"


def test_a_file_in_which_a_withdrawn_key_is_back_is_refused(keys, tmp_path):
    file = tmp_path / "keys" / "issuer.json"
    before = json.loads(file.read_text())
    keys.revoke(keys.signing_key("ES256").kid, NOW + 5)
    after = json.loads(file.read_text())
    file.write_text(json.dumps(after | {"keys": before["keys"]}))
    with pytest.raises(ConfigurationError) as caught:
        KeyStore.open(tmp_path / "keys", SCHEDULE, NOW + 6)
    assert caught.value.reason == "keys_corrupt"


def test_revoking_an_unknown_key_is_refused(keys):
    with pytest.raises(GiveUpError) as caught:
        keys.revoke("../../etc/passwd", NOW)
    assert caught.value.reason == "key_unknown"


def test_no_key_for_an_algorithm_we_do_not_sign(keys):
    for algorithm in ("HS256", "none", "EdDSA", ""):
        with pytest.raises(GiveUpError):
            keys.signing_key(algorithm)


def test_a_rotation_that_was_asked_for_goes_on_after_a_restart(keys, tmp_path):
    first = kids(keys, KeyState.ACTIVE)
    plan = keys.ask(NOW + 60)
    assert sorted(plan.create) == [("ES256", KeyState.NEXT), ("RS256", KeyState.NEXT)]
    following = kids(keys, KeyState.NEXT)
    again = KeyStore.open(tmp_path / "keys", SCHEDULE, NOW + 120)
    assert not again.ask(NOW + 180), "it waits already"
    assert (kids(again, KeyState.ACTIVE), kids(again, KeyState.NEXT)) == (first, following)
    assert not again.rotate(NOW + 60 + DAY - 1)
    again.rotate(NOW + 60 + DAY)
    assert (kids(again, KeyState.ACTIVE), kids(again, KeyState.RETIRING)) == (following, first)
    assert not any(key.asked for key in again.states()), "the next one takes its time again"
    over = KeyStore.open(tmp_path / "keys", SCHEDULE, NOW + 60 + DAY + SCHEDULE.retire_seconds - 1)
    assert first < {jwk["kid"] for jwk in over.published()}


def test_at_once_another_key_signs_and_old_signatures_still_verify(keys, tmp_path):
    first = kids(keys, KeyState.ACTIVE)
    keys.ask(NOW + 60, at_once=True)
    assert kids(keys, KeyState.RETIRING) == first
    assert keys.signing_key("RS256").kid not in first
    again = KeyStore.open(tmp_path / "keys", SCHEDULE, NOW + 60 + SCHEDULE.retire_seconds - 1)
    assert again.states() == keys.states()
    assert all(again.verify_key(kid) for kid in first)


def test_old_keys_do_not_pile_up(keys):
    for number in range(8):
        keys.ask(NOW + number, at_once=True)
    before = keys.states()
    with pytest.raises(GiveUpError) as caught:
        keys.ask(NOW + 9, at_once=True)
    assert caught.value.reason == "keys_too_many"
    assert keys.states() == before
    keys.rotate(NOW + 8 + SCHEDULE.retire_seconds)
    assert keys.ask(NOW + 9 + SCHEDULE.retire_seconds, at_once=True)


def test_old_keys_do_not_pile_up_however_soon_their_followers_sign(tmp_path, monkeypatch):
    """The keys that a rotation now asks for take over later, when nobody asks whether there is room."""
    monkeypatch.setattr("orchestrator.identity.keys._MOST_RETIRING", 4)
    store = KeyStore.open(tmp_path / "keys", RotationSchedule(publish_ahead_seconds=1), NOW)
    for number in range(2):
        store.ask(NOW + 2 * number)
        store.rotate(NOW + 2 * number + 1)
    assert len(kids(store, KeyState.RETIRING)) == 4
    with pytest.raises(GiveUpError) as caught:
        store.ask(NOW + 4)
    assert caught.value.reason == "keys_too_many"
    assert not kids(store, KeyState.NEXT)


_KILLED = """
import os, signal, sys
from pathlib import Path
from orchestrator import private_file
from orchestrator.identity.keys import KeyStore
from orchestrator.identity.rotation import RotationSchedule

store = KeyStore.open(Path(sys.argv[1]), RotationSchedule(), float(sys.argv[2]))
def killed(*_given, **_more):
    os.kill(os.getpid(), signal.SIGKILL)
target = {"write": (private_file.os, "fsync"), "name": (Path, "rename"), "keep": (private_file, "sync_folder")}
setattr(*target[sys.argv[3]], killed)
store.ask(float(sys.argv[2]) + 60, at_once=sys.argv[4] == "True")
"""


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("step", ["write", "name", "keep"])
def test_killed_at_any_step_a_rotation_has_happened_or_not(keys, tmp_path, step, at_once):
    first = kids(keys, KeyState.ACTIVE)
    words = [sys.executable, "-c", _KILLED, str(tmp_path / "keys"), str(NOW), step, str(at_once)]
    assert subprocess.run(words, check=False, timeout=60).returncode == -signal.SIGKILL
    again = KeyStore.open(tmp_path / "keys", SCHEDULE, NOW + 120)
    happened = step == "keep"
    assert len(kids(again, KeyState.ACTIVE)) == 2
    assert (kids(again, KeyState.ACTIVE) == first) is not (happened and at_once)
    assert bool(kids(again, KeyState.NEXT)) is (happened and not at_once)
    assert first <= {jwk["kid"] for jwk in again.published()}
    if not at_once:
        assert bool(again.ask(NOW + 180)) is not happened
