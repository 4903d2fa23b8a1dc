"""Settings of GitHub as a source of jobs: where it is, as whom we ask, and which pool runs what."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from orchestrator.settings.fields import EgressRuleSettings, Group, Name, Seconds


def _number_as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


NumberOrText = Annotated[str, BeforeValidator(_number_as_text), Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
"""An id that YAML may take for a number."""

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$")]
RepositoryName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
Argument = Annotated[str, Field(max_length=1024, pattern=r"^[^\x00-\x1f]*$")]

_SEGMENT: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
_RESERVED: Final = frozenset({"dispatch", "check", "deployment"})
"""Names that the program's own source has, and questions to policy that are about no job."""


def is_loopback(host: str | None) -> bool:
    """Whether a URL's host is this machine itself."""
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost" or (host or "").endswith(".localhost")


def _http_url(value: str) -> SplitResult:
    """A URL without credentials, query and fragment; plain http is for this machine itself only."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError("is no URL; write it as https://host[:port]/path") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must start with https:// and name a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no user name or password: settings are shown and logged")
    if parts.query or parts.fragment:
        raise ValueError("must have no query and no fragment")
    return parts


def _place(value: str) -> str:
    parts = _http_url(value)
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must start with https://; plain http is for this machine itself only")
    segments = [part for part in parts.path.strip("/").split("/") if part]
    if not 1 <= len(segments) <= 2 or not all(_SEGMENT.fullmatch(part) for part in segments):
        raise ValueError("must be https://HOST/ORG, https://HOST/OWNER/REPO or https://HOST/enterprises/NAME")
    if len(segments) == 1 and segments[0].lower() == "enterprises":
        raise ValueError("names no enterprise; write https://HOST/enterprises/NAME")
    return value.rstrip("/")


def _proxy(value: str) -> str:
    if value and _http_url(value).path not in ("", "/"):
        raise ValueError("must have no path; write it as http://host:port")
    return value.rstrip("/")


GitHubPage = Annotated[str, AfterValidator(_place)]
ProxyUrl = Annotated[str, AfterValidator(_proxy)]


class GitHubAppSettings(Group):
    """The GitHub App as which the daemon asks. It needs *Self-hosted runners: read and write* on an organisation,
    *Administration: read and write* on a repository, and *Actions: read* and *Contents: read* for facts."""

    client_id: NumberOrText
    """The App's client id (`Iv23…`), or its numeric id."""
    installation_id: int = Field(gt=0, lt=1 << 63)
    """Id of the App's installation on the account; the number at the end of the installation's page address."""
    private_key_file: Path
    """PEM file with the App's private key; read again when it is replaced. Nobody else may read it (mode 0400)."""
    repositories: tuple[RepositoryName, ...] = Field(default=(), max_length=500)
    """Names of the repositories that tokens are narrowed to, without their owner. Empty: all of the installation,
    which an organisation's source needs when any repository may use its runners."""


class GitHubOidcSettings(Group):
    """GitHub's own proof of which job runs: the token a job gets when its workflow grants `id-token: write`."""

    issuer: str = ""
    """Exact `iss` of GitHub's job tokens. Empty: what belongs to the URL, e.g.
    `https://token.actions.githubusercontent.com`; name it when your enterprise has an issuer with its own slug."""
    audience: str = Field(default="", max_length=255)
    """The `aud` that the runner's hook asks a token for. Empty: `server.public_url`, which only this daemon has."""
    jwks_file: Path | None = None
    """GitHub's key set from a file instead of by discovery, where this machine cannot reach the issuer."""

    @field_validator("issuer")
    @classmethod
    def _is_https(cls, value: str) -> str:
        if value and _http_url(value).scheme == "http" and not is_loopback(urlsplit(value).hostname):
            raise ValueError("must start with https://: whoever is on the path could name jobs")
        return value


class RunnerDemandSettings(Group):
    """What runs the jobs of one scale set or label."""

    pool: Name
    """Pool whose runners take these jobs."""
    max_runners: int | None = Field(default=None, ge=1, le=100_000)
    """Most runners at once for this demand; none: as many as the pool has."""
    runner_command: tuple[Argument, ...] = Field(default=("/home/runner/run.sh",), min_length=1, max_length=32)
    """Program of GitHub's runner inside the pool's image or sandbox, and its arguments. It gets its registration by
    `ACTIONS_RUNNER_INPUT_JITCONFIG`, never as an argument."""
    work_folder: str = Field(default="_work", max_length=255, pattern=r"^[^\x00-\x1f]*$")
    """Folder for checkouts, below the runner's own or absolute."""

    @field_validator("runner_command")
    @classmethod
    def _is_absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value[0].startswith("/"):
            raise ValueError("must begin with the program's absolute path, e.g. /home/runner/run.sh")
        return value


class ScaleSetSettings(RunnerDemandSettings):
    """A runner scale set: jobs are fetched by long poll, nothing has to reach this machine."""

    name: Label
    """Name of the scale set, made when it is missing; what workflows write in `runs-on`."""
    group: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]*$")] = "Default"
    """Runner group; it decides which repositories may use the set, and must exist."""
    labels: tuple[Label, ...] = Field(default=(), max_length=100)
    """Labels of the set. Empty: one, equal to its name. GHES before 3.21 drops further ones."""


class WebhookRunnerSettings(RunnerDemandSettings):
    """Runners for jobs that webhooks tell of: a job fits when all its labels are among these or `self-hosted`."""

    labels: tuple[Label, ...] = Field(min_length=1, max_length=100)
    """Labels that these runners have besides `self-hosted`. The first entry of the list that fits a job takes it, so
    those with few labels come first."""
    group_id: int = Field(default=1, ge=1, lt=1 << 63)
    """Number of the runner group; 1 is the default group."""


