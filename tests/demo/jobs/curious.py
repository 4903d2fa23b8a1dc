"""A job that tries what no job may: each attempt must fail, or this program exits with 1. Standard library only."""

import ctypes
import os
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

PROXY = ("127.0.0.1", 3128)
got_through = []


def attempt(name, act):
    try:
        got = act()
    except (OSError, urllib.error.URLError, PermissionError) as error:
        print(f"  refused  {name:<44} {type(error).__name__}: {str(error)[:90]}")
        return
    print(f"  REACHED  {name:<44} {got!r}"[:160])
    got_through.append(name)


def connect(address, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as channel:
        channel.settimeout(2)
        channel.connect(address)
        if kind == socket.SOCK_DGRAM:
            channel.send(b"\0")
    return "connected"


def tunnel(authority):
    """CONNECT through the gateway, which answers 403 unless the host is allowed."""
    with socket.create_connection(PROXY, timeout=5) as channel:
        channel.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        answer = channel.recv(4096).decode("latin-1")
    status = answer.split("\r\n", 1)[0]
    if " 200 " not in f"{status} ":
        raise ConnectionRefusedError(status)
    return status


def read(path):
    return Path(path).read_bytes()[:40]


def ptrace(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, 0, 0) != 0:  # PTRACE_ATTACH
        raise PermissionError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return "attached"


def memory_of(pid):
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        first = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").split("-", 1)[0]
        memory.seek(int(first, 16))
        return memory.read(16)


def other_processes():
    """Every process that is not of this runner would be somebody else's."""
    mine = {1, os.getpid(), os.getppid()}
    found = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    strangers = [pid for pid in found if pid not in mine and "orchestrator" in _command(pid)]
    if not strangers:
        raise ProcessLookupError(f"only the runner's own {len(found)} processes exist here")
    return strangers


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    except OSError:
        return ""


def secret_in_environment():
    environment = Path("/proc/self/environ").read_text(encoding="utf-8", errors="replace")
    found = [line.split("=", 1)[0] for line in environment.split("\0") if line.split("=", 1)[-1].startswith("eyJ")]
    secret = Path("/run/orchestrator/token").read_text(encoding="utf-8").strip()
    if secret in environment:
        found.append("runner token")
    if not found:
        raise FileNotFoundError("no credential in the environment")
    return found


def main():
    home, project, state = sys.argv[1:4]
    print("== network, directly")
    attempt("metadata address", lambda: connect(("169.254.169.254", 80)))
    attempt("raw IPv4 address", lambda: connect(("192.0.2.1", 443)))
    attempt("raw IPv6 address", lambda: connect(("2001:db8::1", 443), socket.AF_INET6))
    attempt("DNS by the resolver", lambda: socket.getaddrinfo("example.com", 443))
    attempt("DNS by a packet", lambda: connect(("192.0.2.53", 53), kind=socket.SOCK_DGRAM))
    attempt("raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
    print("== network, by the gateway")
    attempt("forbidden host", lambda: tunnel("example.com:443"))
    attempt("metadata address", lambda: tunnel("169.254.169.254:80"))
    attempt("raw IPv4 address", lambda: tunnel("192.0.2.1:443"))
    attempt("forbidden host, plain HTTP", lambda: urllib.request.urlopen("http://example.com/", timeout=5).read(10))
    print("== the host's files")
    for path in (
        "/etc/shadow",
        f"{home}/.ssh",
        f"{project}/pyproject.toml",
        f"{state}/journal.db",
        "/sys/kernel",
        "/dev/mem",
    ):
        attempt(path.replace(home, "~") if path.startswith(home) else Path(path).name, lambda path=path: read(path))
    attempt("writing to /usr", lambda: Path("/usr/planted").write_text("x", encoding="utf-8"))
    print("== memory")
    attempt("memory of the agent, process 1", lambda: memory_of(1))
    attempt("tracing the agent", lambda: ptrace(1))
    attempt("environment of the agent", lambda: read("/proc/1/environ"))
    attempt("kernel memory", lambda: read("/proc/kcore"))
    attempt("processes of others", other_processes)
    attempt("a credential in its own environment", secret_in_environment)
    if got_through:
        sys.exit(f"got through: {', '.join(got_through)}")
    print("everything was refused")


main()
