"""Which addresses an endpoint may have besides public ones: this machine and private networks, spelled out. Pure."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

# `ipaddress.is_private` means more, and not the same in all releases of Python: also prefixes that are translated to
# any IPv4 address (64:ff9b:1::/48), documentation, benchmarks and 0.0.0.0/8.
_OURS: Final = tuple(
    IPv4Network(net) if "." in net else IPv6Network(net)
    for net in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
_CLOUDS: Final = tuple(
    IPv6Network(net)
    for net in (
        "fd00:ec2::/32",  # AWS: metadata, and credentials of EKS pods
        "fd20:ce::/32",  # Google Cloud
        "fd00:c1::/32",  # Oracle Cloud
        "fd00:42::/32",  # Scaleway
    )
)
"""Where clouds keep credentials on private IPv6 addresses. On IPv4 they are link-local, or in 100.64.0.0/10."""


def is_ours(address: str) -> bool:
    """Whether `address` is a literal of this machine or of a private network, and none where clouds keep credentials.

    Link-local addresses are none, and neither is text that is no literal.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address):
        if parsed.scope_id is not None:
            return False
        parsed = parsed.ipv4_mapped or parsed
    return any(parsed in net for net in _OURS) and not any(parsed in net for net in _CLOUDS)
