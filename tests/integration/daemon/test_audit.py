"""The audit log of the whole daemon: complete, before everything, once each, whatever is killed, full or forged."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.daemon.clock import SystemClock
from orchestrator.daemon.operations.reload import Reload
from orchestrator.daemon.records.audit_anchors import AnchorRoom
from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.evidence.audit.facts import JobFacts
from orchestrator.evidence.audit.keyed import KeyedHash
from orchestrator.evidence.audit.note import NoteVerifier
from orchestrator.evidence.audit.report import Report
from orchestrator.evidence.audit.verify import verify
from orchestrator.identity.issuer import OPERATOR
from orchestrator.intake.dispatch import DispatchRequest, offer
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model import events
from orchestrator.model.job import Caller
from orchestrator.settings import AuditSettings
from orchestrator.telemetry.ids import trace_id

pytestmark = pytest.mark.sandbox

AUDIENCE = "https://cache.example"
TOKEN = f"orchestrator-token --audience {AUDIENCE} > /dev/null\n"


def records(state: Path) -> list[dict[str, Any]]:
    lines = [line for path in sorted((state / "audit").glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def kinds(state: Path, job_id: str = "") -> list[str]:
    return [record["kind"] for record in records(state) if record["job_id"] == job_id]


def checked(state: Path, external: Sequence[Path] = ()) -> Report:
    """What an auditor with nothing but the folder and the key says."""
    report = verify(state / "audit", NoteVerifier.parse((state / "audit" / "vkey").read_text()), external)
    assert report.finding is None, report.finding
    return report


async def auditable(state: Path) -> list[int]:
    """Numbers of the facts in the journal of which the audit log has to tell."""
    journal = await SqliteJournal.open(state / "journal.db", SystemClock())
    facts = await journal.facts_after(0, 100_000)
    await journal.close()
    return [event.journal_seq for event in JobFacts(KeyedHash(bytes(32)), trace_id).told(facts)]


def told(state: Path) -> list[int]:
    return [record["journal_seq"] for record in records(state) if record["job_id"]]


@contextmanager
def sick_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No record of the audit log reaches the disk. The journal's own file does not go this way."""

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", refuse)
        yield


async def test_a_job_is_told_from_its_admission_to_its_teardown(open_world):
    async with open_world() as world:
        job_id = await world.offer("told", TOKEN, environment={"PASSWORD": "hunter2"})
        await world.finished(job_id)
        async with world.client.get(f"{world.url}/v1/audit/checkpoint") as answer:
            note = await answer.text()
        async with world.client.get(f"{world.url}/v1/audit/key") as answer:
            assert (await answer.text()).strip() == (world.state / "audit" / "vkey").read_text().strip()
        state, url = world.state, world.url
    assert kinds(state, job_id) == [
        "job.admitted", "runner.bound", "token.decided", "token.issued", "job.ended", "receipt.signed",
        "teardown.finished",
    ]  # fmt: skip
    assert kinds(state) == ["log.begun", "daemon.started", "keys.loaded", "policy.loaded", "daemon.stopped"]
    mine = [record for record in records(state) if record["job_id"] == job_id]
    assert {record["trace_id"] for record in mine} == {trace_id(job_id)}
    assert {record["outcome"] for record in mine} == {"allow"}
    assert all({"workflow", "commit", "environment", "outcome"} <= record.keys() for record in records(state))
    keyed = KeyedHash.open(state / "keys" / "audit-hash")
    assert mine[0]["data"]["subject"] == keyed.of("subject", OPERATOR)
    assert mine[0]["data"]["caller"] == keyed.of("caller", Caller(url, OPERATOR).id)
    assert mine[-1]["data"]["egress"]["probes"] > 0, "what the agent tried for its proof"
    [policy] = [record for record in records(state) if record["kind"] == "policy.loaded"]
    assert policy["data"]["bundle_digest"] == mine[0]["data"]["decision"]["bundle_digest"]
    assert sorted(policy["data"]["files"]) == ["decision.rego", "decision_test.rego"]
    text = "".join(path.read_text() for path in (state / "audit").glob("*.jsonl"))
    assert not [word for word in ("hunter2", "PASSWORD", "orchestrator-token") if word in text]
    kept = state / "kept-elsewhere"
    kept.write_text(note)
    report = checked(state, [kept])
    assert (report.records, report.external) == (len(records(state)), 1)
    assert told(state) == await auditable(state)


