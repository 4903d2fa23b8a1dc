"""`orchestrator support-bundle`: what is needed is in it, and no secret is, wherever it was put and however encoded."""

from __future__ import annotations

import asyncio
import json
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.exits import CommandError
from orchestrator.cli.support import bundle as bundles
from orchestrator.cli.support.cleaning import Cleaner, without_paths
from orchestrator.cli.support.machine import state_folder
from orchestrator.cli.support.secrets_here import learn_secrets
from orchestrator.errors import GiveUpError
from orchestrator.journal.redact import variants
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model import events as e
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.testing import stories

PLANTED = {
    "variable": "vq7-from-the-environment-9",
    "job's variable": "vq7-of-the-jobs-environment-9",
    "claim": "vq7-claimed-by-the-job-9",
    "script": "vq7-in-the-script-9",
    "caller token": "vq7calleraaaaaaaaaaaaaaaaaaaaaaaaaaaa9",
    "webhook secret": "vq7-of-the-webhook-9",
    "app key": "VQ7APPKEYaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa9",
    "header": "vq7-in-a-header-of-an-anchor-9",
    "password in an address": "vq7-in-an-address-9",
    "path of an address": "vq7-in-the-path-of-a-hook-9",
    "argument": "vq7-as-an-argument-9",
    "kept secret": "vq7-kept-by-rotation-9",
    "envelope": "vq7-in-an-envelope-9",
    "github token": "ghp_vq7aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa9",
}
"""Where each was put. All but what is signed are told again in messages, names and metrics, as careless programs do."""

CHATTER = " ".join(secret for what, secret in PLANTED.items() if what != "envelope")


class Clock:
    now = stories.T0

    def now_ns(self) -> int:
        return self.now

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    def call_later(self, seconds: float, callback: Any) -> Any:
        raise NotImplementedError


def jobs_facts() -> Iterator[tuple[str, e.Event]]:
    secrets = {"SAFE_NAME": PLANTED["job's variable"]}
    claimed = {"note": PLANTED["claim"]}
    for name in ("red", "lost", "waits"):
        offer = stories.offer(name, script=PLANTED["script"], environment=secrets, claimed=claimed)
        yield offer.key.id, e.JobOffered(offer)
        yield offer.key.id, stories.ADMITTED
        if name == "waits":
            yield offer.key.id, e.JobWaited(e.WaitReason.POOL_FULL, f"told by the backend: {CHATTER}")
            continue
        yield offer.key.id, e.AlarmRaised("second_claim", CHATTER)
        yield offer.key.id, e.ProvenanceSigned(PLANTED["envelope"] + "x" * 3000, ("sha256:0",))
        result, reason = (
            (Result.FAILURE, EndReason.EXIT_NONZERO) if name == "red" else (Result.ERROR, EndReason.NODE_LOST)
        )
        yield offer.key.id, e.JobEnded(Outcome(result, reason, f"it said {CHATTER}", 1))
        yield offer.key.id, e.JobFinished()


async def write_journal(path: Path) -> None:
    journal = await SqliteJournal.open(path, Clock())
    for job_id, event in jobs_facts():
        await journal.append([(job_id, event)])  # type: ignore[list-item]
    await journal.close()


