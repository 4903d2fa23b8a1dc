"""The test server answers in the shapes that the real server is held to."""

from __future__ import annotations

import pytest

from orchestrator.cli.exits import EXIT_CODE_MEANINGS, ExitCode, exit_for_result
from orchestrator.model.outcome import Result
from orchestrator.server.schemas import JobRequest
from orchestrator.server.shapes import JobSummaryView, JobView
from tests.unit.cli.conftest import summary_of


@pytest.mark.parametrize("ends_as", ["", *(result.value for result in Result)])
def test_job_views_fit_the_schema(local_daemon, make_view, ends_as):
    view = make_view()
    if ends_as:
        local_daemon.ends_as = ends_as
        local_daemon.end(view)
    JobView.model_validate(view)
    JobSummaryView.model_validate(summary_of(view))


def test_what_submit_sends_fits_the_schema(cli, local_daemon):
    cli("submit", "--name", "a", "--script", "b", "--no-follow")
    cli(
        "submit", "--name", "a", "--script", "b", "--no-follow", "-e", "K=V", "--timeout", "0", "--pool", "p",
        "--environment", "staging", "--artifact", "sha256:" + "0" * 64, "--pipeline", "x",
    )  # fmt: skip
    assert len(local_daemon.bodies) == 2
    for body in local_daemon.bodies:
        JobRequest.model_validate(body)


def test_a_job_file_knows_the_fields_of_a_request():
    from orchestrator.cli.jobs.jobfile import _KEYS

    assert _KEYS - {"script_file"} == set(JobRequest.model_fields)


def test_every_result_has_its_exit_code():
    codes = {result: exit_for_result(result.value) for result in Result}
    assert codes[Result.SUCCESS] is ExitCode.OK
    assert all(10 <= code <= 13 for result, code in codes.items() if result is not Result.SUCCESS)
    assert exit_for_result(None) is exit_for_result("unheard of") is ExitCode.JOB_ERROR
    assert EXIT_CODE_MEANINGS
