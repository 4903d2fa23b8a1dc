"""A job that tries what no job may: each attempt must fail, or this program exits with 1. Standard library only."""

import base64
import ctypes
import os
import socket
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

PROXY = urllib.parse.urlsplit(os.environ["http_proxy"])
POD_TOKEN = Path("/run/orchestrator-identity/token")
"""There is one in a pod only."""
ROOT_QUERY = bytes.fromhex("2f00010000010000000000000000020001")
"""Any resolver answers it (RFC 1035)."""
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
            # Where packets are dropped silently, only an answer would say that one went through.
            channel.send(ROOT_QUERY)
            channel.recv(512)
    return "connected"


def tunnel(authority):
    """CONNECT through the gateway, which answers 403 unless the host is allowed."""
    credential = base64.b64encode(f"{PROXY.username}:{PROXY.password}".encode()).decode()
    known = f"Proxy-Authorization: Basic {credential}\r\n" if PROXY.password else ""
    with socket.create_connection((PROXY.hostname, PROXY.port), timeout=5) as channel:
        channel.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{known}\r\n".encode())
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
    file = POD_TOKEN if POD_TOKEN.exists() else Path("/run/orchestrator/token")
    secret = file.read_text(encoding="utf-8").strip()
    if secret in environment:
        found.append("runner token")
    if not found:
        raise FileNotFoundError("no credential in the environment")
    return found


def append(path):
    with Path(path).open("a", encoding="utf-8") as file:
        file.write("planted")


def of_a_pod():
    """The agent is gone when the job begins; what it left, and the cluster, are what could be reached."""
    print("== the cluster")
    server = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
    attempt("the API server", lambda: connect(server))
    attempt("a token for the API server", lambda: read("/var/run/secrets/kubernetes.io/serviceaccount/token"))
    attempt("the kubelet, on the machine", lambda: connect((os.environ["NODE"], 10250)))
    attempt("changing what the agent wrote", lambda: append("/run/orchestrator/job.sh"))
    attempt("becoming root", lambda: os.setuid(0))
    print("== memory")


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
    if POD_TOKEN.exists():
        of_a_pod()
    else:
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
