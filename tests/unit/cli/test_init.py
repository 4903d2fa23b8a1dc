"""A starting point is whole, closed and passes its own checks; what is there is never overwritten; it ages visibly."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from typer.testing import CliRunner

from orchestrator.cli import check_config
from orchestrator.cli.jobs.jobfile import read_jobs
from orchestrator.cli.main import app
from orchestrator.cli.starting_point import files as starting_files
from orchestrator.cli.starting_point.files import Backend, Choices, Platform, files_of
from orchestrator.cli.starting_point.stamp import STAMP, Standing, read_stamp, standing
from orchestrator.cli.trust import commands as trust
from orchestrator.evidence.approvals.people import read_people
from orchestrator.identity.trust.trust_map import TrustMap
from orchestrator.policy.bundle import default_bundle
from orchestrator.policy.files import read_bundle
from orchestrator.settings import Settings, load_settings

EVERY = tuple(Platform)
CHOICES = [
    Choices(),
    *(Choices(Backend.SANDBOX, (one,), "https://runners.acme.example") for one in EVERY),
    Choices(Backend.SANDBOX, EVERY),
    Choices(Backend.KUBERNETES, EVERY, "https://runners.acme.example"),
]


def shown(choices: Choices) -> str:
    return f"{choices.backend}-{'-'.join(choices.platforms)}"


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """A starting point in the current folder, as its own README has it used."""

    def make(choices: Choices = CHOICES[0]) -> Path:
        folder = tmp_path / "runners"
        words = [word for one in choices.platforms for word in ("--ci", one)]
        done = run("init", folder, "--backend", choices.backend, "--url", choices.url, *words)
        assert done.exit_code == 0, done.stderr
        monkeypatch.chdir(folder)
        return folder

    return make


@pytest.fixture(scope="module", params=CHOICES, ids=shown)
def chosen(request, tmp_path_factory):
    """Each set of choices, and the folder that was written from it."""
    folder = tmp_path_factory.mktemp("chosen") / "runners"
    words = [word for one in request.param.platforms for word in ("--ci", one)]
    assert run("init", folder, "--backend", request.param.backend, "--url", request.param.url, *words).exit_code == 0
    return request.param, folder


def loaded(folder: Path) -> Settings:
    """The settings, with every check that the daemon makes when it starts, but those of the policy."""
    settings = load_settings(folder / "orchestrator.yaml")
    check_config._try_trust_map(settings)
    return settings


def test_all_of_it_fits_together(chosen, monkeypatch):
    choices, folder = chosen
    monkeypatch.chdir(folder)
    settings = loaded(folder)
    assert settings.server.public_url == choices.url
    assert [one.backend for one in settings.pools] == [choices.backend] * 5
    assert len(settings.callers) == len(choices.callers)
    assert check_config._try_trust_map(settings) == []
    trust_map = TrustMap.load([folder / "trust"])
    assert trust._summary(trust_map)["warnings"] == []
    assert read_people(settings.approvals.people).by_name == {}
    assert (folder / settings.approvals.objects[0]).is_dir()
    assert read_bundle(folder / "policy").digest == read_bundle(default_bundle()).digest
    left = [path for path in folder.rglob("*") if path.is_file() and "@@" in path.read_text(encoding="utf-8")]
    assert left == []


def test_pools_are_by_tier_and_what_nobody_chose_is_granted_nothing(begin):
    pools = {pool.name: pool for pool in loaded(begin()).pools}
    tiers = {name: pool.trust_tier for name, pool in pools.items()}
    assert tiers == {
        "default": "untrusted", "build": "standard", "scan": "standard", "staging": "standard", "release": "protected"
    }  # fmt: skip
    assert not any(pool.egress for pool in pools.values())
    assert all(pool.require_egress_proof for pool in pools.values())


def test_nobody_is_let_in_before_somebody_is_named(chosen, monkeypatch):
    """Every door asks for an id that nobody has, and every grant too."""
    choices, folder = chosen
    monkeypatch.chdir(folder)
    for caller in loaded(folder).callers:
        assert set(caller.require.values()) & {"0", "00000000-0000-0000-0000-000000000000"}
        assert caller.audience == (choices.url or "https://runners.example")
    grants = [one for document in TrustMap.load([folder / "trust"]).documents for one in document.grants]
    able = [one for one in choices.callers if one is not Platform.BUILDKITE]
    assert len(grants) == len(choices.callers) + len(able)
    for grant in grants:
        [repository] = [pin for pin in grant.pins if pin.claim == "repository_id"]
        assert set(repository.values) <= {"0", "00000000-0000-0000-0000-000000000000"}
        assert "caller_issuer" in {pin.claim for pin in grant.pins}


def test_pipelines_are_well_formed_and_pin_what_they_use(chosen):
    choices, folder = chosen
    for path in [*folder.glob("pipelines/*.yml"), *folder.glob("checks/*.yml")]:
        text = path.read_text(encoding="utf-8")
        assert isinstance(yaml.safe_load(text), dict)
        for used in re.findall(r"uses: *(\S+)", text):
            assert re.fullmatch(r"\S+@[0-9a-f]{40}", used), f"{path.name}: {used} can be moved"
        for image in re.findall(r"image: *(\S+)", text):
            assert "@sha256:" in image, f"{path.name}: {image} can be moved"
        assert not re.search(r"curl[^\n]*\| *(ba)?sh", text)
        assert "secrets." not in text
    assert {path.stem for path in folder.glob("pipelines/*.yml")} == {str(one) for one in choices.platforms}


def test_what_is_commented_out_fits_when_it_is_not(begin):
    """The blocks for GitHub's queue, for commits and for tickets."""
    folder = begin(Choices(Backend.SANDBOX, (Platform.GITHUB,)))
    text = (folder / "orchestrator.yaml").read_text(encoding="utf-8")
    text = re.sub(r"^# (github:|  (?:- |  )\S.*)$", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"^  # (commits:|tickets:|  \S)", r"  \1", text, flags=re.MULTILINE)
    (folder / "orchestrator.yaml").write_text(text)
    settings = load_settings(folder / "orchestrator.yaml")
    assert [one.name for one in settings.github] == ["github"]
    assert settings.promotion.commits.sources == ("github",)
    assert settings.promotion.tickets.token_file == Path("/etc/orchestrator/tracker-token")