async def test_refusals_and_who_cancelled_are_told(open_world):
    async with open_world() as world:
        refused = await world.offer("refused", "orchestrator-token --audience https://nobody.example; true")
        await world.finished(refused)
        job_id = await world.offer("cancelled", "sleep 60")
        await world.until(lambda: (found := world.rooms.engine.record(job_id)) is not None and found.bound)
        async with world.client.delete(f"{world.url}/v1/jobs/{job_id}", headers=world.operator) as answer:
            assert answer.status == 202
        await world.finished(job_id)
        state = world.state
    [record] = [one for one in records(state) if one["kind"] == "token.refused"]
    assert record["data"] == {
        "audience": "https://nobody.example", "reason": "audience_unlisted", "role": "", "rule": "",
        "caller": record["actor"],
    }  # fmt: skip
    [record] = [one for one in records(state) if one["kind"] == "job.cancel_requested"]
    assert record["actor"] == KeyedHash.open(state / "keys" / "audit-hash").of("subject", OPERATOR)
    assert checked(state).records == len(records(state))


async def test_without_the_audit_log_nothing_is_decided_and_it_goes_on_by_itself(open_world, monkeypatch):
    async with open_world() as world:
        job_id = await world.offer("fine", "sleep 60")
        await world.until(lambda: (found := world.rooms.engine.record(job_id)) is not None and found.bound)
        stored = world.rooms.journal
        with sick_disk(monkeypatch):
            waits = await world.offer("waits", "true")
            await world.until(lambda: not world.rooms.audit.log.healthy)
            heard: list[events.Fact] = []
            unsubscribe = stored.subscribe(heard.extend)
            with pytest.raises(TryAgainError) as no:
                await world.offer("refused", "true")
            assert no.value.reason == "audit_unavailable"
            with pytest.raises(TryAgainError):
                await world.rooms.engine.note(job_id, events.AlarmRaised("x", "y"))
            async with world.client.get(f"{world.url}/readyz") as answer:
                assert (answer.status, "audit log" in (await answer.json())["checks"]["audit"]) == (503, True)
            async with world.client.post(
                f"{world.url}/v1/jobs", headers={**world.operator, "Idempotency-Key": "http"}, json=BODY
            ) as answer:
                problem = await answer.json()
                assert (answer.status, problem["reason"]) == (503, "audit_unavailable")
                assert "Retry-After" in answer.headers
            for job, lead in ((waits, "The job cannot go on"), (job_id, "The job is running as far as is known")):
                async with world.client.get(f"{world.url}/v1/jobs/{job}/why", headers=world.operator) as answer:
                    why = await answer.json()
                assert why["sentence"].startswith(f"{lead}, "), why
                assert why["sentence"].endswith(
                    " recorded now: the audit log cannot store records: No space left on device."
                )
                assert why["next_step"].startswith(f"Operators: free space on the file system of {world.state}/audit;")
                assert why["reason"] == "audit_unavailable"
            async with world.client.get(f"{world.url}/v1/jobs", headers=world.operator) as answer:
                stands = [line["why"]["reason"] for line in (await answer.json())["jobs"]]
            assert stands == ["audit_unavailable"] * 2
            assert world.rooms.engine.record(waits).admitted_at_ns == 0, "not admitted before that is told"
            assert heard == []
            unsubscribe()
        await world.until(lambda: world.rooms.audit.log.healthy)
        await world.finished(waits)
        await world.rooms.engine.cancel(job_id, "daemon")
        await world.finished(job_id)
        state = world.state
    assert told(state) == await auditable(state)
    checked(state)


