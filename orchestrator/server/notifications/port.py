"""What the API asks about notifications. Answers are JSON's types; see `notification_shapes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class NotificationDesk(Protocol):
    """The endpoints: how they are doing, a test, another try."""

    def listed(self) -> Sequence[Mapping[str, Any]]:
        """See `notification_shapes.EndpointView`. Must not block."""
        ...

    async def test(self, name: str) -> Mapping[str, Any]:
        """See `notification_shapes.TrialView`; GiveUpError `endpoint_unknown`."""
        ...

    async def retry(self, name: str) -> Mapping[str, Any]:
        """The endpoint as it is then; GiveUpError `endpoint_unknown`, TryAgainError `notifications_unwritable`."""
        ...
