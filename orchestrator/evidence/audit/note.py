"""Signed notes and their keys: text under Ed25519 signatures, as transparency logs exchange it.

Source: C2SP signed-note 1.0; the text forms of keys are those of Go's `golang.org/x/mod/sumdb/note`, so stock tools
read ours: `<name>+<key id>+<base64>` for the public half, `PRIVATE+KEY+<name>+<key id>+<base64>` for the private.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from orchestrator.errors import ConfigurationError, GiveUpError
from orchestrator.private_file import open_or_make

MAX_NOTE_BYTES: Final = 64 << 10
"""Larger notes are not read."""

_ED25519: Final = b"\x01"
_PRIVATE: Final = "PRIVATE+KEY+"
_MAX_SIGNATURES: Final = 100
_NAME: Final = re.compile(r"[^\s+]{1,255}")
_SIGNATURE: Final = re.compile(r"— ([^\s+]{1,255}) ([A-Za-z0-9+/]+={0,2})")
_END: Final = re.compile("\n— [^\n]*\n\n".encode())
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")


class NoteRefusedError(GiveUpError):
    """`note_malformed`, `note_key_unknown` (no signature by the key asked for) or `note_forged` (one that fails)."""

    reason = "note_malformed"


def _key_id(name: str, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """The public half of a key: its name, its id of four bytes and the key itself."""

    name: str
    key_id: bytes
    public: Ed25519PublicKey = field(repr=False)

    @classmethod
    def parse(cls, vkey: str) -> NoteVerifier:
        """From the text form `<name>+<key id>+<base64>`.

        Raises:
            NoteRefusedError: reason `note_malformed`.
        """
        name, public = _take_apart(vkey.strip(), "public key")
        return cls(name, _key_id(name, public), Ed25519PublicKey.from_public_bytes(public))

    @property
    def vkey(self) -> str:
        """The text form."""
        encoded = base64.b64encode(_ED25519 + self.public.public_bytes_raw()).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def text_of(self, note: str) -> str:
        """The text of `note`, once this key's signature over it holds.

        Raises:
            NoteRefusedError: and why; nothing of the note counts.
        """
        text, signatures = _take_note_apart(note)
        for name, signature in signatures:
            if name == self.name and signature[:4] == self.key_id:
                try:
                    self.public.verify(signature[4:], text.encode())
                except InvalidSignature:
                    raise NoteRefusedError(
                        f"the signature of {self.name} does not fit the note", reason="note_forged"
                    ) from None
                return text
        raise NoteRefusedError(
            f"the note is not signed by {self.name}+{self.key_id.hex()}",
            reason="note_key_unknown",
            fix="name the key of this very log; its own folder has it in the file vkey",
        )


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A key that signs notes under its name."""

    name: str
    private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, name: str) -> NoteKey:
        """A new key. `name` should be an address without scheme, such as `ci.example/audit`.

        Raises:
            ConfigurationError: reason `keys_name_invalid`: the name is empty or too long, or has white space or a plus.
        """
        if not _NAME.fullmatch(name) or _CONTROL.search(name):
            raise ConfigurationError(
                f"{name[:80]!r} cannot be the name of an audit key",
                reason="keys_name_invalid",
                fix="use up to 255 characters without white space and plus, such as ci.example/audit",
            )
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, text: str) -> NoteKey:
        """From the text form with `PRIVATE+KEY+`.

        Raises:
            NoteRefusedError: reason `note_malformed`; nothing of the text is repeated.
        """
        stripped = text.strip()
        if not stripped.startswith(_PRIVATE):
            raise _malformed("private key")
        fields = stripped.removeprefix(_PRIVATE).split("+", 2)
        seed = _decode(fields[-1])
        if len(fields) != 3 or len(seed) != 33 or seed[:1] != _ED25519 or not _NAME.fullmatch(fields[0]):
            raise _malformed("private key")
        key = cls(fields[0], Ed25519PrivateKey.from_private_bytes(seed[1:]))
        if key.verifier.key_id.hex() != fields[1]:
            raise _malformed("private key")
        return key

    @property
    def text(self) -> str:
        """The secret text form."""
        encoded = base64.b64encode(_ED25519 + self.private.private_bytes_raw()).decode()
        return f"{_PRIVATE}{self.name}+{self.verifier.key_id.hex()}+{encoded}"

    @property
    def verifier(self) -> NoteVerifier:
        public = self.private.public_key()
        return NoteVerifier(self.name, _key_id(self.name, public.public_bytes_raw()), public)

    def sign(self, text: str) -> str:
        """The note over `text`, which ends in a newline and holds no empty line."""
        signature = self.verifier.key_id + self.private.sign(text.encode())
        return f"{text}\n— {self.name} {base64.b64encode(signature).decode()}\n"


