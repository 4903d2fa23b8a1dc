from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.policy import files
from orchestrator.policy.files import read_bundle

Write = Callable[..., Path]


def refused(folder: Path, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match) as caught:
        read_bundle(folder)
    assert caught.value.reason == "policy_unreadable"
    assert caught.value.fix


def test_modules_tests_and_data_are_told_apart(write_bundle: Write) -> None:
    bundle = read_bundle(write_bundle({"deep/more.rego": "package more\n", "README.md": "hello", ".hidden.rego": "no"}))
    assert [module.path for module in bundle.modules] == ["decision.rego", "deep/more.rego"]
    assert [module.path for module in bundle.tests] == ["decision_test.rego"]
    assert json.loads(bundle.data_json) == {"names": ["build"]}


def test_a_data_files_folder_is_its_path(write_bundle: Write) -> None:
    bundle = read_bundle(write_bundle({"limits/prod/data.yaml": "ttl: 5\n", "limits/data.json": '{"x": 1}'}))
    assert bundle.data == {"names": ["build"], "limits": {"prod": {"ttl": 5}, "x": 1}}


def test_the_digest_knows_every_byte_and_name(write_bundle: Write) -> None:
    seen = {read_bundle(write_bundle()).digest}
    for change in (
        {"data.json": '{"names": ["build" ]}'},
        {"decision_test.rego": "package t\n"},
        {"other.rego": "package other\n"},
        {"other.rego": None, "othe.rego": "rpackage other\n"},
    ):
        seen.add(read_bundle(write_bundle(change)).digest)
    assert len(seen) == 5
    assert all(digest.startswith("sha256:") and len(digest) == 71 for digest in seen)


def test_the_digest_does_not_depend_on_where_the_folder_is(write_bundle: Write, tmp_path: Path) -> None:
    folder = write_bundle()
    before = read_bundle(folder).digest
    assert read_bundle(folder.rename(tmp_path / "elsewhere")).digest == before


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1e999}', "finite"),
        ('{"a": 9007199254740993}', "2\\^53"),
        ("[1]", "not an object"),
        ("{", "data.json"),
        ('{"a": ' + "[" * 40 + "]" * 40 + "}", "nested"),
        ('{"a": ' + "[" * 100_000, "data.json"),
    ],
)
def test_unfit_json(write_bundle: Write, text: str, match: str) -> None:
    refused(write_bundle({"data.json": text}), match)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a: 1\na: 2\n", "twice"),
        ("a: .nan\n", "finite"),
        ("a: 2026-01-01\n", "date"),
        ("1: x\n", "quotes"),
        ("a: !!python/object/apply:os.system [id]\n", "python"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("- 1\n", "not an object"),
        ("a: !!binary aGk=\n", "bytes"),
        ("a: [\n", "data.yaml"),
        ("? [1]\n: x\n", "data.yaml"),
    ],
)
def test_unfit_yaml(write_bundle: Write, text: str, match: str) -> None:
    refused(write_bundle({"data.json": None, "data.yaml": text}), match)


def test_an_empty_yaml_file_is_no_data(write_bundle: Write) -> None:
    assert read_bundle(write_bundle({"data.json": None, "data.yaml": "# nothing\n"})).data == {}


def test_one_key_in_two_files(write_bundle: Write) -> None:
    refused(write_bundle({"data.yaml": "names: [x]\n"}), "names")


def test_a_data_file_under_another_name_is_not_silently_ignored(write_bundle: Write) -> None:
    refused(write_bundle({"data.yml": "a: 1\n"}), "ignored")


def test_no_folder_no_policy_not_text(write_bundle: Write, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "No such file")
    refused(write_bundle({"decision.rego": None}), "no policy")
    (tmp_path / "bundle" / "bad.rego").write_bytes(b"\xff\xfe")
    refused(tmp_path / "bundle", "UTF-8")


def test_sizes_are_bounded(write_bundle: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_bundle()
    monkeypatch.setattr(files, "MAX_FILES", 2)
    refused(folder, "more than 2 files")
    monkeypatch.setattr(files, "MAX_FILES", 512)
    monkeypatch.setattr(files, "MAX_BUNDLE_BYTES", 100)
    refused(folder, "larger than 100")
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)
    refused(folder, "larger than 10 bytes")


def test_special_files_and_linked_folders(write_bundle: Write, tmp_path: Path) -> None:
    folder = write_bundle()
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    assert len(read_bundle(folder).modules) == 1
    os.mkfifo(folder / "pipe.rego")
    refused(folder, "regular file")


def test_linked_files_are_read_as_volumes_mount_them(write_bundle: Write, tmp_path: Path) -> None:
    """A mounted ConfigMap is links into a hidden, dated folder."""
    source = write_bundle()
    mount = tmp_path / "mount"
    hidden = mount / "..2026_11_22"
    mount.mkdir()
    source.rename(hidden)
    for name in ("decision.rego", "decision_test.rego", "data.json"):
        (mount / name).symlink_to(hidden / name)
    bundle = read_bundle(mount)
    assert len(bundle.modules) == 1
    assert bundle.data == {"names": ["build"]}
