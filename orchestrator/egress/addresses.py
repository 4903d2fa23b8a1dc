"""Which resolved addresses a job may be connected to: public unicast ones, and nothing else. Pure.

A name on the allowlist says whom the job may talk to, not that whoever runs its DNS may point it at our
own machines. Only the operator can do that, by listing the name with its address (`egress.names`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from orchestrator.errors import ConfigurationError
from orchestrator.model.hostname import BadHostError, normalise_host, printable

# IANA special-purpose registries (RFC 6890 and updates), spelled out: `ipaddress.is_global` has changed its mind
# between Python releases, and it lets translation prefixes through that lead back to private IPv4.
_REFUSED_V4 = tuple(
    IPv4Network(net)
    for net in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; also some clouds' metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a cloud's in-VM control endpoint, on a public address
        "169.254.0.0/16",  # link-local, metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relay
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")  # all that IANA has given out as global unicast
_REFUSED_V6 = tuple(
    IPv6Network(net)
    for net in (
        "2001::/23",  # protocol assignments, with Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries any IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
# Outside 2000::/3 and so refused with the rest: ::1, ::, ::ffff:0:0/96 (v4-mapped), ::/96 (v4-compatible),
# 64:ff9b::/96 and 64:ff9b:1::/48 (NAT64), 100::/64, 5f00::/16, fc00::/7, fe80::/10, fec0::/10, ff00::/8.

PUBLIC_BLOCKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("0.0.0.0/0", tuple(str(net) for net in _REFUSED_V4)),
    (str(_GLOBAL_V6), tuple(str(net) for net in _REFUSED_V6)),
)
"""The same as `is_public` in CIDR blocks, each with what is cut out of it (but for ISATAP, which is no block)."""


def is_public(address: str) -> bool:
    """Whether `address` is a literal of a public unicast address. Text that is no literal is not."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv4Address):
        return not any(parsed in net for net in _REFUSED_V4)
    if parsed.scope_id is not None or parsed not in _GLOBAL_V6:
        return False
    # ISATAP interface identifiers (RFC 5214) carry an IPv4 address too.
    isatap = parsed.packed[8:12] in {b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe"}
    return not isatap and not any(parsed in net for net in _REFUSED_V6)


def public_addresses(addresses: Iterable[str]) -> tuple[str, ...]:
    """The public ones of `addresses`, each once, in their order."""
    return tuple(dict.fromkeys(address for address in addresses if is_public(address)))


def checked_names(names: Mapping[str, str]) -> dict[str, str]:
    """The operator's names, normalised, with their addresses in canonical form.

    Raises:
        ConfigurationError: reason `egress_name_invalid`, for a name or an address that is none.
    """
    checked: dict[str, str] = {}
    for raw, address in names.items():
        try:
            parsed: IPv4Address | IPv6Address = ip_address(address)
            checked[normalise_host(raw)] = str(parsed)
        except (BadHostError, ValueError):
            raise ConfigurationError(
                f"egress.names: {printable(raw)} does not map a host name to an IP address",
                reason="egress_name_invalid",
                fix="write a full host name with at least two labels (no wildcard) and one IPv4 or IPv6 address",
            ) from None
    return checked
