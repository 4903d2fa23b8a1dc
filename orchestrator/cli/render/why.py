"""Why a job stands where it stands, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from orchestrator.cli.render.jobs import state_text
from orchestrator.cli.render.words import plain

Document = Mapping[str, Any]


def why_lines(answer: Document) -> list[Text]:
    """The job, the sentence, what else may explain it, and the next step."""
    head = Text.assemble((plain(answer["name"]), "bold"), "  ", (plain(answer["id"]), "dim"), "  ", state_text(answer))
    hints = [Text.assemble(("  also: ", "yellow"), plain(hint)) for hint in answer["hints"]]
    step = Text.assemble(("  next: ", "bold"), plain(answer["next_step"]))
    return [head, Text(plain(answer["sentence"])), *hints, step]
