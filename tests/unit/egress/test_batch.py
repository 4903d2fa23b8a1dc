"""Verdicts on their way to the daemon: none twice, none lost without being counted, never too many."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from orchestrator.egress.batch import MAX_ALARMS, MAX_VERDICTS, BatchError, Outbox, decode_batch
from orchestrator.model.events import EgressDecided

VERDICT = EgressDecided("a.test", 443, "tls", True, "tls://a.test:443")


def test_a_batch_is_the_same_until_it_is_taken():
    outbox = Outbox("g")
    assert outbox.next() is None
    outbox.add("r", VERDICT)
    first = outbox.next()
    outbox.add("r", VERDICT)
    assert outbox.next() is first
    assert (first.batch, len(first.verdicts)) == (1, 1)
    outbox.taken()
    second = outbox.next()
    assert (second.batch, len(second.verdicts)) == (2, 1)
    outbox.taken()
    assert (outbox.next(), len(outbox)) == (None, 0)


def test_batches_are_cut_to_size_and_keep_their_order():
    outbox = Outbox("g")
    for number in range(MAX_VERDICTS + 1):
        outbox.add("r", replace(VERDICT, port=number))
    ports = []
    while batch := outbox.next():
        assert decode_batch(msgspec.json.encode(batch)) == batch
        ports += [one.verdict.port for one in batch.verdicts]
        outbox.taken()
    assert ports == list(range(MAX_VERDICTS + 1))


def test_what_does_not_fit_is_counted():
    outbox = Outbox("g", max_waiting=2)
    for _ in range(3):
        outbox.add("r", replace(VERDICT, connections=5))
    assert outbox.lost == 5
    assert outbox.next().lost == 5
    outbox.refused()  # everything in it is lost as well, what it said of losses is said again
    assert outbox.lost == 15
    assert outbox.next().lost == 15
    outbox.taken()
    assert outbox.next() is None


def test_misuses_are_summed_and_bounded():
    outbox = Outbox("g")
    for _ in range(3):
        outbox.misused("owner", "thief", "10.0.0.9")
    for number in range(2 * MAX_ALARMS):
        outbox.misused("owner", "thief", f"10.0.1.{number}")
    alarms = outbox.next().alarms
    assert len(alarms) == MAX_ALARMS
    assert (alarms[0].owner, alarms[0].runner, alarms[0].address, alarms[0].times) == ("owner", "thief", "10.0.0.9", 3)


@pytest.mark.parametrize(
    "change",
    [{"host": "x" * 1025}, {"reason": "x" * 1025}, {"bytes_up": -1}, {"port": -1}, {"connections": -1}],
)
def test_what_cannot_be_a_verdict(change):
    outbox = Outbox("g")
    outbox.add("r", replace(VERDICT, **change))
    with pytest.raises(BatchError):
        decode_batch(msgspec.json.encode(outbox.next()))


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"gateway":"","batch":1}', b'{"gateway":"g","batch":0}', b'{"gateway":"g","batch":1,"x":1}']
)
def test_what_is_no_batch(data):
    with pytest.raises(BatchError):
        decode_batch(data)
