"""`orchestrator policy replay`, `decisions` and `blame`, over a log on disk."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.policy.decision_log.bundles import BundleArchive, Load
from orchestrator.policy.decision_log.segments import segments_of
from orchestrator.policy.decision_log.shadow import Candidate
from orchestrator.policy.input import rfc3339

from .conftest import START, Deciding, rules, write_rules

SINCE = ("--since", "2026-11-22T00:00:00Z", "--until", "2026-11-23T00:00:00Z")


class Done:
    def __init__(self, *words: str) -> None:
        done = CliRunner().invoke(app, ["policy", *words], catch_exceptions=False, env={"COLUMNS": "200"})
        self.code, self.out, self.errors = done.exit_code, done.stdout, done.stderr

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def history(deciding: Deciding, keep, folder: Path) -> Path:
    candidate = Candidate()
    candidate.load(rules(closed=("staging",)))
    for number in range(6):
        deciding.decide(f"j{number}", "other/x" if number == 5 else "acme/shop", ("", "staging", "prod")[number % 3])
    keep(deciding.heard, candidate=candidate)
    BundleArchive(folder / "bundles").keep(
        deciding.bundle, Load(rfc3339(START), deciding.bundle.digest, "signal:SIGHUP", "/nowhere/policies", "", "1")
    )
    return folder


def test_replay_tells_what_would_change(history, tmp_path):
    new = write_rules(tmp_path / "new", rules(closed=("prod",)))
    done = Done("replay", str(history), "--bundle", str(new), *SINCE)
    assert done.code == 0
    for words in (
        "6 decisions",
        "4 would be the same",
        "1 newly denied",
        "1 other reasons",
        "By rule",
        "no_prod",
        "j2",
    ):
        assert words in done.out, done.out
    done = Done("replay", str(history), "--bundle", str(new), "--json", "--exit-status", *SINCE)
    assert (done.code, done.json["changes"]["newly_denied"], done.json["against"]) == (1, 1, "recorded")
    same = write_rules(tmp_path / "same", rules())
    assert Done("replay", str(history), "--bundle", str(same), "--exit-status", *SINCE).code == 0
    only = Done("replay", str(history), "--bundle", str(new), "--environment", "staging", "--json", *SINCE).json
    assert (only["decisions"]["replayed"], only["decisions"]["changed"]) == (2, 0)


def test_replay_against_a_bundle_that_was_in_force(history, tmp_path, deciding):
    new = str(write_rules(tmp_path / "new", rules(closed=("prod",))))
    for against in (deciding.bundle.digest, str(write_rules(tmp_path / "old", rules()))):
        done = Done("replay", str(history), "--bundle", new, "--bundle-against", against, "--json", *SINCE)
        assert (done.json["against"], done.json["decisions"]["changed"]) == (deciding.bundle.digest, 2)
    done = Done("replay", str(history), "--bundle", new, "--bundle-against", "sha256:" + "0" * 64, *SINCE)
    assert done.code == 2
    assert "no bundle sha256:0000" in done.errors


def test_replay_of_a_bundle_whose_tests_fail_is_refused(history, tmp_path):
    new = write_rules(tmp_path / "new", rules())
    (new / "decision_test.rego").write_text("package t\n\ntest_no if false\n")
    done = Done("replay", str(history), "--bundle", str(new), *SINCE)
    assert done.code == 1
    assert "test_no" in done.errors
    assert done.out == ""


def test_replay_says_when_there_is_nothing_or_something_is_damaged(history, tmp_path):
    same = str(write_rules(tmp_path / "same", rules()))
    done = Done("replay", str(history), "--bundle", same, "--until", "2026-11-21T00:00:00Z", "--since", "400d")
    assert "no decision of that time" in done.errors
    [segment] = segments_of(history)
    content = segment.path.read_bytes()
    segment.path.write_bytes(content[: len(content) // 2] + b"!" + content[len(content) // 2 + 1 :])
    done = Done("replay", str(history), "--bundle", same, "--exit-status", *SINCE)
    assert done.code == 1
    assert "DAMAGED" in done.errors


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--since", "yesterday"), "--since 'yesterday' is no time"),
        (("--until", "soon"), "--until 'soon' is no time"),
        (("--since", "1d", "--until", "2d"), "--since is not before --until"),
    ],
)
def test_times_that_are_none(history, tmp_path, words, told):
    done = Done("decisions", str(history), *words)
    assert (done.code, told in done.errors) == (2, True)


def test_a_folder_that_is_none(tmp_path):
    done = Done("decisions", str(tmp_path / "none"))
    assert done.code == 2
    assert "is no folder" in done.errors
    done = Done("replay", str(tmp_path), "--bundle", str(tmp_path / "none"))
    assert (done.code, "give a folder that" in done.errors) == (1, True)


def test_decisions_are_shown(history, deciding):
    done = Done("decisions", str(history), *SINCE)
    lines = done.out.splitlines()
    assert len(lines) == 6
    assert "deny" in lines[5]
    assert "not_ours" in lines[5]
    assert "candidate: newly denied no_" not in lines[0]
    done = Done("decisions", str(history), "--stage", "admission", "--job", "nobody", *SINCE)
    assert (done.code, done.out, done.errors) == (0, "", "no decision fits\n")
    found = [one["job_id"] for one in Done("decisions", str(history), "--denied", "--json", *SINCE).json["decisions"]]
    assert found == ["dispatch.j5.1"]
    done = Done("decisions", str(history), "--differing", "--json", *SINCE)
    assert [(one["job_id"], one["candidate"]["change"]) for one in done.json["decisions"]] == [
        ("dispatch.j1.1", "newly_denied"),
        ("dispatch.j4.1", "newly_denied"),
    ]
    done = Done("decisions", str(history), "--last", "2", "--json", "--stage", "admission", *SINCE)
    assert [one["job_id"] for one in done.json["decisions"]] == ["dispatch.j4.1", "dispatch.j5.1"]
    assert "input" not in done.json["decisions"][0]
    one = deciding.heard[2].decision.id
    [told] = Done("decisions", str(history), "--id", one, "--input", "--json", *SINCE).json["decisions"]
    assert told["input"] == json.loads(deciding.heard[2].input_json)
    assert told["result"]["allow"] is True
    assert '"job"' in Done("decisions", str(history), "--job", "j2", "--input", *SINCE).out
    assert (
        Done("decisions", str(history), "--environment", "", "--json", *SINCE).json["decisions"][0]["environment"] == ""
    )


def test_untrusted_words_cannot_steer_the_terminal(deciding, keep, folder):
    deciding.decide("a", "acme/\x1b[2Jx", "st\u202eaging")
    keep(deciding.heard)
    out = Done("decisions", str(folder), *SINCE).out
    assert "acme/?[2Jx" in out
    assert "\u202e" not in out


def test_blame(history, deciding, tmp_path):
    repository = tmp_path / "repository"
    write_rules(repository, deciding.bundle)
    for words in (
        ("init", "--quiet"),
        ("add", "--all"),
        ("-c", "user.name=Ada", "-c", "user.email=ada@acme.example", "commit", "--quiet", "-m", "Rules\n\nTicket 7"),
    ):
        subprocess.run(["git", *words], cwd=repository, check=True)
    digest = deciding.bundle.digest
    done = Done("blame", digest[7:15], str(history), "--repository", str(repository), *SINCE)
    assert done.code == 0, done.errors
    for words in (
        digest,
        "Ada <ada@acme.example>",
        "Ticket 7",
        "by signal:SIGHUP",
        "5 allow, 1 deny",
        "3 jobs were let",
    ):
        assert words in done.out, done.out
    report = Done("blame", digest, str(history), "--repository", str(repository), "--json", *SINCE).json
    assert report["commit"]["files"] == ["+data.json", "+decision.rego", "+decision_test.rego"]
    assert [job["job_id"] for job in report["uses"]["jobs"] if job["released"]] == [
        "dispatch.j1.1",
        "dispatch.j2.1",
        "dispatch.j4.1",
    ]


def test_blame_without_a_repository_or_a_known_digest(history, deciding, tmp_path):
    report = Done("blame", deciding.bundle.digest, str(history), "--json", *SINCE).json
    assert report["commit"] is None
    assert "--repository" in report["commit_unknown"]
    assert report["uses"]["decisions"] == {"allow": 5, "deny": 1}
    done = Done("blame", "sha256:" + "0" * 64, str(history), *SINCE)
    assert (done.code, "nothing was decided under it" in done.out) == (0, True)
    for words, told in (("abc", "at least 6"), ("xyzxyz", "is no digest"), ("000000", "no bundle that were in force")):
        done = Done("blame", words, str(history))
        assert (done.code, told in done.errors) == (2, True), done.errors
    done = Done("blame", deciding.bundle.digest, str(history), "--repository", str(tmp_path))
    assert (done.code, "git knows no history" in done.errors) == (1, True)


def test_a_candidate_is_loaded_by_check_config(tmp_path):
    bad = write_rules(tmp_path / "next", rules())
    (bad / "decision_test.rego").unlink()
    config = tmp_path / "orchestrator.yaml"
    config.write_text(f"policy:\n  candidate: {bad}\n")
    done = CliRunner().invoke(app, ["check-config", "--config", str(config)])
    assert done.exit_code == 1
    assert "policy.candidate" in done.stderr
    write_rules(bad, rules())
    assert CliRunner().invoke(app, ["check-config", "--config", str(config)]).exit_code == 0
    config.write_text(f"policy:\n  candidate: {bad}\n  decisions:\n    enabled: false\n")
    done = CliRunner().invoke(app, ["check-config", "--config", str(config)])
    assert done.exit_code == 1
    assert "candidate needs decisions.enabled" in done.stderr
