"""The local engine as a backend: adds jobs to its database, reads what became of them, starts it when needed."""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from ezbatch import database, spec
from ezbatch.backend import Attempt, JobReport, JobState, LogEvent, Queue, QueueFacts, array_state
from ezbatch.errors import EngineError, JobNotFoundError, Problem, SubmissionError
from ezbatch.local import machine, process, runners, store
from ezbatch.local.files import AttemptFiles, attempt_files, start_of_last
from ezbatch.planning import LOCAL, Plan, PlannedJob, count_text, size_text
from ezbatch.settings import Settings

__all__ = ["LocalBackend"]

_COLUMNS = "id, name, state, reason, attempts, counts, created, cancelled"


class LocalBackend:
    """Runs plans on this machine.

    Parameters
    ----------
    settings : Settings
        Where the state is kept, and what jobs may use.
    """

    poll = (0.02, 0.25)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.directory = settings.state_directory / "local"
        self._connection: sqlite3.Connection | None = None
        self._process = os.getpid()
        self._seen: dict[str, tuple[int, dict[str, JobReport]]] = {}

    @property
    def connection(self) -> sqlite3.Connection:
        """The engine's database, opened when it is first needed, and again after a fork."""
        if self._connection is None or self._process != os.getpid():
            self._connection = store.connect(self.directory)
            self._process = os.getpid()
        return self._connection

    # Before

    def _limits(self) -> tuple[float, int]:
        settings = self.settings
        return settings.local_vcpus or float(machine.processors()), settings.local_memory or machine.memory()

    def notes(self, plan: Plan) -> list[str]:
        """Return in what the jobs will run, and which are too big for this machine."""
        notes = []
        used: dict[str, int] = {}
        for job in plan.jobs:
            runner, _why = runners.choose(self.settings.local_runner, job.paths)
            if runner and not job.join:
                used[runner] = used.get(runner, 0) + 1
        vcpus, memory = self._limits()
        notes.append(f"On this machine, {size_text(vcpus, memory)} for jobs; {self._runner_text(used)}")
        if self.settings.local_s3_store == "aws" and any(job.paths for job in plan.jobs):
            names = ", ".join(runners.s3_environment(os.environ)) or "none of which is set"
            notes.append(
                "s3:// is S3 itself (local-s3-store is aws): jobs with mounts copy from and to it, which AWS may "
                f"charge for, and are given your credentials by these variables: {names}"
            )
        big = [job.name for job in plan.jobs if job.vcpus > vcpus or job.memory > memory]
        if big:
            shown = ", ".join(big[:3]) + (f" and {len(big) - 3} more" if len(big) > 3 else "")  # noqa: PLR2004 - what fits a line
            notes.append(f"Too big for this machine, so each runs alone with what there is: {shown}")
        return notes

    def _runner_text(self, used: Mapping[str, int]) -> str:
        parts = []
        total = sum(used.values())
        for runner, count in used.items():
            who = "jobs run" if count == total else f"{count_text(count, 'job')} run{'s' if count == 1 else ''}"
            parts.append(f"{who} {_HOW[runner]}")
        text = "; ".join(parts) or "there is nothing to run"
        if self.settings.local_runner == "auto" and used.keys() & {"process", "bwrap"}:
            text += f" ({'; '.join(runners.available(runner) for runner in runners.CONTAINERS)})"
        if self.settings.local_runner != "auto":
            text += f" (local-runner is set to {self.settings.local_runner})"
        return text

    def queue(self) -> Queue:
        """Return this machine as a queue."""
        return Queue(LOCAL, "this machine", "ready", self._limits()[0])

    def preflight(self, plan: Plan) -> list[Problem]:
        """Return the jobs for which this machine has no runner, and secrets that are not at hand."""
        problems = []
        chosen = self.settings.local_runner
        broken = "" if chosen == "auto" else runners.available(chosen)
        if broken:
            # Once, not for each of a thousand jobs.
            what = f"{broken}; {self.settings.sources.get('local_runner', 'the settings')} asks for it"
            problems.append(Problem("local-runner", what, "Start or install it, or set local-runner to auto"))
        for job in plan.jobs:
            runner, why = runners.choose(chosen, job.paths)
            if not runner and not broken:
                auto = chosen == "auto"
                first = "Install one of them" if auto else "Set local-runner to auto"
                remedy = f"{first}, or use relative paths such as in/data"
                problems.append(Problem(spec.path("jobs", job.name), why, remedy))
            for name in plan.definition_of(job).secrets:
                if name not in os.environ:
                    what = (
                        f"the secret {name} is not fetched on this machine, and no environment variable has that name"
                    )
                    problems.append(
                        Problem(spec.path("jobs", job.name, "secrets", name), what, f"Set {name} before you submit")
                    )
        return problems

    # Submitting

    def submit(
        self, run_id: str, plan: Plan, accepted: Mapping[str, str], record: Callable[[Mapping[str, str]], None]
    ) -> None:
        """Add the whole plan in one transaction, and see to it that there is an engine."""
        ids = {job.name: f"{run_id}-{job.slug}" for job in plan.jobs}
        if not self._knows(run_id):
            with database.translated(store.path(self.directory)), database.transaction(self.connection):
                self._insert(run_id, plan, ids)
                # Within the transaction: jobs of which the ledger cannot know are never there to be run.
                record(ids)
        elif accepted.keys() != ids.keys():
            record(ids)
        try:
            self._start()
        except KeyboardInterrupt as error:
            # Every job is accepted already, and some may run.
            self.cancel(run_id, ids.values(), "its submission was interrupted")
            message = f"the submission of run {run_id} was interrupted; its jobs are cancelled"
            raise SubmissionError(message, interrupted=True) from error

    def _insert(self, run_id: str, plan: Plan, ids: Mapping[str, str]) -> None:
        vcpus, memory = self._limits()
        environment, client = runners.host_environment(os.environ)
        root, s3 = "", {}
        if self.settings.local_s3_store == "directory":
            self.settings.s3_directory.mkdir(parents=True, exist_ok=True)
            root = str(self.settings.s3_directory)
        else:
            s3 = runners.s3_environment(os.environ)
        host = runners.Host(environment, client, root, vcpus, memory, self.settings.local_container_args, s3)
        definitions = json.dumps([dataclasses.asdict(definition) for definition in plan.definitions])
        connection = self.connection
        connection.execute(
            "INSERT INTO runs(id, host, definitions) VALUES (?, ?, ?)",
            (run_id, json.dumps(dataclasses.asdict(host)), definitions),
        )
        now = time.time()
        insert = (
            "INSERT INTO jobs(id, run, name, parent, child, spec, state, counts, created) VALUES (?,?,?,?,?,?,?,?,?)"
        )
        rows: list[tuple[Any, ...]] = []
        for job in plan.jobs:
            job_id = ids[job.name]
            size = job.array_size
            text = json.dumps(self._spec(job, plan, ids))
            counts = json.dumps({"SUBMITTED": size}) if size else None
            rows.append((job_id, run_id, job.name, None, None, text, "SUBMITTED", counts, now))
            for child in range(size or 0):
                name = f"{job.name}:{job.indices[child] if job.indices is not None else child}"
                rows.append((f"{job_id}:{child}", run_id, name, job_id, child, "", "SUBMITTED", None, now))
        connection.executemany(insert, rows)

    def _spec(self, job: PlannedJob, plan: Plan, ids: Mapping[str, str]) -> dict[str, object]:
        return {
            "parents": [ids[parent] for parent in job.parents],
            "join": job.join,
            "definition": job.definition,
            "runner": runners.choose(self.settings.local_runner, job.paths)[0],
            "paths": job.paths,
            "command": job.command,
            "environment": job.environment,
            "secrets": {name: os.environ[name] for name in plan.definition_of(job).secrets},
            "vcpus": job.vcpus,
            "memory": job.memory,
            "gpus": job.gpus,
            "attempts": job.attempts,
            "timeout": job.timeout,
        }

    def _start(self) -> None:
        if process.alive(self.directory):
            return
        why = process.start(self.directory)
        if why:
            message = (
                f"the local engine could not be started: {why}. The jobs are kept: "
                f"see {self.directory / 'engine.log'}, mend it, and resume the run."
            )
            raise EngineError(message)

    def find(self, run_id: str, plan: Plan, known: Mapping[str, str]) -> dict[str, str]:
        """Return the ids of the plan's jobs, if they were added: all of them or none."""
        return {job.name: f"{run_id}-{job.slug}" for job in plan.jobs} if self._knows(run_id) else {}

    def _knows(self, run_id: str) -> bool:
        return self.connection.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone() is not None

    # Watching

    def describe(self, run_id: str, job_ids: Mapping[str, str]) -> dict[str, JobReport]:
        """Return a report for each job; only what changed since the last look is read."""
        revision, reports = self._seen.get(run_id, (-1, {}))
        newest = self.connection.execute("SELECT max(rev) FROM jobs WHERE run = ?", (run_id,)).fetchone()[0]
        if newest is not None and newest != revision:
            rows = self.connection.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE run = ? AND rev > ? AND parent IS NULL",
                (run_id, revision),
            )
            reports = {**reports, **{report.name: report for report in map(_report, rows)}}
            self._seen[run_id] = (newest, reports)
        return {name: reports[name] for name in job_ids if name in reports}

    def child(self, run_id: str, job_id: str, name: str, index: int) -> JobReport:
        """Return a report of one child of an array."""
        row = self.connection.execute(
            f"SELECT {_COLUMNS} FROM jobs WHERE parent = ? AND child = ?",
            (job_id, index),
        ).fetchone()
        if row is None:
            message = f"the job has no child {index}"
            raise JobNotFoundError(message)
        return dataclasses.replace(_report(row), name=name)

    def failed_children(self, run_id: str, job_id: str) -> list[int]:
        """Return the indices of an array's children that did not succeed."""
        query = "SELECT child FROM jobs WHERE parent = ? AND state != 'SUCCEEDED' ORDER BY child"
        return [row[0] for row in self.connection.execute(query, (job_id,))]

    def spans(self, run_id: str, job_id: str) -> list[tuple[datetime, datetime | None]]:
        """Return when every attempt of an array's children began and ended."""
        rows = self.connection.execute("SELECT attempts FROM jobs WHERE parent = ?", (job_id,))
        attempts = [attempt for (text,) in rows for attempt in json.loads(text)]
        spans = [(_time(started), _time(stopped)) for _number, started, stopped, *_rest in attempts]
        return [(started, stopped) for started, stopped in spans if started is not None]

    def facts(self, queue: str) -> QueueFacts | None:
        """Nothing: jobs of the local engine say themselves what they wait for."""
        return None

    def interruption(self, run_id: str) -> str:
        """Return why the run stands still, or nothing when it goes on."""
        query = "SELECT held, EXISTS(SELECT 1 FROM requests WHERE run = runs.id) FROM runs WHERE id = ?"
        row = self.connection.execute(query, (run_id,)).fetchone()
        if row is None:
            return f"the local engine knows nothing of it: {self.directory} may have been emptied"
        said = process.problem(self.directory)
        if not process.alive(self.directory):
            return said or "the local engine was killed; jobs that were running go on, no other starts"
        if row[0] and not row[1]:
            return "the local engine was killed and another has come; jobs that were running go on, no other starts"
        return said

    def resume(self, run_id: str) -> None:
        """Let a held run go on, with a new engine where there is none."""
        if not self._knows(run_id):
            message = (
                f"the local engine knows nothing of run {run_id}: {self.directory} may have been emptied. "
                f"End it by `ezbatch cancel {run_id}`, then run what was not done by `ezbatch retry {run_id}`."
            )
            raise EngineError(message)
        self._request("resume", run_id, [], "")

    def cancel(self, run_id: str, job_ids: Collection[str], reason: str) -> None:
        """End these jobs; a new engine does it where there is none."""
        self._request("cancel", run_id, list(job_ids), reason)

    def _request(self, kind: str, run_id: str, jobs: list[str], reason: str) -> None:
        with database.translated(store.path(self.directory)):
            self.connection.execute(
                "INSERT INTO requests(kind, run, jobs, reason) VALUES (?, ?, ?, ?)",
                (kind, run_id, json.dumps(jobs), reason),
            )
        self._start()

    def finish(self, run_id: str, plan: Plan) -> None:
        """Nothing to give back: definitions are rows of the run."""

    # Logs

    def log(
        self, run_id: str, report: JobReport, attempt: int, cursor: object = None, last: int | None = None
    ) -> tuple[list[LogEvent], object]:
        """Return the lines of an attempt that are new, with the time at which each was first seen on disk."""
        lines = (
            cursor
            if isinstance(cursor, _Lines)
            else _Lines(attempt_files(self.directory, run_id, report.job_id, attempt), last)
        )
        stopped = report.state.terminal or any(a.number == attempt and a.stopped is not None for a in report.attempts)
        return [LogEvent(when, report.name, attempt, line) for when, line in lines.read(whole=stopped)], lines


