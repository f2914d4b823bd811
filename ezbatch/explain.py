"""Why a job is where it is: cause, evidence, remedy. Pure: from reports alone."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping

from ezbatch import preloader
from ezbatch.backend import JobReport, JobState

__all__ = ["Explanation", "explain"]


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Why a job is where it is.

    Parameters
    ----------
    cause : str
        In a few words.
    evidence : str
        What was seen that says so.
    remedy : str
        What to do, or nothing where there is nothing to do.
    """

    cause: str
    evidence: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        parts = [self.cause]
        if self.evidence:
            parts.append(f"({self.evidence})")
        return " ".join(parts) + (f". {self.remedy}." if self.remedy else ".")


_Row = tuple[str, str, str]

#: What stands in a reason -> the cause and the remedy. The first that fits counts: a timeout, too, ends with 137.
_REASONS: tuple[_Row, ...] = (
    (r"attempt duration exceeded timeout", "It took longer than its timeout", "Raise timeout, or make the job smaller"),
    (r"^cancelled|^Terminated|^Cancelled", "It was cancelled", "Run it again by retry, if that was not meant"),
    (r"OutOfMemory", "It ran out of memory", "Raise memory"),
    (
        r"CannotPullContainer|Unable to find image|pull access denied|manifest unknown",
        "Its image cannot be pulled",
        "Check the image's name and tag, and the right to pull it",
    ),
    (
        r"CannotStartContainer",
        "Its container could not be started",
        "Read the message; the image, its command or the container runtime is at fault",
    ),
    (r"could not be started.*No space left", "The disk is full", "Free some space, then retry"),
    (r"could not be started", "It could not be started", "Mend what the message says, then retry"),
)


def _exit(code: int, *, copies: bool) -> tuple[str, str] | None:
    if copies and code in preloader.EXIT_CODES:
        cause, _colon, remedy = preloader.EXIT_CODES[code].rstrip(".").partition(": ")
        return cause, remedy[:1].upper() + remedy[1:]
    known = {
        126: (
            "Its command is not executable",
            "Check the command's permissions, and that it fits the machine's architecture",
        ),
        127: ("Its command was not found", "Check the command's spelling, and that the image has it"),
        137: ("It was killed (signal 9)", "Most often memory ran out: raise memory, and look at the log's end"),
        143: ("It was asked to end (signal 15)", "Something outside the job ended it"),
    }
    return known.get(code)


def explain(
    report: JobReport,
    reports: Mapping[str, JobReport],
    parents: Mapping[str, tuple[str, ...]],
    *,
    copies: bool = True,
) -> Explanation:
    """Say why a job is where it is.

    Parameters
    ----------
    report : JobReport
        The job.
    reports : mapping of str to JobReport
        All jobs of its run.
    parents : mapping of str to tuple of str
        What each job depends on.
    copies : bool
        Whether ezbatch's script copies data around the job's command. Only then its exit codes mean what it says.

    Returns
    -------
    Explanation
        It never guesses: what is not known is said to be unknown.
    """
    state = report.state
    if state is JobState.SUCCEEDED:
        return Explanation("It succeeded")
    if state is JobState.BLOCKED:
        return _blocked(report)
    if state is JobState.FAILED:
        return _failed(report, copies=copies)
    if state in (JobState.PENDING, JobState.SUBMITTED):
        waits = [name for name in parents.get(report.name, ()) if name in reports and not reports[name].state.terminal]
        if waits:
            shown = ", ".join(f"{name} ({reports[name].state.value.lower()})" for name in waits[:5])
            more = f" and {len(waits) - 5} more" if len(waits) > 5 else ""  # noqa: PLR2004 - what fits a line
            return Explanation("It waits for other jobs", shown + more)
        return Explanation("It was accepted and is about to be looked at")
    if state is JobState.RUNNABLE:
        return Explanation("It waits for room", report.reason or "every job it depends on has succeeded")
    if report.children:
        shown = ", ".join(f"{count:,} {child.value.lower()}" for child, count in report.children.items() if count)
        return Explanation("Its children run", shown)
    return Explanation(
        "It runs" if state is JobState.RUNNING else "It is starting", f"attempt {max(report.attempt, 1)}"
    )


def _blocked(report: JobReport) -> Explanation:
    match = re.search(r"Dependent Job failed: (.+)", report.reason)
    culprit = match[1] if match else "a job it depends on"
    return Explanation(
        f"It cannot start: {culprit} did not succeed", report.reason, f"Mend {culprit}, then retry: both run again"
    )


def _failed(report: JobReport, *, copies: bool) -> Explanation:
    rows: tuple[Callable[[], Explanation | None], ...] = (
        lambda: _by_reason(report),
        lambda: _by_children(report),
        lambda: _by_code(report, copies=copies),
    )
    for row in rows:
        found = row()
        if found is not None:
            return found
    return Explanation(
        "It failed for a reason that is not known",
        f"reason {report.reason!r}, exit code {report.exit_code}",
        "Read its log",
    )


def _by_reason(report: JobReport) -> Explanation | None:
    if report.children is not None:
        return None
    for pattern, cause, remedy in _REASONS:
        if re.search(pattern, report.reason):
            code = f", exit code {report.exit_code}" if report.exit_code is not None else ""
            return Explanation(cause, f"{report.reason}{code}", remedy)
    return None


def _by_children(report: JobReport) -> Explanation | None:
    if report.children is None:
        return None
    cause = "It was cancelled" if report.cancelled else "Some of its children failed"
    return Explanation(
        cause, report.reason, f"Look at one: logs {report.name}:INDEX; a retry runs only those that failed"
    )


def _by_code(report: JobReport, *, copies: bool) -> Explanation | None:
    code = report.exit_code
    if not code:
        return None
    known = _exit(code, copies=copies and report.reason != f"exit code {code}")
    if known is not None:
        return Explanation(known[0], report.reason or f"exit code {code}", known[1])
    return Explanation(
        "Its command failed", f"exit code {code}", "Read its log; the program itself says what was wrong"
    )
