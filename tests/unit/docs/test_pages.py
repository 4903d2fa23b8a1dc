"""The documentation says what is: its commands, options, links, configurations, rules, tests and drawings exist."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from orchestrator.cli.jobs.jobfile import read_jobs
from orchestrator.cli.main import app
from orchestrator.cli.pages.lifecycle_drawing import lifecycle_drawing
from orchestrator.daemon.github.brokered import UNACCOUNTED
from orchestrator.identity.trust.reading import read_document
from orchestrator.model.phase import MOVES, Phase
from orchestrator.policy.bundle import _parse
from orchestrator.policy.rego import Module
from orchestrator.settings import Settings, load_settings

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(*languages: str) -> list[Any]:
    """Each fenced block of one of the languages in any page, named by page and line."""
    found = []
    for page in PAGES:
        for match in FENCE.finditer(text_of(page)):
            if match[2] in languages:
                line = text_of(page).count("\n", 0, match.start()) + 1
                content = re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)
                found.append(pytest.param(content, id=f"{name_of(page)}:{line}"))
    return found


# --- commands ------------------------------------------------------------------------------------------------


def invocations(page: Path) -> Iterator[str]:
    """`orchestrator …` as it stands in shell blocks and in inline code, one simple command each."""
    text = text_of(page)
    for match in FENCE.finditer(text):
        if match[2] in ("sh", "console", ""):
            for line in match[3].replace("\\\n", " ").splitlines():
                yield from _simple_commands(line)
        elif match[2] in ("ini", "yaml"):
            for line in match[3].splitlines():
                yield from _simple_commands(line.replace("/opt/orchestrator/.venv/bin/", ""))
    for match in INLINE_CODE.finditer(FENCE.sub("", text)):
        if match[1].startswith("orchestrator "):
            yield match[1]


def _simple_commands(line: str) -> Iterator[str]:
    for match in re.finditer(r"(?:^|[\s(=])(orchestrator(?: (?:'[^']*'|\"[^\"]*\"|[^|;()<>&'\"#])*)+)", line):
        command = re.split(r"\s{3,}", match[1])[0].strip()
        before = line[: match.start(1)].strip()
        if before in ("", "$") or before.endswith(("=$(", "=", "|", ";", "&&")) or "ExecStart" in before:
            yield command


def every_invocation() -> list[Any]:
    found: dict[str, str] = {}
    for page in PAGES:
        for command in invocations(page):
            found.setdefault(command, name_of(page))
    return [pytest.param(command, id=f"{page}: {command}"[:120]) for command, page in found.items()]


PLANNED: dict[str, str] = {}
"""Commands that pages name and the program does not have yet, each with the reason."""


@cache
def whole_program() -> Any:
    return typer.main.get_command(app)


@pytest.mark.parametrize("command", every_invocation())
def test_every_command_exists_with_its_options(command):
    words = [word for word in shlex.split(command)[1:] if word != "…"]
    if words[0] in PLANNED:
        pytest.skip(f"not there yet: {PLANNED[words[0]]}")
    group = whole_program()
    if words[0].endswith("-completion"):  # would be performed as soon as it is parsed
        assert words[0] in {name for option in group.params for name in option.opts}
        return
    with group.make_context("orchestrator", words, resilient_parsing=False) as context:
        rest = [*context._protected_args, *context.args]
        while rest:
            name, found, rest = group.resolve_command(context, rest)
            if not hasattr(found, "commands"):
                found.make_context(name, rest, parent=context).close()
                return
            group, context = found, found.make_context(name, rest, parent=context)
            rest = [*context._protected_args, *context.args]


def next_steps() -> list[str]:
    """Commands in what `why` tells people to do next, with a job in the place of its id."""
    sources = "".join(text_of(path) for path in sorted((ROOT / "orchestrator/lifecycle").glob("why_*.py")))
    return sorted({re.sub(r"\{[^}]*\}", "JOB", found) for found in re.findall(r"`(orchestrator [^`]+)`", sources)})


@pytest.mark.parametrize("command", next_steps())
def test_every_command_of_a_next_step_exists_with_its_options(command):
    test_every_command_exists_with_its_options(command)


def test_commands_are_found_in_the_pages():
    assert len(next_steps()) >= 9
    assert len(every_invocation()) > 50


def test_what_is_planned_is_not_there_yet():
    """An exception that is not needed any more is removed."""
    group = whole_program()
    assert PLANNED.keys() & group.commands.keys() == set()


@pytest.mark.parametrize("wrong", ["orchestrator submit --nam x", "orchestrator jbos", "orchestrator logs"])
def test_a_wrong_command_is_found_out(wrong):
    with pytest.raises(Exception, match=r"(?i)no such|missing"):
        test_every_command_exists_with_its_options(wrong)


# --- links ---------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors that renderers make of headings: lower case, punctuation dropped, spaces to hyphens."""
    found: set[str] = set()
    for line in FENCE.sub("", text_of(page)).splitlines():
        if heading := re.match(r"#{1,6} (.+)", line):
            slug = re.sub(r"[^\w\- ]", "", heading[1].lower()).strip().replace(" ", "-")
            number = next(n for n in range(1000) if (f"{slug}-{n}" if n else slug) not in found)
            found.add(f"{slug}-{number}" if number else slug)
    return found


