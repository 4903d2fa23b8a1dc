import json
from dataclasses import replace
from typing import get_args

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from orchestrator.journal.redact import Masker
from orchestrator.model import events as e
from orchestrator.model.decision import Verdict
from orchestrator.notifications.endpoint import Filter, Format
from orchestrator.notifications.messages import message_of
from orchestrator.notifications.notices import MAX_SENTENCE, MAX_TEXT, NoticeType, begin, clean, follow, notice_of
from orchestrator.settings.notifications import _EVENTS
from orchestrator.testing import stories
from orchestrator.testing.stories import MARKER, RUNNER, WHOLE, facts_for, offer
from tests.unit.notifications.plain import ORIGIN

_QUIET = {
    # told by what follows from them, or of no interest to anybody outside
    e.ProvisionStarted,
    e.PlatformJobCompleted,
    e.RunnerExited,
    e.RunnerObserved,
    e.CredentialRevoked,
    e.ArtifactReported,
    e.ArtifactAttested,
    e.ArtifactNamed,
    e.AttestationSigned,
    e.ProvenanceSigned,
    e.SummarySigned,
    e.SecretDelivered,
    e.LogClosed,
    e.SpansRelayed,
    e.DaemonRestarted,
    e.JobCompacted,
}
_ONE_OF_EACH = {
    e.JobOffered: (e.JobOffered(offer()), NoticeType.JOB_QUEUED),
    e.JobAdmitted: (stories.ADMITTED, NoticeType.JOB_ADMITTED),
    e.JobRefused: (e.JobRefused(stories.decision(Verdict.DENY)), NoticeType.POLICY_DENIED),
    e.JobWaited: (e.JobWaited(e.WaitReason.POOL_FULL, "2 of 2"), NoticeType.JOB_WAITING),
    e.RunnerCreated: (stories.CREATED, NoticeType.RUNNER_CREATED),
    e.RunnerVanished: (e.RunnerVanished(RUNNER, "gone"), NoticeType.RUNNER_LOST),
    e.RunnerBound: (stories.BOUND, NoticeType.JOB_STARTED),
    e.PlatformJobNamed: (stories.NAMED, NoticeType.JOB_STARTED),
    e.JobCancelRequested: (e.JobCancelRequested("operator"), NoticeType.JOB_CANCEL_REQUESTED),
    e.JobEnded: (WHOLE["failure"][-3], NoticeType.JOB_ENDED),
    e.RunnerDeleted: (stories.DELETED, NoticeType.RUNNER_DELETED),
    e.JobFinished: (stories.FINISHED, NoticeType.JOB_FINISHED),
    e.ExchangeDecided: (
        e.ExchangeDecided("sts.example", stories.decision(Verdict.DENY)),
        NoticeType.POLICY_DENIED,
    ),
    e.TokenIssued: (stories.ISSUED, NoticeType.TOKEN_ISSUED),
    e.TokenRefused: (e.TokenRefused("sts.example", "policy_denied"), NoticeType.TOKEN_REFUSED),
    e.EgressDecided: (stories.DENIED_HOST, NoticeType.EGRESS_DENIED),
    e.ExceptionUsed: (
        e.ExceptionUsed("sha256:" + "0" * 64, "break_glass", ("frozen",), "d-1", ("mara",)),
        NoticeType.EXCEPTION_USED,
    ),
    e.ReceiptSigned: (e.ReceiptSigned(MARKER, "sha256:" + "1" * 64), NoticeType.RECEIPT_SIGNED),
    e.AlarmRaised: (e.AlarmRaised("second_claim", "x"), NoticeType.ALARM_RAISED),
}


def notices(the_offer, steps):
    found, job = [], None
    for fact in facts_for(the_offer, steps):
        job = begin(fact.job_id, fact.at_ns, fact.event.offer) if job is None else follow(job, fact)
        if (notice := notice_of(fact, job)) is not None:
            found.append(notice)
    return found


def test_every_event_is_told_or_left_out_on_purpose():
    assert set(get_args(e.Event)) == _QUIET | _ONE_OF_EACH.keys()
    assert not _QUIET & _ONE_OF_EACH.keys()
    assert {kind for _, kind in _ONE_OF_EACH.values()} == set(NoticeType)
    assert {kind.value for kind in NoticeType} == _EVENTS, "the settings know the same words"


@pytest.mark.parametrize("kind", _ONE_OF_EACH, ids=lambda kind: kind.__name__)
def test_each_event_is_told_by_its_word(kind):
    event, word = _ONE_OF_EACH[kind]
    job = begin(offer().key.id, stories.T0, offer())
    notice = notice_of(e.Fact(job.id, stories.T0, event, 7), job)
    assert notice is not None
    assert (notice.type, notice.seq, notice.at_ns) == (word, 7, stories.T0)
    assert notice.subject


