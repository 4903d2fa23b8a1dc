"""The filter, run by an interpreter of classic BPF over every number, architecture and judged argument."""

from __future__ import annotations

import ctypes.util
import errno
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.backends.sandbox import seccomp
from orchestrator.backends.sandbox.syscall_table import CHECKED, DENIED, NEWEST_KNOWN
from orchestrator.errors import ConfigurationError

MACHINES = list(seccomp.ARCHITECTURES)
BUILT = {machine: seccomp.build(machine) for machine in MACHINES}


def run(program: bytes, number: int, arch: int, args: tuple[int, ...] = ()) -> int:
    """What the kernel would answer."""
    arguments = (*args, *(0,) * (6 - len(args)))
    data = struct.pack("<iIQ6Q", number if number < 1 << 31 else number - (1 << 32), arch, 0, *arguments)
    steps = list(struct.iter_unpack("<HBBI", program))
    accumulator, place = 0, 0
    while True:
        code, yes, no, k = steps[place]
        place += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif code == 0x05:
            place += k
        elif code == 0x15:
            place += yes if accumulator == k else no
        elif code == 0x35:
            place += yes if accumulator >= k else no
        elif code == 0x45:
            place += yes if accumulator & k else no
        elif code == 0x06:
            return k
        else:
            raise AssertionError(f"unknown instruction {code:#x}")


def answer(machine: str, number: int, *args: int) -> str:
    result = run(BUILT[machine], number, seccomp.ARCHITECTURES[machine][1], args)
    if result == seccomp.ALLOW:
        return "allow"
    return errno.errorcode[result & 0xFFFF] if result & seccomp.ERRNO else "kill"


def numbers(machine: str, table) -> dict[str, int]:
    column = seccomp.ARCHITECTURES[machine][0]
    return {name: row[column] for name, row in table.items() if row[column] is not None}


@pytest.mark.parametrize("machine", MACHINES)
def test_every_number_gets_the_answer_of_the_table(machine):
    denied, checked = set(numbers(machine, DENIED).values()), set(numbers(machine, CHECKED).values())
    for number in range(NEWEST_KNOWN + 200):
        if number in checked:
            continue
        wanted = "EPERM" if number in denied else "ENOSYS" if number > NEWEST_KNOWN else "allow"
        assert answer(machine, number) == wanted, number


@pytest.mark.parametrize("machine", MACHINES)
@given(number=st.integers(0, 2**32 - 1), arch=st.integers(0, 2**32 - 1))
def test_a_foreign_architecture_is_killed(machine, number, arch):
    if arch != seccomp.ARCHITECTURES[machine][1]:
        assert run(BUILT[machine], number, arch) == seccomp.KILL_PROCESS


@given(number=st.integers(0, 600))
def test_x32_calls_do_not_exist(number):
    assert answer("x86_64", number | seccomp.X32_BIT) == "ENOSYS"


@pytest.mark.parametrize("machine", MACHINES)
@given(family=st.integers(0, 2**32 - 1), kind=st.integers(0, 10), protocol=st.integers(0, 40))
def test_sockets_are_judged_by_family(machine, family, kind, protocol):
    got = answer(machine, numbers(machine, CHECKED)["socket"], family, kind, protocol)
    if family in (1, 2, 10):
        assert got == "allow"
    elif family == 16:
        assert got == ("allow" if protocol == 0 else "EPROTONOSUPPORT")
    else:
        assert got == "EAFNOSUPPORT"


@pytest.mark.parametrize("machine", MACHINES)
@given(flags=st.integers(0, 2**32 - 1))
def test_clone_may_not_make_namespaces(machine, flags):
    got = answer(machine, numbers(machine, CHECKED)["clone"], flags)
    assert got == ("EPERM" if flags & seccomp.NAMESPACE_FLAGS else "allow")


@pytest.mark.parametrize("machine", MACHINES)
@given(request=st.one_of(st.integers(0, 2**64 - 1), st.sampled_from(seccomp.TERMINAL_IOCTLS)))
def test_words_cannot_be_put_into_a_terminal(machine, request):
    got = answer(machine, numbers(machine, CHECKED)["ioctl"], 0, request)
    # the kernel looks at the low half only, and so do we
    assert got == ("EPERM" if request & 0xFFFFFFFF in seccomp.TERMINAL_IOCTLS else "allow")


@pytest.mark.parametrize("machine", MACHINES)
def test_the_other_judged_calls(machine):
    calls = numbers(machine, CHECKED)
    assert answer(machine, calls["clone3"]) == "ENOSYS"
    assert [answer(machine, calls["personality"], value) for value in seccomp.PERSONALITIES] == ["allow"] * 5
    assert answer(machine, calls["personality"], 0x0040000) == "EPERM"


def test_an_architecture_without_a_table_is_refused():
    with pytest.raises(ConfigurationError) as problem:
        seccomp.build("riscv64")
    assert problem.value.reason == "isolation_unavailable"


@pytest.mark.parametrize(
    ("column", "header"),
    [(0, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), (1, "/usr/include/asm-generic/unistd.h")],
)
def test_the_table_agrees_with_the_kernels_headers(column, header):
    if not Path(header).exists():
        pytest.skip(f"no {header} on this machine")
    known = {
        name: int(number)
        for name, number in re.findall(r"(?m)^#define __NR(?:3264)?_(\w+)\s+(\d+)\s*$", Path(header).read_text())
    }
    table = {name: row[column] for name, row in {**DENIED, **CHECKED}.items()}
    assert {name: table[name] for name in table if name in known} == {
        name: known[name] for name in table if name in known
    }


@pytest.mark.parametrize(("machine", "token"), [("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)])
def test_the_table_agrees_with_libseccomp(machine, token):
    library = ctypes.util.find_library("seccomp")
    if library is None:
        pytest.skip("no libseccomp on this machine")
    resolve = ctypes.CDLL(library).seccomp_syscall_resolve_name_arch
    resolve.argtypes = (ctypes.c_uint32, ctypes.c_char_p)
    wrong = {}
    for name, number in numbers(machine, {**DENIED, **CHECKED}).items():
        theirs = resolve(token, name.encode())
        if theirs >= 0 and theirs != number:
            wrong[name] = (number, theirs)
    assert not wrong
