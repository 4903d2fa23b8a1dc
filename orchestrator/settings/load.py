"""From a YAML file and the environment to `Settings`, or to one clear error."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import PydanticBaseSettingsSource, SettingsError

from orchestrator import strict_yaml
from orchestrator.errors import ConfigurationError
from orchestrator.settings.near import similar_key
from orchestrator.settings.tree import Settings

_MAX_FILE_BYTES = 4 << 20
_PREFIX = "ORCHESTRATOR_"

_CLIENT_VARIABLES = frozenset({"ORCHESTRATOR_URL", "ORCHESTRATOR_TOKEN_FILE", "ORCHESTRATOR_CONFIG"})
"""Read by the command line's client side; not settings of the daemon."""


class _FileUnderEnvironment(Settings):
    """Settings whose initial arguments (the file) rank below the environment."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[Any],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


def load_settings(path: Path | None = None, *, again: bool = False) -> Settings:
    """Read settings from `path` (YAML, at most 4 MiB) and the environment. `again` is for a daemon that runs by them:
    an empty file is then one that somebody is about to write, and not the wish to lose every pool.

    Raises:
        ConfigurationError: the file cannot be read or parsed, or a value does not fit; the message lists
            every field at fault with its path, and never repeats a text.
    """
    given = read_settings_file(path, empty=not again) if path else {}
    _refuse_unknown_variables(os.environ)
    try:
        return _FileUnderEnvironment(**given)
    except ValidationError as error:
        raise invalid_settings(error, path) from None
    except SettingsError as error:
        raise ConfigurationError(
            f"in the environment: {error}",
            fix="lists and mappings in a variable are JSON; see docs/reference/settings.md",
        ) from None


def read_settings_file(path: Path, *, empty: bool = True) -> dict[str, Any]:
    """A YAML file of settings, not looked into; whether it may be `empty`. Raises ConfigurationError."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ConfigurationError(f"{path} is larger than {_MAX_FILE_BYTES} bytes")
        document = strict_yaml.load(path.read_text(encoding="utf-8"))
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigurationError(f"cannot read {path}: {why}", fix="check the path and its permissions") from error
    except UnicodeDecodeError as error:
        fix = "save it as UTF-8; is it the right file?"
        raise ConfigurationError(f"cannot read {path}: byte {error.start + 1} is not UTF-8 text", fix=fix) from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} {strict_yaml.describe(error)}", fix="correct the file there") from None
    if document is None and empty:
        return {}
    if document is None:
        fix = "write a new one beside it and move it into its place; one that is to say nothing holds {}"
        raise ConfigurationError(f"{path} is empty: is it being written?", fix=fix)
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ConfigurationError(
            f"{path} must hold a mapping of settings", fix="see docs/reference/settings.md, where it begins with one"
        )
    return document


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = {name.upper() for name in Settings.model_fields}
    for variable in environment:
        if not variable.startswith(_PREFIX) or variable in _CLIENT_VARIABLES:
            continue
        top = variable[len(_PREFIX) :].split("__", 1)[0].upper()
        if top not in known:
            raise ConfigurationError(
                f"environment variable {variable} names no setting",
                fix=f"unset it, or start it with one of {', '.join(sorted(_PREFIX + name for name in known))}",
            )


_OUT_OF_RANGE = frozenset({"greater_than", "greater_than_equal", "less_than", "less_than_equal"})
"""Errors of pydantic that only something which was read as a number can have."""


def _wrong(item: Mapping[str, Any], tree: type[BaseModel]) -> str:
    if item["type"] == "extra_forbidden":
        near = similar_key(tree, item["loc"])
        return "there is no such key" + (f"; did you mean {near}?" if near else "")
    value = f", not {item['input']}" if item["type"] in _OUT_OF_RANGE else ""
    return str(item["msg"]).removeprefix("Value error, ") + value


def invalid_settings(error: ValidationError, path: Path | None, tree: type[BaseModel] = Settings) -> ConfigurationError:
    """Every field at fault with its path, and its value where that is a number out of range: a text may have got
    into the wrong place, and be a secret. `path` is the file, if there was one; `tree` what it should fit."""
    problems = [
        f"  {'.'.join(str(part) for part in item['loc']) or '(top)'}: {_wrong(item, tree)}"
        for item in error.errors(include_url=False)
    ]
    title = f"{len(problems)} setting(s) in {path or 'the environment'} do not fit:"
    return ConfigurationError("\n".join([title, *problems]), fix="see docs/reference/settings.md for every key")
