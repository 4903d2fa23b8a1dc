"""The ticket that a commit's message names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.intake.tickets.trailer import trailer_of

NAME = "Release-Ticket"


@pytest.mark.parametrize(
    ("message", "value"),
    [
        ("subject\n\nRelease-Ticket: REL-7", "REL-7"),
        ("subject\r\n\r\nbody\r\n\r\nSigned-off-by: kim\r\nrelease-ticket:REL-7\r\n", "REL-7"),
        ("subject\n\nRelease-Ticket: REL-7\nRelease-Ticket: REL-7", "REL-7"),
        ("subject\n \nRelease-Ticket: REL-7  ", "REL-7"),
        ("Release-Ticket: REL-7", ""),
        ("subject\n\nRelease-Ticket: REL-7\nRelease-Ticket: REL-8", ""),
        ("subject\n\nRelease-Ticket: REL-7\n\nmore text", ""),
        ("subject\n\nsee below\nRelease-Ticket: REL-7", ""),
        ("subject\n\nX-Release-Ticket: REL-7", ""),
        ("subject\n\nRelease-Ticket:", ""),
        ("subject\n\n" + "Release-Ticket: REL-7\n" * 201, ""),
        ("", ""),
    ],
)
def test_the_last_paragraph_names_one_ticket_or_none(message, value):
    assert trailer_of(message, NAME) == value


@given(st.text(max_size=300))
def test_any_message_is_read(message):
    value = trailer_of(message, NAME)
    assert value == value.strip()
    assert value in message
