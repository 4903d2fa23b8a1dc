"""What of changed settings can be in force without a restart."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.settings import Settings
from orchestrator.settings.change import plan_change

HOST = {"host": "cache.example", "port": 443}
POD = {"name": "pods", "backend": "kubernetes", "kubernetes": {"image": "runner@sha256:" + "0" * 64}}
BOTH = ("kubernetes", "sandbox")


def settings(*pools: dict[str, Any], **more: Any) -> Settings:
    return Settings.model_validate({"pools": pools or ({"name": "default"},), **more})


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        ({"capacity": 9}, ["pools.default.capacity"]),
        ({"egress": [HOST]}, ["pools.default.egress"]),
        ({"require_egress_proof": False}, ["pools.default.require_egress_proof"]),
        ({"max_job_seconds": 60}, ["pools.default.max_job_seconds"]),
        ({"sandbox": {"max_processes": 64}}, ["pools.default.sandbox.max_processes"]),
    ],
)
def test_what_a_local_pool_is_can_change(change, paths):
    planned = plan_change(settings(), settings({"name": "default", **change}), BOTH)
    assert (list(planned.changed), planned.restart) == (paths, ())
    assert planned.in_force.pools[0] == settings({"name": "default", **change}).pools[0]


def test_who_is_told_can_change_and_no_address_is_named():
    ops = {"name": "ops", "url": "https://hooks.example/secret", "format": "cdevents"}
    found = settings(notifications={"endpoints": [ops]})
    planned = plan_change(settings(), found, BOTH)
    assert (planned.changed, planned.restart) == (("notifications.endpoints.ops",), ())
    moved = settings(notifications={"endpoints": [ops | {"url": "https://hooks.example/other"}], "max_messages": 5})
    planned = plan_change(found, moved, BOTH)
    assert planned.changed == ("notifications.endpoints.ops.url", "notifications.max_messages")
    assert planned.in_force.notifications == moved.notifications


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        ({"trust_tier": "protected"}, ["pools.default.trust_tier"]),
        ({"sandbox": {"host_uid_base": 300_000}}, ["pools.default.sandbox.host_uid_base"]),
        (POD | {"name": "default"}, ["pools.default.backend", "pools.default.kubernetes.image"]),
    ],
)
def test_what_a_pool_is_trusted_with_and_made_of_needs_a_restart(change, paths):
    planned = plan_change(settings(), settings({"name": "default", **change}), BOTH)
    assert (planned.changed, list(planned.restart)) == ((), paths)
    assert planned.in_force == settings()


def test_pools_come_and_go():
    planned = plan_change(settings(), settings({"name": "other", "capacity": 2}), BOTH)
    assert (planned.changed, planned.restart) == (("pools.other", "pools.default"), ())
    assert [pool.name for pool in planned.in_force.pools] == ["other"]


def test_a_pool_whose_backend_was_not_opened_waits_for_a_restart():
    planned = plan_change(settings(POD), settings(POD, {"name": "local"}), ["kubernetes"])
    assert (planned.changed, planned.restart) == ((), ("pools.local",))
    planned = plan_change(settings(), settings({"name": "default"}, POD), BOTH)
    assert (planned.changed, planned.restart) == ((), ("pools.pods",)), "a cluster needs its manifests applied"


def test_of_pods_only_what_no_manifest_has_can_change():
    found = settings({"name": "default"}, POD | {"capacity": 50, "egress": [HOST]})
    planned = plan_change(settings({"name": "default"}, POD), found, BOTH)
    assert (planned.changed, planned.restart) == (("pools.pods.egress",), ("pools.pods.capacity",))
    planned = plan_change(settings({"name": "default"}, POD), settings(), BOTH)
    assert (planned.changed, planned.restart) == ((), ("pools.pods",)), "it stays until then"


def test_deadlines_and_the_daemons_log_can_change_and_their_neighbours_cannot():
    found = settings(
        deadlines={"capacity_seconds": 60, "drain_seconds": 5, "teardown_seconds": 5},
        logs={"level": "debug", "retention_seconds": 60},
        identity={"github_apps": {}},
        server={"port": 1},
    )
    planned = plan_change(settings(), found, BOTH)
    assert planned.changed == ("deadlines.capacity_seconds", "deadlines.drain_seconds", "logs.level")
    assert planned.restart == ("server.port", "deadlines.teardown_seconds", "logs.retention_seconds")


def test_a_pool_that_settings_in_force_still_name_cannot_go():
    secret = {"name": "key", "owner": "team", "file": "/run/key", "pools": ["gone"], "max_age_seconds": 60}
    running = settings({"name": "gone"}, {"name": "stays"}, secrets=[secret])
    with pytest.raises(ConfigurationError, match="gone") as refused:
        plan_change(running, settings({"name": "stays"}), BOTH)
    assert refused.value.reason == "restart_needed"


def test_values_are_not_told():
    running, found = (
        settings(telemetry={"otlp_endpoint": "http://a"}),
        settings(telemetry={"otlp_endpoint": "http://b"}),
    )
    planned = plan_change(running, found, BOTH)
    assert (planned.changed, planned.restart) == ((), ("telemetry.otlp_endpoint",))
    assert plan_change(found, found, BOTH).restart == ()
