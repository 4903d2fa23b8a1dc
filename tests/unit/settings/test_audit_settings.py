"""Settings of the audit log: anchors are one of three kinds, and a demand needs somebody to meet it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.settings import Settings, load_settings


def load(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "orchestrator.yaml"
    file.write_text(text)
    return load_settings(file)


def test_the_audit_log_is_on_unless_it_is_switched_off(tmp_path):
    audit = load(tmp_path, "").audit
    assert audit.enabled
    assert audit.folder is None
    assert audit.anchors == ()
    assert audit.anchor_required_seconds == 0
    assert not load(tmp_path, "audit: {enabled: false}").audit.enabled


def test_each_kind_of_anchor_can_be_named(tmp_path):
    audit = load(
        tmp_path,
        """
audit:
  anchor_required_seconds: 60
  anchors:
    - file: /mnt/audit/checkpoints
    - http: {url: "https://log.example/checkpoints", method: PUT, headers_file: /etc/headers}
    - object_store: {url: "https://s3.example/bucket", credentials_file: /etc/credentials}
""",
    ).audit
    file, http, store = audit.anchors
    assert file.file == Path("/mnt/audit/checkpoints")
    assert http.http is not None
    assert (http.http.url, http.http.method) == ("https://log.example/checkpoints", "PUT")
    assert store.object_store is not None
    assert store.object_store.region == "us-east-1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("audit: {anchors: [{}]}", "exactly one of file, http and object_store"),
        ("audit: {anchors: [{file: /x, http: {url: 'http://x'}}]}", "exactly one"),
        ("audit: {anchors: [{files: /x}]}", "audit.anchors.0.files"),
        ("audit: {anchors: [{object_store: {url: 'https://x'}}]}", "credentials_file"),
        ("audit: {anchors: [{file: /x}], anchor_required_seconds: 1}", "5 or more"),
        ("audit: {anchor_required_seconds: 60}", "at least one of anchors"),
        ("audit: {enabled: false, anchors: [{file: /x}], anchor_required_seconds: 60}", "to be enabled"),
        ("audit: {checkpoint_seconds: 0}", "audit.checkpoint_seconds"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, text, words):
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, text)
    assert words in str(refused.value)
