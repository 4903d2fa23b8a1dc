"""The dangers that are looked for in a pipeline's file, each with what to do instead. Pure.

None proves that a pipeline is safe: a script can hide from any pattern. What a job may reach and what it may have is
decided outside of it, by the gateway and by policy; this tells its author early.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orchestrator.policy.pipelines.reading import Pipeline, Text

MAX_FINDINGS = 200
MAX_LINE = 4096
"""Characters of a line that are looked at: patterns must not cost more than their text is worth."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A danger: a stable code, where it is, what it is, and what to do. Never holds a value that may be secret."""

    code: str
    line: int
    message: str
    fix: str


Rule = Callable[[Pipeline, frozenset[str]], Iterator[Finding]]

_TOLD: dict[str, tuple[str, str]] = {
    "fetched_and_run": (
        "what is fetched from the network is run unseen: whoever controls that address runs as this job",
        "put the tool into the job's image, or fetch a fixed version and compare its SHA-256 before it runs",
    ),
    "action_unpinned": (
        "{} is named by a tag or branch, which its owner, or who took over the account, can move",
        "name it by the full hash of a reviewed commit (an image by @sha256:…), with the version as a comment",
    ),
    "image_unpinned": ("the image {} has no digest and may be another one tomorrow", "write it as NAME@sha256:…"),
    "docker_in_docker": (
        "a container engine with rights over its host: whoever controls this job controls the host",
        "build images without a daemon and without root (buildah, rootless BuildKit) in a pool of its own",
    ),
    "static_secret": (
        "the job uses the stored secret {}, which is worth as much outside of it",
        "exchange the job's own identity for a token of the target: docs/how-to/get-tokens.md",
    ),
    "secret_in_file": (
        "{}, in the file",
        "take it out, have it revoked where it is good (it is in the history), and use the job's own identity",
    ),
    "script_injection": (
        "a title, branch name or comment that anybody can write becomes part of this script",
        "hand it over as a variable under `env:` and quote it in the script",
    ),
    "stranger_with_rights": (
        "with {} the job has the repository's rights and secrets, and this checks out a stranger's code",
        "use pull_request, which runs such code without them",
    ),
    "permissions_wide": (
        "the job's own platform token may write everything",
        "write `permissions: {contents: read}` at the top, and give single jobs what they need",
    ),
    "permissions_unsaid": (
        "the workflow does not say what its platform token may do, so the repository's default holds",
        "write `permissions: {contents: read}` at the top, and give single jobs what they need",
    ),
    "line_unread": (
        "the line is too long to be looked at whole",
        "write it as several lines, which people can review too",
    ),
}

