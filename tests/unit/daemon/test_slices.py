"""Settings as the rooms take them: every deadline reaches the engine, in its unit."""

from __future__ import annotations

from dataclasses import fields

import pytest
from pydantic import ValidationError

from orchestrator.daemon.slices import deadlines
from orchestrator.lifecycle.observation import SECOND, Deadlines
from orchestrator.lifecycle.provision import NAMING_SECONDS
from orchestrator.settings.tree import DeadlineSettings, Settings


def test_every_deadline_is_a_setting_and_its_default_is_the_engines():
    assert deadlines(Settings()) == Deadlines()
    given = {field.name.removesuffix("_ns"): 11 + number for number, field in enumerate(fields(Deadlines))}
    settings = Settings(deadlines=DeadlineSettings(**{f"{name}_seconds": value for name, value in given.items()}))
    made = deadlines(settings)
    assert {name: getattr(made, f"{name}_ns") for name in given} == {name: v * SECOND for name, v in given.items()}


def test_a_backends_own_stop_lies_behind_all_that_a_platform_may_take():
    longest = {"naming_seconds": 1800, "refusal_seconds": 600, "completion_seconds": 600}
    DeadlineSettings(**longest)
    assert sum(longest.values()) < NAMING_SECONDS
    for name, value in longest.items():
        for wrong in (value + 1, 0):
            with pytest.raises(ValidationError, match=name):
                DeadlineSettings(**{name: wrong})
