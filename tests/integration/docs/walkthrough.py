"""A page of the documentation as a sequence of steps that can be done: its files, its changes, its commands.

In a page, a `console` block holds commands (`$ …`) with what they print; a block of another language whose first line
is `# name` is a file of that name; a `diff` block is a change. `orchestrator run` goes on in the background until a
block says `^C`.

`python walkthrough.py PAGE` does the page's steps in a temporary folder and writes what was printed into the page.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w./-]+\.\w+)\n")
ID = re.compile(r"\b\w+\.([0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f-]{27}-[0-9a-z]+)\.1\b")
FOLDER = re.compile(r"^mkdir (/tmp/[\w-]+)", re.MULTILINE)
PATIENCE_SECONDS = 60


@dataclass
class Command:
    """One command of a console block and the lines that the page shows for it."""

    text: str
    shown: list[str]


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Language and content of each fenced block."""
    for match in BLOCK.finditer(page):
        yield match[1], match[2]


def commands(block: str) -> Iterator[Command]:
    current: Command | None = None
    for line in block.splitlines():
        if line.startswith("$ ") or line == "^C":
            if current:
                yield current
            current = Command(line.removeprefix("$ "), [])
        elif current and line.startswith("> ") and not current.shown:
            current.text += "\n" + line[2:]
        elif current:
            current.shown.append(line)
    if current:
        yield current


def plain(line: str) -> str:
    """The line without what differs from run to run: ids, digests, times, ports, sizes, bars, column widths."""
    if event := re.match(r'\{"event":"([^"]+)"', line):
        return f"event {event[1]}"
    for pattern, word in (
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
        (r"\b[0-9a-f]{8}-[0-9a-f-]{27}-[0-9a-z]+\b|\b[0-9a-f]{8}-[0-9a-f]{3}\b", "HEX"),
        (r"\bcount-[0-9a-f]{16}\b", "HEX"),
        (r"[0-9a-f]{12,}(-[0-9a-z]{4}\b)?", "HEX"),
        (r"#\d{4,}|\bruns/\d{4,}|/\d{4,}/\d{4,}/1/\d{4,}", "NUMBER"),
        (r"127\.0\.0\.1:\d+|:\d{4,5}\b", "ADDRESS"),
        (r"\b\d+(\.\d+)? ?(µs|ms|s|min)\b", "DURATION"),
        (r"\b\d+(\.\d+)? [kM]?i?B\b", "SIZE"),
        (r"[▏▎▍▌▋▊▉█]+", ""),
        (r"\s+", " "),
    ):
        line = re.sub(pattern, word, line)
    return line.strip()


