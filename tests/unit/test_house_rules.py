"""Rules of the house that no linter knows: sizes, prose, tasks, addresses, import directions, current pages."""

from __future__ import annotations

import ast
import logging
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "orchestrator"

MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 60
MAX_FOLDER_MODULES = 40

LONG_MODULES: dict[str, str] = {
    "orchestrator/agent/main.py": "goes into a sandbox as one compiled file and may import nothing of ours",
    "orchestrator/testing/github/runner.py": "goes into a sandbox as one file and may import nothing of ours",
}
"""Modules over the bound, each with the reason why it is not two."""

LONG_FUNCTIONS: dict[str, str] = {}
"""`path:name` of functions over the bound, each with its reason."""

TASK_MAKERS: dict[str, str] = {
    "orchestrator/backends/kubernetes/backend.py": "one watch for each namespace, kept and ended by the backend",
    "orchestrator/backends/kubernetes/lease.py": "a Lease being taken outlives who asked, and is given back then",
    "orchestrator/backends/sandbox/backend.py": "one task for each sandbox that starts or is removed, kept by its name",
    "orchestrator/backends/sandbox/sandbox.py": "the end of a sandbox, kept by it",
    "orchestrator/backends/sandbox/output.py": "a reader callback cannot wait; the drain is kept by its pipe",
    "orchestrator/daemon/records/audit_anchors.py": "one task for each anchor, kept and ended by the room",
    "orchestrator/daemon/github/brokered.py": "a credential being made outlives who asked; kept by its job, awaited",
    "orchestrator/daemon/cluster/pod_logs.py": "one task for each log, kept by its runner and ended with it",
    "orchestrator/daemon/cluster/leadership.py": "renews the Lease for as long as the daemon lives, kept by its owner",
    "orchestrator/daemon/cluster/room.py": "tends the warm runners, kept and ended by the room",
    "orchestrator/daemon/operations/drain.py": "waits for the first of two events, and cancels both",
    "orchestrator/daemon/verdicts.py": "writing verdicts, kept in a set",
    "orchestrator/egress/connection.py": "callbacks of a protocol cannot wait; kept by the connection",
    "orchestrator/egress/gateway.py": "the sweeper, kept and ended by the gateway",
    "orchestrator/egress/process.py": "the watcher of the gateway's process, kept and ended by it",
    "orchestrator/egress/resolve.py": "a lookup shared by connections, kept by host name",
    "orchestrator/to_the_end.py": "a write in a thread outlives who asked; awaited to its end by them",
    "orchestrator/intake/github/scale_sets/set_session.py": "a session being made outlives who stops; ended by `close`",
    "orchestrator/intake/github/scale_sets/source.py": "the loops of its scale sets, kept and ended by the source",
    "orchestrator/intake/github/webhooks/source.py": "the loops of its webhooks, kept and ended by the source",
    "orchestrator/intake/github/webhooks/work.py": "names that are waited for, kept in a set and ended by the source",
    "orchestrator/journal/logs.py": "a callback cannot wait; the flush is kept by its log",
    "orchestrator/lifecycle/workqueue.py": "the workers, kept in a set and drained at the end",
    "orchestrator/notifications/notifier.py": "the reader and one sender for each endpoint, kept and ended by the room",
    "orchestrator/server/page/broadcast.py": "tells what changes, kept and ended by the broadcast",
    "orchestrator/server/entrance/tls_entrance.py": "takes connections and handshakes, kept and ended by it",
    "orchestrator/server/streams.py": "waits for the first of two tasks, ends and awaits both",
    "orchestrator/telemetry/export.py": "the exporter's loop, kept and ended by it",
    "orchestrator/testing/fault_proxy.py": "a request outlives who asked for it; kept in a set and awaited at the end",
    "orchestrator/testing/github/webhooks.py": "the sender of deliveries, kept and ended by the webhooks",
    "orchestrator/testing/kubelet.py": "its task group, kept and ended by the kubelet",
}
"""Modules that may start a task outside a TaskGroup, each with the reason; they own and await what they start."""


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(tree_of(path)))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in nodes_of(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_modules_are_short():
    long = {name_of(path) for path in sources() if len(path.read_text("utf-8").splitlines()) > MAX_MODULE_LINES}
    assert long <= LONG_MODULES.keys(), f"over {MAX_MODULE_LINES} lines: {sorted(long - LONG_MODULES.keys())}"


def test_folders_are_small():
    modules = Counter(name_of(path.parent) for path in sources())
    assert [folder for folder, count in modules.items() if count > MAX_FOLDER_MODULES] == []


def test_functions_are_short():
    long = {
        f"{name_of(path)}:{node.name}"
        for path in sources()
        for node in functions(path)
        if _body_lines(node) > MAX_FUNCTION_LINES
    }
    assert long <= LONG_FUNCTIONS.keys(), f"over {MAX_FUNCTION_LINES} lines: {sorted(long - LONG_FUNCTIONS.keys())}"


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, the docstring not counted: the command line's is the help text."""
    total = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def test_exceptions_are_still_needed():
    """An exception that is not used any more is removed, so that the list says the truth."""
    for name in LONG_MODULES:
        lines = len((ROOT / name).read_text("utf-8").splitlines())
        assert lines > MAX_MODULE_LINES, f"{name} has {lines} lines; take it off the list"
    for entry in LONG_FUNCTIONS:
        path, _, function = entry.partition(":")
        sizes = [_body_lines(node) for node in functions(ROOT / path) if node.name == function]
        assert max(sizes, default=0) > MAX_FUNCTION_LINES, f"take {entry} off the list"


def test_every_package_says_what_it_is_for():
    silent = [
        name_of(path) for path in sources() if path.name == "__init__.py" and not ast.get_docstring(tree_of(path))
    ]
    assert silent == []


def test_tasks_are_started_by_those_who_own_them():
    bare = {f"{name_of(path)}:{line}" for path in sources() if name_of(path) not in TASK_MAKERS for line in _bare(path)}
    assert bare == set(), "start tasks in a TaskGroup, or name the module in TASK_MAKERS"


def test_no_task_is_dropped():
    """The loop refers to a task only weakly: one that nobody keeps may vanish in the middle of its work."""
    dropped = [
        f"{name_of(path)}:{node.lineno}"
        for path in sources()
        for node in nodes_of(path)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.lineno in _bare(path)
    ]
    assert dropped == []


@cache
def _bare(path: Path) -> frozenset[int]:
    started = r"(asyncio\.)?(ensure_future|create_task)|(.*loop.*)\.create_task"
    calls = (node for node in nodes_of(path) if isinstance(node, ast.Call))
    return frozenset(node.lineno for node in calls if re.fullmatch(started, ast.unparse(node.func)))


def test_unfinished_work_is_not_left_in_the_code():
    pattern = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XXX)\b|raise NotImplemented" + r"Error")
    found = [
        f"{name_of(path)}:{number}"
        for path in sources()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def kept_files() -> list[Path]:
    """Text files that are, or are about to be, in the repository; everything where git is not at hand."""
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        capture_output=True,
        check=False,
        timeout=30,
    )
    if listing.returncode == 0:
        paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    else:
        folders = ("orchestrator", "tests", "docs", "requirements")
        paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [path for path in paths if path.is_file() and path.stat().st_size < 4 << 20]


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {name_of(path): path.read_text("utf-8", errors="replace") for path in kept_files()}


