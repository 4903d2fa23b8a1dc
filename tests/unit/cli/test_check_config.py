"""check-config: the effective settings, every problem, every insecure choice, no secret."""

from __future__ import annotations

import errno
import json
import os
import pty
import subprocess
import sys

import pytest
import yaml
from joserfc.jwk import ECKey

from orchestrator.settings import Settings


@pytest.fixture
def check(cli, tmp_path, state):
    def run(text: str, *arguments: str):
        file = tmp_path / "settings.yaml"
        file.write_text(text)
        return cli("check-config", "--config", str(file), *arguments)

    state.chmod(0o700)
    return run


@pytest.mark.slow
def test_who_sits_at_a_terminal_is_told_that_all_is_well(state, tmp_path):
    """Where errors go into a file or a pipe, silence says it."""
    state.chmod(0o700)
    (tmp_path / "settings.yaml").write_text("")
    command = [sys.executable, "-m", "orchestrator", "check-config", "--config", str(tmp_path / "settings.yaml")]
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=theirs, timeout=60, check=False)
        os.close(theirs)
        assert done.returncode == 0
        assert os.read(ours, 4096) == b"the settings fit, and there is nothing to warn of\r\n"
    finally:
        os.close(ours)


def test_the_default_is_sound_and_loads_again(check, state):
    done = check("")
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    assert Settings(**yaml.safe_load(done.stdout)) == Settings()
    assert check("", "--strict").exit_code == 0


