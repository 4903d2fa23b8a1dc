"""Takes what is secret out of whatever goes into a bundle.

Three nets. What is known to be secret by its place, such as the content of key files, never gets here. What is known by
its value, every secret that this machine can name, is masked wherever it turns up and however it is encoded. What
looks like a credential, by itself (`journal.redact`) or by its name (`shapes`), is masked too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from orchestrator.cli.support.shapes import is_secret_by_name, masked_shapes
from orchestrator.journal.redact import MASK, MIN_SECRET, Masker, without_private_keys

MAX_SECRETS = 20_000
MAX_TEXT = 2000
"""Longer texts are left out: they are envelopes, scripts and the like."""

LEFT_OUT = frozenset({"script", "environment", "claimed", "packed", "envelope", "document", "predicate", "payload"})
"""Fields that hold what a job's author wrote, or what was signed: never in a bundle, whatever is in them."""

_WHOSE = "bundle"
_LONG = 16
"""Characters of a word that may be a secret's value."""
_PIECE = re.compile(rf"[A-Za-z0-9+/=_.~-]{{{_LONG},}}")
_GIVEN = re.compile(r"\s*([\w.-]+)\s*[:=]")
_PUBLIC = frozenset({"kid", "alg", "algorithm", "kty", "use", "crv", "state", "version", "id", "name", "created"})
_MAX_DEPTH = 40


class Cleaner:
    """Knows the secrets, and makes clean copies."""

    def __init__(self) -> None:
        self._masker = Masker()
        self._known: set[str] = set()
        self.beyond = 0
        """Secrets that came when `MAX_SECRETS` were known, and are not masked by their value."""

    def learn(self, secret: str) -> None:
        """Mask this value from now on. Shorter ones than `MIN_SECRET` would mask innocent text."""
        if len(secret) < MIN_SECRET or secret in self._known:
            return
        if len(self._known) >= MAX_SECRETS:
            self.beyond += 1
            return
        self._known.add(secret)
        self._masker.register(_WHOSE, secret)

    def learn_file(self, content: str) -> None:
        """Mask what a secret's file holds: each line, what a line gives to a name, and each piece that is long enough
        to be a secret; of JSON each text, but not what names a key or its kind."""
        try:
            document = json.loads(content)
        except ValueError:
            document = None
        if isinstance(document, dict | list):
            for text in _texts(document):
                self.learn(text)
            return
        for line in content.splitlines():
            self.learn(line.strip())
            given = _GIVEN.match(line)
            if given and given[1] not in _PUBLIC and "://" not in line:
                self.learn(line[given.end() :].strip().strip("'\""))
            for piece in _PIECE.findall(line):
                self.learn(piece)

    def learn_words(self, text: str) -> None:
        """Mask what looks like a secret's value in a text: long pieces of letters and digits, with the name that they
        are given to and without it."""
        for piece in _PIECE.findall(text):
            for word in (piece, piece.partition("=")[2]):
                if len(word) >= _LONG and any(map(str.isdigit, word)) and any(map(str.isalpha, word)):
                    self.learn(word)

    def learn_settings(self, value: Any, key: str = "") -> None:
        """Mask what addresses and commands of the settings may hold against all advice: passwords, paths, arguments."""
        if isinstance(value, Mapping):
            for name, one in value.items():
                self.learn_settings(one, str(name))
        elif isinstance(value, list | tuple):
            for one in value[1 if key.endswith("command") else 0 :]:
                self.learn_settings(one, key)
        elif isinstance(value, str) and "://" in value:
            self.learn_user(value)
            path = value.partition("://")[2].partition("/")[2]
            for part in re.split("[/?&=#]", path):
                self.learn_words(part)
        elif isinstance(value, str) and key.endswith("command"):
            self.learn_words(value)

    def learn_user(self, address: str) -> None:
        """Mask the password in an address, or the user's name where that is all there is: it may be a token."""
        before = re.split("[/?#]", address.partition("://")[2], maxsplit=1)[0].rpartition("@")[0]
        user, _, password = before.partition(":")
        self.learn(password or user)
        self.learn(unquote(password or user))

    def text(self, text: str) -> str:
        """Line by line, so that a long one loses nothing but what is too long for one line."""
        return "\n".join(map(self._line, without_private_keys(text).split("\n")))

    def _line(self, text: str) -> str:
        return masked_shapes(self._masker.text(text))

    def document(self, value: Any, depth: int = 0) -> Any:
        """JSON values without secrets, without what job authors wrote, and without texts that are too long."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return value if self._masker.text(str(value)) == str(value) else MASK
        if depth > _MAX_DEPTH:
            return "…"
        if isinstance(value, Mapping):
            return {self._masker.text(str(key)): self._field(str(key), one, depth) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.document(one, depth + 1) for one in value]
        text = str(value)
        return self.text(text) if len(text) <= MAX_TEXT else f"<{len(text)} characters left out>"

    def _field(self, key: str, value: Any, depth: int) -> Any:
        if key in LEFT_OUT and value:
            return "<left out>"
        if isinstance(value, str) and is_secret_by_name(key, value):
            return MASK
        return self.document(value, depth + 1)

    def finds(self, content: bytes) -> bool:
        """Whether something that is known to be secret is still in there."""
        return self._masker.holds(_WHOSE, content)


def without_paths(value: Any, key: str = "") -> Any:
    """Settings whose addresses show their host only: some services are called by a path that is the secret.

    What names an issuer, ourselves or a platform's organisation is public, and stays.
    """
    if isinstance(value, Mapping):
        return {name: without_paths(one, str(name)) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(one, key) for one in value]
    if isinstance(value, str) and "://" in value:
        return _address(value, whole=key in ("issuer", "public_url", "organization_url"))
    return value


def arguments_counted(value: Any, key: str = "") -> Any:
    """Settings whose commands show their program only: arguments should hold no secret, and sometimes do."""
    if isinstance(value, Mapping):
        return {name: arguments_counted(one, str(name)) for name, one in value.items()}
    if isinstance(value, list | tuple) and key.endswith("command") and len(value) > 1:
        return [value[0], f"<{len(value) - 1} arguments left out>"]
    if isinstance(value, list | tuple):
        return [arguments_counted(one, key) for one in value]
    return value


def _address(text: str, *, whole: bool) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:
        return MASK
    host = parts.netloc.rpartition("@")[2]
    path = parts.path if whole or len(parts.path) <= 1 else "/…"
    return urlunsplit((parts.scheme, host, path, "", ""))


def _texts(value: Any, key: str = "") -> Iterable[str]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _texts(one, str(name))
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one, key)
    elif isinstance(value, str) and key not in _PUBLIC:
        yield value