def test_no_registry_is_named(texts):
    """Where packages come from is the installing machine's choice. The words are cut so as not to find themselves."""
    hosts = [
        "py" + "pi.org",
        "python" + "hosted.org",
        "npm" + "js.",
        "cra" + "tes.io",
        "ruby" + "gems.org",
        "proxy.go" + "lang",
    ]
    found = [(name, host) for name, text in texts.items() for host in hosts if host in text]
    assert found == []
    options = re.compile(r"^\s*(--(extra-)?index-url|--find-links|-i |-f )", re.MULTILINE)
    assert [name for name, text in texts.items() if name.startswith("requirements/") and options.search(text)] == []


def test_every_requirement_is_hashed(texts):
    for lock in ("runtime", "dev", "interop", "collector"):
        name = f"requirements/{lock}.txt"
        entries = re.split(r"\n(?=[a-z0-9])", "\n" + texts[name])[1:]
        assert len(entries) > 10
        assert [entry.split("==")[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_no_path_of_this_machine(texts):
    """Neither the checkout's own path nor somebody's home may have slipped into a file."""
    mine = [re.escape(f"{path}/") for path in (str(ROOT), f"{Path.home()}/.") if path.count("/") > 1]
    pattern = re.compile("|".join([*mine, r"/(?:home|Users)/(?!runner\b|user\b|me\b|job\b)[a-z][\w-]*/"]))
    found = [f"{name}: {match[0]}" for name, text in texts.items() if (match := pattern.search(text))]
    assert found == []


def test_imports_go_one_way(monkeypatch):
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    monkeypatch.chdir(ROOT)
    loggers = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    disabled = [one.disabled for one in loggers]
    try:
        assert lint_imports(no_cache=True, no_logo=True) == EXIT_STATUS_SUCCESS
    finally:
        # It sets logging up for itself, which switches off every logger of the tests that follow.
        for logger, was in zip(loggers, disabled, strict=True):
            logger.disabled = was


def test_every_import_is_a_declared_dependency():
    """Not merely a dependency of a dependency, which may go with the next release of the one in between."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {_normal(re.match(r"[\w.-]+", one)[0]) for one in project["dependencies"]}
    names = {name.split(".")[0] for path in sources() for name in _imported(path)}
    providers = packages_distributions()
    undeclared = {
        name: providers.get(name, ["nothing that is installed"])
        for name in sorted(names - sys.stdlib_module_names - {"orchestrator", "opentelemetry"})
        if not declared & {_normal(one) for one in providers.get(name, ())}
    }
    assert undeclared == {}
    # A namespace that several distributions share: who has the file?
    files = {
        str(path): _normal(one) for one in _distributions("opentelemetry") for path in (distribution(one).files or ())
    }
    shared = {name for path in sources() for name in _imported(path) if name.startswith("opentelemetry.")}
    assert shared
    owners = {
        name: files.get(f"{name.replace('.', '/')}.py") or files.get(f"{name.replace('.', '/')}/__init__.py")
        for name in shared
    }
    assert {name: owner for name, owner in owners.items() if owner not in declared} == {}


def _normal(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, under `if TYPE_CHECKING` too; relative ones left out."""
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _distributions(namespace: str) -> set[str]:
    return set(packages_distributions()[namespace])


def test_every_setting_is_documented():
    from orchestrator.cli.pages.settings_page import undocumented

    assert undocumented() == []


def test_generated_pages_are_current():
    from typer.main import get_command

    from orchestrator.cli.main import app
    from orchestrator.cli.pages.api_page import api_page
    from orchestrator.cli.pages.commands_page import commands_page
    from orchestrator.cli.pages.settings_page import settings_page

    for name, page in (("settings", settings_page()), ("cli", commands_page(get_command(app))), ("api", api_page())):
        kept = (ROOT / "docs" / "reference" / f"{name}.md").read_text("utf-8")
        assert kept == page, f"docs/reference/{name}.md is out of date: make docs"


REASONS_PAGE = ROOT / "docs" / "reference" / "reasons.md"


def test_every_reason_is_documented():
    """Words that a machine may meet, in answers and outcomes, each have their line in the reference."""
    from orchestrator.model.events import WaitReason
    from orchestrator.model.outcome import EndReason
    from orchestrator.server.entrance.problems import REASONS

    page = REASONS_PAGE.read_text("utf-8")
    words = {*REASONS, *(reason.value for reason in EndReason), *(reason.value for reason in WaitReason)}
    assert sorted(word for word in words if f"`{word}`" not in page) == []


def test_the_make_targets_are_explained():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    phony = set(re.findall(r"^\.PHONY: ([a-z-]+)$", makefile, re.MULTILINE))
    explained = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert phony == explained
    assert {"help", "setup", "demo", "test", "lint", "format", "bench", "coverage", "lock", "docs", "clean"} <= phony


def test_links_in_the_documentation_lead_somewhere(texts):
    """Relative links of Markdown pages; addresses are not tried."""
    link = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
    broken = [
        f"{name}: {target}"
        for name, text in texts.items()
        if name.endswith(".md")
        for target in link.findall(text)
        if not target.startswith(("http://", "https://", "mailto:"))
        and not (ROOT / name).parent.joinpath(target).exists()
    ]
    assert broken == []


def test_every_page_is_in_the_index(texts):
    """Decisions have a folder of their own; every other page is linked from docs/README.md."""
    index = texts["docs/README.md"]
    pages = [name.removeprefix("docs/") for name in texts if re.fullmatch(r"docs/(?!decisions/|README).*\.md", name)]
    assert [page for page in pages if f"({page})" not in index] == []
