"""The demo's proof that nothing is left: it must see the daemon's doing, and nobody else's."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "demo" / "residue.py"


@pytest.fixture
def residue(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("demo_residue", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up there
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SHARED_FOLDERS", (str(tmp_path),))
    own = tmp_path / "orchestrator-demo-own"
    own.mkdir()
    return module.Residue(own, range(0))


@pytest.mark.parametrize("name", ["orchestrator-x", "runner-0123456789abcdef01234567", ".bwrap-1", "orchestrator"])
def test_a_file_that_may_be_the_daemons_is_told(residue, tmp_path, name):
    (tmp_path / name).touch()
    assert residue.left() == [f"file {tmp_path / name}"]


@pytest.mark.parametrize("name", ["orchestrator-demo-abc", "orchestrator-tests-abc", "runner-cluster.Ab1", "jobs.log"])
def test_what_others_make_meanwhile_is_not_held_against_it(residue, tmp_path, name):
    (tmp_path / name).touch()
    assert residue.left() == []


def test_whatever_a_sandbox_user_owns_is_told_under_any_name(residue, tmp_path):
    residue.uids = range(os.geteuid(), os.geteuid() + 1)
    (tmp_path / "innocent").touch()
    assert residue.left() == [f"file {tmp_path / 'innocent'}"]


def test_what_was_there_before_is_not(residue, tmp_path):
    residue.entries |= {tmp_path / "orchestrator-x"}
    (tmp_path / "orchestrator-x").touch()
    assert residue.left() == []