_FETCH = r"\b(?:curl|wget|aria2c)\b"
_SHELL = (
    r"(?:sudo\s+(?:-\S+\s+)*)?(?:env\s+(?:\S+=\S+\s+)*)?(?:/usr)?(?:/bin/)?"
    r"(?:(?:ba|da|z|k)?sh|python3?|perl|ruby|node|php)\b"
)
_FETCHES = re.compile(_FETCH)
_SHELL_FIRST = re.compile(rf"\s*{_SHELL}")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_NEXT_COMMAND = re.compile(r";|&&?|\|\|")
_RUN_AT_ONCE = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:{_SHELL}|\beval|\bsource|(?:^|\s)\.)\s[^;&]{{0,80}}?(?:<\(|\$\(|`)\s*{_FETCH}",
        r"\b(?:iex|invoke-expression)\b.{0,80}?\b(?:iwr|irm|invoke-webrequest|downloadstring)\b",
        r"\b(?:iwr|irm|invoke-webrequest)\b.{0,200}?\|\s*(?:iex|invoke-expression)\b",
    )
)
_PINNED_ACTION = re.compile(r"@(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
_PINNED_IMAGE = re.compile(r"@sha256:[0-9a-f]{64}\Z")
_DOCKER_IMAGE = re.compile(r"(?:^|/)docker(?::[^@]*)?(?:@|\Z)")
_PRIVILEGED = re.compile(r"(?:^|\s)--privileged(?:=true)?(?:\s|\Z)")
_ENGINE = re.compile(r"\b(?:docker|podman|nerdctl)\b")
_SOCKET = re.compile(r"/run/docker\.sock|/run/containerd/containerd\.sock|/run/podman/podman\.sock")
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIALS?)(?:_|\Z)", re.IGNORECASE
)
_SECRET_VALUE = re.compile(
    r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20}"
    r"|xox[abp]-[A-Za-z0-9-]{10,})|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"
)
_NO_SECRET = re.compile(r"\$\{\{|\$[A-Za-z_{(]|\A(?:true|false|[0-9]{1,6}|none|null)?\Z", re.IGNORECASE)
_STORED = re.compile(r"\$\{\{[^}]{0,200}?\bsecrets\s{0,5}(?:\.\s{0,5}([A-Za-z_][A-Za-z0-9_]{0,100})|\[)")
_STRANGERS_WORD = re.compile(
    r"\$\{\{[^}]{0,200}?\bgithub\.(?:head_ref\b|event\.[\w.*\[\]'-]{1,200}?"
    r"\.(?:title|body|message|name|email|ref|label|head_branch|display_title|page_name)\b)"
)
_STRANGERS_CODE = re.compile(r"github\.(?:head_ref|event\.(?:pull_request|workflow_run)\.)")


def findings(pipeline: Pipeline, trusted: frozenset[str] = frozenset()) -> list[Finding]:
    """All that was found, in order of lines; at most `MAX_FINDINGS`. `trusted` are owners (in lower case) of actions
    whose tags are taken as they are, such as the organisation itself."""
    found = {one for rule in _RULES for one in rule(pipeline, trusted)}
    return sorted(found, key=lambda one: (one.line, one.code, one.message))[:MAX_FINDINGS]


def _finding(code: str, line: int, what: str = "") -> Finding:
    message, fix = _TOLD[code]
    return Finding(code, line, message.replace("{}", what), fix)


def _lines(text: Text) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, each as much of it as is looked at."""
    for number, line in enumerate(text.value.splitlines(), text.line):
        yield number, line[:MAX_LINE]


def _commands(text: Text) -> Iterator[tuple[int, str]]:
    """As `_lines`; those that go on are put together, comments are left out."""
    begun, held = 0, ""
    for number, line in _lines(text):
        begun = begun if held else number
        held += line
        if held.endswith("\\") and len(held) < MAX_LINE:
            held = held[:-1] + " "
            continue
        if not held.lstrip().startswith("#"):
            yield begun, held[:MAX_LINE]
        held = ""
    if held:
        yield begun, held[:MAX_LINE]


def _unread(pipeline: Pipeline, _trusted: frozenset[str]) -> Iterator[Finding]:
    for text in pipeline.texts:
        for number, line in enumerate(text.value.splitlines(), text.line):
            if len(line) > MAX_LINE:
                yield _finding("line_unread", number)


def _fetched_and_run(pipeline: Pipeline, _trusted: frozenset[str]) -> Iterator[Finding]:
    for script in pipeline.scripts:
        for number, line in _commands(script):
            if _piped_into_a_shell(line) or any(one.search(line) for one in _RUN_AT_ONCE):
                yield _finding("fetched_and_run", number)


def _piped_into_a_shell(line: str) -> bool:
    """Quoted text is left out: an address may hold what separates commands."""
    for command in _NEXT_COMMAND.split(_QUOTED.sub("''", line)):
        fetched = False
        for part in command.split("|"):
            if fetched and _SHELL_FIRST.match(part):
                return True
            fetched = fetched or _FETCHES.search(part) is not None
    return False


def _unpinned_actions(pipeline: Pipeline, trusted: frozenset[str]) -> Iterator[Finding]:
    for used in pipeline.uses:
        name = used.value.strip()
        if not name or name.startswith("./"):
            continue
        pinned = (_PINNED_IMAGE if name.startswith("docker://") else _PINNED_ACTION).search(name)
        if not pinned and name.partition("/")[0].lower() not in trusted:
            yield _finding("action_unpinned", used.line, name[:120])


def _unpinned_images(pipeline: Pipeline, _trusted: frozenset[str]) -> Iterator[Finding]:
    for image in pipeline.images:
        name = image.value.strip().removeprefix("docker://")
        built_here = name.startswith("./") or name.rpartition("/")[2] == "Dockerfile"
        if name and not built_here and "$" not in name and not _PINNED_IMAGE.search(name):
            yield _finding("image_unpinned", image.line, name[:120])


def _docker_in_docker(pipeline: Pipeline, _trusted: frozenset[str]) -> Iterator[Finding]:
    for image in pipeline.images:
        if _DOCKER_IMAGE.search(image.value.strip().removeprefix("docker://")):
            yield _finding("docker_in_docker", image.line)
    for option in pipeline.options:
        if _PRIVILEGED.search(option.value) or _SOCKET.search(option.value):
            yield _finding("docker_in_docker", option.line)
    for script in pipeline.scripts:
        for number, line in _commands(script):
            if _SOCKET.search(line) or (_PRIVILEGED.search(line) and _ENGINE.search(line)):
                yield _finding("docker_in_docker", number)


def _stored_secrets(pipeline: Pipeline, _trusted: frozenset[str]) -> Iterator[Finding]:
    for text in pipeline.texts:
        for number, line in _lines(text):
            for match in _STORED.finditer(line):
                name = match[1] or "whose name is made when it runs"
                if name.upper() != "GITHUB_TOKEN":
                    yield _finding("static_secret", number, name)


def _written_secrets(pipeline: Pipeline, _trusted: frozenset[str]) -> Iterator[Finding]:
    for name, text in pipeline.values:
        value = text.value.strip()
        if _SECRET_NAME.search(name) and len(value) >= 8 and not _NO_SECRET.search(value):
            yield _finding("secret_in_file", text.line, f"{name[:80]} has a value, and the name of a secret")
    for text in pipeline.texts:
        for number, line in _lines(text):
            if _SECRET_VALUE.search(line):
                yield _finding("secret_in_file", number, "a credential of a known form stands here")


def _strangers_words(pipeline: Pipeline, _trusted: frozenset[str]) -> Iterator[Finding]:
    for script in pipeline.scripts:
        for number, line in _lines(script):
            if _STRANGERS_WORD.search(line):
                yield _finding("script_injection", number)


def _strangers_code(pipeline: Pipeline, _trusted: frozenset[str]) -> Iterator[Finding]:
    risky = {one.value for one in pipeline.triggers} & {"pull_request_target", "workflow_run"}
    for name, text in pipeline.values if risky else ():
        if name in ("ref", "repository") and _STRANGERS_CODE.search(text.value[:MAX_LINE]):
            yield _finding("stranger_with_rights", text.line, min(risky))


def _permissions(pipeline: Pipeline, _trusted: frozenset[str]) -> Iterator[Finding]:
    for one in pipeline.permissions:
        if one.value == "write-all":
            yield _finding("permissions_wide", one.line)
    if pipeline.triggers and not pipeline.has_permissions:
        yield _finding("permissions_unsaid", pipeline.triggers[0].line)


_RULES: tuple[Rule, ...] = (
    _unread,
    _fetched_and_run,
    _unpinned_actions,
    _unpinned_images,
    _docker_in_docker,
    _stored_secrets,
    _written_secrets,
    _strangers_words,
    _strangers_code,
    _permissions,
)