def test_every_command_that_is_named_exists(begin):
    folder = begin(Choices(Backend.KUBERNETES, EVERY))
    named = set()
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".rego":
            named |= set(re.findall(r"\borchestrator ((?:[a-z][a-z-]* ?)+)", path.read_text(encoding="utf-8")))
    assert len(named) > 8
    for words in named:
        group: Any = typer.main.get_command(app)
        for word in words.split():
            if not hasattr(group, "commands"):
                break
            assert word in group.commands, words
            group = group.commands[word]


def test_the_trial_pipeline_is_one_for_submit(begin):
    [job] = read_jobs(begin() / "pipelines" / "dispatch.yml")
    assert (job["name"], job["pool"], job["pipeline"]) == ("build", "build", "trial")
    assert "orchestrator-artifact app.txt" in job["script"]


@pytest.mark.parametrize("name", ["check", "dispatch", "jobs/build.sh", "jobs/scan.sh", "jobs/deploy.sh"])
def test_scripts_are_shell(begin, name):
    path = begin() / name
    assert subprocess.run(["/bin/sh", "-n", str(path)], check=False).returncode == 0
    assert (path.stat().st_mode & 0o111 != 0) is ("/" not in name)


def test_a_cluster_can_be_rendered_from_it(begin, tmp_path):
    begin(Choices(Backend.KUBERNETES, (Platform.GITHUB,), "https://runners.acme.example"))
    done = run("manifests", "--config", "orchestrator.yaml", "--output", tmp_path / "cluster")
    assert done.exit_code == 0, done.stderr
    assert {path.stem for path in (tmp_path / "cluster").glob("pool-*")} == {
        f"pool-{name}" for name in ("default", "build", "scan", "staging", "release")
    }


def test_equal_choices_give_equal_bytes():
    for choices in CHOICES:
        assert files_of(choices) == files_of(choices)


def test_nothing_is_overwritten(begin, tmp_path):
    folder = begin()
    (folder / "orchestrator.yaml").write_text("mine\n")
    again = run("init", folder, "--ci", "github")
    assert again.exit_code == 1
    assert "nothing was written" in again.stderr
    assert (folder / "orchestrator.yaml").read_text() == "mine\n"
    assert not (folder / "pipelines" / "github.yml").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "check").symlink_to("/etc/passwd")
    assert run("init", other).exit_code == 1
    assert not (other / "README.md").exists()
    (other / "check").unlink()
    (other / "jobs").symlink_to(tmp_path)
    linked = run("init", other)
    assert linked.exit_code == 1
    assert f"{other / 'jobs'} is a link" in linked.stderr
    assert sorted(path.name for path in other.iterdir()) == ["jobs"]


