import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog

from orchestrator.telemetry import ids
from orchestrator.telemetry.logging import configure
from orchestrator.testing.stories import offer

JOB = offer().key.id
SECRET = "s3cr3t-t0ken"


def mask(text: str) -> str:
    return text.replace(SECRET, "[masked]")


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        yield io.StringIO()
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()


def lines(out: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_about_a_job_carries_its_trace(out: io.StringIO) -> None:
    configure(stream=out)
    structlog.get_logger("room").info("runner.created", job_id=JOB, runner="r")
    (line,) = lines(out)
    assert line["event"] == "runner.created"
    assert line["level"] == "info"
    assert line["trace_id"] == ids.trace_id(JOB)
    assert line["timestamp"].endswith("Z")


def test_a_bound_job_reaches_every_line(out: io.StringIO) -> None:
    configure(stream=out)
    with structlog.contextvars.bound_contextvars(job_id=JOB):
        structlog.get_logger().info("one")
        logging.getLogger("library").warning("two %s", "words")
    logging.getLogger("library").warning("three")
    one, two, three = lines(out)
    assert one["trace_id"] == two["trace_id"] == ids.trace_id(JOB)
    assert (two["event"], two["logger"]) == ("two words", "library")
    assert "trace_id" not in three


def raise_secret() -> None:
    inner = {"password": SECRET}
    raise ValueError(f"bad {inner['password']}")


def test_no_secret_gets_through_any_way(out: io.StringIO) -> None:
    configure(redact=mask, stream=out)
    log = structlog.get_logger()
    nested = {"a": [SECRET, {SECRET: (SECRET,)}]}
    log.info(SECRET, plain=SECRET, nested=nested, raw=SECRET.encode(), thrown=ValueError(SECRET))
    logging.getLogger("library").error("%s and %s", SECRET, {"k": SECRET})
    try:
        raise_secret()
    except ValueError:
        log.exception("broke")
        logging.getLogger("library").exception("broke too")
    assert SECRET not in out.getvalue()
    assert out.getvalue().count("[masked]") >= 10
    assert "ValueError" in lines(out)[2]["exception"]
    assert "Traceback" in lines(out)[3]["exception"]
    assert "inner" not in lines(out)[2]["exception"].replace("inner['password']", "")


def test_the_console_hides_them_too(out: io.StringIO) -> None:
    configure(format="console", redact=mask, stream=out)
    try:
        raise_secret()
    except ValueError:
        structlog.get_logger().exception("broke", token=SECRET, job_id=JOB)
    assert SECRET not in out.getvalue()
    assert ids.trace_id(JOB) in out.getvalue()


def test_a_line_stays_one_line_and_bounded(out: io.StringIO) -> None:
    configure(stream=out)
    structlog.get_logger().info("a\nb\u2028", text="x" * 100_000, number=float("nan"))
    assert len(out.getvalue().splitlines()) == 1
    assert len(out.getvalue()) < 10_000


def test_levels_and_noise(out: io.StringIO) -> None:
    configure(level="info", stream=out)
    structlog.get_logger().debug("hidden")
    logging.getLogger("aiohttp.noise").info("hidden")
    logging.getLogger("aiohttp.noise").error("shown")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("careful", UserWarning, stacklevel=1)
    assert [line["level"] for line in lines(out)] == ["error", "warning"]


def test_configured_twice_logs_once(out: io.StringIO) -> None:
    configure(stream=io.StringIO())
    configure(level="debug", stream=out)
    structlog.get_logger().debug("once")
    assert len(lines(out)) == 1
