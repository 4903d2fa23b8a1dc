"""Control groups on a made-up tree: which rung is taken, what is written, what is removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.backends.sandbox.launcher import cgroups
from orchestrator.backends.sandbox.launcher.cgroups import ControlGroups, Limits

LIMITS = Limits(memory_bytes=1 << 20, max_processes=10, cpu_cores=0.5)


def tree(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def delegated(root: Path, procs: str, enabled: str = "") -> None:
    tree(
        root,
        {
            "proc/self/cgroup": "0::/unit\n",
            "fs/cgroup.controllers": "cpu memory pids",
            "fs/unit/cgroup.controllers": "cpu io memory pids",
            "fs/unit/cgroup.procs": procs,
            "fs/unit/cgroup.subtree_control": enabled,
            "fs/unit/orchestrator-x/cgroup.subtree_control": "",
            "fs/unit/orchestrator-x-daemon/cgroup.procs": "",
        },
    )


def found(root: Path) -> ControlGroups:
    return cgroups.find("x", str(root / "fs"), str(root / "proc"))


def test_a_delegated_v2_group_is_divided(tmp_path):
    delegated(tmp_path, str(os.getppid()))
    groups = found(tmp_path)
    assert (groups.version, groups.controllers) == (2, ("memory", "pids", "cpu"))
    unit = tmp_path / "fs/unit"
    # no inner processes: the daemon moves to a leaf before controllers are switched on
    assert (unit / "orchestrator-x-daemon/cgroup.procs").read_text() == str(os.getppid())
    assert (unit / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    assert (unit / "orchestrator-x/cgroup.subtree_control").read_text() == "+memory +pids +cpu"


def test_a_v2_group_with_somebody_elses_process_is_left_alone(tmp_path):
    delegated(tmp_path, f"{os.getppid()}\n4242\n")
    tree(tmp_path, {"proc/4242/stat": "4242 (their shell) S 1 4242 0"})
    assert found(tmp_path).version == 0
    assert (tmp_path / "fs/unit/cgroup.subtree_control").read_text() == ""


def test_v2_without_memory_is_no_rung(tmp_path):
    delegated(tmp_path, str(os.getppid()))
    (tmp_path / "fs/unit/cgroup.controllers").write_text("hugetlb")
    assert found(tmp_path).version == 0


def test_v1_takes_the_controllers_there_are(tmp_path):
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "8:pids:/\n4:memory:/deep/er\n0::/\n",
            "fs/memory/deep/er/cgroup.procs": "",
            "fs/memory/deep/er/orchestrator-x/cgroup.procs": "",
            "fs/pids/cgroup.procs": "",
            "fs/pids/orchestrator-x/cgroup.procs": "",
        },
    )
    groups = found(tmp_path)
    assert (groups.version, groups.controllers) == (1, ("memory", "pids"))
    assert groups.bases["memory"] == str(tmp_path / "fs/memory/deep/er/orchestrator-x")


def test_nothing_at_all_is_the_last_rung(tmp_path):
    tree(tmp_path, {"proc/self/cgroup": "0::/\n"})
    groups = found(tmp_path)
    assert (groups.version, groups.controllers) == (0, ())
    assert groups.create("run", LIMITS) == []
    assert groups.remove("run")
    assert groups.oom_kills("run") == 0


@pytest.mark.parametrize(
    ("version", "bases", "wanted"),
    [
        (2, ("",), {"memory.max": "1048576", "memory.swap.max": "0", "pids.max": "14", "cpu.max": "50000 100000"}),
        (
            1,
            ("memory", "pids", "cpu"),
            {"memory.limit_in_bytes": "1048576", "pids.max": "14", "cpu.cfs_quota_us": "50000"},
        ),
    ],
)
def test_limits_are_written(tmp_path, monkeypatch, version, bases, wanted):
    written = {}
    monkeypatch.setattr(cgroups, "_write", lambda path, value: written.__setitem__(Path(path).name, value))
    for base in bases:
        (tmp_path / (base or "v2")).mkdir()
    groups = ControlGroups(version, {base: str(tmp_path / (base or "v2")) for base in bases}, ("memory", "pids", "cpu"))
    entries = groups.create("run", LIMITS)
    assert len(entries) == len(bases)
    assert all(entry.endswith("/run/cgroup.procs") for entry in entries)
    assert wanted.items() <= written.items()
    assert groups.remove("run")
    assert groups.remove("run")


def test_without_a_quota_nobody_enters_the_cpu_group(tmp_path):
    for base in ("memory", "pids", "cpu"):
        (tmp_path / base).mkdir()
    groups = ControlGroups(1, {base: str(tmp_path / base) for base in ("memory", "pids", "cpu")}, ())
    assert len(groups.create("run", Limits(1 << 20, 10, 0))) == 2
    assert not (tmp_path / "cpu/run").exists()


def test_oom_kills_are_read_from_either_version(tmp_path):
    tree(
        tmp_path,
        {"run/memory.events": "low 0\noom 3\noom_kill 2\n", "run/memory.oom_control": "under_oom 0\noom_kill 5\n"},
    )
    assert ControlGroups(2, {"": str(tmp_path)}, ()).oom_kills("run") == 2
    assert ControlGroups(1, {"memory": str(tmp_path)}, ()).oom_kills("run") == 5


def test_leftovers_are_swept_and_the_stubborn_are_named(tmp_path):
    (tmp_path / "old").mkdir()
    tree(tmp_path, {"busy/cgroup.procs": ""})  # a folder with something in it cannot be removed
    groups = ControlGroups(2, {"": str(tmp_path)}, ())
    assert groups.sweep() == ["busy"]
    assert not (tmp_path / "old").exists()
