"""AWS Batch as a backend."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from ezbatch import spec
from ezbatch.aws import requests
from ezbatch.aws.clients import Clients
from ezbatch.aws.submission import Submission, accepted_jobs, terminate
from ezbatch.aws.watching import Watcher, report_of
from ezbatch.backend import JobReport, JobState, LogEvent, Queue
from ezbatch.errors import BackendError, JobNotFoundError, LogMissingError, Problem, SubmissionError
from ezbatch.planning import LOCAL, Plan
from ezbatch.settings import Settings

__all__ = ["AWSBackend"]

LOG_GROUP = "/aws/batch/job"
#: The role that AWS's own console and tutorials make for pulling images and writing logs.
DEFAULT_EXECUTION_ROLE = "ecsTaskExecutionRole"
#: Seconds for which a request whose answer was lost may still show in ListJobs.
SETTLE = 4.0

_watchers: dict[tuple[str | None, str | None], Watcher] = {}
_watchers_lock = threading.Lock()


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
        self.clients = clients or Clients(settings)
        self.settle = settle
        if clients is None:
            with _watchers_lock:
                key = (settings.profile, settings.region)
                self.watcher = _watchers.setdefault(key, Watcher(self.clients))
        else:
            self.watcher = Watcher(clients)
        self._queues: dict[str, Mapping[str, Any]] = {}
        self._resumed: set[str] = set()  # runs of which an earlier try may have registered definitions

    # Before

    def notes(self, plan: Plan) -> list[str]:
        """Return what a person should know; AWS is not asked."""
        notes = []
        if self.settings.execution_role is None and any(d.platform == "FARGATE" for d in plan.definitions):
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
        usable = [e for e in room if e.get("state") == "ENABLED" and e.get("status") in ("VALID", "UPDATING", None)]
        if not usable:
            states = ", ".join(
                f"{e['computeEnvironmentName']} is {e.get('state', '')} and {e.get('status', '')}".lower()
                + (f" ({e['statusReason']})" if e.get("statusReason") else "")
                for e in room
            )
            remedy = "Enable or mend one, or name another queue"
            yield Problem(
                "queue", f"queue {queue!r} has no working compute environment: {states or 'none at all'}", remedy
            )
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
            state = problems[0].what if problems else "ready"
            made.append(
                Queue(item["jobQueueName"], kinds, state, sum(float(r.get("maxvCpus", 0)) for r in resources) or None)
            )
        return made

    def _execution_role(self, plan: Plan) -> str:
        if self.settings.execution_role is not None:
            return self.settings.execution_role
        if not self._queues:
            self.preflight(plan)
        # arn:PARTITION:batch:REGION:ACCOUNT:job-queue/NAME
        _arn, partition, _batch, _region, account, *_rest = str(self._queues[plan.jobs[0].queue]["jobQueueArn"]).split(
            ":"
        )
        return f"arn:{partition}:iam::{account}:role/{DEFAULT_EXECUTION_ROLE}"

    # Submitting

    def submit(
        self, run_id: str, plan: Plan, accepted: Mapping[str, str], record: Callable[[Mapping[str, str]], None]
    ) -> None:
        """Hand over every job that is not accepted yet; what fails is taken back."""
        submission = Submission(self.clients, run_id, plan, [], accepted, record, self.settle)
        try:
            submission.definitions = [self._definition(run_id, plan, number) for number in range(len(plan.definitions))]
            submission.run()
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            done = self._take_back(run_id, plan, submission, record)
            why = "interrupted" if interrupted else str(error).rstrip(".")
            message = f"the submission of run {run_id} was given up: {why}. {done}"
            raise SubmissionError(message, interrupted=interrupted) from error

    def _definition(self, run_id: str, plan: Plan, number: int) -> str:
        """Return the ARN of a definition, registered unless an earlier try has done so."""
        definition = plan.definitions[number]
        request = requests.register_job_definition(
            run_id, plan, definition, execution_role=self._execution_role(plan), task_role=self.settings.task_role
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

    def find(self, run_id: str, plan: Plan) -> dict[str, str]:
        """Return the ids of the plan's jobs that AWS has, whatever became of the process that submitted them."""
        self._resumed.add(run_id)
        self.clients.sleep(self.settle / 2)  # what was under way when that process ended may still arrive
        queues = dict.fromkeys(job.queue for job in plan.jobs)
        found = accepted_jobs(self.clients, queues, f"{run_id}-*")
        named = {requests.job_name(run_id, job): job.name for job in plan.jobs}
        doubles = [job_id for name, ids in found.items() if name in named for job_id in ids[1:]]
        if doubles:
            terminate(self.clients, doubles, "submitted twice: the answer to the first was lost")
        return {named[name]: ids[0] for name, ids in found.items() if name in named}

    def _take_back(
        self, run_id: str, plan: Plan, submission: Submission, record: Callable[[Mapping[str, str]], None]
    ) -> str:
        """End what was handed over, and say what was done."""
        try:
            found = self.find(run_id, plan) if submission.unsure else {}
            ids = {**found, **submission.ids}
            if found:
                record(ids)
            failed = (
                terminate(self.clients, ids.values(), f"the submission of run {run_id} was given up") if ids else []
            )
        except Exception as error:  # noqa: BLE001 - the message has to say that it is not done
            return (
                f"Taking back the {len(submission.ids)} jobs that were accepted failed ({error}): "
                f"end them by `ezbatch cancel {run_id}`, or go on by `ezbatch resume {run_id}`."
            )
        if failed:
            what = f"{len(ids)} jobs had been accepted; {len(failed)} could not be ended: {failed[0]}"
            return f"{what}. Try `ezbatch cancel {run_id}`."
        return f"{len(ids)} jobs had been accepted; all were ended." if ids else "No job had been accepted."

    # Watching

    def describe(self, run_id: str, job_ids: Mapping[str, str]) -> dict[str, JobReport]:
        """Return a report for each job that AWS knows."""
        details = self.watcher.look(job_ids.values())
        return {name: report_of(details[job_id], name) for name, job_id in job_ids.items() if job_id in details}

    def child(self, run_id: str, job_id: str, name: str, index: int) -> JobReport:
        """Return a report of one child of an array."""
        child_id = f"{job_id}:{index}"
        detail = self.watcher.look([child_id]).get(child_id)
        if detail is None:
            raise JobNotFoundError(
                f"AWS Batch has forgotten {name} of run {run_id}: it keeps ended jobs for some days."
            )
        return report_of(detail, name)

    def failed_children(self, run_id: str, job_id: str) -> list[int]:
        """Return the indices of an array's children that did not succeed."""
        found = self.clients.pages("batch", "list_jobs", "jobSummaryList", arrayJobId=job_id, jobStatus="FAILED")
        return sorted(int(item["arrayProperties"]["index"]) for item in found)

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
        """Deregister the run's definitions: every revision, whoever registered it."""
        for definition in plan.definitions:
            for arn in self._active_definitions(requests.definition_name(run_id, definition)):
                self.clients.call("batch", "deregister_job_definition", jobDefinition=arn)

    # Logs

    def log(self, run_id: str, report: JobReport, attempt: int, cursor: object = None) -> tuple[list[LogEvent], object]:
        """Return a page of an attempt's log stream in CloudWatch.

        Raises
        ------
        LogMissingError
            If the attempt has ended and its stream never came.
        """
        found = next(a for a in report.attempts if a.number == attempt)
        stopped = found.stopped is not None or report.state.terminal
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
            page = self.clients.call("logs", "get_log_events", **query)
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
            LogEvent(datetime.fromtimestamp(e["timestamp"] / 1000, timezone.utc), report.name, attempt, e["message"])
            for e in page["events"]
        ]
        return events, page["nextForwardToken"]

    # Another machine's runs

    def rebuild(self, run_id: str, queue: str) -> list[Mapping[str, Any]]:
        """Return DescribeJobs' details of every job that AWS has of a run."""
        ids = [job_id for found in accepted_jobs(self.clients, [queue], f"{run_id}-*").values() for job_id in found[:1]]
        details = self.watcher.look(ids)
        return [details[job_id] for job_id in ids if job_id in details]

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
        return Counter(JobState(detail["status"]) for detail in self.watcher.look(ids).values())

    def deregister(self, arn: str) -> None:
        """Deregister a definition; one that is gone already is no error."""
        with contextlib.suppress(BackendError):
            self.clients.call("batch", "deregister_job_definition", jobDefinition=arn)


def _long_ago(stopped: datetime | None) -> bool:
    """Return whether CloudWatch had the time to hear of a container that stopped."""
    return stopped is None or time.time() - stopped.timestamp() > 10  # noqa: PLR2004 - seconds; it is seldom more than five
