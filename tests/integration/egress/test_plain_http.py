"""Plain HTTP through real gateway processes of both forms: exactly one request per connection, and nothing else."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator.agent.job_files import FOR_THE_PROXY

pytestmark = pytest.mark.usefixtures("form")

CLEAN = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}


# Both forms have the same proxy; what is the cluster's own is tested in test_cluster. Each start of one costs a second.
@pytest.fixture(params=["listener", pytest.param("cluster", marks=pytest.mark.slow)])
def form(request, form):
    return form


class Site:
    """A destination that answers each request it gets on a connection, as a careless server would."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []

    async def __call__(self, reader, writer):
        at = len(self.raw)
        self.raw.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        # Stays a while, and takes whatever else may come.
        try:
            async with asyncio.timeout(0.2):
                while data := await reader.read(1 << 16):
                    self.raw[at] += data
        except TimeoutError:
            pass


async def test_one_request_goes_through_rewritten(lab, gateway):
    site = Site()
    async with lab.serving(site) as destination:
        port = await gateway.open([lab.http(destination)])
        answer = await lab.ask(
            port, f"GET http://Site.test:{destination}/a?b HTTP/1.1\r\nHost: evil.test\r\nX: y\r\n\r\n".encode()
        )
        (verdict,) = await gateway.told(1)
    assert answer.endswith(b"\r\n\r\nok")
    assert site.raw[0].startswith(f"GET /a?b HTTP/1.1\r\nHost: site.test:{destination}\r\nx: y\r\n".encode())
    assert b"evil" not in site.raw[0]
    assert (verdict.allowed, verdict.protocol, verdict.reason) == (True, "http", "")
    assert (verdict.bytes_up, verdict.bytes_down) == (len(site.raw[0]), len(answer))


@pytest.mark.parametrize("body", ["", "Content-Length: 4\r\n", "Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("late", [False, True])
async def test_nothing_follows_the_request(lab, gateway, body, late):
    """A second request for another virtual host of the same server must not arrive there."""
    site = Site()
    content = {"": b"", "C": b"data", "T": b"4\r\ndata\r\n0\r\n\r\n"}[body[:1]]
    second = b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"
    async with lab.serving(site) as destination:
        port = await gateway.open([lab.http(destination)])
        head = f"POST http://site.test:{destination}/ HTTP/1.1\r\n{body}\r\n".encode()
        reader, writer = await lab.dial(port)
        writer.write(port.request(head) + content + (b"" if late else second))
        if late:
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            writer.write(second)
        await asyncio.wait_for(reader.read(-1), 10)
        writer.close()
        await gateway.told(1)
    assert len(site.raw) == 1
    assert b"evil" not in site.raw[0]
    assert site.raw[0].count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 4\r\nContent-Length: 0\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
    ],
)
async def test_ambiguous_requests_are_refused(lab, gateway, fields):
    site = Site()
    async with lab.serving(site) as destination:
        port = await gateway.open([lab.http(destination)])
        request = (
            f"POST http://site.test:{destination}/ HTTP/1.1\r\n{fields}\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n".encode()
        )
        assert (await lab.ask(port, request)).startswith(b"HTTP/1.1 400 ")
        (verdict,) = await gateway.told(1)
    assert (verdict.allowed, verdict.reason) == (False, "bad_request")
    assert site.raw == []


async def test_a_bad_chunk_cuts_the_request_off(lab, gateway):
    site = Site()
    async with lab.serving(site) as destination:
        port = await gateway.open([lab.http(destination)])
        head = f"POST http://site.test:{destination}/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        try:
            answer = await lab.ask(port, head + b"0\nGET /evil HTTP/1.1\r\n\r\n")
        except ConnectionError:
            answer = b""
        (verdict,) = await gateway.told(1)
    assert b"200" not in answer
    assert verdict.reason == "bad_request_body"
    assert all(b"evil" not in raw for raw in site.raw)


async def test_half_a_body_does_not_look_whole(lab, gateway):
    begun, ended = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def upload(reader, writer):
        try:
            await reader.readuntil(b"abc")
            begun.set()
            ended.set_result(await reader.read(-1))
        except ConnectionError as error:
            ended.set_result(type(error))

    async with lab.serving(upload) as destination:
        port = await gateway.open([lab.http(destination)])
        _, writer = await lab.dial(port)
        head = f"PUT http://site.test:{destination}/ HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc".encode()
        writer.write(port.request(head))
        await writer.drain()
        await asyncio.wait_for(begun.wait(), 10)
        writer.write_eof()
        assert await asyncio.wait_for(ended, 10) is ConnectionResetError
        (verdict,) = await gateway.told(1)
        writer.close()
    assert (verdict.allowed, verdict.reason) == (True, "request_cut_short")


async def test_no_tunnel_to_a_plain_rule_and_no_plain_request_to_a_tls_rule(lab, gateway):
    port = await gateway.open([lab.http(80), lab.tls(443)])
    assert b"(protocol_not_listed)" in await lab.ask(port, b"CONNECT site.test:80 HTTP/1.1\r\n\r\n")
    assert b"(protocol_not_listed)" in await lab.ask(port, b"GET http://site.test:443/ HTTP/1.1\r\n\r\n")
    assert [v.protocol for v in await gateway.told(2)] == ["tls", "http"]


