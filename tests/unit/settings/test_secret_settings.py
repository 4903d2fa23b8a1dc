"""Settings of static secrets: somebody in particular may ask, names become variables, faults have a path."""

from __future__ import annotations

import pytest
import yaml

from orchestrator.cli.insecure.secrets import secret_warnings
from orchestrator.errors import ConfigurationError
from orchestrator.settings import load_settings

GOOD = {"name": "registry-key", "owner": "team-a", "file": "/etc/key", "pools": ["default"]}


def load(tmp_path, *secrets, **more):
    path = tmp_path / "orchestrator.yaml"
    path.write_text(yaml.safe_dump({"secrets": list(secrets), **more}))
    return load_settings(path)


def test_a_secret_is_what_its_registration_says(tmp_path):
    [secret] = load(tmp_path, GOOD).secrets
    assert (secret.name, secret.owner, secret.rotate, secret.remove) == ("registry-key", "team-a", None, None)
    assert secret.max_age_seconds == 90 * 86400


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pools": []}, "must name repositories or pools"),
        ({"file": None}, "has no value"),
        ({"name": "1st"}, "must begin with a letter"),
        ({"name": "orchestrator-token"}, "cannot begin with orchestrator"),
        ({"name": "ssl-cert"}, "ssl-cert"),
        ({"name": "UPPER"}, "name"),
        ({"owner": ""}, "owner"),
        ({"max_age_seconds": 0}, "max_age_seconds"),
        ({"rotate": {"command": ["relative"]}}, "absolute path"),
        ({"rotate": {"command": []}}, "command"),
        ({"remove": {"command": ["/bin/x"], "timeout_seconds": 601}}, "timeout_seconds"),
        ({"pools": ["nowhere"]}, "secrets.0.pools names nowhere"),
        ({"value": "s3cr3t-in-the-settings"}, "value"),
    ],
)
def test_a_fault_is_named_and_no_value_is_repeated(tmp_path, change, words):
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, GOOD | change)
    assert words in str(refused.value)
    assert "s3cr3t" not in str(refused.value)


def test_names_differ(tmp_path):
    with pytest.raises(ConfigurationError, match="given twice: registry-key"):
        load(tmp_path, GOOD, GOOD)


def test_what_is_weaker_than_it_could_be_is_told(tmp_path):
    file, hook = tmp_path / "key", tmp_path / "hook"
    file.write_text("long-enough-value")
    file.chmod(0o440)
    hook.write_text("")
    hook.chmod(0o775)
    pools = [{"name": "default"}, {"name": "strict", "trust_tier": "protected"}]
    bare = GOOD | {"file": str(file), "pools": ["strict"]}
    told = "\n".join(secret_warnings(load(tmp_path, bare, pools=pools)))
    for part in ("secrets.0.rotate", "secrets.0.remove", "secrets.0.pools", "secrets.0.file"):
        assert part in told
    cared = GOOD | {"file": None, "rotate": {"command": [str(hook)]}, "remove": {"command": [str(hook)]}}
    told = "\n".join(secret_warnings(load(tmp_path, cared, pools=pools)))
    assert "secrets.0.rotate.command" in told
    assert "secrets.0.remove.command" in told
    hook.chmod(0o755)
    assert list(secret_warnings(load(tmp_path, cared, pools=pools))) == []
