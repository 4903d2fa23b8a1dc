"""How a command ends: the exit codes, and the errors that carry one."""

from __future__ import annotations

from enum import IntEnum

from orchestrator.errors import GiveUpError


class ExitCode(IntEnum):
    """Exit codes of every command; 10 and above tell how a *job* ended, and only where a command waits for one."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    JOB_FAILED = 10
    JOB_DENIED = 11
    JOB_CANCELLED = 12
    JOB_ERROR = 13
    INTERRUPTED = 130


EXIT_CODE_MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done; where a command waits for a job: the job succeeded",
    ExitCode.FAILURE: "the command failed; standard error says why and what to do",
    ExitCode.USAGE: "wrong option, argument or job file",
    ExitCode.UNREACHABLE: "no daemon answers",
    ExitCode.REFUSED: "the daemon does not accept the caller's token, or the caller may not do this",
    ExitCode.JOB_FAILED: "the job failed: it ran, and ended with a code other than 0",
    ExitCode.JOB_DENIED: "policy did not allow the job",
    ExitCode.JOB_CANCELLED: "the job was cancelled",
    ExitCode.JOB_ERROR: "the job ended by an error of the machine or by a deadline",
    ExitCode.INTERRUPTED: "interrupted from the keyboard; a job that was followed goes on",
}
"""One line for each code; the reference page and a test read it."""

_JOB_EXITS = {
    "success": ExitCode.OK,
    "failure": ExitCode.JOB_FAILED,
    "denied": ExitCode.JOB_DENIED,
    "cancellation": ExitCode.JOB_CANCELLED,
    "error": ExitCode.JOB_ERROR,
    "timeout": ExitCode.JOB_ERROR,
}


def exit_for_result(result: str | None) -> ExitCode:
    """The exit code for a job's result; an unfinished job (None) and a word not known to us are errors."""
    return _JOB_EXITS.get(result or "", ExitCode.JOB_ERROR)


class CommandError(GiveUpError):
    """A command cannot be done. Shown as one line with its fix, and ends the program with `exit_code`."""

    exit_code = ExitCode.FAILURE
    reason = "command_failed"


class UsageError(CommandError):
    """What was typed, or the file it names, does not fit."""

    exit_code = ExitCode.USAGE
    reason = "usage"


class UnreachableError(CommandError):
    """No daemon answers, or it stopped answering. `sent` says whether the request may have reached it."""

    exit_code = ExitCode.UNREACHABLE
    reason = "daemon_unreachable"

    def __init__(self, message: str, *, fix: str = "", sent: bool = False) -> None:
        super().__init__(message, fix=fix)
        self.sent = sent


class AnswerError(CommandError):
    """The daemon answered with a problem: `status` is HTTP's, `reason` the problem's."""

    def __init__(
        self, message: str, *, status: int, reason: str, fix: str = "", retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message, reason=reason, fix=fix)
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        if status in (401, 403):
            self.exit_code = ExitCode.REFUSED
