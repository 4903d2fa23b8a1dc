"""The client's own promises: bounded waiting, honest errors, nothing sent twice without need."""

from __future__ import annotations

import socket
import threading

import pytest

from orchestrator.cli.exits import AnswerError, CommandError, UnreachableError
from orchestrator.cli.jobs.follow import stream_log, wait_for_end
from orchestrator.cli.link.client import DaemonClient, IdleError
from orchestrator.cli.link.patience import Patience
from orchestrator.cli.link.target import Target

JOB = "dispatch.aa11bb22cc33dd44.1"


@pytest.fixture
def client(local_daemon, state, make_view):
    local_daemon.jobs[JOB] = make_view(JOB)
    return DaemonClient(Target(local_daemon.url, state / "caller-token"), read_seconds=0.3)


def test_a_silent_stream_is_idle_and_not_lost(client, local_daemon):
    local_daemon.faults["silent_log"] = 1
    stream = client.log(JOB, follow=True)
    assert next(stream) == b"hel"
    with pytest.raises(IdleError):
        next(stream)


def test_a_silent_log_is_asked_for_again_from_where_it_was(client, local_daemon, capfdbinary, monkeypatch):
    import io
    import sys

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    local_daemon.faults["silent_log"] = 1
    stream_log(client, JOB, follow_end=True)
    assert sys.stdout.buffer.getvalue() == b"hello\nworld\n"
    assert [query["offset"] for _, path, query in local_daemon.requests if path.endswith("/log")] == ["0", "3"]


def test_a_daemon_that_keeps_breaking_off_is_given_up_in_time(client, local_daemon):
    local_daemon.faults["close_events"] = 10_000
    now, pauses = [0.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds
        pauses.append(seconds)

    with pytest.raises(UnreachableError, match="before the job's end"):
        wait_for_end(client, JOB, patience=Patience(seconds=20, clock=lambda: now[0], sleep=sleep))
    assert 10 < sum(pauses) <= 20


def test_whoever_waits_for_a_job_is_told_of_its_alarms(client, local_daemon):
    local_daemon.alarm = {"alarm": "worker_failing", "detail": "see the log"}
    told: list[str] = []
    wait_for_end(client, JOB, tell=told.append)
    assert told == ["alarm: worker_failing: see the log"]


def test_a_daemon_that_was_never_there_fails_at_once(state):
    (state / "caller-token").write_text("t")
    client = DaemonClient(Target("http://127.0.0.1:1", state / "caller-token"))
    with pytest.raises(UnreachableError) as caught:
        client.dispatch({"name": "a", "script": "b"})
    assert not caught.value.sent


@pytest.fixture
def scripted(state):
    """A server that answers each connection with given bytes and closes it."""
    (state / "caller-token").write_text("t")
    listener = socket.create_server(("127.0.0.1", 0))
    answers: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                connection.recv(65536)
                if answers:
                    connection.sendall(answers.pop(0))

    thread = threading.Thread(target=serve)
    thread.start()
    yield answers, DaemonClient(Target(f"http://127.0.0.1:{listener.getsockname()[1]}", state / "caller-token"))
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: "


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", UnreachableError),
        (b"\x16\x03\x01 this is no HTTP\r\n\r\n", UnreachableError),
        (OK + b"100\r\n\r\n{", UnreachableError),
        (OK + b"2\r\n\r\n[]", CommandError),
        (OK + b"5\r\n\r\n<html", CommandError),
        (b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n", AnswerError),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n[]", AnswerError),
    ],
)
def test_answers_that_are_none(scripted, answer, error):
    answers, client = scripted
    answers.append(answer)
    with pytest.raises(error) as caught:
        client.job(JOB)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhello",
    ],
)
def test_a_stream_that_is_cut_is_lost_and_not_over(scripted, head):
    answers, client = scripted
    answers.append(head + b"wo")
    stream = client.log(JOB)
    assert next(stream).startswith(b"hello")
    with pytest.raises(UnreachableError):
        list(stream)


def test_an_answer_is_bounded(scripted, monkeypatch):
    from orchestrator.cli.link import client as module

    monkeypatch.setattr(module, "_MAX_ANSWER_BYTES", 100)
    answers, client = scripted
    answers.append(OK + b"200\r\n\r\n" + b" " * 200)
    with pytest.raises(CommandError, match="larger than 100 bytes"):
        client.job(JOB)
