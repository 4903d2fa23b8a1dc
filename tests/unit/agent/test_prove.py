"""`--prove`: the agent says whether forbidden egress fails, and claims nothing."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

AGENT = (
    "import sys, socket; import orchestrator.agent.egress_proof as e; import orchestrator.agent.pod as p; "
    "e.FORBIDDEN = (('tcp:closed', socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', 1)),); "
    "e.GATEWAY_PATIENCE_SECONDS = 0.5; sys.exit(p.main())"
)


@pytest.mark.parametrize(
    ("status", "open_way", "code"),
    [("403 Forbidden", False, 0), ("407 Asked", False, 0), ("200 OK", False, 78), ("403 Forbidden", True, 78)],
)
async def test_the_exit_code_is_the_proof(status, open_way, code):
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    claims = []

    async def count(_reader, writer):
        claims.append(1)
        writer.close()

    gateway = await asyncio.start_server(refuse, "127.0.0.1", 0)
    runner_api = await asyncio.start_server(count, "127.0.0.1", 0)
    api_server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = [server.sockets[0].getsockname()[1] for server in (gateway, runner_api, api_server)]
    if not open_way:
        api_server.close()
        await api_server.wait_closed()
    environment = os.environ | {
        "ORCHESTRATOR_RUNNER_API": f"https://127.0.0.1:{port[1]}", "ORCHESTRATOR_CA_PEM": "none",
        "ORCHESTRATOR_GATEWAY": f"http://127.0.0.1:{port[0]}", "ORCHESTRATOR_TOKEN_FILE": "/nowhere",
        "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port[2]),
    }  # fmt: skip
    async with gateway, runner_api:
        agent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", AGENT, "--prove", env=environment, stderr=asyncio.subprocess.PIPE
        )
        _, words = await agent.communicate()
        api_server.close()
    assert agent.returncode == code, words
    assert claims == []
    assert (b"forbidden destinations were reachable" in words) == (code == 78)
    assert (f"127.0.0.1:{port[2]}".encode() in words) == open_way
