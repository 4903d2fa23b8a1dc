"""The seccomp filter of every sandbox: policy as data and a small assembler for classic BPF.

Layout of `struct seccomp_data` and the instruction set: Linux `include/uapi/linux/seccomp.h`, `filter.h`,
and seccomp(2). A filter that is one jump off can look healthy and allow everything, so each rule is
tested by an interpreter over all numbers and by the real call inside a sandbox.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.backends.sandbox.syscall_table import CHECKED, DENIED, NEWEST_KNOWN
from orchestrator.errors import ConfigurationError

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine name to (column of the table, AUDIT_ARCH_*)."""

X32_BIT = 0x4000_0000
ALLOW = 0x7FFF_0000
KILL_PROCESS = 0x8000_0000
ERRNO = 0x0005_0000

SOCKET_FAMILIES = (1, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6. AF_NETLINK is allowed for NETLINK_ROUTE only; AF_VSOCK would reach a hypervisor."""
AF_NETLINK = 16
NAMESPACE_FLAGS = 0x7E02_0000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
TERMINAL_IOCTLS = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX put words into somebody's terminal."""
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

_LOAD, _JUMP, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGS = 0, 4, 16


@dataclass(frozen=True, slots=True)
class _Step:
    """One instruction; `yes` and `no` name labels, "" is the next instruction."""

    code: int
    k: int = 0
    yes: str = ""
    no: str = ""
    label: str = ""


def _errno(number: int) -> int:
    return ERRNO | number


def build(machine: str | None = None) -> bytes:
    """The filter for `machine` (default: this one) as an array of `struct sock_filter`.

    Raises:
        ConfigurationError: reason `isolation_unavailable`, no table for this architecture.
    """
    machine = machine or platform.machine()
    if machine not in ARCHITECTURES:
        raise ConfigurationError(
            f"there is no seccomp table for {machine}",
            reason="isolation_unavailable",
            fix=f"run the daemon on {' or '.join(ARCHITECTURES)}",
        )
    column, arch = ARCHITECTURES[machine]
    return _assemble(_program(column, arch))


def _program(column: int, arch: int) -> list[_Step]:
    targets = {numbers[column]: "eperm" for numbers in DENIED.values()}
    targets |= {numbers[column]: name for name, numbers in CHECKED.items()}
    ordered = sorted((number, label) for number, label in targets.items() if number is not None)
    return [
        _Step(_LOAD, _ARCH),
        _Step(_JEQ, arch, no="kill"),
        _Step(_LOAD, _NUMBER),
        _Step(_JGE, NEWEST_KNOWN + 1, yes="enosys"),  # x32 calls have a high bit set and end here too
        *_search(ordered, ""),
        *_argument_checks(),
        _Step(_RETURN, ALLOW, label="allow"),
        _Step(_RETURN, _errno(errno.EPERM), label="eperm"),
        _Step(_RETURN, _errno(errno.ENOSYS), label="enosys"),
        _Step(_RETURN, _errno(errno.EAFNOSUPPORT), label="family"),
        _Step(_RETURN, _errno(errno.EPROTONOSUPPORT), label="protocol"),
        _Step(_RETURN, KILL_PROCESS, label="kill"),
    ]


def _search(ordered: Sequence[tuple[int, str]], label: str) -> list[_Step]:
    """A balanced search over the numbers, four to a leaf."""
    if len(ordered) <= 4:
        steps = [_Step(_JEQ, number, yes=target) for number, target in ordered]
        steps.append(_Step(_JUMP, yes="allow"))
        first = steps[0]
        return [_Step(first.code, first.k, first.yes, first.no, label), *steps[1:]]
    middle = len(ordered) // 2
    right = f"from-{ordered[middle][0]}"
    head = _Step(_JGE, ordered[middle][0], yes=right, label=label)
    return [head, *_search(ordered[:middle], ""), *_search(ordered[middle:], right)]


def _argument_checks() -> list[_Step]:
    """The five calls that are judged by their arguments. All of these arguments are 32 bits wide."""
    return [
        _Step(_LOAD, _argument(0), label="socket"),
        *(_Step(_JEQ, family, yes="allow") for family in SOCKET_FAMILIES),
        _Step(_JEQ, AF_NETLINK, no="family"),
        _Step(_LOAD, _argument(2)),
        _Step(_JEQ, 0, yes="allow", no="protocol"),
        _Step(_LOAD, _argument(0), label="clone"),
        _Step(_JSET, NAMESPACE_FLAGS, yes="eperm", no="allow"),
        _Step(_JUMP, yes="enosys", label="clone3"),  # its flags are out of a filter's sight; libc falls back
        _Step(_LOAD, _argument(1), label="ioctl"),
        *(_Step(_JEQ, request, yes="eperm") for request in TERMINAL_IOCTLS),
        _Step(_JUMP, yes="allow"),
        _Step(_LOAD, _argument(0), label="personality"),
        *(_Step(_JEQ, persona, yes="allow") for persona in PERSONALITIES),
        _Step(_JUMP, yes="eperm"),
    ]


def _argument(index: int) -> int:
    """Offset of the low half of an argument; both architectures are little-endian."""
    return _ARGS + 8 * index


def _assemble(steps: Sequence[_Step]) -> bytes:
    places = {step.label: index for index, step in enumerate(steps) if step.label}
    code = bytearray()
    for index, step in enumerate(steps):

        def distance(label: str, here: int = index) -> int:
            return places[label] - here - 1 if label else 0

        if step.code == _JUMP:
            code += struct.pack("<HBBI", step.code, 0, 0, distance(step.yes))
            continue
        yes, no = distance(step.yes), distance(step.no)
        if not (0 <= yes <= 255 and 0 <= no <= 255):
            raise AssertionError(f"jump out of reach at {index}")
        code += struct.pack("<HBBI", step.code, yes, no, step.k)
    return bytes(code)