@dataclass
class Walk:
    """Does steps in `folder`. `replace` are texts of the page that stand for others here, such as ports."""

    folder: Path
    environment: dict[str, str]
    replace: dict[str, str] = field(default_factory=dict)
    daemon: subprocess.Popen[bytes] | None = None
    read: int = 0
    groups: list[int] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return Path(self.environment["ORCHESTRATOR_STATE_DIR"])

    def adapt(self, text: str) -> str:
        for theirs, ours in self.replace.items():
            text = text.replace(theirs, ours)
        return text

    def write(self, block: str) -> None:
        named = FILE_NAME.match(block)
        if named:
            path = self.folder / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.adapt(block), encoding="utf-8")

    def change(self, block: str) -> None:
        subprocess.run(["git", "apply", "-"], cwd=self.folder, input=block.encode(), check=True, timeout=30)

    def perform(self, command: Command) -> list[str]:
        """Do one command; returns the lines it printed."""
        if command.text.startswith("orchestrator run"):
            return self._start(command.text)
        if command.text == "^C":
            return self.stop()
        output = self.folder / ".output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", self.adapt(command.text)], cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            self.groups.append(process.pid)
            process.wait(PATIENCE_SECONDS)
        lines = output.read_text(encoding="utf-8").splitlines()
        self._learn_ids(command, lines)
        return lines

    def _learn_ids(self, command: Command, lines: list[str]) -> None:
        """A job's id in the page stands for the one it has here."""
        for theirs, ours in zip(ID.findall("\n".join(command.shown)), ID.findall("\n".join(lines)), strict=False):
            self.replace.setdefault(theirs, ours)
            self.replace.setdefault(theirs[:12], ours[:12])

    def _start(self, text: str) -> list[str]:
        self.log = self.folder / ".daemon.log"
        with self.log.open("wb") as file:
            self.daemon = subprocess.Popen(
                text.split(), cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.read = 0
        end = time.monotonic() + PATIENCE_SECONDS
        while not (self.state / "daemon.json").exists() or '"ready"' not in self.log.read_text():
            assert self.daemon.poll() is None, self.log.read_text()
            assert time.monotonic() < end, "the daemon did not get ready"
            time.sleep(0.05)
        return self._said()

    def stop(self) -> list[str]:
        assert self.daemon is not None
        self.daemon.send_signal(signal.SIGINT)
        code = self.daemon.wait(PATIENCE_SECONDS)
        assert code == 0, f"the daemon ended with exit code {code}: {self.log.read_text()}"
        self.daemon = None
        return self._said()

    def _said(self) -> list[str]:
        """New lines of the daemon's log, without those about single requests."""
        text = self.log.read_text()
        new, self.read = text[self.read :], len(text)
        return [line for line in new.splitlines() if '"logger":"orchestrator.server.' not in line]

    def end(self) -> None:
        """End what is left of what was started here."""
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.terminate()
            self.daemon.wait(PATIENCE_SECONDS)
        for group in self.groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGTERM)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """A person's shell with the program on its path, and a state folder of its own."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "PYTHONPATH") if name in os.environ}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    fixed = {"PATH": path, "SOURCE": str(PROJECT), "COLUMNS": "120", "NO_COLOR": "1", "GIT_CEILING_DIRECTORIES": "/"}
    return kept | fixed | {"ORCHESTRATOR_STATE_DIR": str(folder / "state")} | more


def follow(walk: Walk, page: str) -> int:
    """Do all steps of a page; how many commands there were.

    Raises:
        AssertionError: a command did not print a line that the page shows for it.
    """
    done = 0
    for language, block in blocks(page):
        if language == "diff":
            walk.change(block)
        elif language == "console":
            for command in commands(block):
                printed = {plain(walk.adapt(line)) for line in walk.perform(command)}
                missing = [line for line in command.shown if plain(walk.adapt(line)) not in printed]
                assert missing == [], f"{command.text} printed {sorted(printed)}, and not {missing}"
                done += 1
        else:
            walk.write(block)
    return done


def _refresh(path: Path) -> None:
    """Write what the commands print today into the page. One that names its folder below /tmp is done there."""
    page = path.read_text(encoding="utf-8")
    named = FOLDER.search(page)
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(named[1]) if named else Path(temporary) / "first-job"
        folder.mkdir()
        if named:
            stack.callback(shutil.rmtree, folder)
        walk = Walk(folder, environment(Path(temporary)))
        old: dict[str, str] = {}

        def filled(match: re.Match[str]) -> str:
            language, block = match[1], match[2]
            if language == "diff":
                walk.change(block)
            elif language != "console":
                walk.write(block)
            if language != "console":
                return match[0]
            parts = []
            for command in commands(block):
                lines = walk.perform(command)
                old.update(walk.replace)
                text = command.text
                for theirs, ours in old.items():
                    text = text.replace(theirs, ours)
                first = text if text == "^C" else "$ " + text.replace("\n", "\n> ")
                parts += [first, *(line.rstrip() for line in lines)]
            return "```console\n" + "\n".join(parts) + "\n```"

        try:
            path.write_text(BLOCK.sub(filled, page), encoding="utf-8")
        finally:
            walk.end()


if __name__ == "__main__":
    _refresh(Path(sys.argv[1]))
