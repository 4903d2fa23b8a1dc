"""What goes into a bundle is clean wherever a secret came from, in bounded time, and though much is broken."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.support import bundle as bundles
from orchestrator.cli.support import cleaning, journal_part
from orchestrator.cli.support.cleaning import Cleaner
from orchestrator.cli.support.daemon_part import add_remote_jobs
from orchestrator.cli.support.secrets_here import learn_secrets
from orchestrator.daemon.clock import SystemClock
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.lifecycle.observation import Deadlines
from orchestrator.model import events as e
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.phase import IllegalMoveError
from orchestrator.testing import stories

SECRET = "vq7-of-the-jobs-environment-9"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https://token-as-a-user-99@host.example/x", "token-as-a-user-99"),
        ("https://me:p%40ss%2Fword-99@host.example/x", "p@ss/word-99"),
        ("https://me:p%40ss%2Fword-99@host.example/x", "p%40ss%2Fword-99"),
        ("https://me:password-99@host.example?q=a@b", "password-99"),
    ],
)
def test_what_stands_before_an_address_is_masked_however_it_is_told(address: str, told: str, tmp_path: Path) -> None:
    of_settings, of_variables = Cleaner(), Cleaner()
    learn_secrets(of_settings, tmp_path, {"deep": [{"url": address}]}, {})
    learn_secrets(of_variables, tmp_path, {}, {"HTTPS_PROXY": address})
    for cleaner in (of_settings, of_variables):
        assert cleaner.text(f"it said {told}, and no more") == "it said ***, and no more"


def test_what_is_given_to_a_name_is_masked_without_the_name(tmp_path: Path) -> None:
    cleaner = Cleaner()
    learn_secrets(cleaner, tmp_path, {}, {"OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=a,x-api-key=abcdefgh-99"})
    assert cleaner.text("refused: abcdefgh-99") == "refused: ***"
    (tmp_path / "env").write_text("API_KEY='hunter2hunter2'\nuser:\n  token: shorter-9\nserver: https://k8s.example\n")
    learn_secrets(cleaner, tmp_path, {"kubeconfig": str(tmp_path / "env")}, {})
    told = "hunter2hunter2 shorter-9 https://k8s.example"
    assert cleaner.text(told) == "*** *** https://k8s.example"


def test_a_secret_that_is_named_often_takes_the_place_of_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "MAX_SECRETS", 2)
    cleaner = Cleaner()
    for secret in ["first-secret"] * 5 + ["second-secret", "third-secret"]:
        cleaner.learn(secret)
    assert cleaner.text("first-secret second-secret third-secret") == "*** *** third-secret"
    assert cleaner.beyond == 1


def test_many_secrets_are_looked_for_in_one_pass() -> None:
    cleaner = Cleaner()
    for number in range(5000):
        cleaner.learn(f"secret-number-{number:06}")
    content = b"the quick brown fox jumps over the lazy dog\n" * 12_000
    begun = time.process_time()
    assert not cleaner.finds(content)
    assert cleaner.finds(content + b"secret-number-000017")
    assert time.process_time() - begun < 2


def story(name: str, script: str = "true") -> list[tuple[Any, e.Event]]:
    offer = stories.offer(name, environment={"SAFE_NAME": SECRET + name}, script=script)
    ended = e.JobEnded(Outcome(Result.CANCELLATION, EndReason.CANCELLED, f"it said {SECRET}{name}"))
    return [(offer.key.id, event) for event in (e.JobOffered(offer), stories.ADMITTED, ended, e.JobFinished())]


async def gathered(path: Path, facts: Sequence[tuple[Any, e.Event]], cleaner: Cleaner) -> journal_part.JournalPart:
    journal = await SqliteJournal.open(path, SystemClock())
    for fact in facts:
        await journal.append([fact])
    await journal.close()
    part = journal_part.JournalPart(path, cleaner, Deadlines(), time.time_ns())
    await part.read(0)
    return part


def test_a_job_that_was_offered_before_the_newest_facts_keeps_its_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_part, "MAX_FACTS", 2)
    cleaner = Cleaner()
    part = asyncio.run(gathered(tmp_path / "journal.db", story("1"), cleaner))
    assert [type(fact.event) for fact in part.tail] == [e.JobEnded, e.JobFinished]
    assert SECRET in str(part.tail_lines())
    assert SECRET not in str(cleaner.document(part.tail_lines()))


def test_words_of_scripts_crowd_out_no_job_s_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "MAX_SECRETS", 10)
    cleaner = Cleaner()
    script = " ".join(f"sha256-digest-number-{number:06}" for number in range(50))
    part = asyncio.run(gathered(tmp_path / "journal.db", [*story("1", script), *story("2")], cleaner))
    assert SECRET not in str(cleaner.document(part.tail_lines()))
    assert cleaner.beyond > 0


def test_what_is_broken_stops_nothing_else() -> None:
    bundle = bundles.Bundle(Cleaner())

    def broken() -> Any:
        raise IllegalMoveError("secret")

    bundle.add_json("a", "a", broken)
    bundle.add_json("b", "b", dict)
    assert [entry.missing for entry in bundle.entries] == ["IllegalMoveError while it was made", ""]


def test_a_daemon_elsewhere_chooses_no_place_outside_of_the_bundle() -> None:
    class Elsewhere:
        def jobs(self, *, limit: int, **_: Any) -> list[dict[str, Any]]:
            return [{"id": "../../etc/x"}, {"id": ".."}, {"id": "dispatch.1.1"}][:limit]

        def read(self, _path: str) -> dict[str, Any]:
            return {}

    bundle = bundles.Bundle(Cleaner())
    add_remote_jobs(bundle, Elsewhere(), 3)  # type: ignore[arg-type]
    assert {entry.name for entry in bundle.entries} == {
        f"jobs/dispatch.1.1/{part}.json" for part in ("job", "why", "trace")
    }


def test_what_a_script_gives_to_a_variable_is_masked_without_the_variable(tmp_path: Path) -> None:
    cleaner = Cleaner()
    asyncio.run(gathered(tmp_path / "journal.db", story("1", "export KEY=abcdefghijklmnop-99\nrun"), cleaner))
    assert cleaner.text("refused: abcdefghijklmnop-99") == "refused: ***"


@pytest.mark.slow
def test_settings_that_do_not_fit_still_say_where_the_state_is(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORCHESTRATOR_STATE_DIR", raising=False)
    (tmp_path / "kept").mkdir()
    asyncio.run(gathered(tmp_path / "kept" / "journal.db", story("1"), Cleaner()))
    (tmp_path / "settings.yaml").write_text(f"state_dir: {tmp_path}/kept\nnonsense: 1\n")
    given = ("--config", str(tmp_path / "settings.yaml"), "--output", str(tmp_path / "b.tar.gz"))
    done = cli("support-bundle", *given, "--json")
    assert done.exit_code == 0, done.output
    missing = {entry["name"]: entry["missing"] for entry in json.loads(done.stdout)["contents"]}
    assert missing["journal/newest-facts.jsonl"] == ""
