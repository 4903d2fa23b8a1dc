"""One spelling for policy and resolver, or none."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.hostname import MAX_HOST, BadHostError, normalise_host, printable

LABEL = st.from_regex(r"[a-z_]([a-z0-9_-]{0,10}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=2, max_size=5).map(".".join)


def reason(raw: str) -> str:
    with pytest.raises(BadHostError) as caught:
        normalise_host(raw)
    return caught.value.reason


@given(NAME, st.booleans(), st.randoms(use_true_random=False))
def test_case_and_the_final_dot_do_not_matter(name, dotted, random):
    spelled = "".join(random.choice((c.upper(), c)) for c in name) + "." * dotted
    assert normalise_host(spelled) == name


@given(st.text(max_size=300))
def test_what_comes_out_is_narrow_and_stable(raw):
    try:
        host = normalise_host(raw)
    except BadHostError:
        return
    assert normalise_host(host) == host
    assert set(host) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")
    assert host.count(".") >= 1
    assert not host.endswith(".")


@given(st.ip_addresses())
def test_no_literal_passes(address):
    assert reason(str(address)) == "address_literal"
    assert reason(f"[{address}]") == "address_literal"


@given(st.ip_addresses(v=4), st.sampled_from(["{}", "0x{:x}", "0{:o}"]))
def test_no_form_that_libc_takes_for_an_address_passes(address, form):
    octets = address.packed
    whole = int(address)
    spellings = [
        form.format(whole),
        ".".join(form.format(octet) for octet in octets),
        form.format(octets[0]) + "." + form.format(whole & 0xFFFFFF),
        f"{octets[0]}.{octets[1]}." + form.format(whole & 0xFFFF),
    ]
    for spelling in spellings:
        socket.inet_aton(spelling)  # libc agrees that these are addresses
        with pytest.raises(BadHostError):
            normalise_host(spelling)
        with pytest.raises(BadHostError):
            normalise_host(spelling + ".")


@pytest.mark.parametrize(
    "raw",
    ["127.0.0.1", "127.1", "0x7f.1", "0X7F.1", "2130706433", "0x7f000001", "017700000001", "1.2.3.4.", "a.b.1", "a.0x",
     "[::1]", "::1", "::ffff:10.0.0.1", "[::ffff:10.0.0.1]", "fe80::1%lo", "[", "a:b"],
)  # fmt: skip
def test_literals(raw):
    assert reason(raw) == "address_literal"


@pytest.mark.parametrize(
    "raw",
    ["", ".", "..", "localhost", "a..b", ".a.b", "a.b..", "evil.test\0.good.test", "a b.test", "a.test\r\nx", "-a.test",
     "a-.test", "bücher.test", "ａ.test", "a。test", "K.test\u212a", "a.test/", "user@a.test", "a%2etest.x", "a.test\n",
     "x" * 64 + ".test", ".".join(["a" * 60] * 5)],
)  # fmt: skip
def test_no_names(raw):
    assert reason(raw) == "bad_host"


def test_international_names_come_as_a_labels():
    assert normalise_host("XN--Bcher-KVA.test") == "xn--bcher-kva.test"


def test_the_longest_name():
    labels = ["a" * 63] * 3 + ["b" * 61]
    assert len(".".join(labels)) == MAX_HOST
    assert normalise_host(".".join(labels) + ".")
    assert reason(".".join([*labels[:3], "b" * 62])) == "bad_host"


@given(st.text(max_size=600))
def test_a_refused_name_is_safe_to_keep(raw):
    kept = printable(raw)
    assert kept.isascii()
    assert kept.isprintable()
    assert len(kept) <= MAX_HOST + 1


def test_the_forms_above_are_addresses_indeed():
    assert str(ipaddress.ip_address(socket.inet_aton("0x7f.1"))) == "127.0.0.1"
