"""The agent: proves that forbidden egress fails, claims the job, runs it as PID 1 of its sandbox.

It is one file, run as `python -I -S -E main.pyc`. Its start-up is on the way of every job, so it imports
only what costs next to nothing: `json` and `socket` alone would double the time (measured: 7 ms for the
bare interpreter, 15 ms with `json`, 12 ms with `signal`), hence the C modules underneath them.

Its own failures, before the job's script begins, exit with the codes of `sysexits.h`: 69 runner API out of
reach, 71 operating system error, 76 unusable answer, 77 claim refused, 78 egress not proven. Afterwards
its exit code is the script's, 128 + n for signal n.
"""

from __future__ import annotations

import _ctypes
import _signal as signal  # type: ignore[import-not-found]
import os
import resource
import sys
import time
from _json import encode_basestring_ascii as quoted
from _json import make_scanner
from _socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

GATEWAY = ("127.0.0.1", 3128)
RUNNER_API = ("127.0.0.1", 3129)
TOKEN_FILE = "/run/orchestrator/token"
COMMANDS = "/run/orchestrator/bin"
WORKSPACE = "/job"
SCRIPT = WORKSPACE + "/.job.sh"
FILES = WORKSPACE + "/.work"
PATH = COMMANDS + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CANARY = "egress-canary.invalid:443"
FORBIDDEN = (
    ("tcp:169.254.169.254:80", AF_INET, SOCK_STREAM, ("169.254.169.254", 80)),
    ("tcp:192.0.2.1:443", AF_INET, SOCK_STREAM, ("192.0.2.1", 443)),
    ("tcp:[2001:db8::1]:443", AF_INET6, SOCK_STREAM, ("2001:db8::1", 443)),
    ("udp:192.0.2.53:53", AF_INET, SOCK_DGRAM, ("192.0.2.53", 53)),
)
"""Metadata service, documentation addresses (RFC 5737, RFC 3849) and a resolver: none may have a route."""

DEFAULTED = (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ)
"""Signals whose disposition the interpreter changed; the job gets the defaults back."""

PROBE_SECONDS = 2.0
ANSWER_SECONDS = 20.0
CLAIM_TRIES = 4
MAX_ANSWER = 16 << 20

EX_UNAVAILABLE, EX_OSERR, EX_PROTOCOL, EX_NOPERM, EX_CONFIG = 69, 71, 76, 77, 78
REFUSALS = {401: EX_NOPERM, 403: EX_CONFIG, 409: EX_NOPERM, 410: EX_NOPERM}


def main() -> None:
    signal.signal(signal.SIGTERM, stopped_early)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))  # the launcher kept it back until now
    hide_memory()
    token = runner_token()
    limit_processes()
    proving = time.monotonic()
    proof = prove_egress_denied()
    work = claim(token, proof, proving, time.monotonic())
    os._exit(reap_until_exit(start(work)))


def fail(code: int, message: str) -> NoReturn:
    """End the runner before the job began, with one line in the job's log."""
    os.write(2, ("orchestrator-agent: " + message + "\n").encode("utf-8", "replace"))
    os._exit(code)


def hide_memory() -> None:
    """Not dumpable, prctl(2) PR_SET_DUMPABLE: the job, the same user here, can neither trace nor read this process."""
    prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]
    if _ctypes.call_function(prctl, (4, 0, 0, 0, 0)) != 0:
        fail(EX_OSERR, "the agent's memory cannot be closed to the job")


def runner_token() -> str:
    """The runner's credential. A sandbox that waits for one goes on with none when its launcher is killed: it ends."""
    with open(TOKEN_FILE, encoding="ascii") as file:
        token = file.read().strip()
    if not token:
        os._exit(EX_UNAVAILABLE)  # nobody is there to read a word
    return token