def test_the_environment_is_part_of_it(check, monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_SERVER__PORT", "9000")
    document = json.loads(check("server: {port: 1, max_body_bytes: 5}", "--json").stdout)
    assert document["settings"]["server"]["port"] == 9000
    assert document["settings"]["server"]["max_body_bytes"] == 5
    assert document["warnings"] == []


TRUST_MAP = """trust_map: 1
environment: prod
targets: {there: {kind: oidc, audience: "https://deploy.example"}}
grants:
  - {name: a, when: {repository_id: {equals: "42"}}, target: there, max_ttl_seconds: 60}
"""
KEY_SET = json.dumps({"keys": [ECKey.generate_key("P-256", {"kid": "one"}).as_dict(private=False)]})
CALLER = "{issuer: 'https://%s.example', audience: a, require: {sub: repo}, jwks_file: %s, facts: {%s}}"


def test_the_trust_map_is_loaded(check, tmp_path):
    path = tmp_path / "prod.yaml"
    path.write_text(TRUST_MAP)
    settings = f"identity: {{trust_maps: [{path}], audiences: {{'https://deploy.example': {{}}}}}}\n"
    done = check(settings, "--strict")
    assert done.exit_code == 0, done.stderr
    path.write_text(TRUST_MAP.replace("equals", "is"))
    done = check(settings)
    assert done.exit_code == 1
    assert "prod.yaml: grants.a.when.repository_id has an unknown key 'is'" in done.stderr


def test_an_id_is_no_identity_where_several_issuers_number(check, tmp_path):
    path, keys = tmp_path / "prod.yaml", tmp_path / "jwks.json"
    path.write_text(TRUST_MAP)
    keys.write_text(KEY_SET)
    one, two = (CALLER % (name, keys, "repository_id: project_id") for name in ("ci", "forge"))
    other = CALLER % ("portal", keys, "team: team")
    identity = f"identity: {{trust_maps: [{path}], audiences: {{'https://deploy.example': {{}}}}}}\n"
    done = check(f"{identity}callers: [{one}, {other}]\n", "--strict")
    assert done.exit_code == 0, done.stderr
    done = check(f"{identity}callers: [{one}, {two}]\n")
    assert done.exit_code == 1
    assert "grants.a.when: pins repository_id but not caller_issuer, and 2 issuers of callers give it" in done.stderr
    assert "fix: require caller_issuer by equals, such as https://ci.example" in done.stderr
    path.write_text(
        TRUST_MAP.replace('{equals: "42"}', "{equals: \"42\"}, caller_issuer: {equals: 'https://ci.example'}")
    )
    assert check(f"{identity}callers: [{one}, {two}]\n", "--strict").exit_code == 0


def test_sources_of_one_github_number_alike(check, tmp_path):
    path, keys = tmp_path / "prod.yaml", tmp_path / "jwks.json"
    path.write_text(TRUST_MAP)
    keys.write_text(KEY_SET)
    (tmp_path / "token").write_text("t")
    identity = f"identity: {{trust_maps: [{path}], audiences: {{'https://deploy.example': {{}}}}}}\n"
    given = (
        "{name: %s, url: 'https://%s/acme', token_file: "
        + str(tmp_path / "token")
        + ", scale_sets: [{name: %s, pool: default}]}"
    )
    one, two, other = (given % (name, host, name) for name, host in
                       (("one", "github.com"), ("two", "github.com"), ("three", "octo.ghe.com")))  # fmt: skip
    done = check(f"{identity}github: [{one}, {two}]\n")
    assert done.exit_code == 0, done.stderr
    done = check(f"{identity}github: [{one}, {other}]\n")
    assert "2 issuers of callers give it" in done.stderr
    forge = CALLER % ("forge", keys, "repository_id: project_id")
    done = check(f"{identity}github: [{one}]\ncallers: [{forge}]\n")
    assert "2 issuers of callers give it" in done.stderr


def test_a_grant_that_nobody_can_meet_is_named(check, tmp_path):
    path, keys = tmp_path / "prod.yaml", tmp_path / "jwks.json"
    keys.write_text(KEY_SET)
    when = "{repository_id: {equals: \"42\"}, reff: {equals: x}, caller_issuer: {equals: 'https://ci.example'}}"
    path.write_text(TRUST_MAP.replace('{repository_id: {equals: "42"}}', when))
    identity = f"identity: {{trust_maps: [{path}], audiences: {{'https://deploy.example': {{}}}}}}\n"
    ci = CALLER % ("ci", keys, "repository_id: project_id")
    other = CALLER % ("forge", keys, "repository_id: project_id, reff: reff")
    done = check(f"{identity}callers: [{ci}, {other}]\n")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("warning: ") == 1
    assert "prod.yaml: grants.a.when.reff: no issuer of callers that the grant is for gives this fact" in done.stderr
    assert check(f"{identity}callers: [{ci}, {other}]\n", "--strict").exit_code == 1
    ci = CALLER % ("ci", keys, "repository_id: project_id, reff: ref")
    assert check(f"{identity}callers: [{ci}, {other}]\n", "--strict").stderr == ""


def test_a_folder_that_may_not_be_read_is_named(check, tmp_path, monkeypatch):
    def refuse(_path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    folder = tmp_path / "trust"
    folder.mkdir()
    monkeypatch.setattr(type(folder), "iterdir", refuse)
    done = check(f"identity: {{trust_maps: [{folder}]}}\n")
    assert done.exit_code == 1
    assert f"{folder} cannot be read: Permission denied" in done.stderr
    assert "internal error" not in done.stderr


def test_the_trust_map_fits_the_settings(check, tmp_path):
    path = tmp_path / "prod.yaml"
    path.write_text(TRUST_MAP)
    done = check(f"identity: {{trust_maps: [{path}]}}\n")
    assert done.exit_code == 1
    assert "'https://deploy.example' is not listed under identity.audiences" in done.stderr
    path.write_text(TRUST_MAP.replace("environment: prod", "environment: prod\nissuer: prod"))
    done = check(f"identity: {{trust_maps: [{path}], audiences: {{'https://deploy.example': {{}}}}}}\n")
    assert "issuer: 'prod' is not listed under identity.issuers" in done.stderr


def test_an_app_for_jobs_needs_its_key_and_grants(check, tmp_path):
    app = f"{{url: 'https://github.com/acme', client_id: Iv1, installation_id: 1, private_key_file: {tmp_path}/no.pem}}"
    done = check(f"identity: {{github_apps: {{acme: {app}}}}}\n")
    assert "github_apps needs trust_maps" in done.stderr
    (tmp_path / "prod.yaml").write_text(TRUST_MAP)
    done = check(f"identity: {{trust_maps: [{tmp_path}], github_apps: {{acme: {app}}}}}\n")
    assert f"identity.github_apps.acme.private_key_file: there is no file {tmp_path}/no.pem" in done.stderr
    done = check(f"identity: {{github_apps: {{acme: {app.replace('https', 'http')}}}}}\n")
    assert "must start with https://" in done.stderr


def test_every_problem_is_named_without_its_value(check):
    done = check("server: {port: secret-thing, hsot: x}\npools: [{name: A}]")
    assert done.exit_code == 1
    assert done.stdout == ""
    for words in ("3 setting(s)", "server.port", "server.hsot", "pools.0.name", "fix:"):
        assert words in done.stderr
    assert "secret-thing" not in done.stderr


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("server: {host: 0.0.0.0}", "server.host"),
        ("server: {public_url: 'http://ci.example'}", "server.public_url"),
        ("policy: {engine: opa, opa_url: 'http://opa.example:8181'}", "policy.opa_url"),
        ("telemetry: {otlp_endpoint: 'http://otel.example:4318'}", "telemetry.otlp_endpoint"),
        ("callers: [{issuer: 'http://i.example', audience: a, require: {sub: x}}]", "callers.0.issuer"),
        ("callers: [{issuer: 'https://i.example', audience: a, require: {sub: '.*'}}]", "callers.0.require.sub"),
        ("callers: [{issuer: 'https://i.example', audience: a, require: {sub: x}, single_use: false}]", "single_use"),
        ("pools: [{name: p, require_egress_proof: false}]", "pools.0.require_egress_proof"),
        ("pools: [{name: p, egress: [{host: a.example, protocol: http, port: 80}]}]", "pools.0.egress.0"),
        ("audit: {enabled: false}", "audit.enabled"),
        ("identity: {issuers: {prod: {}}}", "identity.issuers: without a trust map"),
        ("audit: {anchors: [{http: {url: 'http://log.example'}}]}", "audit.anchors.0"),
        ("promotion: {tickets: {url: 'https://t.example/{id}', pattern: '.+'}}", "promotion.tickets.pattern"),
        ("promotion: {tickets: {url: 'https://t.example/{id}', fields: {id: ''}}}", "promotion.tickets.fields.id"),
        (
            "callers: [{issuer: 'https://i.example', audience: a, require: {sub: x}, facts: {sub: sub, team: team}}]",
            "callers.0.facts.sub: policy sees it, tokens and trust map never do",
        ),
    ],
)
def test_insecure_choices_are_named(check, text, warning):
    done = check(text)
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("warning: ") == 1
    assert warning in done.stderr
    assert check(text, "--strict").exit_code == 1


