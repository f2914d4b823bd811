"""A job's log as a view shows it: bounded, without escape sequences, new lines as they come."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

from ezbatch.backend import JobReport, LogEvent

if TYPE_CHECKING:
    from ezbatch.run import EZBatchRun

__all__ = ["LogFeed", "plain"]

#: Lines and characters that are kept; a page holds no more either.
LINES = 5000
CHARACTERS = 2_000_000
#: Characters of a line that are shown.
WIDTH = 2000
#: Pages read at one look, so that a long log does not keep other views waiting.
PAGES = 20

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours and cursor movements
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # titles, links and other strings
    r"|\x1b[ -/]*[0-~]?"
)
_UNSAFE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def plain(line: str) -> str:
    """Return a line as a terminal would leave it: without escapes, what a carriage return overwrote gone, cut."""
    cut = len(line) - WIDTH * 4
    text = _ESCAPES.sub("", line[: WIDTH * 4])
    text = text.rstrip("\r").rpartition("\r")[2]
    text = _UNSAFE.sub("\ufffd", text)
    cut = max(cut, 0) + max(len(text) - WIDTH, 0)
    return f"{text[:WIDTH]} … {cut:,} more characters" if cut else text


class LogFeed:
    """Reads one attempt of a job, page by page, from where it stopped.

    Parameters
    ----------
    run : EZBatchRun
        The run.
    attempt : int
        The attempt.
    """

    def __init__(self, run: EZBatchRun, attempt: int) -> None:
        self.run = run
        self.attempt = attempt
        self.kept: deque[tuple[float, str]] = deque(maxlen=LINES)
        self.total = 0
        self.complete = False
        self._size = 0
        self._cursor: object = None

    def read(self, report: JobReport) -> list[tuple[float, str]]:
        """Return the lines that are new, of which only the last ones where there are more than are kept."""
        if self.complete:
            return []
        stopped = report.state.terminal or any(a.number == self.attempt and a.stopped for a in report.attempts)
        new: deque[tuple[float, str]] = deque(maxlen=LINES)
        for _page in range(PAGES):
            events: list[LogEvent]
            events, self._cursor = self.run.log_page(report, self.attempt, self._cursor)
            if not events:
                self.complete = stopped
                break
            self.total += len(events)
            new.extend((round(event.time.timestamp(), 3), plain(event.message)) for event in events[-LINES:])
        for line in new:
            if len(self.kept) == LINES:
                self._size -= len(self.kept[0][1])
            self.kept.append(line)
            self._size += len(line[1])
        while self._size > CHARACTERS:
            self._size -= len(self.kept.popleft()[1])
        return list(new)
