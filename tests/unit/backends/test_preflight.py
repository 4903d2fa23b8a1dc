"""What the probe's answer is worth, and which knob is named when there is none."""

from __future__ import annotations

import pytest

from orchestrator.backends.sandbox.preflight import SandboxStatus, judge, remedy
from orchestrator.errors import ConfigurationError

ZERO = "0000000000000000"
GOOD = ["3", "11", ZERO, ZERO, "1", "2", "lo", "1", "cafe"]


def said(**changes: str) -> bytes:
    names = ["major", "minor", "effective", "bounding", "no_new_privs", "seccomp", "links", "pid", "agent"]
    words = [changes.get(name, value) for name, value in zip(names, GOOD, strict=True)]
    return f"noise\npreflight {' '.join(words)}\n".encode()


def test_a_good_answer_carries_the_compiled_agent():
    fitness = judge(said(), "default")
    assert (fitness.python, fitness.agent) == ((3, 11), b"\xca\xfe")


@pytest.mark.parametrize(
    ("change", "hole"),
    [
        ({"effective": "0000000000200000"}, "effective capabilities"),
        ({"bounding": "000001ffffffffff"}, "bounding capabilities"),
        ({"no_new_privs": "0"}, "no_new_privs"),
        ({"seccomp": "0"}, "seccomp"),
        ({"links": "eth0|lo"}, "network"),
        ({"pid": "4711"}, "process namespace"),
    ],
)
def test_a_hole_in_the_isolation_is_refused(change, hole):
    with pytest.raises(ConfigurationError, match=hole) as problem:
        judge(said(**change), "default")
    assert problem.value.reason == "isolation_unavailable"


def test_an_old_python_is_refused():
    with pytest.raises(ConfigurationError) as problem:
        judge(said(minor="8"), "default")
    assert problem.value.reason == "python_too_old"


@pytest.mark.parametrize("output", [b"", b"bwrap: creating new namespace failed", b"preflight 3 11", b"\xff\xfe"])
def test_no_answer_is_isolation_unavailable(output):
    with pytest.raises(ConfigurationError) as problem:
        judge(output, "default")
    assert problem.value.reason == "isolation_unavailable"
    assert problem.value.fix


@pytest.mark.parametrize(
    ("files", "words", "fix"),
    [
        ({"sys/user/max_user_namespaces": "0"}, "x", "user.max_user_namespaces=15000"),
        ({"sys/kernel/unprivileged_userns_clone": "0"}, "x", "kernel.unprivileged_userns_clone=1"),
        ({"sys/kernel/apparmor_restrict_unprivileged_userns": "1"}, "x", "AppArmor profile"),
        ({"self/status": "Seccomp:\t2"}, "No permissions to create new namespace: not permitted", "docker run"),
        (
            {"self/status": "Seccomp:\t0"},
            "Creating new namespace failed: Operation not permitted",
            "user_namespaces(7)",
        ),
        ({}, "Can't mount proc on /newroot/proc: Operation not permitted", "systempaths=unconfined"),
        ({}, "bwrap: execvp /opt/py: No such file or directory", "toolchain"),
        ({}, "launcher: OSError: [Errno 22] Invalid argument", "host_uid_base"),
        ({}, "something else", "bwrap --unshare-all"),
    ],
)
def test_the_remedy_names_the_knob(tmp_path, files, words, fix):
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    assert fix in remedy(words, tmp_path)


@pytest.mark.parametrize(
    ("version", "controllers", "limits", "count"),
    [(2, ["memory", "pids", "cpu"], "cgroup-v2", 0), (1, ["memory", "pids"], "cgroup-v1", 1), (0, [], "rlimits", 3)],
)
def test_the_status_names_what_is_weaker(version, controllers, limits, count):
    ready = {"version": version, "controllers": controllers, "privileged": False}
    status = SandboxStatus.from_launcher("/usr/bin/bwrap", ready)
    assert (status.limits, len(status.degraded)) == (limits, count)
