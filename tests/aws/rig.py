"""`Rig`: a stand-in for an AWS account, and a test's hands on it."""

# ruff: noqa: ANN401  # requests, moto's models and boto3's clients are what they are
from __future__ import annotations

import fnmatch
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from .batch_server import BatchServer, Call, Record, wipe
from .engine import TERMINAL, Engine, Job, Options, Outcome
from .faults import Faults

if TYPE_CHECKING:
    from typing_extensions import Self

EXECUTION_ROLE = "ecsTaskExecutionRole"


@dataclass(frozen=True)
class JobView:
    """One job as the server has it now, array parents included, children not (see `Rig.children`)."""

    id: str
    name: str
    state: str
    queue: str
    definition: str
    status_reason: str | None
    exit_code: int | None
    attempts: int
    depends_on: tuple[str, ...]
    index: int | None
    size: int | None
    created_at: int
    started_at: int | None
    stopped_at: int | None
    cancelled: bool
    terminated: bool
    environment: dict[str, str]
    tags: dict[str, str]


class Rig:
    """AWS Batch, CloudWatch Logs, S3, IAM, STS and EC2 on 127.0.0.1, for one test at a time.

    Parameters
    ----------
    region
        Where the helpers make things. Requests may name any region.
    port
        0 picks a free one.

    Attributes
    ----------
    endpoint
        The URL to point boto3 at.
    faults
        The fault layer: latency, throttling, resets, lost answers (`faults.Faults`).
    options
        How jobs run (`engine.Options`).
    """

    def __init__(self, region: str = "us-east-1", port: int = 0) -> None:
        self.region = region
        self.faults = Faults()
        self.options = Options()
        self.engine = Engine(self.options)
        self._clients: dict[str, Any] = {}
        self._server = BatchServer(self.engine, self.faults, port)
        self.endpoint = self._server.endpoint
        self.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # Reaching it

    @property
    def env(self) -> dict[str, str]:
        """The environment that points boto3, the AWS CLI and a container here, and nowhere else."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str, **config: Any) -> Any:
        """A boto3 client of this rig. It never retries unless `config` says so, so that one call is one request."""
        settings: dict[str, Any] = {
            "retries": {"mode": "standard", "total_max_attempts": 1},
            "max_pool_connections": 50,
        }
        key = f"{service} {sorted(config.items())}"
        if key not in self._clients:
            # Made once: it takes a tenth of a second, and the endpoint outlives a reset.
            session = boto3.Session(
                aws_access_key_id="testing", aws_secret_access_key="testing", region_name=self.region
            )
            made = session.client(service, endpoint_url=self.endpoint, config=Config(**(settings | config)))  # type: ignore[call-overload]
            self._clients[key] = made
        return self._clients[key]

    # Making things, without a request

    @property
    def execution_role(self) -> str:
        """The ARN of a role that exists."""
        iam = self._backend.iam_backend
        for role in iam.get_roles():
            if role.name == EXECUTION_ROLE:
                return str(role.arn)
        return str(iam.create_role(EXECUTION_ROLE, "{}", "/", None, "", [], None).arn)

    def queue(
        self,
        name: str = "ezbatch",
        *,
        max_vcpus: float = 256,
        platform: str = "FARGATE",
        state: str = "ENABLED",
        environment_state: str = "ENABLED",
    ) -> str:
        """Make a compute environment ``<name>-ce`` and a queue on it; returns the queue's name.

        Parameters
        ----------
        name
            Of the queue.
        max_vcpus
            Jobs beyond it stay RUNNABLE.
        platform
            FARGATE, FARGATE_SPOT, EC2 or SPOT.
        state, environment_state
            ENABLED or DISABLED.
        """
        backend = self._backend
        vpc = backend.ec2_backend
        resources: dict[str, Any] = {
            "type": platform,
            "maxvCpus": max_vcpus,
            "subnets": [next(iter(vpc.describe_subnets())).id],
            "securityGroupIds": [next(iter(vpc.describe_security_groups())).id],
        }
        if "FARGATE" not in platform:
            profiles = backend.iam_backend.get_instance_profiles()
            profile = (
                profiles[0] if profiles else backend.iam_backend.create_instance_profile("ecsInstanceRole", "/", [])
            )
            resources |= {"minvCpus": 0, "desiredvCpus": 0, "instanceTypes": ["optimal"], "instanceRole": profile.arn}
        made = backend.create_compute_environment(
            f"{name}-ce", "MANAGED", environment_state, resources, backend.default_service_role()
        )
        order = [{"order": 1, "computeEnvironment": made.arn}]
        backend.create_job_queue(name, "1", None, state, order)
        return name

    def queue_arn(self, name: str) -> str:
        return str(self._backend.queue_named(name).arn)

    def bucket(self, name: str) -> str:
        """Make an S3 bucket; returns its name."""
        self.client("s3").create_bucket(Bucket=name)
        return name

    # Turning the world

    def set_capacity(self, queue: str, max_vcpus: float) -> None:
        for environment in self._backend.queue_named(queue).environments:
            environment.compute_resources["maxvCpus"] = max_vcpus
        self.engine.capacity_changed()

    def set_queue(self, queue: str, *, status: str) -> None:
        """Make a queue INVALID, CREATING, UPDATING, ... or VALID again."""
        self._backend.queue_named(queue).status = status

    def set_environment(self, queue: str, *, state: str | None = None, invalid: str | None = None) -> None:
        """ENABLE or DISABLE a queue's compute environments, or make them INVALID for a reason (None: VALID)."""
        for environment in self._backend.queue_named(queue).environments:
            if state is not None:
                environment.state = state
            self.engine.invalidate(environment.arn, invalid)

    def block(self, queue: str, status_reason: str | None) -> None:
        """Keep jobs RUNNABLE, with this statusReason on the one at the head of the queue. None lets them go."""
        self.engine.block(self._backend.queue_named(queue), status_reason)

    def hold(self, *states: str) -> None:
        """Keep jobs in SUBMITTED, RUNNABLE or STARTING until `release`."""
        self.engine.hold(*states)

    def release(self) -> None:
        self.engine.release()

    def virtual(self, how: float | str | Callable[[Job], Outcome | None] = "manual", exit_code: int = 0) -> None:
        """Run jobs that start from now on without processes.

        Parameters
        ----------
        how
            Seconds that each takes; ``"manual"``: until `finish`; or a function of the job (``name``, ``index``,
            ``attempt``, …) that returns an `Outcome`, or None for a real process.
        exit_code
            Of each.
        """
        if callable(how):
            self.options.virtual = how
        else:
            self.options.virtual = Outcome(None if isinstance(how, str) else how, exit_code)

    def finish(
        self, which: str = "*", exit_code: int = 0, *, reason: str | None = None, status_reason: str | None = None
    ) -> int:
        """End virtual jobs that are RUNNING, array children included, by id or by a glob on names; returns how many."""
        outcome = Outcome(0, exit_code, reason, status_reason or Outcome.status_reason)
        with self.engine.changed:
            running = [
                job for job in self._jobs(which, children=True) if job.state == "RUNNING" and job.outcome is not None
            ]
            for job in running:
                self.engine.finish(job, outcome)
        return len(running)

    def forget(self, job_id: str) -> None:
        """Let AWS forget a finished job."""
        self.engine.forget(self.engine.jobs[job_id])

    # Seeing it

    @property
    def violations(self) -> list[str]:
        """Broken rules so far. The fixture fails a test that leaves any; see `take_violations`."""
        return self._record.violations

    def take_violations(self) -> list[str]:
        taken, self._record.violations[:] = list(self._record.violations), []
        return taken

    def calls(self, action: str = "*", service: str = "*") -> list[Call]:
        """Requests in the order of arrival, those that a fault swallowed included."""
        return [
            call
            for call in list(self._record.calls)
            if fnmatch.fnmatchcase(call.action, action) and fnmatch.fnmatchcase(call.service, service)
        ]

    def counts(self, service: str = "*") -> dict[str, int]:
        return dict(Counter(call.action for call in self.calls(service=service)))

    def forget_calls(self) -> None:
        self._record.calls.clear()

    def peak_rate(self, action: str = "SubmitJob", window: float = 1.0) -> int:
        """The most calls of an action in any `window` seconds."""
        times = [call.at for call in self.calls(action)]
        most = first = 0
        for last, at in enumerate(times):
            while times[first] <= at - window:
                first += 1
            most = max(most, last - first + 1)
        return most

    def jobs(self, which: str = "*") -> list[JobView]:
        """Every job that the server ever accepted, forgotten ones included: by id, or by a glob on names."""
        with self.engine.changed:
            return [self._view(job) for job in self._jobs(which)]

    def job(self, which: str) -> JobView:
        """The one job of that id or name."""
        found = self.jobs(which)
        if len(found) != 1:
            raise LookupError(f"{len(found)} jobs match {which!r}")
        return found[0]

    def children(self, which: str) -> list[JobView]:
        """The children of an array job."""
        with self.engine.changed:
            return [self._view(child) for job in self._jobs(which) for child in job.children or ()]

    def states(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        return dict(Counter(job.state for job in self.jobs()))

    def duplicates(self) -> dict[str, int]:
        """Names that more than one job has."""
        return {name: n for name, n in Counter(job.name for job in self.jobs()).items() if n > 1}

    def definitions(self, status: str | None = None) -> list[dict[str, Any]]:
        """Job definitions as described by the server."""
        found = list(self._backend._job_definitions.values())
        return [one.describe() for one in found if status in (None, one.status)]

    def logs(self, which: str) -> list[str]:
        """The log lines of a job's attempts, in order."""
        with self.engine.changed:
            streams = [
                details["logStreamName"]
                for job in self._jobs(which, children=True)
                for details in [
                    *(one["container"] for one in job.attempts),
                    *([] if job.over else [job.container_details]),
                ]
                if "logStreamName" in details
            ]
        group = self._backend.logs_backend.groups.get("/aws/batch/job")
        known = group.streams if group is not None else {}
        return [event.message for name in streams if name in known for event in known[name].events]

    # Waiting for it

    def wait_idle(self, timeout: float = 30) -> None:
        """Return when every job is terminal and no process is left."""
        with self.engine.changed:
            if not self.engine.changed.wait_for(self.engine.idle, timeout):
                live = Counter(job.state for job in self.engine.live())
                raise TimeoutError(f"jobs are still live after {timeout} s: {dict(live)}")

    def wait_for(self, which: str, *states: str, timeout: float = 30) -> None:
        """Return when every job of that id or name (a glob), and at least one, is in one of `states`; else terminal."""
        wanted = set(states) or TERMINAL

        def there() -> bool:
            found = list(self._jobs(which, children=":" in which))
            return bool(found) and all(job.state in wanted for job in found)

        with self.engine.changed:
            if not self.engine.changed.wait_for(there, timeout):
                found = {job.name: job.state for job in self._jobs(which)}
                raise TimeoutError(f"not {sorted(wanted)} after {timeout} s: {found}")

    # Its life

    def reset(self) -> None:
        """Kill every job and forget everything: a new account, a perfect network."""
        self.faults.clear()
        self.engine.reset()
        wipe()
        for one in fields(Options):
            setattr(self.options, one.name, getattr(Options(), one.name))
        self.options.container_env = {**self.env, "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}
        # A request still on its way writes into the old record.
        self._server.front_door.record = Record()
        self.started_at = time.monotonic()

    def close(self) -> None:
        self.engine.close()
        self._server.close()

    @property
    def _record(self) -> Record:
        return self._server.front_door.record

    @property
    def _backend(self) -> Any:
        return self._server.backend(self.region)

    def _jobs(self, which: str, *, children: bool = False) -> list[Job]:
        everything = self.engine.accepted
        if children:
            everything = [one for job in everything for one in [job, *(job.children or ())]]
        return [job for job in everything if which == job.id or fnmatch.fnmatchcase(job.name, which)]

    def _view(self, job: Job) -> JobView:
        return JobView(
            id=job.id,
            name=job.name,
            state=job.state,
            queue=job.queue.name,
            definition=job.definition.arn,
            status_reason=job.status_reason,
            exit_code=job.container_details.get("exitCode"),
            attempts=job.attempt,
            depends_on=tuple(one.get("jobId", one.get("type", "")) for one in job.request.get("dependsOn") or ()),
            index=job.index,
            size=None if job.children is None else len(job.children),
            created_at=job.created_at,
            started_at=job.started_at,
            stopped_at=job.stopped_at,
            cancelled=job.cancelled,
            terminated=job.terminated,
            environment=job.environment,
            tags=job.request.get("tags") or {},
        )
