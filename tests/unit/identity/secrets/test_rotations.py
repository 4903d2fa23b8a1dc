"""A secret's values over time, against a place whose hook really runs: made, withdrawn, removed, and every failure."""

from __future__ import annotations

import asyncio
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import ConfigurationError, GiveUpError, TryAgainError
from orchestrator.identity.secrets import state as state_module
from orchestrator.identity.secrets.rotation import Rotations
from orchestrator.identity.secrets.state import StateStore
from orchestrator.identity.secrets.value import present

from .conftest import DAY, FIRST


def nobody(_value):
    return False


def now(rotations, secret):
    """The value that a job would be given."""
    return present(secret, rotations.state(secret.name))


async def rotated(rotations, secret):
    if rotations.state(secret.name).making is None:
        await rotations.begin(secret, "anna")
    return await rotations.make(secret)


async def test_the_file_counts_until_a_rotation_and_never_after(rotations, secret, place):
    before = now(rotations, secret)
    assert (before.text, before.number, before.kept) == (FIRST, 0, False)
    after = await rotated(rotations, secret)
    secret.file.chmod(0o600)
    secret.file.write_text("somebody-wrote-this-later")
    assert now(rotations, secret) == after
    assert (after.number, after.kept) == (1, True)
    assert place.works == [FIRST, after.text]


async def test_the_old_value_works_until_no_job_holds_it(rotations, secret, place):
    new = await rotated(rotations, secret)
    held = {FIRST}
    assert await rotations.finish(secret, lambda value: value.text in held) == []
    assert place.works == [FIRST, new.text]
    assert rotations.waiting(secret)
    held.clear()
    assert [value.text for value in await rotations.finish(secret, nobody)] == [FIRST]
    assert place.works == [new.text]
    assert not rotations.waiting(secret)


async def test_hooks_are_told_all_they_need_on_standard_input_and_nothing_elsewhere(rotations, secret, place):
    new = await rotated(rotations, secret)
    await rotations.finish(secret, nobody)
    made, finished = place.asked
    assert made["environment"] == finished["environment"] == ["HOME", "LANG", "ORCHESTRATOR_SECRET_STEP", "PATH"]
    assert (made["name"], made["step"], made["current"], made["proposed"]) == ("deploy-key", "make", FIRST, new.text)
    assert (finished["step"], finished["old"], finished["current"]) == ("finish", FIRST, new.text)


async def test_a_place_may_make_the_value_itself(rotations, secret, place):
    place.behave("own")
    value = await rotated(rotations, secret)
    assert value.text.startswith("own-value-1-")
    assert place.works[-1] == value.text


async def test_a_secret_without_a_file_gets_its_first_value_by_a_rotation(rotations, secret, place):
    place.put()
    secret = replace(secret, file=None)
    with pytest.raises(TryAgainError) as refused:
        now(rotations, secret)
    assert refused.value.reason == "secret_without_value"
    assert rotations.due(secret)
    value = await rotated(rotations, secret)
    assert place.works == [value.text]
    assert await rotations.finish(secret, nobody) == []


@pytest.mark.parametrize("how", ["fail", "after", "much", "short", "noise fail"])
async def test_a_failure_keeps_the_old_value_and_is_remembered(rotations, secret, place, how, clock, store):
    place.behave("own short" if how == "short" else how)
    with pytest.raises(TryAgainError) as failed:
        await rotated(rotations, secret)
    assert failed.value.reason == ("secret_value_unfit" if how == "short" else "secret_hook_failed")
    assert FIRST not in str(failed.value)
    assert FIRST not in failed.value.fix
    assert now(rotations, secret).text == FIRST
    failing = store.get("deploy-key").failing
    assert (failing.step, failing.tries) == ("make", 1)
    assert not rotations.due(secret), "it is tried again after a pause"
    clock.seconds += 31
    assert rotations.due(secret)
    clock.seconds -= 31
    await rotations.begin(secret, "anna")
    assert rotations.due(secret), "who asks for it now need not wait"
    place.behave()
    assert (await rotated(rotations, secret)).text in place.works
    assert store.get("deploy-key").failing is None


