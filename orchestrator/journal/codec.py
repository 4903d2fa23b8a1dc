"""Events to bytes and back: the journal's file format, one JSON object for each event.

The *kind* is the event's class name. Fields that an older row lacks take the class's defaults; fields that
only a newer program knows are ignored, kinds that only a newer program knows are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from orchestrator.errors import GiveUpError
from orchestrator.model.events import Event

NEWER_FIX = (
    "start the version that wrote this journal again, or a later one. To stay with this version, restore the backup "
    "that was made before the upgrade (`orchestrator restore --aside FILE`; on a cluster the Job of `orchestrator "
    "manifests --restore NAME`): what happened since is forgotten then"
)
"""What to do about a journal of a later version. Nothing was changed in it."""

MAX_FACT_BYTES = 8 << 20
"""Largest encoded event. The API's own limits are far below; this one protects the writer from all others."""

EVENT_KINDS: Mapping[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}
"""Every event class by its name in the journal."""


def _plain(value: object) -> object:
    """Mappings that are no dict, such as read-only views."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
_DECODERS: Mapping[str, msgspec.json.Decoder[Any]] = {
    name: msgspec.json.Decoder(kind) for name, kind in EVENT_KINDS.items()
}


def kind_of(event: Event) -> str:
    """The event's name in the journal and in the API's event stream."""
    return type(event).__name__


def encode(event: Event) -> bytes:
    """The event's fields as one line of JSON (UTF-8, no raw line breaks).

    Raises:
        GiveUpError: reason `fact_unencodable` (text that is no Unicode, a foreign type) or `fact_too_large`.
    """
    try:
        data = _encode(event)
    except (TypeError, ValueError, OverflowError):
        # The cause would quote the value, which may be anything a job's author wrote: it is not chained.
        raise GiveUpError(
            f"{kind_of(event)} holds a value that JSON cannot carry",
            reason="fact_unencodable",
            fix="send valid Unicode text",
        ) from None
    if len(data) > MAX_FACT_BYTES:
        raise GiveUpError(
            f"{kind_of(event)} is {len(data)} bytes long; a fact may have {MAX_FACT_BYTES}",
            reason="fact_too_large",
            fix="send less: a shorter script, smaller environment variables, fewer claims",
        )
    return data


def decode(kind: str, data: bytes | msgspec.Raw) -> Event:
    """The event of a stored row.

    Raises:
        GiveUpError: reason `journal_newer` for a kind this program does not know, `journal_corrupt` for
            data that is not what this kind's class holds.
    """
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise GiveUpError(
            f"the journal holds a fact of a kind this program does not know: {kind[:64]!r}",
            reason="journal_newer",
            fix=NEWER_FIX,
        )
    try:
        event: Event = decoder.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise GiveUpError(
            f"a fact of kind {kind} in the journal cannot be read: {error}",
            reason="journal_corrupt",
            fix="keep a copy of the journal's files for analysis and restore the last good backup",
        ) from error
    return event
