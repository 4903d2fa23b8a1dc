"""What may come in, as strict models: bounded, nothing unknown, nothing converted."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from orchestrator.model.outcome import Result
from orchestrator.model.phase import Phase

MAX_SCRIPT_BYTES = 256 * 1024
MAX_ENVIRONMENT_ENTRIES = 256
MAX_ENVIRONMENT_BYTES = 64 * 1024
MAX_CLAIMED_ENTRIES = 64
MAX_CLAIMED_BYTES = 16 * 1024
MAX_TIMEOUT_SECONDS = 7 * 86400
MAX_SECRETS = 8
"""As many as a runner's work can have files."""
RESERVED_PREFIXES = ("ORCHESTRATOR_", "LD_")
"""Variables the runner sets itself, and those that would change the agent's own program loader."""

JOB_ID_PATTERN = r"^[A-Za-z0-9_-]{1,96}\.[A-Za-z0-9_-]{1,96}\.[1-9][0-9]{0,6}$"
KEY_PATTERN = r"""^([!#$%&'*+.^_`|~0-9A-Za-z:/=@-]{1,255}|"([ !#-\[\]-~]|\\["\\]){1,255}")$"""
LABEL = r"^[A-Za-z0-9][A-Za-z0-9 ._:/@()+,=#-]{0,127}$"
LABEL_OR_EMPTY = r"^([A-Za-z0-9][A-Za-z0-9 ._:/@()+,=#-]{0,127})?$"
POOL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
ARTIFACT = r"^(sha256:[0-9a-f]{64})?$"
TICKET = r"^([A-Za-z0-9][A-Za-z0-9._/#-]{0,127})?$"
_MEDIA_TYPE = r"^([a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63})?$"
LINE = r"^[^\x00-\x1f\x7f]+$"
SHORT_LINE = r"^[^\x00-\x1f\x7f]{0,200}$"
_NO_NUL = r"^[^\x00]*$"
_ENVIRONMENT_NAME = r"^(?!ORCHESTRATOR_|LD_)[A-Za-z_][A-Za-z0-9_]{0,127}$"
_CLAIMED_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}$"
_ENVIRONMENT_NAME_RE = re.compile(_ENVIRONMENT_NAME.removesuffix("$"))
_CLAIMED_NAME_RE = re.compile(_CLAIMED_NAME.removesuffix("$"))


def _script(value: str) -> str:
    if len(value.encode()) > MAX_SCRIPT_BYTES:
        raise ValueError(f"may have at most {MAX_SCRIPT_BYTES} bytes")
    if "\0" in value:
        raise ValueError("must not hold a NUL character")
    return value


def _mapping(value: dict[str, str], name: re.Pattern[str], what: str, max_bytes: int) -> dict[str, str]:
    for key, text in value.items():
        if not name.fullmatch(key):
            raise ValueError(f"holds a name that is not allowed: {what}")
        if "\0" in text:
            raise ValueError("holds a value with a NUL character")
    if sum(len(key.encode()) + len(text.encode()) + 2 for key, text in value.items()) > max_bytes:
        raise ValueError(f"may have at most {max_bytes} bytes in all")
    return value


def _no_twins(value: list[str]) -> list[str]:
    if len(set(value)) < len(value):
        raise ValueError("names one twice")
    return value


def _environment(value: dict[str, str]) -> dict[str, str]:
    prefixes = " or ".join(RESERVED_PREFIXES)
    return _mapping(
        value,
        _ENVIRONMENT_NAME_RE,
        f"letters, digits and underscore, at most 128, not beginning with a digit, {prefixes}",
        MAX_ENVIRONMENT_BYTES,
    )


def _claimed(value: dict[str, str]) -> dict[str, str]:
    return _mapping(value, _CLAIMED_NAME_RE, "letters, digits and _.:/-, at most 128", MAX_CLAIMED_BYTES)


def _mapping_schema(names: str, entries: int, value_chars: int) -> WithJsonSchema:
    values: dict[str, Any] = {"type": "string", "maxLength": value_chars, "pattern": _NO_NUL}
    return WithJsonSchema(
        {
            "type": "object",
            "maxProperties": entries,
            "propertyNames": {"type": "string", "pattern": names},
            "additionalProperties": values,
            "default": {},
        }
    )


