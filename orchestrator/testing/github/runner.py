"""A stand-in for GitHub's runner program, for the test server: one file, standard library only.

Run it as `python -I -S runner.py`, with the just-in-time configuration in `ACTIONS_RUNNER_INPUT_JITCONFIG` or after
`--jitconfig`. It registers, waits for its one job, runs the started hook, the steps and the completed hook with the
real variables, honours `GITHUB_ENV`, `GITHUB_PATH` and `::add-mask::`, reports result and log, and ends as `run.sh`
does: 0 whether or not the job succeeded, 7 for a deprecated version when asked to, 143 after SIGTERM. With
`--listener` the codes are those of `bin/Runner.Listener`.

It starts once for each job of a benchmark, so it imports C modules where the wrappers above them cost milliseconds.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import os
import select
import sys
import time
from _json import encode_basestring_ascii as quoted
from _json import make_scanner
from _socket import AF_INET, SOCK_STREAM, getaddrinfo, socket
from binascii import a2b_base64, b2a_base64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

SUCCESS, TERMINATED, RETRYABLE, SESSION_CONFLICT, DEPRECATED = 0, 1, 2, 5, 7
RESULTS = {"succeeded": 0, "failed": 2, "canceled": 3, "abandoned": 5}
HOSTED_BASE = 100
QUIET_SECONDS = 2.0
"""So long a step runs before the program begins to ask whether the job was cancelled: most end sooner."""
ANSWER_SECONDS = 90.0
CONFLICT_SECONDS = 240.0
MAX_ANSWER = 64 << 20
MAX_LOG = 8 << 20
GRACE_SECONDS = 7.5
STARTED, COMPLETED = "ACTIONS_RUNNER_HOOK_JOB_STARTED", "ACTIONS_RUNNER_HOOK_JOB_COMPLETED"


class EndedError(Exception):
    """The listener ends with this code."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code


class RefusedError(Exception):
    """The server's answer is not the one that is needed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status


# --- JSON and HTTP, without the cost of their packages ---


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
    text = data.decode().strip()
    value, end = make_scanner(ScannerContext)(text, 0)  # type: ignore[arg-type]
    if end != len(text):
        raise ValueError("data after the JSON text")
    return value


def dumps(value: object) -> str:
    if isinstance(value, str):
        return quoted(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ",".join(quoted(str(key)) + ":" + dumps(one) for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(dumps(one) for one in value) + "]"
    raise TypeError(type(value).__name__)


class Broker:
    """Requests to the broker, through the proxy of the environment, one connection for each."""

    def __init__(self, url: str, secret: str) -> None:
        self.host, self.port, self.base = split_url(url)
        self.secret = secret
        self.session = ""
        self.proxy = self.proxy_host = self.proxy_credential = ""
        self.proxy_port = 0
        proxy = os.environ.get("http_proxy") or os.environ.get("HTTP_PROXY") or ""
        direct = (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(",")
        if proxy and self.host not in [name.strip() for name in direct]:
            self.proxy = proxy
            self.proxy_host, self.proxy_port, self.proxy_credential = split_proxy(proxy)

    def begin(self, method: str, path: str, body: str = "") -> socket:
        """Send a request; the answer is read from the connection with `end`."""
        target, extra = f"{self.base}/{path}", ""
        address = (self.host, self.port)
        if self.proxy:
            target, address = f"http://{self.host}:{self.port}{target}", (self.proxy_host, self.proxy_port)
            if self.proxy_credential:
                extra = f"Proxy-Authorization: Basic {self.proxy_credential}\r\n"
        data = body.encode()
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nUser-Agent: stand-in-runner\r\n"
            f"Authorization: Bearer {self.secret}\r\nConnection: close\r\n{extra}"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        connection = connect(address)
        connection.sendall(head.encode() + data)
        return connection

    def end(self, connection: socket) -> tuple[int, bytes]:
        parts, size = [], 0
        while chunk := connection.recv(262_144):
            parts.append(chunk)
            size += len(chunk)
            if size > MAX_ANSWER:
                raise ValueError("the answer is too long")
        connection.close()
        head, found, body = b"".join(parts).partition(b"\r\n\r\n")
        words = head.split(b" ", 2)
        if not found or len(words) < 3 or not words[1].isdigit():
            raise ValueError("the answer is not HTTP")
        length = length_of(head)
        if length >= 0 and len(body) != length:
            raise ValueError("the answer was cut short")
        return int(words[1]), body

    def ask(self, method: str, path: str, body: str = "") -> Any:
        """The answer's JSON, None when there is none.

        Raises:
            RefusedError: any status but 2xx.
        """
        status, answer = self.end(self.begin(method, path, body))
        if not 200 <= status < 300:
            raise RefusedError(status, answer[:200].decode("utf-8", "replace"))
        return loads(answer) if answer else None


def length_of(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return -1


def connect(address: tuple[str, int]) -> socket:
    family, kind, _, _, where = getaddrinfo(address[0], address[1], AF_INET, SOCK_STREAM)[0]
    connection = socket(family, kind)
    connection.settimeout(ANSWER_SECONDS)
    connection.connect(where)
    return connection


def split_url(url: str) -> tuple[str, int, str]:
    """Host, port and path without its last slash."""
    scheme, _, rest = url.partition("://")
    if scheme != "http":
        raise EndedError(TERMINATED, "the stand-in speaks plain http only")
    place, _, path = rest.partition("/")
    host, _, port = place.partition(":")
    return host, int(port or 80), ("/" + path).rstrip("/")


def split_proxy(url: str) -> tuple[str, int, str]:
    """Host, port and the Basic credential of a proxy's URL."""
    place = url.partition("://")[2].partition("/")[0]
    user, _, place = place.rpartition("@")
    host, _, port = place.partition(":")
    return host, int(port or 80), b2a_base64(user.encode(), newline=False).decode()


