"""Job files are read strictly, and each fault is named with its place."""

from __future__ import annotations

import pytest

from orchestrator.cli.exits import UsageError
from orchestrator.cli.jobs.jobfile import read_jobs


def read(tmp_path, text: str | bytes):
    file = tmp_path / "job.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_jobs(file)


def test_one_job(tmp_path):
    text = "name: a\nscript: |\n  make\nenvironment: {CI: 'true'}\ntimeout_seconds: 60\nclaimed: {ref: main}\n"
    assert read(tmp_path, text) == [
        {
            "name": "a",
            "script": "make\n",
            "environment": {"CI": "true"},
            "timeout_seconds": 60,
            "claimed": {"ref": "main"},
        }
    ]


def test_a_pipeline_names_its_jobs(tmp_path):
    jobs = read(tmp_path, "pipeline: p\njobs: [{name: a, script: x}, {name: b, script: y, pipeline: other}]")
    assert [job["pipeline"] for job in jobs] == ["p", "other"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must hold a job"),
        ("- a", "must hold a job"),
        ("name: [", "line 1"),
        ("name: a\nscirpt: x", "unknown key scirpt"),
        ("name: 1", "name must be a text"),
        ("environment: {A: 1}", "environment.A must be a text"),
        ("environment: [A]", "environment must be a mapping"),
        ("timeout_seconds: 1.5", "whole number"),
        ("timeout_seconds: true", "whole number"),
        ("script: x\nscript_file: y", "not both"),
        ("script_file: missing.sh", "cannot read"),
        ("jobs: []", "list of 1 to"),
        ("jobs: {}", "list of 1 to"),
        ("jobs: [a]", "job 1 must be a mapping"),
        ("pipeline: 1\njobs: [{name: a}]", "pipeline must be a text"),
        ("jobs: [{name: a}]\nstages: []", "no key stages"),
        ("name: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("name: a\nscript: b\nname: c", "line 3, column 1: the key name is given twice"),
        ("name: a\nenvironment: {A: '1', A: '2'}", "the key A is given twice"),
        (b"name: \xff", "not UTF-8"),
        (b"#" * (5 << 20), "larger than"),
    ],
)
def test_faults(tmp_path, text, words):
    with pytest.raises(UsageError, match=words):
        read(tmp_path, text)
