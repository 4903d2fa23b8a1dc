"""Settings that are allowed and weaken a promise: each named with what it gives away."""

from __future__ import annotations

import ipaddress
import stat
from collections.abc import Iterator
from urllib.parse import urlsplit

from orchestrator.cli.insecure.github import github_warnings
from orchestrator.cli.insecure.page import MATCHES_ALL, page_warnings
from orchestrator.cli.insecure.secrets import secret_warnings
from orchestrator.identity.claims import RESERVED_CLAIMS
from orchestrator.identity.secret_file import SecretFile
from orchestrator.model.egress import EgressProtocol
from orchestrator.settings import PoolSettings, Settings


def warnings_for(settings: Settings) -> list[str]:
    """One line for each insecure choice, beginning with the setting's path."""
    return [
        *_server(settings),
        *_urls(settings),
        *_callers(settings),
        *page_warnings(settings),
        *(line for number, pool in enumerate(settings.pools) for line in _pool(f"pools.{number}", pool)),
        *github_warnings(settings),
        *secret_warnings(settings),
        *_audit(settings),
        *_release(settings),
        *_notifications(settings),
        *_approvals(settings),
        *_rules(settings),
        *_state(settings),
    ]


def _loopback(host: str | None) -> bool:
    if not host or host == "localhost":
        return bool(host)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _server(settings: Settings) -> Iterator[str]:
    if not _loopback(settings.server.host) and not settings.server.public_url.startswith("https://"):
        yield (
            "server.host: the API speaks plain HTTP beyond loopback and public_url is not https://, so caller tokens "
            "cross the network in the clear; put TLS in front and name it in server.public_url"
        )


def _urls(settings: Settings) -> Iterator[str]:
    plain = {
        "server.public_url": (settings.server.public_url, "relying parties would fetch our keys unprotected"),
        "policy.opa_url": (settings.policy.opa_url, "whoever is on the path answers in the name of policy"),
        "telemetry.otlp_endpoint": (settings.telemetry.otlp_endpoint, "traces cross the network in the clear"),
    }
    for name, (url, loss) in plain.items():
        if url.startswith("http://") and not _loopback(urlsplit(url).hostname):
            yield f"{name}: plain http beyond loopback; {loss}"


def _callers(settings: Settings) -> Iterator[str]:
    for number, caller in enumerate(settings.callers):
        path = f"callers.{number}"
        if not caller.issuer.startswith("https://") and caller.jwks_file is None:
            yield f"{path}.issuer: its keys are fetched without TLS; whoever is on the path can dispatch jobs"
        for claim, pattern in caller.require.items():
            if pattern in MATCHES_ALL:
                yield f"{path}.require.{claim}: matches every value, so it requires nothing"
        for fact in sorted(RESERVED_CLAIMS & caller.facts.keys()):
            yield f"{path}.facts.{fact}: policy sees it, tokens and trust map never do: the name has a meaning there"
        if not caller.single_use:
            yield f"{path}.single_use: a token that leaks from a log can dispatch jobs until it expires"


def _pool(path: str, pool: PoolSettings) -> Iterator[str]:
    if not pool.require_egress_proof:
        yield f"{path}.require_egress_proof: jobs get their work without proof that forbidden egress fails"
    for number, rule in enumerate(pool.egress):
        if rule.protocol is EgressProtocol.HTTP:
            yield f"{path}.egress.{number}: plain http to {rule.host}; what the job fetches can be changed on the way"


def _audit(settings: Settings) -> Iterator[str]:
    if not settings.audit.enabled:
        yield "audit.enabled: nothing is recorded before it happens, and what happened can never be proven"
    for number, anchor in enumerate(settings.audit.anchors):
        url = anchor.http.url if anchor.http else anchor.object_store.url if anchor.object_store else ""
        if url.startswith("http://") and not _loopback(urlsplit(url).hostname):
            yield f"audit.anchors.{number}: plain http beyond loopback; who is on the path can say that it was taken"
        secrets = {
            "http.headers_file": anchor.http.headers_file if anchor.http else None,
            "object_store.credentials_file": anchor.object_store.credentials_file if anchor.object_store else None,
        }
        for name, file in secrets.items():
            if file is not None and file.exists() and file.stat().st_mode & stat.S_IROTH:
                yield f"audit.anchors.{number}.{name}: every user of this machine can read {file} (chmod 600)"


def _release(settings: Settings) -> Iterator[str]:
    """What says whether a release may go."""
    commits, tickets = settings.promotion.commits, settings.promotion.tickets
    if commits is not None and not commits.pull_requests:
        yield "promotion.commits.pull_requests: no commit counts as merged or reviewed, so no rule can ask for either"
    if tickets is None:
        return
    if tickets.pattern in MATCHES_ALL:
        yield "promotion.tickets.pattern: matches every text, so the tracker is asked for whatever a job says"
    if not tickets.fields.id:
        yield "promotion.tickets.fields.id: nothing shows that the answer is about the ticket that was asked for"
    if tickets.token_file is not None and (exposed := SecretFile(tickets.token_file, "").exposed_to()):
        yield f"promotion.tickets.token_file: {tickets.token_file} can be read by {exposed} (chmod 400)"


def _notifications(settings: Settings) -> Iterator[str]:
    for number, one in enumerate(settings.notifications.endpoints):
        path = f"notifications.endpoints.{number}"
        if not one.key_files:
            yield f"{path}.key_files: nothing shows that a message is ours; whoever reaches its receiver can forge one"
        if one.url.startswith("http://") and not _loopback(urlsplit(one.url).hostname):
            yield f"{path}.url: plain http beyond loopback; names of jobs and of their results cross the network"
        for file in one.key_files:
            if exposed := SecretFile(file, "").exposed_to():
                yield f"{path}.key_files: {file} can be read by {exposed} (chmod 400)"


def _approvals(settings: Settings) -> Iterator[str]:
    given = settings.approvals
    callers = {(caller.issuer, caller.audience) for caller in settings.callers}
    for number, one in enumerate(given.issuers):
        path = f"approvals.issuers.{number}"
        if not one.issuer.startswith("https://") and one.jwks_file is None:
            yield f"{path}.issuer: its keys are fetched without TLS; whoever is on the path can approve"
        if (one.issuer, one.audience) in callers:
            yield f"{path}.audience: callers has it too, so a token that was meant to dispatch a job can approve one"
    if given.people is not None and not given.review_seconds:
        yield "approvals.review_seconds: break-glass goes on counting where nobody looks at what was done with it"


def _rules(settings: Settings) -> Iterator[str]:
    """Who may write policy, the trust map or the approvers' file grants tokens, at the next reload."""
    found = {f"identity.trust_maps.{number}": path for number, path in enumerate(settings.identity.trust_maps)}
    if settings.policy.bundle:
        found["policy.bundle"] = settings.policy.bundle
    if settings.approvals.people:
        found["approvals.people"] = settings.approvals.people
    for name, path in found.items():
        for one in (path, *(path.iterdir() if path.is_dir() else ())):
            if one.exists() and one.stat().st_mode & stat.S_IWOTH:
                yield f"{name}: every user of this machine can change {one}, and thereby who gets which token"
    if settings.identity.issuers and not settings.identity.trust_maps:
        yield "identity.issuers: without a trust map no job gets a token of theirs, but those of the main issuer"


def _state(settings: Settings) -> Iterator[str]:
    try:
        mode = settings.state_dir.stat().st_mode
    except OSError:
        return
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield f"state_dir: {settings.state_dir} is open to other users; it holds keys (chmod 700)"
