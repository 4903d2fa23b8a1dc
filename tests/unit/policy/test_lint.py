from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import regorus

from orchestrator.errors import ConfigurationError
from orchestrator.policy.builtins import PURE, impurity
from orchestrator.policy.bundle import check_syntax, default_bundle
from orchestrator.policy.files import read_bundle

Write = Callable[..., Path]


def findings(folder: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        check_syntax(read_bundle(folder))
    assert caught.value.reason == "policy_invalid"
    assert caught.value.fix
    return str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        'http.send({"url": "http://a.example"})',
        "opa.runtime()",
        "time.now_ns()",
        'io.jwt.decode("x")',
        'io.jwt.verify_rs256("x", "y")',
        'crypto.sha256("x")',
        'crypto.x509.parse_certificates("x")',
        'net.lookup_ip_addr("a.example")',
        'rand.intn("x", 3)',
        'uuid.rfc4122("x")',
        "rego.metadata.rule()",
        'trace("x")',
        "print(1)",
        "missing.function(1)",
        "unknown(1)",
        "walk(input)",
        "numbers.range(1, 1000000)",
        'net.cidr_expand("10.0.0.0/8")',
        'data.orchestrator.nothing("x")',
        'input["f"](1)',
        "startswith(1)",
        'startswith("a", "b", "c")',
        "helper(1, 2)",
    ],
)
@pytest.mark.parametrize(
    "place",
    [
        "x := CALL if input.never",
        "x if { not CALL }",
        "x contains y if { y := [1 | CALL][_] }",
        "x if { every y in [CALL] { y } }",
        'x := {"a": CALL}',
        "x[CALL] := 1 if input.never",
        "x if { input.a[CALL] }",
        "x := 1 if input.a else := CALL",
        "x if { some y in CALL; y }",
        "f(y) := CALL if y",
    ],
)
def test_calls_that_policy_must_not_make(write_bundle: Write, call: str, place: str) -> None:
    source = "package extra\n\nhelper(a) if a\n\n" + place.replace("CALL", call)
    found = findings(write_bundle({"extra.rego": source}))
    assert re.search(r"^extra\.rego:5: [xf][^:]*: ", found, re.MULTILINE), found


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"old.rego": "package old\n\nallow { input.x }\n"}, r"old\.rego:3: .*`if` keyword"),
        ({"old.rego": "package old\n\ndeny[msg] { msg := 1 }\n"}, r"old\.rego:3"),
        ({"x.rego": "package x\ny := $\"{1}\"\n"}, r"x\.rego:2"),
        ({"x.rego": "not rego"}, r"x\.rego:1"),
        ({"x.rego": "package x\ndefault y := 1\ndefault y := 2\n"}, r"x\.rego:3: y: a second default"),
        ({"x.rego": "package x\ndefault y := 1\n", "z.rego": "package x\ndefault y := 2\n"}, r"z\.rego:2: y: a second"),
        ({"x.rego": "package x\ny := 1\n", "z.rego": "package x.y\nz := 2\n"}, r"x\.rego:2: y: data\.x\.y is also"),
        ({"x.rego": "package x\ny := 1\n", "z.rego": "package x.y.w\nz := 2\n"}, r"data\.x\.y is also a package"),
        ({"x.rego": "package x\nimport data.nothing\ny if nothing.z\n"}, r"x\.rego:2: import: nothing defines"),
        ({"x.rego": "package x\nimport rego.v2\n"}, "cannot import rego.v2"),
        ({"x.rego": "package x\ny if not data.blocked[input.a]\n"}, r"nothing defines data\.blocked"),
        ({"x.rego": "package x\ny if data.orchestrator.decison\n"}, r"nothing defines data\.orchestrator\.decison"),
        ({"x.rego": "package x\nimport data.orchestrator as o\ny if o.decison\n"}, "data.orchestrator.decison"),
        ({"x.rego": 'package x\ny if input.a with input as {"a": 1}\n'}, "outside of a test"),
        ({"x.rego": "package x\nstartswith(a, b) := true if a == b\n"}, "named like a builtin"),
        ({"x.rego": "package x\ninput := 1\n"}, "x.rego"),
        ({"decision.rego": "package orchestrator\nallow if input.x\n"}, "nothing defines data.orchestrator.decision"),
        ({"data.json": '{"orchestrator": {"decision": {"allow": true}}, "names": []}'}, "replace rules"),
        ({"data.json": '{"orchestrator": 5, "names": []}'}, "replace rules"),
        ({"data.json": '{"orchestrator": null, "names": []}'}, "replace rules"),
        ({"a_test.rego": "package a_test\ntest_x if false\ntest_x if true\n"}, "a second test of this name"),
        ({"a_test.rego": "package a_test\ntest_x if { y := time.now_ns(); y > 0 }\n"}, "time.now_ns"),
        (
            {"a_test.rego": "package a_test\nimport data.orchestrator\n"
             "test_x if orchestrator.decision with data.x.f as http.send\n"},
            "http.send",
        ),
    ],
)  # fmt: skip
def test_findings_name_file_line_rule_and_fix(write_bundle: Write, files: dict[str, str], match: str) -> None:
    assert re.search(match, findings(write_bundle(files)))


