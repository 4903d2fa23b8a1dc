"""Envelopes and bundles as files hold them, taken apart and not yet believed.

Sources: DSSE 1.0 (JSON envelope; base64 in either alphabet), Sigstore bundle v0.3 (and v0.1, v0.2) in its JSON form,
in-toto Statement v1 and v0.1.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from orchestrator.errors import GiveUpError
from orchestrator.evidence.envelope import pre_authentication_encoding
from orchestrator.evidence.provenance import IN_TOTO, STATEMENT_TYPE

MAX_ATTESTATION_BYTES: Final = 6 << 20
"""An envelope or bundle: a document of 4 MB in base64, and what is around it."""
BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_BUNDLE_TYPES: Final = re.compile(r"application/vnd\.dev\.sigstore\.bundle(\.v0\.3\+json|\+json;version=0\.[123])")
_STATEMENT_TYPES: Final = (STATEMENT_TYPE, "https://in-toto.io/Statement/v0.1")
_MAX_SIGNATURES: Final = 16
_MAX_SUBJECTS: Final = 1024
_MAX_NAME: Final = 4096
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class AttestationRefusedError(GiveUpError):
    """It proves nothing; `reason` is one of the words in `docs/reference/attestations.md`."""


@dataclass(frozen=True, slots=True)
class Signature:
    """`key` names who signed, in the signer's words (key id, or a bundle's hint); empty where it says nothing."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Attestation:
    """`id` (`sha256:<hex>`) is the same however the envelope is wrapped or its keys are called. Either a `payload` of
    `payload_type`, or, for a signature over the artifact itself, `artifact` (its SHA-256, raw) and no payload."""

    id: str
    signatures: tuple[Signature, ...]
    payload_type: str = ""
    payload: bytes = b""
    artifact: bytes = b""


@dataclass(frozen=True, slots=True)
class Statement:
    """An in-toto statement. `subjects` as they stand, each with a `digest` by algorithm; `raw` is the predicate, a JSON
    object that was not looked into yet: it may be large, and its reader knows which parts it needs."""

    predicate_type: str
    subjects: Sequence[Mapping[str, Any]]
    raw: msgspec.Raw

    @property
    def predicate(self) -> Mapping[str, Any]:
        """The predicate, decoded whole.

        Raises:
            AttestationRefusedError: reason `statement_malformed`.
        """
        return _object(self.raw, "statement_malformed")

    def about(self, digest: str) -> Mapping[str, Any] | None:
        """The subject with this digest (`sha256:<hex>`); None when the statement is not about it."""
        wanted = digest.removeprefix("sha256:")
        return next((one for one in self.subjects if one["digest"].get("sha256") == wanted), None)


class _Written(msgspec.Struct, rename="camel"):
    """A statement as it is written."""

    subject: list[dict[str, Any]]
    predicate_type: str
    predicate: msgspec.Raw
    type: Any = msgspec.field(default=None, name="_type")


_decode_statement = msgspec.json.Decoder(_Written).decode


def read_attestation(text: str | bytes) -> Attestation:
    """Take a DSSE envelope or a Sigstore bundle (JSON text) apart.

    Raises:
        AttestationRefusedError: reason `attestation_too_large`, `envelope_malformed`, `bundle_malformed`,
            `bundle_version_unknown`.
    """
    if len(text) > MAX_ATTESTATION_BYTES:
        raise AttestationRefusedError("the attestation is too large", reason="attestation_too_large")
    found = _object(text, "envelope_malformed")
    if "mediaType" not in found:
        return _envelope(found, "")
    if not isinstance(found["mediaType"], str) or not _BUNDLE_TYPES.fullmatch(found["mediaType"]):
        raise AttestationRefusedError("not a Sigstore bundle of version 0.1 to 0.3", reason="bundle_version_unknown")
    hint = _hint(found)
    match found:
        case {"dsseEnvelope": dict(envelope)}:
            return _envelope(envelope, hint)
        case {"messageSignature": {"messageDigest": {"algorithm": "SHA2_256", "digest": digest}, "signature": value}}:
            return _message_signature(digest, value, hint)
        case _:
            raise AttestationRefusedError("the bundle holds no signature that we read", reason="bundle_malformed")