def test_every_link_and_anchor_leads_somewhere():
    broken = []
    for page in PAGES:
        for target in LINK.findall(FENCE.sub("", text_of(page))):
            if target.startswith(("http://", "https://", "mailto:")):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or (anchor and anchor not in anchors(file)):
                broken.append(f"{name_of(page)}: {target}")
    assert broken == []


# --- configurations, jobs, rules, documents --------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("yaml"))
def test_every_yaml_block_is_a_configuration_or_a_job(block, tmp_path):
    """Or a file of another program, which is known by its own first key."""
    document = yaml.safe_load(block)
    path = tmp_path / "file.yaml"
    path.write_text(block, encoding="utf-8")
    if document.keys() <= Settings.model_fields.keys():
        load_settings(path)
    elif "trust_map" in document:
        read_document(path)
    elif True in document or {"scrape_configs", "apiVersion"} & document.keys():  # `on:` of a workflow is YAML's true
        return
    else:
        script = document.get("script_file")
        if script:
            (tmp_path / script).write_text("true\n")
        assert read_jobs(path)


@pytest.mark.parametrize("block", blocks("rego"))
def test_every_rego_block_parses(block):
    text = block if re.search(r"^package ", block, re.MULTILINE) else f"package p\n{block}"
    assert _parse(Module("page.rego", text)).rules


@pytest.mark.parametrize("block", blocks("json"))
def test_every_json_block_is_json(block):
    json.loads(block)


