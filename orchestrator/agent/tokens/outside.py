"""Asking a party outside, by the egress gateway: bounded, without redirects, and not in clear."""

from __future__ import annotations

import os
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException, HTTPMessage
from typing import IO

from .runner_api import MAX_ANSWER, TIMEOUT_SECONDS, RefusedError


class Place:
    """Where to ask. `ca_file` replaces the system's authorities; `allow_http` lets a token travel in clear.

    Raises:
        ValueError: no URL that a token may be sent to.
    """

    def __init__(self, url: str, ca_file: str = "", allow_http: bool = False) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no http(s) URL")
        if parts.username or parts.password or parts.fragment:
            raise ValueError(f"the URL of {parts.hostname} holds a user, a password or a fragment; give it without")
        here = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if parts.scheme == "http" and not here and not allow_http:
            raise ValueError(f"{url} would carry the token in clear; use https, or say --allow-http")
        self.url = url
        self.ca_file = ca_file

    def below(self, path: str) -> Place:
        """The same place with `path` added to its URL."""
        other = Place.__new__(Place)
        other.url, other.ca_file = self.url.rstrip("/") + path, self.ca_file
        return other


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token goes to whom it was meant for and to nobody else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def post(place: Place, body: bytes, headers: dict[str, str]) -> bytes:
    """The body of the answer, which is 2xx.

    Raises:
        PartyError: another status.
        OSError: no connection, no trust in the other side's certificate, or no answer in time.
        ValueError: the answer is too long.
    """
    request = urllib.request.Request(place.url, data=body, headers={"User-Agent": "orchestrator-token", **headers})
    opener = urllib.request.build_opener(NoRedirect(), *_trust(place.ca_file))
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            answer: bytes = response.read(MAX_ANSWER + 1)
    except urllib.error.HTTPError as error:
        raise PartyError(place.url, error.code, error.read(MAX_ANSWER)) from None
    except urllib.error.URLError as error:
        raise OSError(f"{host_of(place.url)}: {_blocked(error.reason)}") from None
    except HTTPException as error:
        raise OSError(f"{host_of(place.url)}: the answer was cut: {error!r}") from None
    if len(answer) > MAX_ANSWER:
        raise ValueError(f"the answer of {host_of(place.url)} is too long")
    return answer


def form(place: Place, fields: list[tuple[str, str]], accept: str = "application/json") -> bytes:
    """`post` of form fields."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": accept}
    return post(place, urllib.parse.urlencode(fields).encode(), headers)


class PartyError(RefusedError):
    """The party answered with an error. `body` is what it said."""

    def __init__(self, url: str, status: int, body: bytes) -> None:
        super().__init__(f"{host_of(url)} answered {status}", status)
        self.body = body


def host_of(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc


def _blocked(reason: object) -> str:
    words = str(reason)
    if "403" in words:
        return f"{words}: the egress gateway lets no job of this pool go there"
    return words


def _trust(ca_file: str) -> list[urllib.request.BaseHandler]:
    if not ca_file:
        return []  # the system's authorities, or those of SSL_CERT_FILE
    import ssl

    return [urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=os.path.abspath(ca_file)))]
