"""Each command against a real server: what is printed where, and with which exit code it ends."""

from __future__ import annotations

import json

import pytest

from orchestrator.cli.jobs import submit

JOB = "dispatch.aa11bb22cc33dd44.1"
HELLO = ("submit", "--name", "hello", "--script", "echo hello")


@pytest.fixture
def one_job(local_daemon, make_view):
    local_daemon.jobs[JOB] = make_view(JOB)
    return local_daemon


@pytest.mark.parametrize(
    ("ends_as", "code"),
    [("success", 0), ("failure", 10), ("denied", 11), ("cancellation", 12), ("timeout", 13), ("error", 13)],
)
def test_submit_follows_and_ends_as_the_job_did(cli, local_daemon, ends_as, code):
    local_daemon.ends_as = ends_as
    done = cli(*HELLO)
    assert done.exit_code == code, done.stderr
    assert done.stdout == "" if ends_as == "denied" else done.stdout == "hello\nworld\n"
    assert "submitted" in done.stderr
    assert ends_as in done.stderr
    if ends_as != "denied":
        assert "waiting: pool_full (4 of 4)" in done.stderr


def test_submit_tells_of_an_alarm_once(cli, local_daemon):
    local_daemon.alarm = {"alarm": "worker_failing", "detail": "see the log"}
    assert cli(*HELLO).stderr.count("alarm: worker_failing: see the log") == 1


def test_a_denial_shows_its_reason(cli, local_daemon):
    local_daemon.ends_as = "denied"
    assert "prod takes main only [prod_branch]" in cli(*HELLO).stderr


def test_a_denial_for_several_reasons_shows_each_on_its_own_line():
    reasons = [{"code": "a", "message": "first"}, {"code": "b", "message": "second"}]
    view = {
        "result": "denied",
        "message": "first [a]; second [b]",
        "decisions": [{"verdict": "deny", "reasons": reasons}],
    }
    assert submit.why(view) == ["first [a]", "second [b]"]
    assert submit.why({**view, "decisions": []}) == [view["message"]]
    assert submit.why({"result": "success", "message": "the job completed"}) == []


