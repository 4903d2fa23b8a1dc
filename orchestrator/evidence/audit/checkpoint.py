"""Checkpoints: the size and the root of a log's Merkle tree, signed. Who keeps one can tell whether the log still
holds every record it then held. Source: C2SP tlog-checkpoint.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.evidence.audit.note import NoteKey, NoteRefusedError, NoteVerifier

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`root` is the RFC 6962 root over the first `size` records; `note` is the signed text to hand on."""

    origin: str
    size: int
    root: bytes
    note: str
    extensions: tuple[str, ...] = ()


def sign_checkpoint(key: NoteKey, size: int, root: bytes, extensions: Sequence[str] = ()) -> Checkpoint:
    """Under the key's name as origin. Extension lines are neither empty nor hold a newline."""
    lines = [key.name, str(size), base64.b64encode(root).decode(), *extensions]
    return Checkpoint(key.name, size, root, key.sign("".join(f"{line}\n" for line in lines)), tuple(extensions))


def read_checkpoint(note: str, verifier: NoteVerifier) -> Checkpoint:
    """The checkpoint in `note`, once the key's signature holds and the origin is the key's name.

    Raises:
        NoteRefusedError: `note_malformed`, `note_key_unknown`, `note_forged`.
    """
    lines = verifier.text_of(note).split("\n")[:-1]
    if len(lines) < 3:
        raise NoteRefusedError("the note is no checkpoint")
    origin, size, root, *extensions = lines
    try:
        decoded = base64.b64decode(root, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if origin != verifier.name or not _SIZE.fullmatch(size) or len(decoded) != 32 or not all(extensions):
        raise NoteRefusedError("the note is no checkpoint of this log")
    return Checkpoint(origin, int(size), decoded, note, tuple(extensions))
