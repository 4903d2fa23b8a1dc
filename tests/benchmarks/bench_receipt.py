"""What a receipt costs: processor time and bytes of the journal for each job, and how many can be checked.

The floor of a lifecycle is the same lifecycle without receipts, measured in turns; that of a receipt is its signature
alone. A receipt of the journal is packed; its floor in bytes is the envelope that it gives back.

    python tests/benchmarks/bench_receipt.py [jobs of a round]
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop
from bench_engine import EVIDENCE_KEY, SIGNER, ReceiverProcess, figure, lifecycles

from orchestrator.evidence.envelope import sign
from orchestrator.evidence.provenance import IN_TOTO
from orchestrator.evidence.receipts.judging import judge
from orchestrator.evidence.receipts.making import Ending, receipt_of
from orchestrator.evidence.receipts.signing import envelope_of, open_receipt, sign_receipt, statement_of
from orchestrator.evidence.receipts.story import Story
from orchestrator.journal import codec
from orchestrator.model.events import Fact, ReceiptSigned
from orchestrator.model.record import fold

OUTPUT = Path("build/bench/receipt.json")
ROUNDS = 5
TIMES = 2000
KEYS = {EVIDENCE_KEY.id: EVIDENCE_KEY.public}


def milliseconds(work: Callable[[], object]) -> float:
    """Processor time of one call; the best of five tries."""
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        for _ in range(TIMES // 5):
            work()
        best = min(best, (time.process_time() - begun) / (TIMES // 5) * 1e3)
    return best


def bytes_of(facts: Sequence[Fact]) -> int:
    return sum(len(codec.encode(fact.event)) for fact in facts)


def alone(facts: Sequence[Fact]) -> dict[str, dict[str, object]]:
    """Of one job with a receipt: making it, checking it, keeping it."""
    signed = next(fact.event for fact in facts if isinstance(fact.event, ReceiptSigned))
    before = facts[:-2]
    record, last = fold(before), before[-1].at_ns
    ending = Ending(last + 2, last + 1, "memory", last + 2)

    def make() -> ReceiptSigned:
        return sign_receipt(receipt_of(record, Story.of(before), ending, SIGNER, "ab" * 16), EVIDENCE_KEY)

    envelope = envelope_of(signed)
    statement = statement_of(open_receipt(envelope, KEYS)[0])

    def check() -> None:
        assert all(found.holds for found in judge(open_receipt(envelope, KEYS)[0]))

    made, signature = milliseconds(make), milliseconds(lambda: sign(statement, IN_TOTO, EVIDENCE_KEY))
    checked = milliseconds(check)
    return {
        "cpu_per_receipt": figure(made, signature, "ms"),
        "checked_per_cpu_second": {"ours": round(1e3 / checked), "floor": None, "ratio": None, "unit": "1/s"},
        "bytes_of_a_receipt": figure(len(codec.encode(signed)), len(envelope), "B"),
        "bytes_of_a_jobs_facts": figure(bytes_of(facts), bytes_of([f for f in facts if f.event is not signed]), "B"),
    }


async def main(jobs: int) -> dict[str, dict[str, object]]:
    receiver = ReceiverProcess()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sys.setswitchinterval(0.0005)
    with_receipts, without = [], []
    try:
        with tempfile.TemporaryDirectory() as name:

            def folder() -> Path:
                return Path(tempfile.mkdtemp(dir=name))

            _, facts = await lifecycles(jobs // 4, folder(), receiver, sealed=True)
            for _ in range(ROUNDS):
                without.append((await lifecycles(jobs, folder(), receiver))[0].cpu_ms)
                with_receipts.append((await lifecycles(jobs, folder(), receiver, sealed=True))[0].cpu_ms)
    finally:
        receiver.close()
    cpu = figure(statistics.median(with_receipts), statistics.median(without), "ms")
    return {"cpu_per_lifecycle_with_receipts": cpu, **alone(facts[len(facts) // 2])}


if __name__ == "__main__":
    figures = uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
    for name, values in figures.items():
        print(f"{name:34} {values['ours']:9} {values['unit']:4} floor {values['floor']}  ratio {values['ratio']}")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=2) + "\n")
