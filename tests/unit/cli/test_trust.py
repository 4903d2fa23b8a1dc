"""`orchestrator trust`: what a person reads, what a script does, and exit codes a pipeline can gate on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

MAP = Path(__file__).parents[3] / "docs" / "examples" / "trust-map"
AUDIENCE = "sts.amazonaws.com"
JOB = {
    "environment": "prod",
    "caller_issuer": "https://token.actions.githubusercontent.com",
    "repository_id": "42",
    "repository": "acme/shop",
    "ref": "refs/heads/release/1",
    "ref_protected": "true",
    "trust_tier": "protected",
    "workflow_ref": "acme/shop/.github/workflows/release.yml@refs/heads/release/1",
}


@pytest.fixture
def job(tmp_path):
    def write(**changes):
        path = tmp_path / "job.json"
        path.write_text(json.dumps(JOB | changes))
        return str(path)

    return write


@pytest.fixture
def changed(tmp_path):
    """A folder with the shipped map, one text in prod's document replaced."""

    def change(old, new):
        folder = tmp_path / "changed"
        folder.mkdir()
        for path in MAP.iterdir():
            text = path.read_text()
            if path.name == "prod.yaml":
                assert old in text
                text = text.replace(old, new)
            (folder / path.name).write_text(text)
        return str(folder)

    return change


def test_check_lists_the_documents(cli):
    done = cli("trust", "check", str(MAP), "--strict")
    assert done.exit_code == 0, done.stderr
    assert "protected, stricter than staging" in done.stdout
    told = json.loads(cli("trust", "check", str(MAP), "--json").stdout)
    assert [one["environment"] for one in told["documents"]] == ["", "prod", "staging"]
    assert told["warnings"] == []
    assert AUDIENCE in told["audiences"]


def test_check_names_what_is_wrong(cli, changed):
    done = cli("trust", "check", changed("session_seconds: 900", "session_seconds: 90"))
    assert done.exit_code == 1
    assert "prod.yaml: targets.aws-prod.session_seconds is 90" in done.stderr
    assert "fix: it is a whole number from 900" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_can_fail_on_warnings(cli, tmp_path):
    text = (MAP / "staging.yaml").read_text()
    line = '      caller_issuer: {equals: "https://token.actions.githubusercontent.com"}\n'
    assert line in text
    path = tmp_path / "staging.yaml"
    path.write_text(text.replace(line, ""))
    done = cli("trust", "check", str(path))
    assert done.exit_code == 0
    assert "warning: staging/shop-deploy pins no caller_issuer" in done.stderr
    assert cli("trust", "check", str(path), "--strict").exit_code == 1


@pytest.mark.parametrize(("by", "heads"), [("identity", "repository_id=43 caller_issuer="), ("target", "-/artifacts")])
def test_inventory_groups_both_ways(cli, by, heads):
    done = cli("trust", "inventory", str(MAP), "--by", by)
    assert done.exit_code == 0, done.stderr
    assert heads in done.stdout
    assert "role/shop-release" in done.stdout
    told = json.loads(cli("trust", "inventory", str(MAP), "--by", by, "--json").stdout)
    assert told[f"by_{by}"]


def test_inventory_by_something_else_is_a_usage_error(cli):
    done = cli("trust", "inventory", str(MAP), "--by", "role")
    assert done.exit_code == 2
    assert "--by is 'role'" in done.stderr


def test_diff_tells_what_got_wider_and_can_fail_by_it(cli, changed):
    folder = changed('matches: "refs/heads/release/*"', 'matches: "refs/heads/**"')
    done = cli("trust", "diff", str(MAP), folder)
    assert done.exit_code == 0, done.stderr
    assert "widened  prod/shop-release → sts.amazonaws.com" in done.stdout
    assert 'ref has to be matching "refs/heads/**", was matching "refs/heads/release/*"' in done.stdout
    assert cli("trust", "diff", str(MAP), folder, "--exit-status").exit_code == 1
    back = cli("trust", "diff", folder, str(MAP), "--exit-status", "--json")
    assert back.exit_code == 0
    assert {one["change"] for one in json.loads(back.stdout)["changes"]} == {"narrowed"}


def test_diff_of_equal_maps_says_so(cli):
    done = cli("trust", "diff", str(MAP), str(MAP), "--exit-status")
    assert (done.exit_code, done.stdout.strip()) == (0, "no grant changes")


def test_explain_shows_a_grant(cli, job):
    done = cli("trust", "explain", "--claims", job(), "--map", str(MAP), AUDIENCE, "--exit-status")
    assert done.exit_code == 0, done.stderr
    assert "granted by prod/shop-release" in done.stdout
    assert "tags repository=acme/shop, stage=prod" in done.stdout


def test_explain_shows_the_four_parts_of_a_refusal(cli, job):
    arguments = ("trust", "explain", "--claims", job(ref="refs/heads/main"), "--map", str(MAP), AUDIENCE)
    done = cli(*arguments)
    assert done.exit_code == 0
    lines = [line.split(None, 1) for line in done.stdout.splitlines()]
    told = {line[0]: line[1] for line in lines if len(line) == 2}
    assert done.stdout.splitlines()[1] == "refused by prod/shop-release: trust_claim_mismatch"
    assert told["claim"] == "ref"
    assert told["wanted"] == 'matching "refs/heads/release/*"'
    assert told["found"] == "refs/heads/main"
    assert told["link"] == "docs/reference/reasons.md#trust_claim_mismatch"
    assert told["fix"]
    assert cli(*arguments, "--exit-status").exit_code == 1
    answer = json.loads(cli(*arguments, "--json", "--role", "x").stdout)["answer"]
    assert (answer["granted"], answer["code"]) == (False, "role_not_mapped")
    arguments = ("trust", "explain", "--claims", job(), "--map", str(MAP), AUDIENCE, "--role", "x")
    assert "does not match, since x is none of its roles" in cli(*arguments).stdout


def test_explain_shows_nothing_that_could_move_a_terminal(cli, job):
    done = cli("trust", "explain", "--claims", job(ref="refs/\u001b[31mred"), "--map", str(MAP), AUDIENCE)
    assert done.exit_code == 0
    assert "\u001b" not in done.stdout


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"environment": true}', "environment must be a text"),
        ("[1]", "must be a mapping of at most 200 claims"),
        ("{", "is not valid YAML"),
        ('{"a": "1", "a": "2"}', "is ambiguous"),
    ],
)
def test_claims_are_read_strictly(cli, tmp_path, text, told):
    path = tmp_path / "job.json"
    path.write_text(text)
    done = cli("trust", "explain", "--claims", str(path), "--map", str(MAP), AUDIENCE)
    assert done.exit_code == 2
    assert told in done.stderr
