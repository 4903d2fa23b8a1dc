"""The command line's reference, read from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from orchestrator.cli.exits import EXIT_CODE_MEANINGS

_HEAD = """\
# Command line

Generated from the program by `make docs`; a test keeps it current.

Results go to standard output, everything else to standard error. With `--json` standard output holds one JSON
document and nothing more. Colour follows the terminal and `NO_COLOR`. Where a command takes a job, the whole id or
a beginning of it that fits only one job will do. `orchestrator --install-completion` sets up your shell.
"""

_TARGET = """
Which daemon a command talks to: `--url`, else `ORCHESTRATOR_URL`, else the address in the state folder
(`--state-dir`, else `ORCHESTRATOR_STATE_DIR`, else the one in the settings file `ORCHESTRATOR_CONFIG`, else the
default). The caller token: `--token-file`, else `ORCHESTRATOR_TOKEN_FILE`, else the local daemon's own, which is only
ever sent to the local daemon. Plain http beyond loopback is refused unless `--allow-http` is given.
"""


def commands_page(root: Any) -> str:
    """The page as Markdown, of the whole program as click has it."""
    parts = [_HEAD, "\n## Options before the command\n", *_options(root), _TARGET]
    for path, command in _leaves(root, "orchestrator"):
        parts += [f"\n## {path}\n", f"\n{_help(command)}\n", *_arguments(command), *_options(command)]
        parts += _examples(command)
    parts.append("\n## Exit codes\n\n| code | meaning |\n| --- | --- |\n")
    parts += [f"| {int(code)} | {meaning} |\n" for code, meaning in EXIT_CODE_MEANINGS.items()]
    return "".join(parts)


def _leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every visible command that does something, by its full name."""
    for name, below in getattr(command, "commands", {}).items():
        if below.hidden:
            continue
        if getattr(below, "invoke_without_command", True):  # which plain commands do not have
            yield f"{path} {name}", below
        yield from _leaves(below, f"{path} {name}")


def _help(command: Any) -> str:
    return "\n".join(line.rstrip() for line in inspect.cleandoc(command.help or "").splitlines())


def _arguments(command: Any) -> list[str]:
    rows = [
        f"| `{parameter.metavar or parameter.name.upper()}` | {_text(parameter.help)} |\n"
        for parameter in command.params
        if parameter.param_type_name == "argument"
    ]
    return ["\n| argument | meaning |\n| --- | --- |\n", *rows] if rows else []


def _options(command: Any) -> list[str]:
    rows = [_option(parameter) for parameter in command.params if _shown(parameter)]
    return ["\n| option | meaning |\n| --- | --- |\n", *rows] if rows else []


def _shown(parameter: Any) -> bool:
    return parameter.param_type_name == "option" and not parameter.hidden and parameter.name != "help"


def _option(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    value = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
    text = _text(parameter.help)
    if parameter.envvar:
        text += f" Variable: `{parameter.envvar}`."
    default = parameter.default
    if isinstance(default, str | int | float) and not isinstance(default, bool) and default != "":
        text += f" Default: {default}."
    return f"| {names}{value} | {text} |\n"


def _text(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _examples(command: Any) -> list[str]:
    lines = [line.strip("`") for line in (command.epilog or "").split("\n\n")[1:]]
    return ["\n```\n", *(f"{line}\n" for line in lines), "```\n"] if lines else []
