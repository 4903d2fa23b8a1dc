"""DSSE envelopes, signed and checked with ECDSA P-256 and SHA-256. No I/O.

Source: Dead Simple Signing Envelope 1.0 (protocol: PAE and signing; envelope: JSON). The signature is DER,
as cosign and securesystemslib write it, so stock tools read ours.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.errors import GiveUpError
from orchestrator.evidence.signing_key import EvidenceKey

MAX_ENVELOPE_CHARS: Final = 4 << 20
_MAX_SIGNATURES: Final = 16


class EnvelopeRefusedError(GiveUpError):
    """The envelope proves nothing; `reason`: `envelope_malformed`, `key_unknown`, `signature_invalid`."""


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """PAE: what is signed. The lengths leave no two (type, payload) pairs with one encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_envelope(payload: bytes, payload_type: str, key: EvidenceKey) -> str:
    """The envelope as JSON text with sorted keys."""
    return envelope_text(payload, payload_type, sign(payload, payload_type, key), key.id)


def sign(payload: bytes, payload_type: str, key: EvidenceKey) -> bytes:
    """The signature (DER) that an envelope of this payload has."""
    return key.private.sign(pre_authentication_encoding(payload_type, payload), ec.ECDSA(hashes.SHA256()))


def envelope_text(payload: bytes, payload_type: str, signature: bytes, key_id: str) -> str:
    """An envelope with one signature, as JSON text with sorted keys."""
    envelope = {
        "payload": base64.b64encode(payload).decode("ascii"),
        "payloadType": payload_type,
        "signatures": [{"keyid": key_id, "sig": base64.b64encode(signature).decode("ascii")}],
    }
    return json.dumps(envelope, sort_keys=True, separators=(",", ":"))


def open_envelope(text: str, payload_type: str, keys: Mapping[str, ec.EllipticCurvePublicKey]) -> bytes:
    """The payload, once one signature by one of `keys` (by key id) holds over it and exactly this type.

    Raises:
        EnvelopeRefusedError: and why.
    """
    if len(text) > MAX_ENVELOPE_CHARS:
        raise EnvelopeRefusedError("the envelope is too large", reason="envelope_malformed")
    try:
        envelope = json.loads(text)
        payload = _decode(envelope["payload"])
        found_type, signatures = envelope["payloadType"], envelope["signatures"]
        if not isinstance(signatures, list) or not 0 < len(signatures) <= _MAX_SIGNATURES:
            raise ValueError("no signatures, or too many")
        named = [(entry.get("keyid"), _decode(entry["sig"])) for entry in signatures]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise EnvelopeRefusedError("not a DSSE envelope", reason="envelope_malformed") from None
    if found_type != payload_type:
        raise EnvelopeRefusedError("the envelope holds another type of payload", reason="envelope_malformed")
    signed = pre_authentication_encoding(payload_type, payload)
    known = [(keys[name], signature) for name, signature in named if isinstance(name, str) and name in keys]
    if not known:
        raise EnvelopeRefusedError("no signature is by a known key", reason="key_unknown")
    for key, signature in known:
        try:
            key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            continue
        return payload
    raise EnvelopeRefusedError("no signature by a known key holds", reason="signature_invalid")


def _decode(text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError("not text")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
