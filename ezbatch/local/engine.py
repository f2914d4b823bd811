"""The scheduler: starts jobs as their parents succeed and the machine has room, and keeps what became of them.

Nothing is lost when its process is killed: jobs go on under their supervisors, which leave the exit code on disk, and
the next engine finds it there.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import heapq
import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ezbatch import database, preloader
from ezbatch.local import runners, store
from ezbatch.local.files import (
    AttemptFiles,
    attempt_files,
    last_line,
    last_lines,
    read_status,
    run_directory,
    status_file,
)
from ezbatch.local.runners import Host

__all__ = ["Engine"]

log = logging.getLogger(__name__)

#: Seconds between SIGTERM and SIGKILL.
GRACE = 10
#: Seconds for which smaller jobs may overtake one that waits for room.
PATIENCE = 60.0
#: Seconds between two looks at logs, timeouts and adopted jobs.
TICK = 0.25
#: Seconds that changes may wait to be written together.
FLUSH = 0.05
#: Seconds that a supervisor found without a pid file is given to write it, and a log to be complete.
SETTLE = 2.0

_LIVE = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")


@dataclasses.dataclass(eq=False)
class _Attempt:
    """One attempt that runs."""

    job: _Job
    number: int
    files: AttemptFiles
    started: float
    work: str = ""  # of one that this engine started
    process: subprocess.Popen[bytes] | None = None
    pid: int = 0
    ending: str = ""  # why it is being ended: "timeout" or "cancel"
    killed_at: float | None = None  # when SIGKILL is due
    stopper: subprocess.Popen[bytes] | None = None  # the container runtime's command that ends it
    copier: subprocess.Popen[bytes] | None = None  # brings to the log what the job writes to a pipe
    log_size: int = 0
    lost_at: float | None = None


@dataclasses.dataclass(eq=False)
class _Job:
    """One job, or one child of an array, as the scheduler knows it."""

    id: str
    run: str
    name: str
    seq: int
    spec: dict[str, Any]
    state: str
    array: _Job | None = None
    child: int | None = None
    attempts: list[list[Any]] = dataclasses.field(default_factory=list)
    waits: int = 0
    dependents: list[_Job] = dataclasses.field(default_factory=list)
    children: list[_Job] = dataclasses.field(default_factory=list)
    counts: dict[str, int] | None = None
    live: int = 0  # of an array: children that are not terminal
    reason: str = ""
    cancelled: bool = False
    tries: int = 0  # attempts that count; one that was lost with the machine does not
    ready_at: float = 0.0
    queued: bool = False  # whether it stands in a queue of those that wait for room
    begun: bool = False  # whether an attempt runs

    @property
    def terminal(self) -> bool:
        return self.state not in _LIVE


class Engine:
    """The scheduler of one state directory.

    Parameters
    ----------
    directory : Path
        Holds ``engine.db`` and the attempts' directories.
    clock
        Seconds since the epoch; a test gives its own.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self.directory = directory
        self.clock = clock
        self.connection = store.connect(directory)
        self.rev = self.connection.execute("SELECT coalesce(max(rev), 0) FROM jobs").fetchone()[0]
        self.last_seq = 0
        self.data_version = -1
        self.hosts: dict[str, Host] = {}
        self.definitions: dict[str, list[dict[str, Any]]] = {}
        self.held: set[str] = set()
        self.live_jobs: dict[str, int] = {}  # run -> jobs not terminal
        self.jobs: dict[str, _Job] = {}
        # By run and size. A held run's are left alone.
        self.ready: dict[tuple[str, float, int], deque[_Job]] = {}
        self.running: dict[int, _Attempt] = {}  # by pid of the supervisor
        self.adopted: list[_Attempt] = []
        self.prepared: set[str] = set()  # runs whose directory is there
        self.dirty: dict[str, _Job] = {}
        self.unseen: set[str] = set()  # runs taken up, which is not written down yet
        self.answered: set[int] = set()  # requests done, likewise
        self.used_vcpus = 0.0
        self.used_memory = 0
        self.last_tick = 0.0
        self.last_flush = 0.0
        self.flush_failed = ""
        self.spare: list[str] = []  # empty working directories
        self.janitor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="janitor")
        self.on_problem: Callable[[str], None] = lambda _text: None

    # Taking up work

    def recover(self) -> None:
        """Take up what an engine before this one left; its runs are held until a person resumes them."""
        with database.transaction(self.connection):
            self.connection.execute(
                "UPDATE runs SET held = 1 WHERE seen = 1 AND id IN"
                " (SELECT run FROM jobs WHERE state NOT IN ('SUCCEEDED', 'FAILED', 'BLOCKED'))"
            )
        # Adopt before anything is started or cancelled: a job may be running already.
        self._load_jobs()
        for job in list(self.jobs.values()):
            if not job.terminal and job.counts is None and not self._adopt(job) and job.cancelled:
                self._end(job, "FAILED", job.reason or "cancelled")
        statuses = self._statuses()
        for attempt in self.adopted:
            pid, code = statuses[attempt.job.run].get(attempt.files.name, (0, None))
            if code is None and pid:
                _supervised(attempt, pid)

    def load(self) -> None:
        """Take up new jobs and requests."""
        version = self.connection.execute("PRAGMA data_version").fetchone()[0]
        if version == self.data_version:
            return
        self._load_jobs()
        requests = self.connection.execute("SELECT id, kind, run, jobs, reason FROM requests ORDER BY id").fetchall()
        for number, kind, run, jobs, reason in requests:
            # What was asked is forgotten together with writing down what became of it.
            if number not in self.answered:
                self._request(kind, run, json.loads(jobs), reason)
                self.answered.add(number)
        self.data_version = version

    def _load_jobs(self) -> None:
        rows = self.connection.execute(
            "SELECT seq, id, run, name, parent, child, spec, state, reason, attempts, counts, cancelled FROM jobs"
            " WHERE seq > ? AND run IN (SELECT DISTINCT run FROM jobs WHERE seq > ?"
            " AND state NOT IN ('SUCCEEDED', 'FAILED', 'BLOCKED')) ORDER BY seq",
            (self.last_seq, self.last_seq),
        ).fetchall()
        new = [self._load_job(row) for row in rows]
        for job in new:
            self._connect(job)
        for job in new:
            self._settle(job)

    def _load_job(self, row: tuple[Any, ...]) -> _Job:
        seq, job_id, run, name, parent, child, spec, state, reason, attempts, counts, cancelled = row
        self.last_seq = max(self.last_seq, seq)
        if run not in self.hosts:
            host, definitions, held = self.connection.execute(
                "SELECT host, definitions, held FROM runs WHERE id = ?", (run,)
            ).fetchone()
            self.hosts[run] = Host(**json.loads(host))
            self.definitions[run] = json.loads(definitions)
            self.live_jobs[run] = 0
            if held:
                self.held.add(run)
            else:
                self.unseen.add(run)
        array = self.jobs[parent] if parent else None
        job = _Job(job_id, run, name, seq, array.spec if array else json.loads(spec), state, array=array, child=child)
        job.attempts, job.reason, job.cancelled = json.loads(attempts), reason, bool(cancelled)
        job.tries = sum(1 for attempt in job.attempts if attempt[2] is not None and attempt[4] != _LOST)
        if counts is not None:
            job.counts = {}
        self.jobs[job_id] = job
        if not job.terminal:
            self.live_jobs[run] += 1
        return job

    def _connect(self, job: _Job) -> None:
        if job.array is not None:
            job.array.children.append(job)
            counts = job.array.counts
            assert counts is not None  # noqa: S101 - a parent with children is an array
            counts[job.state] = counts.get(job.state, 0) + 1
            job.array.live += not job.terminal
            return
        for parent_id in job.spec["parents"]:
            parent = self.jobs[parent_id]
            parent.dependents.append(job)
            job.waits += parent.state != "SUCCEEDED"

    def _settle(self, job: _Job) -> None:
        """Put a job that was just loaded where its state and its parents' say."""
        if job.terminal or job.array is not None or job.cancelled:
            return
        failed = next(
            (p for p in (self.jobs[i] for i in job.spec["parents"]) if p.terminal and p.state != "SUCCEEDED"), None
        )
        if failed is not None:
            self._block(job, failed)
        elif job.waits:
            self._change(job, "PENDING", "")
        else:
            self._make_ready(job)

    def _make_ready(self, job: _Job) -> None:
        if job.counts is not None:
            for child in job.children:
                if not child.terminal and not child.cancelled:
                    self._make_ready(child)
            if job.live == 0:  # only when an engine died between the last child and its array
                self._end_array(job)
            return
        if job.spec["join"]:
            self._end(job, "SUCCEEDED", "")
            return
        if job.begun:  # adopted, and only now the end of a job before it is seen
            return
        job.ready_at = self.clock()
        self._change(job, "RUNNABLE", "")
        if job.queued:
            return
        job.queued = True
        key = (job.run, float(job.spec["vcpus"]), int(job.spec["memory"]))
        self.ready.setdefault(key, deque()).append(job)

    def _request(self, kind: str, run: str, jobs: list[str], reason: str) -> None:
        if kind == "resume":
            self._release(run)
        elif kind == "cancel":
            for job_id in jobs:
                job = self.jobs.get(job_id)
                if job is not None and not job.terminal:
                    self._cancel(job, reason)
            # Nothing of it is left to start, so there is nothing to hold back.
            if run in self.held and all(
                job.terminal or job.cancelled for job in self.jobs.values() if job.run == run and job.counts is None
            ):
                self._release(run)

    def _release(self, run: str) -> None:
        """Let a held run go on."""
        if run in self.held:
            self.connection.execute("UPDATE runs SET held = 0, seen = 1 WHERE id = ?", (run,))
            self.held.discard(run)

    def _cancel(self, job: _Job, reason: str) -> None:
        job.cancelled = True
        if job.counts is not None:
            # Its children first: with the last of them the array itself ends.
            for child in job.children:
                if not child.terminal:
                    self._cancel(child, reason)
            if not job.terminal and job.live == 0:
                self._end_array(job)
            return
        attempt = next((a for a in self._attempts() if a.job is job), None)
        if attempt is None:
            self._end(job, "FAILED", f"cancelled: {reason}")
        else:
            job.reason = f"cancelled: {reason}"
            self.dirty[job.id] = job  # the next engine has to know it, too
            self._stop(attempt, "cancel")

    # Starting

    def schedule(self) -> None:
        """Start what fits, oldest first; one that waits too long for room is not overtaken any more."""
        while self.ready:
            heads: list[tuple[int, tuple[str, float, int]]] = []
            for key, queue in list(self.ready.items()):
                while queue and queue[0].state != "RUNNABLE":
                    queue.popleft().queued = False
                if not queue:
                    del self.ready[key]
                elif key[0] not in self.held:
                    heapq.heappush(heads, (queue[0].seq, key))
            started = False
            while heads:
                _seq, key = heapq.heappop(heads)
                job = self.ready[key][0]
                if self._fits(job):
                    self.ready[key].popleft().queued = False
                    self._start(job)
                    started = True
                    break
                if self.clock() - job.ready_at > PATIENCE:
                    break
            if not started:
                return

    def _size(self, job: _Job) -> tuple[float, int]:
        """Return what a job takes of the machine; one that is too big for it takes all of it."""
        host = self.hosts[job.run]
        return min(float(job.spec["vcpus"]), host.vcpus), min(int(job.spec["memory"]), host.memory)

    def _fits(self, job: _Job) -> bool:
        vcpus, memory = self._size(job)
        host = self.hosts[job.run]
        return self.used_vcpus + vcpus <= host.vcpus + 1e-9 and self.used_memory + memory <= host.memory

    def _start(self, job: _Job) -> None:
        number = job.attempts[-1][0] + 1 if job.attempts else 1
        files = attempt_files(self.directory, job.run, job.id, number)
        definition = self.definitions[job.run][job.spec["definition"]]
        host = self.hosts[job.run]
        attempt = _Attempt(job, number, files, self.clock())
        try:
            if job.run not in self.prepared:
                run_directory(self.directory, job.run).mkdir(parents=True, exist_ok=True)
                self.prepared.add(job.run)
            work = attempt.work = self._work_directory()
            status = status_file(self.directory, job.run)
            environment = self._environment(job, definition, number)
            spec = {**job.spec, "id": job.id}
            argv, variables = runners.command(
                job.spec["runner"], host, spec, definition, environment, files, status, work, number
            )
            with contextlib.ExitStack() as stack:
                output: BinaryIO = stack.enter_context(files.log.open("ab"))
                if job.spec["runner"] not in runners.CONTAINERS and runners.opens_output((*argv, *variables.values())):
                    attempt.copier, output = _copied(output)
                    stack.enter_context(output)
                attempt.process = subprocess.Popen(
                    argv,
                    cwd=work,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            what = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
            job.attempts.append([number, attempt.started, attempt.started, None, f"could not be started: {what}"])
            job.tries += 1
            self._end(job, "FAILED", f"could not be started: {what}")
            return
        attempt.pid = attempt.process.pid
        self._begin(attempt)

    def _begin(self, attempt: _Attempt) -> None:
        job = attempt.job
        vcpus, memory = self._size(job)
        self.used_vcpus += vcpus
        self.used_memory += memory
        job.begun = True
        if attempt.process is not None:
            self.running[attempt.pid] = attempt
        else:
            self.adopted.append(attempt)
        if not job.attempts or job.attempts[-1][0] != attempt.number:
            job.attempts.append([attempt.number, attempt.started, None, None, ""])
        self._change(job, "RUNNING", job.reason if job.cancelled else "")

    def _environment(self, job: _Job, definition: dict[str, Any], number: int) -> dict[str, str]:
        variables = {**definition["environment"], **job.spec["environment"], **job.spec.get("secrets", {})}
        variables["AWS_BATCH_JOB_ID"] = job.id
        variables["AWS_BATCH_JOB_ATTEMPT"] = str(number)
        variables["AWS_BATCH_JQ_NAME"] = variables["AWS_BATCH_CE_NAME"] = "local"
        if job.array is not None:
            variables["AWS_BATCH_JOB_ARRAY_INDEX"] = str(job.child)
            variables["AWS_BATCH_JOB_ARRAY_SIZE"] = str(len(job.array.children))
        if "EZBATCH_COMMAND" in variables:
            host = self.hosts[job.run]
            if host.s3_directory:
                variables["EZBATCH_S3"] = f"directory:{host.s3_directory}"
            else:
                variables = {**host.s3_environment, **variables}
        return variables

    # Ending

    def _attempts(self) -> Iterator[_Attempt]:
        yield from self.running.values()
        yield from self.adopted

    def reap(self) -> None:
        """Take in the attempts whose supervisors have ended."""
        for attempt in [a for a in self.running.values() if self._exited(a)]:
            del self.running[attempt.pid]
            process = attempt.process
            assert process is not None  # noqa: S101 - only what this engine started is in running
            # What the command left in the background would be gone with its container, so it goes here too. The
            # supervisor's pid is still taken until it is waited for, so nobody else can have it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(attempt.pid, signal.SIGKILL)
            code = process.wait()
            if attempt.copier is not None:
                # Not for ever: what the job has left in a session of its own may hold on to the pipe.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    attempt.copier.wait(SETTLE)
            self._ended(attempt, code if code >= 0 else 128 - code)

    def _exited(self, attempt: _Attempt) -> bool:
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return attempt.process is not None and attempt.process.poll() is not None
        with contextlib.suppress(ChildProcessError):
            return os.waitid(os.P_PID, attempt.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return True

    def _give_back(self, job: _Job) -> None:
        """Note that an attempt takes no room any more."""
        vcpus, memory = self._size(job)
        self.used_vcpus = max(0.0, self.used_vcpus - vcpus)
        self.used_memory -= memory
        job.begun = False

    def _ended(self, attempt: _Attempt, code: int) -> None:
        job = attempt.job
        self._give_back(job)
        now = self.clock()
        reason = self._reason(attempt, code)
        if attempt.log_size:  # otherwise it was over before it was looked at, and the log's own time says it all
            self._note_log(attempt)
        job.attempts[-1] = [attempt.number, attempt.started, now, code, reason]
        job.tries += 1
        if attempt.ending:
            self._kill_strays(job)
        if code == 0 and not attempt.ending:
            self._tidy(attempt)
            self._end(job, "SUCCEEDED", "")
        elif not attempt.ending and job.tries < job.spec["attempts"]:
            log.info("%s: attempt %d failed (%s); another follows", job.id, attempt.number, reason)
            self._make_ready(job)
        else:
            self._end(job, "FAILED", job.reason if attempt.ending == "cancel" else reason)

    def _reason(self, attempt: _Attempt, code: int) -> str:
        job = attempt.job
        if attempt.ending == "timeout":
            return f"Job attempt duration exceeded timeout of {job.spec['timeout']} s"
        if attempt.ending == "cancel":
            return job.reason
        if code == 0:
            return ""
        if job.spec["runner"] in runners.CONTAINERS:
            ended = ""
            with contextlib.suppress(OSError, ValueError):
                ended = attempt.files.ended.read_text().strip()
            if ended.startswith("true"):
                return f"OutOfMemoryError: Container killed due to memory usage (over {job.spec['memory']} MiB)"
            # The runtime's own failures have these codes, too; the container's code then is another, or none.
            if code in runners.START_FAILURES and ended != f"false {code}":
                image = self.definitions[job.run][job.spec["definition"]]["image"]
                return runners.start_failure(image, last_lines(attempt.files.log))
        if code in preloader.EXIT_CODES and job.spec["paths"]:
            # A command may end with these codes, too; the script says so when it is the script.
            said = last_line(attempt.files.log)
            if said.startswith("ezbatch: "):
                return said
        if 128 < code < 128 + 32:  # noqa: PLR2004 - the shell's way to tell a signal; those above 31 have no meaning
            with contextlib.suppress(ValueError):
                return f"exit code {code}: ended by signal {signal.Signals(code - 128).name}"
        return f"exit code {code}"

    def _end(self, job: _Job, state: str, reason: str) -> None:
        self._change(job, state, reason)
        if job.array is not None:
            job.array.live -= 1
            if job.array.live == 0:
                self._end_array(job.array)
            return
        # A loop, not recursion: a chain may be 100,000 jobs long.
        ended = deque([job])
        while ended:
            parent = ended.popleft()
            for dependent in parent.dependents:
                if dependent.terminal:
                    continue
                if parent.state != "SUCCEEDED":
                    self._block(dependent, parent, ended)
                    continue
                dependent.waits -= 1
                if dependent.waits:
                    continue
                if dependent.spec["join"]:
                    self._change(dependent, "SUCCEEDED", "")
                    ended.append(dependent)
                else:
                    self._make_ready(dependent)

    def _block(self, job: _Job, parent: _Job, ended: deque[_Job] | None = None) -> None:
        """Mark a job that can never start, and with it those that wait for it."""
        # The job to look at is the one that failed itself, not one that was blocked by it.
        why = parent.reason if parent.state == "BLOCKED" else f"Dependent Job failed: {parent.name}"
        for child in job.children:
            if not child.terminal:
                self._change(child, "BLOCKED", why)
                job.live -= 1
        self._change(job, "BLOCKED", why)
        if ended is not None:
            ended.append(job)
        else:
            queue = deque([job])
            while queue:
                blocked = queue.popleft()
                for dependent in blocked.dependents:
                    if not dependent.terminal:
                        self._block(dependent, blocked, queue)

    def _end_array(self, array: _Job) -> None:
        counts = array.counts or {}
        failed = sum(count for state, count in counts.items() if state in ("FAILED", "BLOCKED"))
        if not failed:
            self._end(array, "SUCCEEDED", "")
            return
        first = next(child for child in array.children if child.state in ("FAILED", "BLOCKED"))
        reason = f"{failed} of {len(array.children)} children failed; the first, {first.name}: {first.reason}"
        self._end(array, "FAILED", array.reason if array.cancelled and array.reason else reason)

    def _change(self, job: _Job, state: str, reason: str) -> None:
        if job.array is not None and job.array.counts is not None:
            counts = job.array.counts
            counts[job.state] -= 1
            counts[state] = counts.get(state, 0) + 1
            self.dirty[job.array.id] = job.array
        if not job.terminal and state not in _LIVE:
            self.live_jobs[job.run] -= 1
        job.state, job.reason = state, reason
        self.dirty[job.id] = job

    def _tidy(self, attempt: _Attempt) -> None:
        """Remove the scratch files of an attempt that succeeded, as a container's would be gone; its log stays."""
        with contextlib.suppress(OSError):
            if attempt.work and not any(os.scandir(attempt.work)):
                self.spare.append(attempt.work)
                attempt.work = ""
        if attempt.work:
            self.janitor.submit(shutil.rmtree, attempt.work, ignore_errors=True)
        if attempt.job.spec["runner"] == "bwrap":
            self.janitor.submit(shutil.rmtree, attempt.files.root, ignore_errors=True)

    def _work_directory(self) -> str:
        """Return an empty directory; making and removing one takes long, so they are used again."""
        if self.spare:
            return self.spare.pop()
        parent = self.directory / "work"
        parent.mkdir(exist_ok=True)
        return tempfile.mkdtemp(dir=parent, prefix="")

    def close(self) -> None:
        """Leave nothing behind that the next engine would not look for."""
        self.flush(now=True)
        self.janitor.shutdown()
        for path in self.spare:
            with contextlib.suppress(OSError):
                Path(path).rmdir()
        self.connection.close()

    # Ending on purpose

    def _stop(self, attempt: _Attempt, why: str) -> None:
        if attempt.ending:
            return
        attempt.ending = why
        attempt.killed_at = self.clock() + GRACE
        if attempt.job.spec["runner"] in runners.CONTAINERS:
            attempt.killed_at += GRACE  # the container runtime sends SIGKILL itself; this is for when it hangs
            self._stop_container(attempt)
        else:
            _signal_main(attempt.pid)

    def _stop_container(self, attempt: _Attempt, *, grace: int = GRACE) -> None:
        """Tell the container runtime to end an attempt, unless it is at that already.

        It may have to be told again: a container that is still being made is not there to be stopped.
        """
        if attempt.stopper is not None and attempt.stopper.poll() is None:
            return
        job = attempt.job
        host = self.hosts[job.run]
        with contextlib.suppress(OSError):
            attempt.stopper = subprocess.Popen(
                runners.stop_command(job.spec["runner"], job.id, attempt.number, grace),
                env={**host.environment, **host.client},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _kill_strays(self, job: _Job) -> None:
        """Kill what a cancelled job left outside its process group; its environment tells."""
        mark = f"AWS_BATCH_JOB_ID={job.id}".encode()
        for pid in _processes():
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    os.kill(pid, signal.SIGKILL)

    def tick(self) -> None:
        """Do what is due by time: timeouts, kills, log times, adopted attempts."""
        now = self.clock()
        if now - self.last_tick < TICK and now >= self.last_tick:
            return
        self.last_tick = now
        for attempt in list(self._attempts()):
            self._note_log(attempt)
            timeout = attempt.job.spec["timeout"]
            if timeout is not None and now - attempt.started > timeout:
                self._stop(attempt, "timeout")
            in_container = attempt.job.spec["runner"] in runners.CONTAINERS
            if attempt.ending and in_container:
                self._stop_container(attempt, grace=GRACE if now <= (attempt.killed_at or now) else 0)
            # A runtime that hangs is given the time once more, since with it the last trace of its container goes.
            if attempt.killed_at is not None and now > attempt.killed_at + GRACE * in_container:
                _signal_group(attempt.pid, signal.SIGKILL)
        self._watch_adopted(now)

    def _note_log(self, attempt: _Attempt) -> None:
        """Keep when the log had grown how far: the job writes it itself, so that it needs no engine to be written."""
        with contextlib.suppress(OSError):
            size = attempt.files.log.stat().st_size
            if size > attempt.log_size:
                attempt.log_size = size
                with attempt.files.times.open("a") as times:
                    times.write(f"{size} {self.clock():.3f}\n")

    # After an engine was killed

    def _adopt(self, job: _Job) -> bool:
        """Take over the attempt of a job that an engine before this one had started, if there is one."""
        number = job.attempts[-1][0] if job.attempts else 0
        if job.attempts and job.attempts[-1][2] is not None:
            number += 1  # that one has ended; look for one that was begun and not written down
        number = max(number, 1)
        files = attempt_files(self.directory, job.run, job.id, number)
        if not files.log.exists():
            return False
        started = self.clock()
        with contextlib.suppress(OSError):
            started = files.log.stat().st_ctime
        attempt = _Attempt(job, number, files, started)
        if job.attempts and job.attempts[-1][0] == number:
            attempt.started = job.attempts[-1][1]
        attempt.lost_at = self.clock() + SETTLE
        if job.cancelled:
            attempt.ending = "cancel"
            attempt.killed_at = self.clock()
        self._begin(attempt)
        return True

    def _statuses(self) -> dict[str, dict[str, tuple[int, int | None]]]:
        """Return what the supervisors of adopted attempts have written, by run."""
        runs = {attempt.job.run for attempt in self.adopted}
        return {run: read_status(status_file(self.directory, run)) for run in runs}

    def _watch_adopted(self, now: float) -> None:
        statuses = self._statuses()
        for attempt in list(self.adopted):
            pid, code = statuses[attempt.job.run].get(attempt.files.name, (0, None))
            if code is None and pid and _supervised(attempt, pid):
                attempt.lost_at = now + SETTLE
                continue
            if code is None and attempt.lost_at is not None and now < attempt.lost_at:
                continue
            self.adopted.remove(attempt)
            if code is not None:
                if attempt.pid:
                    _signal_group(attempt.pid, signal.SIGKILL)
                self._ended(attempt, code)
                continue
            # Neither an exit code nor a process: it went down with the machine. That is not the job's failure.
            job = attempt.job
            if job.spec["runner"] in runners.CONTAINERS:
                self._stop_container(attempt, grace=0)  # unlike its supervisor it may still be there
            self._give_back(job)
            job.attempts[-1] = [attempt.number, attempt.started, now, None, _LOST]
            if job.cancelled:
                self._end(job, "FAILED", job.reason or "cancelled")
            else:
                self._make_ready(job)

    # Keeping

    def flush(self, *, now: bool = False) -> None:
        """Write what has changed; a full disk is waited out."""
        if not self._unwritten or (not now and time.monotonic() - self.last_flush < FLUSH):
            return
        rows = []
        for job in self.dirty.values():
            self.rev += 1
            counts = None if job.counts is None else json.dumps({s: n for s, n in job.counts.items() if n})
            rows.append((job.state, job.reason, json.dumps(job.attempts), counts, job.cancelled, self.rev, job.id))
        try:
            with database.transaction(self.connection):
                self.connection.executemany(
                    "UPDATE jobs SET state=?, reason=?, attempts=?, counts=?, cancelled=?, rev=? WHERE id=?", rows
                )
                self.connection.executemany("UPDATE runs SET seen = 1 WHERE id = ?", [(run,) for run in self.unseen])
                self.connection.executemany("DELETE FROM requests WHERE id = ?", [(n,) for n in self.answered])
        except (sqlite3.Error, MemoryError) as error:
            self._cannot_write(error)
            self.last_flush = time.monotonic() + 1  # try again in a second
            return
        if self.flush_failed:
            self.flush_failed = ""
            self.on_problem("")
        self.dirty.clear()
        self.unseen.clear()
        self.answered.clear()
        self.last_flush = time.monotonic()
        self._forget()

    @property
    def _unwritten(self) -> bool:
        return bool(self.dirty or self.unseen or self.answered or self.flush_failed)

    def _cannot_write(self, error: Exception) -> None:
        if self.flush_failed != str(error):
            self.flush_failed = str(error)
            path = store.path(self.directory)
            self.on_problem(f"the local engine cannot write {path}: {error}. Free some space: it goes on by itself")

    def _forget(self) -> None:
        """Drop the runs that are over from memory."""
        over = [run for run, live in self.live_jobs.items() if live == 0]
        if not over or any(a.job.run in over for a in self._attempts()):
            return
        gone = set(over)
        self.jobs = {job_id: job for job_id, job in self.jobs.items() if job.run not in gone}
        for run in over:
            del self.live_jobs[run], self.hosts[run], self.definitions[run]
            self.held.discard(run)
            self.prepared.discard(run)

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing may start."""
        return (
            not self.running
            and not self.adopted
            and not self._unwritten
            and all(run in self.held for run, live in self.live_jobs.items() if live)
        )

    def step(self) -> None:
        """Do everything that can be done now."""
        self.reap()
        try:
            self.load()
        except (sqlite3.Error, MemoryError) as error:
            self._cannot_write(error)  # what was not taken up is taken up at the next look
        self.tick()
        self.schedule()
        self.flush()


_LOST = "lost: the machine or the engine's files went away while it ran"


def _copied(log: BinaryIO) -> tuple[subprocess.Popen[bytes], BinaryIO]:
    """Return what copies a job's output to its log, and where the job writes it.

    A file that is opened by its name, as by ``echo >/dev/stderr``, loses what it had; a pipe does not. Only jobs that
    do so get one, since a process more takes as long as a short job. It is in a session of its own: the engine may be
    killed, the job goes on.
    """
    reader, writer = os.pipe()
    with open(reader, "rb") as source:  # noqa: PTH123 - a descriptor, not a path
        copier = subprocess.Popen(["cat"], stdin=source, stdout=log, stderr=subprocess.DEVNULL, start_new_session=True)
    return copier, open(writer, "wb")  # noqa: PTH123 - likewise, and the caller closes it


def _supervised(attempt: _Attempt, pid: int) -> bool:
    """Return whether the attempt's supervisor is alive: a process with that number and the attempt's name as a word."""
    name = os.fsencode(attempt.files.name)
    if Path("/proc/self").exists():
        words: list[bytes] = []
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    else:
        listed = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False)
        words = listed.stdout.split()
    if name in words:
        attempt.pid = pid
    return name in words


def _processes() -> Iterable[int]:
    with contextlib.suppress(OSError):
        return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return []


def _signal_main(supervisor: int) -> None:
    """Ask a job to end as a container runtime would: by SIGTERM to its first process; what it leaves is killed later.

    To the whole group the signal would come twice where the first process hands it on, as ezbatch's script does.
    """
    parents = {pid: stat for pid, stat in _table() if stat.parent == supervisor}
    # bubblewrap would die of it and take the command along; its own child is what matters.
    while parents and all(stat.name == "bwrap" for stat in parents.values()):
        parents = {pid: stat for pid, stat in _table() if stat.parent in parents}
    if not parents:
        _signal_group(supervisor, signal.SIGTERM)
    for pid in parents:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)


def _signal_group(supervisor: int, number: signal.Signals) -> None:
    """Signal every process of a supervisor's session, those in groups of their own included."""
    if not supervisor:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(supervisor, number)
    for pid, stat in _table():
        if stat.session == supervisor:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


class _Stat(NamedTuple):
    name: str
    parent: int
    session: int


def _table() -> Iterator[tuple[int, _Stat]]:
    """Yield the machine's processes, where the system shows them in /proc."""
    for pid in _processes():
        with contextlib.suppress(OSError, ValueError, IndexError):
            text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
            # The name may hold anything, blanks and brackets included.
            fields = text[text.rindex(")") + 2 :].split()
            yield pid, _Stat(text[text.index("(") + 1 : text.rindex(")")], int(fields[1]), int(fields[3]))
