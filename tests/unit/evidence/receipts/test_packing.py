"""What the journal keeps of a receipt gives the very bytes back that were signed."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from told_job import token, told

from orchestrator.errors import GiveUpError
from orchestrator.evidence.receipts import packing
from orchestrator.evidence.receipts.packing import pack, unpack
from orchestrator.evidence.receipts.signing import MAX_STATEMENT_BYTES, envelope_of, sign_receipt, statement_of
from orchestrator.model.events import ReceiptSigned


@given(statement=st.binary(max_size=4000), signature=st.binary(max_size=80))
def test_any_bytes_come_back(statement, signature):
    assert unpack(pack(statement, signature, "sha256:1"), MAX_STATEMENT_BYTES) == (statement, signature, "sha256:1")


def test_a_receipt_takes_a_quarter_of_its_envelope(key):
    fact = sign_receipt(told(token()), key)
    assert len(fact.packed) < len(envelope_of(fact)) / 3.5
    assert len(sign_receipt(told(), key).packed) < 800


def test_the_same_envelope_each_time(key):
    fact = sign_receipt(told(token()), key)
    assert envelope_of(fact) == envelope_of(ReceiptSigned(fact.packed, fact.digest))


def test_what_is_kept_can_be_read_for_ever():
    """The dictionary is part of the format: with another one no receipt that is in a journal could be read."""
    assert packing._FORM == "1"
    assert (
        hashlib.sha256(packing._DICTIONARY).hexdigest()
        == "5f794b7d26938b60e5010cd3bcdb025f90c2e52a41b56e3da989163fbc5f7a19"
    )


def spoiled(text: str) -> list[str]:
    form, packed, signature, key_id = text.split(" ")
    data = base64.b64decode(packed)
    cut, more = base64.b64encode(data[:-3]).decode(), base64.b64encode(data + b"x").decode()
    other = base64.b64encode(bytes([data[0] ^ 255]) + data[1:]).decode()
    return ["", "1", f"2 {packed} {signature} {key_id}", f"{form} {packed} {signature}", f"{text} more",
            f"1 {cut} {signature} {key_id}", f"1 {more} {signature} {key_id}", f"1 {other} {signature} {key_id}",
            f"1 *** {signature} {key_id}", f"1 {packed} * {key_id}", "1 \ud800 a b"]  # fmt: skip


@pytest.mark.parametrize("number", range(11))
def test_what_was_not_packed_is_damaged(number):
    with pytest.raises(GiveUpError) as caught:
        unpack(spoiled(pack(statement_of(told()), b"s", "sha256:1"))[number], MAX_STATEMENT_BYTES)
    assert caught.value.reason == "receipt_damaged"


def test_a_bomb_is_not_unpacked():
    with pytest.raises(GiveUpError):
        unpack(pack(b"0" * (8 << 20), b"", "k"), MAX_STATEMENT_BYTES)
