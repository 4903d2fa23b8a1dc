"""What a person can read a program can read, too: every command that answers has `--json`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import typer

from orchestrator.cli.jobs import why
from orchestrator.cli.main import app
from orchestrator.cli.operations import activity, pools, support_bundle, top

WITHOUT: dict[str, str] = {
    "run": "serves until it is ended",
    "gateway": "serves until it is ended",
    "logs": "what it prints is the job's own output",
    "attest": "makes a file that is JSON already",
    "artifacts fetch": "prints a bundle that is JSON already",
    "manifests": "makes YAML for a cluster",
    "runner-api-ca": "prints one certificate",
    "policy check": "has --format json",
    "policy lint-pipeline": "has --format json",
    "audit key": "prints the text of one key",
    "audit prove": "makes a file for another program",
    "audit check-proof": "prints the proven record, which is JSON",
    "monitoring": "writes files for Prometheus and Grafana",
    "reference api": "makes a page of the docs",
    "reference settings": "makes a page of the docs",
    "reference cli": "makes a page of the docs",
    "reference lifecycle": "makes a drawing of the docs",
}
"""Commands without, each with the reason."""


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, set[str]]]:
    """Every command that does something when it is called, with its options."""
    nested = getattr(command, "commands", {})
    if not nested or command.invoke_without_command:
        yield " ".join(path), {name for parameter in command.params for name in parameter.opts}
    for name, one in nested.items():
        yield from commands(one, (*path, name))


EVERY = dict(commands(typer.main.get_command(app)))


def test_every_command_that_answers_has_json():
    assert {name for name, options in EVERY.items() if "--json" not in options} == set(WITHOUT)


def test_those_with_another_format_have_it():
    named = {name for name, reason in WITHOUT.items() if reason == "has --format json"}
    assert all("--format" in EVERY[name] for name in named)


def test_their_examples_are_commands_with_such_options():
    modules = (activity, pools, support_bundle, top, why)
    for line in (line for module in modules for line in module.EXAMPLES):
        words = shlex.split(line)[1:]
        assert {word for word in words if word.startswith("--")} <= EVERY[words[0]], line


def test_what_the_page_shows_has_a_command():
    page = {"top", "jobs", "show", "why", "trace", "logs", "receipt", "cancel", "activity", "pools", "sources"}
    assert page | {"approvals list", "approvals show"} <= set(EVERY)
