"""Requests: method, address and body as the service expects them."""

from __future__ import annotations

import json

import pytest

from orchestrator.intake.github.connection import AppCredential
from orchestrator.intake.github.errors import UnreadableAnswerError
from orchestrator.intake.github.rest import protocol as rest_protocol
from orchestrator.intake.github.scale_sets import protocol
from orchestrator.intake.github.scale_sets.protocol import Credential, Repeat, trusted_url
from orchestrator.intake.github.urls import parse_github_url

BASE = "https://pipelines.example/tenant/123/"
QUEUE = "https://broker.example/scalesets/message?scaleSetId=5"
ORG = parse_github_url("https://github.com/acme")


def test_paths_are_joined_under_the_services_own():
    request = protocol.find_scale_set(BASE, 1, "zt & co")
    assert request.url == (
        "https://pipelines.example/tenant/123/_apis/runtime/runnerscalesets"
        "?runnerGroupId=1&name=zt%20%26%20co&api-version=6.0-preview"
    )
    assert protocol.find_group(BASE.rstrip("/"), "a").url.startswith(
        "https://pipelines.example/tenant/123/_apis/runtime/runnergroups/?groupName=a&"
    )


def test_a_query_on_the_queues_address_is_kept():
    assert protocol.poll(QUEUE, 0, 3).url == QUEUE
    request = protocol.poll(QUEUE, 7, 3)
    assert request.url == QUEUE + "&lastMessageId=7"
    assert (request.headers["X-ScaleSetMaxCapacity"], request.repeat) == ("3", Repeat.NEVER)
    assert request.accept == "application/json; api-version=6.0-preview"
    gone = protocol.acknowledge(QUEUE, 12)
    assert gone.url == "https://broker.example/scalesets/message/12?scaleSetId=5"


def test_the_kind_of_token_of_each_call():
    assert protocol.acquire_jobs(BASE, 5, [1]).credential is Credential.QUEUE
    assert protocol.acquirable_jobs(BASE, 5).credential is Credential.ADMIN
    assert rest_protocol.runner_registration(ORG).credential is Credential.REGISTRATION
    assert rest_protocol.hook_deliveries(ORG, None, "").credential is Credential.APP
    assert rest_protocol.hook_deliveries(ORG, 3, "").credential is Credential.ACCESS


def test_what_makes_something_is_not_repeated_blindly():
    for request in (
        protocol.create_scale_set(BASE, 1, "a", ["a"]),
        protocol.create_session(BASE, 5, "me"),
        protocol.generate_jit(BASE, 5, "r", ""),
        rest_protocol.generate_jitconfig(ORG, "r", ["a"], 1, "_work"),
    ):
        assert request.repeat is Repeat.UNSENT, request.endpoint


def test_bodies():
    assert json.loads(protocol.generate_jit(BASE, 5, "r-1", "_work").body) == {"name": "r-1", "workFolder": "_work"}
    body = json.loads(protocol.create_scale_set(BASE, 1, "zt", ["zt", "gpu"]).body)
    assert body["RunnerSetting"] == {"disableUpdate": True}
    assert [label["name"] for label in body["labels"]] == ["zt", "gpu"]
    assert json.loads(rest_protocol.runner_registration(ORG).body) == {
        "url": "https://github.com/acme",
        "runner_event": "register",
    }


def test_installation_tokens_are_asked_for_narrowly():
    narrow = AppCredential("77", lambda: "", ("shop",), (101,))
    request = rest_protocol.installation_token(ORG, narrow)
    body = json.loads(request.body)
    assert request.url == "https://api.github.com/app/installations/77/access_tokens"
    assert (body["repositories"], body["repository_ids"]) == (["shop"], [101])
    assert body["permissions"]["organization_self_hosted_runners"] == "write"
    assert "administration" not in body["permissions"]
    repository = parse_github_url("https://github.com/acme/shop")
    own = json.loads(rest_protocol.installation_token(repository, AppCredential("77", lambda: "")).body)
    assert (own["permissions"]["administration"], "repositories" in own) == ("write", False)
    one = AppCredential("77", lambda: "", permissions={"actions": "read"})
    assert json.loads(rest_protocol.installation_token(ORG, one).body)["permissions"] == {"actions": "read"}


def test_rest_paths_are_quoted():
    assert rest_protocol.branch(ORG, "acme", "shop", "feature/x?y").url.endswith("/branches/feature%2Fx%3Fy")
    assert rest_protocol.run_jobs(ORG, "acme", "shop", 1, 2, 3).url.endswith(
        "/repos/acme/shop/actions/runs/1/attempts/2/jobs?per_page=100&page=3"
    )
    assert rest_protocol.redeliver(ORG, 3, 42).url == "https://api.github.com/orgs/acme/hooks/3/deliveries/42/attempts"


@pytest.mark.parametrize("url", ["http://plain.example/", "", "ftp://x/", "https:///x", "https://[/", "/relative"])
def test_tokens_are_sent_to_protected_addresses_only(url):
    with pytest.raises(UnreadableAnswerError):
        trusted_url(url, encrypted=True)


def test_a_server_without_tls_may_name_plain_addresses():
    assert trusted_url("http://127.0.0.1/x", encrypted=False) == "http://127.0.0.1/x"
    assert trusted_url("https://x.example/", encrypted=True) == "https://x.example/"
