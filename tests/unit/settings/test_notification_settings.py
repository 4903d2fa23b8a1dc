"""Settings of notifications: what is refused, why, and that nothing of an address is repeated."""

import pytest
from pydantic import ValidationError

from orchestrator.settings import Settings
from orchestrator.settings.notifications import NotificationEndpointSettings, NotificationSettings

GIVEN = {"name": "ops", "url": "https://hooks.example/ci?token=hidden-in-the-query", "key_files": ("/k",)}


def refused(**more):
    with pytest.raises(ValidationError) as caught:
        NotificationEndpointSettings(**GIVEN | more)
    told = str(caught.value)
    assert "hidden-in-the-query" not in told
    return told


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hooks.example/ci?token=hidden-in-the-query", "must start with https://; plain http is for"),
        ("ftp://hooks.example/?hidden-in-the-query", "must start with https:// and name a host"),
        ("https:///hidden-in-the-query", "must start with https:// and name a host"),
        ("https://user:hidden-in-the-query@hooks.example/", "must hold no user name or password"),
        ("https://hooks.example/#hidden-in-the-query", "must have no fragment"),
        ("https://hooks.example/hidden-in-the-query\r\nX: y", "must have no fragment, and be percent-encoded"),
        ("https://hooks.example:99999/hidden-in-the-query", "is no URL"),
        ("https://hooks.example:0/hidden-in-the-query", "must start with https:// and name a host"),
    ],
)
def test_an_unfit_address_is_refused(url, why):
    assert why in refused(url=url)


def test_an_unknown_event_or_result_is_refused():
    assert "job.endet is no event; events: alarm.raised" in refused(events=("job.endet",))
    assert "jobs.* is no event" in refused(events=("jobs.*",))
    assert "results" in refused(results=("red",))
    fits = NotificationEndpointSettings(**GIVEN | {"events": ("*", "job.*", "token.issued"), "results": ("error",)})
    assert fits.events == ("*", "job.*", "token.issued")


def test_a_webhook_needs_a_key_and_a_cdevent_may_do_without():
    assert "orchestrator notifications new-key" in refused(key_files=())
    assert NotificationEndpointSettings(**GIVEN | {"key_files": (), "format": "cdevents"}).key_files == ()


def test_plain_http_is_for_endpoints_that_may_be_private():
    assert NotificationEndpointSettings(**GIVEN | {"url": "http://10.0.0.1/", "allow_private": True}).allow_private


def test_names_differ_and_pools_exist(tmp_path):
    one = NotificationEndpointSettings(**GIVEN)
    with pytest.raises(ValidationError, match="given twice: ops"):
        NotificationSettings(endpoints=(one, one))
    lost = NotificationEndpointSettings(**GIVEN | {"pools": ("lost",)})
    with pytest.raises(ValidationError, match=r"notifications\.endpoints\.0\.pools names 'lost'"):
        Settings(state_dir=tmp_path, notifications=NotificationSettings(endpoints=(lost,)))