@pytest.mark.parametrize(
    "event",
    [
        stories.CANARY,
        stories.EXCHANGE,
        stories.NAMED_REFUSED,
        e.JobWaited(e.WaitReason.RUNNER_STARTING),
        replace(stories.DENIED_HOST, allowed=True),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_is_no_news_is_not_told(event):
    job = begin(offer().key.id, stories.T0, offer())
    assert notice_of(e.Fact(job.id, stories.T0, event, 7), job) is None


def test_a_jobs_life_in_its_order():
    told = [notice.type.value for notice in notices(offer(), WHOLE["success"])]
    assert told == [
        "job.queued",
        "job.admitted",
        "runner.created",
        "job.started",
        "token.issued",
        "egress.denied",
        "job.ended",
        "runner.deleted",
        "job.finished",
    ]
    ended = notices(offer(), WHOLE["failure"])[-3]
    assert ended.data == {"result": "failure", "reason": "exit_nonzero", "exit_code": 1, "duration_ms": 60}


def test_a_platforms_job_starts_when_it_is_named():
    awaiting = offer(awaits_platform_job=True)
    told = notices(awaiting, [*stories.TO_WORK, stories.NAMED])
    started = [notice for notice in told if notice.type is NoticeType.JOB_STARTED]
    assert len(started) == 1
    assert started[0].job.name == stories.NAMED.job.name
    assert started[0].data == {"runner": RUNNER, "platform_job": stories.NAMED.job.key}


@pytest.mark.parametrize("form", Format)
def test_nothing_of_a_jobs_own_words_is_in_a_message(form):
    """Script, environment, claims, envelopes and texts hold the marker; names and ids do not."""
    steps = [event for event, _ in _ONE_OF_EACH.values() if not isinstance(event, e.JobOffered)]
    for notice in notices(offer(), steps):
        message = message_of(clean(notice, str, sentence=False), "msg_1", 1, form, ORIGIN)
        assert MARKER not in message.body.decode()
        assert MARKER not in str(dict(message.headers))


@given(
    secret=st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=12, max_size=60),
    form=st.sampled_from(Format),
)
def test_a_secret_that_a_job_was_given_is_masked_wherever_it_comes_up(secret, form):
    masker = Masker()
    assert masker.register("other-job", secret)
    spec = {"name": f"a {secret}", "pipeline": secret * 3, "deployment_environment": f"{'x' * 250}{secret}"}
    steps = [
        e.JobWaited(e.WaitReason.POOL_FULL, f"{secret} waits"),
        replace(stories.DENIED_HOST, host=f"{secret}.example"),
        e.TokenRefused(secret, "policy_denied", detail=secret),
        e.JobCancelRequested(secret, secret),
        e.AlarmRaised("second_claim", f"{'y' * (MAX_SENTENCE - 4)}{secret}"),
        e.ExceptionUsed("sha256:0", "override", (secret,), "d-1", (secret,)),
    ]
    for notice in notices(offer(**spec), steps):
        message = message_of(clean(notice, masker.text, sentence=True), "msg_1", 1, form, ORIGIN)
        told = message.body.decode() + str(dict(message.headers))
        assert secret not in told
        assert secret[:8] not in json.dumps(msgspec.json.decode(message.body)), "nor the half of it before a cut"


def test_texts_and_lists_are_cut():
    waived = tuple(f"{number:0300}" for number in range(100))
    job = begin(offer().key.id, stories.T0, offer(name="n" * 2000))
    fact = e.Fact(job.id, stories.T0, e.ExceptionUsed("sha256:0", "override", waived, "d"), 1)
    told = clean(notice_of(fact, job), str, sentence=True)
    assert len(told.job.name) == MAX_TEXT
    assert [len(one) for one in told.data["waived"]] == [MAX_TEXT] * 32
    ended = e.JobEnded(replace(WHOLE["failure"][-3].outcome, message="m" * 5000))
    assert len(clean(notice_of(e.Fact(job.id, 1, ended, 1), job), str, sentence=True).sentence) == MAX_SENTENCE


@pytest.mark.parametrize(
    ("given_filter", "types"),
    [
        (Filter(("job.ended",)), ["job.ended"]),
        (Filter(("runner.*", "alarm.raised")), ["runner.created", "runner.deleted"]),
        (Filter(("job.*",), pools=frozenset({"other"})), []),
        (Filter(("job.*",), results=frozenset({"success"})), ["job.queued", "job.admitted", "job.started"]),
        (
            Filter(("job.*",), frozenset({"default"}), frozenset({"failure"})),
            ["job.queued", "job.admitted", "job.started", "job.ended", "job.finished"],
        ),
    ],
)
def test_an_endpoint_gets_what_it_wants(given_filter, types):
    told = notices(offer(), WHOLE["failure"])
    assert [notice.type.value for notice in told if given_filter.wants(notice)] == types
