from __future__ import annotations

import base64
import itertools
import json
import re
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.journal import redact, stream
from orchestrator.journal.redact import MASK, Masker
from orchestrator.journal.stream import StreamMasker

SECRET = "q7/Zt+öL0vé-9"
JOB = "dispatch.a.1"
SECRETS = st.text(st.characters(codec="utf-8", exclude_characters="*"), min_size=8, max_size=60).filter(
    lambda text: any(len(line.encode()) >= 8 for line in re.split(r"[\r\n]", text))
)


def streamed(masker: Masker, pieces: list[bytes], job: str = JOB) -> bytes:
    flow = StreamMasker(masker, job)
    return b"".join([flow.feed(piece) for piece in pieces]) + flow.close()


def masker_of(*secrets: str) -> Masker:
    masker = Masker()
    for secret in secrets:
        assert masker.register(JOB, secret)
    return masker


FORMS = {
    "raw": SECRET,
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64url": base64.urlsafe_b64encode(SECRET.encode()).decode(),
    "hex": SECRET.encode().hex(),
    "HEX": SECRET.encode().hex().upper(),
    "json": json.dumps(SECRET),
    "json utf-8": json.dumps(SECRET, ensure_ascii=False),
    "percent": quote(SECRET, safe=""),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_form_of_a_registered_secret_is_found(form: str) -> None:
    masker = masker_of(SECRET)
    text = f"before {form} after\n"
    core = form.strip('"')[:-2].rstrip("=")
    assert core not in masker.text(text)
    assert core.encode() not in streamed(masker, [text.encode()])
    assert masker.text(text).startswith("before ")
    assert masker.text(text).endswith(" after\n")


@pytest.mark.parametrize("lead", ["", "u", "us", "use", "user:", "x:y:z:"])
def test_base64_at_every_alignment(lead: str) -> None:
    secret = "correct-horse-battery"
    encoded = base64.b64encode(f"{lead}{secret}tail".encode()).decode()
    shown = masker_of(secret).text(f"<{encoded}>")
    before, after = shown.strip("<>").split(MASK)
    # What stays visible carries at most the neighbours' bits and the few that share a character with them.
    assert encoded.startswith(before)
    assert len(before) <= len(lead) * 8 // 6 + 1
    assert len(after.rstrip("=")) <= len("tail") * 8 // 6 + 2


@given(secret=SECRETS, before=st.binary(max_size=40), after=st.binary(max_size=40), data=st.data())
@settings(max_examples=150, deadline=None)
def test_however_output_is_cut_it_is_masked_alike(
    secret: str, before: bytes, after: bytes, data: st.DataObject
) -> None:
    masker = masker_of(secret)
    whole = before + secret.encode() + b"\n" + after + secret.encode() + b"Bearer abcdefghijklmnop1234" + after
    expected = streamed(masker, [whole])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert streamed(masker, pieces) == expected
    for line in re.split(rb"[\r\n]", secret.encode()):
        if len(line) >= redact.MIN_SECRET:
            assert line not in expected


def test_a_secret_split_at_every_byte() -> None:
    masker = masker_of(SECRET)
    whole = f"token={SECRET} done\nnext {SECRET}".encode()
    expected = f"token={MASK} done\nnext {MASK}".encode()
    for cut in range(len(whole) + 1):
        assert streamed(masker, [whole[:cut], whole[cut:]]) == expected
    assert streamed(masker, [bytes([byte]) for byte in whole]) == expected


@pytest.mark.parametrize("offset", [-40, -14, -13, -7, -1, 0, 1, 5])
@pytest.mark.parametrize("edge", [stream.WINDOW, stream.WINDOW - stream.OVERLAP, 2 * (stream.WINDOW - stream.OVERLAP)])
def test_lines_longer_than_the_window_hide_nothing_at_its_edges(edge: int, offset: int) -> None:
    masker = masker_of(SECRET)
    bearer = b" bearer abcdefghijklmnopqrstuvwxyz"
    for needle, core in ((SECRET.encode(), SECRET.encode()), (bearer, b"ghijklmnop")):
        whole = b"." * (edge + offset) + needle + b"." + b" " * (3 * stream.WINDOW) + needle + b" end\nshort\n"
        once = streamed(masker, [whole])
        assert core not in once
        assert once.count(MASK.encode()) == 2
        assert once.endswith(b"end\nshort\n")
        assert streamed(masker, [whole[i : i + 1009] for i in range(0, len(whole), 1009)]) == once


def test_what_a_stream_holds_back_is_bounded() -> None:
    flow = StreamMasker(masker_of(SECRET), JOB)
    shown = 0
    for _ in range(64):
        shown += len(flow.feed(b"no line end " * 1000))
        assert len(flow._held) <= stream.WINDOW
    assert shown > 0


def test_secrets_without_a_gap_never_show_their_end() -> None:
    masker = masker_of("a secret with blanks")
    whole = b"a secret with blanks" * 5000 + b" tail\nnext line\n"
    shown = streamed(masker, [whole])
    assert b"blanks" not in shown
    assert shown.endswith(b"\nnext line\n")


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abcdefghijklmnopqrst", "abcdefghijklmnopqrst"),
        ("AUTHORIZATION=BEARER abcdefghijklmnopqrst", "abcdefghijklmnopqrst"),
        ("authorization: basic YWxhZGRpbjpvcGVuc2VzYW1l", "YWxhZGRpbjpvcGVuc2VzYW1l"),
        ("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJqb2IifQ.c2lnbmF0dXJlLWhlcmU", "c2lnbmF0dXJlLWhlcmU"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "0123456789abcdef"),
        ("github_pat_11ABCDEFG0123456789_abcdefghijklmnop", "11ABCDEFG0123456789"),
        ("glpat-0123456789abcdefWXYZ", "0123456789abcdef"),
        ("glrt-0123456789abcdefWXYZ", "0123456789abcdef"),
        ("https://user:hunter22@example.test/repo.git", "hunter22"),
        ("AKIAIOSFODNN7EXAMPLE", "IOSFODNN7"),
        ('aws_secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"', "wJalrXUtnFEMI"),
        ('{"SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}', "wJalrXUtnFEMI"),
        ("-----BEGIN RSA PRIVATE KEY-----\\nMIIEpAIBAAKCAQEA\\n-----END RSA PRIVATE KEY-----", "MIIEpAIBAAKCAQEA"),
        ("whsec_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY=", "MDEyMzQ1Njc4OWFi"),
        ("whsk_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY=", "MDEyMzQ1Njc4OWFi"),
    ],
)
def test_the_pattern_net(text: str, secret: str) -> None:
    assert secret in text
    for shown in (Masker().text(f"x {text} y"), streamed(Masker(), [f"x {text} y\n".encode()]).decode()):
        assert shown.startswith("x ")
        assert secret not in shown
        assert MASK in shown


