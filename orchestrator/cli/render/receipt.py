"""A receipt: what it proves, then what was given and how each of it ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.render.verdicts import heading
from orchestrator.cli.render.words import between, plain, size
from orchestrator.evidence.receipts.document import Receipt, TokenPart
from orchestrator.evidence.receipts.judging import Finding


def receipt_detail(receipt: Receipt, digest: str, findings: Sequence[Finding], *, by_daemon: bool) -> Group:
    """A receipt whose signature holds. `by_daemon`: the key that it was checked with came from the daemon itself."""
    trust = "the daemon's own key; keep it elsewhere and name it with --key" if by_daemon else "the key named"
    parts: list[RenderableType] = [
        Text.assemble("Receipt of ", (plain(receipt.job.id), "bold"), f"  {plain(digest)}"),
        Text(f"  the signature holds, by {trust}", "green"),
    ]
    for finding in findings:
        mark, style = ("holds", "green") if finding.holds else ("BROKEN", "bold red")
        parts.append(Text.assemble("  ", (f"{finding.promise} {mark:<7}", style), plain(finding.text)))
    for title, table in (("Job", _job(receipt)), ("Runner", _runner(receipt)), ("Access", _access(receipt))):
        parts += _section(title, table)
    parts += _section("Credentials", _tokens(receipt))
    parts += _section("Decisions", _decisions(receipt))
    parts += _section("Egress", _egress(receipt))
    parts += _section("Alarms", [(one.alarm, f"{one.first}, {one.count} times") for one in receipt.alarms])
    return Group(*parts)


Lines = Iterable[tuple[str, str]]


def _section(title: str, lines: Lines) -> list[RenderableType]:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines:
        if value:
            table.add_row(f"  {plain(name)}", Text(plain(value)))
    return [Text(), heading(title), table] if table.row_count else []


def _job(receipt: Receipt) -> Lines:
    job, outcome, times, journal = receipt.job, receipt.outcome, receipt.times, receipt.journal
    code = "" if outcome.exit_code is None else f", exit code {outcome.exit_code}"
    yield "outcome", f"{outcome.result} ({outcome.reason}{code})"
    yield "cancelled by", outcome.cancelled_by
    yield "pool", job.pool
    yield "caller", job.caller
    yield "platform's job", job.platform_key
    yield "trace", job.trace_id
    yield "offered", times.offered
    yield "admitted", times.admitted
    yield "bound", times.bound
    yield "named", times.named
    yield "ended", times.ended
    yield "sealed", f"{times.sealed}  {between(times.ended, times.sealed)} after the end"
    yield "facts", f"{journal.facts}, numbers {journal.first_seq} to {journal.last_seq} of the journal"
    restarts = f", {receipt.daemon.restarts} restarts" if receipt.daemon.restarts else ""
    yield "daemon", f"{receipt.daemon.url}, version {receipt.daemon.version}{restarts}"
    if receipt.log is not None:
        dropped = f", {size(receipt.log.bytes_dropped)} dropped" if receipt.log.bytes_dropped else ""
        yield "log", f"{size(receipt.log.bytes_kept)} kept{dropped}"
    for digest in receipt.artifacts:
        yield "artifact", digest
    for attestation in receipt.attestations:
        yield "attestation", attestation
    for summary in receipt.summaries:
        yield "let through", f"{summary.artifact} into {summary.environment}, summary {summary.digest}"


def _runner(receipt: Receipt) -> Lines:
    runner = receipt.runner
    if runner is None:
        return
    yield "name", f"{runner.name} ({runner.backend})"
    for use in runner.uses:
        what = f"had the work since {use.bound}" if use.bound else "never had the work"
        gone = f", vanished {use.vanished}" if use.vanished else ""
        yield "uid", f"{use.uid}  created {use.created or 'unseen'}, {what}{gone}"
    yield "deletion accepted", runner.deletion_accepted
    yield "seen to be gone", f"{runner.absent} by {runner.seen_by}"


def _access(receipt: Receipt) -> Lines:
    for one in receipt.access:
        yield one.what, one.how
    if receipt.refused is not None:
        yield "credentials", f"refused since {receipt.refused.since}, looked at again {receipt.refused.checked}"


def _tokens(receipt: Receipt) -> Lines:
    for token in receipt.tokens:
        yield token.audience, _token(token)
    for more in receipt.more_tokens:
        yield more.audience, f"{more.count} more ({more.kind}), expire by {more.expire}, sessions: {more.sessions_end}"
    for reason, count in receipt.token_refusals.items():
        yield "refused", f"{count} times: {reason}"


def _token(token: TokenPart) -> str:
    grant = " ".join(part for part in (token.role, token.rule and f"by {token.rule}") if part)
    end = f"revoked {token.revoked}" if token.revoked else f"expires {token.expires}, sessions: {token.session_ends}"
    return "  ".join(part for part in (token.jti[:16], token.kind, grant, end) if part)


def _decisions(receipt: Receipt) -> Lines:
    for one in receipt.decisions:
        about = f" for {one.audience}" if one.audience else ""
        names = ", ".join(name[:19] for name in one.exceptions)
        by = f"  by exception {names}" if names else ""
        yield one.verdict, f"{one.stage}{about}  {one.id}  input {one.input[:19]} bundle {one.bundle[:19]}{by}"
    for word, count in receipt.more_decisions.items():
        yield "further", f"{count} times {word}"


def _egress(receipt: Receipt) -> Lines:
    if receipt.egress is None:
        return
    for rule in receipt.egress.allowed:
        traffic = f"{size(rule.bytes_up)} up, {size(rule.bytes_down)} down"
        yield "allowed", f"{rule.rule}  {rule.connections} connections, {traffic}"
    for reason, count in receipt.egress.refused.items():
        yield "refused", f"{count} times: {reason}"
    if receipt.egress.probes:
        yield "probes", f"{receipt.egress.probes} of the refused are the agent's own proofs"
