"""`orchestrator receipt`: nothing is shown whose signature does not hold, and a file needs no daemon."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest

from orchestrator.evidence.receipts.document import (
    AccessPart,
    AlarmPart,
    DaemonPart,
    DecisionPart,
    EgressPart,
    JobPart,
    JournalPart,
    LogPart,
    OutcomePart,
    Receipt,
    RefusalPart,
    RuleUse,
    RunnerPart,
    RunnerUse,
    TimesPart,
    TokenPart,
    TokenSum,
)
from orchestrator.evidence.receipts.signing import envelope_of, sign_receipt
from orchestrator.evidence.signing_key import generate_evidence_key

JOB = "dispatch.aa11bb22cc33dd44.1"
KEY = generate_evidence_key()
OTHER = generate_evidence_key()
AT = "2026-01-02T03:04:0{}.000000Z".format

RECEIPT = Receipt(
    job=JobPart(id=JOB, source="dispatch", attempt=1, pool="default", caller="c" * 16, trace_id="ab" * 16),
    outcome=OutcomePart(result="failure", reason="exit_nonzero", exit_code=3, cancelled_by="bob"),
    times=TimesPart(offered=AT(0), admitted=AT(1), bound=AT(2), ended=AT(3), sealed=AT(5)),
    bound_seconds=60,
    journal=JournalPart(first_seq=1, last_seq=9, facts=9),
    daemon=DaemonPart(url="https://ci.example", version="0.1", restarts=2),
    runner=RunnerPart(
        name="runner-1",
        backend="sandbox",
        uses=[RunnerUse(uid="u-0", created=AT(1), vanished=AT(1)), RunnerUse(uid="u-1", created=AT(1), bound=AT(2))],
        deletion_accepted=AT(4),
        absent=AT(4),
        seen_by="launcher",
    ),
    access=[AccessPart(what="egress_gateway", how="closed")],
    refused=RefusalPart(since=AT(3), checked=AT(5)),
    tokens=[
        TokenPart(jti="j" * 32, audience="sts.example", issuer="i", expires=AT(9), session_ends="unknown",
                  role="r", rule="prod/app"),
        TokenPart(jti="k" * 32, audience="github:acme", issuer="i", expires=AT(9), session_ends=AT(9),
                  kind="github_installation", revoked=AT(4)),
    ],
    more_tokens=[TokenSum(audience="sts.example", kind="id_token", count=7, expire=AT(9), sessions_end=AT(9))],
    token_refusals={"policy_deny": 2},
    decisions=[DecisionPart(id="d1", stage="admission", verdict="allow", input="sha256:1", bundle="sha256:2")],
    more_decisions={"exchange allow": 7},
    egress=EgressPart(allowed=[RuleUse(rule="tls://a.example:443", connections=2, bytes_up=2048)],
                      refused={"host_not_listed": 3}, probes=1),
    log=LogPart(bytes_kept=2048, bytes_dropped=5),
    artifacts=["sha256:" + "d" * 64],
    alarms=[AlarmPart(alarm="second_claim", first=AT(2), count=4)],
)  # fmt: skip
ENVELOPE = envelope_of(sign_receipt(RECEIPT, KEY))


@pytest.fixture
def served(local_daemon, make_view):
    local_daemon.jobs[JOB] = make_view(JOB)
    local_daemon.receipt, local_daemon.evidence_key = ENVELOPE, KEY.public_pem
    return local_daemon


@pytest.fixture
def kept(tmp_path):
    """A receipt and keys in files, as somebody has kept them."""
    receipt, key, other = tmp_path / "receipt.json", tmp_path / "key.pem", tmp_path / "other.pem"
    receipt.write_text(ENVELOPE)
    key.write_text(KEY.public_pem)
    other.write_text(OTHER.public_pem)
    return receipt, key, other


def test_the_whole_receipt(cli, served):
    done = cli("receipt", "aa11")
    assert done.exit_code == 0, done.stderr
    for words in (
        JOB, "the signature holds, by the daemon's own key", "P3 holds", "1.000 s after the end, seen by launcher",
        "P4 holds", "unknown to us, their targets decide: sts.example", "failure (exit_nonzero, exit code 3)", "bob",
        "u-1", "had the work since", "u-0", "vanished", "egress_gateway", "prod/app", "revoked", "7 more",
        "2 times: policy_deny", "admission", "7 times exchange allow", "tls://a.example:443", "2.0 KiB up",
        "3 times: host_not_listed", "second_claim", "4 times", "2 restarts", "2.0 KiB kept, 5 B dropped",
    ):  # fmt: skip
        assert words in done.stdout, (words, done.stdout)


def test_json_is_the_very_envelope_that_a_file_check_takes(cli, served, kept, tmp_path):
    done = cli("receipt", JOB, "--json")
    assert done.stdout == ENVELOPE + "\n"
    again = tmp_path / "again.json"
    again.write_text(done.stdout)
    assert cli("receipt", "--file", str(again), "--key", str(kept[1])).exit_code == 0


def test_the_public_key_is_given_to_keep(cli, served):
    assert cli("receipt", "--public-key").stdout == KEY.public_pem


def test_a_file_is_checked_without_any_daemon(cli, kept):
    done = cli("receipt", "--file", str(kept[0]), "--key", str(kept[1]))
    assert done.exit_code == 0, done.stderr
    assert "by the key named" in done.stdout


def test_a_key_that_was_kept_judges_the_daemon_too(cli, served, kept):
    assert cli("receipt", JOB, "--key", str(kept[1])).exit_code == 0
    done = cli("receipt", JOB, "--key", str(kept[2]))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "key_unknown" in done.stderr


def test_the_receipt_of_another_job_is_not_the_one_asked_for(cli, served, make_view):
    other = "dispatch.ff00ff00ff00ff00.1"
    served.jobs[other] = make_view(other)
    done = cli("receipt", other)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"it is of {JOB}, not of {other}" in done.stderr


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_nothing_is_shown_of_a_receipt_that_was_changed(cli, kept, as_json):
    envelope = json.loads(ENVELOPE)
    payload = base64.b64decode(envelope["payload"]).replace(b"exit_nonzero", b"exit_forgery")
    kept[0].write_text(json.dumps(envelope | {"payload": base64.b64encode(payload).decode()}))
    done = cli("receipt", "--file", str(kept[0]), "--key", str(kept[1]), *as_json)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "signature_invalid" in done.stderr


def test_a_file_that_is_no_receipt_is_not_blamed_on_the_key(cli, kept):
    kept[0].write_text("{")
    done = cli("receipt", "--file", str(kept[0]), "--key", str(kept[1]))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "envelope_malformed" in done.stderr
    assert "fix: name a file as `orchestrator receipt JOB --json` printed it" in done.stderr


def test_a_receipt_that_says_what_was_left_is_shown_and_fails(cli, kept):
    left = msgspec.structs.replace(RECEIPT, leftovers=["github_registration (busy)"])
    kept[0].write_text(envelope_of(sign_receipt(left, KEY)))
    done = cli("receipt", "--file", str(kept[0]), "--key", str(kept[1]))
    assert done.exit_code == 1
    assert "P3 BROKEN" in done.stdout
    assert "left behind: github_registration (busy)" in done.stdout


def test_a_job_that_is_not_finished_says_so(cli, served):
    served.receipt = ""
    done = cli("receipt", JOB)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "receipt_pending" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name a job"),
        (("aa11", "--file", "x"), "not both"),
        (("--file", "x"), "the key must be named"),
        (("--file", "no-such-file", "--key", "KEY"), "cannot read"),
        (("--file", "RECEIPT", "--key", "RECEIPT"), "no public P-256 key"),
    ],
)
def test_what_was_typed_does_not_fit(cli, kept, words, told):
    names = {"RECEIPT": str(kept[0]), "KEY": str(kept[1])}
    done = cli("receipt", *(names.get(word, word) for word in words))
    assert done.exit_code == 2, done.stderr
    assert told in done.stderr
    assert "fix:" in done.stderr


def test_texts_in_a_receipt_do_nothing_to_the_terminal(cli, kept):
    wild = msgspec.structs.replace(RECEIPT.outcome, cancelled_by="\x1b[31mbob\u202e")
    kept[0].write_text(envelope_of(sign_receipt(msgspec.structs.replace(RECEIPT, outcome=wild), KEY)))
    shown = cli("receipt", "--file", str(kept[0]), "--key", str(kept[1])).stdout
    assert "?[31mbob?" in shown
    assert "\x1b" not in shown


def test_a_daemon_that_gives_no_key_is_told(cli, served):
    served.evidence_key = "nothing"
    done = cli("receipt", JOB)
    assert (done.exit_code, done.stdout) == (1, "")