# --- configuration and variables ---


def configuration() -> tuple[dict[str, Any], dict[str, Any]]:
    """The files `.runner` and `.credentials` of the just-in-time configuration, which leaves the environment here."""
    blob = os.environ.pop("ACTIONS_RUNNER_INPUT_JITCONFIG", "")
    if "--jitconfig" in sys.argv[:-1]:
        blob = sys.argv[sys.argv.index("--jitconfig") + 1]
    try:
        files = {name: a2b_base64(content) for name, content in loads(a2b_base64(blob)).items()}
        for name, content in files.items():
            if "/" not in name:
                write(name, content, 0o600)
        return loads(files[".runner"]), loads(files[".credentials"])["data"]
    except (ValueError, KeyError, AttributeError, TypeError, StopIteration) as error:
        raise EndedError(TERMINATED, "the just-in-time configuration cannot be read") from error


def write(path: str, content: bytes, mode: int = 0o644) -> str:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)
    return path


def read(path: str, start: int = 0) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.lseek(descriptor, start, 0)
        parts = []
        while chunk := os.read(descriptor, 1 << 20):
            parts.append(chunk)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def parsed_variables(text: str) -> dict[str, str]:
    """`NAME=value` lines and `NAME<<DELIMITER` blocks of a `GITHUB_ENV` file."""
    found: dict[str, str] = {}
    lines = iter(text.split("\n"))
    for line in lines:
        name, equals, value = line.partition("=")
        before, block, delimiter = line.partition("<<")
        if block and len(before) < len(name):
            taken: list[str] = []
            for inner in lines:
                if inner == delimiter:
                    break
                taken.append(inner)
            found[before] = "\n".join(taken)
        elif equals:
            found[name] = value
    return found


# --- the job ---


class StoppedError(BaseException):
    """SIGTERM has come."""


