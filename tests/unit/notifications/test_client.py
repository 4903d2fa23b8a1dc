import asyncio
import base64
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from standardwebhooks import Webhook

from orchestrator.egress.addresses import is_public
from orchestrator.errors import TryAgainError
from orchestrator.notifications import names
from orchestrator.notifications.addresses import is_ours
from orchestrator.notifications.client import Poster, _wished
from orchestrator.testing.hook_receiver import HookFault, HookReceiver
from tests.unit.notifications.plain import SECRET, endpoint, message


async def posted(given, *messages):
    poster = Poster(given, is_public)
    try:
        return [await poster.post(one) for one in messages]
    finally:
        await poster.close()


async def test_a_message_arrives_with_the_standards_headers_and_a_signature_that_its_library_takes():
    async with HookReceiver() as receiver:
        [done] = await posted(endpoint(receiver.url), message(body=b'{"a":1}'))
        assert (done.delivered, done.status, done.reason) == (True, 204, "")
        [hook] = receiver.taken
        assert hook.headers["content-type"] == "application/json"
        assert abs(int(hook.headers["webhook-timestamp"]) - time.time()) < 5
        judge = Webhook(base64.b64encode(SECRET).decode())
        assert judge.verify(hook.body, dict(hook.headers)) == {"a": 1}


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        (HookFault.UNAVAILABLE, 503, "endpoint_busy"),
        (HookFault.RATE_LIMITED, 429, "endpoint_busy"),
        (HookFault.REFUSED, 400, "endpoint_refused"),
        (HookFault.GONE, 410, "endpoint_gone"),
        (HookFault.MOVED, 307, "endpoint_redirects"),
        (HookFault.RESET, 0, "endpoint_unreachable"),
        (HookFault.HANG, 0, "endpoint_timeout"),
    ],
)
async def test_each_failure_has_its_word_and_is_tried_once(fault, status, reason):
    async with HookReceiver(retry_after_seconds=7) as receiver:
        receiver.always = fault
        [done] = await posted(endpoint(receiver.url, timeout_seconds=0.2), message())
        assert (done.delivered, done.status, done.reason) == (False, status, reason)
        assert done.wish_seconds == (7.0 if fault is HookFault.RATE_LIMITED else None)
        assert receiver.paths == ["/hooks"], "neither repeated nor redirected"
        assert receiver.url not in done.detail


async def test_nobody_listens():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        [done] = await posted(endpoint(f"http://127.0.0.1:{probe.getsockname()[1]}/"), message())
    assert done.reason == "endpoint_unreachable"


async def test_an_unreadable_key_sends_nothing():
    def unreadable(_id, _moment, _body):
        raise TryAgainError("the webhook key /k is empty", reason="secret_file_unusable")

    async with HookReceiver() as receiver:
        [done] = await posted(endpoint(receiver.url, sign=unreadable), message())
        assert done.reason == "secret_file_unusable"
        assert receiver.seen == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
async def test_only_endpoints_that_may_be_private_are_connected_to_on_this_machine(host):
    async with HookReceiver() as receiver:
        url = f"http://{host}:{receiver.port}/hooks"
        [refused] = await posted(endpoint(url, private=False), message())
        assert refused.reason == "endpoint_forbidden"
        assert receiver.seen == []


@pytest.mark.parametrize(
    "host", ["2130706433", "0177.0.0.1", "127.1", "127.0.0.1.", "①②⑦.0.0.1", "[::ffff:7f00:1%25lo]"]
)
async def test_an_address_in_disguise_gets_nowhere(host):
    """Whoever looks it up, it is an address of this machine, or none."""
    async with HookReceiver() as receiver:
        [refused] = await posted(endpoint(f"http://{host}:{receiver.port}/hooks", private=False), message())
        assert refused.reason in ("endpoint_forbidden", "endpoint_unreachable")
        assert receiver.seen == []


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1", "2130706433", "::ffff:127.0.0.1", "169.254.169.254"])
async def test_what_is_connected_to_is_judged_last_of_all_whoever_has_resolved_it(address):
    """The library of HTTP takes some hosts for addresses, and asks no resolver then."""
    guard = names.Guard(False, is_public)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(names.ForbiddenAddressError):
        guard.socket((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 443)))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("Wednesday, 21-Oct-26 07:28:30 GMT", 30.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("9" * 30, None),
        ("Wed, 99 Oct 2026 07:28:30 GMT", None),
        ("Wed, 21 Oct 99999999999 07:28:30 GMT", None),
    ],
)
def test_an_endpoint_may_say_when_to_come_again(text, seconds):
    assert _wished(text, 1792567680.0) == seconds


async def test_a_name_of_this_machine_is_reached_where_it_is_allowed():
    async with HookReceiver() as receiver:
        [done] = await posted(endpoint(f"http://localhost:{receiver.port}/hooks"), message())
        assert done.delivered


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("10.0.0.1", True),
        ("172.16.3.4", True),
        ("192.168.1.1", True),
        ("fd12::1", True),
        ("::ffff:10.0.0.1", True),
        ("169.254.169.254", False),
        ("::ffff:169.254.169.254", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("fd20:ce::254", False),
        ("fd00:ec2::23", False),
        ("fd00:c1::a9fe:a9fe", False),
        ("fd00:42::42", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b:1::a9fe:a9fe", False),
        ("2002:a9fe:a9fe::1", False),
        ("::a9fe:a9fe", False),
        ("fd12::1%eth0", False),
        ("0.1.2.3", False),
        ("192.0.0.170", False),
        ("198.18.0.1", False),
        ("203.0.113.1", False),
        ("127.1", False),
        ("localhost", False),
        ("100.100.100.200", False),
        ("0.0.0.0", False),
        ("::", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
    ],
)
def test_private_never_means_where_clouds_keep_credentials(address, allowed):
    assert is_ours(address) is allowed


async def test_a_dead_name_server_takes_no_thread_from_others(monkeypatch):
    answered = threading.Event()

    def never(*_given, **_more):
        answered.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    poster = Poster(endpoint("https://dead.example/", timeout_seconds=0.2), is_public)
    try:
        tries = [asyncio.create_task(poster.post(message(number))) for number in range(4)]
        async with asyncio.timeout(5):
            assert {done.reason for done in await asyncio.gather(*tries)} == {"endpoint_timeout"}
            await asyncio.to_thread(lambda: None)
    finally:
        answered.set()
        await poster.close()


_EXITS = """
import asyncio, socket, threading
from orchestrator.egress.addresses import is_public
from orchestrator.notifications.client import Poster
from tests.unit.notifications.plain import endpoint, message

async def main():
    poster = Poster(endpoint("https://dead.example/", timeout_seconds=0.1), is_public)
    print((await poster.post(message())).reason)
    await poster.close()

socket.getaddrinfo = lambda *_given, **_more: threading.Event().wait()
asyncio.run(main())
"""


def test_a_dead_name_server_keeps_no_daemon_from_ending():
    done = subprocess.run([sys.executable, "-c", _EXITS], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "endpoint_timeout\n"), done.stderr


async def test_no_more_names_are_looked_up_at_once_than_there_are_threads_for(monkeypatch):
    """However often somebody tries, what hangs is counted until it hangs no more."""
    begun, answered = [], threading.Event()

    def slow(host, *_given, **_more):
        begun.append(host)
        answered.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    guard = names.Guard(False, is_public)
    for _ in range(3 * names.AT_ONCE):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await guard.resolve("dead.example")
    assert len(begun) == names.AT_ONCE
    answered.set()
    async with asyncio.timeout(30):
        with pytest.raises(OSError, match="no answer"):
            await guard.resolve("dead.example")
