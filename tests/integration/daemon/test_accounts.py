"""Secrets, inventory and scorecard by the command line, against the program itself."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app

from .conftest import Program
from .test_static_secrets import VALUE, Site

SCRIPT = 'cat "$REGISTRY_KEY_FILE" > /dev/null; printf x > app; orchestrator-artifact app'

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


class Shell:
    """The command line beside a running daemon; what it prints is looked through for values."""

    def __init__(self, program: Program) -> None:
        self._state = program.folder / "state"
        self.said = ""

    def run(self, *words: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["--state-dir", str(self._state), *words])
        assert done.exit_code == code, done.output
        self.said += done.output
        return done.output

    def json(self, *words: str) -> dict:
        return json.loads(self.run(*words, "--json"))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_secret_s_whole_life(program, site, tmp_path):
    daemon = program(**site.settings(pipelines=["release"], opens=["the registry of team a"]))
    daemon.start()
    shell = Shell(daemon)
    before = tmp_path / "before.json"
    shell.run("scorecard", "--save", str(before))

    shell.run("submit", "--name", "uses", "--pipeline", "release", "--secret", "registry-key", "--script", SCRIPT)
    [secret] = shell.json("secrets")["secrets"]
    assert (secret["state"], secret["source"], secret["uses"], secret["owner"]) == ("in_use", "file", 1, "team-a")

    assert "has value number 1 (was 0)" in shell.run("secrets", "rotate", "registry-key")
    daemon.until(lambda: len(site.works) == 1)
    [secret] = shell.json("secrets")["secrets"]
    assert (secret["source"], secret["number"], secret["old_values"]) == ("kept", 1, 0)

    (site.place / "how").write_text("fail")
    assert "secret_hook_failed" in shell.run("secrets", "rotate", "registry-key", code=1)
    [secret] = shell.json("secrets")["secrets"]
    assert (secret["state"], secret["number"], secret["failing"]["step"]) == ("rotating", 1, "make")
    assert "failing" in secret["flags"]

    found = {one["id"]: one for one in shell.json("inventory")["credentials"]}
    assert found["secret registry-key"]["opens"] == ["the registry of team a"]
    assert found["secret registry-key"]["jobs"] == ["pool default", "pipeline release"]
    assert {"key file evidence/evidence.pem", "key file audit", "caller token"} <= found.keys()
    assert any(name.startswith("issuer key ") and one["state"] == "active" for name, one in found.items())
    risks = [one["risk"] for one in found.values()]
    assert risks == sorted(risks, reverse=True)
    assert next(iter(found)) == "secret registry-key"

    report = tmp_path / "card.md"
    told = shell.run("scorecard", "--baseline", str(before), "--report", str(report))
    assert "Registered static secrets" in told
    assert "## Checklist" in report.read_text()
    card = shell.json("scorecard")
    assert card["policy_coverage"]["pools"]["default"]["provenance_share"] == 1
    assert (card["artifact_traceability"]["builds"], card["secret_age"]["failing"]) == (1, 1)
    assert [point["state"] for point in card["checklist"]][7] == "unmet"
    shell.run("scorecard", "--strict", code=1)

    (site.place / "how").write_text("")
    shell.run("secrets", "retire", "--pipeline", "release", "--yes")
    assert site.works == []
    [secret] = shell.json("secrets")["secrets"]
    assert (secret["state"], secret["left"]) == ("removed", "")
    refused = shell.run(
        "submit", "--name", "late", "--pipeline", "release", "--secret", "registry-key", "--script", "true", code=11
    )
    assert "secret_not_allowed" in refused
    assert "secret_retired" in shell.run("secrets", "rotate", "registry-key", code=1)
    assert "secret_unknown" in shell.run("secrets", "rotate", "nobody", code=1)
    assert daemon.end() == 0
    everything = shell.said + daemon.errors.read_text()
    kept = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert VALUE not in everything
    assert VALUE.encode() not in kept


def test_counts_are_there_after_a_restart(program, site):
    daemon = program(**site.settings())
    daemon.start()
    shell = Shell(daemon)
    shell.run("submit", "--name", "uses", "--secret", "registry-key", "--script", SCRIPT)
    daemon.end()
    daemon.start()
    [secret] = shell.json("secrets")["secrets"]
    assert secret["uses"] == 1
    assert secret["last_used_at"]


def test_a_daemon_killed_in_the_middle_of_a_rotation_loses_no_value(program, site):
    daemon = program(**site.settings())
    daemon.start()
    shell = Shell(daemon)
    (site.place / "how").write_text("one behind")  # the place has room for one value, and has the new one by now
    shell.run("secrets", "rotate", "registry-key", "--no-wait")
    daemon.until((site.place / "behind").exists)
    os.kill(daemon.process.pid, signal.SIGKILL)
    daemon.process.wait()
    (daemon.folder / "state" / "daemon.json").unlink()
    daemon.start()
    [new] = site.works
    [secret] = shell.json("secrets")["secrets"]
    assert (secret["state"], secret["number"]) == ("rotating", 0)
    (site.place / "open").touch()
    (site.place / "how").write_text("one")
    daemon.until(lambda: shell.json("secrets")["secrets"][0]["number"] == 1)
    kept = json.loads((daemon.folder / "state" / "secrets" / "registry-key.json").read_text())
    assert kept["current"]["value"] == new
    assert site.works == [new]