async def test_a_request_as_if_to_the_site_itself_is_explained(lab, gateway):
    port = await gateway.open([])
    assert b"this is a proxy" in await lab.ask(port, b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")


async def test_a_large_upload_and_download_keep_their_bytes(lab, gateway):
    payload = os.urandom(1 << 20) * 8

    async def mirror(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        content = await reader.readexactly(len(payload))
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + content)
        await writer.drain()

    async with lab.serving(mirror) as destination:
        port = await gateway.open([lab.http(destination)])
        head = f"PUT http://site.test:{destination}/ HTTP/1.1\r\nContent-Length: {len(payload)}\r\n\r\n".encode()
        answer = await lab.ask(port, head + payload)
    assert answer.partition(b"\r\n\r\n")[2] == payload


async def test_curl(lab, gateway):
    if shutil.which("curl") is None:
        pytest.skip("NOT TESTED: curl is not installed")
    site = Site()
    async with lab.serving(site) as destination:
        port = await gateway.open([lab.http(destination)])
        url = f"http://site.test:{destination}/x"
        # Twice on what curl believes to be a reusable connection.
        run = await asyncio.create_subprocess_exec(
            "curl",
            "-sS",
            "-d",
            "a=b",
            url,
            url,
            stdout=-1,
            stderr=-1,
            env={**CLEAN, "http_proxy": port.proxy},
        )
        out, err = await asyncio.wait_for(run.communicate(), 20)
    assert (run.returncode, out) == (0, b"okok"), err
    assert len(site.raw) == 2


def _git(*arguments: str, cwd: Path) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@site.test", *arguments],
        cwd=cwd, env={**CLEAN, "HOME": str(cwd)}, check=True, capture_output=True,
    )  # fmt: skip


async def _git_backend(root: Path, reader, writer) -> None:
    """One request to git's own smart HTTP server, as CGI."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    (method, target, _), fields = head.split("\r\n")[0].split(), {}
    for line in head.split("\r\n")[1:-2]:
        name, _, value = line.partition(": ")
        fields[name.lower()] = value
    body = b""
    if fields.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
    else:
        body = await reader.readexactly(int(fields.get("content-length", 0)))
    path, _, query = target.partition("?")
    environment = {
        **CLEAN, "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1", "REQUEST_METHOD": method, "PATH_INFO": path,
        "QUERY_STRING": query, "CONTENT_TYPE": fields.get("content-type", ""), "CONTENT_LENGTH": str(len(body)),
        "GIT_PROTOCOL": fields.get("git-protocol", ""), "HTTP_CONTENT_ENCODING": fields.get("content-encoding", ""),
        "HOME": str(root),
    }  # fmt: skip
    run = await asyncio.create_subprocess_exec("git", "http-backend", stdin=-1, stdout=-1, env=environment)
    out, _ = await run.communicate(body)
    headers, _, content = out.partition(b"\r\n\r\n")
    status = next((line[8:] for line in headers.split(b"\r\n") if line.startswith(b"Status: ")), b"200 OK")
    writer.write(b"HTTP/1.1 " + status + b"\r\n" + headers + b"\r\nConnection: close\r\n\r\n" + content)
    await writer.drain()


@pytest.mark.parametrize("told", [{}, FOR_THE_PROXY], ids=["plain", "as_a_pod"])
async def test_git_clone(lab, form, gateway, tmp_path, told):
    if shutil.which("git") is None:
        pytest.skip("NOT TESTED: git is not installed")
    work, clone = tmp_path / "work", tmp_path / "clone"
    work.mkdir()
    _git("init", "-q", "-b", "main", cwd=work)
    (work / "file").write_text("content\n" * 10_000)
    (work / "program.py").write_text("print('x')\n")
    _git("add", ".", cwd=work)
    _git("commit", "-q", "-m", "one", cwd=work)
    _git("config", "safe.directory", "*", cwd=work)
    (tmp_path / ".gitconfig").write_text("[safe]\n directory = *\n")

    async def serve(reader, writer):
        await _git_backend(tmp_path, reader, writer)

    async with lab.serving(serve) as destination:
        port = await gateway.open([lab.http(destination, "other.test")])
        run = await asyncio.create_subprocess_exec(
            "git", "clone", "-q", f"http://other.test:{destination}/work/.git", str(clone), stdout=-1, stderr=-1,
            env={**CLEAN, "HOME": str(tmp_path), "http_proxy": port.proxy, **told},
        )  # fmt: skip
        _, err = await asyncio.wait_for(run.communicate(), 30)
        assert run.returncode == 0, err
        verdicts = await gateway.told(2)
    assert (clone / "file").read_text() == (work / "file").read_text()
    # In the cluster git asks once without its credential to learn what the proxy wants, unless it was told.
    asks = form == "cluster" and not told
    assert {v.reason for v in verdicts if not v.allowed} == ({"credential_missing"} if asks else set())
    assert all(v.host == "other.test" for v in verdicts)
    assert sum(v.allowed for v in verdicts) >= (1 if form == "cluster" else 2)
