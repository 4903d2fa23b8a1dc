"""`orchestrator sources`: what a person reads, what a script does, and nothing that a platform could do to either."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.cli.operations.sources import EXAMPLES
from orchestrator.model.source import CallLimit, SourceKind
from orchestrator.server.sources.handlers import source_view
from orchestrator.server.sources.shapes import SourceListView
from orchestrator.testing.sources import source_state


def well(name: str = "other"):
    """A source of webhooks that works."""
    state = source_state(name)
    rule = replace(
        state.sets[0], failure=None, waiting_for="", stage="listening", jobs=None, announced=None, queued=3,
        heard_at_ns=0, labels_lacking=(), slots={"coming": 0}, short=0,
    )  # fmt: skip
    return replace(state, kind=SourceKind.WEBHOOKS, sets=(rule,), deliveries_waiting=2, limits={}, calls={})


@pytest.fixture
def two(local_daemon):
    local_daemon.sources = [source_view(source_state()), source_view(well())]
    return local_daemon


def test_the_test_servers_sources_fit_the_schema(two):
    SourceListView.model_validate({"sources": two.sources})


def test_the_table(cli, two):
    done = cli("sources")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == (
        ["SOURCE", "SET", "POOL", "STAGE", "ASSIGNED", "RUNNING", "MAY", "HOLD", "RUNNERS", "HEARD", "WAITING", "FOR"]
    )  # fmt: skip
    first = lines[1].split()
    assert first[:7] == ["acme", "default/zt", "default", "waiting", "3", "2", "4"]
    assert "1 free, 2 busy, 1 short" in lines[1]
    assert lines[1].rstrip().endswith("github_unavailable")
    assert "3 jobs queued" in lines[2]
    assert "set default/zt of acme: GET poll got no answer [github_unavailable], for " in done.stdout
    assert "\n  fix: look at the proxy\n" in done.stdout
    assert "did not take over the labels gpu" in done.stdout
    assert "acme: https://github.com/acme by scale sets; 47 calls, 4.25 per job; 4990 of 5000 core calls" in done.stdout
    assert "2 deliveries wait" in done.stdout
    assert "ANSWERS" not in done.stdout


def test_one_source_with_its_calls(cli, two):
    done = cli("sources", "acme")
    assert "other" not in done.stdout
    (poll,) = [line.split() for line in done.stdout.splitlines() if line.startswith("poll")]
    assert poll == ["poll", "42", "1", "23.82", "s", "40", "2xx,", "2", "none"]
    assert "5 registered, 4 named" in done.stdout
    assert "mismatches" not in done.stdout


def test_a_limit_that_is_not_over_says_when(cli, local_daemon):
    state = replace(source_state(), limits={"core": CallLimit(60, 0, 4_102_444_800)})
    local_daemon.sources = [source_view(state)]
    assert "0 of 60 core calls left, all again in " in cli("sources").stdout


def test_json_is_what_the_api_says(cli, two):
    assert json.loads(cli("sources", "--json").stdout) == {"sources": two.sources}
    assert json.loads(cli("sources", "other", "--json").stdout) == {"sources": two.sources[1:]}


def test_the_exit_status_for_scripts(cli, two):
    failing = cli("sources", "--json", "--exit-status")
    assert failing.exit_code == 1
    assert json.loads(failing.stdout)["sources"]
    assert "set default/zt of acme does not work: GET poll got no answer [github_unavailable]" in failing.stderr
    assert "fix: look at the proxy" in failing.stderr
    assert cli("sources", "other", "--exit-status").exit_code == 0


def test_a_source_that_is_not_there(cli, two):
    done = cli("sources", "acne")
    assert done.exit_code == 2
    assert "configured are: acme, other" in done.stderr
    assert done.stdout == ""


def test_none_at_all(cli, local_daemon):
    done = cli("sources")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "no sources are configured" in done.stdout
    assert "configured are: none" in cli("sources", "acme").stderr
    assert json.loads(cli("sources", "--json").stdout) == {"sources": []}


def test_who_is_no_operator_is_refused(cli, two):
    document = {"reason": "operators_only", "detail": "Only operators may see the sources.", "status": 403, "fix": "f"}
    two.problem = (403, document, {})
    done = cli("sources")
    assert done.exit_code == 4
    assert "operators_only" in done.stderr


def test_a_platforms_words_cannot_steer_the_terminal(cli, local_daemon):
    hostile = "\x1b]0;x\x07[bold]\u202e"
    state = source_state()
    failure = replace(state.sets[0].failure, message=hostile, fix=hostile)
    one = replace(state.sets[0], failure=failure, labels_lacking=(hostile,), waiting_for=hostile)
    local_daemon.sources = [source_view(replace(state, sets=(one,), limits={hostile: CallLimit(1, 1, 1)}))]
    for arguments in (("sources",), ("sources", "acme"), ("sources", "--exit-status"), ("sources", "--json")):
        done = cli(*arguments)
        assert not set("\x1b\x07\u202e") & set(done.stdout + done.stderr)
    assert "[bold]" in cli("sources").stdout


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_are_accepted(two, line):
    assert CliRunner().invoke(app, shlex.split(line)[1:]).exit_code in (0, 1)