_HOW = {
    "docker": "in Docker containers",
    "podman": "in Podman containers",
    "bwrap": "in a bubblewrap sandbox, so their images are not used",
    "process": "as plain processes, so their images are not used",
}


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)


def _report(row: tuple[Any, ...]) -> JobReport:
    job_id, name, state, reason, attempts_text, counts_text, created, cancelled = row
    attempts = tuple(
        Attempt(number, _time(started), _time(stopped), code, why)
        for number, started, stopped, code, why in json.loads(attempts_text)
    )
    last = attempts[-1] if attempts else None
    children = None
    job_state = JobState(state)
    if counts_text is not None:
        children = {JobState(name): count for name, count in json.loads(counts_text).items()}
        if not job_state.terminal and children:
            job_state = array_state(children)
            job_state = JobState.RUNNING if job_state.terminal else job_state
    return JobReport(
        name=name,
        job_id=job_id,
        state=job_state,
        attempts=attempts,
        exit_code=last.exit_code if last else None,
        reason=reason,
        created=_time(created),
        started=last.started if last else None,
        stopped=last.stopped if last and job_state.terminal else None,
        children=children,
        cancelled=bool(cancelled),
    )


class _Lines:
    """Reads an attempt's log as it grows, line by line, with the times the engine noted."""

    #: A line longer than this is given in pieces, so that one without an end does not fill the memory; about as much
    #: is read for one page.
    longest = 256 * 1024

    def __init__(self, files: AttemptFiles, last: int | None) -> None:
        self.files = files
        # One more: the last line may not be complete, and is then not given yet.
        self.offset = 0 if last is None else start_of_last(files.log, last + 1)
        self.rest = b""
        self.times: list[tuple[int, float]] = []
        self.times_offset = 0

    def read(self, *, whole: bool) -> Iterator[tuple[datetime, str]]:
        """Yield the lines that are new; with ``whole`` also a last one without a newline."""
        try:
            file = self.files.log.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self.offset)
            if block := file.read(self.longest):
                self.offset += len(block)
                self.rest += block
                *lines, self.rest = self.rest.split(b"\n")
                start = self.offset - len(self.rest) - sum(len(line) + 1 for line in lines)
                for line in lines:
                    start += len(line) + 1
                    yield self._time(start), _decoded(line)
                if len(self.rest) >= self.longest:
                    yield self._time(self.offset), _decoded(self.rest)
                    self.rest = b""
            at_end = len(block) < self.longest
        if whole and at_end and self.rest:
            yield self._time(self.offset), _decoded(self.rest)
            self.rest = b""

    def _time(self, offset: int) -> datetime:
        """Return when the log had grown to the offset."""
        while not self.times or self.times[-1][0] < offset:
            if not self._more_times():
                break
        while len(self.times) > 1 and self.times[0][0] < offset:
            self.times.pop(0)
        if self.times and self.times[0][0] >= offset:
            return datetime.fromtimestamp(self.times[0][1], timezone.utc)
        try:
            seconds = self.files.log.stat().st_mtime
        except OSError:
            seconds = time.time()
        return datetime.fromtimestamp(seconds, timezone.utc)

    def _more_times(self) -> bool:
        try:
            with self.files.times.open("rb") as file:
                file.seek(self.times_offset)
                text = file.read()
        except OSError:
            return False
        text = text[: text.rfind(b"\n") + 1]
        self.times_offset += len(text)
        found = [(int(size), float(when)) for size, when in (line.split() for line in text.splitlines())]
        self.times += found
        return bool(found)


def _decoded(line: bytes) -> str:
    return line.removesuffix(b"\r").decode(errors="replace")
