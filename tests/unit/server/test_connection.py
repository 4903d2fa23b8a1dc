"""Connections over the limit are told of in the log, but not once each."""

from __future__ import annotations

import logging

from orchestrator.server.entrance.connection import RefusalLog


def test_a_flood_of_refusals_is_a_line_now_and_then(caplog):
    now = 0.0
    refusals = RefusalLog(lambda: now)
    with caplog.at_level(logging.WARNING, "orchestrator.server"):
        for _ in range(1000):
            refusals.refused(7)
        now = RefusalLog.SECONDS
        refusals.refused(7)
    assert [record.getMessage() for record in caplog.records] == [
        "1 connections refused: 7 are open",
        "1000 connections refused: 7 are open",
    ]