class JobRun:
    """One job: its folders, its variables, its log, its steps in order."""

    def __init__(self, broker: Broker, request: dict[str, Any], work: str) -> None:
        self.broker = broker
        self.request = request
        self.failed = self.cancelled = False
        self.steps: list[dict[str, Any]] = []
        self.masks: list[bytes] = []
        self.child = 0
        self.shown = 0
        name = request["variables"]["GITHUB_REPOSITORY"].rpartition("/")[2]
        self.workspace = f"{work}/{name}/{name}"
        self.temp = f"{work}/_temp"
        for folder in (self.workspace, f"{self.temp}/_runner_file_commands", f"{self.temp}/_github_workflow"):
            os.makedirs(folder, exist_ok=True)
        self.log = write(f"{self.temp}/job.log", b"")
        self.environment = self.variables(work)
        self.shell = which(self.environment.get("PATH", "/usr/bin:/bin"), "bash", "sh")

    def variables(self, work: str) -> dict[str, str]:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("ACTIONS_RUNNER_INPUT_")}
        variables.update(self.request["variables"])
        event = write(f"{self.temp}/_github_workflow/event.json", dumps(self.request["event"]).encode())
        variables.update(GITHUB_EVENT_PATH=event, GITHUB_WORKSPACE=self.workspace, RUNNER_TEMP=self.temp)
        variables.update(RUNNER_TOOL_CACHE=f"{work}/_tool", RUNNER_WORKSPACE=os.path.dirname(self.workspace))
        machine = os.uname().machine
        variables["RUNNER_ARCH"] = {"x86_64": "X64", "aarch64": "ARM64"}.get(machine, machine.upper())
        return variables

    def run(self) -> str:
        """Everything in order; returns the result's word."""
        os.chdir(self.workspace)
        self.hook("Set up runner", STARTED, "success")
        for number, step in enumerate(self.request["steps"]):
            script = write(f"{self.temp}/step-{number}.sh", step["run"].encode())
            self.step(step["name"], step["condition"], script, step["environment"])
        self.hook("Complete runner", COMPLETED, "always")
        return "canceled" if self.cancelled else "failed" if self.failed else "succeeded"

    def hook(self, name: str, variable: str, condition: str) -> None:
        path = os.environ.get(variable, "")
        if not path:
            return
        if path.endswith(".sh") and os.path.isfile(path):
            self.step(name, condition, path, {})
            return
        self.say(f"##[error]{path} is not a valid path to a script. Make sure it ends in '.sh'.")
        self.failed = True
        self.note(name, "failure")

    def step(self, name: str, condition: str, script: str, extra: dict[str, str]) -> None:
        stopped = self.failed or self.cancelled
        if not {"success": not stopped, "failure": self.failed, "always": True}[condition]:
            self.note(name, "skipped")
            return
        files = {}
        for variable, word in (("ENV", "set_env"), ("PATH", "add_path"), ("OUTPUT", "set_output"), ("STATE", "state")):
            path = f"{self.temp}/_runner_file_commands/{word}_{len(self.steps)}"
            files["GITHUB_" + variable] = write(path, b"")
        files["GITHUB_STEP_SUMMARY"] = write(f"{self.temp}/_runner_file_commands/summary_{len(self.steps)}", b"")
        self.say(f"##[group]{name}")
        code = self.spawn(script, self.environment | extra | files)
        self.environment.update(parsed_variables(read(files["GITHUB_ENV"]).decode("utf-8", "replace")))
        added = read(files["GITHUB_PATH"]).decode("utf-8", "replace").split("\n")
        for folder in filter(None, added):
            self.environment["PATH"] = folder + ":" + self.environment.get("PATH", "")
        if code != 0:
            self.failed = True
            self.say(f"##[error]Process completed with exit code {code}.")
        self.show()
        self.note(name, "failure" if code else "success")

    def note(self, name: str, conclusion: str) -> None:
        number = len(self.steps) + 1
        self.steps.append({"name": name, "status": "completed", "conclusion": conclusion, "number": number})

    def spawn(self, script: str, environment: dict[str, str]) -> int:
        """Run a script to its end in a process group of its own; its exit code, 128 + n for signal n."""
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, self.log, os.O_WRONLY | os.O_APPEND, 0),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        defaults = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT)
        self.child = os.posix_spawn(
            self.shell,
            [self.shell, "-e", script],
            environment,
            file_actions=actions,
            setpgroup=0,
            setsigmask=(),
            setsigdef=defaults,
        )
        self.watch(self.child)
        _, status = os.waitpid(self.child, 0)
        self.child = 0
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code

    def watch(self, child: int) -> None:
        """Until the child has ended; from a while on with a question to the broker open, whether to cancel."""
        ended = os.pidfd_open(child)
        poller = select.poll()
        poller.register(ended, select.POLLIN)
        try:
            quiet = QUIET_SECONDS
            while not poller.poll(quiet * 1000):
                quiet = 1.0
                if self.told_to_cancel(poller, ended):
                    self.cancelled = True
                    end_group(child, poller)
                    return
        finally:
            os.close(ended)

    def told_to_cancel(self, poller: select.poll, ended: int) -> bool:
        """One long poll; False as well when the child ends first or the broker cannot be reached."""
        try:
            connection = self.broker.begin("GET", f"message?sessionId={self.broker.session}&status=Busy")
        except OSError:
            return False
        poller.register(connection.fileno(), select.POLLIN)
        try:
            ready = [descriptor for descriptor, _ in poller.poll(ANSWER_SECONDS * 1000)]
            if ended in ready or connection.fileno() not in ready:
                return False
            status, answer = self.broker.end(connection)
            return status == 200 and loads(answer)["messageType"] == "JobCancellation"
        except (OSError, ValueError):
            return False
        finally:
            poller.unregister(connection.fileno()) if connection.fileno() >= 0 else None
            connection.close()

    def say(self, line: str) -> None:
        descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        os.write(descriptor, line.encode("utf-8", "surrogateescape") + b"\n")
        os.close(descriptor)

    def show(self) -> None:
        """Learn masks from what is new in the log, and print it where that is wanted."""
        new = read(self.log, self.shown)
        self.shown += len(new)
        for line in new.split(b"\n"):
            if line.startswith(b"::add-mask::") and line[12:].strip():
                self.masks.append(line[12:].strip())
        if os.environ.get("ACTIONS_RUNNER_PRINT_LOG_TO_STDOUT") == "1":
            os.write(1, self.masked(new))

    def masked(self, text: bytes) -> bytes:
        for mask in self.masks:
            text = text.replace(mask, b"***")
        return text

    def report(self, result: str) -> None:
        """Tell the broker how the job ended; its log goes with it."""
        log = self.masked(read(self.log))[-MAX_LOG:].decode("utf-8", "replace")
        body = dumps({"result": result, "log": log, "steps": self.steps})
        for attempt in range(5):
            try:
                self.broker.ask("POST", "complete", body)
            except RefusedError as error:
                if error.status < 500:
                    say(f"the result was refused: {error.status}")
                    return
            except (OSError, ValueError):
                pass
            else:
                return
            time.sleep(0.2 * 2**attempt)