def test_a_secure_choice_is_not(check):
    text = """
server: {host: 0.0.0.0, public_url: 'https://ci.example'}
policy: {engine: opa, opa_url: 'http://127.0.0.1:8181'}
telemetry: {otlp_endpoint: 'http://localhost:4318'}
callers: [{issuer: 'https://i.example', audience: a, require: {sub: 'repo:.*'}}]
pools: [{name: p, egress: [{host: '*.a.example'}]}]
"""
    assert check(text).stderr == ""


def test_an_open_state_folder_is_named(check, state):
    state.chmod(0o755)
    assert "chmod 700" in check("").stderr


def test_rules_that_everybody_can_change_are_named(check, tmp_path):
    folder = tmp_path / "trust"
    folder.mkdir(mode=0o755)
    path = folder / "prod.yaml"
    path.write_text(TRUST_MAP)
    path.chmod(0o644)
    settings = f"identity: {{trust_maps: [{folder}], audiences: {{'https://deploy.example': {{}}}}}}\n"
    assert check(settings).stderr == ""
    for one, mode in ((path, 0o646), (folder, 0o757)):
        before = one.stat().st_mode
        one.chmod(mode)
        assert f"identity.trust_maps.0: every user of this machine can change {one}" in check(settings).stderr
        one.chmod(before & 0o777)


def test_credentials_in_a_url_are_masked(check):
    done = check("telemetry: {otlp_endpoint: 'https://user:hunter2@otel.example'}")
    assert "hunter2" not in done.stdout + done.stderr
    assert "https://********@otel.example" in done.stdout


def test_what_settings_only_name_is_tried(check, tmp_path):
    done = check(f"callers: [{{issuer: 'https://i', audience: a, require: {{s: x}}, jwks_file: {tmp_path}/none}}]")
    assert done.exit_code == 1
    assert "callers.0.jwks_file" in done.stderr
    anchor = "{url: 'https://s3.example/b', credentials_file: /nonexistent}"
    missing = check(f"audit: {{anchors: [{{object_store: {anchor}}}]}}")
    assert missing.exit_code == 1
    assert "audit.anchors.0.object_store.credentials_file: there is no file /nonexistent" in missing.stderr
    (tmp_path / "keys").write_text('{"keys": []}')
    done = check(f"callers: [{{issuer: 'https://i', audience: a, require: {{s: x}}, jwks_file: {tmp_path}/keys}}]")
    assert done.exit_code == 1
    assert f"key set file {tmp_path}/keys: no key in it can check a signature" in done.stderr
    done = check("audit: {anchors: [{http: {url: 'ftp://log.example'}}]}")
    assert done.exit_code == 1
    assert "the address of an audit anchor is no http or https address" in done.stderr
    missing = check(f"policy: {{bundle: {tmp_path}/none}}")
    assert missing.exit_code == 1
    assert f"policy.bundle: {tmp_path}/none: No such file or directory" in missing.stderr


