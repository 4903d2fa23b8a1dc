"""The reason reference names every word a person can meet, and no word that does not exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import orchestrator
from orchestrator.backends.kubernetes.lease import LeaseLostError
from orchestrator.model.events import WaitReason
from orchestrator.model.outcome import EndReason
from orchestrator.server.entrance.problems import REASONS

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "reasons.md").read_text()


def anchors(section: str) -> list[str]:
    text = re.search(rf"^## {section}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert text, section
    return re.findall(r"^### `(\w+)`", text[1], re.MULTILINE)


def test_every_end_reason_is_explained_once():
    assert sorted(anchors("Why a job ended")) == sorted(reason.value for reason in EndReason)


def test_every_wait_reason_is_explained_once():
    assert sorted(anchors("Why a job waits")) == sorted(reason.value for reason in WaitReason)


def test_every_problem_reason_is_explained_once_with_its_status():
    assert sorted(anchors("Why a request was refused")) == sorted(REASONS)
    for reason, kind in REASONS.items():
        assert re.search(rf"^### `{reason}` \({kind.status}\)$", PAGE, re.MULTILINE), reason


def test_every_word_with_which_a_clusters_daemon_refuses_to_start_is_explained():
    package = Path(orchestrator.__file__).parent
    files = [*package.glob("daemon/cluster/*.py")]
    files += [package / "backends" / "kubernetes" / "lease.py"]
    files += (package / "backends" / "kubernetes" / "render").glob("*.py")
    raised: set[str] = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("ConfigurationError", "LeaseLostError"):
            raised |= {ast.literal_eval(word.value) for word in node.keywords if word.arg == "reason"}
    raised = (raised | {LeaseLostError.reason}) - {"state_dir_unusable"}
    text = PAGE.partition("## Why a daemon of a cluster does not start, or stops")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == raised


def test_every_entry_says_what_to_do():
    for entry in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        assert "**Do:**" in entry, entry.splitlines()[0]


def test_every_word_with_which_a_sign_in_is_refused_is_explained():
    package = Path(orchestrator.__file__).parent
    page = package / "server" / "page"
    files = [*(package / "identity" / "sign_in").glob("*.py"), page / "sign_in.py", page / "attempts.py"]
    raised: set[str] = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("SignInError", "TryAgainError"):
            raised |= {ast.literal_eval(word.value) for word in node.keywords if word.arg == "reason"}
    text = PAGE.partition("## Why a sign-in to the page was refused")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert told == raised | {"sign_in_insecure", "secret_file_unusable"}
