"""What a place that runs jobs can do, and the words it reports in; ``tests/contract`` is its definition."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from ezbatch.errors import Problem

if TYPE_CHECKING:
    from ezbatch.planning import Plan

__all__ = ["Attempt", "Backend", "JobReport", "JobState", "LogEvent", "Queue", "array_state"]


class JobState(str, enum.Enum):
    """The states of a job: those of AWS Batch, and BLOCKED for one that cannot start because another failed."""

    SUBMITTED = "SUBMITTED"
    PENDING = "PENDING"
    RUNNABLE = "RUNNABLE"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    BLOCKED = "BLOCKED"

    @property
    def terminal(self) -> bool:
        """Whether the job will never change again."""
        return self in _TERMINAL

    def __str__(self) -> str:
        return self.value


_TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.BLOCKED})


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One attempt of a job.

    Parameters
    ----------
    number : int
        From 1.
    started, stopped : datetime, optional
        In UTC.
    exit_code : int, optional
        Of the command; 128 + n when signal n ended it.
    reason : str
        Why it ended, in the words of the place that ran it.
    log : str
        Where the place keeps its log, if a name is needed for that.
    """

    number: int
    started: datetime | None = None
    stopped: datetime | None = None
    exit_code: int | None = None
    reason: str = ""
    log: str = ""


@dataclasses.dataclass(frozen=True)
class JobReport:
    """What is known of a job.

    Parameters
    ----------
    name : str
        What the user called the job; of an array's child ``job:index``.
    job_id : str
        The id in the place that runs it.
    state : JobState
        Of an array the state its children make together.
    attempts : tuple of Attempt
        Those that have started, oldest first.
    exit_code : int, optional
        Of the last attempt.
    reason : str
        Why the job is where it is.
    created, started, stopped : datetime, optional
        In UTC: submitted, last attempt begun, last attempt ended.
    children : mapping of JobState to int, optional
        Of an array: how many of its children are in each state.
    cancelled : bool
        Whether it was cancelled by a person.
    """

    name: str
    job_id: str
    state: JobState
    attempts: tuple[Attempt, ...] = ()
    exit_code: int | None = None
    reason: str = ""
    created: datetime | None = None
    started: datetime | None = None
    stopped: datetime | None = None
    children: Mapping[JobState, int] | None = None
    cancelled: bool = False

    @property
    def attempt(self) -> int:
        """The number of the last attempt, 0 before the first."""
        return self.attempts[-1].number if self.attempts else 0


@dataclasses.dataclass(frozen=True)
class LogEvent:
    """One line of a job's output.

    Parameters
    ----------
    time : datetime
        When it was written, in UTC, as precisely as the place that ran the job knows.
    job : str
        The job's name; of an array's child ``job:index``.
    attempt : int
        From 1.
    message : str
        The line, without its newline.
    """

    time: datetime
    job: str
    attempt: int
    message: str


@dataclasses.dataclass(frozen=True)
class Queue:
    """A queue, as a person chooses one.

    Parameters
    ----------
    name : str
        What to submit to.
    platform : str
        What its jobs run on: ``this machine``, ``FARGATE``, ``FARGATE_SPOT``, ``EC2``, ``SPOT``, several with commas.
    state : str
        ``ready``, or why not.
    max_vcpus : float, optional
        The vCPUs that its jobs can have at once.
    """

    name: str
    platform: str
    state: str
    max_vcpus: float | None = None


def array_state(children: Mapping[JobState, int]) -> JobState:
    """Return the state that an array's children make together.

    A child that runs makes the array RUNNING; once none is left to run, one that failed makes it FAILED.
    """
    for state in (JobState.RUNNING, JobState.STARTING, JobState.RUNNABLE):
        if children.get(state):
            return state
    if children.get(JobState.PENDING) or children.get(JobState.SUBMITTED):
        return JobState.PENDING
    for state in (JobState.FAILED, JobState.BLOCKED):
        if children.get(state):
            return state
    return JobState.SUCCEEDED


class Backend(Protocol):
    """A place that runs jobs."""

    #: The first and the longest pause between two looks, in seconds.
    poll: tuple[float, float]

    def notes(self, plan: Plan) -> list[str]:
        """Return what a person should know of running this plan here, without changing anything."""
        ...

    def preflight(self, plan: Plan) -> list[Problem]:
        """Return what stops this plan from running here, without changing anything."""
        ...

    def submit(
        self, run_id: str, plan: Plan, accepted: Mapping[str, str], record: Callable[[Mapping[str, str]], None]
    ) -> None:
        """Hand over every job of the plan that is not accepted yet, and return once all are.

        When it raises SubmissionError, what was handed over has been cancelled; after any other error it is still
        there, and calling this again goes on.

        Parameters
        ----------
        run_id : str
            The run: every job carries it, so that a submission that broke off can be taken up again.
        plan : Plan
            What to submit.
        accepted : mapping of str to str
            The ids of jobs, by name, that an earlier try is known to have handed over.
        record
            Called with the ids, by name, of jobs as they are accepted.
        """
        ...

    def find(self, run_id: str, plan: Plan) -> dict[str, str]:
        """Return the ids, by name, of the plan's jobs that this place has: what a process that was killed left."""
        ...

    def describe(self, run_id: str, job_ids: Mapping[str, str]) -> dict[str, JobReport]:
        """Return a report for each job of the run, by name; one that is not known here is left out."""
        ...

    def child(self, run_id: str, job_id: str, name: str, index: int) -> JobReport:
        """Return a report of one child of an array; ``index`` is the place's own."""
        ...

    def failed_children(self, run_id: str, job_id: str) -> list[int]:
        """Return the indices of an array's children that did not succeed."""
        ...

    def spans(self, run_id: str, job_id: str) -> list[tuple[datetime, datetime | None]]:
        """Return when the last attempts of an array's children began and ended, those that have begun."""
        ...

    def cancel(self, run_id: str, job_ids: Collection[str], reason: str) -> None:
        """End these jobs, those that run included. What has ended already stays as it is."""
        ...

    def log(self, run_id: str, report: JobReport, attempt: int, cursor: object = None) -> tuple[list[LogEvent], object]:
        """Return what an attempt has written since the cursor, at most a page, and the cursor for the next look.

        An empty page means that there is nothing new now. A last line without a newline is held back until the report
        says that the attempt has stopped.
        """
        ...

    def interruption(self, run_id: str) -> str:
        """Return why the run stands still and what to do, or nothing when it goes on."""
        ...

    def resume(self, run_id: str) -> None:
        """Make an interrupted run go on."""
        ...

    def finish(self, run_id: str, plan: Plan) -> None:
        """Give back what the run took, once every job is terminal. Calling it again does no harm."""
        ...
