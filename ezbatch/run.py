"""The run handle: submit a workflow, watch it, read its logs, cancel it, retry it, come back to it."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ezbatch import ledger as ledgers
from ezbatch import names, spec
from ezbatch.backend import Backend, JobReport, JobState, LogEvent, QueueFacts
from ezbatch.cost import PRICES, Prices, Span, Spent, over_limit, spent
from ezbatch.errors import (
    BackendError,
    EZBatchError,
    InvalidWorkflowError,
    JobFailedError,
    JobNotFoundError,
    RunInterruptedError,
    RunNotFoundError,
    StateDirectoryError,
    SubmissionError,
    UnreachableError,
    WaitTimeoutError,
)
from ezbatch.explain import Explanation, Needs, explain
from ezbatch.ledger import Ledger, RunRecord
from ezbatch.logs import LogReader, Source
from ezbatch.planning import LOCAL, Plan, PlannedJob, plan
from ezbatch.settings import Settings
from ezbatch.stuck import LOOK_EVERY, StuckJobs
from ezbatch.workflow import EZBatchWorkflow

if TYPE_CHECKING:
    from ezbatch.progress import Progress

__all__ = ["EZBatchRun", "runs", "submit"]

log = logging.getLogger(__name__)

SUBMITTING, RUNNING, INTERRUPTED = "SUBMITTING", "RUNNING", "INTERRUPTED"
SUCCEEDED, FAILED, CANCELLED = "SUCCEEDED", "FAILED", "CANCELLED"
TERMINAL = frozenset({SUCCEEDED, FAILED, CANCELLED})
#: Seconds after which a job that waits for room is worth a look at its queue.
LONG = 120.0

#: A job that was seen and is missing so many times in a row is forgotten; so is one that was submitted so many seconds
#: ago. AWS keeps what has ended for seven days at least (API reference, ListJobs).
_LOOKS, _AGE = 3, 3600.0
#: What AWS says of a job that waited for one that failed, without saying which.
_BLOCKED = "Dependent Job failed"
#: Letters and digits of which none looks like another.
_ID_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"
_ID_LENGTH = 6


def backend_for(queue: str, settings: Settings) -> Backend:
    """Return the place where a queue's jobs run."""
    if queue == LOCAL:
        from ezbatch.local.backend import LocalBackend

        return LocalBackend(settings)
    from ezbatch.aws.backend import AWSBackend

    return AWSBackend(settings)


def submit(
    workflow: EZBatchWorkflow,
    queue: str | None = None,
    *,
    settings: Settings | None = None,
    max_cost: float | None = None,
    only: Mapping[str, Sequence[int] | None] | None = None,
    retry_of: str | None = None,
    progress: Progress | bool | None = None,
    backend: Backend | None = None,
) -> EZBatchRun:
    """Submit a workflow, and return once every job is accepted.

    Parameters
    ----------
    workflow : EZBatchWorkflow
        It is not changed, and can be submitted again.
    queue : str, optional
        ``"local"`` for this machine, or the name or ARN of a queue. None is the queue of the settings, which is
        ``"local"`` where nothing else is set. A job's own queue wins.
    settings : Settings, optional
        Instead of those that are set.
    max_cost : float, optional
        US dollars. What could cost more on AWS, or has no limit, is refused.
    only : mapping of str to sequence of int or None, optional
        Submit these jobs alone; see :func:`ezbatch.plan`.
    retry_of : str, optional
        The run that this one repeats.
    progress : bool or Progress, optional
        Whether to show how far it has got, should it take longer than a moment. None does in a terminal and in a
        notebook.
    backend : Backend, optional
        Instead of the one that the queue's name stands for.

    Returns
    -------
    EZBatchRun
        The run's handle.

    Raises
    ------
    InvalidWorkflowError
        With everything that is wrong; nothing was submitted.
    StateDirectoryError
        If the ledger cannot be written; nothing was submitted.
    BackendError
        If the jobs could not be handed over: says what was done.
    """
    from ezbatch.progress import shown

    settings = settings or Settings.load()
    made = plan(workflow, queue or settings.queue, only=only)
    backend = backend or backend_for(made.queue, settings)
    ledger = Ledger(settings.state_directory)
    problems = over_limit(made, max_cost) or backend.preflight(made)
    if problems:
        raise InvalidWorkflowError(workflow.name, problems)
    texts = (json.dumps(workflow.to_dict()), made.to_json())
    for record in _new_records(workflow.name, made.queue, retry_of):
        # The lock is there before the intent is: whoever sees the intent sees that its submitter lives.
        with ledger.submitting(record.id):
            if not ledger.add(record, *texts):
                continue
            run = EZBatchRun(record, ledger, backend, plan=made)
            with shown(progress) as show:
                run._hand_over(show)  # noqa: SLF001 - this function is the handle's constructor
            return run
    raise AssertionError  # the records never end


def _new_records(name: str, queue: str, retry_of: str | None) -> Iterator[RunRecord]:
    stem = names.slug(name, 40)
    while True:
        run_id = f"{stem}-{''.join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))}"
        yield RunRecord(run_id, name, queue, SUBMITTING, ledgers.now(), None, None, retry_of)


