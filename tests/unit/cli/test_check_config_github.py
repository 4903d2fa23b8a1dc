"""check-config on GitHub sources: what weakens a promise, what cannot work, and a sound one that warns of nothing."""

from __future__ import annotations

import pytest

RESULTS = "".join(f", {{host: productionresultssa{number}.blob.core.windows.net}}" for number in range(20))
WILDCARD = "{host: '*.actions.githubusercontent.com'}"
NAMES = ("github.com", "api.github.com", "codeload.github.com", "ghes.example")
HOSTS = ", ".join(f"{{host: {name}}}" for name in NAMES)
POOL = f"pools: [{{name: p, egress: [{HOSTS}, {WILDCARD}{RESULTS}]}}]"


@pytest.fixture
def check(cli, tmp_path, state):
    def run(text: str, *arguments: str):
        file = tmp_path / "settings.yaml"
        file.write_text(text)
        return cli("check-config", "--config", str(file), *arguments)

    state.chmod(0o700)
    return run


@pytest.fixture
def github(tmp_path):
    """Settings of a sound GitHub source, some of whose words are replaced by others."""
    for name in ("key.pem", "token", "hook"):
        (tmp_path / name).write_text("secret")
        (tmp_path / name).chmod(0o400)

    def make(*changes: tuple[str, str]) -> str:
        text = f"""
server: {{public_url: 'https://ci.example'}}
{POOL}
github:
- name: acme
  url: https://github.com/acme
  app: {{client_id: Iv1, installation_id: 7, private_key_file: {tmp_path}/key.pem}}
  scale_sets: [{{name: small, pool: p}}]
"""
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        return text

    return make


def test_a_sound_github_source_warns_of_nothing(check, github):
    done = check(github())
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""


def test_an_app_that_jobs_share_with_the_runners_is_named(check, github, tmp_path):
    (tmp_path / "map.yaml").write_text("""{trust_map: 1, environment: "",
      targets: {t: {kind: github, audience: "github:code"}},
      grants: [{name: g, when: {repository_id: {equals: "1"}, caller_issuer: {equals: "https://i.example"}},
                target: t, permissions: {contents: read}}]}""")
    jobs_app = (
        f"identity: {{trust_maps: [{tmp_path}/map.yaml], github_apps: {{code: {{url: 'https://github.com/acme', "
        f"client_id: ID, installation_id: 8, private_key_file: {tmp_path}/key.pem}}}}}}\ngithub:"
    )
    done = check(github(("github:", jobs_app.replace("ID", "Iv1"))))
    assert "identity.github_apps.code.client_id: 'Iv1' is the App of github.0 as well" in done.stderr
    done = check(github(("github:", jobs_app.replace("ID", "Iv2"))))
    assert (done.exit_code, done.stderr) == (0, "")


APP = "app: {client_id: Iv1, installation_id: 7, private_key_file: FOLDER/key.pem}"
SETS = "scale_sets: [{name: small, pool: p}]"


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        (APP, "token_file: FOLDER/token", "github.0.token_file: a personal token"),
        ("com/acme", "com/acme/shop", "github.0.url: runners of a repository need Administration: write"),
        ("server: {public_url: 'https://ci.example'}", "server: {}", "github.0.oidc.audience: neither"),
        ("  scale", "  oidc: {audience: sts.amazonaws.com}\n  scale", "github.0.oidc.audience: jobs' tokens for sts"),
        ("  scale", "  oidc: {audience: 'https://github.com/acme'}\n  scale", "github.0.oidc.audience: jobs' tokens"),
        (
            ", {host: api.github.com}",
            "",
            "scale_sets.0.pool: the egress of pool p lacks tls://api.github.com:443,",
        ),
        (RESULTS, "", "lacks tls://productionresultssa0.blob.core.windows.net:443, "),
        ("//github.com/acme", "//127.0.0.1:8443/acme", "github.0.hosts: nothing is named"),
        ("//github.com/acme", "//ghes.example:8443/acme", "lacks tls://ghes.example:8443, which"),
    ],
)
def test_weak_choices_for_github_are_named(check, github, tmp_path, old, new, warning):
    old, new = (text.replace("FOLDER", str(tmp_path)) for text in (old, new))
    done = check(github((old, new)))
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("warning: ") == 1, done.stderr
    assert warning in done.stderr


def test_a_server_of_ones_own_needs_its_own_host_only(check, github):
    assert check(github(("//github.com/acme", "//ghes.example/acme"))).stderr == ""


def test_ghe_com_needs_the_storage_of_its_region(check, github):
    done = check(github(("//github.com/acme", "//octo.ghe.com/acme")))
    assert "github.0.hosts: without the result storage of your region" in done.stderr


def test_storage_that_anybody_has_is_no_host_of_github(check, github):
    done = check(github(("  scale", "  hosts: [{host: '*.blob.core.windows.net'}]\n  scale")))
    assert "github.0.hosts.0: *.blob.core.windows.net has hosts of anybody" in done.stderr


@pytest.mark.parametrize("name", ["key.pem", "hook"])
def test_secrets_that_everybody_can_read_are_named(check, github, tmp_path, name):
    hooks = f"webhooks: {{secret_files: [{tmp_path}/hook], runners: [{{labels: [x64], pool: p}}]}}"
    (tmp_path / name).chmod(0o444)
    done = check(github((SETS, hooks)))
    assert done.stderr.count("warning: ") == 1
    assert f"{tmp_path}/{name} can be read by every user of this machine" in done.stderr


def test_a_file_that_is_not_there_is_an_error(check, github, tmp_path):
    (tmp_path / "key.pem").unlink()
    done = check(github())
    assert done.exit_code == 1
    assert "github.0.app.private_key_file: there is no file" in done.stderr
