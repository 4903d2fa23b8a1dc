"""The page on receipts: its check by OpenSSL alone takes a real receipt, and no other."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.evidence.receipts.document import (
    DaemonPart,
    JobPart,
    JournalPart,
    OutcomePart,
    Receipt,
    TimesPart,
)
from orchestrator.evidence.receipts.signing import envelope_of, sign_receipt
from orchestrator.evidence.signing_key import generate_evidence_key

PAGE = Path(__file__).parents[3] / "docs/how-to/check-a-receipt.md"
RECEIPT = Receipt(
    job=JobPart(id="dispatch.a.1", source="dispatch", attempt=1, pool="default", caller="c", trace_id="t"),
    outcome=OutcomePart(result="success", reason="completed"),
    times=TimesPart(offered="2026-01-01T00:00:00Z", ended="2026-01-01T00:00:01Z", sealed="2026-01-01T00:00:02Z"),
    bound_seconds=60,
    journal=JournalPart(first_seq=1, last_seq=2, facts=2),
    daemon=DaemonPart(url="https://ci.example", version="0"),
)

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl on this machine")


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    (block,) = [text for text in re.findall(r"```\n(.*?)```", PAGE.read_text(), re.DOTALL) if "openssl" in text]
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euc", block],
        cwd=folder,
        env={"PATH": tools},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )


def test_openssl_alone_checks_a_receipt(tmp_path):
    key = generate_evidence_key()
    envelope = envelope_of(sign_receipt(RECEIPT, key))
    (tmp_path / "evidence.pub").write_text(key.public_pem)
    (tmp_path / "receipt.json").write_text(envelope)
    done = check(tmp_path)
    assert (done.returncode, done.stdout) == (0, "Verified OK\n")

    other = json.loads(envelope_of(sign_receipt(RECEIPT, generate_evidence_key())))
    (tmp_path / "receipt.json").write_text(json.dumps(other))
    assert check(tmp_path).returncode != 0
