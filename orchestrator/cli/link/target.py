"""Which daemon a command talks to, and with which caller token."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from orchestrator.cli.exits import CommandError, ExitCode, UnreachableError, UsageError
from orchestrator.state_dir import default_state_dir

_MAX_FILE_BYTES = 64 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
_START_ONE = "start one with `orchestrator run`, or say where it is with --url"


class NoTokenError(CommandError):
    exit_code = ExitCode.REFUSED
    reason = "token_missing"


@dataclass(frozen=True, slots=True)
class Target:
    """A daemon's base URL (no trailing slash) and the file its caller token is read from, anew for each request:
    the daemon renews it while a long command runs. `own` says that it is the one that a daemon here leaves while it
    runs."""

    url: str
    token_file: Path | None
    own: bool = False

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.url)

    def token(self) -> str:
        """The caller token.

        Raises:
            NoTokenError: there is no file, or no token in it. The message never holds the content.
            UnreachableError: there is no daemon that would have left one.
        """
        if self.token_file is None:
            raise NoTokenError(
                f"there is no caller token for {self.url}",
                fix="name a file with --token-file or ORCHESTRATOR_TOKEN_FILE",
            )
        if self.own and not os.path.lexists(self.token_file):
            raise UnreachableError(f"no daemon has left its caller token in {self.token_file.parent}", fix=_START_ONE)
        token = _read(self.token_file, NoTokenError).strip()
        if not _TOKEN.fullmatch(token):
            raise NoTokenError(f"{self.token_file} holds no token", fix="it must hold one token and nothing else")
        return token


def find_target(url: str | None, token_file: Path | None, *, allow_http: bool = False) -> Target:
    """The daemon to talk to: as told, else the one whose state folder is this user's.

    The local caller token is only ever sent to the local daemon: another URL needs a token file of its own.

    Raises:
        UsageError: the URL does not fit, or the token would cross a network in the clear.
        UnreachableError: no URL was given and no daemon has left its address.
    """
    state = state_dir()
    if url is None:
        local = _local_url(state)
        return Target(_checked(local, allow_http=True), token_file or state / "caller-token", own=token_file is None)
    url = _checked(url, allow_http=allow_http)
    own = False
    if token_file is None:
        with contextlib.suppress(CommandError):
            own = _local_url(state) == url
        token_file = state / "caller-token" if own else None
    return Target(url, token_file, own=own)


def state_dir() -> Path:
    """The state folder: `ORCHESTRATOR_STATE_DIR`, else the one in `ORCHESTRATOR_CONFIG`, else the default."""
    given = os.environ.get("ORCHESTRATOR_STATE_DIR")
    if given:
        return Path(given)
    config = os.environ.get("ORCHESTRATOR_CONFIG")
    if config:
        from orchestrator.settings import load_settings

        return load_settings(Path(config)).state_dir
    return default_state_dir()


def _local_url(state: Path) -> str:
    note = state / "daemon.json"
    if not note.exists():
        raise UnreachableError(f"no daemon has left its address in {state}", fix=_START_ONE)
    try:
        url = json.loads(_read(note, UnreachableError))["url"]
    except (ValueError, KeyError, TypeError):
        raise UnreachableError(f"{note} cannot be read as a daemon's address", fix=_START_ONE) from None
    return str(url)


def _read(path: Path, error: type[CommandError]) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as fault:
        raise error(f"cannot read {path}: {fault.strerror}", fix="check the path and its permissions") from None
    if len(content) > _MAX_FILE_BYTES:
        raise error(f"{path} is larger than {_MAX_FILE_BYTES} bytes")
    return content.decode("utf-8", "replace")


def _checked(url: str, *, allow_http: bool) -> str:
    fix = "for example --url http://127.0.0.1:8455"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise UsageError("the daemon's URL cannot be read", fix=fix) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UsageError("the daemon's URL must be http:// or https:// with a host, without query or fragment", fix=fix)
    if parts.username is not None or parts.password is not None:
        raise UsageError("the daemon's URL must not hold credentials", fix="name a token file with --token-file")
    if parts.scheme == "http" and not allow_http and not _loopback(parts.hostname):
        raise UsageError(
            f"plain http to {parts.hostname} would show the caller token to the network",
            fix="use https://, a tunnel to the loopback address, or --allow-http where the network is trusted",
        )
    return url.rstrip("/")


def _loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
