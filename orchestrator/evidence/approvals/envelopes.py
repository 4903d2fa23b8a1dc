"""DSSE envelopes with several signatures over one statement; each person adds theirs. No I/O.

Source: Dead Simple Signing Envelope 1.0. A signature without a key id, or by a key that is nobody's here, proves
nothing and is left out; one that names a key and is not that key's makes the whole envelope a forgery.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from orchestrator.evidence.approvals.keys import PrivateKey, PublicKey, holds, key_id, sign
from orchestrator.evidence.approvals.refusal import ApprovalRefusedError
from orchestrator.evidence.approvals.statements import MAX_STATEMENT_BYTES
from orchestrator.evidence.envelope import pre_authentication_encoding
from orchestrator.evidence.provenance import IN_TOTO

MAX_SIGNATURES: Final = 16
MAX_ENVELOPE_CHARS: Final = 2 * MAX_STATEMENT_BYTES
_MAX_SIGNATURE_BYTES: Final = 512
_MAX_KEY_ID_CHARS: Final = 256


@dataclass(frozen=True, slots=True)
class Envelope:
    """A statement's bytes, and who says that they signed it: key id to signature."""

    payload: bytes
    signatures: Mapping[str, bytes]

    def text(self) -> str:
        """DSSE JSON, with sorted keys."""
        document = {
            "payload": base64.b64encode(self.payload).decode("ascii"),
            "payloadType": IN_TOTO,
            "signatures": [
                {"keyid": name, "sig": base64.b64encode(signature).decode("ascii")}
                for name, signature in sorted(self.signatures.items())
            ],
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"))

    def to_sign(self) -> bytes:
        """The bytes that each signature is over (PAE)."""
        return pre_authentication_encoding(IN_TOTO, self.payload)

    def signed_by(self, private: PrivateKey) -> Envelope:
        return self.with_signature(key_id(private.public_key()), sign(private, self.to_sign()))

    def with_signature(self, name: str, signature: bytes) -> Envelope:
        return replace(self, signatures={**self.signatures, name: signature})

    def signers(self, keys: Mapping[str, PublicKey]) -> frozenset[str]:
        """The ids of those of `keys` that signed it.

        Raises:
            ApprovalRefusedError: `approval_forged`: one is named, and its signature does not hold.
        """
        known = {name: signature for name, signature in self.signatures.items() if name in keys}
        for name, signature in known.items():
            if not holds(keys[name], signature, self.to_sign()):
                raise ApprovalRefusedError("approval_forged", f"the signature in the name of key {name} does not hold")
        return frozenset(known)


def read_envelope(text: str) -> Envelope:
    """An envelope from DSSE JSON text; `signatures` may be empty, and then it is a draft.

    Raises:
        ApprovalRefusedError: `approval_malformed`.
    """
    if len(text) > MAX_ENVELOPE_CHARS:
        raise _malformed(f"it is longer than {MAX_ENVELOPE_CHARS} characters")
    try:
        document = json.loads(text)
        kind, payload, given = document["payloadType"], document["payload"], document["signatures"]
        if not isinstance(given, list) or len(given) > MAX_SIGNATURES:
            raise _malformed(f"signatures must be a list of at most {MAX_SIGNATURES}")
        signatures = dict(_signature(entry["keyid"], entry["sig"]) for entry in given)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _malformed("it is no JSON object with payloadType, payload and signatures of keyid and sig") from None
    if kind != IN_TOTO:
        raise _malformed(f"payloadType must be {IN_TOTO}")
    if len(signatures) != len(given):
        raise _malformed("signatures names a key twice")
    return Envelope(_decode(payload), signatures)


def _signature(name: object, signature: object) -> tuple[str, bytes]:
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_KEY_ID_CHARS:
        raise _malformed("signatures.keyid must be the id of the key that signed")
    decoded = _decode(signature)
    if not 0 < len(decoded) <= _MAX_SIGNATURE_BYTES:
        raise _malformed(f"signatures.sig must have 1 to {_MAX_SIGNATURE_BYTES} bytes")
    return name, decoded


def _decode(text: object) -> bytes:
    if not isinstance(text, str):
        raise _malformed("payload and sig must be base64 text")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _malformed("payload and sig must be base64 text") from None


def _malformed(message: str) -> ApprovalRefusedError:
    return ApprovalRefusedError("approval_malformed", f"the envelope cannot be read: {message}")
