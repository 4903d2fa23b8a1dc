"""Settings of the live page that are allowed and weaken a promise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.identity.secret_file import SecretFile
from orchestrator.settings import Settings

MATCHES_ALL = frozenset({".*", ".+", "(.*)", "(.+)", ".*?", ".+?", "[^$]*", r"[\s\S]*"})
"""Patterns that say nothing of a claim but that it is there."""


def page_warnings(settings: Settings) -> Iterator[str]:
    """One line for each insecure choice, beginning with the setting's path."""
    page = settings.page
    if page.enabled and page.anonymous == "always":
        yield (
            "page.anonymous: whoever reaches the page sees the names of jobs, whom they asked for and which hosts they "
            "reached, without a name of their own; with `never` and a provider they must sign in"
        )
    for number, one in enumerate(page.providers):
        for role, tables in (("viewer", one.viewer), ("operator", one.operator)):
            if any(_says_nothing(table) for table in tables):
                yield f"page.providers.{number}.{role}: everybody who can sign in at {one.issuer} has this role"
        if one.client_secret_file and (readers := SecretFile(one.client_secret_file, "").exposed_to()):
            yield f"page.providers.{number}.client_secret_file: it can be read by {readers}"


def _says_nothing(table: Mapping[str, str]) -> bool:
    return all(pattern in MATCHES_ALL for pattern in table.values())