@pytest.mark.parametrize(
    "url", ["runners.example", "https://x'; rm -rf /", 'https://x"', "https://x/$(id)", "https://a b"]
)
def test_an_address_that_could_break_out_of_a_file_is_refused(tmp_path, url):
    done = run("init", tmp_path / "x", "--url", url)
    assert done.exit_code == 2
    assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    done = run("init", tmp_path / "file" / "x")
    assert done.exit_code == 1
    assert "cannot write" in done.stderr


# --- later versions ---


@pytest.fixture
def upgraded(begin, monkeypatch):
    """A folder of which the program has another `check`, another `jobs/scan.sh` and one file more by now; its people
    have changed `jobs/scan.sh` and `orchestrator.yaml`, and taken `jobs/deploy.sh` away."""
    folder = begin()
    before = files_of(read_stamp(folder).choices)
    newer = {
        **before,
        "check": starting_files.StartingFile(b"#!/bin/sh\n# newer\n", executable=True),
        "jobs/scan.sh": starting_files.StartingFile(b"# newer\n"),
        "jobs/sign.sh": starting_files.StartingFile(b"# one more\n"),
    }
    monkeypatch.setattr(starting_files, "files_of", lambda _choices: newer)
    for name in ("jobs/scan.sh", "orchestrator.yaml"):
        (folder / name).write_text("mine\n")
    (folder / "jobs" / "deploy.sh").unlink()
    return folder, newer


def test_what_has_become_of_each_file(upgraded):
    folder, newer = upgraded
    found = standing(folder, read_stamp(folder), newer)
    told = {name: how for name, how in found.items() if how is not Standing.CURRENT}
    assert told == {
        "check": Standing.STALE, "jobs/scan.sh": Standing.BOTH, "jobs/sign.sh": Standing.NEW,
        "jobs/deploy.sh": Standing.GONE, "orchestrator.yaml": Standing.YOURS,
    }  # fmt: skip
    checked = run("init", folder, "--check")
    assert checked.exit_code == 1
    assert "check: stale" in checked.stderr
    assert "jobs/scan.sh: changed here and" in checked.stderr
    assert not (folder / "jobs" / "sign.sh").exists()


def test_an_update_writes_only_what_nobody_has_changed(upgraded):
    folder, newer = upgraded
    done = run("init", folder, "--update", "--json")
    assert done.exit_code == 1  # one file has to be compared by hand
    assert json.loads(done.stdout)["files"]["jobs/scan.sh"] == "both"
    assert (folder / "check").read_bytes() == newer["check"].content
    assert (folder / "check").stat().st_mode & 0o111
    assert (folder / "jobs" / "sign.sh").exists()
    assert (folder / "jobs" / "scan.sh").read_text() == (folder / "orchestrator.yaml").read_text() == "mine\n"
    assert not (folder / "jobs" / "deploy.sh").exists()
    again = standing(folder, read_stamp(folder), newer)
    assert again["check"] is again["jobs/sign.sh"] is Standing.CURRENT
    assert again["jobs/scan.sh"] is Standing.YOURS  # it was told; from here on it is theirs
    assert again["jobs/deploy.sh"] is Standing.GONE


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"template": 1}', b"x" * (2 << 20)])
def test_a_folder_that_was_not_written_by_init(tmp_path, content):
    if content is not None:
        (tmp_path / STAMP).write_bytes(content)
    done = run("init", tmp_path, "--check")
    assert done.exit_code == 1
    assert STAMP in done.stderr


def test_check_and_update_exclude_each_other(tmp_path):
    assert run("init", tmp_path, "--check", "--update").exit_code == 2


def test_the_templates_are_part_of_the_package():
    found = subprocess.run(
        [sys.executable, "-c", "from orchestrator.cli.starting_point.files import *; print(len(files_of(Choices())))"],
        capture_output=True, text=True, check=True, cwd="/",
    )  # fmt: skip
    assert int(found.stdout) == len(files_of(Choices()))
