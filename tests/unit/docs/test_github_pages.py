"""The pages on GitHub: their settings are fit, and every word of its path has a line that says what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.cli.insecure.github import github_warnings
from orchestrator.settings import load_settings

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
BLOCK = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
REASON = re.compile(r"\breason(?:: ClassVar\[str\])? ?= ?\"(\w+)\"")
CODE = (
    *sorted((ROOT / "orchestrator" / "intake" / "github").rglob("*.py")),
    *sorted((ROOT / "orchestrator" / "identity").glob("github*.py")),
    *(ROOT / "orchestrator" / "daemon" / "github" / f"{name}.py" for name in ("sources", "slice", "state", "webhooks")),
    ROOT / "orchestrator" / "identity" / "secret_file.py",
    ROOT / "orchestrator" / "server" / "sources" / "webhooks.py",
)
OF_REQUESTS = {"not_found", "job_ended", "runner_unknown", "state_dir_unusable", "temporarily_unavailable"}
"""Words that are not GitHub's alone, and have their place elsewhere in the reference."""


def settings_blocks() -> list[object]:
    found = []
    for page in PAGES:
        blocks = [block for block in BLOCK.findall(page.read_text(encoding="utf-8")) if "\ngithub:\n" in block]
        found += [pytest.param(page.name, block, id=f"{page.name}-{at}") for at, block in enumerate(blocks)]
    return found


def test_there_are_settings_to_look_at():
    assert len(settings_blocks()) >= 6


@pytest.mark.parametrize(("page", "block"), settings_blocks())
def test_shown_settings_need_no_warning(page, block, tmp_path):
    """But for the trial's, which says so."""
    path = tmp_path / "orchestrator.yaml"
    path.write_text(block, encoding="utf-8")
    warnings = list(github_warnings(load_settings(path)))
    if page == "try-without-github.md":
        assert [warning.split(":")[0] for warning in warnings] == ["github.0.oidc.audience"]
    else:
        assert warnings == []


def test_every_reason_of_githubs_path_has_its_line():
    words = {word for path in CODE for word in REASON.findall(path.read_text(encoding="utf-8"))} - OF_REQUESTS
    assert len(words) > 25
    page = (ROOT / "docs" / "how-to" / "handle-failures.md").read_text(encoding="utf-8")
    assert sorted(word for word in words if f"`{word}`" not in page) == []
    reference = (ROOT / "docs" / "reference" / "reasons.md").read_text(encoding="utf-8")
    assert sorted(word for word in words if f"`{word}`" not in reference) == []
