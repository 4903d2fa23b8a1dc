"""What the name of a secret says of it: which kind it is, how bad its loss would be, and what takes its place. Pure.

The three kinds that are replaced first are at the top: what changes production, what publishes, what rules a cloud.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class NameKind:
    """`risk` is from 0 to 100."""

    kind: str
    risk: int
    fix: str


_CLOUD: Final = NameKind("cloud_admin", 92, "a trust map target for the cloud: orchestrator trust recipe")
_DEPLOY: Final = NameKind("deploy_key", 90, "a grant for the deployment environment instead of a key")
_PUBLISH: Final = NameKind("registry_publish", 88, "trusted publishing, or a grant for the registry's audience")
_SIGN: Final = NameKind("signing_key", 80, "the control plane's signatures: orchestrator-artifact in the job")
_DATABASE: Final = NameKind("database", 75, "the database's own short-lived logins, by way of a grant")
_SOURCE: Final = NameKind("source_token", 65, "an installation token for one repository: audience github:APP")
_OTHER: Final = NameKind("other", 50, "register it with an owner and a rotation, then find out who still needs it")
CLEAR: Final = NameKind("value_in_clear", 98, "withdraw it now where it opens something: whoever read the file has it")
JOB_TOKEN: Final = NameKind("job_token", 10, "nothing: the platform makes it for each job; narrow its permissions")

_JOB_TOKENS: Final = frozenset({"GITHUB_TOKEN", "GITEA_TOKEN", "FORGEJO_TOKEN", "CI_JOB_TOKEN", "SYSTEM_ACCESSTOKEN"})
_CLOUD_WORDS: Final = """AWS AZURE ARM GCP GCLOUD GOOGLE DIGITALOCEAN HCLOUD CLOUDFLARE LINODE SCALEWAY ALICLOUD OCI
VAULT TERRAFORM TF"""
_DEPLOY_WORDS: Final = "DEPLOY SSH KUBECONFIG KUBE KUBERNETES ARGOCD HELM ANSIBLE PROD PRODUCTION"
_PUBLISH_WORDS: Final = """NPM NODE PYPI TWINE DOCKER DOCKERHUB GHCR QUAY HARBOR CARGO CRATES RUBYGEMS GEM NUGET MAVEN
SONATYPE OSSRH ARTIFACTORY NEXUS REGISTRY CHOCO HACKAGE HEX PUBLISH"""
_KINDS: Final = (
    (_CLOUD, _CLOUD_WORDS),
    (_SIGN, "COSIGN GPG PGP SIGNING SIGSTORE CODESIGN"),
    (_DEPLOY, _DEPLOY_WORDS),
    (_PUBLISH, _PUBLISH_WORDS),
    (_DATABASE, "DATABASE POSTGRES PG MYSQL MONGO MONGODB REDIS DB DSN"),
    (_SOURCE, "GH GITHUB GITLAB GIT BOT PAT REPO"),
)
"""Words of names; the first kind that has one counts."""
_WORDS: Final = tuple((kind, frozenset(words.split())) for kind, words in _KINDS)
_SEPARATOR: Final = re.compile(r"[^A-Z0-9]+")
_SECRET: Final = frozenset(("TOKEN", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "PASS", "PASSPHRASE", "KEY", "APIKEY"))
_SECRET_WORDS: Final = _SECRET | {"CREDENTIAL", "CREDENTIALS", "PAT", "KUBECONFIG"}
_ABOUT: Final = frozenset(("FILE", "PATH", "DIR", "NAME", "URL", "ID", "LENGTH", "TYPE", "HEADER"))
"""A variable whose name ends so tells where a secret is, or how it looks."""

_VALUES: Final = re.compile(
    r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}"
    r"|github_pat_[A-Za-z0-9_]{20,}|\bglpat-[A-Za-z0-9_-]{16,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bnpm_[A-Za-z0-9]{30,}"
    r"|\bpypi-[A-Za-z0-9_-]{40,}|://[^\s/@'\"<>:$]{1,64}:[^\s/@'\"<>$]{6,128}@"
)


def kind_of(name: str) -> NameKind:
    """By the words of the name alone, which is all that there is to go by."""
    if name.upper() in _JOB_TOKENS:
        return JOB_TOKEN
    words = frozenset(_SEPARATOR.split(name.upper()))
    return next((kind for kind, those in _WORDS if words & those), _OTHER)


def sounds_secret(name: str) -> bool:
    """Whether a variable of this name most likely holds a secret."""
    words = _SEPARATOR.split(name.upper())
    return not _SECRET_WORDS.isdisjoint(words) and words[-1] not in _ABOUT


def is_secret(name: str) -> bool:
    """Whether what is assigned to this name is a secret beyond doubt: a cache, a map and a sort have a key as well."""
    words = _SEPARATOR.split(name.upper())
    return sounds_secret(name) and (words[-1] not in ("KEY", "PASS") or (name.isupper() and len(words) > 1))


def holds_value(text: str) -> bool:
    """Whether a text has a credential in it that anybody can recognise."""
    return _VALUES.search(text) is not None
