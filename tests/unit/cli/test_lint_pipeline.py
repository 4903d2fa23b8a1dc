"""`orchestrator policy lint-pipeline`: files and folders, three ways to print, exit codes."""

from __future__ import annotations

import json

import pytest

BAD = "on: push\npermissions: {}\njobs:\n  a:\n    steps:\n      - run: curl https://x | sh\n"
GOOD = "on: push\npermissions: {}\njobs:\n  a:\n    steps:\n      - run: make\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "bad.yml").write_text(BAD)
    (tmp_path / "flows" / "good.yaml").write_text(GOOD)
    (tmp_path / "flows" / "notes.txt").write_text("no pipeline")
    return tmp_path / "flows"


def test_a_folder_is_looked_through(cli, folder):
    done = cli("policy", "lint-pipeline", str(folder))
    assert done.exit_code == 1
    assert f"{folder}/bad.yml:6: [fetched_and_run]" in done.stdout
    assert done.stdout.endswith("1 found\n")
    clean = cli("policy", "lint-pipeline", str(folder / "good.yaml"))
    assert (clean.exit_code, clean.stdout) == (0, "nothing found\n")
    assert cli("policy", "lint-pipeline", str(folder), "--ignore", "fetched_and_run").exit_code == 0


def test_for_programs_and_for_pull_requests(cli, folder):
    done = cli("policy", "lint-pipeline", str(folder), "--format", "json")
    (finding,) = json.loads(done.stdout)["findings"]
    assert (finding["file"], finding["line"], finding["code"]) == (str(folder / "bad.yml"), 6, "fetched_and_run")
    done = cli("policy", "lint-pipeline", str(folder), "--format", "github")
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"::error file={folder}/bad.yml,line=6,title=fetched_and_run::what is fetched")


def test_what_cannot_be_read_is_an_error_and_does_not_hide_the_rest(cli, folder):
    (folder / "broken.yml").write_text("a: [")
    done = cli("policy", "lint-pipeline", str(folder))
    assert done.exit_code == 2
    assert "broken.yml" in done.stderr
    assert "fetched_and_run" in done.stdout
    assert cli("policy", "lint-pipeline", str(folder / "nowhere.yml")).exit_code == 2
    (folder / "empty").mkdir()
    assert cli("policy", "lint-pipeline", str(folder / "empty")).exit_code == 2