def open_note_key(path: Path, name: str) -> NoteKey:
    """The key in `path` (mode 0600), made under `name` if absent; one that is there keeps the name it was made with.

    It never rotates by itself: what it signed is checked years later. A log begins anew with another key.

    Raises:
        ConfigurationError: reason `keys_unsafe`, `keys_corrupt` or `keys_name_invalid`.
        TryAgainError: reason `keys_unavailable`.
    """
    data = open_or_make(path, lambda: NoteKey.generate(name).text.encode() + b"\n")
    try:
        return NoteKey.parse(data.decode("utf-8"))
    except (NoteRefusedError, UnicodeDecodeError):
        # The cause may quote key material, so it is not chained.
        raise ConfigurationError(
            f"{path} is damaged or no key for signed notes",
            reason="keys_corrupt",
            fix="restore it from a backup, or move it and the audit folder away together, which begins a new log",
        ) from None


def split_notes(data: bytes) -> list[str]:
    """The notes of a file that holds some whose texts have no empty line, each but the last followed by one.

    What is no note, such as the first half of one, comes back by itself and is refused when it is read.
    """
    found: list[str] = []
    for block in data.decode("utf-8", errors="replace").split("\n\n"):
        part = block.strip("\n")
        if not part:
            continue
        if part.startswith("— ") and found and not found[-1].endswith("\n"):
            found[-1] += f"\n\n{part}\n"
        else:
            found.append(part)
    return found


def first_whole_note(data: bytes) -> int:
    """Where the first note begins that lies wholly in `data`, the end of a file of notes that was cut anywhere."""
    found = _END.search(data)
    return found.end() if found else len(data)


def whole_notes(data: bytes) -> bytes:
    """Up to the end of the last note that is followed by an empty line: without the torn end of a write."""
    end = len(data)
    while (end := data.rfind(b"\n\n", 0, end)) >= 0:
        if data.startswith("— ".encode(), data.rfind(b"\n", 0, end) + 1):
            return data[: end + 2]
    return b""


def _take_note_apart(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    text, gap, rest = note.rpartition("\n\n")
    lines = rest.split("\n")
    if len(note) > MAX_NOTE_BYTES or not text or not gap or lines.pop() != "" or _CONTROL.search(note):
        raise NoteRefusedError("it is no signed note")
    if not 0 < len(lines) <= _MAX_SIGNATURES:
        raise NoteRefusedError("the note has no signature, or too many")
    signatures: list[tuple[str, bytes]] = []
    for line in lines:
        found = _SIGNATURE.fullmatch(line)
        signature = _decode(found[2]) if found else b""
        if not found or len(signature) < 5:
            raise NoteRefusedError("a signature of the note cannot be read")
        signatures.append((found[1], signature))
    return text + "\n", signatures


def _take_apart(vkey: str, what: str) -> tuple[str, bytes]:
    fields = vkey.split("+", 2)
    key = _decode(fields[-1])
    name = fields[0]
    if len(fields) != 3 or len(key) != 33 or key[:1] != _ED25519 or not _NAME.fullmatch(name):
        raise _malformed(what)
    if _key_id(name, key[1:]).hex() != fields[1]:
        raise _malformed(what)
    return name, key[1:]


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _malformed(what: str) -> NoteRefusedError:
    return NoteRefusedError(
        f"the {what} is not of the form NAME+ID+BASE64 with a key for Ed25519", fix="copy it whole, as one line"
    )
