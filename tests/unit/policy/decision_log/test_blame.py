"""What a digest stands for: kept bundles, commits of a real repository, and the jobs that were decided under it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from orchestrator.policy.decision_log import bundles
from orchestrator.policy.decision_log.blame import digests_like, uses_of
from orchestrator.policy.decision_log.bundles import BundleArchive, Load
from orchestrator.policy.decision_log.commits import History, HistoryUnreadableError
from orchestrator.policy.decision_log.reading import Window
from orchestrator.policy.files import belongs, read_bundle

from .conftest import rules, write_rules

EVER = Window(0, 1 << 62)


def loaded(digest: str, before: str = "") -> Load:
    return Load("2026-11-22T10:00:00.000000000Z", digest, "daemon", "/policies", before, "1")


def test_a_bundle_is_kept_whole(tmp_path):
    archive = BundleArchive(tmp_path / "bundles")
    assert (archive.loads(), archive.read(rules().digest)) == ([], None)
    first, second = rules(), rules(closed=("prod",))
    archive.keep(first, loaded(first.digest))
    archive.keep(second, loaded(second.digest, first.digest))
    archive.keep(first, loaded(first.digest, second.digest))
    assert [load.digest for load in archive.loads()] == [first.digest, second.digest, first.digest]
    assert archive.read(second.digest) == second.contents
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "bundles").iterdir()} == {0o600}


def test_a_changed_one_is_not_believed(tmp_path):
    archive = BundleArchive(tmp_path)
    first, second = rules(), rules(closed=("prod",))
    archive.keep(first, loaded(first.digest))
    archive.keep(second, loaded(second.digest))
    one, other = (tmp_path / f"sha256-{bundle.digest[7:]}.json.z" for bundle in (first, second))
    one.write_bytes(other.read_bytes())
    assert archive.read(first.digest) is None
    one.write_bytes(b"no zlib")
    assert archive.read(first.digest) is None
    assert archive.read("../../etc/passwd") is None


def test_old_ones_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "MAX_LOADS", 2)
    archive = BundleArchive(tmp_path)
    made = [rules(closed=(name,)) for name in "abc"]
    for bundle in made:
        archive.keep(bundle, loaded(bundle.digest))
    assert [load.digest for load in archive.loads()] == [bundle.digest for bundle in made[1:]]
    assert [archive.read(bundle.digest) is not None for bundle in made] == [False, True, True]


def test_what_was_decided_under_it(deciding, keep, folder):
    first = deciding.bundle
    for number in range(4):
        deciding.decide(f"j{number}", environment="prod" if number % 2 else "")
    deciding.decide("j1", environment="prod")
    deciding.bundle = rules(closed=("prod",))
    deciding.decide("j9", environment="prod")
    keep(deciding.heard)
    report = uses_of(folder, first.digest, EVER).as_json()
    assert report["decisions"] == {"allow": 5}
    assert report["environments"] == {"": {"allow": 2}, "prod": {"allow": 3}}
    assert {job["job_id"]: job["released"] for job in report["jobs"]} == {
        "dispatch.j0.1": False,
        "dispatch.j1.1": True,
        "dispatch.j2.1": False,
        "dispatch.j3.1": True,
    }
    report = uses_of(folder, deciding.bundle.digest, EVER).as_json()
    assert (report["decisions"], [job["released"] for job in report["jobs"]]) == ({"deny": 1}, [False])
    assert uses_of(folder, "sha256:" + "0" * 64, EVER).as_json()["decisions"] == {}


def test_beginnings_of_digests():
    known = ["sha256:aab", "sha256:aac", "sha256:bbb"]
    assert digests_like("sha256:aa", known) == known[:2]
    assert digests_like("b", known) == known[2:]


class Repository:
    """A real one, with a bundle in a folder of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "team" / "policies"
        root.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *words: str) -> str:
        who = ("-c", "user.name=Ada", "-c", "user.email=ada@acme.example", "-c", "commit.gpgSign=false")
        done = subprocess.run(["git", *who, *words], cwd=self.root, capture_output=True, check=True, text=True)
        return done.stdout.strip()

    def commit(self, message: str, *words: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message, *words)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path) -> Repository:
    return Repository(tmp_path / "repository")


