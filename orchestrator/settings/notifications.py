"""Settings of notifications: which other systems are told what of jobs, and how it is signed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from orchestrator.settings.fields import Bytes, Group, Name, Seconds

EventPattern = Annotated[str, Field(pattern=r"^(\*|[a-z]{1,32}\.(\*|[a-z_]{1,32}))$")]
"""`*`, a group such as `job.*`, or one event such as `job.ended`."""
EndResult = Literal["success", "failure", "error", "timeout", "cancellation", "denied"]

_EVENTS = frozenset(
    {
        "job.queued",
        "job.admitted",
        "job.waiting",
        "job.started",
        "job.cancel_requested",
        "job.ended",
        "job.finished",
        "runner.created",
        "runner.lost",
        "runner.deleted",
        "policy.denied",
        "token.issued",
        "token.refused",
        "egress.denied",
        "exception.used",
        "receipt.signed",
        "alarm.raised",
    }
)


def _receiver(value: str) -> str:
    """An address that messages can be posted to. No message repeats it: it may hold a secret."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("is no URL; write it as https://host/path") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("must start with https:// and name a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no user name or password; messages are signed")
    if parts.fragment or any(not "!" <= letter <= "~" for letter in value):
        raise ValueError("must have no fragment, and be percent-encoded")
    return value


class NotificationEndpointSettings(Group):
    """One receiver of messages."""

    name: Name
    """How it is called in metrics, the log and the command line."""
    url: Annotated[str, Field(max_length=2048), AfterValidator(_receiver)]
    """Where messages are posted. Plain http needs `allow_private`. Path and query are never shown, but by
    `check-config`."""
    format: Literal["webhook", "cdevents"] = "webhook"
    """`webhook`: Standard Webhooks with a payload of our own. `cdevents`: CDEvents 0.5 as CloudEvents of binary mode,
    with the same signature headers."""
    key_files: tuple[Path, ...] = Field(default=(), max_length=4)
    """Files with the keys that sign: `whsec_…` (shared secret) or `whsk_…` (Ed25519, whose public half the receiver
    has), as `orchestrator notifications new-key FILE` makes them. Read again when they change. Several while a key is
    being replaced. Needed for `webhook`."""
    events: tuple[EventPattern, ...] = Field(
        default=("job.*", "policy.denied", "alarm.raised"), min_length=1, max_length=32
    )
    """What is told: events, groups such as `job.*`, or `*`. The list is in docs/how-to/send-notifications.md."""
    pools: tuple[Name, ...] = Field(default=(), max_length=100)
    """Only of jobs of these pools. Empty: of all."""
    results: tuple[EndResult, ...] = ()
    """Only ends with these results (`job.ended`, `job.finished`). Empty: all; other events are not asked."""
    sentences: bool = False
    """Put the texts for people into messages: why a job waits or how it ended. Masked, yet a job's names, hosts and
    error texts can be in them; without them a message holds ids, names and words of ours."""
    allow_private: bool = False
    """It may be of this machine or of a private network, and may speak plain http. Otherwise only public addresses are
    connected to, whatever its name leads to. Link-local addresses are never."""
    ca_file: Path | None = None
    """PEM file with further CAs that vouch for it."""
    timeout_seconds: Annotated[float, Field(gt=0, le=30)] = 15
    """Longest wait for its answer; then it is tried again. 15 to 30 is what Standard Webhooks advises."""

    @field_validator("events")
    @classmethod
    def _known(cls, events: tuple[str, ...]) -> tuple[str, ...]:
        groups = {event.split(".")[0] for event in _EVENTS}
        for event in events:
            group, _, name = event.partition(".")
            if event != "*" and (group not in groups or (name != "*" and event not in _EVENTS)):
                raise ValueError(f"{event} is no event; events: {', '.join(sorted(_EVENTS))}")
        return events

    @model_validator(mode="after")
    def _protected(self) -> NotificationEndpointSettings:
        if self.url.startswith("http:") and not self.allow_private:
            raise ValueError("url must start with https://; plain http is for endpoints with allow_private")
        if self.format == "webhook" and not self.key_files:
            raise ValueError("key_files is needed: make a key with `orchestrator notifications new-key FILE`")
        return self


class NotificationSettings(Group):
    """Messages to other systems about what happens to jobs."""

    endpoints: tuple[NotificationEndpointSettings, ...] = Field(default=(), max_length=32)
    """Who is told. Each has a queue of its own: one that fails holds up no other, and no job."""
    max_messages: int = Field(default=10_000, ge=1, le=1_000_000)
    """Messages that wait for one endpoint; then the oldest are dropped, with an alarm in the log and in metrics."""
    max_bytes: Bytes = 64 << 20
    """Their size together, for one endpoint."""
    max_age_seconds: Seconds = 4 * 86400
    """A message that could not be sent for so long is dropped. The default lets the whole schedule of tries pass."""

    @field_validator("endpoints")
    @classmethod
    def _differ(cls, endpoints: tuple[NotificationEndpointSettings, ...]) -> tuple[NotificationEndpointSettings, ...]:
        names = [one.name for one in endpoints]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names of endpoints must differ; given twice: {', '.join(twice)}")
        return endpoints

    def check_pools(self, pools: Sequence[str]) -> None:
        """Raises ValueError when an endpoint names a pool that is none."""
        for number, one in enumerate(self.endpoints):
            for pool in one.pools:
                if pool not in pools:
                    raise ValueError(
                        f"notifications.endpoints.{number}.pools names {pool!r}, which is no pool; "
                        f"pools: {', '.join(pools)}"
                    )
