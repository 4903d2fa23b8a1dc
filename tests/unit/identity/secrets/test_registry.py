"""Who may ask for a secret, by its registration."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.identity.secrets.registry import Asker, Bar, Registered, Registry, barred

SECRET = Registered(
    "deploy-key",
    "team-a",
    max_age_seconds=1,
    idle_seconds=1,
    repositories=(("https://ci.example", "42"),),
    pools=("deploy",),
    environments=("staging", "none"),
    pipelines=("release",),
)
ASKER = Asker("https://ci.example", "42", "deploy", "staging", "release")


def test_every_list_must_have_the_job():
    assert barred(SECRET, ASKER) is Bar.NONE
    assert barred(SECRET, replace(ASKER, environment="")) is Bar.NONE, "none stands for nowhere"


@pytest.mark.parametrize(
    ("change", "bar"),
    [
        ({"repository_id": "43"}, Bar.REPOSITORY),
        ({"repository_id": ""}, Bar.REPOSITORY),
        ({"issuer": "https://other.example"}, Bar.REPOSITORY),  # the same number at somebody else's
        ({"pool": "default"}, Bar.POOL),
        ({"environment": "prod"}, Bar.ENVIRONMENT),
        ({"environment": "none"}, Bar.NONE),
        ({"pipeline": "nightly"}, Bar.PIPELINE),
        ({"pipeline": ""}, Bar.PIPELINE),
    ],
)
def test_one_that_is_not_listed_keeps_it(change, bar):
    assert barred(SECRET, replace(ASKER, **change)) is bar


def test_a_retired_pipeline_gets_nothing_whatever_else_holds():
    assert barred(SECRET, ASKER, {"release"}) is Bar.PIPELINE_RETIRED
    assert barred(replace(SECRET, pipelines=()), ASKER, {"release"}) is Bar.PIPELINE_RETIRED


def test_a_pipeline_takes_along_what_it_alone_used():
    shared = replace(SECRET, name="shared", pipelines=("release", "nightly"))
    anybody = replace(SECRET, name="anybody", pipelines=())
    found = Registry([SECRET, shared, anybody]).of_pipeline("release")
    assert [one.name for one in found] == ["deploy-key"]
