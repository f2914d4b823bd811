"""Logs read attempt after attempt, as far as they have got."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator

from ezbatch.backend import Backend, JobReport, LogEvent
from ezbatch.errors import LogMissingError

__all__ = ["LogReader", "Source"]

log = logging.getLogger(__name__)

#: Reports on one job, or one child of an array, each time it is called.
Source = Callable[[], JobReport]


class LogReader:
    """Reads one job's log, attempt after attempt, from where it stopped.

    Parameters
    ----------
    backend : Backend
        Where the job runs.
    run_id : str
        The job's run.
    source : callable
        Reports on the job.
    alone : bool
        Whether this is the only log that is read: of several, one that is missing does not hide the others.
    """

    def __init__(self, backend: Backend, run_id: str, source: Source, *, alone: bool) -> None:
        self.backend = backend
        self.run_id = run_id
        self.alone = alone
        self.report = source
        self.done = 0  # attempts read to their end
        self.cursor: object = None
        self.came = False  # whether there was a line
        self.missing: LogMissingError | None = None

    @property
    def over(self) -> bool:
        """Whether the job had ended when it was last looked at: what is read after that is all there is."""
        return self.report().over

    def new(self) -> Iterator[LogEvent]:
        """Yield what has come since the last time.

        Raises
        ------
        LogMissingError
            If this is the only log, and it is not there.
        """
        report = self.report()
        for attempt in report.attempts:
            if attempt.number <= self.done:
                continue
            yield from self._read(report, attempt.number)
            if attempt.stopped is None and not report.over:
                return
            self.done, self.cursor = attempt.number, None
        self._tell_missing()

    def last(self, count: int) -> list[LogEvent]:
        """Return the last so many lines that are there now; :meth:`new` goes on after them.

        Raises
        ------
        LogMissingError
            If this is the only log, and it is not there.
        """
        report = self.report()
        found: deque[LogEvent] = deque()
        cursors: list[object] = []
        for attempt in reversed(report.attempts):
            self.cursor = None
            left = count - len(found)
            found.extendleft(reversed(deque(self._read(report, attempt.number, left), maxlen=left)))
            cursors.append(self.cursor)
            if len(found) == count:
                break
        if report.attempts:
            newest = report.attempts[-1]
            goes_on = newest.stopped is None and not report.over
            self.done, self.cursor = (newest.number - 1, cursors[0]) if goes_on else (newest.number, None)
        self._tell_missing()
        return list(found)

    def _read(self, report: JobReport, attempt: int, last: int | None = None) -> Iterator[LogEvent]:
        """Yield what is there of an attempt after the cursor."""
        while True:
            try:
                events, self.cursor = self.backend.log(self.run_id, report, attempt, self.cursor, last)
            except LogMissingError as error:
                self.missing, events = error, []
            self.came = self.came or bool(events)
            yield from events
            if not events:
                return

    def _tell_missing(self) -> None:
        missing, self.missing = self.missing, None
        if missing is not None and self.alone and not self.came:
            raise missing
        if missing is not None:
            log.warning("%s", missing)