def end_group(child: int, poller: select.poll) -> None:
    """As the real program does: an interrupt, then a request, then an end."""
    for number, seconds in ((signal.SIGINT, GRACE_SECONDS), (signal.SIGTERM, 2.5), (signal.SIGKILL, 0)):
        try:
            os.killpg(child, number)
        except ProcessLookupError:
            return
        if poller.poll(seconds * 1000):
            return


def which(path: str, *names: str) -> str:
    for name in names:
        for folder in path.split(":"):
            if folder and os.access(f"{folder}/{name}", os.X_OK):
                return f"{folder}/{name}"
    raise EndedError(TERMINATED, "there is no shell")


# --- the listener ---


def say(text: str) -> None:
    os.write(1, (text + "\n").encode("utf-8", "replace"))


def open_session(broker: Broker) -> None:
    until = time.monotonic() + CONFLICT_SECONDS
    while True:
        try:
            broker.session = broker.ask("POST", "session")["sessionId"]
        except RefusedError as error:
            if error.status == 409 and time.monotonic() < until:
                time.sleep(1.0)
                continue
            again = RETRYABLE if error.status >= 500 or error.status == 429 else TERMINATED
            codes = {409: SESSION_CONFLICT, 426: DEPRECATED}
            raise EndedError(codes.get(error.status, again), f"no session: {error.status}") from error
        except (OSError, ValueError) as error:
            raise EndedError(RETRYABLE, f"no session: {error}") from error
        return


