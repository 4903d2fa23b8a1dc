"""What the API says, as rich renderables. Pure: nothing is fetched, printed or timed here.

Every text comes from jobs and callers and is untrusted: it is shown without control characters and never read as
markup.
"""

from orchestrator.cli.render.jobs import job_detail, job_headline, job_table
from orchestrator.cli.render.keys import key_table
from orchestrator.cli.render.sources import failing, source_calls, source_failures, source_lines, source_table
from orchestrator.cli.render.verdicts import artifacts, decisions, egress_verdicts, tokens
from orchestrator.cli.render.waterfall import waterfall
from orchestrator.cli.render.words import age, duration, plain, short_id

__all__ = [
    "age",
    "artifacts",
    "decisions",
    "duration",
    "egress_verdicts",
    "failing",
    "job_detail",
    "job_headline",
    "job_table",
    "key_table",
    "plain",
    "short_id",
    "source_calls",
    "source_failures",
    "source_lines",
    "source_table",
    "tokens",
    "waterfall",
]