BODY = {"name": "job", "script": "true", "pool": "default"}


@pytest.mark.slow
async def test_no_token_without_its_record(open_world, monkeypatch):
    """The job asks while the log is unwell, and gets one when it is well again."""
    script = f"until test -e go; do {TOKEN.strip()} && touch go; sleep 0.1; done"
    async with open_world() as world:
        gate = asyncio.Event()
        decide = world.rooms.runner_deps.exchange
        refused: list[Any] = []

        async def exchange(*arguments: Any) -> Any:
            if not gate.is_set():
                with sick_disk(monkeypatch):
                    refused.append(await decide(*arguments))
                gate.set()
                return refused[-1]
            return await decide(*arguments)

        object.__setattr__(world.rooms.runner_api._deps, "exchange", exchange)
        job_id = await world.offer("asks", script)
        await world.finished(job_id)
        state = world.state
    assert (refused[0].status, refused[0].document["error"]) == (503, "temporarily_unavailable")
    assert kinds(state, job_id).count("token.issued") >= 1
    assert told(state) == await auditable(state)


async def test_facts_that_a_killed_daemon_could_not_tell_are_told_first(open_world, tmp_path):
    """The journal as a kill between its commit and the log's leaves it, also of a job that is finished since."""
    async with open_world() as world:
        await world.finished(await world.offer("before", "true"))
        state = world.state
    journal = await SqliteJournal.open(state / "journal.db", SystemClock())
    request = DispatchRequest(stated={}, **BODY)
    late = offer(request, "late", Caller("https://issuer.test", "somebody"))
    cut = offer(request, "cut", Caller("https://issuer.test", "somebody"))
    await journal.append([(late.key.id, events.JobOffered(late)), (late.key.id, events.JobCancelRequested("x"))])
    await journal.append([(cut.key.id, events.JobOffered(cut)), (cut.key.id, events.JobCancelRequested("x"))])
    await journal.append([(late.key.id, events.JobFinished())])
    await journal.close()
    before = len(records(state))
    async with open_world() as world:
        since = [record["kind"] for record in records(state)[before:]]
        assert since[:5] == [
            "job.cancel_requested", "job.cancel_requested", "teardown.finished", "log.caught_up", "daemon.started",
        ]  # fmt: skip
        assert records(state)[before]["actor"] == KeyedHash.open(state / "keys" / "audit-hash").of("subject", "x")
    assert told(state) == await auditable(state)


async def test_a_journal_that_was_put_back_repeats_no_number_and_that_is_told(open_world, tmp_path):
    async with open_world() as world:
        await world.finished(await world.offer("first", "true"))
        state = world.state
    shutil.copy(state / "journal.db", tmp_path / "copy.db")
    async with open_world() as world:
        await world.finished(await world.offer("second", "true"))
    highest = max(told(state))
    for name in ("journal.db-wal", "journal.db-shm"):
        (state / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "copy.db", state / "journal.db")
    async with open_world() as world:
        await world.finished(await world.offer("third", "true"))
    assert "journal.replaced" in kinds(state)
    numbers = told(state)
    assert numbers == sorted(set(numbers))
    assert numbers[-1] > highest
    checked(state)


async def test_a_log_that_is_gone_is_missed(open_world):
    async with open_world() as world:
        await world.finished(await world.offer("first", "true"))
        state = world.state
    shutil.move(state / "audit", state / "moved")
    with pytest.raises(ConfigurationError) as refused:
        async with open_world():
            pass
    assert refused.value.reason == "audit_missing"
    (state / "keys" / "audit").unlink()
    shutil.rmtree(state / "audit")
    async with open_world():
        pass
    assert kinds(state)[0] == "log.begun"
    assert records(state)[0]["journal_seq"] > 0, "a new log does not tell again what the old one told"
    assert told(state) == []