class GitHubWebhookSettings(Group):
    """`workflow_job` webhooks, received under `/webhooks/github/` and the source's name. The alternative to scale
    sets where these cannot be had; what a webhook says is only a hint, each job is fetched again."""

    secret_files: tuple[Path, ...] = Field(min_length=1, max_length=4)
    """Files with the webhook's secret, one secret a file; read again when they are replaced. All of them count, so
    that a secret can be rotated: add the new one here, change it at GitHub, take the old one away."""
    runners: tuple[WebhookRunnerSettings, ...] = Field(min_length=1, max_length=100)
    """Which pool takes which labels."""
    repositories: tuple[RepositoryName, ...] = Field(default=(), max_length=500)
    """Repositories, without their owner, whose queued jobs are looked for as well, because a webhook that was lost
    is not sent again by itself. Empty at an organisation: only those that webhooks told of. A repository's own
    source always looks at that one."""
    hook_id: int = Field(default=0, ge=0, lt=1 << 63)
    """Number of the repository's or organisation's webhook (last part of its page's address), for asking what was
    not delivered. 0: the webhook of the App itself; with a token file it is then not asked."""
    max_body_bytes: int = Field(default=25 << 20, ge=1 << 10, le=25 << 20)
    """Largest delivery in bytes; GitHub sends up to 25 MiB."""
    max_waiting: int = Field(default=10_000, ge=1, le=1_000_000)
    """Deliveries that may wait for being looked into; beyond it the answer is 503, and the delivery is found later."""
    queued_seconds: Seconds = 300
    """Time between two looks for queued jobs by REST: how long a job waits at most when its webhook was lost."""
    deliveries_seconds: Annotated[float, Field(gt=0, le=86400)] = 900
    """Time between two looks for deliveries that failed. At most a day: GitHub forgets them after three."""

    @field_validator("runners")
    @classmethod
    def _each_can_take_a_job(cls, rules: tuple[WebhookRunnerSettings, ...]) -> tuple[WebhookRunnerSettings, ...]:
        labels = [{label.lower() for label in rule.labels} for rule in rules]
        for number, later in enumerate(labels):
            for before in range(number):
                if later <= labels[before]:
                    raise ValueError(
                        f"entry {number} never takes a job, for all its labels are among those of entry {before}; "
                        "write entries with few labels first"
                    )
        return rules


class GitHubSettings(Group):
    """One organisation, repository or enterprise on GitHub."""

    name: Name
    """Name of the source: part of its jobs' ids and of its webhook's path. Never give one's name to another."""
    url: GitHubPage
    """Page of the organisation, repository or enterprise: `https://github.com/ORG`, `https://github.com/OWNER/REPO`,
    `https://github.com/enterprises/NAME`, or the same on `SUBDOMAIN.ghe.com` or a GitHub Enterprise Server."""
    app: GitHubAppSettings | None = None
    """The GitHub App to ask as."""
    token_file: Path | None = None
    """File with a personal access token, instead of an App: wider rights, longer life, and it is a person's. The only
    way for an enterprise."""
    ca_file: Path | None = None
    """PEM file with further CAs that vouch for a GitHub Enterprise Server."""
    proxy: ProxyUrl = ""
    """HTTP proxy for the daemon's own requests to GitHub, e.g. `http://proxy.example:3128`; empty for none."""
    hosts: tuple[EgressRuleSettings, ...] = Field(default=(), max_length=200)
    """What the runner's program must reach to get and report its job. It may do so before anybody knows which job that
    is, so name no host that a job could send secrets to. Empty: the hosts that belong to the URL. The pool's egress
    must have them too. On `ghe.com` add the result storage of your region."""
    oidc: GitHubOidcSettings = GitHubOidcSettings()
    scale_sets: tuple[ScaleSetSettings, ...] = Field(default=(), max_length=200)
    """Runner scale sets to serve."""
    webhooks: GitHubWebhookSettings | None = None
    """Webhooks to receive, with runners registered by REST."""

    @property
    def segments(self) -> tuple[str, ...]:
        """Parts of the URL's path: one for an organisation, two for a repository or an enterprise."""
        return tuple(part for part in urlsplit(self.url).path.split("/") if part)

    @property
    def is_enterprise(self) -> bool:
        return len(self.segments) == 2 and self.segments[0].lower() == "enterprises"

    @property
    def is_repository(self) -> bool:
        return len(self.segments) == 2 and not self.is_enterprise

    def demands(self) -> Iterator[tuple[str, RunnerDemandSettings]]:
        """Each scale set and label rule with its path below this source."""
        yield from ((f"scale_sets.{number}", item) for number, item in enumerate(self.scale_sets))
        if self.webhooks is not None:
            yield from ((f"webhooks.runners.{number}", item) for number, item in enumerate(self.webhooks.runners))

    @field_validator("name")
    @classmethod
    def _is_free(cls, value: str) -> str:
        if value in _RESERVED:
            raise ValueError(f"{value!r} is a name of the program's own; choose another")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> GitHubSettings:
        if (self.app is None) == (self.token_file is None):
            raise ValueError("needs either app or token_file")
        if self.is_enterprise and self.app is not None:
            raise ValueError("no App may manage an enterprise's runners; use token_file, or an organisation's url")
        if self.is_enterprise and self.webhooks is not None:
            raise ValueError("an enterprise's webhooks cannot be asked for what was lost; use an organisation's url")
        if bool(self.scale_sets) == (self.webhooks is not None):
            raise ValueError("needs either scale_sets or webhooks; for both make two sources of one url")
        names = [f"{item.group}/{item.name}".lower() for item in self.scale_sets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"scale sets of one runner group must differ; given twice: {', '.join(twice)}")
        return self
