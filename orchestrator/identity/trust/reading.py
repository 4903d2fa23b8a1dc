"""Files to documents: what one document says by itself. What documents and grants say together is for `checks`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import yaml

from orchestrator import strict_yaml
from orchestrator.errors import ConfigurationError
from orchestrator.identity.trust.document import Target, TrustDocument
from orchestrator.identity.trust.grants import NAME, grant_rule
from orchestrator.identity.trust.kinds import DEFAULT_TTL_SECONDS, KINDS, MAX_TTL_SECONDS
from orchestrator.identity.trust.strict import Place, flag, items, mapping, named, number, text, texts

FORMAT: Final = 1
MAX_DOCUMENTS: Final = 64
MAX_FILE_BYTES: Final = 4 << 20
MAX_WRITTEN_OUT_BYTES: Final = 16 << 20
"""Of a document as JSON, where each alias stands for all of what it repeats."""

MAX_TARGETS: Final = 200
MAX_GRANTS: Final = 2000
_MAX_SHARED_ROLES: Final = 100
_MAX_SECONDS: Final = 3600
_ENVIRONMENT: Final = re.compile(r"[^-\s].*")
_AUDIENCE: Final = re.compile(r"[!-~]+")
_GITHUB_AUDIENCE: Final = re.compile(r"github:[!-~]+")


class _Loader(strict_yaml.StrictLoader):
    """Without merge keys (`<<`): nothing is inherited, and nested ones grow without bound."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, "a merge key", key.start_mark)
        super().flatten_mapping(node)


def read_documents(paths: Iterable[Path]) -> tuple[TrustDocument, ...]:
    """The documents of these files, and of the `.yaml` and `.yml` files in these folders.

    Raises:
        ConfigurationError: `trust_map_invalid`.
    """
    files = [file for path in paths for file in _files(path)]
    if not 1 <= len(files) <= MAX_DOCUMENTS:
        raise Place("the trust map").wrong(f"has {len(files)} documents", f"give 1 to {MAX_DOCUMENTS}")
    return tuple(read_document(file) for file in files)


def _files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        # Names with a dot first are how a mounted ConfigMap keeps its versions.
        found = sorted(
            one for one in path.iterdir() if one.suffix in (".yaml", ".yml") and not one.name.startswith(".")
        )
    except OSError as error:
        raise _unreadable(Place(str(path)), error) from None
    if not found:
        raise Place(str(path)).wrong("holds no .yaml or .yml file", "put a document there, or name another folder")
    return found


def read_document(path: Path) -> TrustDocument:
    """One file's document.

    Raises:
        ConfigurationError: `trust_map_invalid`.
    """
    place = Place(str(path))
    try:
        content = _content(path, place).decode()
        return document(yaml.load(content, Loader=_Loader), place)  # noqa: S506 -- a SafeLoader, made stricter
    except OSError as error:
        raise _unreadable(place, error) from None
    except UnicodeDecodeError:
        raise place.wrong("is not UTF-8 text", "save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise place.wrong(
            strict_yaml.describe(error), "correct the YAML; a file holds one document, without merge keys"
        ) from None
    except RecursionError:
        raise place.wrong("is nested too deeply", "write it as the reference shows") from None


def _content(path: Path, place: Place) -> bytes:
    # A pipe would have us wait for whoever writes into it.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise place.wrong("is no file", "name a file, or a folder of .yaml files")
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise place.wrong("is too large", f"a document has at most {MAX_FILE_BYTES} bytes")
    return content


def _unreadable(place: Place, error: OSError) -> ConfigurationError:
    return place.wrong(f"cannot be read: {error.strerror}", "check the path and its permissions")


def document(content: object, place: Place) -> TrustDocument:
    """The document that this content of a YAML file is.

    Raises:
        ConfigurationError: `trust_map_invalid`.
    """
    given = mapping(
        content,
        place,
        required=("trust_map", "environment", "targets", "grants"),
        optional=("issuer", "protected", "stricter_than", "shared_roles"),
    )
    number(given["trust_map"], place.at("trust_map"), FORMAT, FORMAT)
    environment = _environment(given["environment"], place.at("environment"))
    issuer = text(given["issuer"], place.at("issuer"), NAME) if "issuer" in given else ""
    targets = {
        name: _target(name, entry, place.at("targets", name))
        for name, entry in named(given["targets"], place.at("targets"), NAME, MAX_TARGETS).items()
    }
    shared = texts(given.get("shared_roles", ["-"]), place.at("shared_roles"), high=_MAX_SHARED_ROLES)
    grants = items(given["grants"], place.at("grants"), low=0, high=MAX_GRANTS)
    read = tuple(
        grant_rule(entry, environment, issuer, targets, place.at("grants", str(index)))
        for index, entry in enumerate(grants)
    )
    other = _environment(given["stricter_than"], place.at("stricter_than")) if "stricter_than" in given else None
    protected = flag(given.get("protected", False), place.at("protected"))
    return TrustDocument(
        environment=environment,
        path=place.file,
        digest=_digest(given, place),
        targets=targets,
        grants=read,
        issuer=issuer,
        protected=protected,
        stricter_than=other,
        shared_roles=frozenset(shared) if "shared_roles" in given else frozenset(),
    )


def _environment(value: object, place: Place) -> str:
    """A deployment environment as jobs name it; empty for those that deploy nowhere."""
    return "" if value == "" else text(value, place, _ENVIRONMENT, limit=255)


def _target(name: str, entry: object, place: Place) -> Target:
    given = mapping(
        entry, place, required=("kind", "audience"), optional=("session_seconds", "slack_seconds", "max_ttl_seconds")
    )
    kind_name = text(given["kind"], place.at("kind"))
    kind = KINDS.get(kind_name)
    if kind is None:
        raise place.at("kind").wrong(f"is {kind_name!r}", f"it is one of {', '.join(KINDS)}")
    form = _GITHUB_AUDIENCE if kind_name == "github" else _AUDIENCE
    session = given.get("session_seconds", kind.session_seconds)
    if session is None:
        raise place.wrong("lacks session_seconds", "say how long a session of this target lives at most, in seconds")
    return Target(
        name=name,
        kind=kind_name,
        audience=text(given["audience"], place.at("audience"), form, limit=255),
        session_seconds=number(session, place.at("session_seconds"), kind.shortest_session, kind.longest_session),
        slack_seconds=number(
            given.get("slack_seconds", kind.slack_seconds), place.at("slack_seconds"), 0, _MAX_SECONDS
        ),
        max_ttl_seconds=number(
            given.get("max_ttl_seconds", DEFAULT_TTL_SECONDS), place.at("max_ttl_seconds"), 1, MAX_TTL_SECONDS
        ),
    )


def _digest(content: dict[str, Any], place: Place) -> str:
    """Of a content that has been read: by then all of it is known to be plain."""
    digest, size = hashlib.sha256(), 0
    for part in json.JSONEncoder(sort_keys=True, separators=(",", ":")).iterencode(content):
        size += len(part)
        if size > MAX_WRITTEN_OUT_BYTES:
            raise place.wrong("repeats too much by aliases", f"written out it may have {MAX_WRITTEN_OUT_BYTES} bytes")
        digest.update(part.encode())
    return f"sha256:{digest.hexdigest()}"
