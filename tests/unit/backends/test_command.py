"""The argument list: its three rules, whatever the pool's settings."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.backends.sandbox import command
from orchestrator.backends.sandbox.config import SandboxPool

ARITY = {
    **dict.fromkeys(("--unshare-user", "--unshare-all", "--disable-userns", "--die-with-parent"), 0),
    **dict.fromkeys(("--new-session", "--as-pid-1", "--clearenv"), 0),
    **dict.fromkeys(("--uid", "--gid", "--hostname", "--cap-drop", "--dir", "--proc", "--dev", "--tmpfs"), 1),
    **dict.fromkeys(("--perms", "--size", "--chdir", "--remount-ro", "--seccomp", "--info-fd", "--block-fd"), 1),
    **dict.fromkeys(("--setenv", "--ro-bind", "--symlink", "--file"), 2),
}
sizes = st.integers(1, 1 << 40)
names = st.text("abcdefgh", min_size=1, max_size=5)
folders = st.lists(st.lists(names, min_size=1, max_size=3).map(lambda parts: "/opt/" + "/".join(parts)), max_size=4)
files = st.lists(
    st.builds(command.CarriedFile, names.map(lambda name: f"{command.HOME}/{name}"), st.just(0o444), st.binary()),
    max_size=4,
)


def parsed(arguments: list[str]) -> list[tuple[str, ...]]:
    options, rest = [], list(arguments)
    while rest[0] != "--":
        count = ARITY[rest[0]]
        options.append(tuple(rest[: count + 1]))
        del rest[: count + 1]
    return options


@given(workspace=sizes, tmp=sizes, shm=sizes, toolchain=folders, carried=files)
def test_rules_of_every_list(workspace, tmp, shm, toolchain, carried):
    pool = SandboxPool(workspace_bytes=workspace, tmp_bytes=tmp, shm_bytes=shm)
    arguments = command.arguments(pool, [(path, path) for path in toolchain], carried, ["/usr/bin/python3", "x"])
    options = parsed(arguments)  # an option outside ARITY, such as a writable --bind, is a KeyError
    assert arguments[arguments.index("--") + 1 :] == ["/usr/bin/python3", "x"]
    flat = [option[0] for option in options]
    # every writable tmpfs has its size right before it
    places = [index for index, name in enumerate(flat) if name == "--tmpfs"]
    assert [(options[index - 1], options[index][1]) for index in places] == [
        (("--size", str(shm)), "/dev/shm"),
        (("--size", str(tmp)), "/tmp"),
        (("--size", str(workspace)), "/job"),
    ]
    # nothing but the job's own tmpfs and /dev/shm stays writable
    assert flat.index("--remount-ro") < flat.index("--chdir")
    assert [option[1] for option in options if option[0] == "--remount-ro"] == ["/dev", "/"]
    assert flat[-3:] == ["--seccomp", "--info-fd", "--block-fd"]
    # descriptors of the carried files are consecutive, and the token's content is nowhere
    numbers = [int(option[1]) for option in options if option[0] == "--file"]
    first = command.FIRST_FILE_FD
    assert numbers == [*range(first, first + len(carried)), command.TOKEN_FD]
    for flag in ("--unshare-all", "--disable-userns", "--die-with-parent", "--new-session", "--clearenv"):
        assert flag in flat
    assert ("--cap-drop", "ALL") in options


def test_root_links_follow_the_host(tmp_path: Path):
    (tmp_path / "etc" / "ssl").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "lib").mkdir()
    parts = command._host_folders(tmp_path)
    assert parts == [
        *("--ro-bind", "/usr", "/usr"),
        *("--symlink", "usr/bin", "/bin"),
        *("--ro-bind", "/lib", "/lib"),
        *("--dir", "/etc"),
        *("--ro-bind", "/etc/ssl", "/etc/ssl"),
    ]


def test_the_carried_etc_names_nobody_but_the_job():
    content = {file.path: file.data.decode() for file in command.ETC}
    assert content["/etc/passwd"].splitlines() == ["job:x:1000:1000:job:/job:/bin/sh"]
    assert "nameserver" not in content["/etc/resolv.conf"]
