"""Every secret that this machine can name: read only to be found and masked elsewhere, and never kept."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.cli.support.cleaning import Cleaner

MAX_FILE_BYTES = 256 << 10
MAX_FILES = 1000

_FOLDERS = ("keys", "secrets", "brokered")
"""Of the state folder: whatever is in them counts as secret."""
_FILES = ("caller-token",)
_FILE_FIELD = re.compile(r"(?:file|files|keys|kubeconfig)$")
_PUBLIC_FIELDS = frozenset({"jwks_file", "ca_file", "client_ca_file"})
_PUBLIC_PLACES = frozenset({"anchors"})
"""Settings whose files hold nothing secret. Any other file that the settings name is taken for a secret's."""
_SECRET_VARIABLE = re.compile(
    r"(?i)(token|secret|password|passwd|passphrase|credential|api_?key|private_?key|auth|headers|cookie|jwt|signature"
    r"|connection_?string|keys?$|_(?:pat|dsn|sas|pwd|pass)$)"
)


def learn_secrets(cleaner: Cleaner, state: Path, settings: Mapping[str, Any], environment: Mapping[str, str]) -> int:
    """Teach `cleaner` the content of key files, of files that the settings name, and of telling variables. Returns how
    many of the files cannot be read: what is in them cannot be masked by its value.

    `settings` are JSON values, whether or not they fit: those that do not fit name files, too.
    """
    for name, value in environment.items():
        if _SECRET_VARIABLE.search(name):
            cleaner.learn(value)
            cleaner.learn_file(value.replace(",", "\n"))
        if "://" in value:
            cleaner.learn_user(value)
    cleaner.learn_settings(settings)
    unread = 0
    for number, path in enumerate((*_of_state(state), *_named(settings))):
        if number >= MAX_FILES:
            break
        content = _content(path)
        if content is None:
            unread += 1
        else:
            cleaner.learn_file(content)
    return unread


def _of_state(state: Path) -> Iterator[Path]:
    yield from (state / name for name in _FILES if (state / name).is_file())
    for folder in _FOLDERS:
        for parent, names, files in os.walk(state / folder):
            names.sort()
            yield from (Path(parent) / name for name in sorted(files) if not name.endswith((".lock", ".pub")))


def _named(value: Any, key: str = "", place: str = "") -> Iterator[Path]:
    """Files of the settings, but for those that are public; and the kubeconfig."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _named(one, str(name), key)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _named(one, key, key)
    elif isinstance(value, str) and _FILE_FIELD.search(key):
        public = key in _PUBLIC_FIELDS or (key == "file" and place in _PUBLIC_PLACES)
        if not public and Path(value).is_file():
            yield Path(value)


def _content(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return file.read(MAX_FILE_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
