"""What every view says of a job: its sign, its times, why it is where it is. Pure, and safe to be saved."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime

from ezbatch.backend import JobReport, JobState
from ezbatch.explain import Explanation, explain
from ezbatch.planning import duration_text
from ezbatch.progress import glyph

__all__ = [
    "COLOURS",
    "Row",
    "brief",
    "clean",
    "counts_text",
    "masked",
    "rows",
    "run_sign",
    "shorten",
    "sign",
    "times",
    "told",
    "word",
]

#: Okabe and Ito's colours, which colour-blind readers can tell apart; what needs attention comes first.
COLOURS = {
    "FAILED": "#d55e00",
    "BLOCKED": "#cc79a7",
    "RUNNING": "#0072b2",
    "STARTING": "#56b4e9",
    "RUNNABLE": "#f0e442",
    "PENDING": "#bbbbbb",
    "SUBMITTED": "#e8e8e8",
    "SUCCEEDED": "#009e73",
}
_RANK = {state: rank for rank, state in enumerate(COLOURS)}
#: A run has states that no job has; each wears the badge of the job state nearest to it.
_RUN_SIGNS = {"SUBMITTING": "SUBMITTED", "INTERRUPTED": "RUNNABLE", "CANCELLED": "BLOCKED"}
#: Characters that XML cannot hold, and those that turn the direction of the text after them.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_ACCOUNT = re.compile(r"(?<=:)\d{12}(?=:)|(?<![\w.])\d{12}(?=\.dkr\.ecr\.)")
_SIGNED = re.compile(r"(https?://[^\s?\"'<>]+)\?[^\s\"'<>]*(?:X-Amz-|Signature=)[^\s\"'<>]*", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Row:
    """A job as a table shows it.

    Parameters
    ----------
    name : str
        The job.
    state : str
        Its state.
    size : int, optional
        The number of an array's children.
    attempt, attempts : int
        The last attempt's number, 0 before the first, and how many there may be.
    queued, started, stopped : float, optional
        Seconds since the epoch: since when nothing but room was missing, when the last attempt began, when it ended.
    why : str
        Why the job is where it is, or nothing.
    remedy : str
        What to do about it, or nothing.
    brief : str
        The same in as few words as fit below a node's name.
    counts : mapping of str to int
        Of an array: how many children are in each state.
    """

    name: str
    state: str
    size: int | None = None
    attempt: int = 0
    attempts: int = 1
    queued: float | None = None
    started: float | None = None
    stopped: float | None = None
    why: str = ""
    remedy: str = ""
    brief: str = ""
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def queued_text(self) -> str:
        """How long it waited for room; nothing while it still does."""
        if self.queued is None or self.started is None:
            return ""
        return duration_text(max(self.started - self.queued, 0))

    @property
    def ran_text(self) -> str:
        """How long its last attempt took; nothing while it runs."""
        if self.started is None or self.stopped is None:
            return ""
        return duration_text(max(self.stopped - self.started, 0))

    @property
    def attempt_text(self) -> str:
        """The attempt, such as ``2 of 3``."""
        return f"{self.attempt} of {max(self.attempts, self.attempt)}" if self.attempt else ""

    @property
    def urgency(self) -> int:
        """Where it stands among others: what needs attention comes first."""
        return _RANK.get(self.state, len(_RANK))


def clean(text: object, limit: int = 4000) -> str:
    """Return a text on one line, without what no picture or page can hold, cut to a length."""
    return _UNSAFE.sub("\ufffd", re.sub(r"[\t\r\n]+", " ", str(text)[:limit]))


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text without account ids, presigned URLs and the secrets given, so that a notebook can be shared."""
    text = _ACCOUNT.sub("************", text)
    text = _SIGNED.sub(r"\1?…", text)
    for secret in secrets:
        text = text.replace(secret, "•••")
    return text


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else unicodedata.category(c) != "Mn" for c in text)