def test_the_masked_url_stays_readable() -> None:
    assert Masker().text("clone https://u:hunter22@host.test/r failed") == "clone https://***@host.test/r failed"


@pytest.mark.parametrize(
    "text",
    [
        "no bearer of news came",
        "eyJ is how a token begins",
        "ghost light gloss",
        "https://example.test:8080/a@b",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
        "the secret is out",
        "whpk_ and whsec_short",
    ],
)
def test_innocent_text_stays(text: str) -> None:
    assert Masker().text(text) == text
    assert streamed(Masker(), [text.encode()]) == text.encode()


def test_a_private_key_block_is_swallowed_to_its_end() -> None:
    block = b"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN\nBgkqhkiG9w0B\n-----END PRIVATE KEY-----\n"
    whole = b"before\n" + block + b"after\n"
    for cut in range(len(whole)):
        assert streamed(Masker(), [whole[:cut], whole[cut:]]) == b"before\n***\nafter\n"
    endless = block[:60] + b"line of text\n" * 20000
    assert b"line of text" in streamed(Masker(), [endless])[-100:], "a block that never ends does not eat all output"


@pytest.mark.parametrize("kind", ["", "RSA ", "OPENSSH ", "PGP "])
def test_a_text_with_a_private_key_of_many_lines_has_none_of_them(kind: str) -> None:
    """Errors quote what they could not read, with its line breaks."""
    word = f"{kind}PRIVATE KEY{' BLOCK' if kind == 'PGP ' else ''}"
    block = f"-----BEGIN {word}-----\nMIIEvQIBADAN\nBgkqhkiG9w0B\n-----END {word}-----"
    assert Masker().text(f"cannot load\n{block}\nas a key") == "cannot load\n***\nas a key"
    assert Masker().text(f"cannot load {block[:-20]}") == "cannot load ***"
    long = Masker().text(f"{block[:40]}\n" + "line of base64\n" * 2000)
    assert (long[:3], "base64" in long, long[-1]) == ("***", False, "…")