async def test_pauses_grow_and_have_a_bound(rotations, secret, place, clock, store):
    place.behave("fail")
    pauses = []
    for _ in range(9):
        with pytest.raises(TryAgainError):
            await rotated(rotations, secret)
        began = clock.seconds
        while not rotations.due(secret):
            clock.seconds += 5
        pauses.append(clock.seconds - began)
    assert pauses[:4] == [30, 60, 120, 240]
    assert pauses[-1] == 3600
    assert store.get("deploy-key").failing.tries == 9


async def test_a_hook_that_does_not_end_is_killed_with_all_it_started(rotations, secret, place):
    place.behave("sleep")
    with pytest.raises(TryAgainError, match="not done within"):
        await rotated(rotations, replace(secret, rotate=place.hook(timeout_seconds=0.3)))
    place.behave()
    assert (await rotated(rotations, secret)).text in place.works


async def test_a_program_that_is_not_there_is_a_failure_like_any(rotations, secret, tmp_path):
    broken = replace(secret, rotate=replace(secret.rotate, command=(str(tmp_path / "nowhere"),)))
    with pytest.raises(TryAgainError, match="cannot be run"):
        await rotated(rotations, broken)


async def test_a_rotation_that_was_begun_is_gone_on_with_under_its_id_and_proposal(rotations, secret, place, store):
    place.behave("after", "one")  # the place has the new value, and only that, when the hook fails
    with pytest.raises(TryAgainError):
        await rotated(rotations, secret)
    begun = store.get("deploy-key").making
    assert place.works == [begun.proposed]
    place.behave("one")
    later = Rotations(StateStore(store.folder), rotations._now_ns)
    assert (await rotated(later, secret)).text == begun.proposed
    assert place.works == [begun.proposed]
    assert {one["rotation"] for one in place.asked} == {begun.id}


async def test_old_values_are_bounded(rotations, secret):
    for _ in range(4):
        await rotated(rotations, secret)
    with pytest.raises(TryAgainError) as refused:
        await rotations.begin(secret, "anna")
    assert refused.value.reason == "secret_old_in_use"
    await rotations.finish(secret, nobody)
    await rotated(rotations, secret)


async def test_a_retired_secret_is_given_to_nobody_and_its_values_are_gone(rotations, secret, place, store):
    new = await rotated(rotations, secret)
    assert await rotations.retire("deploy-key", "anna")
    assert not await rotations.retire("deploy-key", "ben"), "once"
    with pytest.raises(GiveUpError) as refused:
        await rotations.begin(secret, "anna")
    assert refused.value.reason == "secret_retired"
    ended = await rotations.remove("deploy-key", secret)
    assert [value.text for value in ended.destroyed] == [FIRST, new.text]
    assert (place.works, ended.left, secret.file.exists()) == ([], "", False)
    assert not rotations.removable("deploy-key")
    kept = b"".join(path.read_bytes() for path in store.folder.rglob("*") if path.is_file())
    assert FIRST.encode() not in kept
    assert new.text.encode() not in kept


async def test_a_removal_that_fails_is_tried_again_and_gives_nothing_out_meanwhile(rotations, secret, place, clock):
    place.behave("fail")
    await rotations.retire("deploy-key", "anna")
    with pytest.raises(TryAgainError):
        await rotations.remove("deploy-key", secret)
    assert not rotations.removable("deploy-key")
    with pytest.raises(GiveUpError):
        await rotations.begin(secret, "anna")
    clock.seconds += 31
    place.behave()
    assert rotations.removable("deploy-key")
    await rotations.remove("deploy-key", secret)
    assert place.works == []


async def test_what_cannot_be_destroyed_is_said(rotations, secret, tmp_path):
    folder = tmp_path / "instead-of-a-file"
    folder.mkdir()
    await rotations.retire("deploy-key", "anna")
    ended = await rotations.remove("deploy-key", replace(secret, file=folder))
    assert "cannot be removed" in ended.left


async def test_a_value_is_made_at_its_age(rotations, secret, clock):
    value = await rotated(rotations, secret)
    await rotations.finish(secret, nobody)
    assert not rotations.due(secret)
    clock.seconds += 30 * DAY - 1
    assert not rotations.due(secret)
    clock.seconds += 1
    assert rotations.due(secret)
    assert not rotations.due(replace(secret, rotate_seconds=None)), "only on demand"
    assert value.age_seconds(clock()) == 30 * DAY


