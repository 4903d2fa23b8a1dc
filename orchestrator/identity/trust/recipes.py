"""What the other side of a grant has to be told, so that it accepts what the grant gives and nothing else. Pure.

Each party judges what it can: Google Cloud, Vault and Kubernetes any claim, AWS the subject, the audience and session
tags, Entra one exact subject. The trust map has judged everything before; the recipe repeats what the party can check.
Sources are the parties' own references; limits as they state them are checked here, where the message can name a fix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

import orchestrator.identity.trust.recipe_clouds as clouds
import orchestrator.identity.trust.recipe_others as others
from orchestrator.identity.trust.document import GrantRule
from orchestrator.identity.trust.recipe_parts import Asked, Recipe, impossible

MAX_ISSUER_CHARS: Final = 600
_PUBLIC: Final = frozenset({"aws", "gcp", "azure", "kubernetes"})
"""Kinds that take no issuer without TLS."""

_KINDS: Final[Mapping[str, Callable[[Asked], Recipe]]] = MappingProxyType(
    {
        "aws": clouds.aws,
        "gcp": clouds.gcp,
        "azure": clouds.azure,
        "vault": others.vault,
        "step-ca": others.step_ca,
        "kubernetes": others.kubernetes,
        "oidc": others.oidc,
        "github": others.github,
    }
)


def recipe(grant: GrantRule, public_url: str, subject: str = "") -> Recipe:
    """What to set up at the grant's target.

    `public_url` is the daemon's (`server.public_url`); a document with an issuer of its own has it below that.
    `subject` is the exact `sub` of the jobs meant, as one of their tokens shows it, where the grant's conditions leave
    parts of it open.

    Raises:
        ConfigurationError: `recipe_impossible`, the target could not take it; with the way out.
    """
    if public_url.endswith("/"):
        raise impossible(f"the public URL {public_url!r} has a slash at its end", "write it as server.public_url is")
    issuer = public_url + (f"/issuers/{grant.issuer}" if grant.issuer else "")
    _check_issuer(issuer, grant.target.kind)
    return _KINDS[grant.target.kind](Asked(grant, issuer, subject))


def _check_issuer(issuer: str, kind: str) -> None:
    parts = urlsplit(issuer)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise impossible(f"the issuer {issuer!r} is no http(s) URL", "see server.public_url")
    if parts.query or parts.fragment or parts.username or len(issuer) > MAX_ISSUER_CHARS:
        raise impossible(
            f"the issuer {issuer!r} has a user, a query or a fragment, or is longer than {MAX_ISSUER_CHARS} characters",
            "see server.public_url",
        )
    if kind in _PUBLIC and parts.scheme != "https":
        raise impossible(f"a target of kind {kind} takes no issuer without TLS, and this one is {issuer}",
                         "serve the daemon's public URL by https")  # fmt: skip
    if kind == "aws" and parts.port is not None:
        raise impossible(f"AWS takes no issuer with a port, and this one is {issuer}", "serve it at 443, without one")
