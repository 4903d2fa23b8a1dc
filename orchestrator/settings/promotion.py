"""Settings of the gate in front of a deployment: what is asked about what is to be deployed, and whose word counts."""

from __future__ import annotations

from orchestrator.settings.commits import CommitSettings
from orchestrator.settings.fields import Group
from orchestrator.settings.tickets import TicketSettings


class PromotionSettings(Group):
    commits: CommitSettings | None = None
    """What GitHub says of the commit behind an artifact. None: policy is told nothing, and rules that need it deny."""
    tickets: TicketSettings | None = None
    """The tracker of release tickets. None: policy is told nothing, and rules that need it deny."""
