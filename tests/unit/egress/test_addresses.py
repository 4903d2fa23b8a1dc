from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.egress.addresses import checked_names, is_public, public_addresses
from orchestrator.errors import ConfigurationError


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.0.0.53", "168.63.129.16",
     "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.168.1.1", "198.18.0.1", "224.0.0.1",
     "240.0.0.1", "255.255.255.255", "::", "::1", "::10.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "64:ff9b::a00:1",
     "64:ff9b:1::a00:1", "2002:a00:1::", "2001:0:a00:1::1", "fd00::1", "fd00:ec2::254", "fe80::1", "fe80::1%lo",
     "fec0::1", "ff02::1", "2001:db8::1", "100::1", "5f00::1", "2600:1f00::5efe:a00:1", "2600:1f00::200:5efe:a00:1",
     "2600:1f00::1%eth0", "", "example.com", "8.8.8", "8.8.8.8 ", "0x8.8.8.8", "08.8.8.8"],
)  # fmt: skip
def test_refused(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "100.128.0.1", "172.32.0.1", "2600:1f00::1", "2a00:1450::1"])
def test_public(address):
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_never_more_generous_than_the_standard_library(address):
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0", "::", "64:ff9b::", "64:ff9b:1::"]))
def test_no_translation_prefix_leads_back(address, prefix):
    carried = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(address))
    assert not is_public(str(carried))


@given(st.ip_addresses(v=4), st.integers(0, 2**80 - 1))
def test_no_6to4(address, rest):
    assert not is_public(str(ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80) | rest)))


def test_order_is_kept_and_repeats_are_not():
    assert public_addresses(["10.0.0.1", "8.8.8.8", "::1", "1.1.1.1", "8.8.8.8"]) == ("8.8.8.8", "1.1.1.1")


def test_listed_names_are_normalised():
    assert checked_names({"Git.Corp.": "10.0.0.7", "v6.corp": "FD00::1"}) == {
        "git.corp": "10.0.0.7",
        "v6.corp": "fd00::1",
    }


@pytest.mark.parametrize(
    ("name", "address"), [("git", "10.0.0.1"), ("*.corp.x", "10.0.0.1"), ("a.b", "nope"), ("a.b", "")]
)
def test_listed_names_must_be_names_with_addresses(name, address):
    with pytest.raises(ConfigurationError) as caught:
        checked_names({name: address})
    assert caught.value.reason == "egress_name_invalid"
