"""The ledger: every run that was submitted from this machine, in SQLite, so that a restarted kernel finds it again."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from ezbatch import database
from ezbatch.backend import Attempt, JobReport, JobState
from ezbatch.errors import RunNotFoundError

__all__ = ["Ledger", "RunRecord"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs(
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    created REAL NOT NULL,
    finished REAL,
    cancelled TEXT,        -- why a person cancelled it
    retry_of TEXT,
    workflow TEXT NOT NULL,
    plan TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS runs_by_age ON runs(created);
CREATE TABLE IF NOT EXISTS jobs(
    run TEXT NOT NULL,
    name TEXT NOT NULL,
    job_id TEXT NOT NULL,
    report TEXT,           -- JSON: the last that was seen
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
"""


class RunRecord(NamedTuple):
    """A run as the ledger holds it, without its workflow and plan. Times are seconds since the epoch."""

    id: str
    name: str
    queue: str
    state: str
    created: float
    finished: float | None
    cancelled: str | None
    retry_of: str | None


_RECORD = ", ".join(RunRecord._fields)


class Ledger:
    """The ledger in a state directory. Several processes may use it at once.

    Parameters
    ----------
    directory : Path
        The state directory; made when the first run is written, readable by its owner only.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._connection: sqlite3.Connection | None = None
        self._process = os.getpid()

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None or self._process != os.getpid():
            self._connection = database.open_database(self.directory / "ledger.db", _SCHEMA)
            self._process = os.getpid()
        return self._connection

    def add(self, record: RunRecord, workflow: str, plan: str) -> bool:
        """Write the intent to submit a run; return False when the id is taken."""
        marks = ", ".join("?" * (len(record) + 2))
        with self._writing():
            try:
                self._db.execute(
                    f"INSERT INTO runs({_RECORD}, workflow, plan) VALUES ({marks})", (*record, workflow, plan)
                )
            except sqlite3.IntegrityError:
                return False
        return True

    def accepted(self, run_id: str, job_ids: Mapping[str, str]) -> None:
        """Write the ids of jobs that were accepted."""
        with self._writing():
            self._db.executemany(
                "INSERT OR REPLACE INTO jobs(run, name, job_id) VALUES (?, ?, ?)",
                [(run_id, name, job_id) for name, job_id in job_ids.items()],
            )

    def seen(self, run_id: str, reports: Iterable[JobReport]) -> None:
        """Write the last that was seen of jobs."""
        rows = [(_to_json(report), run_id, report.name) for report in reports]
        if rows:
            with self._writing():
                self._db.executemany("UPDATE jobs SET report = ? WHERE run = ? AND name = ?", rows)

    def update(
        self, run_id: str, *, state: str | None = None, finished: float | None = None, cancelled: str | None = None
    ) -> None:
        """Change what is known of a run; what is None stays."""
        with self._writing():
            self._db.execute(
                "UPDATE runs SET state = coalesce(?, state), finished = coalesce(?, finished),"
                " cancelled = coalesce(?, cancelled) WHERE id = ?",
                (state, finished, cancelled, run_id),
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with database.translated(self.directory / "ledger.db"), database.transaction(self._db):
            yield

    def _rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        if not (self.directory / "ledger.db").exists():
            return []
        with database.translated(self.directory / "ledger.db"):
            return self._db.execute(query, values).fetchall()

    def runs(self, limit: int = -1) -> list[RunRecord]:
        """Return the runs, newest first."""
        query = f"SELECT {_RECORD} FROM runs ORDER BY created DESC, rowid DESC LIMIT ?"
        return [RunRecord(*row) for row in self._rows(query, limit)]  # type: ignore[arg-type] # SQLite's columns

    def find(self, text: str) -> RunRecord:
        """Return the run that an id, a unique prefix of one, or ``@last`` names.

        Raises
        ------
        RunNotFoundError
            If there is none, or more than one.
        """
        if text == "@last":
            found = self.runs(1)
            if not found:
                message = "there is no run yet. Submit one: ezbatch run FILE"
                raise RunNotFoundError(message)
            return found[0]
        escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        query = f"SELECT {_RECORD} FROM runs WHERE id LIKE ? ESCAPE '\\' ORDER BY created DESC"
        found = [RunRecord(*row) for row in self._rows(query, f"{escaped}%")]  # type: ignore[arg-type] # SQLite's columns
        exact = [record for record in found if record.id == text]
        if exact or (text and len(found) == 1):
            return (exact or found)[0]
        if not found or not text:
            message = (
                f"no run has an id that begins with {text!r}. List them: ezbatch ls. One that another machine "
                "submitted is found by its whole id and its queue: EZBATCH_QUEUE=NAME, or queue= in Python"
            )
        else:
            shown = ", ".join(record.id for record in found[:5])
            message = f"{len(found)} runs have an id that begins with {text!r}: {shown}. Write more of it"
        raise RunNotFoundError(message)

    def workflow(self, run_id: str) -> str:
        """Return the JSON of a run's workflow."""
        return str(self._rows("SELECT workflow FROM runs WHERE id = ?", run_id)[0][0])

    def plan(self, run_id: str) -> str:
        """Return the JSON of a run's plan."""
        return str(self._rows("SELECT plan FROM runs WHERE id = ?", run_id)[0][0])

    def jobs(self, run_id: str) -> dict[str, tuple[str, JobReport | None]]:
        """Return the id and the last report of each job that was accepted."""
        rows = self._rows("SELECT name, job_id, report FROM jobs WHERE run = ?", run_id)
        return {str(name): (str(job_id), _from_json(str(text)) if text else None) for name, job_id, text in rows}

    def history(self, name: str) -> dict[str, list[float]]:
        """Return how many seconds each job of a workflow took when it succeeded, by its last attempt; newest first."""
        rows = self._rows(
            "SELECT jobs.name, jobs.report FROM jobs JOIN runs ON runs.id = jobs.run"
            " WHERE runs.name = ? AND jobs.report IS NOT NULL ORDER BY runs.created DESC LIMIT 10000",
            name,
        )
        found: dict[str, list[float]] = {}
        for job, text in rows:
            report = _from_json(str(text))
            if report.state is JobState.SUCCEEDED and report.started and report.stopped and report.children is None:
                found.setdefault(str(job), []).append((report.stopped - report.started).total_seconds())
        return found

    @contextlib.contextmanager
    def submitting(self, run_id: str) -> Iterator[None]:
        """Hold a lock while a run is being submitted: another process then sees whether the submitter still lives."""
        path = self._lock_path(run_id)
        with database.translated(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = _locked(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def is_submitting(self, run_id: str) -> bool:
        """Return whether a living process is submitting the run."""
        try:
            descriptor = os.open(self._lock_path(run_id), os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _lock_path(self, run_id: str) -> Path:
        return self.directory / "submitting" / f"{run_id}.lock"


def _locked(path: Path) -> int:
    """Return a descriptor of the file at the path that holds its lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # While this waited, the holder may have removed the file, and another may have made a new one.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


def now() -> float:
    """Return the time as the ledger keeps it: seconds since the epoch."""
    return time.time()


def _to_json(report: JobReport) -> str:
    return json.dumps(
        {
            "name": report.name,
            "job_id": report.job_id,
            "state": report.state.value,
            "attempts": [
                [a.number, _seconds(a.started), _seconds(a.stopped), a.exit_code, a.reason, a.log]
                for a in report.attempts
            ],
            "exit_code": report.exit_code,
            "reason": report.reason,
            "created": _seconds(report.created),
            "started": _seconds(report.started),
            "stopped": _seconds(report.stopped),
            "children": None if report.children is None else {s.value: n for s, n in report.children.items()},
            "cancelled": report.cancelled,
            "forgotten": report.forgotten,
        }
    )


def _from_json(text: str) -> JobReport:
    data = json.loads(text)
    data["state"] = JobState(data["state"])
    data["attempts"] = tuple(
        Attempt(number, as_time(started), as_time(stopped), code, *rest)
        for number, started, stopped, code, *rest in data["attempts"]
    )
    for name in ("created", "started", "stopped"):
        data[name] = as_time(data[name])
    if data["children"] is not None:
        data["children"] = {JobState(name): count for name, count in data["children"].items()}
    return JobReport(**data)


def _seconds(time_: datetime | None) -> float | None:
    return None if time_ is None else time_.timestamp()


def as_time(seconds: float | None) -> datetime | None:
    """Return a time in UTC from seconds since the epoch."""
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
