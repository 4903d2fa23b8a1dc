"""Receipts as the journal keeps them: a quarter of an envelope's size, and the very same bytes when taken out. Pure.

A statement is mostly names that every receipt has. Deflated with a dictionary of them, what is left are its values.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Final

from orchestrator.errors import GiveUpError

_FORM: Final = "1"
"""Of the packed text: its dictionary above all. Another dictionary needs another form beside this one, for ever."""
_LEVEL: Final = 3
_WINDOW_BITS: Final = 13
_MEMORY: Final = 5
"""A statement and the dictionary are a few kilobytes: with larger tables most of the time goes into clearing them."""

_DICTIONARY: Final = (
    b'"platform_key":"github.com","more_tokens":[{"audience":"kind":"count":"expire":"sessions_end":"unknown"}],'
    b'"more_revoked":"token_refusals":{"policy_deny":"audience_unlisted":"rate_limited":"trust_no_grant":'
    b'"trust_claim_mismatch":},"more_decisions":{"exchange allow":"exchange deny":},"leftovers":["github_registration '
    b'(busy)"],"alarms":[{"alarm":"teardown_stuck","first":"count":"left_behind","second_claim"}],"artifacts":["sha256:'
    b'"tokens":[{"jti":"audience":"https://","issuer":"https://","expires":"session_ends":"unknown","role":"rule":"'
    b'trust":"sha256:","target":"revoked":"kind":"github_installation"},"stage":"exchange","verdict":"undefined","deny"'
    b'"named":"vanished":"kubernetes","api_server","daemon_start","runner_api","how":"withdrawn","egress_gateways",'
    b'"github_registration","how":"used_up","gone","restarts":1,"cancelled_by":"result":"failure","error","timeout",'
    b'"cancellation","denied","reason":"exit_nonzero","cancelled","policy_denied","run_timeout","runner_lost",'
    b'"allowed":[{"rule":"tls://:443","http://:80","connections":1,"bytes_up":"bytes_down":"bytes_dropped":'
    b'"secrets_masked":"address_forbidden":"host_unparsable":'
    b'{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"dispatch..1","digest":{"sha256":""}}],'
    b'"predicateType":"urn:orchestrator:teardown-receipt:v1","predicate":{"job":{"id":"dispatch..1","source":"dispatch",'
    b'"attempt":1,"pool":"default","caller":"","trace_id":""},"outcome":{"result":"success","reason":"completed",'
    b'"exit_code":0},"times":{"offered":"2026-01-01T00:00:00.000000Z","ended":"2026-01-01T00:00:00.000000Z","sealed":"'
    b'2026-01-01T00:00:00.000000Z","admitted":"2026-01-01T00:00:00.000000Z","bound":"2026-01-01T00:00:00.000000Z"},'
    b'"bound_seconds":60,"journal":{"first_seq":1,"last_seq":1,"facts":10},"daemon":{"url":"http://127.0.0.1:8455",'
    b'"version":"0.1.0"},"runner":{"name":"runner-","backend":"sandbox","uses":[{"uid":"","created":"'
    b'2026-01-01T00:00:00.000000Z","bound":"2026-01-01T00:00:00.000000Z"}],"deletion_accepted":"'
    b'2026-01-01T00:00:00.000000Z","absent":"2026-01-01T00:00:00.000000Z","seen_by":"launcher"},"access":[{"what":"'
    b'runner_api_listener","how":"closed"},{"what":"egress_gateway","how":"closed"}],"refused":{"since":"'
    b'2026-01-01T00:00:00.000000Z","checked":"2026-01-01T00:00:00.000000Z"},"decisions":[{"id":"","stage":"admission",'
    b'"verdict":"allow","input":"sha256:","bundle":"sha256:"}],"egress":{"refused":{"host_not_listed":1},"probes":1},'
    b'"log":{"bytes_kept":1}}}'
)


def pack(statement: bytes, signature: bytes, key_id: str) -> str:
    """A statement, its signature and the signing key's id as one line of ASCII; `key_id` is without spaces."""
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY, zdict=_DICTIONARY)
    packed = deflate.compress(statement) + deflate.flush()
    return " ".join((_FORM, base64.b64encode(packed).decode(), base64.b64encode(signature).decode(), key_id))


def unpack(text: str, most_bytes: int) -> tuple[bytes, bytes, str]:
    """Statement, signature and key id.

    Raises:
        GiveUpError: reason `receipt_damaged`: not what `pack` made, or a statement longer than `most_bytes`.
    """
    form, _, rest = text.partition(" ")
    parts = rest.split(" ")
    if form != _FORM or len(parts) != 3:
        raise _damaged()
    try:
        packed, signature = (base64.b64decode(part, validate=True) for part in parts[:2])
        inflate = zlib.decompressobj(zdict=_DICTIONARY)
        statement = inflate.decompress(packed, most_bytes)
    except (binascii.Error, ValueError, zlib.error):
        raise _damaged() from None
    if not inflate.eof or inflate.unused_data:
        raise _damaged()
    return statement, signature, parts[2]


def _damaged() -> GiveUpError:
    return GiveUpError("a receipt in the journal cannot be read", reason="receipt_damaged")
