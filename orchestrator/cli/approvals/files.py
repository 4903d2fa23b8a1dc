"""Signed objects on the way: made of options, read from files or the daemon, signed, written."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from orchestrator.cli.exits import UsageError

if TYPE_CHECKING:
    from orchestrator.cli.link.client import DaemonClient
    from orchestrator.evidence.approvals.envelopes import Envelope
    from orchestrator.evidence.approvals.statements import Predicate

API = "/v1/approvals"

_ID = re.compile(r"sha256:[0-9a-f]{64}")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NAMED = {"break_glass": "1h", "override": "30m"}
_DEFAULT_LIFE = "24h"


def life(kind: str, starts: str, lasts: str) -> tuple[str, str]:
    """Start and end as statements write them: from now, or from an RFC 3339 time, for `4h` or the like.

    Raises:
        UsageError: one of them cannot be read.
    """
    from orchestrator.cli.moments import moment_ns
    from orchestrator.evidence.approvals.statements import SECOND, moment

    span = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", lasts or _NAMED.get(kind, _DEFAULT_LIFE))
    if span is None:
        raise UsageError(f"--lasts {lasts[:40]!r} is no span of time", fix="write 30m, 4h or 7d")
    begins = moment_ns(starts, "--starts") if starts else time.time_ns()
    return moment(begins), moment(begins + int(span[1]) * _UNITS[span[2]] * SECOND)


def now() -> str:
    """The time, as statements write it."""
    from orchestrator.evidence.approvals.statements import moment

    return moment(time.time_ns())


def draft(predicate: Predicate) -> Envelope:
    """An envelope that nobody has signed yet.

    Raises:
        UsageError: what was asked for makes no sense.
    """
    from orchestrator.evidence.approvals.envelopes import Envelope
    from orchestrator.evidence.approvals.refusal import ApprovalRefusedError
    from orchestrator.evidence.approvals.statements import read_statement, statement_bytes

    payload = statement_bytes(predicate)
    try:
        read_statement(payload)
    except ApprovalRefusedError as refused:
        raise UsageError(str(refused), fix="see `orchestrator approvals request --help`") from None
    return Envelope(payload, {})


def is_id(target: str) -> bool:
    """Whether it names an object of the daemon, and no file."""
    return _ID.fullmatch(target) is not None


def load(target: str, client: Callable[[], DaemonClient]) -> Envelope:
    """The envelope in a file, or that of an object of the daemon, with the signatures it has.

    Raises:
        UsageError: there is no such file, or it holds something else.
    """
    from orchestrator.cli.jobs.jobfile import read_text
    from orchestrator.evidence.approvals.envelopes import read_envelope
    from orchestrator.evidence.approvals.refusal import ApprovalRefusedError
    from orchestrator.evidence.approvals.statements import read_statement

    text = client().read(path_of(target))["envelope"] if is_id(target) else read_text(Path(target))
    try:
        envelope = read_envelope(text)
        read_statement(envelope.payload)
    except ApprovalRefusedError as refused:
        raise UsageError(f"{target}: {refused}", fix=refused.fix) from None
    return envelope


def path_of(name: str, *more: str) -> str:
    """The API's path of an object."""
    return "/".join([API, quote(name, safe=""), *more])


def signed(envelope: Envelope, key: Path) -> Envelope:
    """With the signature of a private key; a passphrase is asked for where it needs one."""
    import typer

    from orchestrator.evidence.approvals.keys import KeyEncryptedError, read_private_key

    try:
        private = read_private_key(key)
    except KeyEncryptedError:
        private = read_private_key(key, typer.prompt(f"Passphrase of {key}", hide_input=True, err=True))
    return envelope.signed_by(private)


def attached(envelope: Envelope, signature: Path, public_key: Path) -> Envelope:
    """With a signature that another program made over the bytes that `--to-sign` writes.

    Raises:
        UsageError: a file cannot be read, or the signature is not that key's over this object.
    """
    from orchestrator.cli.jobs.jobfile import read_text
    from orchestrator.evidence.approvals.keys import holds, read_public_keys

    keys = read_public_keys(read_text(public_key))
    if len(keys) != 1:
        raise UsageError(f"{public_key} must hold one public key in PEM, of P-256 or Ed25519")
    name, public = next(iter(keys.items()))
    made = _signature(signature)
    if not holds(public, made, envelope.to_sign()):
        raise UsageError(
            f"{signature} is not the signature of {public_key} over this object",
            fix="sign the very bytes that --to-sign writes, with SHA-256 for a P-256 key",
        )
    return envelope.with_signature(name, made)


def _signature(path: Path) -> bytes:
    """Raw bytes as OpenSSL writes them, or base64 as cosign does."""
    import base64
    import binascii

    try:
        data = path.read_bytes()[:4096]
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    try:
        return base64.b64decode(data.strip(), validate=True)
    except binascii.Error:
        return data


def write(path: Path, data: str | bytes, *, anew: bool = False) -> None:
    """Raises UsageError: it cannot be written, or with `anew` is there already."""
    try:
        with path.open("xb" if anew else "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
    except FileExistsError:
        raise UsageError(f"{path} is there already", fix="name another file; nothing is overwritten") from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def send(client: DaemonClient, envelope: Envelope) -> dict[str, Any]:
    """Send it to the daemon; its view of it."""
    return client.send(API, json.loads(envelope.text()))
