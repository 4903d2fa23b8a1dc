"""A starting point passes its own check, a daemon runs with it, and its `dispatch` brings any CI's job to its end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="dispatch needs curl and jq"),
]


class Begun:
    """A folder that `init` wrote, with the program on the path as its scripts want it, and a daemon that runs there."""

    def __init__(self, root: Path, *words: str) -> None:
        self.folder = root / "runners"
        self.state = root / "state"
        self.daemon: subprocess.Popen[bytes] | None = None
        bin_folder = root / "bin"
        bin_folder.mkdir()
        program = bin_folder / "orchestrator"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m orchestrator "$@"\n')
        program.chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "ORCHESTRATOR_STATE_DIR": str(self.state),
            "ORCHESTRATOR_SERVER__PORT": "0",
        }
        if words:
            self.run("orchestrator", "init", str(self.folder), *words, cwd=root)

    def run(self, *words: str, cwd: Path | None = None, code: int = 0, **more: str) -> str:
        """What a command says on both channels; it must end with `code`."""
        done = subprocess.run(
            words, cwd=cwd or self.folder, env=self.environment | more, check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100,
        )  # fmt: skip
        assert done.returncode == code, done.stdout
        return done.stdout

    def start(self) -> None:
        with (self.state.parent / "log").open("wb") as log:
            self.daemon = subprocess.Popen(
                ["orchestrator", "run", "--config", "orchestrator.yaml"],
                cwd=self.folder, env=self.environment, stderr=log, start_new_session=True,
            )  # fmt: skip
        limit = time.monotonic() + 60
        while not (self.state / "daemon.json").exists():
            assert self.daemon.poll() is None, (self.state.parent / "log").read_text()
            assert time.monotonic() < limit
            time.sleep(0.05)

    def dispatch(self, *words: str, code: int = 0) -> tuple[str, dict[str, object]]:
        url = json.loads((self.state / "daemon.json").read_text())["url"]
        told = {"ORCHESTRATOR_URL": url, "TOKEN_FILE": str(self.state / "caller-token"), "RELEASE_TICKET": "REL-7"}
        said = self.run("./dispatch", *words, code=code, **told)
        return said, json.loads((self.folder / "job.json").read_text())

    def end(self) -> None:
        if self.daemon is not None:
            self.daemon.send_signal(signal.SIGTERM)
            try:
                assert self.daemon.wait(60) == 0
            finally:
                self.daemon.kill()
                self.daemon.wait()


@pytest.fixture
def begin(tmp_path):
    made: list[Begun] = []

    def make(*words: str) -> Begun:
        made.append(Begun(tmp_path, *words))
        return made[-1]

    yield make
    for one in made:
        one.end()


def guide() -> list[str]:
    """The shell of the guide of fifteen minutes, block by block."""
    page = Path(__file__).parents[3] / "docs" / "how-to" / "adopt-step-by-step.md"
    section = page.read_text(encoding="utf-8").partition("## In fifteen minutes")[2].partition("## The roadmap")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def test_the_guide_does_what_it_says(begin, tmp_path):
    begun = begin()
    prepare, start, *rest = guide()
    begun.run("/bin/sh", "-euc", prepare, cwd=tmp_path)
    assert start == "orchestrator run --config orchestrator.yaml\n"
    begun.start()
    said = begun.run("/bin/sh", "-euc", "".join(rest))
    for code in ("security_approval_missing", "scan_missing", "commit_not_on_protected_branch", "ticket_missing"):
        assert code in said


def test_dispatch_brings_jobs_to_their_end(begin):
    begun = begin("--ci", "gitlab")
    begun.start()
    said, job = begun.dispatch("build", "build", "jobs/build.sh")
    assert "build: success completed" in said
    [digest] = [one["digest"] for one in job["artifacts"] if one["name"] == "app.txt"]
    facts = json.loads(begun.run("orchestrator", "artifacts", "show", digest, "--json"))["facts"]
    assert (facts["signed"], facts["sbom"], facts["provenance"]) == (True, True, True)

    said, job = begun.dispatch("staging", "staging", "jobs/deploy.sh", "staging", digest, code=1)
    assert job["reason"] == "exit_nonzero", said  # admitted, and then nobody has granted it a token yet
    assert "trust_no_grant" in said

    said, job = begun.dispatch("prod", "release", "jobs/deploy.sh", "prod", digest, code=1)
    assert (job["result"], job["ticket"]) == ("denied", "REL-7")

    said, job = begun.dispatch("stray", "default", "jobs/deploy.sh", "staging", digest, code=1)
    assert "trust_tier_too_low" in {reason["code"] for reason in job["decisions"][0]["reasons"]}

    wrong = begun.folder / "wrong"
    wrong.write_text("not-a-token")
    url = json.loads((begun.state / "daemon.json").read_text())["url"]
    told = {"ORCHESTRATOR_URL": url, "TOKEN_FILE": str(wrong)}
    assert "token_malformed" in begun.run("./dispatch", "build", "build", "jobs/build.sh", code=1, **told)