@pytest.fixture
def installation(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder as a daemon leaves it, settings that name files with secrets, and careless variables."""
    asyncio.run(write_journal(state / "journal.db"))
    (state / "caller-token").write_text(PLANTED["caller token"] + "\n")
    for folder in ("keys", "secrets", "audit"):
        (state / folder).mkdir()
    (state / "keys" / "evidence.pem").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    (state / "secrets" / "kept.json").write_text(json.dumps({"name": "kept", "value": PLANTED["kept secret"]}))
    (state / "audit" / "1.jsonl").write_text(CHATTER)
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{PLANTED['app key']}\n"
    files = {"app.pem": key, "hook": PLANTED["webhook secret"], "headers": f"X-Key: {PLANTED['header']}"}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("DEPLOY_TOKEN", PLANTED["variable"])
    config = tmp_path / "orchestrator.yaml"
    config.write_text(f"""
state_dir: {state}
audit:
  anchors:
    - http: {{url: "https://keep.example/in/{PLANTED["path of an address"]}", headers_file: {tmp_path}/headers}}
telemetry: {{otlp_endpoint: "https://me:{PLANTED["password in an address"]}@otlp.example:4318"}}
identity:
  trust_maps: [{tmp_path}/map.yaml]
  github_apps:
    deploy:
      {{url: "https://github.com/octo", client_id: Iv23abc, installation_id: 7, private_key_file: {tmp_path}/app.pem}}
secrets:
  - name: fixed
    owner: team-a
    pools: [default]
    file: {tmp_path}/hook
    rotate: {{command: [/bin/true, "{PLANTED["argument"]}"]}}
""")
    return config


def contents(path: Path) -> dict[str, str]:
    with tarfile.open(path) as tar:
        found = {}
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            found[member.name.partition("/")[2]] = file.read().decode()
        return found


def leaks(found: dict[str, str]) -> list[tuple[str, str]]:
    return [
        (what, name)
        for what, secret in PLANTED.items()
        for form in variants(secret.encode())
        for name, text in found.items()
        if form.decode("ascii", "replace") in text or form.decode("ascii", "replace") in name
    ]


def test_without_a_daemon_the_folder_tells_all_that_it_can(cli, installation, tmp_path):
    done = cli("support-bundle", "--config", str(installation), "--output", str(tmp_path / "b.tar.gz"))
    assert done.exit_code == 0, done.output
    found = contents(tmp_path / "b.tar.gz")
    assert leaks(found) == []
    assert stat.S_IMODE((tmp_path / "b.tar.gz").stat().st_mode) == 0o600
    listed = {entry["name"]: entry for entry in json.loads(found["contents.json"])}
    assert {name for name, entry in listed.items() if not entry["missing"]} | {"README.txt", "contents.json"} == set(
        found
    )
    assert "no daemon has left its address" in listed["daemon/"]["missing"]
    counts = json.loads(found["journal/counts.json"])
    assert counts["finished"] == {"failure exit_nonzero": 1, "error node_lost": 1}
    assert counts["unfinished"] == {"waiting": 1}
    facts = [json.loads(line) for line in found["journal/newest-facts.jsonl"].splitlines()]
    assert [fact["kind"] for fact in facts] == [type(event).__name__ for _, event in jobs_facts()]
    (waits,) = [json.loads(line) for line in found["journal/unfinished.jsonl"].splitlines()]
    assert waits["reason"] == "pool_full"
    assert json.loads(found["jobs/dispatch.lost.1/why.json"])["reason"] == "node_lost"
    assert json.loads(found["jobs/dispatch.red.1/trace.json"])["spans"][0]["name"]
    assert json.loads(found["state-folder.json"])["secrets"]["files"] == 1
    settings = json.loads(found["settings.json"])["settings"]
    assert settings["telemetry"]["otlp_endpoint"] == "https://otlp.example:4318"
    assert settings["audit"]["anchors"][0]["http"]["url"] == "https://keep.example/…"
    assert settings["secrets"][0]["rotate"]["command"] == ["/bin/true", "<1 arguments left out>"]
    assert json.loads(found["program.json"])["packages"]["aiohttp"]


@pytest.mark.slow
def test_a_running_daemon_tells_the_rest(cli, installation, daemon, state, tmp_path):
    (state / "daemon.json").write_text(json.dumps({"url": daemon.url}))
    (state / "caller-token").write_text("caller-token-value\n")
    documents: dict[str, Any] = {name: {"said": CHATTER, CHATTER: [1, CHATTER]} for name in ("overview", "sources")}
    daemon.documents = {f"/v1/{name}": document for name, document in documents.items()}
    daemon.documents |= {"/v1/pools": {"pools": []}, "/metrics": f'up{{said="{CHATTER}"}} 1\n', "/v1/live/jobs": {}}
    path = tmp_path / "b.tar.gz"
    done = cli("support-bundle", "--config", str(installation), "--output", str(path), "--jobs", "1", "--json")
    assert done.exit_code == 0, done.output
    found = contents(path)
    known = PLANTED["caller token"]  # another is in the file now, so that this one cannot be known
    assert [leak for leak in leaks(found) if leak[0] != "caller token"] == []
    assert known in CHATTER
    assert found["daemon/metrics.txt"].startswith('up{said="***')
    assert sorted(name for name in found if name.startswith("jobs/")) == [
        f"jobs/dispatch.lost.1/{part}.json" for part in ("job", "trace", "why")
    ]
    answer = json.loads(done.stdout)
    assert answer["contents"] == json.loads(found["contents.json"])
    missing = {entry["name"]: entry["missing"] for entry in answer["contents"] if entry["missing"]}
    assert "not_found" in missing["daemon/audit-checkpoint.txt"]


@pytest.mark.slow
def test_settings_that_do_not_fit_are_no_reason_to_have_no_bundle(cli, installation, tmp_path):
    """And the files that they name are known all the same."""
    installation.write_text(f"{installation.read_text()}server: {{port: {PLANTED['script']}}}\nnonsense: 1\n")
    path = tmp_path / "b.tar.gz"
    done = cli("support-bundle", "--config", str(installation), "--output", str(path))
    assert done.exit_code == 0, done.output
    found = contents(path)
    fault = json.loads(found["settings.json"])["fault"]
    assert "do not fit" in fault
    assert "nonsense" in fault
    assert leaks(found) == []


@pytest.mark.slow
def test_where_there_is_nothing_it_says_so(cli, state, tmp_path):
    path = tmp_path / "b.tar.gz"
    assert cli("support-bundle", "--output", str(path)).exit_code == 0
    listed = {entry["name"]: entry["missing"] for entry in json.loads(contents(path)["contents.json"])}
    assert "journal_missing" in listed["journal/counts.json"]
    assert "no daemon has left its address" in listed["daemon/"]


@pytest.mark.slow
def test_a_damaged_journal_is_told(cli, installation, state, tmp_path):
    (state / "journal.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    path = tmp_path / "b.tar.gz"
    assert cli("support-bundle", "--config", str(installation), "--output", str(path)).exit_code == 0
    listed = {entry["name"]: entry["missing"] for entry in json.loads(contents(path)["contents.json"])}
    assert "journal_unreadable" in listed["journal/counts.json"]


@pytest.mark.slow
def test_a_remote_daemons_failed_jobs_come_by_its_api(cli, state, daemon, make_view, tmp_path):
    token = tmp_path / "token"
    token.write_text("caller-token-value")
    job_id = "dispatch.aa11bb22cc33dd44.1"
    daemon.jobs[job_id] = make_view(job_id)
    daemon.ends_as = "error"
    daemon.end(daemon.jobs[job_id])
    daemon.documents = {"/v1/pools": {"pools": []}, f"/v1/jobs/{job_id}/why": {"sentence": "It is lost."}}
    path = tmp_path / "b.tar.gz"
    done = cli("--url", daemon.url, "--token-file", str(token), "support-bundle", "--output", str(path))
    assert done.exit_code == 0, done.output
    found = contents(path)
    assert json.loads(found[f"jobs/{job_id}/why.json"]) == {"sentence": "It is lost."}
    assert json.loads(found[f"jobs/{job_id}/job.json"])["result"] == "error"


@pytest.mark.slow
def test_no_file_is_overwritten_and_none_is_half_made(cli, installation, tmp_path):
    there = tmp_path / "there.tar.gz"
    there.write_text("mine")
    done = cli("support-bundle", "--config", str(installation), "--output", str(there))
    assert done.exit_code == 1
    assert "is there already" in done.stderr
    assert there.read_text() == "mine"


def test_a_folder_that_is_not_there_is_not_told_as_a_full_disk(tmp_path):
    with pytest.raises(CommandError, match="cannot be written") as refused:
        bundles.Bundle(Cleaner()).write(tmp_path / "nowhere" / "b.tar.gz", "read me")
    assert "see whether its folder is there" in refused.value.fix
    assert "space" not in refused.value.fix


def test_a_state_folder_that_is_not_there_is_told_with_the_option_that_names_one(tmp_path):
    with pytest.raises(GiveUpError, match="there is no such folder; name the daemon's with --state-dir") as missing:
        state_folder(tmp_path / "nowhere")
    assert missing.value.reason == "state_folder_missing"


def test_documents_and_the_whole_are_bounded(monkeypatch):
    monkeypatch.setattr(bundles, "MAX_DOCUMENT_BYTES", 10_000)
    monkeypatch.setattr(bundles, "MAX_BUNDLE_BYTES", 45_000)
    bundle = bundles.Bundle(Cleaner())
    bundle.add_lines("newest.jsonl", "lines", lambda: [{"number": number, "text": "x" * 150} for number in range(400)])
    for number in range(6):
        bundle.add_text(f"{number}.txt", "text", lambda: "line\n" * 5000)
    newest = bundle.entries[0]
    assert 9000 < newest.bytes <= 10_000
    assert b'"number": 399' in bundle._contents["newest.jsonl"][-300:]
    assert [entry.cut for entry in bundle.entries] == [False, *[True] * 4, False, False]
    assert sum(entry.bytes for entry in bundle.entries) <= 45_000
    assert "as large as it may be" in bundle.entries[-1].missing


def test_what_cannot_be_had_is_told_without_what_it_stumbled_over():
    cleaner = Cleaner()
    cleaner.learn(PLANTED["header"])
    bundle = bundles.Bundle(cleaner)

    def stumbles() -> str:
        raise ValueError(PLANTED["script"])

    def refuses() -> str:
        raise GiveUpError(f"said {PLANTED['header']}", reason="backend_refused")

    bundle.add_text("a", "a", stumbles)
    bundle.add_text("b", "b", refuses)
    assert [entry.missing for entry in bundle.entries] == ["ValueError while it was made", "said *** [backend_refused]"]


def test_numbers_that_are_secret_are_masked_too():
    cleaner = Cleaner()
    cleaner.learn("8675309123")
    assert cleaner.document({"pin": 8675309123, "at": 17, "on": True, "deep": [None, 1.5]}) == {
        "pin": "***", "at": 17, "on": True, "deep": [None, 1.5],
    }  # fmt: skip


def test_an_address_without_its_path_still_says_where():
    shown = without_paths({"url": "https://u:p@hooks.example/services/T0/B0?x=1#y", "issuer": "https://ci.example/a/b"})
    assert shown == {"url": "https://hooks.example/…", "issuer": "https://ci.example/a/b"}


def test_what_vouches_in_public_is_not_taken_for_a_secret(tmp_path):
    (tmp_path / "keys").mkdir()
    document = {"keys": [{"kid": "kid-0123456789abcdef", "algorithm": "RS256", "private_key": PLANTED["app key"]}]}
    (tmp_path / "keys" / "issuer.json").write_text(json.dumps(document))
    cleaner = Cleaner()
    assert learn_secrets(cleaner, tmp_path, {}, {}) == 0
    text = f"kid-0123456789abcdef {PLANTED['app key']}"
    assert cleaner.text(text) == "kid-0123456789abcdef ***"
