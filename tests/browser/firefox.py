"""The Firefox of the distribution, driven by what it speaks itself: WebDriver BiDi over a web socket."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import psutil
from sight import WATCH

SECONDS = 60
PREFERENCES: Mapping[str, bool | int | str] = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.safebrowsing.downloads.remote.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
}
"""It asks nobody but the page."""
T = TypeVar("T")


def executable() -> str | None:
    """The Firefox that this machine has."""
    return next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)


class Firefox:
    """One window with one page. `faults` is what the page must not have had."""

    def __init__(self, url: str) -> None:
        self.faults: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="firefox", daemon=True)
        self._thread.start()  # the other browser's driver has a loop in this one
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        try:
            self._wait(self._open(f"{url}/session"))
            self.ask("session.new", capabilities={})
            self.ask("session.subscribe", events=["log.entryAdded"])
            self.ask("script.addPreloadScript", functionDeclaration=f"() => {{ {WATCH} }}")
            self._context: str = self.ask("browsingContext.getTree")["contexts"][0]["context"]
        except BaseException:
            self.close()
            raise

    async def _open(self, url: str) -> None:
        self._client = aiohttp.ClientSession()
        self._socket = await self._client.ws_connect(url, max_msg_size=64 << 20)
        self._hearing = asyncio.create_task(self._hear())

    async def _hear(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if told["type"] == "event":
                self._note(told["params"])
            elif (answer := self._answers.pop(told["id"], None)) is not None and not answer.done():
                answer.set_result(told)

    def _note(self, entry: Mapping[str, Any]) -> None:
        if entry.get("level") in ("error", "warn"):
            self.faults.append(f"{entry['level']}: {entry.get('text')}")

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, SECONDS), self._loop).result()

    def ask(self, method: str, **parameters: Any) -> Any:
        """The result of one command.

        Raises:
            AssertionError: Firefox calls it an error.
        """
        told = self._wait(self._send(method, parameters))
        assert told["type"] == "success", f"{method}: {told}"
        return told["result"]

    async def _send(self, method: str, parameters: Mapping[str, Any]) -> Any:
        number = next(self._numbers)
        answer = self._answers[number] = self._loop.create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        return await answer

    def go(self, url: str) -> None:
        """Open an address, and wait until all of it is there."""
        self.ask("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def size(self, width: int, height: int) -> None:
        self.ask("browsingContext.setViewport", context=self._context, viewport={"width": width, "height": height})

    def run(self, expression: str) -> Any:
        """What an expression is on the page: a text, a number or a truth."""
        result = self.ask(
            "script.evaluate", expression=expression, target={"context": self._context}, awaitPromise=True
        )
        assert result["type"] == "success", result
        return result["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true on the page.

        Raises:
            AssertionError: it did not become so; with what was to be read.
        """
        limit = time.monotonic() + SECONDS
        while not self.run(f"Boolean({expression})"):
            if time.monotonic() > limit:
                raise AssertionError(f"never true: {expression}\n{self.run('document.body.innerText')}")
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """A key of the keyboard, as a person presses it."""
        strokes = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        self.ask(
            "input.performActions",
            context=self._context,
            actions=[{"type": "key", "id": "keyboard", "actions": strokes}],
        )

    def close(self) -> None:
        async def end() -> None:
            if hasattr(self, "_socket"):
                await self._socket.close()
                await self._hearing
            if hasattr(self, "_client"):
                await self._client.close()

        try:
            self._wait(end())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


def _address(file: Path, process: subprocess.Popen[bytes]) -> str:
    """Where it listens: it writes that into its profile."""
    limit = time.monotonic() + SECONDS
    while time.monotonic() < limit:
        assert process.poll() is None, "Firefox ended before it could be driven"
        with suppress(FileNotFoundError, ValueError):  # not there, or not whole
            told = json.loads(file.read_text())
            return f"ws://{told['ws_host']}:{told['ws_port']}"
        time.sleep(0.05)
    raise AssertionError("Firefox cannot be driven")


@contextmanager
def launched(program: str) -> Iterator[Firefox]:
    """A Firefox with a profile of its own, ended with all its processes."""
    with tempfile.TemporaryDirectory(prefix="firefox-") as name:
        lines = [f"user_pref({json.dumps(key)}, {json.dumps(value)});" for key, value in PREFERENCES.items()]
        (Path(name) / "user.js").write_text("\n".join(lines))
        process = subprocess.Popen(
            [program, "--headless", "--no-remote", "--profile", name, "--remote-debugging-port", "0"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "HOME": name, "MOZ_CRASHREPORTER_DISABLE": "1"},
        )  # fmt: skip
        parts = [psutil.Process(process.pid)]
        try:
            firefox = Firefox(_address(Path(name) / "WebDriverBiDiServer.json", process))
            try:
                yield firefox
            finally:
                firefox.close()
        finally:
            with suppress(psutil.NoSuchProcess):  # it has ended by itself
                parts += parts[0].children(recursive=True)
            process.send_signal(signal.SIGTERM)
            _, left = psutil.wait_procs(parts, timeout=SECONDS)
            for part in left:
                with suppress(psutil.NoSuchProcess):
                    part.kill()
            psutil.wait_procs(left, timeout=SECONDS)
            process.wait()