class Request(BaseModel):
    """Base of what comes in: nothing unknown, nothing converted, no input in error messages."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


class JobRequest(Request):
    """A job to run. Everything in it is the caller's word; policy sees it, and trusts the caller's token only."""

    name: Annotated[str, Field(pattern=LABEL)]
    """What people call the job."""
    pool: Annotated[str, Field(pattern=POOL)] = "default"
    """The class of runners it needs."""
    script: Annotated[
        str,
        Field(min_length=1, max_length=MAX_SCRIPT_BYTES),
        AfterValidator(_script),
        WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_SCRIPT_BYTES, "pattern": _NO_NUL}),
    ]
    """Shell script, at most 256 KiB of UTF-8."""
    environment: Annotated[
        dict[str, Annotated[str, Field(max_length=32 * 1024)]],
        Field(max_length=MAX_ENVIRONMENT_ENTRIES),
        AfterValidator(_environment),
        _mapping_schema(_ENVIRONMENT_NAME, MAX_ENVIRONMENT_ENTRIES, 32 * 1024),
    ] = Field(default_factory=dict)
    """Variables for the script, at most 64 KiB in all. Stored in the journal: no place for secrets."""
    timeout_seconds: Annotated[int, Field(ge=0, le=MAX_TIMEOUT_SECONDS)] = 0
    """Longest run wanted; 0 takes the pool's limit, which always holds."""
    deployment_environment: Annotated[str, Field(pattern=LABEL_OR_EMPTY)] = ""
    """Where the job deploys to, such as `staging`; empty when it does not deploy."""
    artifact_digest: Annotated[str, Field(pattern=ARTIFACT)] = ""
    """What a deploy job deploys; evidence about it is looked up by us."""
    ticket: Annotated[str, Field(pattern=TICKET)] = ""
    """Id of the release ticket of a deployment; whether there is one, and whether it is open, the tracker is asked."""
    pipeline: Annotated[str, Field(pattern=LABEL_OR_EMPTY)] = ""
    """Groups the jobs of one pipeline."""
    claimed: Annotated[
        dict[str, Annotated[str, Field(max_length=1024)]],
        Field(max_length=MAX_CLAIMED_ENTRIES),
        AfterValidator(_claimed),
        _mapping_schema(_CLAIMED_NAME, MAX_CLAIMED_ENTRIES, 1024),
    ] = Field(default_factory=dict)
    """Passed to policy as `input.claimed`, where it is worth nothing by itself."""
    secrets: Annotated[
        list[Annotated[str, Field(pattern=POOL)]],
        Field(max_length=MAX_SECRETS, json_schema_extra={"uniqueItems": True}),
        AfterValidator(_no_twins),
    ] = Field(default_factory=list)
    """Names of registered secrets that the job needs. Each comes as a file whose path is in a variable, if policy and
    its registration allow it."""


class ListQuery(Request):
    """Filters of a job list; those left out match everything."""

    phase: Phase | None = None
    result: Result | None = None
    pool: Annotated[str, Field(pattern=POOL)] | None = None
    pipeline: Annotated[str, Field(pattern=LABEL)] | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    """Lines of one page."""
    after: Annotated[str, Field(pattern=JOB_ID_PATTERN)] | None = None
    """`next` of the page before."""


Flag = Literal["true", "false"]


class LogQuery(Request):
    follow: Flag = "false"
    """Keep the answer open until the job's log is closed."""
    offset: Annotated[int, Field(ge=0, le=1 << 44)] = 0
    """First byte wanted."""


class EventsQuery(Request):
    follow: Flag = "false"
    """Keep the stream open until the job is finished."""
    stages: Flag = "false"
    """With `follow`: tell also, as events `stages` without an `id`, how far the runner is by what is no fact yet."""


class CancelQuery(Request):
    reason: Annotated[str, Field(pattern=SHORT_LINE)] = ""
    """Why, for people; one line."""


class TrustQuery(Request):
    audience: Annotated[str, Field(min_length=1, max_length=255, pattern=LINE)]
    """Who the token would be for."""
    role: Annotated[str, Field(pattern=r"^[!#-\[\]-~]{0,512}$")] = ""
    """The role that the job would ask for; empty for none."""


class NoQuery(Request):
    """An operation without query parameters; one that is given is an error."""


class ClaimProof(Request):
    """What the agent saw when it tried what must fail."""

    denied: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=64)] = Field(default_factory=list)
    reached: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=64)] = Field(default_factory=list)


Ago = Annotated[float, Field(ge=0, le=1e9)]


class ClaimTimes(Request):
    """How many seconds before this request each was, by the runner's own clock."""

    began: Ago | None = None
    """When the agent began; a sandbox, which may have waited ready for long, does not say."""
    proving: Ago
    """When it began to try what must fail."""
    proven: Ago
    """When it had tried all."""


class ClaimRequest(Request):
    proof: ClaimProof
    ago: ClaimTimes | None = None
    """For the job's trace only."""


class JobReport(Request):
    """What a runner's hook says of the job that its platform gave it."""

    run_id: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,19}$")]
    run_attempt: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}$")]
    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}$")]
    token: Annotated[str, Field(pattern=r"^([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)?$", max_length=16384)] = ""
    """The platform's OIDC token of this job for us, where the job may ask for one."""


class DeploymentRequest(Request):
    """What a running job says it deploys."""

    artifact_digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class AttestationRequest(Request):
    """A document that a job reports about an artifact; `predicate`, the document itself, is looked at apart."""

    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    predicate_type: Annotated[str, Field(min_length=1, max_length=256)]


class ArtifactRequest(Request):
    """Something the job says it built."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+@/-]{0,199}$")]
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    media_type: Annotated[str, Field(pattern=_MEDIA_TYPE)] = ""
    size_bytes: Annotated[int, Field(ge=0, le=1 << 50)] = 0