def test_submit_sends_what_was_given(cli, local_daemon):
    done = cli(
        *HELLO, "--pool", "big", "-e", "A=1", "--env", "B=x=y", "--timeout", "9", "--environment", "staging",
        "--artifact", "sha256:" + "0" * 64, "--ticket", "REL-7", "--pipeline", "p", "--no-follow",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert local_daemon.bodies == [
        {
            "name": "hello", "script": "echo hello", "pool": "big", "environment": {"A": "1", "B": "x=y"},
            "timeout_seconds": 9, "deployment_environment": "staging", "artifact_digest": "sha256:" + "0" * 64,
            "ticket": "REL-7", "pipeline": "p",
        }
    ]  # fmt: skip
    assert done.stdout == next(iter(local_daemon.jobs)) + "\n"


def test_submit_with_json_prints_one_document(cli, local_daemon):
    done = cli(*HELLO, "--json")
    assert json.loads(done.stdout)["result"] == "success"


def test_the_same_key_is_the_same_job(cli, local_daemon):
    first = cli(*HELLO, "--no-follow", "--idempotency-key", "k")
    second = cli(*HELLO, "--no-follow", "--idempotency-key", "k")
    assert first.stdout == second.stdout
    assert "submitted before" in second.stderr
    other = cli("submit", "--name", "x", "--script", "y", "--no-follow", "--idempotency-key", "k")
    assert other.exit_code == 1
    assert "idempotency_key_reused" in other.stderr
    assert "fix: take a new key" in other.stderr


def test_a_lost_answer_submits_the_job_once(cli, local_daemon):
    local_daemon.faults["lose_answer"] = 2
    done = cli(*HELLO, "--no-follow")
    assert done.exit_code == 0, done.stderr
    assert len(local_daemon.bodies) == 3
    assert len(local_daemon.jobs) == 1


def test_a_full_queue_is_waited_for(cli, local_daemon):
    local_daemon.faults["full"] = 2
    assert cli(*HELLO, "--no-follow").exit_code == 0


def test_a_broken_stream_is_taken_up_where_it_broke_off(cli, local_daemon):
    local_daemon.log = bytes(range(32, 127)) * 100 + b"\n"
    local_daemon.faults |= {"cut_log": 3, "cut_events": 2}
    done = cli(*HELLO)
    assert done.exit_code == 0, done.stderr
    assert done.stdout_bytes == local_daemon.log
    assert done.stderr.count("admitted by policy") == 1


def test_a_pipeline_file_submits_all_its_jobs(cli, local_daemon, tmp_path):
    (tmp_path / "build.sh").write_text("make wheel\n")
    file = tmp_path / "pipeline.yaml"
    file.write_text(
        "pipeline: release\njobs:\n- {name: build, script_file: build.sh}\n- {name: deploy, script: './deploy'}\n"
    )
    done = cli("submit", str(file), "--json")
    assert [job["name"] for job in json.loads(done.stdout)["jobs"]] == ["build", "deploy"]
    assert local_daemon.bodies[0] == {"pipeline": "release", "name": "build", "script": "make wheel\n"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("submit",), "needs name and script"),
        ((*HELLO, "--env", "NOVALUE"), "NAME=VALUE"),
        ((*HELLO, "--script-file", "x"), "not both"),
        (("submit", "/nonexistent/job.yaml"), "cannot read"),
        (("jobs", "--watch", "--json"), "--watch"),
        (("jobs", "--limit", "0"), "limit"),
        (("jobs", "--phase", "wating"), "there is no phase 'wating'\n  fix: one of queued, waiting, provisioning, "),
        (("jobs", "--result", "failed"), "there is no result 'failed'\n  fix: one of success, failure, "),
        (("show",), "JOB"),
        (("show", "no such/id"), "not a job id"),
        (("nonsense",), "nonsense"),
    ],
)
def test_usage_errors_end_with_2(cli, local_daemon, arguments, words):
    done = cli(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert local_daemon.jobs == {}


def test_a_watched_list_waits_for_a_daemon_that_goes_away(cli, local_daemon, state, monkeypatch):
    """A stopped daemon takes its caller token along; the next one leaves another."""
    cli(*HELLO, "--no-follow")
    token = (state / "caller-token").read_text()
    pauses = 0

    def sleep(_seconds: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 1:
            (state / "caller-token").unlink()
        elif pauses == 2:
            (state / "caller-token").write_text(token)
        elif pauses == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setenv("FORCE_COLOR", "1")  # which makes it a terminal to whoever draws
    done = cli("jobs", "--watch")
    assert (done.exit_code, pauses) == (0, 4), done.output
    assert done.stdout.count("NOT LIVE") == 1


def test_a_preflight_without_a_cluster_pool_asks_no_cluster(cli, state):
    done = cli("preflight")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: no pool has the backend kubernetes")


def test_no_daemon_ends_with_3_and_says_how_to_start_one(cli, state):
    done = cli("jobs")
    assert done.exit_code == 3
    assert "orchestrator run" in done.stderr
    (state / "caller-token").write_text("t")
    done = cli("--url", "http://127.0.0.1:1", "--token-file", str(state / "caller-token"), "jobs")
    assert done.exit_code == 3
    assert "http://127.0.0.1:1" in done.stderr


def test_a_refused_token_ends_with_4(cli, local_daemon, state):
    (state / "caller-token").write_text("wrong-secret")
    done = cli("jobs")
    assert done.exit_code == 4
    assert "token_invalid" in done.stderr
    assert "wrong-secret" not in done.stderr
    (state / "caller-token").unlink()
    done = cli("jobs")
    assert (done.exit_code, "start one with `orchestrator run`" in done.stderr) == (3, True), "it went with its daemon"


def test_the_local_token_goes_to_the_local_daemon_only(cli, local_daemon, state):
    (state / "daemon.json").write_text(json.dumps({"url": "http://127.0.0.1:9", "pid": 1, "version": "0"}))
    done = cli("--url", local_daemon.url, "jobs")
    assert done.exit_code == 4
    assert "no caller token" in done.stderr
    assert local_daemon.requests == []


def test_jobs_as_table_and_as_json(cli, local_daemon, make_view):
    for number in range(450):
        job_id = f"dispatch.{number:016d}.1"
        local_daemon.jobs[job_id] = make_view(job_id, phase="running" if number % 2 else "queued")
    done = cli("jobs", "--json", "--limit", "420")
    lines = json.loads(done.stdout)["jobs"]
    assert [job["id"] for job in lines] == [f"dispatch.{n:016d}.1" for n in range(449, 29, -1)]
    done = cli("jobs", "--phase", "running", "--limit", "5")
    assert done.stdout.count("running") == 5
    assert "queued" not in done.stdout


def test_a_unique_beginning_names_a_job(cli, local_daemon, make_view):
    for platform_id in ("aaaa1111", "aaaa2222", "bbbb3333"):
        job_id = f"dispatch.{platform_id}.1"
        local_daemon.jobs[job_id] = make_view(job_id)
    assert json.loads(cli("show", "bb", "--json").stdout)["id"] == "dispatch.bbbb3333.1"
    assert json.loads(cli("show", "dispatch.aaaa1", "--json").stdout)["id"] == "dispatch.aaaa1111.1"
    done = cli("show", "aaaa")
    assert done.exit_code == 1
    assert "dispatch.aaaa1111.1" in done.stderr
    assert "dispatch.aaaa2222.1" in done.stderr
    assert cli("show", "cc").exit_code == 1


def test_show_waits_and_exits_as_the_job_did(cli, one_job):
    one_job.ends_as = "failure"
    assert cli("show", JOB, "--exit-status").exit_code == 13
    one_job.end(one_job.jobs[JOB])
    assert cli("show", JOB).exit_code == 0
    done = cli("show", JOB, "--wait", "--exit-status")
    assert done.exit_code == 10
    assert "exit_nonzero" in done.stdout


def test_logs_are_the_bytes_of_the_job(cli, one_job):
    one_job.log = b"\x00\xff\x1b[2Jraw\n"
    assert cli("logs", JOB).stdout_bytes == one_job.log
    assert cli("logs", JOB, "--follow").stdout_bytes == one_job.log


def test_an_unknown_job_is_said_so(cli, local_daemon):
    for command in ("show", "logs", "trace", "cancel"):
        done = cli(command, JOB)
        assert done.exit_code == 1
        assert "job_not_found" in done.stderr
        assert done.stdout == ""


def test_cancel_says_what_became_of_it(cli, one_job):
    done = cli("cancel", JOB, "--reason", "wrong branch")
    assert "being cancelled" in done.stdout
    assert one_job.jobs[JOB]["cancel"]["reason"] == "wrong branch"
    one_job.end(one_job.jobs[JOB])
    assert "is over: success" in cli("cancel", JOB).stdout


def test_trace_draws_phases_and_verdicts(cli, one_job):
    one_job.trace["spans"] = [
        {"name": "job", "span_id": "1", "parent_span_id": None, "start_ns": 0, "end_ns": 2_000_000_000, "status": "ok",
         "attributes": {}, "events": []},
        {"name": "provision", "span_id": "2", "parent_span_id": "1", "start_ns": 0, "end_ns": 500_000_000,
         "status": "ok", "attributes": {}, "events": []},
    ]  # fmt: skip
    done = cli("trace", JOB)
    assert "  provision" in done.stdout
    assert "500 ms" in done.stdout
    assert json.loads(cli("trace", JOB, "--json").stdout) == one_job.trace


def test_another_service_at_the_address_is_recognised(cli, local_daemon):
    local_daemon.problem = (503, {"message": "nginx"}, {})
    done = cli("show", JOB)
    assert done.exit_code == 1
    assert "not as this API does" in done.stderr


def test_problem_texts_cannot_steer_the_terminal(cli, local_daemon):
    local_daemon.problem = (
        422,
        {"reason": "validation_failed", "detail": "bad\x1b[2J", "errors": [{"pointer": "#/name", "detail": "no\x07"}]},
        {},
    )
    done = cli("show", JOB)
    assert "\x1b" not in done.stderr
    assert "\x07" not in done.stderr
    assert "#/name: no?" in done.stderr


def test_version(cli):
    from orchestrator import __version__

    assert cli("version").stdout == f"orchestrator {__version__}\n"
    assert cli("--version").stdout == f"orchestrator {__version__}\n"
    assert json.loads(cli("version", "--json").stdout)["version"] == __version__


def test_a_narrow_terminal_still_names_jobs(cli, local_daemon, make_view, monkeypatch):
    local_daemon.jobs[JOB] = make_view(JOB, name="nightly")
    monkeypatch.setenv("COLUMNS", "40")
    assert cli("jobs").stdout.splitlines()[1].split()[:2] == ["aa11bb22cc33", "nightly"]