def runs(*, settings: Settings | None = None, limit: int = -1) -> list[EZBatchRun]:
    """Return the runs that the ledger knows, newest first, each as it was last seen."""
    settings = settings or Settings.load()
    ledger = Ledger(settings.state_directory)
    return [EZBatchRun(record, ledger, settings=settings) for record in ledger.runs(limit)]


class EZBatchRun:
    """One submission of a workflow. Made by ``workflow.submit()``, :meth:`attach` and :func:`ezbatch.runs`.

    Properties tell what was last seen and never call out; :meth:`refresh` looks.
    """

    def __init__(
        self,
        record: RunRecord,
        ledger: Ledger,
        backend: Backend | None = None,
        *,
        plan: Plan | None = None,
        settings: Settings | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._record = record
        self._ledger = ledger
        self._settings = settings
        self._given_backend = backend
        self._given_plan = plan
        self._sleep = sleep
        self._clock = clock
        self._interruption = ""
        self._known: dict[str, tuple[str, JobReport | None]] | None = None
        self._facts: dict[str, tuple[float, QueueFacts | None]] = {}  # by queue: when it was looked at, what was found
        self._waiting: dict[str, float] = {}  # since when jobs have been seen to wait for room
        self._missed: dict[str, int] = {}  # looks in a row at a job that its place did not know

    @classmethod
    def attach(cls, run_id: str, queue: str | None = None, *, settings: Settings | None = None) -> EZBatchRun:
        """Return the handle of a run that was submitted before, by this process or another.

        Parameters
        ----------
        run_id : str
            The run's id, a unique prefix of it, or ``@last``.
        queue : str, optional
            The queue it was submitted to; only where the ledger does not know the run.

        Raises
        ------
        RunNotFoundError
            If no run, or more than one, is meant.
        """
        settings = settings or Settings.load()
        ledger = Ledger(settings.state_directory)
        try:
            run = cls(ledger.find(run_id), ledger, settings=settings)
        except RunNotFoundError:
            place = queue or settings.queue
            if place == LOCAL or run_id == "@last":
                raise
            return _rebuilt(run_id, place, ledger, settings).refresh()
        if queue is not None and queue != run.queue:
            log.warning("run %s was submitted to queue %s; %s is not looked at", run.id, run.queue, queue)
        return run.refresh()

    def copy(self) -> EZBatchRun:
        """Return a handle of the same run that another thread may use: with a connection to the ledger of its own."""
        ledger = Ledger(self._ledger.directory)
        return EZBatchRun(self._record, ledger, self._backend, plan=self.plan, settings=self._settings)

    def learn(self, other: EZBatchRun) -> None:
        """Take over what another handle of the same run has seen."""
        self._record, self._known = other._record, dict(other._jobs_known())
        self._interruption = other._interruption

    # What is known

    @property
    def id(self) -> str:
        """The run's id."""
        return self._record.id

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self._record.name

    @property
    def queue(self) -> str:
        """The queue it was submitted to."""
        return self._record.queue

    @property
    def state(self) -> str:
        """SUBMITTING, RUNNING, INTERRUPTED (see :attr:`interruption`), SUCCEEDED, FAILED or CANCELLED."""
        return INTERRUPTED if self._interruption else self._record.state

    @property
    def interruption(self) -> str:
        """Why the run stands still, or nothing. ``resume()`` makes it go on, ``cancel()`` ends it."""
        return self._interruption

    @property
    def retry_of(self) -> str | None:
        """The run that this one repeats."""
        return self._record.retry_of

    @property
    def created(self) -> datetime:
        """When it was submitted, in UTC."""
        created = ledgers.as_time(self._record.created)
        assert created is not None  # noqa: S101 - the record has one
        return created

    @property
    def finished(self) -> datetime | None:
        """When its end was first seen, in UTC."""
        return ledgers.as_time(self._record.finished)

    @property
    def workflow(self) -> EZBatchWorkflow:
        """The workflow, as it was submitted."""
        return EZBatchWorkflow.from_dict(json.loads(self._ledger.workflow(self.id)))

    @property
    def plan(self) -> Plan:
        """The plan by which it was submitted."""
        if self._given_plan is None:
            self._given_plan = Plan.from_json(self._ledger.plan(self.id))
        return self._given_plan

    @property
    def jobs(self) -> dict[str, JobReport]:
        """A report for each job of the workflow that is part of this run, as it was last seen; joins are left out."""
        return {name: report for name, report in self._reports().items() if not self._planned[name].join}

    @property
    def accepted(self) -> int:
        """How many of the plan's jobs have been handed over, joins included."""
        return sum(1 for job_id, _report in self._jobs_known().values() if job_id)

    @property
    def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state, those in none left out; what was never submitted is in none."""
        counts: dict[JobState, int] = {}
        for report in self.jobs.values():
            if report.job_id:
                counts[report.state] = counts.get(report.state, 0) + 1
        return {state: counts[state] for state in JobState if state in counts}

    @property
    def unsubmitted(self) -> int:
        """How many jobs were not submitted, joins left out: some while that goes on, or where it broke off."""
        return sum(1 for report in self.jobs.values() if not report.job_id)

    @property
    def notes(self) -> list[str]:
        """What a person should know of where its jobs run."""
        return [*self.plan.notes, *self._backend.notes(self.plan)]

    @property
    def parents(self) -> dict[str, tuple[str, ...]]:
        """What each job of the run depends on, joins seen through."""
        found: dict[str, tuple[str, ...]] = {}
        for job in self.plan.jobs:
            parents = [found[p] if self._planned[p].join else (p,) for p in job.parents]
            found[job.name] = tuple(dict.fromkeys(itertools.chain.from_iterable(parents)))
        return {name: parents for name, parents in found.items() if not self._planned[name].join}

    @property
    def _planned(self) -> dict[str, PlannedJob]:
        if not hasattr(self, "_planned_jobs"):
            self._planned_jobs = {job.name: job for job in self.plan.jobs}
        return self._planned_jobs

    @property
    def _backend(self) -> Backend:
        if self._given_backend is None:
            self._given_backend = backend_for(self.queue, self._settings or Settings.load())
        return self._given_backend

    def _ids(self) -> dict[str, str]:
        """Return the ids that the ledger has, by name."""
        return {name: job_id for name, (job_id, _report) in self._ledger.jobs(self.id).items()}

    def _jobs_known(self) -> dict[str, tuple[str, JobReport | None]]:
        if self._known is None:
            self._known = self._ledger.jobs(self.id)
        return self._known

    def _reports(self) -> dict[str, JobReport]:
        known = self._jobs_known()
        reports = {}
        culprits: dict[str, str] = {}
        for job in self.plan.jobs:
            job_id, report = known.get(job.name, ("", None))
            if report is not None and report.state is JobState.FAILED:
                culprits[job.name] = job.name
            elif report is not None and report.state is JobState.BLOCKED:
                culprit = next((culprits[parent] for parent in job.parents if parent in culprits), "")
                culprits[job.name] = culprit
                if culprit and report.reason == _BLOCKED:
                    report = dataclasses.replace(report, reason=f"{_BLOCKED}: {culprit}")
            reports[job.name] = report or self._unseen(job.name, job_id)
        return reports

    def _unseen(self, name: str, job_id: str) -> JobReport:
        """Return the report of a job that was never looked at."""
        if not job_id and self._record.state in TERMINAL:
            return JobReport(name, "", JobState.FAILED, reason="it was never submitted", cancelled=True)
        if not job_id and self.interruption:
            return JobReport(name, "", JobState.SUBMITTED, reason="it is not submitted yet")
        return JobReport(name, job_id, JobState.SUBMITTED)

    def __repr__(self) -> str:
        return f"<EZBatchRun {self.id} {self.state} on {self.queue}>"

    # Submitting

    def _hand_over(self, show: Progress | None = None) -> None:
        """Submit what is not submitted yet; on failure the ledger tells what became of it."""
        accepted = {name: job_id for name, (job_id, _report) in self._ledger.jobs(self.id).items()}

        def record(ids: Mapping[str, str]) -> None:
            self._ledger.accepted(self.id, ids)
            accepted.update(ids)
            self._known = {name: (job_id, None) for name, job_id in accepted.items()}
            if show is not None and len(accepted) < len(self.plan.jobs):
                show(self)

        try:
            self._backend.submit(self.id, self.plan, dict(accepted), record)
        except RunInterruptedError:
            self._known = None
            raise
        except SubmissionError as error:
            self._known = None
            self._save(state=RUNNING, cancelled=f"it could not be submitted: {error}")
            self._see_out()
            if error.interrupted:
                raise KeyboardInterrupt(str(error)) from error
            raise
        except BaseException as error:
            self._known = None
            interrupted = isinstance(error, KeyboardInterrupt)
            if not accepted:
                # Nothing was handed over, so the run is over before it began.
                why = "interrupted" if interrupted else error
                with contextlib.suppress(StateDirectoryError):
                    self._save(state=CANCELLED, finished=ledgers.now(), cancelled=f"it could not be submitted: {why}")
            if interrupted:
                left = f"Go on: ezbatch resume {self.id}   End it: ezbatch cancel {self.id}"
                done = left if accepted else "Nothing was submitted."
                raise KeyboardInterrupt(f"the submission of run {self.id} was interrupted. {done}") from error
            raise
        self._known = {name: (job_id, None) for name, job_id in accepted.items()}
        self._save(state=RUNNING)
        cancelled = self._ledger.find(self.id).cancelled
        if cancelled is not None:
            # Another process cancelled the run while this one was still submitting it.
            self._backend.cancel(self.id, list(accepted.values()), cancelled[:1024])

    def _see_out(self) -> None:
        """Wait a little for jobs that were taken back, so that their definitions can go, too."""
        for _look in range(20):
            try:
                self._look()
            except BackendError as error:
                log.warning("run %s: %s", self.id, error)
                return
            if self.state in TERMINAL:
                return
            self._sleep(self._backend.poll[0])

    def _save(self, **changes: Any) -> None:  # noqa: ANN401 - columns of different types
        self._record = self._record._replace(**changes)
        self._ledger.update(self.id, **changes)

    # Watching

    def refresh(self) -> EZBatchRun:
        """Look once at what has become of the jobs.

        Returns
        -------
        EZBatchRun
            This run.
        """
        self._look()
        return self

    def _look(self) -> bool:
        """Refresh, and return whether anything has changed."""
        if self._record.state in TERMINAL:
            return False
        before = self.state
        if self._record.state == SUBMITTING:
            self._record = self._ledger.find(self.id)
            self._known = None
            if self._record.state == SUBMITTING:
                living = self._ledger.is_submitting(self.id)
                self._interruption = "" if living else "its submission broke off"
                return self.state != before
        known = self._jobs_known()
        # What has ended never changes again, so it is not asked for.
        live = {name: job_id for name, (job_id, report) in known.items() if not (report and report.over)}
        reports = self._backend.describe(self.id, live)
        reports |= self._forgotten({name: job_id for name, job_id in live.items() if name not in reports})
        changed = [report for name, report in reports.items() if known.get(name, ("", None))[1] is not report]
        changed = [report for report in changed if report != known[report.name][1]]
        for report in changed:
            known[report.name] = (report.job_id, report)
        if changed:
            try:
                self._ledger.seen(self.id, changed)
            except StateDirectoryError as error:
                # What was seen is still true; it will be seen again.
                log.warning("%s", error)
        self._conclude(known)
        self._note_waiting()
        return bool(changed) or self.state != before

    def _note_waiting(self) -> None:
        """Look at the queues of jobs that have waited for room for long, so that what shows the run can say why."""
        now = self._clock()
        waiting = {name: report for name, report in self.jobs.items() if report.state is JobState.RUNNABLE}
        self._waiting = {name: self._waiting.get(name, now) for name in waiting}
        for queue in {self._planned[name].queue for name, since in self._waiting.items() if now - since >= LONG}:
            if now - self._facts.get(queue, (-LOOK_EVERY, None))[0] >= LOOK_EVERY:
                self._look_at(queue)

    def _look_at(self, queue: str) -> QueueFacts | None:
        try:
            found = self._backend.facts(queue)
        except BackendError as error:
            log.warning("run %s: queue %s cannot be looked at: %s", self.id, queue, error)
            found = self._facts.get(queue, (0.0, None))[1]
        self._facts[queue] = self._clock(), found
        return found

    def _forgotten(self, missing: Mapping[str, str]) -> dict[str, JobReport]:
        """Return the last that is known of jobs which their place no longer knows, so that watching ends.

        One that was just accepted may not show yet; one that was seen is given some looks.
        """
        found = {}
        self._missed = {name: self._missed.get(name, 0) + 1 for name in missing}
        for name, job_id in missing.items():
            last = self._jobs_known()[name][1]
            submitted = last.created if last is not None and last.created else self.created
            if (last is not None and self._missed[name] >= _LOOKS) or ledgers.now() - submitted.timestamp() > _AGE:
                found[name] = self._lost(name, job_id)
        return found

    def _lost(self, name: str, job_id: str) -> JobReport:
        """Return the last that will be known of a job which its place no longer knows."""
        last = self._jobs_known()[name][1] or JobReport(name, job_id, JobState.SUBMITTED)
        reason = f"{self.queue} no longer knows it; it was last seen {last.state.value}"
        return dataclasses.replace(last, forgotten=True, reason=reason)

    def _give_up(self) -> None:
        """End a cancelled run of which its place knows nothing, so that nobody waits for it."""
        known = self._jobs_known()
        live = [(name, job_id) for name, (job_id, report) in known.items() if not (report and report.over)]
        lost = [self._lost(name, job_id) for name, job_id in live]
        known.update({report.name: (report.job_id, report) for report in lost})
        self._ledger.seen(self.id, lost)
        self._conclude(known)

    def _conclude(self, known: Mapping[str, tuple[str, JobReport | None]]) -> None:
        """Set the run's state from its jobs'; the one who sees the end gives back what the run took."""
        states = [report.state if report else JobState.SUBMITTED for _job_id, report in known.values()]
        over = all(report is not None and report.over for _job_id, report in known.values())
        # A submission that was given up leaves jobs that never were; the run ends with those that are.
        given_up = self._record.cancelled is not None
        if not over or (len(states) < len(self.plan.jobs) and not given_up):
            self._interruption = self._backend.interruption(self.id)
            if self._interruption:
                # It may have ended between the two looks, and its engine with it.
                ids = {name: job_id for name, (job_id, report) in known.items() if not (report and report.over)}
                reports = self._backend.describe(self.id, ids)
                if len(reports) == len(ids) and all(report.state.terminal for report in reports.values()):
                    self._interruption = ""
            return
        self._interruption = ""
        cancelled = self._ledger.find(self.id).cancelled
        if len(states) == len(self.plan.jobs) and all(state is JobState.SUCCEEDED for state in states):
            state = SUCCEEDED
        else:
            state = CANCELLED if cancelled is not None else FAILED
        self._backend.finish(self.id, self.plan)
        self._record = self._record._replace(cancelled=cancelled)
        stops = [report.stopped for _id, report in known.values() if report and report.stopped]
        finished = max(stops).timestamp() if stops else ledgers.now()
        try:
            self._save(state=state, finished=finished)
        except StateDirectoryError as error:
            self._record = self._record._replace(state=state, finished=finished)
            log.warning("%s", error)

    def wait(
        self, timeout: float | None = None, *, progress: Progress | bool | None = None, cancel_stuck: bool = False
    ) -> EZBatchRun:
        """Wait until the run has ended. Failed jobs do not raise here: see :meth:`raise_for_status`.

        An interrupt (Ctrl-C, the notebook's stop button) ends the waiting, never the run.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.
        progress : bool or Progress, optional
            Whether to show a bar. None shows one in a terminal and in a notebook.
        cancel_stuck : bool
            Whether to cancel jobs that wait for what comes only when a person acts, such as vCPUs that their queue can
            never give: those that were seen so at two looks or more, over ten minutes.

        Returns
        -------
        EZBatchRun
            This run.

        Raises
        ------
        WaitTimeoutError
            If it has not ended in time; it goes on.
        RunInterruptedError
            If it stands still, and waiting would never end.
        """
        from ezbatch.progress import shown

        if self._record.state in TERMINAL:
            return self
        deadline = None if timeout is None else self._clock() + timeout
        pause, longest = self._backend.poll
        watch, looked = StuckJobs(), self._clock()
        with shown(progress) as show:
            while True:
                try:
                    changed = self._look()
                except UnreachableError as error:
                    # A laptop that was closed, a train in a tunnel: the run goes on, and so does the waiting.
                    log.warning("run %s: %s", self.id, error)
                    changed = False
                show(self)
                if self.state in TERMINAL:
                    return self
                if cancel_stuck and self._clock() - looked >= LOOK_EVERY:
                    looked = self._clock()
                    self._cancel_stuck(watch)
                if self.state == INTERRUPTED:
                    raise RunInterruptedError(self._standing_still())
                left = None if deadline is None else deadline - self._clock()
                if left is not None and left <= 0:
                    message = f"run {self.id} has not ended within {timeout:g} s; it goes on. Wait again, or cancel it."
                    raise WaitTimeoutError(message)
                pause = self._backend.poll[0] if changed else min(pause * 1.5, longest)
                self._sleep(pause if left is None else min(pause, left))

    def _standing_still(self) -> str:
        return (
            f"run {self.id} stands still: {self.interruption}. "
            f"Finish it by run.resume() or `ezbatch resume {self.id}`, or end it by cancel."
        )

    def raise_for_status(self) -> EZBatchRun:
        """Raise if the run has failed, was cancelled or stands still, as it was last seen.

        Returns
        -------
        EZBatchRun
            This run.

        Raises
        ------
        JobFailedError
            Which job failed, why, its exit code, the last lines of its log and what to do.
        RunInterruptedError
            If the run stands still.
        """
        if self.state == INTERRUPTED:
            raise RunInterruptedError(self._standing_still())
        if self.state not in (FAILED, CANCELLED):
            return self
        # The user's own jobs first; a join can fail too, where its image cannot be had.
        own, joins = self._failed(join=False), self._failed(join=True)
        failed = own or joins
        if self.state == CANCELLED:
            message = f"run {self.id} was cancelled: {self._record.cancelled}. Run what was not done: run.retry()"
            raise JobFailedError(message, run_id=self.id, job=failed[0].name if failed else "")
        if not failed:
            lost = [report for report in self.jobs.values() if report.forgotten]
            message = f"how {len(lost)} jobs of run {self.id} ended is not known: {lost[0].reason}. Again: run.retry()"
            raise JobFailedError(message, run_id=self.id, job=lost[0].name)
        first = failed[0]
        more = f" and {len(failed) - 1} more failed" if len(failed) > 1 else " failed"
        blocked = sum(1 for report in self.jobs.values() if report.state is JobState.BLOCKED)
        lines = [
            f"job {first.name!r}{more}" + (f", {blocked} could not start" if blocked else "") + f" (run {self.id})"
        ]
        lines.append(f"  {self._explanation(first)}")
        tail = self._tail(first) if own else []
        if tail:
            lines.append("  The end of its log:")
            lines += [f"    {line}" for line in tail]
        lines.append(f"  The whole log: ezbatch logs {self.id} {_quoted(first.name)}   Again: ezbatch retry {self.id}")
        raise JobFailedError("\n".join(lines), run_id=self.id, job=first.name)

    def _failed(self, *, join: bool) -> list[JobReport]:
        reports = self._reports().values()
        return [r for r in reports if r.state is JobState.FAILED and self._planned[r.name].join == join]

    def _tail(self, report: JobReport, count: int = 8) -> list[str]:
        name = report.name
        if report.children is not None:
            failed = self.failed_children(name)
            if not failed:
                return []
            name = f"{name}:{failed[0]}"
        try:
            return [event.message[:400] for event in self.logs(name, tail=count)]
        except EZBatchError as error:
            return [f"(the log cannot be read: {error})"]

    def explain(self, job: str | None = None, *, look: bool = True) -> Explanation:
        """Say why a job, or the run, is where it is, as it was last seen.

        Parameters
        ----------
        job : str, optional
            A job, or an array's child such as ``align:3``. None takes the one that needs attention most.
        look : bool
            Whether to look at the queue now when the job waits for room. False tells from what is known: the queue of
            a job that waits for long is looked at by :meth:`refresh`, once a minute.

        Returns
        -------
        Explanation
            Cause, evidence and remedy.

        Raises
        ------
        JobNotFoundError
            If the run has no such job.
        """
        if job is None:
            if self.interruption:
                return Explanation(
                    "The run stands still", self.interruption, "Finish it by resume, or end it by cancel"
                )
            urgent = (JobState.FAILED, JobState.RUNNABLE, JobState.STARTING, JobState.RUNNING, JobState.PENDING)
            own, joins = list(self.jobs.values()), self._failed(join=True)
            found = next((r for state in urgent for r in (*own, *joins) if r.state is state), None)
            if found is None:
                return Explanation("Every job succeeded" if self.state == SUCCEEDED else "It was accepted")
            inner = self._explanation(found, look=look)
            return dataclasses.replace(inner, cause=f"{found.name}: {inner.cause}")
        return self._explanation(self.report(job), look=look)

    def _explanation(
        self,
        report: JobReport,
        *,
        look: bool = True,
        among: tuple[Mapping[str, JobReport], Mapping[str, tuple[str, ...]]] | None = None,
    ) -> Explanation:
        reports, parents = among or (self.jobs, self.parents)
        planned = self._planned.get(report.name) or self._planned[report.name.rpartition(":")[0]]
        facts = None
        if report.state is JobState.RUNNABLE:
            facts = self._look_at(planned.queue) if look else self._facts.get(planned.queue, (0.0, None))[1]
        definition = self.plan.definition_of(planned)
        needs = Needs(
            planned.vcpus,
            planned.memory,
            definition.platform,
            definition.image,
            planned.timeout,
            planned.queue == LOCAL,
        )
        return explain(report, reports, parents, facts, needs=needs, copies=bool(planned.paths))

    def explanations(self, jobs: Iterable[str]) -> dict[str, Explanation]:
        """Say why jobs are where they are, as they were last seen: for many, much quicker than one after the other.

        Parameters
        ----------
        jobs : iterable of str
            Jobs of the run; array children are not among them.
        """
        among = self.jobs, self.parents
        return {name: self._explanation(among[0][name], look=False, among=among) for name in jobs}

    @property
    def waiting(self) -> dict[str, Explanation]:
        """Why jobs wait for room, as far as their queues have been looked at: a view's column that says why."""
        looked = {queue for queue, (_at, facts) in self._facts.items() if facts is not None}
        return self.explanations(
            name
            for name, report in (self.jobs.items() if looked else ())
            if report.state is JobState.RUNNABLE and self._planned[name].queue in looked
        )

    def stuck(self) -> dict[str, Explanation]:
        """Look at the queues, and return why each job waits that waits for room.

        Those whose explanation is ``stuck`` start only when a person acts.
        """
        waiting = [name for name, report in self.jobs.items() if report.state is JobState.RUNNABLE]
        for queue in {self._planned[name].queue for name in waiting}:
            self._look_at(queue)
        return self.explanations(waiting)

    def cancel_stuck(self, tell: Callable[[Mapping[str, Explanation]], None] | None = None) -> dict[str, Explanation]:
        """Cancel the jobs that wait for what comes only when a person acts: those that still do after ten minutes.

        Parameters
        ----------
        tell : callable, optional
            Called with the jobs that look stuck and why, at the first look and whenever they change.

        Returns
        -------
        dict of str to Explanation
            The jobs that were cancelled, and why; empty at once if none looks stuck.
        """
        watch = StuckJobs()
        gone: dict[str, Explanation] = {}
        told: set[str] = set()
        while True:
            gone |= self._cancel_stuck(watch)
            suspects = {name: why for name, why in watch.suspects.items() if name not in gone}
            if not suspects:
                return gone
            if tell is not None and set(suspects) != told:
                told = set(suspects)
                tell(suspects)
            self._sleep(LOOK_EVERY)
            self._look()

    def _cancel_stuck(self, watch: StuckJobs) -> dict[str, Explanation]:
        gone = watch.see(self._clock(), self.stuck())
        for name, why in gone.items():
            minutes = watch.dwell / 60
            log.warning("run %s: %s is cancelled, stuck for %g minutes: %s", self.id, name, minutes, why)
            self.cancel(name, f"stuck for {minutes:g} minutes: {why.cause} ({why.evidence})")
        return gone

    # Jobs

    def report(self, job: str) -> JobReport:
        """Return the report of a job or, looked up now, of an array's child such as ``align:3``.

        Raises
        ------
        JobNotFoundError
            If the run has no such job or child.
        """
        report = self._source(job)()
        if report.reason == _BLOCKED and job in self._planned:
            return self._reports()[job]
        return report

    def _source(self, job: str) -> Source:
        """Return what reports on a job or child; a job that is called like another's child is meant before it."""
        planned = self._planned.get(job)
        if planned is not None and not planned.join:
            return lambda: self._report(job)
        array, colon, index = job.rpartition(":")
        planned = self._planned.get(array) if colon and index.isdecimal() else None
        if planned is None or planned.join:
            message = f"run {self.id} has no job {job!r}{spec.nearest(job, self.jobs)}"
            raise JobNotFoundError(message)
        return self._child(array, self._position(planned, int(index)))

    def _report(self, name: str) -> JobReport:
        # Without the job that blocked it: to find that takes a look at every job, and logs ask this of every job.
        job_id, report = self._jobs_known().get(name, ("", None))
        return report or self._unseen(name, job_id)

    def _child(self, array: str, position: int) -> Source:
        name = f"{array}:{self._own_index(array, position)}"
        if self._planned[array].array_size is None:
            return lambda: dataclasses.replace(self.report(array), name=name)

        def look() -> JobReport:
            job_id = self._report(array).job_id
            return self._backend.child(self.id, job_id, name, position) if job_id else _unknown(name)

        return look

    def _position(self, planned: PlannedJob, index: int) -> int:
        """Return where a child stands among those of this run: a retry runs some only."""
        if planned.indices is not None:
            if index in planned.indices:
                return planned.indices.index(index)
            message = f"child {index} of {planned.name!r} is not part of run {self.id}: it had succeeded before"
            raise JobNotFoundError(message)
        if planned.array_size is None:
            message = f"job {planned.name!r} is no array"
            raise JobNotFoundError(message)
        if index >= planned.array_size:
            message = f"array {planned.name!r} has no child {index}: they are 0 to {planned.array_size - 1}"
            raise JobNotFoundError(message)
        return index

    def _own_index(self, name: str, position: int) -> int:
        indices = self._planned[name].indices
        return position if indices is None else indices[position]

    def failed_children(self, array: str) -> list[int]:
        """Return the indices of an array's children that have failed, looked up now.

        Parameters
        ----------
        array : str
            An array of the run. The indices are those of the workflow, in a retry of some children too.
        """
        failed = self._backend.failed_children(self.id, self._report(array).job_id)
        return [self._own_index(array, position) for position in failed]

    def log_page(
        self, report: JobReport, attempt: int, cursor: object = None, last: int | None = None
    ) -> tuple[list[LogEvent], object]:
        """Return the next page of one attempt's log and the cursor of the one after it; no events: no more for now.

        Parameters
        ----------
        report : JobReport
            Of the job or the array's child, as :meth:`report` gives it.
        attempt : int
            The attempt, from 1.
        cursor : object, optional
            What the page before came with. None reads from the start.
        last : int, optional
            Without a cursor, begin where at least so many lines are left, and not at the start.

        Raises
        ------
        LogMissingError
            If the log is not there.
        """
        return self._backend.log(self.id, report, attempt, cursor, last)

    def logs(self, job: str | None = None, *, follow: bool = False, tail: int | None = None) -> Iterator[LogEvent]:
        """Yield the lines that jobs have written, every attempt, oldest first.

        Parameters
        ----------
        job : str, optional
            A job, or an array's child such as ``align:3``; an array means all its children. None means every job.
        follow : bool
            Whether to wait for more until the jobs have ended, with the jobs' lines as they come.
        tail : int, optional
            Only the last so many lines of each job, as far as they are there now.

        Raises
        ------
        JobNotFoundError
            If the run has no such job or child; raised at once, not with the first line.
        ValueError
            If ``tail`` is negative.
        """
        if tail is not None and tail < 0:
            raise ValueError(f"tail is {tail}: give how many lines of each job you want, 0 or more")
        wanted = list(self.jobs) if job is None else [job]
        sources: list[Source] = []
        for name in wanted:
            planned = self._planned.get(name)
            if planned is not None and not planned.join and planned.array_size is not None:
                sources += [self._child(name, position) for position in range(planned.array_size)]
            else:
                sources.append(self._source(name))
        return self._lines(sources, follow=follow, tail=tail)

    def _lines(self, sources: Sequence[Source], *, follow: bool, tail: int | None) -> Iterator[LogEvent]:
        alone = len(sources) == 1
        readers = [LogReader(self._backend, self.id, source, alone=alone) for source in sources]
        for reader in readers:
            # What is there already, one job after the other.
            yield from reader.new() if tail is None else reader.last(tail)
        pause = self._backend.poll[0]
        while follow and readers:
            self._look()
            came = False
            ended = self.state in TERMINAL or bool(self.interruption)
            for reader in list(readers):
                over = reader.over
                for event in reader.new():
                    came = True
                    yield event
                if over or ended:
                    readers.remove(reader)
            pause = self._backend.poll[0] if came else min(pause * 1.5, self._backend.poll[1])
            if readers:
                self._sleep(pause)

    def cost(self, prices: Prices = PRICES, *, look: bool = True) -> Spent:
        """Return what the run has cost so far on Fargate, or would have, as it was last seen.

        Parameters
        ----------
        prices : Prices
            The table.
        look : bool
            Whether to look up the times of arrays' children now. Arrays whose times cannot be had are left out, and
            the notes say so.
        """
        known = self._reports()
        arrays = {name: report for name, report in known.items() if report.children is not None and report.job_id}
        spans: dict[str, list[Span]] = {}
        why = "" if look else "AWS was not asked"
        unreachable = False
        for name, report in arrays.items() if look else ():
            try:
                spans[name] = self._backend.spans(self.id, report.job_id)
            except UnreachableError as error:
                # It would take as long to find that out for each of the others.
                why, unreachable = str(error), True
                break
            except BackendError as error:
                why = str(error)
        missing = tuple(name for name in arrays if name not in spans)
        seen = {name: report for name, report in known.items() if name not in missing}
        found = spent(self.plan, seen, datetime.now(timezone.utc), spans, prices)
        if not missing:
            return found
        names = ", ".join(missing)
        note = f"Left out, since the times of their children could not be looked up: {names}. {why.rstrip('.')}"
        return dataclasses.replace(found, notes=(*found.notes, note), missing=missing, unreachable=unreachable)

    # Acting

    def cancel(self, jobs: Iterable[str] | str | None = None, reason: str = "cancelled by the user") -> EZBatchRun:
        """End jobs, those that run included; what has ended already stays as it is. Wait to see the end.

        Parameters
        ----------
        jobs : iterable of str, or str, optional
            Jobs, or array children such as ``align:3``. None ends the whole run.
        reason : str
            Why, at most 1,024 characters.

        Returns
        -------
        EZBatchRun
            This run.

        Raises
        ------
        JobNotFoundError
            If the run has no such job.
        """
        if self._look() and self.state in TERMINAL:
            return self
        if self.state in TERMINAL:
            return self
        if jobs is None:
            if self._record.state == SUBMITTING and self.interruption:
                self._undo(reason)
                return self
            # A process that is still submitting it sees this when it is through.
            self._save(cancelled=reason)
            if self.interruption and not self._backend.find(self.id, self.plan, self._ids()):
                self._give_up()
                return self
            ids = [job_id for job_id, _report in self._jobs_known().values()]
        else:
            wanted = [jobs] if isinstance(jobs, str) else list(jobs)
            ids = [self.report(name).job_id for name in wanted]
        self._backend.cancel(self.id, ids, reason[:1024])
        return self

    def _undo(self, reason: str) -> None:
        """End a run whose submission broke off."""
        with self._ledger.submitting(self.id):
            found = self._backend.find(self.id, self.plan, self._ids())
            self._ledger.accepted(self.id, found)
            self._known = None
            self._save(cancelled=reason, state=RUNNING)
            if found:
                self._backend.cancel(self.id, list(found.values()), reason)
            else:
                # Its jobs may be in the ledger, written a moment before their place would have had them.
                self._give_up()
        self._interruption = ""
        self._look()

    def retry(self, *, progress: Progress | bool | None = None) -> EZBatchRun:
        """Submit again what did not succeed: failed and blocked jobs, and of arrays the failed children.

        Parameters
        ----------
        progress : bool or Progress, optional
            As for :func:`submit`.

        Returns
        -------
        EZBatchRun
            The new run.

        Raises
        ------
        BackendError
            If the run has not ended, or nothing of it failed.
        """
        self._look()
        if self.state not in TERMINAL:
            message = f"run {self.id} has not ended ({self.state}). Wait for it or cancel it, then retry."
            raise BackendError(message)
        only: dict[str, Sequence[int] | None] = {}
        for name, report in self.jobs.items():
            if report.state is JobState.SUCCEEDED:
                continue
            planned = self._planned[name]
            if planned.array_size is None or report.state is JobState.BLOCKED or report.forgotten or not report.job_id:
                only[name] = planned.indices
            else:
                # None that failed is known of where the children are forgotten: then all of them run again.
                only[name] = self.failed_children(name) or planned.indices
        if not only:
            message = f"every job of run {self.id} succeeded: nothing to retry. To run it again, submit the workflow."
            raise BackendError(message)
        backend = self._given_backend
        return submit(
            self.workflow,
            self.queue,
            settings=self._settings,
            only=only,
            retry_of=self.id,
            progress=progress,
            backend=backend,
        )

    def resume(self, *, progress: Progress | bool | None = None) -> EZBatchRun:
        """Make a run that stands still go on. Nothing that succeeded, or was accepted, is done again.

        Parameters
        ----------
        progress : bool or Progress, optional
            As for :func:`submit`.

        Returns
        -------
        EZBatchRun
            This run.
        """
        from ezbatch.progress import shown

        self._look()
        if self.state in TERMINAL:
            return self
        if self._record.state == SUBMITTING:
            with self._ledger.submitting(self.id):
                # Another process may have been quicker.
                self._record = self._ledger.find(self.id)
                if self._record.state == SUBMITTING:
                    found = self._backend.find(self.id, self.plan, self._ids())
                    self._ledger.accepted(self.id, found)
                    with shown(progress) as show:
                        self._hand_over(show)
            self._known = None
        self._backend.resume(self.id)
        self._interruption = ""
        return self


def _rebuilt(run_id: str, queue: str, ledger: Ledger, settings: Settings) -> EZBatchRun:
    """Return a run that this machine's ledger does not know, from what AWS has of it, and write it to the ledger."""
    from ezbatch.aws.backend import AWSBackend
    from ezbatch.aws.rebuild import rebuilt

    backend = AWSBackend(settings)
    details = backend.rebuild(run_id, queue)
    if not details:
        message = (
            f"neither this machine's ledger nor queue {queue!r} has a run {run_id!r}. "
            "Write the whole id, and check the queue, profile and Region."
        )
        raise RunNotFoundError(message)
    found = rebuilt(run_id, queue, details)
    record = RunRecord(run_id, found.workflow.name, queue, RUNNING, found.created, None, None, None)
    ledger.add(record, json.dumps(found.workflow.to_dict()), found.plan.to_json())
    ledger.accepted(run_id, found.job_ids)
    return EZBatchRun(record, ledger, backend, plan=found.plan, settings=settings)


def _unknown(name: str) -> JobReport:
    """Return the report of an array's child of which nothing was seen yet."""
    return JobReport(name, "", JobState.SUBMITTED)


def _quoted(name: str) -> str:
    import shlex

    return shlex.quote(name)
