"""The files of a starting point, from what was chosen. Pure: the same choices always give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from orchestrator import __version__

TEMPLATE: Final = 1
"""Raised with every change that users of an earlier one should take over."""
PLACEHOLDER_URL: Final = "https://runners.example"
_TEMPLATES: Final = Path(__file__).parent / "templates"


class Backend(StrEnum):
    SANDBOX = "sandbox"
    KUBERNETES = "kubernetes"


class Platform(StrEnum):
    """Where jobs come from. `DISPATCH` is the API alone, by the operator's own hand."""

    GITHUB = "github"
    GITLAB = "gitlab"
    FORGEJO = "forgejo"
    BUILDKITE = "buildkite"
    DISPATCH = "dispatch"


@dataclass(frozen=True, slots=True)
class Choices:
    """`url` is where the daemon is reached, and the audience of callers' tokens; empty until it is known."""

    backend: Backend = Backend.SANDBOX
    platforms: tuple[Platform, ...] = (Platform.DISPATCH,)
    url: str = ""

    @property
    def callers(self) -> tuple[Platform, ...]:
        """Those with tokens of their own."""
        return tuple(one for one in self.platforms if one is not Platform.DISPATCH)


@dataclass(frozen=True, slots=True)
class StartingFile:
    content: bytes
    executable: bool = False


@dataclass(frozen=True, slots=True)
class _Proof:
    """What a platform's tokens say of a job. `ref` is the condition of a grant; `protects` is whether they tell that a
    branch is protected."""

    issuer: str
    shown: str
    proves: str
    ref: str = "ref: {equals: refs/heads/main}"
    nobody: str = "0"
    protects: bool = True


_PROOFS: Final[Mapping[Platform, _Proof]] = {
    Platform.GITHUB: _Proof(
        "https://token.actions.githubusercontent.com",
        "dispatched by a workflow; or taken from GitHub's own queue by scale sets (`docs/how-to/run-github-jobs.md`)",
        "repository, commit, branch and its protection, workflow, who caused it",
    ),
    Platform.GITLAB: _Proof(
        "https://gitlab.com",
        "dispatched by a job of GitLab; its queue is not watched",
        "project, commit, branch and its protection, CI file, who caused it",
    ),
    Platform.FORGEJO: _Proof(
        "https://forgejo.example/api/actions",
        "dispatched by a workflow; its queue is not watched",
        "repository, commit, branch and its protection, workflow, who caused it",
    ),
    Platform.BUILDKITE: _Proof(
        "https://agent.buildkite.com",
        "dispatched by a step; its queue is not watched",
        "pipeline, commit and branch, not its protection: so nothing for prod",
        ref="branch: {equals: main}",
        nobody="00000000-0000-0000-0000-000000000000",
        protects=False,
    ),
}
_BY_HAND: Final = "| the dispatch API | `orchestrator submit` by the operator | nothing but that it is the operator |"
_BACKENDS: Final[Mapping[Backend, str]] = {
    Backend.SANDBOX: (
        "Runners are local sandboxes: no cluster, no root, no images. They share the daemon's kernel; for code that\n"
        "you do not know, take pods with a stronger boundary. Jobs' tools come from this machine (`pools.….toolchain`)."
    ),
    Backend.KUBERNETES: (
        "Runners are pods. `orchestrator manifests --config orchestrator.yaml --output cluster` renders what the\n"
        "cluster needs, and `orchestrator preflight --config orchestrator.yaml` says what it lacks."
    ),
}


def files_of(choices: Choices) -> dict[str, StartingFile]:
    """Every file by its path below the folder."""
    url = choices.url or PLACEHOLDER_URL
    texts = {
        "README.md": _readme(choices),
        "orchestrator.yaml": _settings(choices, url),
        ".gitignore": "state/\njob.json\n*.pem\n",
        "approvers/approvers.yaml": _text("approvers/approvers.yaml"),
        "approvers/signed/README.md": _text("approvers/signed.md"),
        **{f"trust/{name}.yaml": _trust(name, choices) for name in ("staging", "prod")},
        **{f"jobs/{name}.sh": _text(f"jobs/{name}.sh") for name in ("build", "scan", "deploy")},
        **{f"pipelines/{one}.yml": _pipeline(f"pipelines/{one}.yml", url) for one in choices.platforms},
        **{f"checks/{one}.yml": _pipeline(f"checks/{one}.yml", url) for one in choices.callers},
    }
    files = {name: StartingFile(text.encode()) for name, text in texts.items()}
    files |= {name: StartingFile(_filled(name, URL=url).encode(), executable=True) for name in ("dispatch", "check")}
    return dict(sorted((files | _policy()).items()))


def _policy() -> dict[str, StartingFile]:
    """The shipped bundle, as it is: its tests pass, and its data is where limits are changed."""
    from orchestrator.policy.bundle import default_bundle  # not before: it brings YAML and the engine

    found = sorted(path for path in default_bundle().iterdir() if path.suffix in (".rego", ".json"))
    return {f"policy/{path.name}": StartingFile(path.read_bytes()) for path in found}


def _settings(choices: Choices, url: str) -> str:
    server = f'server: {{public_url: "{url}"}}      # the issuer of every token: choose it before the first job'
    parts = [_filled("settings/head.yaml", PUBLIC_URL=f"\n{server if choices.url else f'# {server}'}\n")]
    if choices.callers:
        callers = [_filled(f"settings/callers-{one}.yaml", URL=url) for one in choices.callers]
        source = _text("settings/source-github.yaml") if Platform.GITHUB in choices.callers else ""
        parts.append("callers:\n" + "".join(callers) + source)
    parts.append(_text(f"settings/pools-{choices.backend}.yaml"))
    return "\n".join(parts)


def _trust(environment: str, choices: Choices) -> str:
    able = [one for one in choices.callers if environment != "prod" or _PROOFS[one].protects]
    grants = [
        _filled(
            f"trust/grant-{environment}.yaml",
            CI=one.value,
            ISSUER=_PROOFS[one].issuer,
            NOBODY=_PROOFS[one].nobody,
            REF=f"      {_PROOFS[one].ref}",
        )
        for one in able
    ]
    text = "grants:\n" + "".join(grants) if grants else "grants: []                          # nobody is named yet\n"
    return _filled(f"trust/{environment}.yaml", GRANTS=text.rstrip("\n"))


def _pipeline(name: str, url: str) -> str:
    fetch = (
        '(umask 077; curl --silent --fail --header "Authorization: Bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" \\\n'
        f'            "$ACTIONS_ID_TOKEN_REQUEST_URL&audience={url}" | jq -j .value > "$TOKEN_FILE")'
    )
    return _filled(name, URL=url, GITHUB_TOKEN=fetch)


def _readme(choices: Choices) -> str:
    rows = [
        f"| {one} | {_PROOFS[one].shown} | {_PROOFS[one].proves} |" if one in _PROOFS else _BY_HAND
        for one in choices.platforms
    ]
    return _filled(
        "README.md",
        TEMPLATE=str(TEMPLATE),
        VERSION=__version__,
        BACKEND=_BACKENDS[choices.backend],
        PLATFORMS="\n".join(rows),
    )


def _filled(name: str, **values: str) -> str:
    text = _text(name)
    for marker, value in values.items():
        text = text.replace(f"@@{marker}@@", value)
    return text


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
