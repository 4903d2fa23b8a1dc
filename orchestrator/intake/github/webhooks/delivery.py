"""A webhook of GitHub as it comes in: who really sent it, and which job to look at. Pure.

The signature covers the body only: delivery id and event name come unsigned. So nothing but the body decides, a body
that was seen is a replay whatever its id, and what it says is no more than a reason to ask GitHub.

Source: GitHub Docs, *Validating webhook deliveries* and *Webhook events and payloads*.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.errors import GiveUpError
from orchestrator.intake.github.errors import UnreadableAnswerError
from orchestrator.intake.github.fields import Fields, read_object
from orchestrator.intake.github.urls import GitHubUrl

JOB_EVENT: Final = "workflow_job"

_SIGNATURE: Final = re.compile(r"sha256=([0-9a-f]{64})")
_DELIVERY: Final = re.compile(r"[0-9A-Za-z-]{8,64}")
_EVENT: Final = re.compile(r"[a-z_]{1,64}")
_ACTIONS: Final = frozenset({"queued", "waiting", "in_progress", "completed"})


class WebhookRefusedError(GiveUpError):
    """A delivery that is not taken in. The message repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class DeliveryHead:
    """What the headers say; none of it is signed but `signature`, 32 bytes that the body must prove."""

    id: str
    event: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class JobHint:
    """A job that something happened to, in the sender's word. `digest` is the SHA-256 of the body that said so."""

    delivery: str
    digest: bytes
    action: str
    owner: str
    repository: str
    run_id: int
    job_id: int


def read_head(headers: Mapping[str, str]) -> DeliveryHead:
    """The three headers that count; `headers` ignores case.

    Raises:
        WebhookRefusedError: `webhook_signature_missing`, `webhook_malformed`.
    """
    signature = _SIGNATURE.fullmatch(headers.get("X-Hub-Signature-256", "").strip())
    if signature is None:
        raise WebhookRefusedError(
            "The delivery has no X-Hub-Signature-256.",
            reason="webhook_signature_missing",
            fix="set a secret at GitHub's page of the webhook, the same as in secret_files",
        )
    delivery, event = headers.get("X-GitHub-Delivery", ""), headers.get("X-GitHub-Event", "")
    if not _DELIVERY.fullmatch(delivery) or not _EVENT.fullmatch(event):
        raise WebhookRefusedError("X-GitHub-Delivery or X-GitHub-Event cannot be read.", reason="webhook_malformed")
    return DeliveryHead(delivery, event, bytes.fromhex(signature[1]))


def check_signature(body: bytes, signature: bytes, secrets: Sequence[bytes]) -> None:
    """HMAC-SHA256 over the raw body by any of the secrets, in the same time whichever of them it is.

    Raises:
        WebhookRefusedError: `webhook_signature_invalid`; an empty secret never fits.
    """
    right = False
    for secret in secrets:
        right |= hmac.compare_digest(hmac.digest(secret, body, "sha256"), signature) and bool(secret)
    if not right:
        raise WebhookRefusedError(
            "The signature is not one of the configured secrets'.",
            reason="webhook_signature_invalid",
            fix="compare the secret at GitHub's page of the webhook with the files of secret_files",
        )


def read_job(head: DeliveryHead, body: bytes, url: GitHubUrl) -> JobHint | None:
    """The job that a signed `workflow_job` payload is about; None when it is none of this source's.

    Raises:
        WebhookRefusedError: `webhook_malformed`.
    """
    try:
        data = read_object(body)
        job, repository = data.object("workflow_job"), data.object("repository")
        if job is None or repository is None:
            raise UnreadableAnswerError("no job")
        owner, _, name = repository.text("full_name", 256).partition("/")
        hint = JobHint(
            delivery=head.id,
            digest=hashlib.sha256(body).digest(),
            action=_action(data),
            owner=owner,
            repository=name,
            run_id=job.number("run_id"),
            job_id=job.number("id"),
        )
    except UnreadableAnswerError:
        raise WebhookRefusedError("The payload is no workflow_job event.", reason="webhook_malformed") from None
    # Nobody makes us ask for repositories of others with our token.
    if not hint.action or hint.run_id <= 0 or hint.job_id <= 0 or not url.covers(owner, name):
        return None
    return hint


def _action(data: Fields) -> str:
    """Empty for an action that is not known: there may be new ones."""
    action = data.text("action", 64)
    return action if action in _ACTIONS else ""
