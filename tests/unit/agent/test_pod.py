"""What the agent of a pod takes for work; its behaviour is tested as a process against a real runner API."""

from __future__ import annotations

import json

import pytest

from orchestrator.agent import pod
from orchestrator.agent.surroundings import Failure

WORK = {
    "job": {"id": "dispatch.x.1", "script": "true"},
    "proxy_url": "http://gateway:3128",
    "exchange_url": "https://api/token",
    "artifacts_url": "https://api/artifacts",
    "token_file": "/run/token",
}


def test_whole_work_is_understood():
    assert pod.understood(json.dumps(WORK).encode()) == WORK


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("value", [None, 7, ["x"]])
def test_work_that_lacks_anything_is_an_unusable_answer(name, value):
    damaged = {key: one for key, one in WORK.items() if key != name}
    for answer in (damaged, damaged | {name: value}):
        with pytest.raises(Failure) as failed:
            pod.understood(json.dumps(answer).encode())
        assert failed.value.code == pod.EX_PROTOCOL
