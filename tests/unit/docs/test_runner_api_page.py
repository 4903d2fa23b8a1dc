"""The examples of the page on the runner API are what both sides take, and its numbers those of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

from orchestrator.agent import github_hook
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.record import Record
from orchestrator.server import schemas
from orchestrator.server.entrance.problems import REASONS, TYPE_PREFIX
from orchestrator.server.runner import handlers as runner_handlers
from orchestrator.server.runner import naming, work_files
from orchestrator.server.runner.work import RunnerEndpoints, work_document
from orchestrator.server.shapes import ProblemView

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "runner-api.md").read_text(encoding="utf-8")
EXAMPLES = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
CLAIM, WORK, REPORT, NAMED, DENIED, DEPLOYMENT, DOCUMENT = EXAMPLES


def test_what_is_sent_is_taken():
    schemas.ClaimRequest.model_validate(CLAIM, strict=True)
    schemas.JobReport.model_validate(REPORT, strict=True)
    schemas.DeploymentRequest.model_validate(DEPLOYMENT, strict=True)


def test_the_work_is_what_goes_out():
    spec = JobSpec("build", PoolName("p"), "...", timeout_seconds=3600, awaits_platform_job=True)
    record = Record(JobOffer(JobKey("github", "42"), spec, Caller("i", "s")), 0)
    pool = Pool(PoolName("p"), "sandbox", TrustTier.STANDARD, 1, "base", "namespaces")
    sent = work_document(record, pool, RunnerEndpoints(), WORK["traceparent"], WORK["files"], WORK["audience"])
    assert sent == WORK


def test_a_hook_understands_the_answers():
    assert github_hook.understood(json.dumps(NAMED).encode()) == NAMED
    ProblemView.model_validate(DENIED)
    assert DENIED["type"] == TYPE_PREFIX + DENIED["reason"]
    kind = REASONS[DENIED["reason"]]
    assert (kind.status, kind.title) == (DENIED["status"], DENIED["title"])


def test_paths_and_bounds_are_those_of_the_code():
    paths = {value for name, value in vars(runner_handlers).items() if name.endswith("_PATH")} | {naming.JOB_PATH}
    assert set(re.findall(r"^\| `(/runner/[^`]+)`", PAGE, re.MULTILINE)) == paths
    for said in (
        f"at most {work_files.MAX_FILES}, together {work_files.MAX_BYTES >> 20} MiB",
        f"within {work_files.WORK_SECONDS:g} s",
        f"up to {naming.HOLD_SECONDS:g} s",
        f"for {github_hook.LIMIT_SECONDS:g} s in all",
        f"After {naming.MAX_REFUSALS} refused reports",
    ):
        assert said in PAGE, said
