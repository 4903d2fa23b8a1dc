"""Settings of what a platform says of commits: which source is asked, and which branches releases come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, field_validator

from orchestrator.settings.fields import Group, Name
from orchestrator.settings.github import GitHubSettings

BranchPattern = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x20\x7f~^:?\[\\]+$")]
EnvironmentName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
Issuer = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x20\x7f]+$")]


class CommitSettings(Group):
    """GitHub is asked, at each decision about a deployment, about the commit that the artifact was built from:
    `input.source` of policy. It is asked with a token of its own that may read contents and pull requests only."""

    sources: tuple[Name, ...] = Field(min_length=1, max_length=50)
    """Names of entries of `github` whose repositories are asked about; an enterprise's is asked about none. Their App
    needs *Contents: read* and, for `pull_requests`, *Pull requests: read*."""
    environments: tuple[EnvironmentName, ...] = Field(default=(), max_length=100)
    """Deployments to these only are asked about, so that others do not depend on GitHub. Empty: all."""
    branches: tuple[BranchPattern, ...] = Field(default=(), max_length=8)
    """Branches that releases come from: exact names, or names with `*` for the branch that the build itself was of.
    Empty: the repository's default branch."""
    pull_requests: bool = True
    """Ask for pull requests and their reviews too. Without it no commit counts as merged or reviewed."""
    issuers: tuple[Issuer, ...] = Field(default=(), max_length=50)
    """Further issuers of `callers` whose facts `repository`, `repository_id` and `sha` name commits of these sources.
    GitHub's own job tokens need no entry. Of others the repository's name and id must both agree with GitHub."""
    max_age_seconds: Annotated[float, Field(ge=0, le=600)] = 30
    """How long an answer may serve further decisions about the same commit; as long may a protection that was taken
    away still count. 0 asks each time."""
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 8
    """Longest wait for all answers about one commit; after it the decision is *error*, which denies."""

    @field_validator("sources")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("names a source twice")
        return value

    @field_validator("branches")
    @classmethod
    def _one_star(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(one.strip("*") == "" for one in value):
            raise ValueError("would take every branch, also those that anybody may push to; write names, or release/*")
        return value


def check_sources(commits: CommitSettings | None, github: Sequence[GitHubSettings]) -> None:
    """Every source that is asked about commits must be there, and have repositories of its own.

    Raises:
        ValueError
    """
    named = {one.name: one for one in github}
    for name in commits.sources if commits else ():
        if name not in named:
            known = ", ".join(sorted(named)) or "none"
            raise ValueError(f"promotion.commits.sources names {name!r}, which is no entry of github; entries: {known}")
        if named[name].is_enterprise:
            raise ValueError(
                f"promotion.commits.sources names {name!r}, an enterprise, whose repositories are not known by name; "
                "add an entry of github with the url of the organisation"
            )
