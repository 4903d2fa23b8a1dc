"""Settings from file, environment and defaults; every misfit named, no text ever repeated."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.egress.rules import RuleSet
from orchestrator.errors import ConfigurationError
from orchestrator.model.egress import EgressRule
from orchestrator.settings import Settings, load_settings
from orchestrator.settings.fields import EgressRuleSettings


@pytest.fixture
def load(tmp_path):
    def run(text: str | bytes) -> Settings:
        file = tmp_path / "settings.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_settings(file)

    return run


def test_defaults_need_nothing():
    settings = load_settings()
    assert settings.server.host == "127.0.0.1"
    assert [pool.name for pool in settings.pools] == ["default"]
    assert settings.pools[0].require_egress_proof
    assert settings.callers == ()


def test_the_environment_outranks_the_file_field_by_field(load, monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_SERVER__PORT", "9001")
    settings = load("server: {port: 9000, host: 127.0.0.2}\nlogs: {level: debug}")
    assert (settings.server.port, settings.server.host, settings.logs.level) == (9001, "127.0.0.2", "debug")


def test_lists_come_from_the_environment_as_json(monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_POOLS", '[{"name": "a", "capacity": 9}]')
    assert load_settings().pools[0].capacity == 9


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null"])
def test_an_empty_file_is_the_default(load, text):
    assert load(text).model_dump() == Settings().model_dump()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "mapping"),
        ("1: 2", "mapping"),
        ("a: [", "line 1"),
        ("a: !!python/name:os.system", "not valid YAML"),
        ("pools: [{name: a, capacity: 1, capacity: 2}]", "line 1, column 32: the key capacity is given twice"),
        (b"\xff", "cannot read"),
        (b"#" * (5 << 20), "larger than"),
        ("sever: {}", "sever"),
        ("server: {prot: 1}", "server.prot"),
        ("server: {port: 70000}", "server.port"),
        ("server: {public_url: 'ci.example'}", "server.public_url"),
        ("server: {public_url: 'https://ci.example/'}", "server.public_url"),
        ("pools: []", "pools"),
        ("pools: [{name: a}, {name: a}]", "given twice: a"),
        ("pools: [{name: Ä}]", "pools.0.name"),
        ("pools: [{name: a, egress: [{host: 'UPPER.example'}]}]", "egress.0.host"),
        ("pools: [{name: a, egress: [{host: '*'}]}]", "egress.0.host"),
        ("policy: {engine: opa}", "opa_url"),
        ("callers: [{issuer: i, audience: a, require: {}}]", "callers.0.require"),
        ("callers: [{issuer: i, audience: a, require: {sub: '('}}]", "regular expression"),
        ("deadlines: {bind_seconds: 0}", "deadlines.bind_seconds"),
        ("deadlines: {bind_seconds: .inf}", "deadlines.bind_seconds"),
        ("deadlines: {bind_seconds: .nan}", "deadlines.bind_seconds"),
        ("identity: {audiences: {a: {algorithm: EdDSA}}}", "identity.audiences.a.algorithm"),
    ],
)
def test_what_does_not_fit_is_named(load, text, words):
    with pytest.raises(ConfigurationError, match=words):
        load(text)


def test_all_problems_come_at_once(load):
    with pytest.raises(ConfigurationError) as caught:
        load("server: {port: x, host: [1]}\nlogs: {level: loud}")
    assert "3 setting(s)" in str(caught.value)


def test_a_number_that_does_not_fit_is_shown(load, monkeypatch):
    with pytest.raises(ConfigurationError) as caught:
        load("server: {port: 70000, prot: 70001}\ndeadlines: {bind_seconds: -1.5}\nlogs: {level: 70002}")
    shown = caught.value.diagnostics()
    assert "server.port: Input should be less than or equal to 65535, not 70000" in shown
    assert "deadlines.bind_seconds: Input should be greater than 0, not -1.5" in shown
    for strange in ("70001", "70002"):
        assert strange not in shown, "of a key or a word that we do not know nothing is shown"
    monkeypatch.setenv("ORCHESTRATOR_SERVER__PORT", "65536")
    with pytest.raises(ConfigurationError, match=r"65535, not 65536$"):
        load_settings()


def test_a_wrong_text_is_never_repeated(load, monkeypatch):
    with pytest.raises(ConfigurationError) as caught:
        load("identity: {token_ttl_seconds: s3cr3t-value}\npolicy: {opa_url: [s3cr3t-value]}")
    assert "s3cr3t" not in caught.value.diagnostics()
    monkeypatch.setenv("ORCHESTRATOR_SERVER__PORT", "s3cr3t-value")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "s3cr3t" not in caught.value.diagnostics()


def test_a_variable_that_is_no_setting_is_an_error(monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_SEVER__PORT", "1")
    with pytest.raises(ConfigurationError, match="ORCHESTRATOR_SEVER__PORT"):
        load_settings()


@pytest.mark.parametrize("variable", ["ORCHESTRATOR_URL", "ORCHESTRATOR_TOKEN_FILE", "ORCHESTRATOR_CONFIG"])
def test_the_clients_variables_are_let_be(monkeypatch, variable):
    monkeypatch.setenv(variable, "x")
    load_settings()


def test_a_variable_inside_a_group_that_is_no_setting_is_an_error(monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_SERVER__PROT", "1")
    with pytest.raises(ConfigurationError, match=r"server\.prot"):
        load_settings()


def test_broken_json_in_a_variable_is_an_error_of_ours(monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_POOLS", "[")
    with pytest.raises(ConfigurationError):
        load_settings()


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_settings(tmp_path / "none.yaml")
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_settings(tmp_path)


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings().server.port = 1
    with pytest.raises(ValidationError):
        Settings().state_dir = None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(sorted(Settings.model_fields)) | st.text(max_size=8), _json, max_size=3))
def test_any_document_is_settings_or_one_clear_error(tmp_path_factory, document):
    import yaml

    file = tmp_path_factory.mktemp("s") / "settings.yaml"
    file.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8", errors="replace")
    with contextlib.suppress(ConfigurationError):
        assert load_settings(file).pools


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pools: [{name: a, capacty: 3}]", r"pools\.0\.capacty: there is no such key; did you mean capacity\?"),
        ("sever: {}", r"sever: there is no such key; did you mean server\?"),
        ("pools: [{name: a, sandbox: {memory_byte: 1}}]", r"did you mean memory_bytes\?"),
        ("identity: {issuers: {prod: {audienses: []}}}", r"identity\.issuers\.prod\.audienses: there is no such key"),
        ("server: {zzzz: 1}", r"server\.zzzz: there is no such key$"),
        ("pools: [{name: a}, {name: a}]", r"pools: pool names must differ"),
        ("server: {port: 99999999999999999999}", r"number or a date out of range at line 1, column 16"),
        ("a: 1\n\tb: 2", r"line 2, column 1: found character"),
        (b"server:\xff", "byte 8 is not UTF-8 text"),
    ],
)
def test_what_is_wrong_is_said_in_words_of_the_file(load, text, words):
    with pytest.raises(ConfigurationError, match=r"(?m)" + words) as caught:
        load(text)
    assert caught.value.fix


def test_what_lies_in_the_way_is_said_once(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none\.yaml: No such file or directory$"):
        load_settings(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["", "# pools are to follow\n"])
def test_a_running_daemon_takes_no_empty_file_for_the_wish_to_lose_every_pool(tmp_path, text):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="is empty") as caught:
        load_settings(file, again=True)
    assert "{}" in caught.value.fix
    file.write_text("{}")
    assert load_settings(file, again=True) == load_settings(file)


@pytest.mark.parametrize(
    "host", ["1.2.3.4", "localhost", "*.com", "*", "0x7f.1", "a..example", "-a.example", "*.*.example"]
)
def test_a_host_that_no_job_could_ever_reach_is_refused_before_a_job_meets_it(load, host):
    with pytest.raises(ConfigurationError, match=r"pools\.0\.egress\.0\.host: must be a full host name"):
        load(f"pools: [{{name: a, egress: [{{host: '{host}'}}]}}]")


@pytest.mark.parametrize(
    ("names", "words"),
    [("{a.example: 1.2.3}", "one IPv4 or IPv6 address"), ("{'*.example.org': 10.0.0.1}", "full host name"),
     ("{registry: 10.0.0.1}", "full host name")],
)  # fmt: skip
def test_a_pinned_name_is_one_and_has_an_address(load, names, words):
    with pytest.raises(ConfigurationError, match=words):
        load(f"egress: {{names: {names}}}")


@given(st.from_regex(r"(\*\.)?[a-z0-9_.-]{1,20}", fullmatch=True))
def test_every_host_that_settings_take_is_one_that_the_gateway_can_match(host):
    try:
        rule = EgressRuleSettings(host=host)
    except ValidationError:
        return
    RuleSet([EgressRule(rule.host, rule.port, rule.protocol)])
