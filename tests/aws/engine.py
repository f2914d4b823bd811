"""How AWS Batch moves jobs: states, dependencies, arrays, retries, capacity, cancellation, over a docker client.

It takes the place of ``moto.batch.models.Job``, a thread per job that sleeps between looks at its parents and knows one
attempt; `batch_server` says which of moto's gaps this fills and puts it behind moto's service. Nothing here polls: one
lock guards the jobs, every change of state does at once what follows from it, one clock thread does what is due later,
and a bounded pool of threads waits for the processes that run. A *virtual* job takes neither process nor thread, so
that thousands can be live.
"""

# ruff: noqa: ANN401  # requests, moto's models and boto3's clients are what they are
from __future__ import annotations

import fnmatch
import heapq
import itertools
import json
import logging
import os
import re
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from .containers import LogLines, ProcessContainer, StartError, SubprocessDocker

logger = logging.getLogger(__name__)

Json = dict[str, Any]

STATES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
TERMINAL = frozenset({"SUCCEEDED", "FAILED"})
BEFORE_STARTING = frozenset({"SUBMITTED", "PENDING", "RUNNABLE"})

EXITED = "Essential container in task exited"
TIMED_OUT = "Job attempt duration exceeded timeout"
NOT_STARTED = "Task failed to start"
DEPENDENCY_FAILED = "Dependent Job failed"
CHILD_FAILED = "Array Child Job failed"
TOO_BIG = (
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - Job resource requirement (vCPU/memory/GPU) is higher than "
    "that can be met by the CE(s) attached to the job queue."
)
NO_ENVIRONMENT = "ACTION_REQUIRED - CE(s) associated with the job queue are invalid."

SLEEP_COMMAND = "ezbatch-rig-sleep"
"""A command that makes its job virtual: ``["ezbatch-rig-sleep", SECONDS | "manual", EXIT_CODE]``."""


class RefusedError(Exception):
    """AWS Batch answers ClientException."""


class Queue(Protocol):
    """What the engine reads of moto's JobQueue."""

    name: str
    arn: str
    state: str
    environments: list[Any]


@dataclass(frozen=True)
class Outcome:
    """How a virtual job ends.

    Parameters
    ----------
    seconds
        How long it runs; None until `Engine.finish`.
    exit_code
        None for a container that never started.
    reason
        ``container.reason``, such as ``OutOfMemoryError: Container killed due to memory usage``.
    status_reason
        The job's own ``statusReason``.
    """

    seconds: float | None = None
    exit_code: int | None = 0
    reason: str | None = None
    status_reason: str = EXITED


@dataclass
class Options:
    """What a test may turn while the server runs. `Rig.reset` puts the defaults back."""

    virtual: Outcome | Callable[[Job], Outcome | None] | None = None
    """Applied to every job that starts: None runs a process. A callable may choose by job, index and attempt."""
    max_processes: int = 32
    """Processes at once; more jobs wait RUNNABLE, as if the compute environment were full."""
    timeout_scale: float = 1.0
    """Real seconds in a second of ``attemptDurationSeconds``: 0.01 makes the shortest timeout, 60 s, pass in 0.6 s."""
    stop_grace: float = 2.0
    """Seconds between SIGTERM and SIGKILL (30 in ECS)."""
    cancel_pending_at_once: bool = False
    """AWS cancels a PENDING job only after all its dependencies have ended; True is how it used to be."""
    missing_images: tuple[str, ...] = ()
    """Globs of images that cannot be pulled."""
    secrets: dict[str, str] = field(default_factory=dict)
    """ARN to value. A job with another secret fails to start."""
    container_env: dict[str, str] = field(default_factory=dict)
    """Added to every container's environment: where the AWS stand-in is."""
    log_streams: bool = True
    """False: CloudWatch never hears from a container, as with a role that may not write logs."""
    log_lag: float = 0.0
    """Seconds before a log stream exists; its first lines wait too."""
    page_size: int | None = None
    """Smaller pages than AWS gives, of GetLogEvents too, to test paging with few items."""
    list_lag: float = 0.0
    """Seconds before ListJobs and DescribeJobs know a new job. AWS promises nothing here; 0 is its usual face."""