def limit_processes() -> None:
    """Cap processes and threads at the first argument, if there is one.

    It must be set in here: since Linux 5.14 the count is kept for each user namespace, so only a limit set
    inside holds for this sandbox alone.
    """
    if len(sys.argv) > 1:
        most = int(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def stopped_early(_signal: int, _frame: object) -> None:
    fail(128 + signal.SIGTERM, "stopped before the job began")


def prove_egress_denied() -> tuple[list[str], list[str]]:
    """Try what must fail. Returns what was denied and what was reached; an unclear answer counts as reached."""
    denied: list[str] = []
    reached: list[str] = []
    canary = ask_canary()
    for name, family, kind, address in FORBIDDEN:
        (denied if unreachable(family, kind, address) else reached).append(name)
    (denied if refused(canary) else reached).append("gateway:" + CANARY)
    return denied, reached


def unreachable(family: int, kind: int, address: tuple[str, int]) -> bool:
    try:
        probe = socket(family, kind)
        probe.settimeout(PROBE_SECONDS)
        probe.connect(address)
    except TimeoutError:
        return False  # a packet left: something dropped it, but there is a route
    except OSError:
        return True
    return False


def ask_canary() -> socket | None:
    """Send the gateway a request it must refuse; the answer is read after the other probes."""
    try:
        gateway = socket(AF_INET, SOCK_STREAM)
        gateway.settimeout(ANSWER_SECONDS)
        gateway.connect(GATEWAY)
        gateway.sendall(f"CONNECT {CANARY} HTTP/1.1\r\nHost: {CANARY}\r\n\r\n".encode())
    except OSError:
        return None
    return gateway


def refused(gateway: socket | None) -> bool:
    if gateway is None:
        return False
    answer = b""
    try:
        while b"\r\n" not in answer and len(answer) < 1024:
            chunk = gateway.recv(1024)
            if not chunk:
                break
            answer += chunk
    except OSError:
        return False
    return answer.split(b" ", 2)[1:2] == [b"403"]


def claim(token: str, proof: tuple[list[str], list[str]], proving: float, proven: float) -> dict[str, Any]:
    """Ask for the work, and tell how long ago the proof was begun and made. Only 5xx and connection failures are tried
    again: a refusal is final."""
    denied, reached = (",".join(quoted(item) for item in items) for items in proof)
    head = (
        "POST /runner/v1/claim HTTP/1.1\r\nHost: 127.0.0.1:3129\r\nConnection: close\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    )
    problem = ""
    for attempt in range(CLAIM_TRIES):
        if attempt:
            time.sleep(0.1 * 4**attempt)
        now = time.monotonic()
        ago = f'{{"proving":{now - proving:.6f},"proven":{now - proven:.6f}}}'
        body = f'{{"proof":{{"denied":[{denied}],"reached":[{reached}]}},"ago":{ago}}}'
        try:
            status, answer = post(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        except (OSError, ValueError) as error:
            problem = str(error) or type(error).__name__
            continue
        if status == 200:
            return parsed(answer)
        problem = f"{status} {reason_of(answer)}"
        if status < 500:
            fail(REFUSALS.get(status, EX_PROTOCOL), "the claim was refused: " + problem)
    fail(EX_UNAVAILABLE, "the runner API did not answer: " + problem)


def post(request: bytes) -> tuple[int, bytes]:
    """One HTTP/1.1 exchange with the runner API (RFC 9112): its status and body.

    Raises:
        OSError: no connection, or none in time.
        ValueError: the answer is not HTTP with a Content-Length, or too long.
    """
    api = socket(AF_INET, SOCK_STREAM)
    api.settimeout(ANSWER_SECONDS)
    api.connect(RUNNER_API)
    api.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        data += received(api, data)
    head, _, body = data.partition(b"\r\n\r\n")
    status, length = response_head(head)
    if length > MAX_ANSWER:
        raise ValueError("the answer is too long")
    parts, size = [body], len(body)
    while size < length:
        parts.append(received(api, b""))
        size += len(parts[-1])
    return status, b"".join(parts)[:length]


def received(api: socket, before: bytes) -> bytes:
    chunk = api.recv(262144)
    if not chunk or len(before) > 65536:
        raise ValueError("the answer ended early or its head is too long")
    return chunk


def response_head(head: bytes) -> tuple[int, int]:
    """Status code and Content-Length of an HTTP/1.1 response head."""
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise ValueError("the answer is not HTTP/1.1")
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-length" and value.strip().isdigit():
            return int(rest[:3]), int(value)
    raise ValueError("the answer has no Content-Length")


class ScannerContext:
    """What the C scanner wants to know: the same defaults as `json.loads`."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}  # noqa: RUF012 -- typing would cost an import


def loads(data: bytes) -> Any:
    text = data.decode("utf-8").strip(" \t\r\n")
    value, end = make_scanner(ScannerContext)(text, 0)  # type: ignore[arg-type]
    if end != len(text):
        raise ValueError("data after the JSON text")
    return value


def parsed(answer: bytes) -> dict[str, Any]:
    try:
        work = loads(answer)
        if not isinstance(work["job"]["script"], str) or not isinstance(work["job"]["id"], str):
            raise TypeError("job")
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        fail(EX_PROTOCOL, "the claim's answer is unusable: " + type(error).__name__)
    else:
        return dict(work)


def reason_of(answer: bytes) -> str:
    try:
        problem = loads(answer)
        return str(problem.get("reason") or problem.get("title") or "")
    except (ValueError, AttributeError, StopIteration):
        return ""


def environment(work: dict[str, Any]) -> dict[str, str]:
    """The script's environment: nothing is inherited; the job's own variables cannot replace its identity's."""
    variables = {"HOME": WORKSPACE, "PATH": PATH, "LANG": "C.UTF-8", "TMPDIR": "/tmp", "USER": "job", "LOGNAME": "job"}
    variables.update({"SHELL": "/bin/sh", "CI": "true"})
    variables.update(dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), work["proxy_url"]))
    variables.update(dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"))
    if work.get("otlp_endpoint"):
        variables["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = work["otlp_endpoint"] + "/v1/traces"
        # SDKs differ in which of the two they read and in their defaults, grpc among them. Only traces are relayed.
        both = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        variables.update(dict.fromkeys(both, "http/protobuf"))
        variables["OTEL_TRACES_EXPORTER"] = "otlp"
        variables.update(dict.fromkeys(("OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"), "none"))
        variables["OTEL_SERVICE_NAME"] = str(work["job"].get("name") or "job")
    if work.get("otlp_headers"):
        variables["OTEL_EXPORTER_OTLP_TRACES_HEADERS"] = work["otlp_headers"]
    variables.update({str(name): str(value) for name, value in (work["job"].get("environment") or {}).items()})
    variables.update({str(name): FILES + "/" + str(file) for name, file in (work.get("file_variables") or {}).items()})
    variables["ORCHESTRATOR_JOB_ID"] = work["job"]["id"]
    variables["ORCHESTRATOR_TOKEN_FILE"] = work["token_file"]
    variables["ORCHESTRATOR_EXCHANGE_URL"] = work["exchange_url"]
    variables["ORCHESTRATOR_ARTIFACTS_URL"] = work["artifacts_url"]
    if work.get("traceparent"):
        variables["TRACEPARENT"] = work["traceparent"]
    if work.get("files"):
        variables["ORCHESTRATOR_FILES"] = FILES
    if work.get("job_url"):
        variables["ORCHESTRATOR_JOB_URL"] = work["job_url"]
        variables["ORCHESTRATOR_AUDIENCE"] = str(work.get("audience") or "")
    return variables


def leave_files(files: dict[str, str]) -> None:
    """More of the work, for the job's programs alone. The workspace is in memory."""
    os.mkdir(FILES, 0o700)
    for name, content in files.items():
        if "/" in name:
            fail(EX_PROTOCOL, "the work has a file whose name is a path")
        descriptor = os.open(FILES + "/" + name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        with open(descriptor, "wb") as file:
            file.write(content.encode("utf-8", "surrogateescape"))


def start(work: dict[str, Any]) -> int:
    """Write the script and start it in a session of its own; returns its process id."""
    variables = environment(work)
    if work.get("files"):
        leave_files(work["files"])
    descriptor = os.open(SCRIPT, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o500)
    with open(descriptor, "wb") as file:
        file.write(work["job"]["script"].encode("utf-8", "surrogateescape"))
    os.chdir(WORKSPACE)
    job = os.posix_spawn("/bin/sh", ["sh", "-e", SCRIPT], variables, setsid=True, setsigmask=(), setsigdef=DEFAULTED)
    signal.signal(signal.SIGTERM, lambda number, _frame: hand_on(job, number))
    return job


def hand_on(job: int, number: int) -> None:
    try:  # noqa: SIM105 -- contextlib would cost an import
        os.killpg(job, number)
    except ProcessLookupError:
        pass


def reap_until_exit(job: int) -> int:
    """As PID 1 we inherit every orphan. When the script ends we end, and the kernel kills what it left."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == job:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        fail(EX_OSERR, str(error))
    except Exception as error:  # noqa: BLE001 -- the job's owner gets a line, not a traceback
        fail(EX_PROTOCOL, f"the work cannot be used: {type(error).__name__}: {error}")
