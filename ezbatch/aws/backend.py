"""AWS Batch as a backend."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from ezbatch import spec
from ezbatch.aws import requests
from ezbatch.aws.clients import Clients
from ezbatch.aws.facts import queue_facts
from ezbatch.aws.submission import DESCRIBE_AT_ONCE, Submission, accepted_jobs, found_jobs, terminate
from ezbatch.aws.watching import Watcher, report_of, time_of
from ezbatch.backend import JobReport, JobState, LogEvent, Queue, QueueFacts
from ezbatch.errors import (
    BackendError,
    JobNotFoundError,
    LogMissingError,
    Problem,
    RunInterruptedError,
    StateDirectoryError,
    SubmissionError,
    UnreachableError,
)
from ezbatch.planning import LOCAL, Plan
from ezbatch.settings import Settings

__all__ = ["AWSBackend"]

log = logging.getLogger(__name__)

LOG_GROUP = "/aws/batch/job"
#: The role that AWS's own console and tutorials make for pulling images and writing logs.
DEFAULT_EXECUTION_ROLE = "ecsTaskExecutionRole"
#: Tags of a queue that name the roles for its jobs where the settings name none.
EXECUTION_ROLE_TAG, JOB_ROLE_TAG = "ezbatch:execution-role", "ezbatch:job-role"
#: Seconds for which a request whose answer was lost may still show in ListJobs.
SETTLE = 4.0

#: One for each account that this process uses, so that its runs share connections, rates and looks.
_accounts: dict[object, tuple[Clients, Watcher]] = {}
_accounts_lock = threading.Lock()


def _account(settings: Settings) -> tuple[Clients, Watcher]:
    # All that boto3 reads: who logs in as another, or to another place, wants other clients.
    environment = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    with _accounts_lock:
        key = (settings.profile, settings.region, environment)
        if key not in _accounts:
            clients = Clients(settings)
            _accounts[key] = clients, Watcher(clients)
        return _accounts[key]


def _after_fork() -> None:
    """Forget the parent's connections, and locks that a thread of the parent may have held."""
    global _accounts_lock  # noqa: PLW0603 - a lock cannot be emptied
    _accounts_lock = threading.Lock()
    _accounts.clear()


os.register_at_fork(after_in_child=_after_fork)