async def test_a_first_start_that_failed_has_lost_no_log(open_world, tmp_path):
    """An installation that ran without the log, whose first start with it meets a wrong setting, or is killed."""
    async with open_world(audit={"enabled": False}) as world:
        await world.finished(await world.offer("before", "true"))
        state = world.state
    wrong = {"anchors": [{"http": {"url": "https://a.example/", "ca_file": str(tmp_path / "none")}}]}
    for _ in range(2):
        with pytest.raises(ConfigurationError) as refused:
            async with open_world(audit=wrong):
                pass
        assert refused.value.reason == "audit_anchor_invalid"
    async with open_world():
        pass
    assert kinds(state)[0] == "log.begun"
    assert checked(state).records == len(records(state))
    # Killed between the first record and the key's own name.
    (state / "keys" / "audit").rename(state / "keys" / "audit.new")
    async with open_world():
        pass
    assert kinds(state).count("log.begun") == 1
    assert sorted(path.name for path in (state / "keys").glob("audit*")) == ["audit", "audit-hash"]


async def test_a_key_of_the_keyed_hashes_that_was_replaced_shows(open_world):
    for start in range(3):
        async with open_world() as world:
            state = world.state
        if start == 1:
            (state / "keys" / "audit-hash").unlink()
    started = [one["data"]["hash_key"] for one in records(state) if one["kind"] == "daemon.started"]
    assert started[0] == started[1] != started[2]


async def test_what_is_loaded_anew_is_told_before_it_is_in_force(open_world, bundle, monkeypatch):
    async with open_world() as world:
        rooms = world.rooms
        reload = Reload(rooms.policy_engine, rooms.trust, rooms.decisions, rooms.notes, rooms.metrics, None)
        first = rooms.policy_engine.digest
        bundle.write(bundle.policy + "\n# second\n")
        with sick_disk(monkeypatch):
            waiting = asyncio.ensure_future(reload.reload())
            await world.until(lambda: not rooms.audit.log.healthy)
            assert rooms.policy_engine.digest == first
        assert (await waiting)["policy"].word == "loaded"
        second = rooms.policy_engine.digest
        bundle.write(bundle.policy + "\nallow if {")
        assert (await reload.reload())["policy"].word == "refused"
        state = world.state
    told_of = [record for record in records(state) if record["kind"].startswith("policy.")]
    assert [record["kind"] for record in told_of] == ["policy.loaded", "policy.loaded", "policy.refused"]
    assert [record["actor"] for record in told_of] == ["daemon", "signal:SIGHUP", "signal:SIGHUP"]
    assert [record["data"].get("bundle_digest") for record in told_of] == [first, second, None]
    assert told_of[2]["data"] == {"reason": "policy_invalid"}


async def test_key_rotation_is_told(open_world):
    async with open_world() as world:
        keys = world.rooms.issuer.keys
        plan = keys.rotate(world.rooms.clock.now_ns() / 1e9 + 30 * 86400)
        assert plan
        await world.rooms.notes.keys_rotated("", plan, keys, "daemon")
        state = world.state
    [record] = [one for one in records(state) if one["kind"] == "keys.rotated"]
    assert record["data"]["keys"] == [f"{key.kid} {key.state.value}" for key in keys.states()]


