"""What operators see of real sources in the API and in metrics, while jobs come and go and while GitHub fails."""

from __future__ import annotations

import logging

from github_plant import Plant, plant_of
from webhook_plant import webhook_plant

from orchestrator.daemon.github.state import source_state
from orchestrator.model.source import SourceKind
from orchestrator.server.sources.handlers import source_view
from orchestrator.server.sources.shapes import SourceListView
from orchestrator.telemetry.metrics import Metrics
from orchestrator.testing.github.faults import Fault

LOGGER = "orchestrator.intake.github.trouble"


def seen(plant: Plant):
    """The source as the API shows it, held against its documented shape; its metrics can be scraped."""
    state = source_state(plant.source.status())
    registry = Metrics({"linux": 4})
    registry.watch_sources(lambda: [state])
    assert b"orchestrator_source_stage" in registry.render()[1]
    (view,) = SourceListView.model_validate({"sources": [source_view(state)]}).sources
    return view


def told(caplog, level: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOGGER and record.levelname == level]


async def test_a_scale_set_with_jobs():
    async with plant_of() as plant:
        run = plant.dispatch(3)
        await plant.github.until(lambda: run.done)
        await plant.at_rest()
        await plant.until(lambda: seen(plant).sets[0].jobs.assigned == 0)
        source = seen(plant)
        (one,) = source.sets
        assert (source.kind, one.name, one.pool, one.stage) == (
            SourceKind.SCALE_SETS,
            "default/zt",
            "linux",
            "listening",
        )
        assert (source.failure, one.failure, one.waiting_for, one.queued) == (None, None, "", None)
        assert one.platform_id == plant.scale_set.id
        assert one.heard_at
        assert source.events["registered"] == source.events["completed"] == 3
        assert source.calls["generate_jit"].by_status == {"2xx": 3}
        assert source.calls_per_job > 0
        waits = source_state(plant.source.status()).sets[0].waits
        assert sum(waits.counts) == 3, "each job once, by GitHub's clock"


async def test_an_outage_is_told_once_and_so_is_its_end(caplog):
    caplog.set_level(logging.INFO, LOGGER)
    async with plant_of() as plant:
        await plant.until(lambda: seen(plant).sets[0].stage == "listening")
        plant.github.faults.add(Fault.UNAVAILABLE, "/message", times=1000)
        plant.github.cut("GET /scalesets/message")
        await plant.until(lambda: seen(plant).sets[0].failure is not None)
        one = seen(plant).sets[0]
        assert one.waiting_for == one.failure.reason == "github_unavailable"
        assert one.failure.fix
        plant.github.faults.clear()
        run = plant.dispatch()
        await plant.github.until(lambda: run.done)
        await plant.until(lambda: seen(plant).sets[0].failure is None)
        (warning,) = told(caplog, "WARNING")
        assert warning.startswith("listening to scale set default/zt of GitHub source acme fails: ")
        assert "[github_unavailable]; fix: " in warning
        (info,) = told(caplog, "INFO")
        assert info.startswith("listening to scale set default/zt of GitHub source acme works again, after ")


async def test_webhooks_with_jobs_and_an_outage(caplog, tmp_path):
    caplog.set_level(logging.INFO, LOGGER)
    async with webhook_plant(tmp_path) as plant:
        plant.github.faults.add(Fault.BAD_GATEWAY, "/actions/jobs/", times=1000)
        run = plant.dispatch(2)
        await plant.until(lambda: seen(plant).failure is not None)
        source = seen(plant)
        assert source.failure.reason == source.sets[0].waiting_for == "github_unavailable"
        assert source.deliveries_waiting
        plant.github.faults.clear()
        await plant.github.until(lambda: run.done, 15)
        await plant.at_rest()
        await plant.until(lambda: seen(plant).failure is None)
        source = seen(plant)
        (one,) = source.sets
        assert (source.kind, one.name, one.stage) == (SourceKind.WEBHOOKS, "default/zt", "listening")
        assert (one.announced, one.jobs, one.queued) == (None, None, 0)
        assert source.events["completed"] == 2
        assert sum(source_state(plant.source.status()).sets[0].waits.counts) == 2
        (warning,) = told(caplog, "WARNING")
        assert warning.startswith("looking into deliveries of GitHub source acme fails: ")
        assert len(told(caplog, "INFO")) == 1
    assert seen(plant).sets[0].stage == "stopped"