class AWSBackend:
    """Runs plans on AWS Batch.

    Parameters
    ----------
    settings : Settings
        Profile, Region and roles.
    clients : Clients, optional
        Instead of those that the settings give.
    settle : float
        Seconds for which a request whose answer was lost may still show in ListJobs.
    """

    #: DescribeJobs has a budget of its own, so a look may come soon after a change.
    poll = (1.0, 15.0)

    def __init__(self, settings: Settings, clients: Clients | None = None, settle: float = SETTLE) -> None:
        self.settings = settings
        self.settle = settle
        self._given = clients is not None
        self._account = (clients, Watcher(clients)) if clients is not None else _account(settings)
        self._process = os.getpid()
        self._queues: dict[str, Mapping[str, Any]] = {}
        self._children: dict[str, tuple[float, JobReport | None]] = {}  # of arrays, and when they were looked at
        self._resumed: set[str] = set()  # runs of which an earlier try may have registered definitions

    def _in_this_process(self) -> tuple[Clients, Watcher]:
        if self._process != os.getpid() and not self._given:
            self._account = _account(self.settings)
            self._process = os.getpid()
        return self._account

    @property
    def clients(self) -> Clients:
        """The way to AWS."""
        return self._in_this_process()[0]

    @property
    def watcher(self) -> Watcher:
        """What looks at jobs."""
        return self._in_this_process()[1]

    # Before

    def notes(self, plan: Plan) -> list[str]:
        """Return what a person should know; AWS is not asked."""
        notes = []
        told = any(EXECUTION_ROLE_TAG in queue.get("tags", {}) for queue in self._queues.values())
        fargate = any(definition.platform == "FARGATE" for definition in plan.definitions)
        if self.settings.execution_role is None and fargate and not told:
            notes.append(f"No execution role is set: the account's {DEFAULT_EXECUTION_ROLE} is used")
        return notes

    def preflight(self, plan: Plan) -> list[Problem]:
        """Return what stops this plan from running on its queues: two calls, however many jobs."""
        queues = list(dict.fromkeys(job.queue for job in plan.jobs))
        described = {}
        for start in range(0, len(queues), 100):
            some = queues[start : start + 100]
            for item in self.clients.pages("batch", "describe_job_queues", "jobQueues", jobQueues=some):
                described[item["jobQueueName"]] = described[item["jobQueueArn"]] = item
        self._queues = described
        problems = [problem for name in queues for problem in self._queue_problems(name, described)]
        orders = [item.get("computeEnvironmentOrder", ()) for item in {id(q): q for q in described.values()}.values()]
        names = list(dict.fromkeys(entry["computeEnvironment"] for order in orders for entry in order))
        environments: dict[str, Mapping[str, Any]] = {}
        for start in range(0, len(names), 100):
            some = names[start : start + 100]
            query = {"computeEnvironments": some}
            for item in self.clients.pages("batch", "describe_compute_environments", "computeEnvironments", **query):
                environments[item["computeEnvironmentArn"]] = environments[item["computeEnvironmentName"]] = item
        for name in queues:
            if name in described:
                order = described[name].get("computeEnvironmentOrder", ())
                room = [environments[e["computeEnvironment"]] for e in order if e["computeEnvironment"] in environments]
                problems += self._room_problems(plan, name, room)
        return problems

    def _queue_problems(self, name: str, described: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
        item = described.get(name)
        if item is None:
            known = [q["jobQueueName"] for q in self.clients.pages("batch", "describe_job_queues", "jobQueues")]
            have = f"there are {', '.join(sorted(known)[:10])}" if known else "there are none"
            remedy = f"Name one of this account and Region ({have}), or {LOCAL!r}"
            yield Problem("queue", f"there is no queue {name!r}{spec.nearest(name, known)}", remedy)
            return
        if item.get("state") != "ENABLED":
            yield Problem(
                "queue", f"queue {name!r} is {item.get('state', 'off').lower()}", "Enable it, or name another"
            )
        if item.get("status") != "VALID":
            why = item.get("statusReason", "")
            what = f"queue {name!r} is {item.get('status')}" + (f": {why}" if why else "")
            yield Problem("queue", what, "Wait until it is VALID, or name another")

    def _room_problems(self, plan: Plan, queue: str, room: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
        """Yield the jobs that none of a queue's compute environments can ever run."""
        usable = [environment for environment in room if _works(environment)]
        if not usable:
            remedy = "Enable or mend one, or name another queue"
            yield Problem("queue", f"queue {queue!r} has {_no_room(room)}", remedy)
            return
        sizes: dict[str, float] = {}
        for environment in usable:
            if environment.get("type") == "UNMANAGED":
                sizes["FARGATE"] = sizes["EC2"] = float("inf")
                continue
            resources = environment.get("computeResources", {})
            platform = "FARGATE" if str(resources.get("type", "")).startswith("FARGATE") else "EC2"
            sizes[platform] = max(sizes.get(platform, 0.0), float(resources.get("maxvCpus", float("inf"))))
        for job in plan.jobs:
            if job.queue != queue:
                continue
            platform = plan.definition_of(job).platform
            if platform not in sizes:
                what = f"queue {queue!r} runs {' and '.join(sizes)} jobs; this one is for {platform}"
                yield Problem(
                    spec.path("jobs", job.name, "platform"),
                    what,
                    f"Set platform to {next(iter(sizes))}, or name another queue",
                )
            elif job.vcpus > sizes[platform]:
                what = f"{job.vcpus:g} vCPU are more than queue {queue!r} can ever give ({sizes[platform]:g})"
                yield Problem(
                    spec.path("jobs", job.name, "vcpus"),
                    what,
                    "Ask for fewer, or raise the compute environment's maxvCpus",
                )

    def queues(self) -> list[Queue]:
        """Return the account's queues."""
        found = list(self.clients.pages("batch", "describe_job_queues", "jobQueues"))
        environments = {
            environment["computeEnvironmentArn"]: environment
            for environment in self.clients.pages("batch", "describe_compute_environments", "computeEnvironments")
        }
        made = []
        for item in sorted(found, key=lambda queue: queue["jobQueueName"]):
            order = [entry["computeEnvironment"] for entry in item.get("computeEnvironmentOrder", ())]
            resources = [environments.get(arn, {}).get("computeResources", {}) for arn in order]
            kinds = ", ".join(dict.fromkeys(str(r.get("type", "UNMANAGED")) for r in resources))
            problems = list(self._queue_problems(item["jobQueueName"], {item["jobQueueName"]: item}))
            room = [environments[arn] for arn in order if arn in environments]
            state = problems[0].what if problems else "ready" if any(map(_works, room)) else _no_room(room)
            made.append(
                Queue(item["jobQueueName"], kinds, state, sum(float(r.get("maxvCpus", 0)) for r in resources) or None)
            )
        return made

    def _execution_role(self, plan: Plan) -> str:
        role = self.settings.execution_role or self._told_by_queue(plan, EXECUTION_ROLE_TAG)
        if role is not None:
            return role
        if plan.jobs[0].queue not in self._queues:
            raise BackendError(f"there is no queue {plan.jobs[0].queue!r} any more.")
        # arn:PARTITION:batch:REGION:ACCOUNT:job-queue/NAME
        _arn, partition, _batch, _region, account, *_rest = str(self._queues[plan.jobs[0].queue]["jobQueueArn"]).split(
            ":"
        )
        return f"arn:{partition}:iam::{account}:role/{DEFAULT_EXECUTION_ROLE}"

    def _told_by_queue(self, plan: Plan, tag: str) -> str | None:
        """Return a role that the queue is tagged with: so a queue made by `ezbatch setup` works on every machine."""
        if not self._queues:
            self.preflight(plan)
        found: str | None = self._queues.get(plan.jobs[0].queue, {}).get("tags", {}).get(tag)
        return found

    # Submitting

    def submit(
        self, run_id: str, plan: Plan, accepted: Mapping[str, str], record: Callable[[Mapping[str, str]], None]
    ) -> None:
        """Hand over every job that is not accepted yet; what fails is taken back.

        Raises
        ------
        SubmissionError
            What was handed over has been ended.
        RunInterruptedError
            That, too, failed: the run stands still.
        """
        submission = Submission(self.clients, run_id, plan, [], accepted, record, self.settle)
        try:
            self._register(run_id, plan, submission)
            submission.run()
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            why = "interrupted" if interrupted else str(error).rstrip(".")
            message = f"the submission of run {run_id} was given up: {why}."
            try:
                done = self._take_back(run_id, plan, submission, record)
            except BaseException as second:
                what = "was interrupted" if isinstance(second, KeyboardInterrupt) else f"failed ({second})"
                left = f"Ending the {len(submission.ids)} or more jobs that had been accepted {what}"
                remedy = f"End them by `ezbatch cancel {run_id}`, or go on by `ezbatch resume {run_id}`"
                raise RunInterruptedError(f"{message} {left}. {remedy}.") from second
            raise SubmissionError(f"{message} {done}", interrupted=interrupted) from error

    def _register(self, run_id: str, plan: Plan, submission: Submission) -> None:
        try:
            submission.definitions = [self._definition(run_id, plan, number) for number in range(len(plan.definitions))]
        except BaseException as error:
            # Unless AWS refused, a definition may be there that nobody has heard of.
            refused = isinstance(error, BackendError) and not isinstance(error, UnreachableError)
            submission.unsure = not refused
            raise

    def _definition(self, run_id: str, plan: Plan, number: int) -> str:
        """Return the ARN of a definition, registered unless an earlier try has done so."""
        definition = plan.definitions[number]
        task_role = self.settings.task_role or self._told_by_queue(plan, JOB_ROLE_TAG)
        request = requests.register_job_definition(
            run_id, plan, definition, execution_role=self._execution_role(plan), task_role=task_role
        )
        earlier = self._active_definitions(request["jobDefinitionName"]) if run_id in self._resumed else []
        if earlier:
            return earlier[0]
        # Registered twice, after a lost answer, it has two revisions; `finish` takes back both.
        return str(self.clients.call("batch", "register_job_definition", **request)["jobDefinitionArn"])

    def _active_definitions(self, name: str) -> list[str]:
        query = {"jobDefinitionName": name, "status": "ACTIVE"}
        found = self.clients.pages("batch", "describe_job_definitions", "jobDefinitions", **query)
        return [str(item["jobDefinitionArn"]) for item in found]

    def find(self, run_id: str, plan: Plan, known: Mapping[str, str]) -> dict[str, str]:
        """Return the ids of the plan's jobs that AWS has, whatever became of the process that submitted them."""
        self._resumed.add(run_id)
        self.clients.sleep(self.settle)  # what was under way when that process ended may still arrive
        return found_jobs(self.clients, run_id, plan, known)

    def _take_back(
        self, run_id: str, plan: Plan, submission: Submission, record: Callable[[Mapping[str, str]], None]
    ) -> str:
        """End what was handed over, and say what was done."""
        ids = self.find(run_id, plan, submission.ids) if submission.unsure else submission.ids
        if not ids:
            return "No job had been accepted."
        with contextlib.suppress(StateDirectoryError):  # it may be what stopped the submission
            record(ids)
        failed = terminate(self.clients, ids.values(), f"the submission of run {run_id} was given up")
        if failed:
            what = f"{len(ids)} jobs had been accepted; {len(failed)} could not be ended: {failed[0].rstrip('.')}"
            return f"{what}. Try `ezbatch cancel {run_id}`."
        return f"{len(ids)} jobs had been accepted; all were ended."

    # Watching

    def describe(self, run_id: str, job_ids: Mapping[str, str]) -> dict[str, JobReport]:
        """Return a report for each job that AWS knows."""
        details = self.watcher.look(job_ids.values())
        return {name: report_of(details[job_id], name) for name, job_id in job_ids.items() if job_id in details}

    def child(self, run_id: str, job_id: str, name: str, index: int) -> JobReport:
        """Return a report of one child of an array."""
        child_id = f"{job_id}:{index}"
        seen, report = self._children.get(child_id, (0.0, None))
        if report is None or not (report.over or self.clients.clock() - seen < self.poll[0]):
            # Who asks for one asks for the others next, and a call takes a hundred; what there is not is left out.
            first = index - index % DESCRIBE_AT_ONCE
            found = self.watcher.look(f"{job_id}:{n}" for n in range(first, first + DESCRIBE_AT_ONCE))
            now = self.clients.clock()
            self._children.update((one, (now, report_of(detail, name))) for one, detail in found.items())
            report = self._children.get(child_id, (now, None))[1]
        if report is None:
            raise JobNotFoundError(
                f"AWS Batch has forgotten {name} of run {run_id}: it keeps ended jobs for some days."
            )
        return dataclasses.replace(report, name=name)

    def failed_children(self, run_id: str, job_id: str) -> list[int]:
        """Return the indices of an array's children that did not succeed."""
        found = self.clients.pages("batch", "list_jobs", "jobSummaryList", arrayJobId=job_id, jobStatus="FAILED")
        return sorted(int(item["arrayProperties"]["index"]) for item in found)

    def spans(self, run_id: str, job_id: str) -> list[tuple[datetime, datetime | None]]:
        """Return when the last attempts of an array's children began and ended: ListJobs tells no earlier ones."""
        states = ("RUNNING", "SUCCEEDED", "FAILED")
        query = {"arrayJobId": job_id}
        pages = (self.clients.pages("batch", "list_jobs", "jobSummaryList", jobStatus=s, **query) for s in states)
        items = itertools.chain.from_iterable(pages)
        spans = [(time_of(item.get("startedAt")), time_of(item.get("stoppedAt"))) for item in items]
        return [(started, stopped) for started, stopped in spans if started is not None]

    def facts(self, queue: str) -> QueueFacts | None:
        """Look at a queue: about ten calls."""
        return queue_facts(self.clients, self.watcher, queue)

    def interruption(self, run_id: str) -> str:
        """Nothing: AWS goes on by itself."""
        return ""

    def resume(self, run_id: str) -> None:
        """Nothing: AWS goes on by itself."""

    def cancel(self, run_id: str, job_ids: Collection[str], reason: str) -> None:
        """End jobs, those that run included."""
        failed = terminate(self.clients, job_ids, reason)
        if failed:
            raise BackendError(f"{len(failed)} of {len(job_ids)} jobs of run {run_id} could not be ended: {failed[0]}.")

    def finish(self, run_id: str, plan: Plan) -> None:
        """Deregister the run's definitions: every revision, whoever registered it.

        A right that is missing keeps no run from its end: `ezbatch gc` takes back what is left.
        """
        try:
            for definition in plan.definitions:
                for arn in self._active_definitions(requests.definition_name(run_id, definition)):
                    self.clients.call("batch", "deregister_job_definition", jobDefinition=arn)
        except UnreachableError:
            raise
        except BackendError as error:
            log.warning("run %s has ended, and its job definitions stay: %s", run_id, error)

    # Logs

    def log(
        self, run_id: str, report: JobReport, attempt: int, cursor: object = None, last: int | None = None
    ) -> tuple[list[LogEvent], object]:
        """Return a page of an attempt's log stream in CloudWatch.

        Raises
        ------
        LogMissingError
            If the attempt has ended and its stream never came.
        """
        found = next(a for a in report.attempts if a.number == attempt)
        stopped = found.stopped is not None or report.over
        if not found.log:
            if stopped and found.exit_code is not None:
                raise LogMissingError(
                    f"AWS Batch names no log stream for {report.name}: {found.reason or report.reason}."
                )
            return [], cursor
        query: dict[str, Any] = {"logGroupName": LOG_GROUP, "logStreamName": found.log, "startFromHead": True}
        if cursor is not None:
            query["nextToken"] = cursor
        try:
            if cursor is None and last is not None:
                lines, cursor = self._last_events({**query, "startFromHead": False}, last)
            else:
                lines, cursor = self._next_events(query)
        except BackendError as error:
            if getattr(error.__cause__, "response", {}).get("Error", {}).get("Code") != "ResourceNotFoundException":
                raise
            if stopped and _long_ago(found.stopped or report.stopped):
                message = (
                    f"the log stream {found.log} of {report.name} never came. "
                    "The execution role may lack logs:CreateLogStream, or the container never started."
                )
                raise LogMissingError(message) from error
            return [], cursor
        events = [
            LogEvent(
                datetime.fromtimestamp(event["timestamp"] / 1000, timezone.utc),
                report.name,
                attempt,
                event["message"].rstrip("\r"),
            )
            for event in lines
        ]
        return events, cursor

    def _next_events(self, query: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
        """Return the next page of a stream, and the token of the one after it."""
        while True:
            page = self.clients.call("logs", "get_log_events", **query)
            token: str = page["nextForwardToken"]
            # A page may be empty and not the last: only a token that comes back says so.
            if page["events"] or token == query.get("nextToken"):
                return page["events"], token
            query = {**query, "nextToken": token}

    def _last_events(self, query: dict[str, Any], count: int) -> tuple[list[dict[str, Any]], str]:
        """Return at least the last so many events of a stream, and the token of the page after them."""
        page = self.clients.call("logs", "get_log_events", **query)
        events, forward = page["events"], page["nextForwardToken"]
        while len(events) < count and page["nextBackwardToken"] != query.get("nextToken"):
            query = {**query, "nextToken": page["nextBackwardToken"]}
            page = self.clients.call("logs", "get_log_events", **query)
            events = [*page["events"], *events]
        return events, forward

    # Another machine's runs

    def rebuild(self, run_id: str, queue: str) -> list[Mapping[str, Any]]:
        """Return DescribeJobs' details of every job that AWS has of a run."""
        ids = [job_id for found in accepted_jobs(self.clients, [queue], f"{run_id}-*").values() for job_id in found[:1]]
        return self._of_run(run_id, ids)

    def _of_run(self, run_id: str, job_ids: Sequence[str]) -> list[Mapping[str, Any]]:
        """Return the details of those jobs that are the run's: another run's id may begin with this one's."""
        details = self.watcher.look(job_ids)
        found = [details[job_id] for job_id in job_ids if job_id in details]
        return [detail for detail in found if detail.get("tags", {}).get(requests.RUN, run_id) == run_id]

    def leftovers(self) -> dict[str, list[Mapping[str, Any]]]:
        """Return the ACTIVE definitions that ezbatch registered, by run."""
        found: dict[str, list[Mapping[str, Any]]] = {}
        for item in self.clients.pages("batch", "describe_job_definitions", "jobDefinitions", status="ACTIVE"):
            run_id = item.get("tags", {}).get(requests.RUN)
            if run_id:
                found.setdefault(run_id, []).append(item)
        return found

    def live(self, run_id: str, queues: Sequence[str]) -> Counter[JobState]:
        """Return how many jobs of a run are in each state."""
        ids = [i for found in accepted_jobs(self.clients, queues, f"{run_id}-*").values() for i in found]
        return Counter(JobState(detail["status"]) for detail in self._of_run(run_id, ids))

    def deregister(self, arn: str) -> None:
        """Deregister a definition."""
        self.clients.call("batch", "deregister_job_definition", jobDefinition=arn)


def _works(environment: Mapping[str, Any]) -> bool:
    """Return whether a compute environment takes jobs."""
    return environment.get("state") == "ENABLED" and environment.get("status") in ("VALID", "UPDATING", None)


def _no_room(room: Sequence[Mapping[str, Any]]) -> str:
    """Return why none of a queue's compute environments takes jobs."""

    def fault(environment: Mapping[str, Any]) -> str:
        said = f"{environment['computeEnvironmentName']} is {environment.get('state', 'off').lower()}"
        if environment.get("status") in ("VALID", None):
            return said  # AWS gives a reason for being well, too
        why = environment.get("statusReason")
        return f"{said} and {environment['status'].lower()}" + (f" ({why})" if why else "")

    states = ", ".join(map(fault, room))
    return f"no working compute environment: {states or 'none at all'}"


def _long_ago(stopped: datetime | None) -> bool:
    """Return whether CloudWatch had the time to hear of a container that stopped."""
    return stopped is None or time.time() - stopped.timestamp() > 10  # noqa: PLR2004 - seconds; it is seldom more than five
