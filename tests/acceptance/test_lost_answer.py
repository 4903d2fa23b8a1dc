"""The acknowledgement is lost on its way: the caller asks again with its key, and it is the same job, run once."""

from __future__ import annotations

import asyncio
import json
import socket
import struct

import pytest
from installation import Installation
from witness import GATE, Witness

pytestmark = pytest.mark.sandbox

GATED = "visit started\nvisit gate\nvisit done\n"


def request(here: Installation, key: str) -> bytes:
    body = json.dumps(here.body(key, GATED)).encode()
    token = (here.state / "caller-token").read_text(encoding="utf-8")
    head = [
        "POST /v1/jobs HTTP/1.1",
        f"Host: 127.0.0.1:{here.port}",
        f"Authorization: Bearer {token}",
        f"Idempotency-Key: {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


def send_and_reset(here: Installation, data: bytes) -> None:
    """Send, and cut the connection by a reset without reading a byte of the answer."""
    with socket.create_connection(("127.0.0.1", here.port), timeout=5) as connection:
        connection.sendall(data)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def test_the_connection_is_cut_before_the_answer(here: Installation, witness: Witness) -> None:
    await here.start()
    witness.open_gate()
    for key in ("cut-1", "cut-2", "cut-3"):
        send_and_reset(here, request(here, key))
        job_id = await here.dispatch(key, GATED)
        assert await here.dispatch(key, GATED) == job_id
    other = await here.call("POST", "/v1/jobs", here.body("cut-1", "exit 0"), Idempotency_Key="cut-1")
    assert (other.status, other.body["reason"]) == (422, "idempotency_key_reused")
    half = request(here, "half")
    send_and_reset(here, half[: len(half) - 20])
    listed = (await here.call("GET", "/v1/jobs")).body["jobs"]
    assert sorted(line["name"] for line in listed) == ["cut-1", "cut-2", "cut-3"], "half a request is no job"
    for job_id in here.accepted:
        assert (await here.finished(job_id))["result"] == "success"
        assert witness.words(job_id) == ["started", GATE, "done"]
    assert await here.stop() == 0
    assert await here.broken_promises() == []


@pytest.mark.slow
async def test_the_daemon_is_killed_before_the_answer(here: Installation, witness: Witness) -> None:
    """Whether it was stored or not: the retry finds it, or it is new; in both cases it is one job."""
    witness.open_gate()
    await here.start()
    with socket.create_connection(("127.0.0.1", here.port), timeout=5) as connection:
        connection.sendall(request(here, "killed"))
        while not (await here.call("GET", "/v1/jobs")).body["jobs"]:
            pass  # it is stored; its answer is not read
        await here.kill()
    await here.start()
    (line,) = (await here.call("GET", "/v1/jobs")).body["jobs"]
    again = await here.call("POST", "/v1/jobs", here.body("killed", GATED), Idempotency_Key="killed")
    assert (again.status, again.body["id"]) == (200, line["id"])
    assert again.headers["Idempotency-Replayed"] == "true"
    here.accepted.append(line["id"])
    view = await here.finished(line["id"])
    words = witness.words(line["id"])
    assert words == ["started", GATE, "done"][: len(words)]
    assert (view["result"] == "success") == (len(words) == 3) or view["reason"] == "runner_lost"
    assert await here.stop() == 0
    assert await here.broken_promises() == []


@pytest.mark.slow
async def test_many_callers_retry_at_once(here: Installation, witness: Witness) -> None:
    await here.start()
    witness.open_gate()
    ids = await asyncio.gather(*(here.dispatch("same", GATED) for _ in range(20)))
    assert len(set(ids)) == 1
    assert (await here.finished(ids[0]))["result"] == "success"
    assert witness.words(ids[0]) == ["started", GATE, "done"]
    assert await here.stop() == 0
    assert await here.broken_promises() == []


@pytest.mark.slow
async def test_a_retry_after_a_kill_is_the_same_job_also_where_any_port_will_do(
    here: Installation, witness: Witness
) -> None:
    def found() -> str:
        return str(json.loads((here.state / "daemon.json").read_text(encoding="utf-8"))["url"])

    witness.open_gate()
    here.configure(server={"port": 0})
    await here.start()
    here.url = first = found()
    job_id = await here.dispatch("any-port", GATED)
    await here.kill()
    await here.start()
    here.url = found()
    assert here.url == first
    assert await here.dispatch("any-port", GATED) == job_id
    await here.finished(job_id)
    assert await here.stop() == 0
    assert await here.broken_promises() == []
