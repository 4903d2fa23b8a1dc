"""A planted repository: every reference is found, the three kinds that go first are on top, and no value is shown."""

from __future__ import annotations

import json
import time

import pytest

from orchestrator.errors import GiveUpError
from orchestrator.identity.secrets.scan import scan, summary
from orchestrator.identity.secrets.scan_names import kind_of, sounds_secret

PLANTED = "AKIAIOSFODNN7EXAMPLE"
GITHUB = """
on: push
env:
  LEVEL: info
jobs:
  test:
    steps:
      - run: make test
        env:
          GH: ${{ secrets.GITHUB_TOKEN }}
          OTHER: ${{ secrets['SONAR_THING'] }}
  publish:
    environment: production
    steps:
      - uses: publish/it@v1
        with:
          password: ${{ secrets.PYPI_API_TOKEN }}
      - run: |
          echo one
          ssh -i <(echo "${{ secrets.DEPLOY_SSH_KEY }}") host
  cloud:
    environment: {name: staging}
    steps:
      - env: {KEY: "${{ secrets.AWS_SECRET_ACCESS_KEY }}"}
  called:
    uses: ./.github/workflows/other.yml
    secrets: inherit
"""
GITLAB = """
stages: [test]
deploy:
  environment: prod
  script:
    - curl -H "Authorization: $REGISTRY_PASSWORD" https://x
    - echo $CI_COMMIT_SHA $TOKEN_FILE
leaky:
  variables:
    AWS_ACCESS_KEY_ID: AKIAIOSFODNN7EXAMPLE
  script: [true]
  cache:
    key: linux-build-cache-v1
"""


@pytest.fixture
def repository(tmp_path):
    for path, text in {
        ".github/workflows/ci.yml": GITHUB,
        ".gitlab-ci.yml": GITLAB,
        "Jenkinsfile": "withCredentials([string(credentialsId: 'nexus-deployer', variable: 'X')]) {}\n",
        ".env": "# settings\nDATABASE_PASSWORD=correct-horse-battery\nDEBUG=true\n",
        "docs/workflow.yml": "a: ${{ secrets.NOT_LOOKED_AT }}",
        "node_modules/x/.github/workflows/ci.yml": "a: ${{ secrets.NOT_LOOKED_AT }}",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_every_planted_reference_is_found_where_it_is(repository):
    found = {(one.name, one.file, one.line, one.job, one.environment) for one in scan([repository])}
    ci, gitlab = ".github/workflows/ci.yml", ".gitlab-ci.yml"
    assert found == {
        ("GITHUB_TOKEN", ci, 10, "test", ""),
        ("SONAR_THING", ci, 11, "test", ""),
        ("PYPI_API_TOKEN", ci, 17, "publish", "production"),
        ("DEPLOY_SSH_KEY", ci, 20, "publish", "production"),
        ("AWS_SECRET_ACCESS_KEY", ci, 24, "cloud", "staging"),
        ("(all secrets of the caller)", ci, 27, "called", ""),
        ("REGISTRY_PASSWORD", gitlab, 6, "deploy", "prod"),
        ("AWS_ACCESS_KEY_ID", gitlab, 10, "leaky", ""),
        ("nexus-deployer", "Jenkinsfile", 1, "", ""),
        ("DATABASE_PASSWORD", ".env", 2, "", ""),
    }


def test_values_in_clear_come_first_then_the_three_kinds_and_job_tokens_last(repository):
    found = scan([repository])
    kinds = [one.kind for one in found]
    assert kinds[:2] == ["value_in_clear", "value_in_clear"]
    assert set(kinds[2:6]) == {"deploy_key", "registry_publish", "cloud_admin"}
    assert kinds[-1] == "job_token"
    assert [one.risk for one in found] == sorted((one.risk for one in found), reverse=True)


def test_no_value_is_shown(repository):
    told = json.dumps([one.as_json() for one in scan([repository])])
    assert PLANTED not in told
    assert "correct-horse" not in told


def test_the_blast_radius_of_a_name_has_its_jobs_and_environments(repository):
    (repository / ".github/workflows/more.yml").write_text(
        "jobs: {nightly: {env: {A: '${{ secrets.PYPI_API_TOKEN }}'}}}"
    )
    [entry] = [one for one in summary(scan([repository])) if one["name"] == "PYPI_API_TOKEN"]
    assert entry["jobs"] == ["nightly", "publish"]
    assert entry["environments"] == ["production"]
    assert entry["references"] == 2


def test_what_is_no_yaml_is_looked_at_line_by_line(tmp_path):
    path = tmp_path / "broken.yml"
    path.write_text("a: [\n  ${{ secrets.NPM_TOKEN }}\n\t- b: {{{\n")
    assert [(one.name, one.line) for one in scan([path])] == [("NPM_TOKEN", 2)]


@pytest.mark.parametrize(
    "text",
    [
        "a: &b0 [x]\n" + "".join(f"b{n}: &b{n + 1} [*b{n}, *b{n}]\n" for n in range(60)),
        "[" * 5000,
        "a: &a\n  b: *a\n",
        "k: " + "A" * 500_000,
        "${{ secrets.".ljust(200_000, "A"),
    ],
    ids=["aliases", "deep", "a circle", "long", "a long name"],
)
def test_hostile_files_take_no_time(tmp_path, text):
    path = tmp_path / "hostile.yml"
    path.write_text(text)
    began = time.process_time()
    scan([path])
    assert time.process_time() - began < 2


def test_too_much_is_refused(tmp_path):
    (tmp_path / "big.yml").write_bytes(b"a" * (1 << 20) + b"bc")
    with pytest.raises(GiveUpError, match="larger"):
        scan([tmp_path / "big.yml"])
    with pytest.raises(GiveUpError, match="neither"):
        scan([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("AWS_SECRET_ACCESS_KEY", "cloud_admin"),
        ("PROD_KUBECONFIG", "deploy_key"),
        ("deploy-key", "deploy_key"),
        ("NPM_TOKEN", "registry_publish"),
        ("COSIGN_PRIVATE_KEY", "signing_key"),
        ("MY_PAT", "source_token"),
        ("SLACK_WEBHOOK", "other"),
        ("GITHUB_TOKEN", "job_token"),
    ],
)
def test_names_tell_their_kind(name, kind):
    assert kind_of(name).kind == kind


def test_variables_that_only_sound_like_it():
    assert sounds_secret("DB_PASSWORD")
    assert not sounds_secret("TOKEN_FILE")
    assert not sounds_secret("KEYBOARD")
    assert not sounds_secret("CI_COMMIT_SHA")