async def test_checkpoints_are_kept_elsewhere_and_work_waits_for_that_where_it_must(open_world, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    audit = {"anchors": [{"file": str(elsewhere / "kept")}], "anchor_required_seconds": 60, "checkpoint_seconds": 0.05}
    async with open_world(audit=audit) as world:
        await world.finished(await world.offer("anchored", "true"))
        room = world.rooms.audit.anchors
        await world.until(lambda: room.states()[0].size > 3)
        assert world.rooms.audit.checks()["audit_anchor"] == "ok"
        patient = room._settings
        elsewhere.rename(tmp_path / "away")
        await world.finished(await world.offer("makes a record", "true"))
        room._settings = patient.model_copy(update={"anchor_required_seconds": 0.01})
        await world.until(lambda: bool(room.lacking()))
        refused = await world.offer("refused", "true")
        await world.finished(refused)
        shown = json.loads(await world.get(f"/v1/jobs/{refused}"))
        assert (shown["result"], shown["reason"]) == ("error", "policy_error")
        assert "audit_unanchored" in shown["message"]
        assert "no anchor" in world.rooms.audit.checks()["audit_anchor"]
        assert float(_metric(await world.get("/metrics"), "orchestrator_audit_unanchored_seconds")) > 0
        (tmp_path / "away").rename(elsewhere)
        await world.until(lambda: not room.lacking())
        room._settings = patient  # else its own records, not kept there at once, would keep it from running
        accepted = await world.offer("again", "true")
        await world.finished(accepted)
        state = world.state
    report = checked(state, [elsewhere / "kept"])
    assert report.external > 0
    assert report.vouched == len(records(state)), "the last checkpoint got there before the daemon ended"
    [record] = [one for one in records(state) if one["kind"] == "job.refused"]
    assert record["data"]["decision"]["reasons"] == ["audit_unanchored"]


def _metric(text: str, name: str) -> str:
    return next(line.split()[1] for line in text.splitlines() if line.startswith(f"{name} "))


async def test_switched_off_it_leaves_nothing(open_world):
    async with open_world(audit={"enabled": False}) as world:
        await world.finished(await world.offer("quiet", "true"))
        async with world.client.get(f"{world.url}/v1/audit/checkpoint") as answer:
            assert (answer.status, (await answer.json())["reason"]) == (404, "not_found")
        state = world.state
    assert not (state / "audit").exists()


@pytest.mark.slow
def test_a_tampered_log_keeps_the_daemon_from_starting(program):
    daemon = program().start()
    assert daemon.end() == 0
    state = daemon.folder / "state"
    [segment] = (state / "audit").glob("*.jsonl")
    text = segment.read_text()
    segment.write_text(text.replace('"daemon.started"', '"daemon.Started"'))
    (state / "daemon.json").unlink(missing_ok=True)
    assert daemon.start(wait=False).process.wait(30) == 1
    assert "[audit_tampered]" in daemon.errors.read_text()
    segment.write_text("".join(text.splitlines(keepends=True)[:-1]))
    assert daemon.start(wait=False).process.wait(30) == 1
    assert "[audit_tampered]" in daemon.errors.read_text()
    segment.write_text(text)
    assert daemon.start().end() == 0


def test_a_log_that_cannot_be_written_keeps_the_daemon_from_starting(program, tmp_path):
    (tmp_path / "file").write_text("")
    daemon = program(audit={"folder": str(tmp_path / "file" / "audit")}).start(wait=False)
    assert daemon.process.wait(30) == 1
    assert "orchestrator cannot start" in daemon.errors.read_text()
    assert "fix:" in daemon.errors.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0.0, 0.03, 0.15])
async def test_killed_at_any_moment_the_log_has_each_fact_once(program, pause):
    daemon = program()
    state = daemon.folder / "state"
    for round_ in range(3):
        (state / "daemon.json").unlink(missing_ok=True)
        daemon.start()
        for number in range(4):
            _dispatch(daemon, f"{round_}-{number}")
        await asyncio.sleep(pause)
        daemon.signal(signal.SIGKILL)
        daemon.process.wait()
        checked(state)
    (state / "daemon.json").unlink(missing_ok=True)
    daemon.start()
    assert daemon.end() == 0
    assert told(state) == await auditable(state)
    assert checked(state).vouched == len(records(state))


def _dispatch(daemon: Any, key: str) -> None:
    state = daemon.folder / "state"
    url = json.loads((state / "daemon.json").read_text())["url"]
    token = (state / "caller-token").read_text().strip()
    request = urllib.request.Request(f"{url}/v1/jobs", json.dumps(BODY).encode(), method="POST")
    for name, value in (("Authorization", f"Bearer {token}"), ("Idempotency-Key", key)):
        request.add_header(name, value)
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 202


def test_without_anchors_none_is_missed():
    room = AnchorRoom(AuditSettings(), None, SystemClock())
    assert (room.names, room.age_seconds(), room.lacking(), room.required) == ([], 0.0, "", False)