class Clock:
    """One thread that calls functions when they are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="rig-clock", daemon=True)
        self._thread.start()

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        with self._wake:
            heapq.heappush(self._heap, (time.monotonic() + seconds, next(self._count), call))
            self._wake.notify()

    def clear(self) -> None:
        with self._wake:
            self._heap.clear()

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._closing and (not self._heap or self._heap[0][0] > time.monotonic()):
                    self._wake.wait(self._heap[0][0] - time.monotonic() if self._heap else None)
                if self._closing:
                    return
                call = heapq.heappop(self._heap)[2]
            try:
                call()
            except Exception:
                logger.exception("a timed event of the rig failed")


def now() -> int:
    """Milliseconds since the epoch, as AWS Batch gives times."""
    return int(time.time() * 1000)


class Job:
    """One job, array parent or array child."""

    __slots__ = (
        "arn",
        "array_changed_at",
        "attempt",
        "attempts",
        "blockers",
        "cancelled",
        "children",
        "container",
        "container_details",
        "created_at",
        "definition",
        "dependents",
        "doomed",
        "environment_arn",
        "id",
        "index",
        "logs",
        "name",
        "outcome",
        "parent",
        "process",
        "queue",
        "request",
        "seq",
        "started_at",
        "state",
        "status_reason",
        "stop_reason",
        "stopped_at",
        "summary",
        "terminated",
        "timed_out",
    )

    def __init__(self, queue: Queue, definition: Any, request: Json, logs: Any, arn_prefix: str, seq: int) -> None:
        self.id = str(uuid.uuid4())
        self.arn = arn_prefix + self.id
        self.name: str = request["jobName"]
        self.queue = queue
        self.definition = definition
        self.request = request
        self.logs = logs
        self.seq: tuple[int, int] = (seq, -1)
        self.parent: Job | None = None
        self.index: int | None = None
        self.children: list[Job] | None = None
        self.summary: Counter[str] = Counter()
        self.array_changed_at = 0
        self.state = "SUBMITTED"
        self.status_reason: str | None = None
        self.created_at = now()
        self.started_at: int | None = None
        self.stopped_at: int | None = None
        self.attempt = 0
        self.attempts: list[Json] = []
        self.container_details: Json = {}
        self.environment_arn = ""
        # Jobs that this one still waits for, those that wait for this one, and whether one of the former failed.
        self.blockers = 0
        self.dependents: list[Job] = []
        self.doomed = False
        self.cancelled = False
        self.terminated = False
        self.stop_reason: str | None = None
        self.timed_out = False
        self.container: ProcessContainer | None = None
        self.process = False
        self.outcome: Outcome | None = None

    def child(self, index: int) -> Job:
        job = Job(self.queue, self.definition, self.request, self.logs, "", self.seq[0])
        job.id = f"{self.id}:{index}"
        job.arn = f"{self.arn}:{index}"
        job.seq = (self.seq[0], index)
        job.parent = self
        job.index = index
        job.created_at = self.created_at
        return job

    @property
    def over(self) -> bool:
        return self.state in TERMINAL

    @property
    def overrides(self) -> Json:
        return self.request.get("containerOverrides") or {}

    @property
    def command(self) -> list[str]:
        command = self.overrides.get("command") or self.definition.container_properties.get("command") or []
        parameters = {**(self.definition.parameters or {}), **(self.request.get("parameters") or {})}
        if not parameters:
            return list(command)
        pattern = re.compile("|".join(f"Ref::{re.escape(name)}" for name in sorted(parameters, key=len, reverse=True)))
        return [pattern.sub(lambda match: parameters[match[0][5:]], part) for part in command]

    @property
    def environment(self) -> dict[str, str]:
        """Definition and overrides, with empty values kept; what Batch injects is in `Engine._environment`."""
        merged: dict[str, str] = {}
        for source in (self.definition.container_properties, self.overrides):
            for pair in source.get("environment") or ():
                merged[pair["name"]] = pair.get("value", "")
        return merged

    @property
    def resources(self) -> dict[str, str]:
        """VCPU, MEMORY (MiB) and GPU, overrides first."""
        properties = self.definition.container_properties
        found: dict[str, str] = {}
        if "vcpus" in properties:
            found["VCPU"] = str(properties["vcpus"])
        if "memory" in properties:
            found["MEMORY"] = str(properties["memory"])
        for source in (properties, self.overrides):
            for need in source.get("resourceRequirements") or ():
                found[need["type"]] = need["value"]
        return found

    @property
    def vcpus(self) -> float:
        return float(self.resources.get("VCPU", "1"))

    @property
    def retry_strategy(self) -> Json:
        return self.request.get("retryStrategy") or self.definition.retry_strategy or {"attempts": 1}

    @property
    def timeout(self) -> Json | None:
        return self.request.get("timeout") or self.definition.timeout or None

    def short(self) -> Json:
        """What ListJobs says of it: a JobSummary."""
        result: Json = {
            "jobArn": self.arn,
            "jobId": self.id,
            "jobName": self.name,
            "createdAt": self.created_at,
            "status": self.state,
            "jobDefinition": self.definition.arn,
        }
        if self.status_reason is not None:
            result["statusReason"] = self.status_reason
        if self.started_at is not None:
            result["startedAt"] = self.started_at
        if self.stopped_at is not None:
            result["stoppedAt"] = self.stopped_at
        container = {
            key: self.container_details[key] for key in ("exitCode", "reason") if key in self.container_details
        }
        if container:
            result["container"] = container
        if self.children is not None:
            result["arrayProperties"] = {"size": len(self.children)}
        elif self.index is not None:
            result["arrayProperties"] = {"index": self.index}
        if self.cancelled:
            result["isCancelled"] = True
        if self.terminated:
            result["isTerminated"] = True
        return result

    def detail(self, tags: dict[str, str]) -> Json:
        """What DescribeJobs says of it: a JobDetail."""
        properties = self.definition.container_properties
        result = self.short()
        result["jobQueue"] = self.queue.arn
        result["attempts"] = list(self.attempts)
        result["dependsOn"] = self.request.get("dependsOn") or []
        result["parameters"] = {**(self.definition.parameters or {}), **(self.request.get("parameters") or {})}
        result["retryStrategy"] = {"evaluateOnExit": [], **self.retry_strategy}
        result["tags"] = tags
        result["platformCapabilities"] = self.definition.platform_capabilities or ["EC2"]
        result["propagateTags"] = bool(self.request.get("propagateTags", self.definition.propagate_tags))
        if self.timeout:
            result["timeout"] = self.timeout
        result["container"] = {
            key: value
            for key, value in properties.items()
            if key not in ("vcpus", "memory", "environment", "command", "resourceRequirements")
        }
        result["container"] |= {
            "command": self.overrides.get("command") or properties.get("command") or [],
            "environment": [{"name": name, "value": value} for name, value in self.environment.items()],
            "resourceRequirements": [{"type": kind, "value": value} for kind, value in self.resources.items()],
            "networkInterfaces": [],
            **self.container_details,
        }
        if self.children is not None:
            result["arrayProperties"] |= {
                "statusSummary": {state: self.summary[state] for state in STATES},
                "statusSummaryLastUpdatedAt": self.array_changed_at,
            }
        return result


class Engine:
    """All jobs of one server."""

    def __init__(self, options: Options, threads: int = 64) -> None:
        self.options = options
        self.docker = SubprocessDocker()
        self.jobs: dict[str, Job] = {}
        self.accepted: list[Job] = []
        self.by_queue: dict[str, list[Job]] = {}
        self.changed = threading.Condition(threading.RLock())
        self._clock = Clock()
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rig-container")
        self._seq = itertools.count()
        self._ready: dict[str, list[tuple[tuple[int, int], int, Job]]] = {}
        self._queues: dict[str, Queue] = {}
        self._used: Counter[str] = Counter()
        self._busy = 0
        self._held: set[str] = set()
        self._waiting_to_start: list[Job] = []
        self._blocked: dict[str, str] = {}
        self._invalid: dict[str, str] = {}
        self._live = 0
        # moto's log models look before they leap; two containers at once would lose one's stream.
        self._log_lock = threading.Lock()

    # Requests

    def submit(self, queue: Queue, definition: Any, request: Json, logs: Any, arn_prefix: str) -> Job:
        """Accept a job, with its array children, and let it go as far as it can.

        Raises
        ------
        RefusedError
            For dependencies that do not exist or do not fit.
        """
        with self.changed:
            job = Job(queue, definition, request, logs, arn_prefix, next(self._seq))
            size = (request.get("arrayProperties") or {}).get("size")
            if size:
                job.children = [job.child(index) for index in range(size)]
                job.summary["SUBMITTED"] = size
                for child in job.children:
                    child.blockers = 1  # the parent's own dependencies
            self._link(job, request.get("dependsOn") or [])
            self._queues[queue.arn] = queue
            self.jobs[job.id] = job
            self.accepted.append(job)
            self._live += 1
            self.by_queue.setdefault(queue.arn, []).append(job)
            for child in job.children or ():
                self.jobs[child.id] = child
            if "SUBMITTED" not in self._held:
                self._admit(job)
                self._dispatch(queue)
            self.changed.notify_all()
            return job

    def cancel(self, job: Job, reason: str, *, terminate: bool) -> None:
        """CancelJob, or TerminateJob, which also stops what has started."""
        with self.changed:
            # The parent first: its last child to end takes it along, with the reason it has by then.
            for one in [job, *(job.children or ())]:
                self._cancel_one(one, reason, terminate=terminate)
            self._dispatch_all()
            self.changed.notify_all()

    def front_of_queue(self, queue: Queue) -> list[Job]:
        with self.changed:
            ready = sorted(entry for entry in self._ready.get(queue.arn, ()) if entry[2].state == "RUNNABLE")
            return [job for _, _, job in ready[:100]]

    def visible(self, job: Job) -> bool:
        """Whether the reading side of AWS knows the job yet."""
        return not self.options.list_lag or now() - job.created_at >= self.options.list_lag * 1000

    def definition_in_use(self, arn: str) -> list[Job]:
        with self.changed:
            return [job for job in self.accepted if not job.over and job.definition.arn == arn]

    # The test's hand on the world

    def finish(self, job: Job, outcome: Outcome) -> None:
        """End a virtual job that is RUNNING."""
        with self.changed:
            if job.state != "RUNNING" or job.outcome is None:
                raise ValueError(f"job {job.name} ({job.id}) is {job.state} and not a running virtual job")
            self._attempt_over(job, job.attempt, outcome)

    def hold(self, *states: str) -> None:
        with self.changed:
            self._held |= set(states)

    def release(self) -> None:
        with self.changed:
            self._held.clear()
            for job in self.accepted:
                if job.state == "SUBMITTED":
                    self._admit(job)
            waiting, self._waiting_to_start = self._waiting_to_start, []
            for job in waiting:
                if job.state == "STARTING":
                    self._launch(job)
            self._dispatch_all()
            self.changed.notify_all()

    def block(self, queue: Queue, status_reason: str | None) -> None:
        """Start nothing on a queue, and say why on the job at its head. None unblocks."""
        with self.changed:
            if status_reason is None:
                self._blocked.pop(queue.arn, None)
            else:
                self._blocked[queue.arn] = status_reason
            self._queues[queue.arn] = queue
            self._dispatch(queue)
            self.changed.notify_all()

    def invalidate(self, environment_arn: str, status_reason: str | None) -> None:
        """Make a compute environment INVALID for a reason; None makes it VALID again."""
        with self.changed:
            if status_reason is None:
                self._invalid.pop(environment_arn, None)
            else:
                self._invalid[environment_arn] = status_reason
        self.capacity_changed()

    def invalid_reason(self, environment_arn: str) -> str | None:
        return self._invalid.get(environment_arn)

    def capacity_changed(self) -> None:
        with self.changed:
            self._dispatch_all()
            self.changed.notify_all()

    def forget(self, job: Job) -> None:
        """Drop a finished job, as AWS does some time after seven days."""
        with self.changed:
            if not job.over:
                raise ValueError(f"AWS forgets only finished jobs; {job.name} is {job.state}")
            for one in [*(job.children or ()), job]:
                self.jobs.pop(one.id, None)
            self.by_queue[job.queue.arn].remove(job)

    def idle(self) -> bool:
        """No live job and no process. Call with `changed` held."""
        return not self._busy and not self._live

    def live(self) -> list[Job]:
        return [job for job in self.accepted if not job.over]

    def reset(self) -> None:
        """Kill everything and forget everything."""
        with self.changed:
            self._clock.clear()
            for job in self.jobs.values():
                # A worker that is about to start its process must find that nobody wants it.
                job.terminated = True
                if not job.over:
                    job.state = "FAILED"
                if job.container is not None:
                    job.container.kill()
            for entries in (
                self.jobs,
                self.by_queue,
                self._ready,
                self._used,
                self._queues,
                self._blocked,
                self._invalid,
            ):
                entries.clear()
            self.accepted.clear()
            self._live = 0
            self._held.clear()
            self._waiting_to_start.clear()
            if not self.changed.wait_for(lambda: not self._busy, timeout=10):
                raise RuntimeError(f"{self._busy} containers do not end")

    def close(self) -> None:
        self.reset()
        self._pool.shutdown()
        self._clock.close()
        self.docker.close()

    # Dependencies

    def _link(self, job: Job, depends_on: list[Json]) -> None:
        """Make `job` wait for what it depends on. Checks everything before it changes anything."""
        links: list[tuple[Job, Job]] = []
        for dependency in depends_on:
            kind = dependency.get("type")
            if kind == "SEQUENTIAL":
                if job.children is None or dependency.get("jobId"):
                    raise RefusedError("SEQUENTIAL dependencies are for array jobs and name no job")
                links += itertools.pairwise(job.children)
                continue
            other = self.jobs.get(dependency.get("jobId") or "")
            if other is None:
                raise RefusedError(f"Job dependency {dependency.get('jobId')} does not exist")
            if kind == "N_TO_N":
                if job.children is None or other.children is None or len(other.children) != len(job.children):
                    raise RefusedError("N_TO_N dependencies are for array jobs of one size")
                links += zip(other.children, job.children, strict=True)
            else:
                links.append((other, job))
        for before, after in links:
            if before.state == "FAILED":
                after.doomed = True
            elif not before.over:
                before.dependents.append(after)
                after.blockers += 1

    def _admit(self, job: Job) -> None:
        """SUBMITTED to wherever its dependencies let it be."""
        if job.children is not None:
            self._set(job, "PENDING")
            for child in job.children:
                self._set(child, "PENDING")
            if job.doomed:
                self._settle(job, "FAILED", DEPENDENCY_FAILED)
            elif not job.blockers:
                self._open(job)
        elif job.doomed:
            self._settle(job, "FAILED", DEPENDENCY_FAILED)
        elif job.blockers:
            self._set(job, "PENDING")
        else:
            self._make_runnable(job)

    def _open(self, parent: Job) -> None:
        """The array's own dependencies are met: its children wait for one thing less."""
        for child in parent.children or ():
            child.blockers -= 1
            if not child.over:
                self._unblocked(child)

    def _unblocked(self, job: Job) -> None:
        """One of the jobs it waited for has ended, or will never succeed."""
        if job.state != "PENDING":
            return
        if job.doomed:
            self._settle(job, "FAILED", job.stop_reason or DEPENDENCY_FAILED)
        elif not job.blockers:
            if job.children is not None:
                self._open(job)
            elif job.stop_reason is not None:
                self._settle(job, "FAILED", job.stop_reason)
            else:
                self._make_runnable(job)

    def _settle(self, job: Job, state: str, reason: str | None) -> None:
        """Make a job terminal and do what follows, through any depth of dependants without recursion."""
        work: deque[tuple[Job, str, str | None]] = deque([(job, state, reason)])
        while work:
            one, end, why = work.popleft()
            if one.over:
                continue
            if one.children is not None and end == "FAILED" and one.summary.total() > _ended(one.summary):
                # A dependency of the whole array failed: the children go first, the last of them takes the parent.
                work.extend((child, "FAILED", child.stop_reason or why) for child in one.children)
                one.status_reason = why
                if any(not child.over for child in one.children):
                    continue
            one.status_reason = why
            one.stopped_at = now()
            self._set(one, end)
            parent = one.parent
            if parent is None:
                self._live -= 1
            if parent is not None and _ended(parent.summary) == len(parent.children or ()):
                failed = parent.summary["FAILED"] > 0
                work.append(
                    (parent, *(("FAILED", parent.status_reason or CHILD_FAILED) if failed else ("SUCCEEDED", None)))
                )
            dependents, one.dependents = one.dependents, []
            for dependent in dependents:
                dependent.blockers -= 1
                dependent.doomed = dependent.doomed or end == "FAILED"
                if dependent.doomed and dependent.state == "PENDING":
                    work.append((dependent, "FAILED", dependent.stop_reason or DEPENDENCY_FAILED))
                else:
                    self._unblocked(dependent)

    def _set(self, job: Job, state: str) -> None:
        if job.parent is not None:
            job.parent.summary[job.state] -= 1
            job.parent.summary[state] += 1
            job.parent.array_changed_at = now()
        job.state = state

    # Capacity

    def _make_runnable(self, job: Job) -> None:
        self._set(job, "RUNNABLE")
        if job.stop_reason is not None:
            self._settle(job, "FAILED", job.stop_reason)
            return
        job.container_details = {}
        heapq.heappush(self._ready.setdefault(job.queue.arn, []), (job.seq, id(job), job))

    def _dispatch_all(self) -> None:
        for arn in list(self._ready):
            self._dispatch(self._queues[arn])

    def _dispatch(self, queue: Queue) -> None:
        """Start jobs in the order of submission until the next one does not fit."""
        ready = self._ready.get(queue.arn)
        while ready:
            job = ready[0][2]
            if job.state != "RUNNABLE":
                heapq.heappop(ready)
                continue
            if "RUNNABLE" in self._held or self._busy >= min(self.options.max_processes, self._threads):
                return
            arn, why = self._place(queue, job.vcpus)
            if not arn:
                job.status_reason = why
                return
            heapq.heappop(ready)
            job.status_reason = None
            job.environment_arn = arn
            self._used[arn] += job.vcpus  # type: ignore[assignment]  # vCPUs come in quarters
            job.attempt += 1
            self._set(job, "STARTING")
            if "STARTING" in self._held:
                self._waiting_to_start.append(job)
            else:
                self._launch(job)

    def _place(self, queue: Queue, vcpus: float) -> tuple[str, str | None]:
        """The compute environment with room, or the reason that the head of the queue shows."""
        if queue.arn in self._blocked:
            return "", self._blocked[queue.arn]
        usable = [ce for ce in queue.environments if ce.state != "DISABLED" and ce.arn not in self._invalid]
        if not usable:
            return "", NO_ENVIRONMENT
        limits = {ce.arn: float((ce.compute_resources or {}).get("maxvCpus", 256)) for ce in usable}
        for arn, limit in limits.items():
            if self._used[arn] + vcpus <= limit:
                return arn, None
        return "", TOO_BIG if all(vcpus > limit for limit in limits.values()) else None

    # Attempts

    def _launch(self, job: Job) -> None:
        attempt = job.attempt
        job.timed_out = False
        cluster = job.environment_arn.replace(":batch:", ":ecs:").replace("compute-environment/", "task/AWSBatch-")
        job.container_details = {"taskArn": f"{cluster}/{uuid.uuid4().hex}"}
        job.outcome = self._virtual(job)
        broken = self._cannot_start(job)
        if broken is not None:
            self._clock.after(0, lambda: self._attempt_over(job, attempt, broken))
        elif job.outcome is None:
            self._busy += 1
            job.process = True
            self._pool.submit(self._run, job, attempt)
        else:
            self._running(job, self._stream_name(job))
            if job.outcome.seconds is not None:
                outcome = job.outcome
                self._clock.after(outcome.seconds or 0, lambda: self._attempt_over(job, attempt, outcome))

    def _virtual(self, job: Job) -> Outcome | None:
        command = job.command
        if command and command[0] == SLEEP_COMMAND:
            seconds, exit_code = [*command[1:], *("manual", "0")[len(command) - 1 :]][:2]
            return Outcome(None if seconds == "manual" else float(seconds), int(exit_code))
        virtual = self.options.virtual
        return virtual(job) if callable(virtual) else virtual

    def _cannot_start(self, job: Job) -> Outcome | None:
        if payload_size(job.overrides) > 8192:  # ECS's own limit, met only when the task starts
            return Outcome(exit_code=None, status_reason="Container Overrides length must be at most 8192")
        image = job.definition.container_properties["image"]
        if any(fnmatch.fnmatchcase(image, glob) for glob in self.options.missing_images):
            why = f"CannotPullContainerError: failed to resolve ref {image}: not found"
            return Outcome(exit_code=None, reason=why, status_reason=NOT_STARTED)
        for secret in job.definition.container_properties.get("secrets") or ():
            if secret["valueFrom"] not in self.options.secrets:
                why = "ResourceInitializationError: unable to pull secrets or registry auth: the secret is not there"
                return Outcome(exit_code=None, reason=why, status_reason=NOT_STARTED)
        return None

    @staticmethod
    def _stream_name(job: Job) -> str:
        task = job.container_details["taskArn"].rpartition("/")[2]
        return f"{job.definition.name[:200]}/default/{task}"

    def _running(self, job: Job, stream: str) -> None:
        """STARTING to RUNNING: the log stream is known, and the timeout counts."""
        attempt = job.attempt
        job.started_at = now()
        job.container_details["logStreamName"] = stream
        self._set(job, "RUNNING")
        self._put_log(job, stream, [])
        if job.timeout:
            seconds = job.timeout["attemptDurationSeconds"] * self.options.timeout_scale
            self._clock.after(seconds, lambda: self._time_out(job, attempt))
        self.changed.notify_all()

    def _put_log(self, job: Job, stream: str, lines: LogLines) -> None:
        options = self.options
        if not options.log_streams:
            return

        def put() -> None:
            with self._log_lock:
                job.logs.ensure_log_group("/aws/batch/job")
                job.logs.ensure_log_stream("/aws/batch/job", stream)
                if lines:
                    events = [{"timestamp": at, "message": text} for at, text in lines]
                    job.logs.put_log_events("/aws/batch/job", stream, events)

        if options.log_lag:
            self._clock.after(options.log_lag, put)
        else:
            put()

    def _environment(self, job: Job) -> dict[str, str]:
        """What the container sees: the job's own variables, its secrets, what Batch injects, and where AWS is."""
        secrets = job.definition.container_properties.get("secrets") or ()
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            **self.options.container_env,
            **job.environment,
            **{secret["name"]: self.options.secrets[secret["valueFrom"]] for secret in secrets},
            "AWS_BATCH_JOB_ID": job.id,
            "AWS_BATCH_JOB_ATTEMPT": str(job.attempt),
            "AWS_BATCH_JQ_NAME": job.queue.name,
            "AWS_BATCH_CE_NAME": job.environment_arn.rpartition("/")[2],
        }
        if job.parent is not None:
            environment["AWS_BATCH_JOB_ARRAY_INDEX"] = str(job.index)
            environment["AWS_BATCH_JOB_ARRAY_SIZE"] = str(len(job.parent.children or ()))
        return environment

    def _run(self, job: Job, attempt: int) -> None:
        """One attempt as a process, in a thread of the pool."""
        outcome = Outcome(exit_code=None, reason="the rig failed", status_reason=NOT_STARTED)
        try:
            with self.changed:
                wanted = job.state == "STARTING" and not job.terminated
                environment = self._environment(job)
            outcome = Outcome(exit_code=137) if not wanted else self._contain(job, environment)
        except Exception:
            logger.exception("the rig could not run job %s", job.name)
        finally:
            with self.changed:
                self._busy -= 1
                job.process = False
                job.container = None
                self._attempt_over(job, attempt, outcome)
                self._dispatch_all()
                self.changed.notify_all()

    def _contain(self, job: Job, environment: dict[str, str]) -> Outcome:
        stream = self._stream_name(job)
        try:
            container = self.docker.containers.run(
                job.definition.container_properties["image"],
                job.command or ["true"],
                environment=environment,
                name=job.name,
                on_lines=lambda lines: self._put_log(job, stream, lines),
            )
        except StartError as exc:
            return Outcome(exit_code=None, reason=str(exc), status_reason=NOT_STARTED)
        with self.changed:
            job.container = container
            if job.state == "STARTING":
                self._running(job, stream)
            if job.terminated:
                self._stop_container(job)
        try:
            return Outcome(exit_code=container.wait()["StatusCode"])
        finally:
            container.remove()

    def _stop_container(self, job: Job) -> None:
        container = job.container
        if container is not None:
            container.stop()
            self._clock.after(self.options.stop_grace, container.kill)

    def _time_out(self, job: Job, attempt: int) -> None:
        with self.changed:
            if job.state == "RUNNING" and job.attempt == attempt:
                job.timed_out = True
                if job.outcome is not None:
                    self._attempt_over(job, attempt, Outcome(exit_code=137))
                else:
                    self._stop_container(job)

    def _attempt_over(self, job: Job, attempt: int, outcome: Outcome) -> None:
        """Record an attempt, then end the job or let it try again."""
        with self.changed:
            if job.over or job.attempt != attempt or job.state not in ("STARTING", "RUNNING"):
                return
            self._used[job.environment_arn] -= job.vcpus  # type: ignore[assignment]  # as where it was added
            status_reason = TIMED_OUT if job.timed_out else outcome.status_reason
            details = job.container_details
            if outcome.exit_code is not None:
                details["exitCode"] = outcome.exit_code
            if outcome.reason:
                details["reason"] = outcome.reason
            record: Json = {"container": dict(details), "stoppedAt": now(), "statusReason": status_reason}
            if job.state == "RUNNING":
                record["startedAt"] = job.started_at
            job.attempts.append(record)
            if job.terminated:
                self._settle(job, "FAILED", job.stop_reason)
            elif job.timed_out:
                self._settle(job, "FAILED", TIMED_OUT)
            elif outcome.exit_code == 0:
                self._settle(job, "SUCCEEDED", status_reason)
            elif attempt < job.retry_strategy.get("attempts", 1) and _retries(
                job.retry_strategy, outcome, status_reason
            ):
                job.started_at = None
                self._make_runnable(job)
            else:
                self._settle(job, "FAILED", status_reason)
            self._dispatch_all()
            self.changed.notify_all()

    def _cancel_one(self, job: Job, reason: str, *, terminate: bool) -> None:
        if job.over or (not terminate and job.state not in BEFORE_STARTING):
            return
        if terminate:
            job.terminated = True
        else:
            job.cancelled = True
        if job.children is not None:
            # Its children have the request; it ends when the last of them does.
            job.stop_reason = job.status_reason = reason
        elif job.state in ("SUBMITTED", "RUNNABLE"):
            self._settle(job, "FAILED", reason)
        elif job.state == "PENDING":
            job.stop_reason = job.status_reason = reason
            if self.options.cancel_pending_at_once:
                self._settle(job, "FAILED", reason)
        else:
            job.stop_reason = reason
            if job.outcome is not None:
                self._attempt_over(job, job.attempt, Outcome(exit_code=137))
            elif job.state == "STARTING" and not job.process:
                self._settle_unstarted(job, reason)
            else:
                self._stop_container(job)

    def _settle_unstarted(self, job: Job, reason: str) -> None:
        """End a job that holds a place in a compute environment but no process yet."""
        self._used[job.environment_arn] -= job.vcpus  # type: ignore[assignment]  # as where it was added
        self._settle(job, "FAILED", reason)


def _ended(summary: Counter[str]) -> int:
    return summary["SUCCEEDED"] + summary["FAILED"]


def _retries(strategy: Json, outcome: Outcome, status_reason: str) -> bool:
    """Whether a failed attempt is tried again: the first rule that matches decides, and no match means yes."""
    seen = {
        "onExitCode": "" if outcome.exit_code is None else str(outcome.exit_code),
        "onReason": outcome.reason or "",
        "onStatusReason": status_reason,
    }
    for rule in strategy.get("evaluateOnExit") or ():
        patterns = {key: rule[key] for key in seen if key in rule}
        if all(_globs(pattern, seen[key]) for key, pattern in patterns.items()):
            return bool(rule["action"].upper() == "RETRY")
    return True


def _globs(pattern: str, text: str) -> bool:
    """AWS's globs: an asterisk at the end only, and no respect for case."""
    if pattern.endswith("*"):
        return text.lower().startswith(pattern[:-1].lower())
    return text.lower() == pattern.lower()


def payload_size(value: object) -> int:
    """Bytes of a value as JSON without spaces, as the SDKs send it."""
    return len(json.dumps(value, separators=(",", ":")).encode())
