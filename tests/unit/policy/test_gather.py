"""Who is asked about what, and what becomes of a lookup that fails or does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.errors import TryAgainError
from orchestrator.model.decision import Stage
from orchestrator.policy.enquiry import Enquiry
from orchestrator.policy.gather import LookupFailedError, gather
from orchestrator.policy.lookups import Consent, Facts, Lookups, Question, Verified
from tests.unit.policy.samples import APPROVAL, ARTIFACT, DIGEST, SECRET, SOURCE, TICKET

Make = Callable[..., Any]
NOW = 1_795_341_600_000_000_000


class Rooms:
    """Answers everything, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    async def artifact(self, digest: str) -> Facts | None:
        self.asked["artifact"] = digest
        return ARTIFACT

    async def consent(self, question: Question) -> Consent:
        self.asked["consent"] = question
        return Consent([APPROVAL])

    async def source(self, question: Question) -> Facts | None:
        self.asked["source"] = question
        return SOURCE

    async def ticket(self, question: Question) -> Facts | None:
        self.asked["ticket"] = question
        return TICKET

    async def secrets(self, question: Question) -> Sequence[Facts]:
        self.asked["secrets"] = question
        return [SECRET]

    @property
    def lookups(self) -> Lookups:
        return Lookups(self.artifact, self.consent, self.source, self.ticket, self.secrets)


@pytest.fixture
def make_question(make_record: Make, make_pool: Make) -> Make:
    def make(**spec: Any) -> Question:
        record = make_record(**spec)
        asked = record.offer.spec
        return Question(record, make_pool(), NOW, asked.deployment_environment, asked.artifact_digest, None)

    return make


async def test_a_deployment_is_asked_about_everywhere_and_each_is_told_of_the_artifact(make_question: Make) -> None:
    rooms = Rooms()
    question = make_question(deployment_environment="prod", artifact_digest=DIGEST, secrets=("legacy",), ticket="REL-7")
    found = await gather(rooms.lookups, question, 5)
    assert found == Verified(ARTIFACT, Consent([APPROVAL]), SOURCE, TICKET, [SECRET])
    assert rooms.asked.pop("artifact") == DIGEST
    assert set(rooms.asked) == {"consent", "source", "ticket", "secrets"}
    assert all(asked == replace(question, artifact=ARTIFACT) for asked in rooms.asked.values())


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        ({}, set()),
        ({"artifact_digest": DIGEST}, {"artifact"}),
        ({"artifact_digest": "latest"}, set()),
        ({"secrets": ("legacy",)}, {"secrets"}),
        ({"deployment_environment": "prod"}, {"consent", "source", "ticket"}),
    ],
)
async def test_nobody_is_asked_in_vain(make_question: Make, spec: dict[str, Any], asked: set[str]) -> None:
    rooms = Rooms()
    found = await gather(rooms.lookups, make_question(**spec), 5)
    assert set(rooms.asked) == asked
    if not asked:
        assert found == Verified()


async def test_rooms_that_are_not_there_know_nothing(make_question: Make) -> None:
    question = make_question(deployment_environment="prod", artifact_digest=DIGEST, secrets=("legacy",))
    assert await gather(Lookups(Rooms().artifact), question, 5) == Verified(ARTIFACT)


async def test_what_does_not_answer_is_named_and_the_others_are_not(make_question: Make) -> None:
    async def never(_question: Question) -> Facts | None:
        await asyncio.Event().wait()
        return None

    lookups = replace(Rooms().lookups, source=never, ticket=never)
    with pytest.raises(LookupFailedError) as caught:
        await gather(lookups, make_question(deployment_environment="prod"), 0.02)
    assert str(caught.value) == "the artifact's source and the ticket: no answer within 0.02 s; ask again later"


async def test_a_failure_ends_the_others_and_names_its_remedy(make_question: Make) -> None:
    ended = asyncio.Event()

    async def never(_question: Question) -> Consent:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return Consent()

    async def failing(_question: Question) -> Facts | None:
        raise TryAgainError("the tracker answered 503", reason="tracker_unavailable", fix="see whether it works")

    with pytest.raises(LookupFailedError, match=r"the ticket: .*503 \(tracker_unavailable\); see whether it works"):
        await gather(
            replace(Rooms().lookups, consent=never, ticket=failing), make_question(deployment_environment="prod"), 5
        )
    assert ended.is_set()


async def test_an_error_that_nobody_meant_says_nothing_but_its_kind(
    make_question: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_digest: str) -> Facts | None:
        raise ValueError("a secret")

    with pytest.raises(LookupFailedError, match=r"^the evidence about the artifact: the lookup failed \(ValueError\)"):
        await gather(Lookups(broken), make_question(artifact_digest=DIGEST), 5)
    assert [record.message for record in caplog.records] == ["policy_lookup_failed"]


async def test_a_question_without_a_job_has_a_stand_in(make_pool: Make) -> None:
    enquiry = Enquiry(Stage.CHECK, "prod", DIGEST, ticket="REL-7")
    record = enquiry.record(NOW)
    assert record.offer.key.source == "check"
    assert (record.offer.caller.issuer, record.offer.caller.subject) == ("", "")
    assert enquiry.record(NOW).id != record.id
    assert record.offer.spec.ticket == "REL-7"
    with pytest.raises(ValueError, match="asked with a job"):
        Enquiry(Stage.ADMISSION, "prod")
