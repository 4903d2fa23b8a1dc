"""The builtins that policy may call: pure, bounded by their arguments, and the same in OPA and regorus."""

from __future__ import annotations

from collections.abc import Mapping

_PURE = """
abs/1 ceil/1 floor/1 round/1 max/1 min/1 sum/1 product/1 count/1 sort/1 to_number/1 type_name/1
is_array/1 is_boolean/1 is_null/1 is_number/1 is_object/1 is_set/1 is_string/1
concat/2 contains/2 endswith/2 startswith/2 format_int/2 indexof/2 indexof_n/2 lower/1 upper/1 replace/3 split/2
sprintf/2 substring/3 trim/2 trim_left/2 trim_prefix/2 trim_right/2 trim_space/1 trim_suffix/2
strings.any_prefix_match/2 strings.any_suffix_match/2 strings.count/2 strings.replace_n/2 strings.reverse/1
array.concat/2 array.reverse/1 array.slice/3 intersection/1 union/1
object.filter/2 object.get/3 object.keys/1 object.remove/2 object.subset/2 object.union/2 object.union_n/1
regex.match/2 regex.is_valid/1 regex.split/2 regex.find_n/3 regex.replace/3 glob.match/3 glob.quote_meta/1
net.cidr_contains/2 net.cidr_is_valid/1 semver.compare/2 semver.is_valid/1
time.parse_rfc3339_ns/1 time.parse_ns/2 time.parse_duration_ns/1 time.date/1 time.clock/1 time.weekday/1
time.add_date/4 time.diff/2
base64.decode/1 base64.encode/1 base64.is_valid/1 base64url.decode/1 base64url.encode/1 hex.decode/1 hex.encode/1
json.marshal/1 json.unmarshal/1 json.is_valid/1 units.parse/1 units.parse_bytes/1
"""

PURE: Mapping[str, int] = {name: int(arity) for name, arity in (word.split("/") for word in _PURE.split())}
"""Name to number of arguments. Left out although pure: what loops far beyond its argument (`numbers.range`,
`net.cidr_expand`, `graph.*`) and what regorus answers differently from OPA (`walk`, `json.match_schema`)."""

_IMPURE = (
    ("http.", "policy has no network"),
    ("net.lookup_ip_addr", "policy has no network"),
    ("opa.", "policy does not see the process it runs in"),
    ("rego.", "policy does not see itself"),
    ("time.now_ns", "the time of the decision is input.time"),
    ("io.", "the orchestrator verifies tokens and signatures and gives policy the result"),
    ("crypto.", "the orchestrator verifies signatures and gives policy the result"),
    ("providers.", "policy signs no requests"),
    ("rand.", "equal inputs get equal decisions"),
    ("uuid.", "equal inputs get equal decisions"),
)


def impurity(name: str) -> str:
    """Why a dotted name may not even be mentioned in a policy or its tests; empty where it may."""
    for start, why in _IMPURE:
        if name == start or (start.endswith(".") and name.startswith(start)):
            return why
    return ""
