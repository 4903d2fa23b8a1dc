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


_KEY = "-----BEGIN PRIVATE KEY-----\nvq7MIIEvQIBADAN\nvq7BgkqhkiG9w0B\n-----END PRIVATE KEY-----"

LEAKS = [
    _KEY,
    "Cookie: session=vq7abcdef1234; theme=dark",
    "set-cookie: sid=vq7Zm9vYmFyYmF6; Path=/",
    "X-Api-Key: vq70123456789abcdef",
    "Proxy-Authorization: Digest username=vq7, response=vq7",
    "PRIVATE-TOKEN: vq7shortish1",
    "password=vq7hunter",
    "DB_PASSWORD: 'vq7hunter'",
    '{"client_secret": "vq7zzzzyyyy1234"}',
    '{\\"refresh_token\\": \\"vq7zzzzyyyy1234\\"}',
    "curl https://h.example/hook?token=vq7abcdef123&x=1",
    "https://acct.example/c?sv=2020&sig=vq7abc1%2Fhijkl%3D",
    "https://bucket.example/o?X-Amz-Signature=vq7abc1def&X-Amz-Credential=vq7AB12CD",
    "https://hooks.slack.com/services/T000/B000/vq7XXXXXXXXXXX",
    "https://discord.com/api/webhooks/123/vq7-abcdefgh",
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0vq7.c2lnvq7",
    "AccountName=a;AccountKey=vq7Abcdefghij1==;EndpointSuffix=x",
    "env: {AWS_SESSION_TOKEN: vq7Abc1defgh}",
    "xoxb-" + "123456789012-vq7abcdefghijkl",
    "sk_" + "live_vq7abcdefghijklmnop1234",
    "AIza" + "vq7-1234567890abcdefghijklmnopqrstuA",
    "npm_" + "vq7defghijklmnopqrstuvwxyz0123456789",
    "pypi-" + "vq7IcHlwaS5vcmcCJDAxMjM0NTY3LTg5YWI",
    "hf_" + "vq7defghijklmnopqrstuvwxyzABCDEFGH",
    "dckr_pat_" + "vq7defghijklmnopqrstuv",
]


@pytest.mark.parametrize("told", LEAKS)
def test_what_is_secret_by_its_name_or_look_is_masked_wherever_a_careless_text_has_it(told: str) -> None:
    """Nobody told the cleaner of these: no file, no variable and no job has them."""
    cleaner = Cleaner()
    nested = {"message": told, "list": [{"detail": f"it said {told}"}], "as text": json.dumps({"inner": told})}
    shown = [cleaner.text(f"2026-01-01 error {told}"), json.dumps(cleaner.document(nested))]
    shown += [cleaner.text(json.dumps({"event": "refused", "detail": told}))]
    assert [text for text in shown if "vq7" in text] == []


def test_a_field_that_is_named_after_a_secret_keeps_no_value() -> None:
    given = {
        "password": "vq7",
        "Authorization": "token vq7",
        "headers": {"set-cookie": "a=vq7"},
        "api_key": "vq7abcde1",
    }
    assert "vq7" not in json.dumps(Cleaner().document(given))


def test_what_somebody_who_helps_needs_stays() -> None:
    harmless = {
        "secret": "registry-key",
        "reason": "token: signature_invalid",
        "kid": "Kx3vJ0lqv8Jr1M0hQbYkT7m2c9w5tZsE4dFgUaLnPqo",
        "line": 'orchestrator_token_exchanges_total{audience="sts.amazonaws.com"} 5.0',
        "detail": "secret_without_value: its file is missing; code=exit_nonzero",
        "words": "AIza, xox-ray, npm_config, pypi-server, risk_test_of_something_else_entirely",
        "digest": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    }
    assert Cleaner().document(harmless) == harmless


def test_looking_for_shapes_takes_no_long_time_whatever_the_text_is() -> None:
    cleaner = Cleaner()
    begun = time.process_time()
    for text in (
        "a-" * 50_000,
        "token" * 20_000,
        "password" + "='" * 40_000,
        "token" + " " * 80_000 + ":",
        "=" * 90_000,
    ):
        cleaner.text(text)
    assert time.process_time() - begun < 2


def test_a_text_is_cut_between_lines_so_that_no_half_of_a_secret_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MAX_DOCUMENT_BYTES", 40)
    cleaner = Cleaner()
    cleaner.learn(SECRET)
    bundle = bundles.Bundle(cleaner)
    bundle.add_text("m.txt", "metrics", lambda: f"{SECRET}\n{'x' * 4}{SECRET}\nmore\n")
    assert b"vq7" not in bundle._contents["m.txt"]
    assert bundle._contents["m.txt"].startswith(b"***\nxxxx***")