@pytest.mark.parametrize("block", blocks("sh", "console"))
def test_every_shell_block_parses(block):
    lines = [line[2:] for line in block.splitlines() if line.startswith("$ ")] or block.splitlines()
    done = subprocess.run(
        ["bash", "-n"], input="\n".join(lines), text=True, capture_output=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", blocks("ini"))
def test_the_unit_starts_the_program_and_waits_for_its_drain(block):
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(block)
    assert unit.sections() == ["Unit", "Service", "Install"]
    stops = unit.getint("Service", "TimeoutStopSec")
    from orchestrator.daemon.operations.drain import _TEARDOWN_AFTER_DRAIN_SECONDS

    assert stops > Settings().deadlines.drain_seconds + _TEARDOWN_AFTER_DRAIN_SECONDS


# --- tests that pages name ---------------------------------------------------------------------------------------


def test_every_test_that_is_named_exists():
    missing = []
    for page in PAGES:
        for file, function in TEST_NAME.findall(text_of(page)):
            path = ROOT / file
            if not path.exists() or (function and not re.search(rf"def {function}\b", text_of(path))):
                missing.append(f"{name_of(page)}: {file}::{function}")
    assert missing == []


SOURCE_NAME = re.compile(r"`((?:\w+/)+\w+\.(?:py|rego))`")


def test_every_source_file_that_is_named_exists():
    """By its path from the repository, or from the package, as the pages on the code do."""
    missing = [
        f"{name_of(page)}: {file}"
        for page in PAGES
        for file in SOURCE_NAME.findall(text_of(page))
        if not (ROOT / file).exists() and not (ROOT / "orchestrator" / file).exists()
    ]
    assert missing == []


def test_every_promise_says_what_shows_it_and_what_it_does_not_say():
    sections = re.split(r"^## ", text_of(DOCS / "explanation" / "promises.md"), flags=re.MULTILINE)[1:]
    assert [section[:2] for section in sections] == [f"P{number}" for number in range(1, 9)]
    for section in sections:
        assert TEST_NAME.search(section), section[:40]
        for part in ("**Says.**", "**Shown by.**", "**Does not say.**"):
            assert part in section, f"{part} is missing in {section[:40]}"


def test_every_end_reason_is_in_the_page_on_failures():
    from orchestrator.model.outcome import EndReason

    page = text_of(DOCS / "how-to" / "handle-failures.md")
    assert [reason.value for reason in EndReason if f"[`{reason.value}`]" not in page] == []


def test_words_of_tokens_connections_and_alarms_are_in_the_page_on_reasons():
    """Those of jobs and requests are looked at by the house rules."""
    page = text_of(DOCS / "reference" / "reasons.md")
    sources = {path: text_of(path) for path in (ROOT / "orchestrator").rglob("*.py")}
    alarms = {word for text in sources.values() for word in re.findall(r"AlarmRaised\(\"(\w+)\"", text)}
    identity = ROOT / "orchestrator" / "identity"
    exchange = [sources[identity / f"{name}.py"] for name in ("exchange_refusals", "exchange", "grammar", "brokered")]
    tokens = {word for text in exchange for word in re.findall(r"reason=\"(\w+)\"", text)}
    alarms.add(UNACCOUNTED)
    statuses = set(
        re.findall(r"^    \"(\w+)\": ", sources[ROOT / "orchestrator" / "egress" / "answers.py"], re.MULTILINE)
    )
    assert len(alarms) > 3
    assert len(tokens) > 3
    assert len(statuses) > 8
    assert sorted(word for word in alarms | tokens | statuses if f"`{word}`" not in page) == []


def test_every_part_of_a_decision_is_there():
    for page in (DOCS / "decisions").glob("*.md"):
        text = text_of(page)
        number = page.name[:4]
        assert re.match(rf"# {number}\b", text), name_of(page)
        assert all(f"**{part}.**" in text for part in ("Context", "Decision", "Consequences")), name_of(page)


# --- drawings ----------------------------------------------------------------------------------------------------


def test_the_lifecycle_drawing_is_current():
    assert text_of(DOCS / "pictures" / "lifecycle.svg") == lifecycle_drawing(), "make docs"


def test_the_lifecycle_drawing_shows_every_move():
    drawing = lifecycle_drawing()
    assert all(f">{phase.value}</text>" in drawing for phase in Phase)
    for phase, table in MOVES.items():
        for kind, target in table.items():
            assert target is phase or kind.__name__ in drawing


def test_the_drawing_of_the_rooms_names_each_room():
    drawing = text_of(DOCS / "pictures" / "rooms.svg")
    rooms = {path.name for path in (ROOT / "orchestrator").iterdir() if (path / "__init__.py").exists()}
    assert [room for room in rooms - {"settings", "testing"} if f">{room}</text>" not in drawing] == []


def test_drawings_are_readable_on_light_and_dark():
    for drawing in (DOCS / "pictures").glob("*.svg"):
        text = text_of(drawing)
        assert "prefers-color-scheme: dark" in text, drawing.name
        assert 'class="ground"' in text, drawing.name
        assert "<title>" in text, drawing.name
