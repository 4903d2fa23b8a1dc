"""Copies with changes are those of `dataclasses.replace`."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.lifecycle.observation import Observation
from orchestrator.model.copying import copier
from orchestrator.model.phase import Phase
from orchestrator.model.record import Record
from orchestrator.testing import stories

RECORD = Record(stories.offer(), 7, Phase.RUNNING, 9, runner_uid="uid", alarmed=True)
OBSERVATION = Observation(5, None, Phase.BINDING, failures=2)


@pytest.mark.parametrize("one", [RECORD, OBSERVATION], ids=["record", "observation"])
@given(data=st.data())
def test_a_copy_is_what_replace_makes(one: Record | Observation, data: st.DataObject):
    names = [field.name for field in fields(one)]
    before = repr(one)
    changes = data.draw(st.dictionaries(st.sampled_from(names), st.integers()))
    made, expected = copier(type(one))(one, **changes), replace(one, **changes)
    assert type(made) is type(expected)
    assert (made, repr(made)) == (expected, repr(expected))
    assert made is not one
    assert repr(one) == before


def test_a_copy_is_as_frozen_as_any_other():
    with pytest.raises(FrozenInstanceError):
        copier(Record)(RECORD, phase=Phase.FINISHED).phase = Phase.QUEUED


def test_a_name_that_is_no_field_is_refused():
    with pytest.raises(TypeError, match="no field 'colour'"):
        copier(Record)(RECORD, colour="red")


@dataclass(frozen=True, slots=True)
class Checked:
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError


@dataclass(frozen=True, slots=True)
class Derived:
    one: int
    two: int
    three: int = field(init=False, default=3)


@dataclass(frozen=True)
class Open:
    one: int
    two: int


@dataclass(frozen=True, slots=True)
class Heir(Derived):
    four: int = 4


@pytest.mark.parametrize("kind", [Checked, Derived, Open, Heir])
def test_a_class_that_is_more_than_its_slots_is_refused(kind: type):
    with pytest.raises(TypeError, match="not a plain dataclass"):
        copier(kind)
