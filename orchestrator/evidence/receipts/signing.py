"""Receipts signed as DSSE envelopes, and opened again. No I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.errors import GiveUpError
from orchestrator.evidence.envelope import EnvelopeRefusedError, envelope_text, open_envelope, sign
from orchestrator.evidence.provenance import IN_TOTO, STATEMENT_TYPE
from orchestrator.evidence.receipts.document import PREDICATE_TYPE, Receipt, Statement, Subject
from orchestrator.evidence.receipts.packing import pack, unpack
from orchestrator.evidence.signing_key import EvidenceKey
from orchestrator.model.events import ReceiptSigned

MAX_STATEMENT_BYTES: Final = 2 << 20
"""A receipt is a page, not a log: all its lists are bounded, and this bounds what they may add up to."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Statement).decode


def statement_of(receipt: Receipt) -> bytes:
    """The bytes to sign.

    Raises:
        GiveUpError: reason `receipt_too_large` or `receipt_unencodable`.
    """
    subject = Subject(name=receipt.job.id, digest={"sha256": hashlib.sha256(receipt.job.id.encode()).hexdigest()})
    statement = Statement(
        type=STATEMENT_TYPE, subject=[subject], predicate_type=PREDICATE_TYPE, predicate=receipt
    )  # fmt: skip
    try:
        data = _encode(statement)
    except (TypeError, ValueError, OverflowError):
        # The cause would quote the value: it is not chained.
        raise GiveUpError("the receipt holds what JSON cannot carry", reason="receipt_unencodable") from None
    if len(data) > MAX_STATEMENT_BYTES:
        raise GiveUpError(f"a receipt of {len(data)} bytes is none", reason="receipt_too_large")
    return data


def sign_receipt(receipt: Receipt, key: EvidenceKey) -> ReceiptSigned:
    """The fact. Its digest is that of the statement, which two envelopes of one receipt share.

    Raises:
        GiveUpError: see `statement_of`.
    """
    data = statement_of(receipt)
    return ReceiptSigned(pack(data, sign(data, IN_TOTO, key), key.id), digest_of(data))


def envelope_of(signed: ReceiptSigned) -> str:
    """The DSSE envelope (JSON text) of a receipt as the journal keeps it; the same text each time.

    Raises:
        GiveUpError: reason `receipt_damaged`.
    """
    statement, signature, key_id = unpack(signed.packed, MAX_STATEMENT_BYTES)
    return envelope_text(statement, IN_TOTO, signature, key_id)


def digest_of(statement: bytes) -> str:
    """`sha256:<hex>` of a statement's bytes."""
    return f"sha256:{hashlib.sha256(statement).hexdigest()}"


def open_receipt(envelope: str, keys: Mapping[str, ec.EllipticCurvePublicKey]) -> tuple[Receipt, str]:
    """The receipt in a DSSE envelope that one of `keys` (by key id) has signed, and its digest.

    Raises:
        EnvelopeRefusedError: reason `envelope_malformed`, `key_unknown` or `signature_invalid`; `receipt_malformed` for
            another statement, or one about another job than its subject.
    """
    data = open_envelope(envelope, IN_TOTO, keys)
    try:
        statement = _decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        raise _malformed("the statement is no teardown receipt") from None
    if statement.type != STATEMENT_TYPE or statement.predicate_type != PREDICATE_TYPE:
        raise _malformed("the statement is no teardown receipt")
    receipt = statement.predicate
    named = hashlib.sha256(receipt.job.id.encode()).hexdigest()
    if [(one.name, one.digest.get("sha256")) for one in statement.subject] != [(receipt.job.id, named)]:
        raise _malformed("the receipt is about another job than its statement")
    return receipt, digest_of(data)


def _malformed(message: str) -> EnvelopeRefusedError:
    return EnvelopeRefusedError(message, reason="receipt_malformed")
