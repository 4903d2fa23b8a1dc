"""Sign-ins under way. The browser keeps each of them under our mark, so that nobody can make us forget another's, and
under a name of its own, so that one tab's does not end another tab's.

What the provider and the way back must fit is made from the state with a key that only this process has: a cookie that
somebody else reads holds no secret of the exchange.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from orchestrator.identity.sign_in.provider import Attempt, SignInError

ATTEMPT_SECONDS = 600
"""From the page to the provider and back."""
MAX_TAKEN = 10_000
"""States that are known to have come back; the oldest is forgotten first. Its code is worth nothing any more anyway."""
MAX_COOKIE = 128
"""Characters of what a browser keeps."""
MAX_OF_BROWSER = 5
"""Sign-ins under way in one browser; the one that ends first goes. It sends all of them with every request."""
_LETTERS = 16
"""Of the digest of a state, in the name of its cookie."""


class Attempts:
    """`monotonic` gives seconds that never run backwards. A restart of the daemon ends every attempt."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._key = secrets.token_bytes(32)
        self._taken: OrderedDict[str, None] = OrderedDict()

    def begin(self, provider: str) -> tuple[Attempt, str]:
        """An attempt, and what the browser must show when it comes back."""
        state, until = secrets.token_urlsafe(32), str(int(self._monotonic()) + ATTEMPT_SECONDS)
        return self._attempt(provider, state), f"{until}.{self._mark('browser', provider, state, until)}"

    def take(self, provider: str, state: str, shown: str) -> Attempt:
        """The attempt that this browser began with this provider; it is over with that.

        Raises:
            SignInError: `sign_in_unknown`: there is none, it was taken, it is too old, or another browser's.
        """
        until, _, mark = shown[:MAX_COOKIE].rpartition(".")
        ours = self._mark("browser", provider, state, until)
        if (
            not hmac.compare_digest(mark.encode(errors="replace"), ours.encode())
            or self._monotonic() >= int(until)
            or state in self._taken
        ):
            raise SignInError("This browser has begun no such sign-in, or too long ago.", reason="sign_in_unknown")
        self._taken[state] = None
        while len(self._taken) > MAX_TAKEN:
            self._taken.popitem(last=False)
        return self._attempt(provider, state)

    def _attempt(self, provider: str, state: str) -> Attempt:
        return Attempt(provider, state, self._mark("nonce", provider, state), self._mark("verifier", provider, state))

    def _mark(self, *parts: str) -> str:
        """43 letters; as many as a verifier must have (RFC 7636, section 4.1)."""
        text = "\0".join(parts).encode(errors="replace")
        return base64.urlsafe_b64encode(hmac.digest(self._key, text, hashlib.sha256)).decode().rstrip("=")


def cookie_of(prefix: str, state: str) -> str:
    """The name of the cookie that keeps one attempt."""
    return f"{prefix}-{hashlib.sha256(state.encode(errors='replace')).hexdigest()[:_LETTERS]}"


def kept(prefix: str, cookies: Mapping[str, str]) -> dict[str, str]:
    """What a browser shows of its attempts, by the names of the cookies. Browsers send names that may not be set."""
    ours = re.compile(rf"{re.escape(prefix)}-[0-9a-f]{{{_LETTERS}}}")
    return {name: value[:MAX_COOKIE] for name, value in cookies.items() if ours.fullmatch(name)}


def too_many(prefix: str, cookies: Mapping[str, str]) -> list[str]:
    """The cookies that must go before a browser keeps one more."""
    names = sorted(((_ends(value), name) for name, value in kept(prefix, cookies).items()), reverse=True)
    return [name for _, name in names[MAX_OF_BROWSER - 1 :]]


def _ends(shown: str) -> int:
    """When an attempt ends, as the browser shows it; what cannot be ours ended first of all."""
    until = shown.partition(".")[0]
    return int(until) if until.isascii() and until.isdecimal() else -1
