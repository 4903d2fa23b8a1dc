"""Files that came with the work have their paths in variables, in a sandbox and in a pod."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

from orchestrator.agent import job_files
from orchestrator.agent import main as agent
from orchestrator.server.runner.work import secret_variable

KEY = "-----BEGIN KEY-----\nline two of it\n-----END KEY-----\n"
WORK = {
    "job": {
        "id": "dispatch.x.1",
        "script": "",
        "environment": {"REGISTRY_KEY_FILE": "/stolen", "PATH": "/bin"},
    },
    "proxy_url": "http://127.0.0.1:3128",
    "exchange_url": "http://127.0.0.1:3129/runner/v1/token",
    "artifacts_url": "http://127.0.0.1:3129/runner/v1/artifacts",
    "token_file": "/run/orchestrator/token",
    "files": {"registry-key": KEY},
    "file_variables": {"REGISTRY_KEY_FILE": "registry-key"},
}


def test_names_become_variables():
    assert secret_variable("registry-key") == "REGISTRY_KEY_FILE"


def test_in_a_sandbox_the_variable_is_the_agents_and_not_the_jobs_own():
    variables = agent.environment(WORK)
    assert variables["REGISTRY_KEY_FILE"] == "/job/.work/registry-key"
    assert KEY not in variables.values()


def test_no_file_takes_the_identity_away():
    stolen = {**WORK, "file_variables": {"ORCHESTRATOR_TOKEN_FILE": "registry-key"}}
    assert agent.environment(stolen)["ORCHESTRATOR_TOKEN_FILE"] == "/run/orchestrator/token"


def test_in_a_pod_a_shell_reads_it_whole(tmp_path):
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    script = 'cat "$REGISTRY_KEY_FILE"; echo "$REGISTRY_KEY_FILE"'
    work = {**WORK, "job": {**WORK["job"], "script": script}}
    job_files.write(work, "", str(tmp_path), str(workspace))
    done = subprocess.run(["/bin/sh", str(tmp_path / "start")], capture_output=True, text=True, check=True, timeout=20)
    place = tmp_path / "files" / "registry-key"
    assert done.stdout == f"{KEY}{place}\n"
    assert stat.S_IMODE(place.stat().st_mode) == 0o444
    assert KEY.splitlines()[1] not in Path(tmp_path / "start").read_text()