def shorten(text: str, width: int) -> str:
    """Shorten a text in its middle, where names of files and samples differ least."""
    if columns(text) <= width:
        return text
    left = max(width - 1, 1)
    head = _fitting(text, (left + 1) // 2)
    tail = _fitting(text[::-1], left - (left + 1) // 2)[::-1]
    return f"{head}…{tail}"


def _fitting(text: str, room: int) -> str:
    taken = 0
    for i, char in enumerate(text):
        taken += columns(char)
        if taken > room:
            return text[:i]
    return text


def times(size: int | None) -> str:
    """Return what follows an array's name, nothing for another job."""
    return "" if size is None else f" \N{MULTIPLICATION SIGN}{size:,}"


def sign(state: str) -> str:
    """Return a state's glyph, kept from turning into a picture by some systems' fonts."""
    return f"{glyph(state)}\ufe0e"


def run_sign(state: str) -> str:
    """Return the job state whose badge a run's state wears."""
    return _RUN_SIGNS.get(state, state)


def word(state: str) -> str:
    """Return a state as people write it."""
    return state.capitalize()


def counts_text(counts: Mapping[str, int]) -> str:
    """Return counts in words, such as ``371 succeeded, 64 running``."""
    ordered = sorted((item for item in counts.items() if item[1]), key=lambda item: _RANK.get(item[0], 9))
    return ", ".join(f"{count:,} {state.lower()}" for state, count in ordered)


def rows(
    reports: Mapping[str, JobReport],
    parents: Mapping[str, Sequence[str]],
    sizes: Mapping[str, int | None],
    attempts: Mapping[str, int],
    copying: Container[str] = (),
) -> dict[str, Row]:
    """Return a row for each job, in the order of the reports.

    Parameters
    ----------
    reports : mapping of str to JobReport
        What was last seen.
    parents : mapping of str to sequence of str
        What each job depends on.
    sizes : mapping of str to int
        The number of children of those that are arrays.
    attempts : mapping of str to int
        How many attempts each may have.
    copying : container of str
        The jobs around whose commands ezbatch's script copies data: their exit codes may be the script's own.
    """
    made = {}
    for name, report in reports.items():
        above = tuple(parents.get(name, ()))
        why, remedy = _why(report, above, reports, copies=name in copying)
        made[name] = Row(
            name=name,
            state=report.state.value,
            size=sizes.get(name),
            attempt=report.attempt,
            attempts=attempts.get(name, 1),
            queued=_queued(report, above, reports),
            started=_seconds(report.started),
            stopped=_seconds(report.stopped),
            why=masked(clean(why, 600)),
            remedy=masked(clean(remedy, 600)),
            brief=masked(clean(brief(report, above, reports), 200)),
            counts={} if report.children is None else {state.value: n for state, n in report.children.items() if n},
        )
    return made


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else round(time.timestamp(), 3)


def _queued(report: JobReport, above: Sequence[str], reports: Mapping[str, JobReport]) -> float | None:
    """Return since when only room was missing: the job was there, and its parents had succeeded."""
    if report.created is None or report.state in (JobState.SUBMITTED, JobState.PENDING, JobState.BLOCKED):
        return None
    ends = [reports[name].stopped for name in above if name in reports]
    return _seconds(max([report.created, *(end for end in ends if end is not None)]))


def _waits(above: Sequence[str], reports: Mapping[str, JobReport]) -> list[str]:
    return [name for name in above if name in reports and reports[name].state is not JobState.SUCCEEDED]


def _culprit(report: JobReport, above: Sequence[str], reports: Mapping[str, JobReport]) -> str:
    failed = [name for name in above if name in reports and reports[name].state in (JobState.FAILED, JobState.BLOCKED)]
    match = re.search(r"Dependent Job failed: (.+)", report.reason)
    return failed[0] if failed else match[1] if match else "a job it depends on"


def told(found: Explanation) -> str:
    """Return cause and evidence as a table tells them."""
    return f"{found.cause}: {found.evidence}" if found.evidence else found.cause


def _why(report: JobReport, above: Sequence[str], reports: Mapping[str, JobReport], *, copies: bool) -> tuple[str, str]:
    """Return why a job is where it is, and what to do about it."""
    state = report.state
    if report.cancelled and state is JobState.FAILED and not report.children:
        return report.reason or "cancelled", ""
    if state is JobState.FAILED or (state is JobState.RUNNABLE and report.reason):
        found = explain(report, reports, {report.name: tuple(above)}, copies=copies)
        return _counts(report) or told(found), found.remedy
    return _counts(report) or _standing(report, above, reports), ""


def _counts(report: JobReport) -> str:
    if not report.children or report.state is JobState.SUCCEEDED:
        return ""
    return counts_text({child.value: count for child, count in report.children.items()})


def _standing(report: JobReport, above: Sequence[str], reports: Mapping[str, JobReport]) -> str:
    """Return what a job waits for, or how its attempt before this one ended."""
    state = report.state
    if state is JobState.BLOCKED:
        return f"{_culprit(report, above, reports)} did not succeed"
    if state is JobState.RUNNABLE:
        return "waits for room"
    if state in (JobState.PENDING, JobState.SUBMITTED):
        waits = _waits(above, reports)
        more = f" and {len(waits) - 3:,} more" if len(waits) > 3 else ""  # noqa: PLR2004 - what fits a line
        return f"waits for {', '.join(waits[:3])}{more}" if waits else ""
    earlier = [a for a in report.attempts[:-1] if a.reason or a.exit_code]
    if earlier:
        last = earlier[-1]
        return f"attempt {last.number}: {last.reason or f'exit code {last.exit_code}'}"
    return ""


def _done(counts: Mapping[JobState, int]) -> str:
    return f"{counts.get(JobState.SUCCEEDED, 0):,}/{sum(counts.values()):,}"


def brief(report: JobReport, above: Sequence[str], reports: Mapping[str, JobReport]) -> str:
    """Return why a job is where it is, in the few words that fit below a node's name."""
    state = report.state
    said = ""
    if report.children:
        said = _done(report.children)
    elif state is JobState.FAILED:
        said = _failure(report, reports)
    elif state is JobState.BLOCKED:
        said = f"by {_culprit(report, above, reports)}"
    elif state in (JobState.PENDING, JobState.SUBMITTED):
        waits = _waits(above, reports)
        if waits:
            said = f"waits for {waits[0] if len(waits) == 1 else f'{len(waits):,} jobs'}"
    elif state is JobState.RUNNABLE:
        said = "waits for room"
    elif state is JobState.SUCCEEDED and report.started and report.stopped:
        said = duration_text(max((report.stopped - report.started).total_seconds(), 0))
    return said


def _failure(report: JobReport, reports: Mapping[str, JobReport]) -> str:
    if report.cancelled:
        return "cancelled"
    if report.exit_code and "OutOfMemory" not in report.reason and "timeout" not in report.reason:
        return f"exit {report.exit_code}"
    return explain(report, reports, {}).cause.removeprefix("It ").removeprefix("Its ")
