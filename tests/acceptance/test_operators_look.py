"""What an operator reads of a real daemon: why a job waits, everything at one look, and a bundle without secrets."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from installation import Installation
from witness import GATE, Witness

from orchestrator.journal.redact import variants

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

GATED = "visit started\nvisit gate\nvisit done\n"
SECRETS = {
    "environment": "vq7-given-by-the-jobs-author-9",
    "script": "vq7-written-into-the-script-9",
    "output": "vq7-printed-by-the-job-9",
}


def read(path: Path) -> dict[str, str]:
    """The documents of a bundle, by their names."""
    found: dict[str, str] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            found[member.name.partition("/")[2]] = file.read().decode()
    return found


async def test_why_top_pools_and_activity(here: Installation, witness: Witness) -> None:
    here.configure(capacity=1)
    await here.start()
    running = await here.dispatch("running", GATED)
    await witness.told(running, GATE)
    line = [await here.dispatch(f"waiting-{number}", "exit 3") for number in range(2)]
    for job_id in line:
        await here.until(job_id, lambda view: view["wait"])

    told = await here.command("why", line[1])
    assert told.code == 0, told.err
    assert "1 of 1 place is taken, and 1 job is before it in the line" in told.out
    answer = json.loads((await here.command("why", line[0], "--json")).out)
    assert (answer["reason"], answer["pool"]["before"]) == ("pool_full", 0)
    assert answer["since"] < answer["gives_up_at"]
    assert "The job is running, for at most" in (await here.command("why", running)).out
    seen = await here.command("top", "--once")
    assert seen.code == 0, seen.err
    assert "2 more" not in seen.out
    states = [
        words[0] for words in map(str.split, seen.out.splitlines()) if words and words[0] in ("running", "waiting")
    ]
    assert states == ["running", "waiting", "waiting"]
    assert "1 of 1" in (await here.command("pools")).out

    witness.open_gate()
    await here.finished(line[1])
    assert "The job failed: the job exited with code 3." in (await here.command("why", line[1])).out
    happened = json.loads((await here.command("activity", "--json")).out)["items"]
    assert {"decision", "egress", "receipt"} <= {item["kind"] for item in happened}
    assert {item["job_name"] for item in happened} >= {"running", "waiting-0", "waiting-1"}
    assert await here.stop() == 0


async def test_a_bundle_with_and_without_the_daemon_has_no_secret(here: Installation, tmp_path: Path) -> None:
    await here.start()
    script = f"# {SECRETS['script']}\necho {SECRETS['output']}\necho $GIVEN\nexit 3\n"
    job_id = await here.dispatch("red", script, environment={"GIVEN": SECRETS["environment"]})
    await here.finished(job_id)
    token = (here.state / "caller-token").read_text().strip()
    with_daemon, without = tmp_path / "with.tar.gz", tmp_path / "without.tar.gz"
    first = await here.command("support-bundle", "--config", str(here.config), "--output", str(with_daemon))
    assert first.code == 0, first.err
    keys = [path.read_text("utf-8", "replace") for path in (here.state / "keys").rglob("*") if path.is_file()]
    assert await here.stop() == 0
    second = await here.command("support-bundle", "--config", str(here.config), "--output", str(without))
    assert second.code == 0, second.err
    lines = [
        line
        for text in keys
        for line in text.replace("\\n", "\n").splitlines()
        if len(line) > 40 and '"kid"' not in line
    ]
    assert len(lines) > 20
    for path in (with_daemon, without):
        found = read(path)
        whole = "\n".join(found.values())
        for secret in (*SECRETS.values(), token, *lines):
            assert not [form for form in variants(secret.encode()) if form.decode("ascii", "replace") in whole]
        assert json.loads(found[f"jobs/{job_id}/why.json"])["reason"] == "exit_nonzero"
        assert json.loads(found["journal/counts.json"])["finished"] == {"failure exit_nonzero": 1}
        assert json.loads(found["settings.json"])["settings"]["pools"]
    assert "orchestrator_" in read(with_daemon)["daemon/metrics.txt"]
    assert json.loads(read(with_daemon)["daemon/overview.json"])["counts"]
    assert "daemon/metrics.txt" not in read(without)
