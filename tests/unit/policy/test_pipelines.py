"""Known dangers in pipelines' files: each is found where it is, and what is done right is left alone."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.policy.pipelines.reading import MAX_BYTES, PipelineError, read_pipeline
from orchestrator.policy.pipelines.rules import _TOLD, MAX_FINDINGS, MAX_LINE, findings

HASH = "0123456789" * 4
DIGEST = "sha256:" + "ab" * 32
HEAD = "on: push\npermissions: {contents: read}\njobs:\n  a:\n    runs-on: x\n"


def found(text: str, *trusted: str) -> list[tuple[str, int]]:
    return [(one.code, one.line) for one in findings(read_pipeline(text.encode()), frozenset(trusted))]


def script(*lines: str) -> str:
    return HEAD + "    steps:\n      - run: |\n" + "".join(f"          {line}\n" for line in lines)


FIRST = 8
"""The line on which `script` begins."""


@pytest.mark.parametrize(
    "line",
    [
        "curl https://get.example/x | sh",
        "curl 'https://get.example/x?a=1&b=2;c' | sh",
        "curl -fsSL https://get.example/x | sudo bash",
        "curl -fsSL https://get.example/x|sudo -E bash -s -- --yes",
        "wget -qO- https://get.example/x | tar x | bash",
        "curl https://x | gunzip | python3 -",
        "curl https://x | env A=1 /bin/sh",
        "curl -s https://x | node",
        "bash <(curl -s https://x)",
        'bash -c "$(curl -fsSL https://x)"',
        'sh -c "`wget -qO- https://x`"',
        "eval $(curl https://x)",
        "source <(curl https://x)",
        ". <(curl https://x)",
        "iex (iwr https://x)",
        "Invoke-WebRequest https://x | Invoke-Expression",
    ],
)
def test_what_is_fetched_and_run_at_once(line):
    assert found(script("true", line)) == [("fetched_and_run", FIRST + 1)]
    gitlab = f"build:\n  script:\n    - true\n    - |\n      {line}\n"
    assert found(gitlab) == [("fetched_and_run", 5)]


def test_a_command_over_several_lines_is_one():
    assert found(script("curl -fsSL \\", "  https://x \\", "  | bash")) == [("fetched_and_run", FIRST)]


@pytest.mark.parametrize(
    "line",
    [
        'curl -fsSLo tool https://x && echo "$SUM  tool" | sha256sum -c && sh tool',
        "curl https://x | jq .value",
        "curl https://x > index.sh",
        "# curl https://x | sh",
        "echo curl",
        "cat script.sh | sh",
        "wget https://x | tee log",
        "curl https://x | shasum",
    ],
)
def test_what_is_fetched_and_not_run_at_once(line):
    assert found(script(line)) == []


@pytest.mark.parametrize(
    ("uses", "pinned"),
    [
        ("actions/checkout@v4", False),
        ("actions/checkout@main", False),
        ("actions/checkout@0123456", False),
        (f"actions/checkout@{HASH}", True),
        (f"acme/x/.github/workflows/y.yml@{HASH}", True),
        ("./.github/actions/own", True),
        ("docker://alpine:3", False),
        (f"docker://alpine@{DIGEST}", True),
    ],
)
def test_actions_of_others_need_a_hash(uses, pinned):
    text = HEAD + f"    steps:\n      - uses: {uses}\n"
    assert found(text) == ([] if pinned else [("action_unpinned", 7)])


def test_ones_own_actions_may_have_tags_and_called_workflows_count_too():
    assert found(HEAD + "    steps:\n      - uses: Acme/own@v1\n", "acme") == []
    called = "on: push\npermissions: {}\njobs:\n  a:\n    uses: acme/x/.github/workflows/y.yml@v1\n"
    assert found(called) == [("action_unpinned", 5)]
    composite = "runs:\n  using: composite\n  steps:\n    - uses: acme/x@v1\n"
    assert found(composite) == [("action_unpinned", 4)]


def test_images_need_a_digest():
    assert found(HEAD + "    container: node:20\n") == [("image_unpinned", 6)]
    assert found(HEAD + f"    container:\n      image: node@{DIGEST}\n") == []
    assert found(HEAD + "    services:\n      db:\n        image: postgres:16\n") == [("image_unpinned", 8)]
    assert found("image: ruby:3\nbuild:\n  script: make\n") == [("image_unpinned", 1)]
    assert found("build:\n  image: {name: ruby:3}\n  script: make\n") == [("image_unpinned", 2)]
    assert found("build:\n  image: $IMAGE\n  script: make\n") == []
    assert found("runs:\n  using: docker\n  image: Dockerfile\n") == []
    assert found("runs:\n  using: docker\n  image: docker://alpine:3\n") == [("image_unpinned", 3)]


@pytest.mark.parametrize(
    "line",
    [
        "docker run --privileged x",
        "podman run --rm --privileged=true x",
        "docker run -v /var/run/docker.sock:/var/run/docker.sock x",
        "nerdctl run -v /run/containerd/containerd.sock:/x y",
    ],
)
def test_engines_with_rights_over_their_host(line):
    assert found(script(line)) == [("docker_in_docker", FIRST)]


def test_engines_beside_the_job():
    inside = f"build:\n  services:\n    - docker:27-dind@{DIGEST}\n  script: make\n"
    assert found(inside) == [("docker_in_docker", 3)]
    options = HEAD + f"    container:\n      image: x@{DIGEST}\n      options: --privileged\n"
    assert found(options) == [("docker_in_docker", 8)]
    volumes = HEAD + f"    container:\n      image: x@{DIGEST}\n      volumes:\n        - /var/run/docker.sock:/s\n"
    assert found(volumes) == [("docker_in_docker", 9)]
    assert found(script("docker build .", "make --privileged-mode")) == []


def test_stored_secrets_are_named_and_the_platforms_own_token_is_none():
    text = HEAD + "    env:\n      A: ${{ secrets.NPM_TOKEN }}\n      B: ${{ secrets.GITHUB_TOKEN }}\n"
    assert found(text) == [("static_secret", 7)]
    assert "NPM_TOKEN" in findings(read_pipeline(text.encode()))[0].message
    assert found(script("echo ${{ secrets[format('A_{0}', x)] }}")) == [("static_secret", FIRST)]


def test_secrets_that_are_written_down_are_found_and_never_shown():
    value = "correct-horse-battery"
    for text, line in (
        (HEAD + f"    env:\n      API_TOKEN: {value}\n", 7),
        (f"variables:\n  DB_PASSWORD: {value}\nbuild:\n  script: make\n", 2),
        (HEAD + f"    steps:\n      - uses: a/b@{HASH}\n        with:\n          password: {value}\n", 9),
        (script("echo", f"export X=ghp_{'a' * 36}"), FIRST + 1),
        (script("aws --key AKIAABCDEFGHIJKLMNOP"), FIRST),
    ):
        assert found(text) == [("secret_in_file", line)]
        told = findings(read_pipeline(text.encode()))[0]
        assert value not in f"{told.message}{told.fix}"
        assert "ghp_" not in f"{told.message}{told.fix}"
    for harmless in ("$CI_JOB_TOKEN", "${{ env.X }}", "true", "12345", "short"):
        assert found(f"variables:\n  API_TOKEN: {harmless}\nbuild:\n  script: make\n") == []
    assert found(HEAD + "    env:\n      TOKENIZER: some-long-value\n") == []


def test_strangers_words_in_scripts():
    for expression in ("github.event.pull_request.title", "github.head_ref", "github.event.comment.body"):
        assert found(script(f'echo "${{{{ {expression} }}}}"')) == [("script_injection", FIRST)]
    assert found(script('echo "${{ github.event.number }}" "${{ github.sha }}"')) == []


def test_strangers_code_with_rights():
    text = textwrap.dedent(f"""\
        on:
          pull_request_target:
        permissions: {{}}
        jobs:
          a:
            steps:
              - uses: actions/checkout@{HASH}
                with:
                  ref: ${{{{ github.event.pull_request.head.sha }}}}
        """)
    assert found(text) == [("stranger_with_rights", 9)]
    assert found(text.replace("pull_request_target", "pull_request")) == []


def test_permissions():
    assert found("on: [push]\njobs: {}\n") == [("permissions_unsaid", 1)]
    assert found("on: push\npermissions: write-all\njobs: {}\n") == [("permissions_wide", 2)]
    single = "on: push\npermissions: read-all\njobs:\n  a:\n    permissions: write-all\n"
    assert found(single) == [("permissions_wide", 5)]
    assert found("on: push\npermissions: {contents: read}\njobs: {}\n") == []


def test_every_code_is_found_by_some_test_here():
    """A rule that nothing shows would be a promise that nobody keeps."""
    text = Path(__file__).read_text("utf-8")
    assert {code for code in _TOLD if f'"{code}"' in text} == set(_TOLD)


def test_lines_too_long_are_named_instead_of_looked_at():
    assert found(script("x" * (MAX_LINE + 1))) == [("line_unread", FIRST)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"- a\n- b\n",
        b"a: b\n",
        b"a: [\n",
        b"\xff\xfe",
        b"a: &a [*a]\n",
        b"x" * (MAX_BYTES + 1),
        b"[" * 1000,
        b"jobs: !!python/object/apply:os.system ['true']\n",
    ],
)
def test_what_is_no_pipeline(data):
    try:
        pipeline = read_pipeline(data)
    except PipelineError:
        return
    assert findings(pipeline) == []


def test_a_bomb_of_aliases_is_looked_at_once():
    bomb = "jobs:\n  a: &a\n    steps: [{run: curl x | sh}]\n" + "".join(
        f"  b{n}: [*a, *a, *a, *a]\n" for n in range(200)
    )
    assert [code for code, _ in found(bomb)] == ["fetched_and_run"]


@pytest.mark.parametrize("word", ["curl ", "${{ secrets", "${{ github.event.a", "bash -c ", "| sh curl ", "sudo -E "])
def test_hostile_text_takes_no_time(word):
    text = script(*[(word * 4096)[: MAX_LINE - 1]] * 60)
    began = time.process_time()
    findings(read_pipeline(text.encode()))
    assert time.process_time() - began < 5


@given(st.binary(max_size=300))
def test_no_bytes_are_a_defect(data):
    try:
        found = findings(read_pipeline(data))
    except PipelineError:
        return
    assert len(found) <= MAX_FINDINGS