def wait_for_job(broker: Broker) -> dict[str, Any]:
    """The job's request, however long it takes."""
    failures = 0
    while True:
        try:
            answer = broker.ask("GET", f"message?sessionId={broker.session}&status=Online")
            failures = 0
        except RefusedError as error:
            if error.status < 500 and error.status != 429:
                raise EndedError(TERMINATED, "the runner's registration was removed") from error
            failures += 1
        except (OSError, ValueError):
            failures += 1
        else:
            if answer and answer["messageType"] == "RunnerJobRequest":
                return dict(answer)
        if failures:
            time.sleep(min(0.2 * 2**failures, 15.0))


def listen(settings: dict[str, Any], credentials: dict[str, Any], root: str) -> int:
    """One life of the listener; returns its code."""
    broker = Broker(settings["ServerUrlV2"], credentials["clientId"])
    open_session(broker)
    say("Connected to GitHub; listening for jobs")
    job: JobRun | None = None
    try:
        request = wait_for_job(broker)
        job = JobRun(broker, request, os.path.join(root, settings["WorkFolder"] or "_work"))
        say(f"Running job: {request['displayName']}")
        result = job.run()
    except StoppedError:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        leave(broker, job)
        raise
    job.report(result)
    say(f"Job {request['displayName']} completed with result: {result}")
    hosted = os.environ.get("ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED", "").lower() == "true"
    return HOSTED_BASE + RESULTS[result] if hosted else SUCCESS


def leave(broker: Broker, job: JobRun | None) -> None:
    """StoppedError from outside: a job is reported as canceled, an idle runner's session is closed."""
    if job is None:
        try:
            broker.ask("DELETE", "session")
        except (RefusedError, OSError, ValueError):
            return
        return
    if job.child:
        os.killpg(job.child, signal.SIGKILL)
    job.report("canceled")


def stopped(_signal: int, _frame: object) -> None:
    raise StoppedError


def main() -> NoReturn:
    plain = "--listener" in sys.argv
    if os.geteuid() == 0 and not plain and not os.environ.get("RUNNER_ALLOW_RUNASROOT"):
        say("Must not run with sudo")
        os._exit(1 if os.environ.get("RUNNER_MANUALLY_TRAP_SIG") else 0)
    signal.signal(signal.SIGTERM, stopped)
    code = RETRYABLE
    try:
        settings, credentials = configuration()
        root = os.getcwd()
        while code == RETRYABLE:
            code = one_life(settings, credentials, root)
            if plain:
                break
            if code == RETRYABLE:
                time.sleep(1.0)
    except EndedError as error:
        say(f"runner: {error}")
        code = error.code
    except StoppedError:
        code = 128 + signal.SIGTERM
    wanted = os.environ.get("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE") == "1"
    if not plain and code != 128 + signal.SIGTERM:
        code = DEPRECATED if code == DEPRECATED and wanted else 0
    os._exit(code)


def one_life(settings: dict[str, Any], credentials: dict[str, Any], root: str) -> int:
    try:
        return listen(settings, credentials, root)
    except EndedError as error:
        say(f"runner: {error}")
        return error.code


if __name__ == "__main__":
    main()
