from pathlib import Path

from orchestrator.evidence.store import EvidenceStore

DIGEST = "sha256:" + "a" * 64


def test_the_first_envelope_of_a_digest_stands(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path / "evidence")
    store.put([DIGEST], "first")
    store.put([DIGEST], "second")
    assert store.get(DIGEST) == "first"
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "evidence").iterdir()] == [0o600]


def test_a_name_that_is_no_digest_reads_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("x", encoding="utf-8")
    assert EvidenceStore(tmp_path / "evidence").get("../secret") == ""