def test_multi_line_secrets_are_found_line_by_line() -> None:
    masker = masker_of("first-line-of-it\nab\nsecond-line-of-it")
    assert streamed(masker, [b"> second-line-of-it\nab\n"]) == b"> ***\nab\n"


def test_short_secrets_are_not_taken() -> None:
    masker = Masker()
    assert not masker.register(JOB, "short")
    assert masker.text("short") == "short"


def test_a_dropped_job_leaves_nothing() -> None:
    masker = masker_of(SECRET, "another-secret")
    masker.register("dispatch.b.1", SECRET)
    masker.drop(JOB)
    masker.drop(JOB)
    assert masker.text(SECRET) == MASK, "another job still has it"
    assert masker.text("another-secret") == "another-secret"
    masker.drop("dispatch.b.1")
    assert not masker._filed
    assert not masker._of_job


def test_a_jobs_log_masks_its_own_secrets_and_structured_values_all() -> None:
    masker = masker_of(SECRET)
    assert SECRET in streamed(masker, [SECRET.encode()], job="dispatch.b.1").decode()
    assert masker.redact_mapping({"event": f"got {SECRET}"}) == {"event": "got ***"}


def test_structured_values() -> None:
    masker = masker_of(SECRET)
    shown = masker.redact_mapping(
        {
            "Authorization": "anything",
            "x-api-key": "k",
            "subject_token": {"deep": 1},
            "tokens": 5,
            "token": None,
            "nested": [{"password": "p", "ok": [SECRET, b"raw " + SECRET.encode(), 1.5, True]}],
            SECRET: "a key can be one too",
            "error": ValueError(f"bad value {SECRET}"),
        }
    )
    assert shown == {
        "Authorization": MASK,
        "x-api-key": MASK,
        "subject_token": MASK,
        "tokens": 5,
        "token": None,
        "nested": [{"password": MASK, "ok": [MASK, "raw ***", 1.5, True]}],
        MASK: "a key can be one too",
        "error": "bad value ***",
    }


def test_structured_values_are_bounded() -> None:
    knot: list[object] = []
    knot += [knot] * 1000
    shown = json.dumps(Masker().redact_mapping({"knot": knot, "long": "x" * 10**6, "wide": list(range(10**5))}))
    assert len(shown) < 200_000


@pytest.mark.parametrize("shift", range(-len(SECRET.encode()) - 2, 3))
def test_a_secret_across_the_cut_of_a_long_string(shift: int) -> None:
    masker = masker_of("0123456789abcdefghij")
    shown = masker.text("." * (redact.MAX_TEXT + shift) + "0123456789abcdefghij" + "." * 9000)
    assert "0123" not in shown


@given(st.text(max_size=300), SECRETS)
@settings(max_examples=100, deadline=None)
def test_text_without_secrets_comes_back_unless_a_pattern_matched(text: str, secret: str) -> None:
    masker = masker_of(secret)
    shown = masker.text(text)
    assert shown == text or MASK in shown
    assert (
        secret.splitlines()[0] not in masker.text(f"{text}{secret}{text}") or len(secret.splitlines()[0].encode()) < 8
    )


def test_a_secret_that_is_registered_while_another_thread_masks_a_text_is_no_fault_there():
    """Traces are drawn beside the event loop. What the loop does in between happens here at every step of the other."""
    masker, count = Masker(), itertools.count()
    masker.register("job", "secret-0123456789")

    def step(frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename != redact.__file__:
            return None
        frame.f_trace_opcodes = True
        if frame.f_code is not Masker.register.__code__ and next(count) < 2000:
            sys.settrace(None)
            masker.register("other", f"secret-of-another-{next(count)}")
            sys.settrace(step)
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        shown = masker.text("is secret-0123456789 here?")
    finally:
        sys.settrace(before)
    assert shown == f"is {MASK} here?"
    assert next(count) > 100
