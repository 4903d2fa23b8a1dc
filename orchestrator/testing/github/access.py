"""What a REST token may see and do: scopes, permissions, repositories, rate limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.testing.github.clock import GitHubClock
from orchestrator.testing.github.model import Flavour, Options, Repository
from orchestrator.testing.github.state import GitHubState
from orchestrator.testing.github.tokens import Grant, Kind
from orchestrator.testing.github.wire import ApiError, Call

HOUR = 3_600
_LEVELS = ("read", "write", "admin")


def require(call: Call, permission: str) -> None:
    """`permission` is `name:level`; a personal token has them all.

    Raises:
        ApiError: 403.
    """
    if call.grant is None or call.grant.kind is Kind.PERSONAL:
        return
    name, _, level = permission.partition(":")
    have = call.grant.permissions.get(name, "")
    if have not in _LEVELS or _LEVELS.index(have) < _LEVELS.index(level):
        raise ApiError(403, "Resource not accessible by integration")


def repository_of(call: Call, state: GitHubState) -> Repository:
    """The repository in the path. What the token may not see does not exist for it.

    Raises:
        ApiError: 404.
    """
    name = f"{call.place['owner']}/{call.place['repo']}".lower()
    repository = state.repositories.get(name)
    grant = call.grant
    if repository is None or (grant is not None and grant.repositories is not None and name not in grant.repositories):
        raise ApiError(404, "Not Found")
    return repository


def scope_of(call: Call, state: GitHubState, level: str) -> str:
    """The organization, repository or enterprise whose runners the path is about, if the token may see to them.

    Raises:
        ApiError: 403, 404.
    """
    if "enterprise" in call.place:
        if call.grant is not None and call.grant.kind is not Kind.PERSONAL:
            raise ApiError(403, "Resource not accessible by integration")
        return f"enterprises/{call.place['enterprise']}"
    if "org" in call.place:
        owner = state.owners.get(call.place["org"].lower())
        if owner is None or owner.kind != "Organization":
            raise ApiError(404, "Not Found")
        require(call, f"organization_self_hosted_runners:{level}")
        return owner.login
    repository = repository_of(call, state)
    require(call, f"administration:{level}")
    return repository.full_name


@dataclass(slots=True)
class Bucket:
    used: int = 0
    reset_at: float = 0


@dataclass(slots=True)
class RateLimits:
    """Requests of an hour for each token and resource. GHES has none unless `on_ghes`."""

    clock: GitHubClock
    options: Options
    on_ghes: bool = False
    _buckets: dict[tuple[str, str], Bucket] = field(default_factory=dict)

    def limit(self, resource: str) -> int | None:
        if self.options.flavour is Flavour.GHES and not self.on_ghes:
            return None
        return self.options.registration_limit if resource != "core" else self.options.rest_limit

    def bucket(self, token: str, resource: str) -> Bucket:
        found = self._buckets.setdefault((token, resource), Bucket())
        if found.reset_at <= self.clock.now():
            found.used, found.reset_at = 0, self.clock.now() + HOUR
        return found

    def take(self, token: str, resource: str) -> tuple[bool, dict[str, str]]:
        """Count a request; whether it is within the limit, and the headers that say how things stand."""
        limit = self.limit(resource)
        if limit is None:
            return True, {}
        bucket = self.bucket(token, resource)
        allowed = bucket.used < limit
        if allowed:
            bucket.used += 1
        return allowed, headers_of(resource, limit, bucket)

    def report(self, token: str) -> dict[str, dict[str, int]]:
        """As in `GET /rate_limit`."""
        found = {}
        for resource in ("core", "actions_runner_registration"):
            limit, bucket = self.limit(resource), self.bucket(token, resource)
            if limit is not None:
                left = max(0, limit - bucket.used)
                numbers = {"limit": limit, "used": bucket.used, "remaining": left, "reset": int(bucket.reset_at)}
                found[resource] = numbers
        return found


def headers_of(resource: str, limit: int, bucket: Bucket) -> dict[str, str]:
    return {
        "x-ratelimit-limit": str(limit),
        "x-ratelimit-remaining": str(max(0, limit - bucket.used)),
        "x-ratelimit-used": str(bucket.used),
        "x-ratelimit-reset": str(int(bucket.reset_at)),
        "x-ratelimit-resource": resource,
    }


def grant_for_installation(state: GitHubState, permissions: dict[str, str], wanted: object, now: float) -> Grant:
    """An installation token's grant, narrowed as the request's body asks.

    Raises:
        ApiError: 422, it asks for more than the installation has.
    """
    body = wanted if isinstance(wanted, dict) else {}
    narrowed = body.get("permissions") or permissions
    for name, level in narrowed.items():
        have = permissions.get(name, "")
        if level not in _LEVELS or have not in _LEVELS or _LEVELS.index(have) < _LEVELS.index(level):
            raise ApiError(422, "The permissions requested are not granted to this installation.")
    names = [one for one in state.repositories.values() if one.id in (body.get("repository_ids") or ())]
    short = body.get("repositories") or ()
    names += [one for one in state.repositories.values() if one.name in short]
    if {one.name for one in names} < set(short) or len(names) < len(body.get("repository_ids") or ()):
        raise ApiError(422, "There is at least one repository that does not exist or is not accessible.")
    repositories = frozenset(one.full_name.lower() for one in names) if names else None
    life = now + state.options.installation_token
    return Grant(Kind.INSTALLATION, life, permissions=dict(narrowed), repositories=repositories)
