import hypothesis.strategies as st
from hypothesis import given
from opentelemetry.propagate import extract
from opentelemetry.trace import get_current_span

from orchestrator.model.job import JobId, JobKey
from orchestrator.telemetry import ids

JOBS = st.builds(
    lambda source, platform, attempt: JobKey(source, platform, attempt).id,
    st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True),
    st.integers(1, 1000),
)


@given(JOBS)
def test_traceparent_is_read_by_opentelemetry_as_the_execute_span(job_id: JobId) -> None:
    span = get_current_span(extract({"traceparent": ids.traceparent(job_id)})).get_span_context()
    assert span.is_valid
    assert f"{span.trace_id:032x}" == ids.trace_id(job_id)
    assert f"{span.span_id:016x}" == ids.span_id(job_id, ids.EXECUTE)
    assert span.trace_flags.sampled


@given(JOBS, JOBS)
def test_ids_differ_exactly_when_what_they_name_differs(one: JobId, other: JobId) -> None:
    assert (ids.trace_id(one) == ids.trace_id(other)) == (one == other)
    names = {ids.span_id(job, name, ordinal) for job in (one, other) for name in "ab" for ordinal in (0, 1)}
    assert len(names) == (4 if one == other else 8)


def test_ids_are_the_same_in_every_release() -> None:
    job_id = JobId("dispatch.42.1")
    assert ids.trace_id(job_id) == "e419be8bf0bb31dd987a0f657a9c541a"
    assert ids.traceparent(job_id) == "00-e419be8bf0bb31dd987a0f657a9c541a-e74799bf0611e2fb-01"


@given(JOBS)
def test_own_traceparent_is_parsed(job_id: JobId) -> None:
    assert ids.parse_traceparent(ids.traceparent(job_id)) == (
        ids.trace_id(job_id),
        ids.span_id(job_id, ids.EXECUTE),
    )


def test_bad_traceparents_are_refused() -> None:
    good = ids.traceparent(JobId("dispatch.42.1"))
    bad = ["", good[:-1], good + "-x", good.upper(), "ff" + good[2:], "01" + good[2:], good.replace("-", "_")]
    bad += [f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'1' * 32}-{'0' * 16}-01", good + "\n", "\u0661" + good[1:]]
    assert [header for header in bad if ids.parse_traceparent(header) is not None] == []


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    found = ids.parse_traceparent(text)
    assert found is None or text[3:35] == found[0]
