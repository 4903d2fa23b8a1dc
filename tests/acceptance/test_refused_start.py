"""What the daemon does not start with: it says what is wrong and what to do, ends with 1, and changes nothing."""

from __future__ import annotations

import hashlib
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from installation import Installation, NotStartedError
from witness import GATE, Witness

GATED = "visit started\nvisit gate\nvisit done\n"


async def refused(here: Installation) -> str:
    """Start a daemon that must not start; its words."""
    with pytest.raises(NotStartedError) as refusal:
        await here.start()
    assert refusal.value.code == 1, refusal.value.said
    assert "Traceback" not in refusal.value.said
    assert "fix: " in refusal.value.said, refusal.value.said
    return refusal.value.said


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def used(here: Installation, witness: Witness) -> Path:
    """Run one job on the installation, and stop; its journal."""
    witness.open_gate()
    await here.start()
    job_id = await here.dispatch("before", GATED)
    assert (await here.finished(job_id))["result"] == "success"
    assert await here.stop() == 0
    return here.state / "journal.db"


def middle_overwritten(journal: Path) -> None:
    with journal.open("r+b") as file:
        file.seek(5000)
        file.write(b"\xa5" * 12000)


def cut_short(journal: Path) -> None:
    with journal.open("r+b") as file:
        file.truncate(6000)


@pytest.mark.sandbox
@pytest.mark.slow
async def test_a_journal_that_is_damaged_or_of_a_newer_version(
    here: Installation, witness: Witness, tmp_path: Path
) -> None:
    journal = await used(here, witness)
    sound = tmp_path / "sound"
    shutil.copyfile(journal, sound)
    for damage in (middle_overwritten, cut_short):
        shutil.copyfile(sound, journal)
        damage(journal)
        before = digest(journal)
        said = await refused(here)
        assert "[journal_corrupt]" in said, damage.__name__
        assert str(journal) in said
        assert "backup" in said, "the way out is named"
        assert digest(journal) == before, "the file is kept as it is"
        assert await here.left() == []

    shutil.copyfile(sound, journal)
    with closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute("UPDATE meta SET value = 99 WHERE key = 'version'")
    before = digest(journal)
    said = await refused(here)
    assert "[journal_newer]" in said
    assert "version 99" in said
    assert "start the version that wrote this journal again, or a later one" in said
    assert "orchestrator restore --aside FILE" in said
    assert digest(journal) == before

    shutil.copyfile(sound, journal)
    await here.start()
    (job_id,) = here.accepted
    assert (await here.job(job_id))["result"] == "success", "with the backup in its place everything is there again"
    assert await here.stop() == 0


async def test_a_state_folder_that_others_can_read(here: Installation) -> None:
    here.state.mkdir(mode=0o755)
    said = await refused(here)
    assert "[state_dir_unusable]" in said
    assert f"chmod 700 {here.state}" in said
    assert list(here.state.iterdir()) == []


BAD_SETTINGS = [
    ({"sevrer": {"port": 1}}, "sevrer"),
    ({"server": {"prot": 1}}, "server.prot"),
    ({"server": {"port": 70000}}, "server.port"),
    ({"pools": [{"name": "a"}, {"name": "a"}]}, "pools"),
    ({"pools": [{"name": "a", "backend": "cloud"}]}, "pools.0.backend"),
    ({"pools": [{"name": "a", "egress": [{"host": "https://x"}]}]}, "pools.0.egress.0.host"),
]


@pytest.mark.slow
def test_bad_settings(tmp_path: Path, installed: Callable[..., Installation]) -> None:
    """Each at fault is named by its path with what it must be, all at once, and a value, which may be secret, never."""
    here = installed()
    for settings, field in BAD_SETTINGS:
        here.configure(**settings)
        done = _check(here)
        assert done.returncode == 1, settings
        assert re.search(rf"^  {re.escape(field)}: \S", done.stderr, re.MULTILINE), done.stderr
        assert str(here.config) in done.stderr
        assert "fix: " in done.stderr
    here.configure(server={"prot": 1, "port": "many"}, logs={"level": "chatty-secret"})
    done = _check(here)
    for words in ("server.prot:", "server.port:", "logs.level:", "'debug', 'info', 'warning' or 'error'"):
        assert words in done.stderr
    assert "chatty-secret" not in done.stderr


def _check(here: Installation) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator", "check-config", "--config", str(here.config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


async def test_the_daemon_refuses_them_too(here: Installation) -> None:
    here.configure(server={"prot": 1})
    assert "server.prot: " in await refused(here)
    assert not here.state.exists()


def test_a_file_that_is_no_yaml(here: Installation) -> None:
    here.config.write_text("server: {port: [\n", encoding="utf-8")
    done = _check(here)
    assert done.returncode == 1
    assert "line 2" in done.stderr


async def test_a_port_that_is_taken(here: Installation, witness: Witness) -> None:
    here.configure(server={"port": witness.port})
    said = await refused(here)
    assert str(witness.port) in said
    assert GATE not in said