def test_all_findings_are_listed_at_once(write_bundle: Write) -> None:
    rules = "\n".join(f"r{i} := http.send({i})" for i in range(30))
    lines = findings(write_bundle({"x.rego": "package x\n\n" + rules})).splitlines()
    assert lines[0].startswith("x.rego:3: r0: http.send is not for policy (policy has no network)")
    assert len(lines) == 21
    assert lines[-1] == "… and 10 more"


@pytest.mark.parametrize(
    "source",
    [
        "import rego.v1\nimport data.names\nx if input.a in names",
        "import data.orchestrator as o\nx if o.decision.allow",
        "import input.job as j\nx if startswith(j.name, \"a\")",
        "import future.keywords.if\nx if true",
        "f(a) := a\nf(b) := 1 if b == 2\nx := data.extra.f(1)\ny := f(2)",
        "x if data.names[_] == input.a",
        "x := data[input.a]",
        "x := sprintf(\"%v\", [count([1 | some _ in input.list])])",
        "a.b.c := 1\nx if data.extra.a.b.c == 1",
        "x contains y if some y in input.list",
        "é := \"ü\"\nx if input[\"é\"]",
        "x := {1, 2} | {3}\ny := -1",
    ],
)  # fmt: skip
def test_ordinary_policy_passes(write_bundle: Write, source: str) -> None:
    if source.startswith("é"):
        source = "# é\n" + source.split("\n", 1)[1]
    check_syntax(read_bundle(write_bundle({"extra.rego": "package extra\n\n" + source + "\n"})))


def test_tests_may_print_and_replace_documents(write_bundle: Write) -> None:
    test = (
        'package a_test\ntest_x if { print("x"); data.orchestrator.decision with data.other as 1 with input as {} }\n'
    )
    check_syntax(read_bundle(write_bundle({"a_test.rego": test})))


def test_the_shipped_bundle_passes() -> None:
    check_syntax(read_bundle(default_bundle()))


def test_every_allowed_builtin_exists_in_the_interpreter() -> None:
    engine = regorus.Engine()
    engine.add_policy("a.rego", "package a\nx := opa.runtime().builtins")
    known: Sequence[str] = engine.eval_rule("data.a.x")
    assert set(PURE) - set(known) == set()
    assert [name for name in PURE if impurity(name)] == []


def test_builtins_left_out_are_known_ones() -> None:
    """A look at what an update of the interpreter adds: each must be judged before policy may call it."""
    engine = regorus.Engine()
    engine.add_policy("a.rego", "package a\nx := opa.runtime().builtins")
    left_out = {name for name in engine.eval_rule("data.a.x") if name not in PURE and not impurity(name)}
    assert left_out == {
        "__builtin_sets.intersection", "__builtin_sets.union", "base64url.encode_no_pad",
        "bits.and", "bits.lsh", "bits.negate", "bits.or", "bits.rsh", "bits.xor",
        "graph.reachable", "graph.reachable_paths", "json.filter", "json.marshal_with_options", "json.match_schema",
        "json.patch", "json.remove", "json.verify_schema", "net.cidr_expand", "numbers.range", "numbers.range_step",
        "regex.find_all_string_submatch_n", "regex.template_match", "time.format", "trace", "urlquery.decode",
        "urlquery.decode_object", "urlquery.encode", "urlquery.encode_object", "walk", "yaml.is_valid",
        "yaml.marshal", "yaml.unmarshal",
    }  # fmt: skip
