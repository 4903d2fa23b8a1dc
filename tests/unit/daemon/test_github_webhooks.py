"""A source of webhooks from its settings: rules, places, permissions, and the mark of this installation."""

from __future__ import annotations

import pytest

from orchestrator.daemon.github import slice as github_slice
from orchestrator.daemon.github.webhooks import installation_mark, webhook_config
from orchestrator.errors import ConfigurationError
from orchestrator.intake.github.connection import AppCredential
from orchestrator.intake.github.urls import parse_github_url
from orchestrator.intake.github.webhooks.job_table import Place
from orchestrator.settings import GitHubSettings

HOOKS = {
    "secret_files": ["/keys/hook"],
    "runners": [
        {"labels": ["x64"], "pool": "small", "runner_command": ["/opt/run.sh", "a b"]},
        {"labels": ["x64", "gpu"], "pool": "large", "group_id": 3, "max_runners": 2, "work_folder": "w"},
    ],
}


def given(url: str = "https://github.com/acme", *, token: bool = False, **hooks) -> GitHubSettings:
    app = {"client_id": "Iv1", "installation_id": 7, "private_key_file": "/keys/app.pem"}
    who = {"token_file": "/keys/token"} if token else {"app": app}
    return GitHubSettings.model_validate({"name": "acme", "url": url, "webhooks": HOOKS | hooks, **who})


def config(settings: GitHubSettings):
    assert settings.webhooks is not None
    return webhook_config(settings, settings.webhooks, parse_github_url(settings.url), "by-1")


def test_rules_keep_their_order_and_their_words():
    made = config(given(queued_seconds=60, deliveries_seconds=120))
    second, first = made.rules
    assert (first.runners.name, first.runners.labels, first.group_id) == ("x64,gpu", ("x64", "gpu"), 3)
    assert (first.runners.pool, first.runners.max_runners, first.runners.work_folder) == ("large", 2, "w")
    assert second.runners.script == "exec orchestrator-github-runner /opt/run.sh 'a b'\n"
    assert made.source.scale_sets == (second.runners, first.runners)
    assert len({rule.runners.key for rule in made.rules}) == 2
    assert (made.queued_seconds, made.deliveries_seconds, made.mark) == (60, 120, "by-1")
    assert made.source.platform_egress


def test_rules_of_many_labels_have_names_of_their_own():
    labels = [f"label-{number:03}" for number in range(50)]
    rules = [{"labels": [*labels[:-1], last], "pool": "p"} for last in ("a", "b")]
    names = [rule.runners.name for rule in config(given(runners=rules)).rules]
    assert len(set(names)) == 2
    assert all(len(name) <= 100 for name in names)


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        (given(), ()),
        (given(repositories=["shop", "web"]), (Place("acme", "shop"), Place("acme", "web"))),
        (given("https://github.com/acme/shop"), (Place("acme", "shop"),)),
    ],
)
def test_which_repositories_are_asked(settings, places):
    assert config(settings).places == places


@pytest.mark.parametrize(
    ("settings", "hook_id", "asks", "permission"),
    [
        (given(), None, True, {}),
        (given(token=True), None, False, {}),
        (given(token=True, hook_id=5), 5, True, {}),
        (given(hook_id=5), 5, True, {"organization_hooks": "write"}),
        (given("https://github.com/acme/shop", hook_id=5), 5, True, {"repository_hooks": "write"}),
    ],
)
def test_who_may_ask_for_deliveries(settings, hook_id, asks, permission):
    made = config(settings)
    assert (made.hook_id, made.ask_deliveries) == (hook_id, asks)
    if settings.app is not None:
        credential = github_slice.connection(settings).credential
        assert isinstance(credential, AppCredential)
        assert {name: right for name, right in credential.permissions.items() if "hooks" in name} == permission


def test_the_mark_is_made_once(tmp_path):
    mark = installation_mark(tmp_path)
    assert mark.startswith("by-")
    assert installation_mark(tmp_path) == mark
    (tmp_path / "other").mkdir()
    assert installation_mark(tmp_path / "other") != mark
    with pytest.raises(ConfigurationError) as caught:
        installation_mark(tmp_path / "missing")
    assert caught.value.reason == "state_dir_unusable"