def read_statement(attestation: Attestation) -> Statement:
    """The statement in an attestation's payload.

    Raises:
        AttestationRefusedError: reason `payload_of_other_type`, `statement_malformed`, `statement_of_other_type`.
    """
    if attestation.payload_type != IN_TOTO:
        raise AttestationRefusedError("the envelope holds no in-toto statement", reason="payload_of_other_type")
    try:
        found = _decode_statement(attestation.payload)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise AttestationRefusedError("not an in-toto statement", reason="statement_malformed") from None
    if found.type not in _STATEMENT_TYPES:
        raise AttestationRefusedError("not an in-toto statement v1 or v0.1", reason="statement_of_other_type")
    fits = (
        0 < len(found.subject) <= _MAX_SUBJECTS
        and 0 < len(found.predicate_type) <= _MAX_NAME
        and all(map(_is_subject, found.subject))
        and bytes(memoryview(found.predicate)[:1]) == b"{"
    )
    if not fits:
        raise AttestationRefusedError("not an in-toto statement", reason="statement_malformed")
    return Statement(found.predicate_type, found.subject, found.predicate)


def _is_subject(subject: object) -> bool:
    match subject:
        case {"digest": dict(digest)}:
            named = digest.get("sha256", "0" * 64)
            return isinstance(named, str) and _SHA256.fullmatch(named) is not None
        case _:
            return False


def _object(text: str | bytes | msgspec.Raw, reason: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise AttestationRefusedError("not a JSON object", reason=reason)
    return found


def _hint(bundle: Mapping[str, Any]) -> str:
    match bundle.get("verificationMaterial"):
        case {"publicKey": {"hint": str(hint)}} if len(hint) <= _MAX_NAME:
            return hint
        case _:
            return ""


def _envelope(envelope: Mapping[str, Any], hint: str) -> Attestation:
    match envelope:
        case {"payload": str(payload), "payloadType": str(kind), "signatures": [_, *_] as entries} if (
            len(entries) <= _MAX_SIGNATURES and 0 < len(kind) <= _MAX_NAME
        ):
            data = _decode(payload, "envelope_malformed")
            signatures = tuple(_signature(entry, hint) for entry in entries)
        case _:
            raise AttestationRefusedError("not a DSSE envelope", reason="envelope_malformed")
    return Attestation(_id(pre_authentication_encoding(kind, data), signatures), signatures, kind, data)


def _signature(entry: object, hint: str) -> Signature:
    match entry:
        case {"sig": str(value), **rest} if isinstance(rest.get("keyid") or "", str):
            return Signature(str(rest.get("keyid") or hint)[:_MAX_NAME], _decode(value, "envelope_malformed"))
        case _:
            raise AttestationRefusedError("not a DSSE envelope", reason="envelope_malformed")


def _message_signature(digest: object, value: object, hint: str) -> Attestation:
    if not isinstance(digest, str) or not isinstance(value, str):
        raise AttestationRefusedError("the bundle's signature is none", reason="bundle_malformed")
    artifact = _decode(digest, "bundle_malformed")
    if len(artifact) != hashlib.sha256().digest_size:
        raise AttestationRefusedError("the bundle's digest is none", reason="bundle_malformed")
    signature = Signature(hint, _decode(value, "bundle_malformed"))
    return Attestation(_id(artifact, (signature,)), (signature,), artifact=artifact)


def _id(signed: bytes, signatures: Sequence[Signature]) -> str:
    """SHA-256 over what is signed and the signatures, each with its length before it."""
    digest = hashlib.sha256()
    for part in (signed, *(signature.value for signature in signatures)):
        digest.update(b"%d " % len(part))
        digest.update(part)
    return f"sha256:{digest.hexdigest()}"


def _decode(text: str, reason: str) -> bytes:
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise AttestationRefusedError("holds what is not base64", reason=reason) from None