async def test_two_at_once_are_one_after_the_other(rotations, secret, place):
    await rotations.begin(secret, "anna")
    begun = rotations.begin(secret, "ben")
    made, making = await asyncio.gather(rotations.make(secret), begun)
    assert made.number == 1
    assert making.by == "ben", "the first one was over"


@pytest.mark.parametrize(
    ("mode", "content", "word"),
    [
        (0o404, b"long-enough-value", "open to every user"),
        (0o400, b"short", "masked"),
        (0o400, b"", "masked"),
        (0o400, b"x" * 70_000, "larger"),
        (0o400, b"\xff\xfe-not-any-text-at-all", "UTF-8"),
        (0o400, b"a\0" * 9, "NUL"),
    ],
)
async def test_a_file_that_is_no_good_is_told_without_its_content(rotations, secret, mode, content, word):
    secret.file.chmod(0o600)
    secret.file.write_bytes(content)
    secret.file.chmod(mode)
    with pytest.raises(TryAgainError, match=word) as refused:
        now(rotations, secret)
    assert str(secret.file) in str(refused.value)
    assert not content or content.decode("utf-8", "replace")[:4] not in str(refused.value)


async def test_values_are_in_no_text_about_them(rotations, secret, store):
    value = await rotated(rotations, secret)
    await rotations.begin(secret, "anna")
    state = store.get("deploy-key")
    for text in (repr(value), repr(state), str(state.current), repr(state.old), repr(state.making)):
        assert value.text not in text
        assert FIRST not in text
        assert state.making.proposed not in text


async def test_states_are_of_the_daemon_alone_and_damage_is_found(rotations, secret, store):
    await rotated(rotations, secret)
    path = store.folder / "deploy-key.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ConfigurationError) as damaged:
        StateStore(store.folder).get("deploy-key")
    assert damaged.value.reason == "keys_corrupt"
    path.chmod(0o644)
    with pytest.raises(ConfigurationError):
        StateStore(store.folder).get("deploy-key")


def test_retired_pipelines_are_remembered(store):
    store.retire_pipeline("nightly", 5)
    store.retire_pipeline("nightly", 9)
    assert StateStore(store.folder).pipelines() == {"nightly": 5}
    assert Path(store.folder / "retired-pipelines").stat().st_mode & 0o077 == 0


async def test_an_end_whose_asker_gave_up_waiting_is_not_overtaken(rotations, secret, store):
    put, begun, gate = store.put, threading.Event(), threading.Event()

    def held(name, state):
        store.put = put
        begun.set()
        gate.wait(20)
        put(name, state)

    store.put = held
    ending = asyncio.create_task(rotations.retire("deploy-key", "anna"))
    await asyncio.to_thread(begun.wait, 20)
    ending.cancel()
    beginning = asyncio.create_task(rotations.begin(secret, "ben"))
    for _ in range(5):
        await asyncio.sleep(0)
    gate.set()
    with pytest.raises(GiveUpError) as refused:
        await beginning
    assert refused.value.reason == "secret_retired"
    await asyncio.wait([ending])
    assert ending.cancelled()
    assert StateStore(store.folder).get("deploy-key").retired is not None


def test_of_two_pipelines_that_are_retired_at_once_both_are(store, monkeypatch):
    write, begun, gate = state_module.write_private_file, threading.Event(), threading.Event()

    def held(path, data):
        if not begun.is_set():
            begun.set()
            gate.wait(20)
        write(path, data)

    monkeypatch.setattr(state_module, "write_private_file", held)
    first = threading.Thread(target=store.retire_pipeline, args=("nightly", 5))
    first.start()
    assert begun.wait(20)
    second = threading.Thread(target=store.retire_pipeline, args=("weekly", 9))
    second.start()
    second.join(0.3)  # where nothing holds it, it is done by now
    gate.set()
    first.join(20)
    second.join(20)
    assert StateStore(store.folder).pipelines() == {"nightly": 5, "weekly": 9}