def test_a_tracker_is_tried_as_far_as_this_machine_goes(check, tmp_path):
    text = "promotion: {tickets: {url: 'https://t.example/{id}', %s: %s}}"
    for name in ("token_file", "ca_file"):
        missing = check(text % (name, tmp_path / "none"))
        assert missing.exit_code == 1
        assert f"promotion.tickets.{name}: there is no file {tmp_path}/none" in missing.stderr
    file = tmp_path / "file"
    file.write_text("hunter2")
    file.chmod(0o644)
    assert "the CA file" in check(text % ("ca_file", file)).stderr
    done = check(text % ("token_file", file))
    assert f"promotion.tickets.token_file: {file} can be read by every user" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_a_secret_file_that_everybody_can_read_is_named(check, tmp_path):
    headers = tmp_path / "headers"
    headers.write_text("Authorization: Bearer x\n")
    text = f"audit: {{anchors: [{{http: {{url: 'https://log.example', headers_file: {headers}}}}}]}}"
    headers.chmod(0o644)
    assert f"audit.anchors.0.http.headers_file: every user of this machine can read {headers}" in check(text).stderr
    headers.chmod(0o640)
    assert check(text, "--strict").stderr == ""


def test_a_missing_file_is_one_clear_error(cli, state):
    done = cli("check-config", "--config", "/nonexistent.yaml")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: cannot read /nonexistent.yaml")


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_ca_of_api_servers_that_is_none_is_told(check, tmp_path, content):
    ca = tmp_path / "ca.pem"
    if content is not None:
        ca.write_text(content)
    done = check(f"deployment: {{namespaces: {{shop: prod}}, webhook: {{client_ca_file: {ca}}}}}\n")
    assert done.exit_code == 1
    assert "deployment.webhook.client_ca_file" in done.stderr


def test_a_secret_that_could_not_be_handed_out_is_named_and_not_shown(check, tmp_path):
    key, hook = tmp_path / "key", tmp_path / "hook"
    hook.write_text("")
    settings = f"secrets: [{{name: a, owner: t, pools: [default], file: {key}, rotate: {{command: [{hook}]}}}}]"
    done = check(settings)
    assert "secrets.0.file" in done.stderr
    key.write_text("short")
    key.chmod(0o400)
    done = check(settings)
    assert "could not be masked" in done.stderr
    assert "short" not in done.stderr
    key.chmod(0o600)
    key.write_text("long-enough-to-be-masked")
    done = check(settings)
    assert f"secrets.0.rotate.command: {hook} is no program" in done.stderr
    hook.chmod(0o755)
    done = check(settings)
    assert done.exit_code == 0, done.stderr
    assert "long-enough" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pools: [{name: p, sandbox: {memory_bytes: 100000000}}]", "must stay below its memory"),
        ("pools: [{name: p, sandbox: {toolchain: [/etc]}}]", "lies in a place that every sandbox makes for itself"),
        ("pools: [{name: p, sandbox: {toolchain: [/]}}]", "is too wide"),
        ("pools: [{name: p, sandbox: {toolchain: [tools]}}]", "must be an absolute path"),
        ("telemetry: {otlp_endpoint: 'ftp://x'}", "the OTLP endpoint is not a base URL"),
        ("telemetry: {otlp_endpoint: 'http://'}", "the OTLP endpoint is not a base URL"),
    ],
)
def test_what_would_keep_the_daemon_from_starting_is_found_without_one(check, text, words):
    done = check(text)
    assert done.exit_code == 1, done.output
    assert words in done.stderr
    assert "fix:" in done.stderr


def test_tools_that_are_not_on_this_machine_are_a_warning_for_it_may_be_another(check, tmp_path):
    text = f"pools: [{{name: p, sandbox: {{toolchain: [{tmp_path}/none]}}}}]"
    done = check(text)
    assert done.exit_code == 0, done.stderr
    assert f"pool p: toolchain folder {tmp_path}/none is not a folder; on this machine" in done.stderr
    assert check(text, "--strict").exit_code == 1
