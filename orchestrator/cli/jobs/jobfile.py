"""A job file: one job, or a pipeline of several, in YAML. Read strictly, bounded, with the place of each fault.

One job has the keys of `POST /v1/jobs`, with `script_file` (relative to the job file) in place of `script` where
wanted. A pipeline has `pipeline: NAME` and `jobs:`, a list of such jobs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.cli.exits import UsageError

_MAX_FILE_BYTES = 4 << 20
_MAX_JOBS = 500
_DEPLOYS = ("deployment_environment", "artifact_digest", "ticket")
_TEXTS = ("name", "pool", "script", "script_file", "pipeline", *_DEPLOYS)
_TABLES = ("environment", "claimed")
_KEYS = frozenset({*_TEXTS, *_TABLES, "timeout_seconds", "secrets"})

Job = dict[str, Any]


def read_jobs(path: Path) -> list[Job]:
    """The jobs of a file as bodies of `POST /v1/jobs`; `-` reads standard input.

    Raises:
        UsageError: the file cannot be read, is no YAML, or says something twice or that no job has.
    """
    import yaml

    from orchestrator import strict_yaml

    try:
        document = strict_yaml.load(read_text(path))
    except yaml.YAMLError as error:
        raise UsageError(f"{path} {strict_yaml.describe(error)}") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path} must hold a job (name, script, …) or a pipeline (pipeline, jobs)")
    folder = Path() if str(path) == "-" else path.parent
    if "jobs" not in document:
        return [_job(document, folder, str(path))]
    unknown = sorted(str(key) for key in document if key not in ("pipeline", "jobs"))
    if unknown:
        raise UsageError(f"{path}: a pipeline has no key {', '.join(unknown)}", fix="it has pipeline and jobs")
    entries = document["jobs"]
    if not isinstance(entries, list) or not 1 <= len(entries) <= _MAX_JOBS:
        raise UsageError(f"{path}: jobs must be a list of 1 to {_MAX_JOBS} jobs")
    jobs = [_job(entry, folder, f"{path}: job {number}") for number, entry in enumerate(entries, 1)]
    pipeline = document.get("pipeline", "")
    if not isinstance(pipeline, str):
        raise UsageError(f"{path}: pipeline must be a text")
    return [{"pipeline": pipeline, **job} if pipeline else job for job in jobs]


def read_text(path: Path) -> str:
    """A UTF-8 file of bounded size, or standard input for `-`.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        if str(path) == "-":
            content = sys.stdin.buffer.read(_MAX_FILE_BYTES + 1)
        else:
            with path.open("rb") as file:
                content = file.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise UsageError(f"{path} is larger than {_MAX_FILE_BYTES} bytes")
        return content.decode()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", fix="check the path and its permissions") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text") from None


def _job(entry: object, folder: Path, where: str) -> Job:
    if not isinstance(entry, Mapping):
        raise UsageError(f"{where} must be a mapping with name and script")
    unknown = sorted(str(key) for key in entry if key not in _KEYS)
    if unknown:
        raise UsageError(f"{where}: unknown key {', '.join(unknown)}", fix=f"known are {', '.join(sorted(_KEYS))}")
    job: Job = {}
    for key, value in entry.items():
        if key in _TEXTS and not isinstance(value, str):
            raise UsageError(f"{where}: {key} must be a text", fix="put it in quotes")
        job[key] = _table(value, f"{where}: {key}") if key in _TABLES else value
    seconds = job.get("timeout_seconds", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        raise UsageError(f"{where}: timeout_seconds must be a whole number")
    if not isinstance(job.get("secrets", []), list) or not all(isinstance(one, str) for one in job.get("secrets", [])):
        raise UsageError(f"{where}: secrets must be a list of names", fix="secrets: [NAME]")
    if "script_file" in job:
        if "script" in job:
            raise UsageError(f"{where}: give script or script_file, not both")
        job["script"] = read_text(folder / job.pop("script_file"))
    return job


def _table(value: object, where: str) -> dict[str, str]:
    """YAML reads `1` and `true` as what they are; a variable is a text, so guessing is left to the author."""
    if not isinstance(value, Mapping):
        raise UsageError(f"{where} must be a mapping of texts")
    for key, text in value.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise UsageError(f"{where}.{key} must be a text", fix="put it in quotes")
    return dict(value)
