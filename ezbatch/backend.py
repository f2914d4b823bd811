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

__all__ = [
    "Attempt",
    "Backend",
    "EnvironmentFacts",
    "JobReport",
    "JobState",
    "LogEvent",
    "Queue",
    "QueueFacts",
    "array_state",
]


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
    forgotten : bool
        Whether the place that ran it no longer knows it: this is how it was last seen.
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
    forgotten: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more will be known of it."""
        return self.state.terminal or self.forgotten

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


@dataclasses.dataclass(frozen=True)
class EnvironmentFacts:
    """What is known of a compute environment of a queue.

    Parameters
    ----------
    name : str
        The compute environment.
    platform : str
        ``FARGATE``, ``FARGATE_SPOT``, ``EC2``, ``SPOT`` or ``UNMANAGED``.
    state, status : str
        What a person set (``ENABLED``, ``DISABLED``) and what AWS found (``VALID``, ``INVALID``, ...).
    reason : str
        Why the status is what it is.
    max_vcpus : float, optional
        The vCPUs that its jobs can have at once; None where there is no such limit.
    """

    name: str
    platform: str = "FARGATE"
    state: str = "ENABLED"
    status: str = "VALID"
    reason: str = ""
    max_vcpus: float | None = None

    @property
    def usable(self) -> bool:
        """Whether it starts jobs."""
        return self.state == "ENABLED" and self.status in ("VALID", "UPDATING")


@dataclasses.dataclass(frozen=True)
class QueueFacts:
    """What one look at a queue found, for telling why its jobs wait.

    Parameters
    ----------
    queue : str
        The queue's name.
    seen : datetime
        When, in UTC.
    state, status, reason : str
        As of an :class:`EnvironmentFacts`.
    environments : tuple of EnvironmentFacts
        In the order in which the queue tries them.
    front : mapping of str to datetime, optional
        The ids of the jobs at the front, the next to start first, and since when each has been at its place; at most
        100. None if that could not be seen.
    head_name, head_reason : str
        The job at the head, and why AWS says that it cannot start.
    runnable, running : int, optional
        How many jobs wait for room, and how many have it.
    vcpus : float, optional
        The vCPUs of those that have room.
    quota : float, optional
        The vCPUs that the account may have at once on the queue's platform.
    looked, unseen : tuple of str
        What was looked at, and what could not be.
    """

    queue: str
    seen: datetime
    state: str = "ENABLED"
    status: str = "VALID"
    reason: str = ""
    environments: tuple[EnvironmentFacts, ...] = ()
    front: Mapping[str, datetime] | None = None
    head_name: str = ""
    head_reason: str = ""
    runnable: int | None = None
    running: int | None = None
    vcpus: float | None = None
    quota: float | None = None
    looked: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


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

        When it raises SubmissionError, what was handed over has been cancelled. After any other error it is still
        there, and calling this again goes on; RunInterruptedError says that it may be more than was recorded.

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

    def find(self, run_id: str, plan: Plan, known: Mapping[str, str]) -> dict[str, str]:
        """Return the ids, by name, of the plan's jobs that this place has: what a process that was killed left.

        ``known`` holds those that the ledger has; they are kept.
        """
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

    def log(
        self, run_id: str, report: JobReport, attempt: int, cursor: object = None, last: int | None = None
    ) -> tuple[list[LogEvent], object]:
        """Return what an attempt has written since the cursor, at most a page, and the cursor for the next look.

        Without a cursor it begins at the start or, with ``last``, where at least so many lines are left. An empty page
        means that there is nothing new now. A last line without a newline is held back until the report
        says that the attempt has stopped.
        """
        ...

    def facts(self, queue: str) -> QueueFacts | None:
        """Look at a queue, and return what tells why its jobs wait; None where jobs tell it themselves."""
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
