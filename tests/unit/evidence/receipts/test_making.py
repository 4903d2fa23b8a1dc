"""What a receipt says of a job's facts, and what it keeps to itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from told_job import BEFORE, EXCHANGED, RUNNER, SIGNER, START, ending_of, facts_of, token, told

from orchestrator.evidence.receipts.making import Ending, receipt_of
from orchestrator.evidence.receipts.signing import statement_of
from orchestrator.evidence.receipts.story import MOST_LISTED, Story
from orchestrator.lifecycle.ports import Withdrawn
from orchestrator.model import events as e
from orchestrator.model.events import Fact
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.record import fold

DENIED = Outcome(Result.DENIED, EndReason.POLICY_DENIED, "no")


def test_each_runner_and_how_it_ended():
    runner = told().runner
    assert (runner.name, runner.backend, runner.seen_by) == (RUNNER, "sandbox", "launcher")
    assert [(use.uid, bool(use.bound), bool(use.vanished)) for use in runner.uses] == [
        ("uid-0", False, True),
        ("uid-1", True, False),
    ]
    assert runner.deletion_accepted == "2027-01-15T08:00:10.000000Z"
    assert runner.absent == "2027-01-15T08:00:11.000000Z"


def test_a_token_with_everything_known_and_one_with_nothing():
    known = token(role="r", rule="prod/app", trust_digest="sha256:9", issuer="https://ci.example/issuers/prod",
                  session_expires_at=1_800_001_200, target="aws")  # fmt: skip
    first, second = told(known, token("t2", "other")).tokens
    assert (first.jti, first.issuer, first.role, first.rule, first.trust, first.target) == (
        "t1", "https://ci.example/issuers/prod", "r", "prod/app", "sha256:9", "aws",
    )  # fmt: skip
    assert first.expires == "2027-01-15T08:05:00.000000Z"
    assert first.session_ends == "2027-01-15T08:20:00.000000Z"
    assert (second.issuer, second.session_ends, second.revoked) == (SIGNER.url, "unknown", "")


def test_a_credential_that_was_ended_where_it_came_from():
    made = token("keyed", "github:acme", kind="github_installation")
    (told_of,) = told(made, e.CredentialRevoked("keyed", "github_installation")).tokens
    assert (told_of.kind, told_of.revoked) == ("github_installation", "2027-01-15T08:00:10.000000Z")


def test_decisions_in_their_order_with_what_they_rest_on():
    decisions = told(e.ExchangeDecided("sts.example", EXCHANGED)).decisions
    assert [(one.id, one.stage, one.verdict, one.audience) for one in decisions] == [
        ("d1", "admission", "allow", ""),
        ("d2", "exchange", "allow", "sts.example"),
    ]
    assert (decisions[1].input, decisions[1].bundle) == ("sha256:3", "sha256:2")


def test_egress_by_rule_and_by_reason():
    one = e.EgressDecided("a.example", 443, "tls", True, "tls://a.example:443", bytes_up=10, bytes_down=20)
    flood = e.EgressDecided("x.example", 443, "tls", False, "", "host_not_listed", connections=400)
    egress = told(one, one, flood).egress
    assert [(rule.rule, rule.connections, rule.bytes_up, rule.bytes_down) for rule in egress.allowed] == [
        ("tls://a.example:443", 2, 20, 40)
    ]
    assert (egress.refused, egress.probes) == ({"host_not_listed": 401}, 1)


def test_what_the_job_chose_stays_out():
    text = statement_of(told(e.EgressDecided("secret-host", 1, "tls", False, "", "r"), token())).decode()
    assert "secret" not in text, text


def test_the_times_of_the_record_and_the_facts_it_speaks_of():
    receipt = told(token())
    assert receipt.times.offered == "2027-01-15T08:00:00.000000Z"
    assert receipt.times.ended == "2027-01-15T08:00:10.000000Z"
    assert receipt.refused.since == receipt.times.ended
    assert (receipt.journal.first_seq, receipt.journal.last_seq, receipt.journal.facts) == (101, 112, 12)
    assert (receipt.daemon.restarts, receipt.bound_seconds) == (0, 60)
    assert told(e.DaemonRestarted("i", START)).daemon.restarts == 1


def test_a_job_without_a_runner_claims_nothing_about_one():
    facts = [Fact(BEFORE[0].offer.key.id, START, event, n) for n, event in enumerate((BEFORE[0], e.JobEnded(DENIED)))]
    receipt = receipt_of(fold(facts), Story.of(facts), Ending(START + 1), SIGNER, "t")
    assert (receipt.runner, receipt.refused, receipt.access, receipt.tokens) == (None, None, [], [])


def test_what_could_not_be_taken_away_is_left():
    receipt = told(access=(Withdrawn("egress_gateway", "closed"), Withdrawn("github_registration", "busy", left=True)))
    assert [one.what for one in receipt.access] == ["egress_gateway"]
    assert receipt.leftovers == ["github_registration (busy)"]


def test_notes_that_become_facts_with_the_receipt_are_told_and_leave_the_story_alone():
    facts = facts_of(e.AlarmRaised("second_claim", "x"))
    story = Story.of(facts)
    notes = (e.LogClosed(5, 6, 7), e.AlarmRaised("second_claim", "y"), e.ProvenanceSigned("{}", ("sha256:f",)))
    for _ in range(2):  # a receipt is made again when the journal did not take the first
        receipt = receipt_of(fold(facts), story, ending_of(facts, notes=notes), SIGNER, "t")
        assert (receipt.log.bytes_kept, receipt.log.bytes_dropped, receipt.log.secrets_masked) == (5, 6, 7)
        assert [(alarm.alarm, alarm.count) for alarm in receipt.alarms] == [("second_claim", 2)]
        assert receipt.artifacts == ["sha256:f"]


class TestBounds:
    MANY = 3 * MOST_LISTED

    def test_tokens_beyond_the_list_are_summed_up_by_audience(self):
        tokens = [
            token(f"t{n}", f"a{n % 2}", session_expires_at=n and 1_800_000_000 + n % 2 * n) for n in range(self.MANY)
        ]
        receipt = told(*tokens)
        assert [one.jti for one in receipt.tokens] == [f"t{n}" for n in range(MOST_LISTED)]
        even, odd = receipt.more_tokens
        assert (even.audience, even.count, odd.count) == ("a0", MOST_LISTED, MOST_LISTED)
        assert odd.sessions_end == "2027-01-15T08:09:59.000000Z"
        assert told(*tokens, token("last", "a1")).more_tokens[1].sessions_end == "unknown"

    def test_decisions_beyond_the_list_are_counted(self):
        receipt = told(*[e.ExchangeDecided("a", EXCHANGED)] * self.MANY)
        assert len(receipt.decisions) == MOST_LISTED
        assert receipt.more_decisions == {"exchange allow": self.MANY + 1 - MOST_LISTED}

    def test_rules_beyond_the_list_are_summed_up(self):
        rules = [e.EgressDecided("h", 1, "tls", True, f"r{n}", bytes_up=1) for n in range(self.MANY)]
        allowed = told(*rules).egress.allowed
        assert len(allowed) == MOST_LISTED + 1
        assert (allowed[-1].connections, allowed[-1].bytes_up) == (self.MANY - MOST_LISTED, self.MANY - MOST_LISTED)

    def test_a_revocation_of_a_token_that_is_not_listed_is_counted(self):
        assert told(*[token(f"t{n}") for n in range(self.MANY)], e.CredentialRevoked("t300", "k")).more_revoked == 1

    def test_the_largest_receipt_stays_small(self):
        verdict = EXCHANGED
        notes = [
            event
            for n in range(self.MANY)
            for event in (
                token(f"{n:032x}", "a" * 255, role="r" * 512, rule="u" * 128, trust_digest="sha256:" + "0" * 64),
                e.ExchangeDecided("a" * 255, verdict),
                e.EgressDecided("h", 1, "tls", True, f"tls://{n:0250}:443"),
                e.AlarmRaised(f"alarm{n % 20}", "d" * 1000),
            )
        ]
        assert len(statement_of(told(*notes))) < 512 << 10


def test_a_credential_that_certainly_never_was_is_no_token_of_the_job():
    lost, never = (token(name, kind="github_installation") for name in ("lost", "never"))
    refusals = [e.TokenRefused("a", "github_unavailable"), e.TokenRefused("a", "github_forbidden", jti="never")]
    receipt = told(lost, never, *refusals)
    assert [one.jti for one in receipt.tokens] == ["lost"]
    assert receipt.token_refusals == {"github_unavailable": 1, "github_forbidden": 1}


@given(cut=st.integers(0, 40), data=st.data())
def test_heard_one_by_one_is_the_same_as_read_at_once(cut, data):
    notes = data.draw(
        st.lists(
            st.sampled_from(
                [token(), token("t2"), e.TokenRefused("a", "why"), e.CredentialRevoked("t1", "k"), e.LogClosed(1, 2, 3),
                 e.ExchangeDecided("a", EXCHANGED), e.AlarmRaised("second_claim", ""), e.DaemonRestarted("i", 1),
                 e.EgressDecided("h", 1, "tls", True, "r", connections=3), e.JobCancelRequested("bob")]
            ),
            max_size=30,
        )
    )  # fmt: skip
    facts = facts_of(*notes)
    story = Story.of(facts[:cut])
    for fact in facts[cut:]:
        story.hear(fact)
    assert story == Story.of(facts)
    receipt = receipt_of(fold(facts), story, ending_of(facts), SIGNER, "t")
    assert len(receipt.tokens) == sum(isinstance(note, e.TokenIssued) for note in notes)


@pytest.mark.parametrize("at_ns", [START, START + 1, START + 999, START + 999_999_999, 1])
def test_moments_are_exact_to_the_microsecond_and_never_round_up(at_ns):
    from datetime import datetime

    from orchestrator.evidence.receipts.document import moment

    text = moment(at_ns)
    whole = datetime.fromisoformat(text)
    assert int(whole.timestamp()) == at_ns // 10**9
    assert whole.microsecond == at_ns % 10**9 // 1000
    assert moment(0) == ""
