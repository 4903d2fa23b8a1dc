"""What a job cannot do: an attack script tries, and every attempt has an expected answer."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import socket
from pathlib import Path

import pytest

from orchestrator.backends.sandbox.seccomp import ARCHITECTURES
from orchestrator.backends.sandbox.syscall_table import CHECKED, DENIED
from orchestrator.model.runner import RunnerState

pytestmark = pytest.mark.sandbox

ATTACK = Path(__file__).with_name("attack.py").read_text()
COLUMN = ARCHITECTURES[platform.machine()][0]

# Only root can give up groups. A plain user's own is the job's own inside, and its others belong to nobody there.
KEPT_GROUPS = [1000 if group == os.getegid() else 65534 for group in os.getgroups()] if os.geteuid() else []
UNREACHABLE = {"ENETUNREACH", "EADDRNOTAVAIL", "EHOSTUNREACH"}
EXPECTED = {
    "look": {"ENOENT"},
    "make": {"EROFS", "EACCES", "ENOENT", "EPERM"},
    "write": {"EROFS", "EACCES"},
    "unlink": {"EROFS", "EACCES", "EBUSY"},
    "sysctl": {"EACCES", "EROFS", "ENOENT", "EPERM"},
    "sysrq": {"EACCES", "ENOENT", "EROFS"},
    "kcore": {"EACCES", "EPERM", "ENOENT"},
    "mknod": {"EPERM"},
    "setuid": {"EPERM", "EINVAL"},
    "setgroups": {"EPERM", "EINVAL"},
    "nice": {"EPERM", "EACCES"},
    "sethostname": {"EPERM"},
    "oom_score": {"EACCES", "EPERM"},
    "call": {"EPERM"},
    "clone": {"EPERM"},
    "clone3": {"ENOSYS"},
    "unknown": {"ENOSYS"},
    "x32": {"ENOSYS"},
    "personality": {"EPERM"},
    "ioctl": {"EPERM"},
}
EXACT = {
    "personality ask": {"ok"},
    "ioctl FIONREAD": {"ok"},
    "socket packet": {"EAFNOSUPPORT"},
    "socket vsock": {"EAFNOSUPPORT"},
    "socket alg": {"EAFNOSUPPORT"},
    "socket key": {"EAFNOSUPPORT"},
    "socket bluetooth": {"EAFNOSUPPORT"},
    "socket xdp": {"EAFNOSUPPORT"},
    "socket rds": {"EAFNOSUPPORT"},
    "socket netfilter": {"EPROTONOSUPPORT"},
    "socket audit": {"EPROTONOSUPPORT"},
    "socket route": {"ok"},
    "socket raw": {"EPERM"},
    "socket raw6": {"EPERM"},
    "socket tcp": {"ok"},
    "socket udp6": {"ok"},
    "socket unix": {"ok"},
    "connect host loopback": {"ECONNREFUSED"},
    "connect host abstract": {"ECONNREFUSED"},
    "connect outside": UNREACHABLE,
    "connect metadata": UNREACHABLE,
    "connect outside 6": UNREACHABLE,
    "udp dns": UNREACHABLE,
    "resolve": {"no"},
    "interfaces": {"lo"},
    "kill init": {"ok"},  # the kernel drops it: an init cannot be killed from inside
    "foreign processes": {"0"},
    "uid": {f"1000 1000 1000 {KEPT_GROUPS}"},
    "hostname": {"runner"},
    "fds": {""},
    "init environ": {"EACCES"},
    "init memory": {"EACCES"},
    "init fds": {"EACCES"},
    "init trace": {"EPERM"},
    "no_new_privs": {"1"},
    "caps": {"0000000000000000"},
    "cgroup": {"/"},
    "thread": {"ok"},
    "usr is read-only": {"True"},
    "fork": {"7"},
}


def expectation(probe: str) -> set[str] | None:
    return EXACT.get(probe) or EXPECTED.get(probe.split(" ", maxsplit=1)[0])


def test_no_attempt_to_get_out_succeeds(forked):
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as abstract:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        name = f"orchestrator-test-{os.getpid()}"
        abstract.bind("\0" + name)
        abstract.listen()
        host = {"port": tcp.getsockname()[1], "abstract": name, "hidden": [str(Path(__file__).resolve())]}
        calls = {word: numbers[COLUMN] for word, numbers in CHECKED.items()}
        calls["denied"] = {word: numbers[COLUMN] for word, numbers in DENIED.items() if numbers[COLUMN] is not None}
        environment = {"CALLS": json.dumps(calls), "HOST": json.dumps(host)}

        async def attack(world, say):
            view, output = await world.run(f"exec python3 - <<'END'\n{ATTACK}\nEND\n", environment=environment)
            say(json.dumps({"output": output, "code": view.exit_code, "token": world.api.claims[0]["token"]}))

        answer = json.loads(forked(attack).join())
    assert answer["code"] == 0, answer["output"]
    results = json.loads(answer["output"])
    judged = {probe: expectation(probe) for probe in results}
    wrong = {probe: results[probe] for probe, wanted in judged.items() if wanted and results[probe] not in wanted}
    assert not wrong
    assert results["raise processes"].startswith("ValueError") or results["raise processes"] == "EPERM"
    assert len([probe for probe, wanted in judged.items() if wanted]) > 100
    for leak in (results["own environ"], results["init argv"]):
        assert answer["token"] not in leak
    # devpts looks writable but makes no files: see the probe above
    assert sorted(set(results["writable"]) - {"/dev/pts"}) == ["/dev/shm", "/job", "/tmp"]


def test_the_host_user_is_never_root_and_differs_between_live_runners(forked):
    async def two(world, say):
        specs = [await world.launch("echo up; sleep 60") for _ in range(2)]
        uids = []
        for spec in specs:
            await world.said(spec, "up")
            status = Path(f"/proc/{world.backend._sandboxes[spec.name].pid}/status").read_text()
            uids.append([line.split()[1:] for line in status.splitlines() if line.startswith(("Uid", "Gid"))])
        say(json.dumps(uids))

    uids = json.loads(forked(two).join())
    assert "0" not in str(uids).replace("'", "").replace("[", " ").replace("]", " ").replace(",", " ").split()
    first, second = (uid[0][0] for uid in uids)
    assert (first == second) == (int(first) < 200_000)


def test_a_job_sees_only_the_toolchain_it_is_given(worlds, tmp_path):
    """A folder that only root can reach is shown; its neighbours are not; nothing of it is writable."""
    tools = tmp_path / "private" / "tools"
    tools.mkdir(parents=True)
    (tools / "hello").write_text("hello from the toolchain")
    (tools.parent / "secret").write_text("not for jobs")
    tools.parent.chmod(0o711 if os.geteuid() else 0o700)

    async def scenario():
        pool = worlds.SandboxPool(
            toolchain=(tools,), workspace_bytes=1 << 20, tmp_bytes=1 << 20, shm_bytes=1 << 20, memory_bytes=64 << 20
        )
        world = worlds.World(pools={"default": pool})
        await world.backend.start()
        try:
            return await world.run(
                f"cat {tools}/hello; ls {tools.parent}; ! touch {tools}/x; ! cat {tools.parent}/secret"
            )
        finally:
            await world.backend.close()

    view, output = asyncio.run(scenario())
    assert view.exit_code == 0, output
    assert "hello from the toolchain" in output
    assert "not for jobs" not in output


@pytest.mark.parametrize("flag", ["O_WRONLY", "O_RDWR"])
async def test_a_job_cannot_rewrite_what_it_already_said(world, flag):
    script = f"""echo first
python3 -c 'import os; fd=os.open("/proc/self/fd/1", os.{flag}); os.lseek(fd, 0, 0)' && echo rewound
echo last"""
    view, output = await world.run(script)
    assert output.startswith("first")
    assert "rewound" not in output
    assert view.state is RunnerState.EXITED
