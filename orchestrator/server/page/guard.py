"""What keeps other web sites out: whom a browser's request is for, and which page made it. Pure.

A browser adds cookies by itself, and anybody's name can be made to point at our address. So a request that has
no bearer token must name us (`Host`: DNS rebinding), must not come from another site (Fetch Metadata, `Origin`),
and one that changes anything must have a header that only our own scripts can add.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.server.entrance.problems import ProblemError

PAGE_HEADER = "X-Orchestrator-Page"
"""The seal of a page. A page of another origin cannot add it without asking us first, which we never answer (CORS)."""
UNATTENDED_HEADER = "X-Orchestrator-Unattended"
"""On what an open page asks by itself while nobody touches it, which keeps no session alive."""

_SAFE = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Names:
    """Under which `host[:port]` we may be asked: those configured, in lower case, and this machine's own at any port
    where `loopback`. `secure`: browsers reach us by https."""

    hosts: frozenset[str]
    loopback: bool
    secure: bool

    def ours(self, host: str) -> bool:
        host = host.lower()
        return host in self.hosts or (self.loopback and names_loopback(host))


def names_loopback(host: str) -> bool:
    """Whether a Host header names this machine itself, which no foreign name can."""
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        port = port.removeprefix(":")
    else:
        name, _, port = host.partition(":")
    if port and not port.isdecimal():
        return False
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def plain(url: str) -> str:
    """A plain http address as browsers name it: in lower case, without the scheme's own port."""
    return url.lower().removesuffix(":80")


def check_host(names: Names, headers: Mapping[str, str]) -> None:
    """Raises ProblemError `host_unknown`: the request is for somebody else."""
    if not names.ours(headers.get("Host", "")):
        raise ProblemError(
            "The page is not served under this name.",
            reason="host_unknown",
            fix="use the address that the daemon logs at its start, or list the name in page.hosts",
        )


def check_site(names: Names, method: str, headers: Mapping[str, str]) -> None:
    """The request was made by our own page, or by a person's own hand where it only reads.

    Raises:
        ProblemError: `cross_site_refused`.
    """
    safe = method in _SAFE
    site = headers.get("Sec-Fetch-Site", "")
    if site and site != "same-origin" and not (safe and site == "none"):
        raise cross_site_refused()
    origin = headers.get("Origin", "")
    if origin and not _is_own(names, origin):
        raise cross_site_refused()
    if not safe and PAGE_HEADER not in headers:
        raise cross_site_refused()


def _is_own(names: Names, origin: str) -> bool:
    scheme, found, host = origin.partition("://")
    # On this machine itself the page is reached without what is in front of it, too.
    fits = scheme == ("https" if names.secure else "http") or (scheme == "http" and names_loopback(host))
    return bool(found) and fits and names.ours(host)


def cross_site_refused() -> ProblemError:
    """For a request that no page of ours has made."""
    return ProblemError(
        "The request was not made by this page.",
        reason="cross_site_refused",
        fix=f"call the API with a bearer token, or from the page with the header {PAGE_HEADER}",
    )
