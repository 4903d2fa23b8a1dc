"""What somebody may do by the page: the roles, and what an admitted request carries."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aiohttp import web

from orchestrator.model.job import Caller


class Role(StrEnum):
    """An operator may do all that a viewer may."""

    VIEWER = "viewer"
    OPERATOR = "operator"

    @property
    def implied(self) -> tuple[Role, ...]:
        """This role and those it includes."""
        return (Role.VIEWER, Role.OPERATOR) if self is Role.OPERATOR else (Role.VIEWER,)

    def includes(self, other: Role) -> bool:
        return other in self.implied


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks at the page. `issuer` and `subject` name a person for the records; both are empty for nobody in
    particular, who has no `session`."""

    role: Role
    name: str = ""
    issuer: str = ""
    subject: str = ""
    session: str = ""

    @property
    def anonymous(self) -> bool:
        return not self.session

    @property
    def who(self) -> str:
        """For records: somebody's own words beside what names them for certain."""
        known = " ".join(part for part in (self.subject, self.issuer) if part)
        return f"{self.name} ({known})" if self.name else known

    @property
    def caller(self) -> Caller:
        """As handlers know whoever asks."""
        return Caller(self.issuer, self.subject or "anonymous")


VISITOR = web.RequestKey("visitor", Visitor)
"""Set on requests that were let in by the page's own ways, never on those with a bearer token."""
