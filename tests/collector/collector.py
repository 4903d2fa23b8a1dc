"""Programs of others that take our traces: Rotel, a collector, Phoenix, a trace page, and the browser that looks at it.

They run from `build/collector`, an environment of their own, and listen on loopback only. Rotel's own log goes to a
file, Phoenix' telemetry and everything else that would leave this machine is off.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from orchestrator.testing.ports import free_port

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "build" / "collector" / "python"
PROJECT = "orchestrator"
"""Phoenix keeps traces by project; operators name one in OTEL_RESOURCE_ATTRIBUTES of the daemon's environment."""

RESOURCE = f"openinference.project.name={PROJECT},deployment.environment.name=test"


def missing() -> str:
    """Why these programs cannot be used here; nothing when they can."""
    return "" if (PLACE.parent / ".ready").exists() else f"{PLACE} is not there (make build/collector/.ready says why)"


@asynccontextmanager
async def running(words: Sequence[str], log: Path, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program, ended at the end whatever happens."""
    with log.open("ab") as said:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said,
            env={"PATH": os.environ["PATH"], "HOME": str(log.parent), **environment},
        )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def answers(process: asyncio.subprocess.Process, url: str, log: Path, seconds: float = 120) -> None:
    """Wait until somebody answers there."""
    async with asyncio.timeout(seconds), aiohttp.ClientSession() as client:
        while True:
            assert process.returncode is None, log.read_text(errors="replace")[-2000:]
            with contextlib.suppress(aiohttp.ClientError):
                async with client.get(url):
                    return
            await asyncio.sleep(0.1)


@asynccontextmanager
async def rotel(folder: Path, traces: str, logs: str) -> AsyncIterator[str]:
    """The collector; where to send to. It passes traces and logs on to these OTLP/HTTP endpoints."""
    port, log = free_port(), folder / "rotel.log"
    (program,) = PLACE.glob("lib/python*/site-packages/rotel/rotel-agent")
    words = [
        str(program), "start", "--log-format", "text",
        "--otlp-http-endpoint", f"127.0.0.1:{port}", "--otlp-grpc-endpoint", f"127.0.0.1:{free_port()}",
        "--exporter", "otlp", "--otlp-exporter-protocol", "http",
        "--otlp-exporter-traces-endpoint", f"{traces}/v1/traces", "--otlp-exporter-logs-endpoint", f"{logs}/v1/logs",
        "--otlp-exporter-metrics-endpoint", f"{logs}/v1/metrics",
    ]  # fmt: skip
    async with running(words, log) as process:
        await answers(process, f"http://127.0.0.1:{port}/", log)
        yield f"http://127.0.0.1:{port}"


class Phoenix:
    """The trace page; `url` is its base."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def spans(self, trace_id: str) -> list[Span]:
        """The spans of a trace that it has by now, as it gives them back: in OTLP."""
        where = f"{self.url}/v1/projects/{PROJECT}/spans/otlpv1"
        async with (
            aiohttp.ClientSession() as client,
            client.get(where, params={"trace_id": trace_id, "limit": "1000"}) as answer,
        ):
            if answer.status == 404:  # the project comes with its first span
                return []
            assert answer.status == 200, await answer.text()
            return [span_of(document) for document in (await answer.json())["data"]]

    async def page_of(self, trace_id: str) -> str:
        """The address of a trace's page."""
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"{self.url}/v1/projects/{PROJECT}") as answer,
        ):
            project = (await answer.json())["data"]["id"]
        return f"{self.url}/projects/{project}/traces/{trace_id}"


def span_of(document: dict[str, Any]) -> Span:
    """A span from its JSON. Ids are hexadecimal there, as in OTLP/JSON, and not base64 as in other protobuf."""
    given = dict(document)
    for key in ("trace_id", "span_id", "parent_span_id"):
        given[key] = base64.b64encode(bytes.fromhex(given.get(key) or "")).decode()
    return ParseDict(given, Span(), ignore_unknown_fields=True)


@asynccontextmanager
async def phoenix(folder: Path) -> AsyncIterator[Phoenix]:
    port, log = free_port(), folder / "phoenix.log"
    settings = {
        "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(port), "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_WORKING_DIR": str(folder), "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false", "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
    }  # fmt: skip
    async with running([str(PLACE / "bin" / "phoenix"), "serve"], log, **settings) as process:
        await answers(process, f"http://127.0.0.1:{port}/healthz", log)
        yield Phoenix(f"http://127.0.0.1:{port}")


CALM = """
localStorage.setItem("arize-phoenix-theme", "light");
localStorage.setItem("react-resizable-panels:trace-details-layout", '{"trace-tree": 46, "span-details": 54}');
localStorage.setItem("arize-phoenix-preferences", JSON.stringify(
  {state: {isSideNavExpanded: false, showMetricsInTraceTree: true, traceStreamingEnabled: false}, version: 0}));
"""
"""How Phoenix is to look: light, with room for the tree and its durations."""


def browser() -> str:
    """The path of a Chromium, or nothing."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")


class Page:
    """One page of a browser, driven by the Chrome DevTools Protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0

    async def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        async with asyncio.timeout(60):
            while True:
                answer = await self._socket.receive_json()
                if answer.get("id") == self._number:
                    assert "error" not in answer, answer
                    return dict(answer["result"])

    async def text(self) -> str:
        """What a reader sees."""
        answer = await self.ask("Runtime.evaluate", expression="document.body ? document.body.innerText : ''")
        return str(answer["result"]["value"])

    async def picture(self) -> bytes:
        return base64.b64decode((await self.ask("Page.captureScreenshot", format="png"))["data"])


@asynccontextmanager
async def page(folder: Path, url: str, width: int, height: int, before: str = "") -> AsyncIterator[Page]:
    """Chromium with this page. `before` is JavaScript that runs before any of the page's own."""
    profile, log = folder / "profile", folder / "chromium.log"
    words = [
        browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
        "--hide-scrollbars", f"--window-size={width},{height}", f"--user-data-dir={profile}",
        "--remote-debugging-port=0", "about:blank",
    ]  # fmt: skip
    async with running(words, log) as process, aiohttp.ClientSession() as client:
        port = await _port(process, profile / "DevToolsActivePort", log)
        async with client.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
            target = json.loads(await answer.text())
        async with client.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=64 << 20) as socket:
            made = Page(socket)
            await made.ask(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
            await made.ask("Page.enable")
            await made.ask("Page.addScriptToEvaluateOnNewDocument", source=before)
            await made.ask("Page.navigate", url=url)
            yield made


async def _port(process: asyncio.subprocess.Process, told: Path, log: Path) -> int:
    async with asyncio.timeout(60):
        while not (told.exists() and (lines := told.read_text("ascii").split())):
            assert process.returncode is None, log.read_text(errors="replace")[-2000:]
            await asyncio.sleep(0.05)
    return int(lines[0])


def smaller(picture: Path) -> None:
    """Fewer colours make a picture of text a third as large; without Debian's `pngquant` it stays as it is."""
    if shutil.which("pngquant"):
        subprocess.run(["pngquant", "--force", "--output", str(picture), "64", str(picture)], check=True, timeout=60)
