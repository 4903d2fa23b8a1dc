"""The examples of the page on the gateway API are messages that both sides take."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.egress import batch, rules, table
from orchestrator.egress.feed import TABLE_PATH, VERDICTS_PATH

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "gateway-api.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


def test_the_table_is_one():
    update = table.decode_update(EXAMPLES[0].encode())
    assert update.runners
    assert update.gone
    assert not update.full


def test_the_batch_is_one():
    told = batch.decode_batch(EXAMPLES[1].encode())
    assert told.verdicts[0].verdict.allowed
    assert told.alarms[0].owner == told.verdicts[0].runner


def test_paths_and_bounds_are_those_of_the_code():
    for value in (TABLE_PATH, VERDICTS_PATH):
        assert value in PAGE
    for number in (table.MAX_RUNNERS, rules.MAX_RULES, batch.MAX_VERDICTS, batch.MAX_ALARMS, table.MAX_ADDRESSES):
        assert re.search(rf"\b{number:,}\b", PAGE), number
