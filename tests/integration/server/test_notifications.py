"""Endpoints of notifications over HTTP: all of it for operators, nothing of an address but its host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from orchestrator.daemon.clock import SystemClock
from orchestrator.daemon.notifications import NotificationDesk, open_notifications
from orchestrator.daemon.storage import Store, open_store
from orchestrator.identity.webhook_keys import new_private_key, parse_key
from orchestrator.server.notifications.shapes import EndpointListView, EndpointView, TrialView
from orchestrator.server.shapes import ProblemView
from orchestrator.settings import Settings
from orchestrator.settings.notifications import NotificationEndpointSettings, NotificationSettings
from orchestrator.testing.hook_receiver import HookFault, HookReceiver

URL = "https://daemon.example"


@asynccontextmanager
async def notification_desk(folder: Path, url: str, key: str = "") -> AsyncIterator[NotificationDesk]:
    """The daemon's own desk with one endpoint, called `ops`."""
    file = folder / "ops.key"
    file.write_text(key or new_private_key())
    file.chmod(0o400)
    state = folder / "notified"
    state.mkdir(mode=0o700)
    one = NotificationEndpointSettings(name="ops", url=url, key_files=(file,), allow_private=True)
    settings = Settings(state_dir=state, audit={"enabled": False}, notifications=NotificationSettings(endpoints=(one,)))
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        store: Store = await open_store(settings, URL, clock, stack)
        desk = await open_notifications(settings, store, URL, clock, stack)
        desk.start(store.journal, stack)
        yield desk


@pytest.fixture
async def receiver() -> AsyncIterator[HookReceiver]:
    async with HookReceiver() as receiver:
        yield receiver


KEY = new_private_key()


@pytest.fixture
async def notifications(tmp_path: Path, receiver: HookReceiver) -> AsyncIterator[NotificationDesk]:
    async with notification_desk(tmp_path, f"{receiver.url}?secret=in-the-query", KEY) as desk:
        yield desk


async def test_an_operator_sees_how_endpoints_are_doing_and_nothing_secret(api):
    async with api.client.get(f"{api.url}/v1/notifications", headers=api.operator) as answer:
        text = await answer.text()
        [one] = EndpointListView.model_validate_json(text).endpoints
    assert (one.name, one.state, one.waiting, one.failure) == ("ops", "active", 0, None)
    assert one.host.startswith("http://127.0.0.1:")
    assert one.public_keys == [parse_key(KEY).public]
    assert "in-the-query" not in text
    assert "/hooks" not in text
    assert KEY not in text


async def test_a_test_message_says_how_it_went(api, receiver):
    async with api.client.post(f"{api.url}/v1/notifications/ops/test", headers=api.operator) as answer:
        done = TrialView.model_validate(await answer.json())
    assert (done.delivered, done.status, done.reason) == (True, 204, "")
    assert receiver.taken[0].id == done.message_id
    receiver.always = HookFault.REFUSED
    async with api.client.post(f"{api.url}/v1/notifications/ops/test", headers=api.operator) as answer:
        done = TrialView.model_validate(await answer.json())
    assert (done.delivered, done.status, done.reason) == (False, 400, "endpoint_refused")


async def test_retry_answers_with_the_endpoint_and_an_unknown_one_is_a_problem(api):
    async with api.client.post(f"{api.url}/v1/notifications/ops/retry", headers=api.operator) as answer:
        assert EndpointView.model_validate(await answer.json()).state == "active"
    for name in ("other", "Not-A-Name", "x" * 80):
        for what in ("test", "retry"):
            async with api.client.post(f"{api.url}/v1/notifications/{name}/{what}", headers=api.operator) as answer:
                assert answer.status == 404
                assert ProblemView.model_validate(await answer.json()).reason == "endpoint_unknown"


async def test_it_is_for_operators(api, receiver):
    for method, path in (("GET", ""), ("POST", "/ops/test"), ("POST", "/ops/retry")):
        async with api.client.request(method, f"{api.url}/v1/notifications{path}", headers=api.forge()) as answer:
            assert answer.status == 403
            assert ProblemView.model_validate(await answer.json()).reason == "operators_only"
        async with api.client.request(method, f"{api.url}/v1/notifications{path}") as answer:
            assert answer.status == 401
    assert receiver.seen == []
