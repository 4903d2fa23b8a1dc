"""Settings of GitHub: what is refused, what is filled in, and that nothing secret is asked for."""

from __future__ import annotations

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.settings import GitHubSettings, Settings, load_settings

APP = "app: {client_id: Iv23abc, installation_id: 7, private_key_file: /keys/app.pem}"
SETS = "scale_sets: [{name: small, pool: default}]"


@pytest.fixture
def load(tmp_path):
    def run(text: str) -> Settings:
        file = tmp_path / "settings.yaml"
        file.write_text(text, encoding="utf-8")
        return load_settings(file)

    return run


def source(body: str) -> str:
    return f"github: [{{name: acme, url: 'https://github.com/acme', {body}}}]"


def test_a_small_source_has_sane_defaults(load):
    [github] = load(source(f"{APP}, {SETS}")).github
    assert isinstance(github, GitHubSettings)
    [demand] = github.scale_sets
    assert (demand.group, demand.labels, demand.max_runners) == ("Default", (), None)
    assert demand.runner_command == ("/home/runner/run.sh",)
    assert github.oidc.issuer == github.oidc.audience == ""
    assert github.webhooks is None
    assert [path for path, _ in github.demands()] == ["scale_sets.0"]


def test_numbers_of_an_app_may_be_written_as_numbers(load):
    [github] = load(source(f"{APP.replace('Iv23abc', '12345')}, {SETS}")).github
    assert github.app is not None
    assert github.app.client_id == "12345"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://github.com/acme", "organisation"),
        ("https://github.com/acme/", "organisation"),
        ("https://github.com/acme/shop", "repository"),
        ("https://sub.ghe.com/acme", "organisation"),
        ("https://ghes.example:8443/acme/shop", "repository"),
        ("http://127.0.0.1:8080/acme", "organisation"),
        ("http://github.localhost/acme", "organisation"),
    ],
)
def test_places(load, url, kind):
    text = source(f"{APP}, {SETS}").replace("https://github.com/acme", url)
    [github] = load(text).github
    assert github.is_repository == (kind == "repository")
    assert not github.is_enterprise
    assert not github.url.endswith("/")


def test_an_enterprise_needs_a_token(load):
    text = source(f"token_file: /keys/token, {SETS}").replace("github.com/acme", "github.com/Enterprises/acme")
    [github] = load(text).github
    assert github.is_enterprise
    assert not github.is_repository
    with pytest.raises(ConfigurationError, match="no App may manage"):
        load(text.replace("token_file: /keys/token", APP))


HOOKS = "webhooks: {secret_files: [/keys/hook], runners: [{labels: [x64], pool: default}]}"


def test_webhooks_alone_are_enough(load):
    [github] = load(source(f"{APP}, {HOOKS}")).github
    assert github.webhooks is not None
    assert github.webhooks.max_body_bytes == 25 << 20
    assert [path for path, _ in github.demands()] == ["webhooks.runners.0"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (f"{APP}", "either scale_sets or webhooks"),
        (f"{APP}, {SETS}, {HOOKS}", "either scale_sets or webhooks"),
        (f"{SETS}", "either app or token_file"),
        (f"{APP}, token_file: /t, {SETS}", "either app or token_file"),
        (
            f"{APP}, scale_sets: [{{name: small, pool: defualt}}]",
            r"scale_sets\.0\.pool names 'defualt'.*pools: d",
        ),
        (f"{APP}, {HOOKS.replace('pool: default', 'pool: nope')}", r"webhooks\.runners\.0\.pool names 'nope'"),
        (f"{APP}, scale_sets: [{{name: a, pool: default}}, {{name: A, pool: default}}]", "given twice: default/a"),
        (f"{APP}, scale_sets: [{{name: a, pool: default, runner_command: [run.sh]}}]", "runner_command"),
        (f"{APP}, scale_sets: [{{name: a, pool: default, runner_command: []}}]", "runner_command"),
        (f"{APP}, scale_sets: [{{name: 'a b', pool: default}}]", r"scale_sets\.0\.name"),
        (f"{APP}, scale_sets: [{{name: a, pool: default, max_runners: 0}}]", "max_runners"),
        (f"{APP}, scale_sets: [{{name: a, pool: default, label: b}}]", r"scale_sets\.0\.label"),
        (f"{APP}, {SETS}, proxy: 'http://kim:pw@proxy.example'", "no user name or password"),
        (f"{APP}, {SETS}, proxy: 'proxy.example:3128'", r"github\.0\.proxy"),
        (f"{APP}, {SETS}, oidc: {{issuer: 'http://issuer.example'}}", r"github\.0\.oidc\.issuer"),
        (f"{APP}, {SETS}, hosts: [{{host: 'UPPER.example'}}]", r"hosts\.0\.host"),
        (f"{APP}, {HOOKS.replace('[/keys/hook]', '[]')}", "secret_files"),
        (f"{APP}, {HOOKS.replace('secret_files: [/keys/hook]', 'secret: s3cr3t')}", r"webhooks\.secret"),
        (f"{APP.replace('Iv23abc', 'true')}, {SETS}", "client_id"),
        (f"{APP.replace('installation_id: 7', 'installation_id: 0')}, {SETS}", "installation_id"),
    ],
)
def test_what_does_not_fit_is_named(load, body, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        load(source(body))
    assert "s3cr3t" not in caught.value.diagnostics()


@pytest.mark.parametrize("labels", [("x64", "X64"), ("x64, gpu", "gpu"), ("x64, gpu", "GPU, x64")])
def test_a_label_rule_that_never_takes_a_job_is_refused(load, labels):
    def runners(*rules: str) -> str:
        listed = ", ".join(f"{{labels: [{some}], pool: default}}" for some in rules)
        return source(f"{APP}, webhooks: {{secret_files: [/keys/hook], runners: [{listed}]}}")

    with pytest.raises(ConfigurationError, match="entry 1 never takes a job"):
        load(runners(*labels))
    assert load(runners("gpu", "x64, gpu")).github


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com",
        "https://github.com/",
        "https://github.com/a/b/c",
        "https://github.com/enterprises",
        "https://kim:pw@github.com/acme",
        "https://github.com/acme?x=1",
        "https://github.com/ac me",
        "https://github.com:port/acme",
        "http://ghes.example/acme",
        "ftp://github.com/acme",
        "github.com/acme",
    ],
)
def test_what_is_no_place_is_refused(load, url):
    with pytest.raises(ConfigurationError, match=r"github\.0\.url"):
        load(source(f"{APP}, {SETS}").replace("https://github.com/acme", url))


def test_names_of_sources_differ_and_are_not_the_programs_own(load):
    one = f"{{name: NAME, url: 'https://github.com/acme', {APP}, {SETS}}}"
    with pytest.raises(ConfigurationError, match="given twice: acme"):
        load(f"github: [{one.replace('NAME', 'acme')}, {one.replace('NAME', 'acme')}]")
    for name in ("dispatch", "check", "deployment"):
        with pytest.raises(ConfigurationError, match="the program's own"):
            load(f"github: [{one.replace('NAME', name)}]")


def test_an_enterprise_has_no_webhooks(load):
    text = source(f"token_file: /t, {HOOKS}").replace("github.com/acme", "github.com/enterprises/acme")
    with pytest.raises(ConfigurationError, match="organisation's url"):
        load(text)