def test_the_commit_that_gave_it(repository):
    first, second = rules(), rules(closed=("prod",))
    write_rules(repository.folder, first)
    (repository.root / "README.md").write_text("other things\n")
    began = repository.commit("Rules\n\nThe first ones.")
    write_rules(repository.folder, second)
    (repository.folder / "README.md").write_text("no part of the bundle\n")
    (repository.folder / ".hidden").mkdir()
    (repository.folder / ".hidden" / "more.rego").write_text("neither is this")
    closed = repository.commit("Close prod\n\nBecause of incident 7.", "--author=Eve <eve@acme.example>")
    (repository.root / "README.md").write_text("nothing to do with it\n")
    (repository.folder / "README.md").write_text("nor this\n")
    repository.commit("Words")
    history = History(repository.folder)
    found = history.find(second.digest)
    assert found is not None
    assert (found.id, found.author, found.committer) == (closed, "Eve <eve@acme.example>", "Ada <ada@acme.example>")
    assert found.subject == "Close prod"
    assert found.message == "Close prod\n\nBecause of incident 7."
    assert found.files == ("~data.json",)
    assert found.committed_at.startswith("20")
    found = history.find(first.digest)
    assert found is not None
    assert (found.id, found.files) == (began, ("+data.json", "+decision.rego", "+decision_test.rego"))
    assert history.find(rules(closed=("x",)).digest) is None


def test_rules_that_came_back_are_blamed_on_who_brought_them_back(repository):
    for closed, message in ((), "open"), (("prod",), "close"), ((), "open again"):
        write_rules(repository.folder, rules(closed=closed))
        repository.commit(message)
    found = History(repository.folder).find(rules().digest)
    assert found is not None
    assert found.subject == "open again"


def test_a_merge_and_a_removed_file(repository):
    write_rules(repository.folder, rules())
    (repository.folder / "more.rego").write_text("package more\n\nx := 1\n")
    repository.commit("two files")
    repository.git("checkout", "--quiet", "-b", "side")
    (repository.folder / "more.rego").unlink()
    removed = repository.commit("one file less")
    repository.git("checkout", "--quiet", "main")
    (repository.root / "README.md").write_text("words\n")
    repository.commit("words")
    repository.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
    found = History(repository.folder).find(read_bundle(repository.folder).digest)
    assert found is not None
    assert (found.id, found.files) == (removed, ("-more.rego",))


def test_no_program_of_the_repository_is_started(repository, tmp_path):
    write_rules(repository.folder, rules())
    repository.commit("rules")
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for key in ("core.fsmonitor", "gpg.program", "core.pager", "diff.external"):
        repository.git("config", key, str(trap))
    repository.git("config", "log.showSignature", "true")
    assert History(repository.folder).find(rules().digest) is not None
    assert not (tmp_path / "sprung").exists()


def test_a_folder_without_history(tmp_path):
    with pytest.raises(HistoryUnreadableError, match="git knows no history") as refused:
        History(write_rules(tmp_path / "policies", rules()))
    assert "--repository" in refused.value.fix
    with pytest.raises(HistoryUnreadableError):
        History(tmp_path / "none")


@pytest.mark.parametrize("path", ["a.rego", "sub/a_test.rego", "data.json", "sub/data.yaml", "sub/deep/a.rego"])
def test_what_belongs_to_a_bundle_is_what_is_read(tmp_path, path):
    """The commits' view and the daemon's must be one, or digests would differ."""
    write_rules(tmp_path, rules())
    for name in (path, ".hidden.rego", ".git/x.rego", "sub/.x/data.json", "README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}" if "data" in name else "package x\n")
    here = [one for one in tmp_path.rglob("*") if one.is_file()]
    names = [one.relative_to(tmp_path).as_posix() for one in here]
    if path == "data.json":
        assert belongs(path)
    assert {name for name in names if belongs(name)} == set(read_bundle(tmp_path).files)
