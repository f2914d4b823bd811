"""moto's full Batch backend over HTTP, with its gaps filled: the one place where the rig differs from moto.

moto keeps what it does well: HTTP and URL routing, the models of compute environments, job queues and job definitions
(with their revisions and tags), CloudWatch Logs, S3, IAM, STS and EC2. Its ``Job`` is replaced by `engine.Job`, because
its shape (a thread that sleeps, sees one attempt and reads its parents' state once a second) is the gap. A substitute
docker client, `containers.SubprocessDocker`, runs the jobs as real processes.

============================================ ======================================= ==========================
gap in moto 5.2                              why it matters                          filled in
============================================ ======================================= ==========================
retryStrategy ignored                        retries and ``attempts[]`` must be seen `Engine._attempt_over`
resource overrides ignored                   shared definitions rely on them         `Job.resources`
arrays end when described only, or never     parents fail and finish by themselves   `Engine._settle`
no ARRAY_INDEX, _SIZE, JOB_ATTEMPT, ...      programs read them                      `Engine._environment`
SEQUENTIAL crashes, N_TO_N is ignored        both are legal                          `Engine._link`
parents are polled every second              8,000 jobs would take hours             `Engine._settle`
a thread a job                               10,000 children, 10,000 threads         `Engine._launch`
exitCode only in ListJobs                    DescribeJobs is what one polls          `Job.detail`
logs after the end, with float times         one follows a log; boto3 has int        `Engine._put_log`
stream named by job, known at the end        AWS: by task, per attempt, when RUNNING `Engine._running`
no capacity                                  RUNNABLE, position, maxvCpus            `Engine._dispatch`
cancel is terminate; no isCancelled          AWS tells them apart                    `Engine._cancel_one`
no reason when a dependency failed           ``Dependent Job failed``                `Engine._settle`
timeouts polled, any exit code               statusReason, no retry, 137 or 143      `Engine._time_out`
vcpus 0.25 becomes 0                         Fargate's smallest size                 `Job.vcpus`
volumes and mountPoints must have a host     Fargate's have none                     unused by processes
job names need 2 characters                  AWS takes 1                             `RigBatchBackend.submit`
DescribeJobs takes any number, ``[]`` is all 100 at most, ``[]`` is nothing          `describejobs`
ListJobs: all states, one page, one filter   RUNNING, pages, filters, newest first   `listjobs`
no GetJobQueueSnapshot                       position in the queue                   `getjobqueuesnapshot`
no CancelJobs, no TerminateJobs              boto3 1.44 has them                     `_stop_many`
INACTIVE definitions accepted                AWS refuses them                        `definition_named`
empty environment values lost                an empty variable is set                `register_definition`
a new revision keeps the old platform        its platform is its own                 `register_definition`
no pages of definitions, queues, CEs         AWS gives 100 at most                   `_paged`
serviceRole and state required               AWS has defaults                        `createcomputeenvironment`
maxvCpus cannot be updated                   capacity changes                        `updatecomputeenvironment`
============================================ ======================================= ==========================

What AWS would refuse and moto takes is refused by `checker`, which sits in front. Unknown of AWS, and chosen here: the
children of an array whose dependency failed exist and are FAILED; a job that depends on one already FAILED is accepted,
then FAILED.

Run it for the command line: ``python -m tests.aws.batch_server --port 5555`` prints the exports to use.
"""

# ruff: noqa: ANN401  # requests, moto's models and boto3's clients are what they are
from __future__ import annotations

import argparse
import base64
import contextlib
import json
import logging
import os
import signal
import socket
import struct
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from io import BytesIO
from types import SimpleNamespace
from typing import Any, ClassVar
from urllib.parse import parse_qs

import botocore.session
import moto.settings
from moto.batch import urls as moto_batch_urls
from moto.batch.exceptions import ClientException
from moto.batch.models import BatchBackend, JobDefinition, JobQueue, batch_backends
from moto.batch.responses import BatchResponse
from moto.core import DEFAULT_ACCOUNT_ID  # type: ignore[attr-defined]  # public, though in no __all__
from moto.core.base_backend import BackendDict
from moto.core.model_instances import reset_model_data
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from .checker import Checker, Finding
from .engine import Engine, Job, Json, RefusedError
from .faults import Faults, Step, error_answer

logger = logging.getLogger(__name__)

SERVICE_ROLE = "AWSServiceRoleForBatch"


class RigBatchBackend(BatchBackend):
    """moto's backend of one region, its jobs in the engine. Also what the checker knows of the world."""

    engine: ClassVar[Engine]

    @property
    def _url_module(self) -> Any:
        paths = [
            *moto_batch_urls.url_paths,
            *(f"{{0}}/v1/{name}$" for name in ("canceljobs", "terminatejobs", "getjobqueuesnapshot")),
        ]
        return SimpleNamespace(
            url_bases=moto_batch_urls.url_bases, url_paths=dict.fromkeys(paths, RigBatchResponse.dispatch)
        )

    # For the checker

    def array_size(self, job_id: str) -> int | None:
        job = self.engine.jobs.get(job_id)
        return None if job is None else len(job.children or ())

    def definition(self, identifier: str) -> Json | None:
        found = self.definition_named(identifier)
        return None if found is None else found.describe()

    def live_jobs(self, definition_arn: str) -> list[str]:
        return [job.name for job in self.engine.definition_in_use(definition_arn)]

    # Definitions

    def definition_named(self, identifier: str) -> JobDefinition | None:
        """By ARN or name:revision; by name the newest ACTIVE revision, as SubmitJob takes it."""
        found = self._job_definitions.get(identifier)
        if found is not None:
            return found
        name, _, revision = identifier.rpartition(":")
        matches = [
            one
            for one in list(self._job_definitions.values())
            if (one.name == name and str(one.revision) == revision)
            or (one.name == identifier and one.status == "ACTIVE")
        ]
        return max(matches, key=lambda one: one.revision, default=None)

    def register_definition(self, request: Json) -> JobDefinition:
        """Register with moto, then restore what its model drops."""
        with self.engine.changed:  # two at once would get one revision
            return self._register(request)

    def _register(self, request: Json) -> JobDefinition:
        properties = deepcopy(request.get("containerProperties"))
        definition = self.register_job_definition(
            def_name=request["jobDefinitionName"],
            parameters=request.get("parameters") or {},
            _type=request["type"],
            tags=request.get("tags") or {},
            retry_strategy=request.get("retryStrategy") or {},
            container_properties=properties,
            node_properties=None,
            eks_properties=None,
            timeout=request.get("timeout") or {},
            platform_capabilities=request.get("platformCapabilities") or [],
            propagate_tags=request.get("propagateTags") or False,
        )
        definition.platform_capabilities = request.get("platformCapabilities") or []
        definition.propagate_tags = request.get("propagateTags") or False
        if definition.container_properties is not None:
            definition.container_properties["environment"] = request["containerProperties"].get("environment") or []
        return definition

    # Jobs

    def submit(self, request: Json) -> Job:
        definition = self.definition_named(request["jobDefinition"])
        if definition is None or definition.status != "ACTIVE":
            raise ClientException(f"Job definition {request['jobDefinition']} does not exist or is not ACTIVE")
        queue = self.queue_named(request["jobQueue"])
        if queue.state != "ENABLED":
            raise ClientException(f"Job queue {queue.arn} is DISABLED")
        prefix = f"arn:aws:batch:{self.region_name}:{self.account_id}:job/"
        try:
            job = self.engine.submit(queue, definition, request, self.logs_backend, prefix)
        except RefusedError as exc:
            raise ClientException(str(exc)) from exc
        if request.get("tags"):
            self.tag_resource(job.arn, request["tags"])
        return job

    def queue_named(self, identifier: str) -> JobQueue:
        queue = self.get_job_queue(identifier)
        if queue is None:
            raise ClientException(f"Job queue {identifier} does not exist")
        return queue

    def default_service_role(self) -> str:
        """The ARN of the service-linked role that AWS would use."""
        for role in self.iam_backend.get_roles():
            if role.name == SERVICE_ROLE:
                return str(role.arn)
        path = "/aws-service-role/batch.amazonaws.com/"
        role = self.iam_backend.create_role(SERVICE_ROLE, "{}", path, None, "", [], None)
        return str(role.arn)


class RigBatchResponse(BatchResponse):
    """moto's request handlers, where AWS answers differently."""

    @property
    def batch_backend(self) -> RigBatchBackend:
        backend = batch_backends[self.current_account][self.region]
        assert isinstance(backend, RigBatchBackend)
        return backend

    @property
    def _request(self) -> Json:
        request: Json = json.loads(self.body or "{}")
        return request

    @property
    def _engine(self) -> Engine:
        return self.batch_backend.engine

    # Jobs

    def submitjob(self) -> str:
        job = self.batch_backend.submit(self._request)
        return json.dumps({"jobArn": job.arn, "jobName": job.name, "jobId": job.id})

    def describejobs(self) -> str:
        ids = self._request.get("jobs") or []
        if len(ids) > 100:
            raise ClientException("at most 100 jobs")
        jobs = self._engine.jobs
        with self._engine.changed:
            found = [jobs[one] for one in dict.fromkeys(one.rpartition("job/")[2] for one in ids) if one in jobs]
            found = [job for job in found if self._engine.visible(job)]
            details = [job.detail(self.batch_backend.list_tags_for_resource(job.arn)) for job in found]
        return json.dumps({"jobs": details})

    def listjobs(self) -> str:
        request = self._request
        filters = request.get("filters") or []
        with self._engine.changed:
            if request.get("arrayJobId"):
                parent = self._engine.jobs.get(request["arrayJobId"])
                jobs = list((parent.children if parent else None) or ())
                filters = []
            else:
                queue = self.batch_backend.queue_named(request["jobQueue"])
                jobs = self._engine.by_queue.get(queue.arn, [])[::-1]
            jobs = [job for job in jobs if self._engine.visible(job)]
            if filters:
                jobs = [job for job in jobs if _passes(job, filters[0])]
            else:
                status = request.get("jobStatus") or "RUNNING"
                jobs = [job for job in jobs if job.state == status]
            limit = self._limit(100 if filters else 1000)
            # The token names the last job given, so that jobs that come and go meanwhile shift no page.
            keys = [job.seq if request.get("arrayJobId") else (-job.seq[0], -1) for job in jobs]
            start = bisect_left(keys, tuple(_untoken(request["nextToken"]))) + 1 if request.get("nextToken") else 0
            if start and (start > len(keys) or list(keys[start - 1]) != _untoken(request["nextToken"])):
                start -= 1
            page = jobs[start : start + limit]
            answer: Json = {"jobSummaryList": [job.short() for job in page]}
            if start + limit < len(jobs):
                answer["nextToken"] = _token(list(keys[start + limit - 1]))
        return json.dumps(answer)

    def canceljob(self) -> str:
        return self._stop(terminate=False)

    def terminatejob(self) -> str:
        return self._stop(terminate=True)

    def canceljobs(self) -> str:
        return self._stop_many(terminate=False)

    def terminatejobs(self) -> str:
        return self._stop_many(terminate=True)

    def _stop(self, *, terminate: bool) -> str:
        request = self._request
        job = self._engine.jobs.get(request["jobId"])
        if job is not None:
            self._engine.cancel(job, request["reason"], terminate=terminate)
        return "{}"

    def _stop_many(self, *, terminate: bool) -> str:
        request = self._request
        errors = []
        for job_id in request["jobs"]:
            job = self._engine.jobs.get(job_id)
            if job is None:
                errors.append({"job": job_id, "code": "ClientException", "message": f"Job {job_id} does not exist"})
            else:
                self._engine.cancel(job, request["reason"], terminate=terminate)
        failed = {error["job"] for error in errors}
        return json.dumps({"successful": [one for one in request["jobs"] if one not in failed], "errors": errors})

    def getjobqueuesnapshot(self) -> str:
        queue = self.batch_backend.queue_named(self._request["jobQueue"])
        at = int(time.time() * 1000)
        jobs = [
            {"jobArn": job.arn, "earliestTimeAtPosition": job.created_at} for job in self._engine.front_of_queue(queue)
        ]
        return json.dumps({"frontOfQueue": {"jobs": jobs, "lastUpdatedAt": at}})

    # Definitions

    def registerjobdefinition(self) -> str:
        made = self.batch_backend.register_definition(self._request)
        return json.dumps({"jobDefinitionName": made.name, "jobDefinitionArn": made.arn, "revision": made.revision})

    def deregisterjobdefinition(self) -> str:
        found = self.batch_backend.definition_named(self._request["jobDefinition"])
        if found is not None:
            found.deregister()
        return "{}"

    def describejobdefinitions(self) -> str:
        request = self._request
        backend = self.batch_backend
        if request.get("jobDefinitions"):
            named = [backend.definition_named(one) for one in request["jobDefinitions"]]
            found = [one for one in named if one is not None]
        else:
            name = request.get("jobDefinitionName")
            found = [one for one in list(backend._job_definitions.values()) if name in (None, one.name)]
            if request.get("status"):
                found = [one for one in found if one.status == request["status"]]
        return self._paged("jobDefinitions", [one.describe() for one in found])

    # Queues and compute environments

    def createjobqueue(self) -> str:
        request = self._request
        queue = self.batch_backend.create_job_queue(
            queue_name=request["jobQueueName"],
            priority=request["priority"],
            schedule_policy=request.get("schedulingPolicyArn"),
            state=request.get("state") or "ENABLED",
            compute_env_order=request["computeEnvironmentOrder"],
            tags=request.get("tags"),
        )
        return json.dumps({"jobQueueArn": queue.arn, "jobQueueName": queue.name})

    def updatejobqueue(self) -> str:
        answer = super().updatejobqueue()
        self._engine.capacity_changed()
        return answer

    def describejobqueues(self) -> str:
        wanted = self._request.get("jobQueues")
        return self._paged("jobQueues", self.batch_backend.describe_job_queues(wanted))

    def createcomputeenvironment(self) -> str:
        request = self._request
        backend = self.batch_backend
        made = backend.create_compute_environment(
            compute_environment_name=request["computeEnvironmentName"],
            _type=request["type"],
            state=request.get("state") or "ENABLED",
            compute_resources=request.get("computeResources") or {},
            service_role=request.get("serviceRole") or backend.default_service_role(),
            tags=request.get("tags"),
        )
        return json.dumps({"computeEnvironmentArn": made.arn, "computeEnvironmentName": made.name})

    def updatecomputeenvironment(self) -> str:
        request = self._request
        answer = super().updatecomputeenvironment()
        found = self.batch_backend.get_compute_environment(request["computeEnvironment"])
        if found is not None:
            found.compute_resources |= request.get("computeResources") or {}
        self._engine.capacity_changed()
        return answer

    def describecomputeenvironments(self) -> str:
        described = self.batch_backend.describe_compute_environments(self._request.get("computeEnvironments"))
        for one in described:
            reason = self._engine.invalid_reason(one["computeEnvironmentArn"])
            if reason is not None:
                one |= {"status": "INVALID", "statusReason": reason}
        return self._paged("computeEnvironments", described)

    # Pages

    def _limit(self, most: int) -> int:
        return min(self._request.get("maxResults") or most, self._engine.options.page_size or most, most)

    def _paged(self, key: str, items: list[Json]) -> str:
        start = _untoken(self._request["nextToken"])[0] if self._request.get("nextToken") else 0
        end = start + self._limit(100)
        answer: Json = {key: items[start:end]}
        if end < len(items):
            answer["nextToken"] = _token([end])
        return json.dumps(answer)


def _passes(job: Job, one: Json) -> bool:
    """Whether a job passes a filter of ListJobs."""
    values: list[str] = one.get("values") or []
    definition = job.definition
    match one["name"]:
        case "JOB_NAME":
            name = job.name.lower()
            return any(name.startswith(v[:-1].lower()) if v.endswith("*") else name == v.lower() for v in values)
        case "JOB_DEFINITION":
            return any(
                definition.name.startswith(v[:-1]) if v.endswith("*") else v in (definition.name, definition.arn)
                for v in values
            )
        case "BEFORE_CREATED_AT":
            return any(job.created_at < int(v) for v in values)
        case "AFTER_CREATED_AT":
            return any(job.created_at > int(v) for v in values)
    return False


def _token(value: list[int]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def _untoken(token: str) -> list[int]:
    try:
        value: list[int] = json.loads(base64.urlsafe_b64decode(token))
    except ValueError as exc:
        raise ClientException("nextToken is invalid") from exc
    return value


@dataclass
class Call:
    """One request that reached the front door.

    Parameters
    ----------
    at
        Seconds on the monotonic clock.
    service, action
        Such as ``batch`` and ``SubmitJob``; for S3 the HTTP method.
    body
        The request's JSON, or its form; empty for S3.
    status
        What was answered; None if nothing was.
    fault
        What the fault layer did, or ``ok``.
    seconds
        From the request's arrival to its answer.
    """

    at: float
    service: str
    action: str
    body: Json
    status: int | None = None
    fault: str = "ok"
    seconds: float = 0.0


@dataclass
class Record:
    """What the front door saw since the last reset."""

    calls: list[Call] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


StartResponse = Callable[..., Any]


class FrontDoor:
    """The WSGI application before moto's: it logs, checks, and does what the fault layer says."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.record = Record()
        self._moto = DomainDispatcherApplication(create_backend_app)
        model = botocore.session.get_session().get_service_model("batch")
        operations = [model.operation_model(name) for name in model.operation_names]
        self._batch_actions: dict[tuple[str, str], str] = {
            (one.http["requestUri"], one.http["method"]): str(one.name) for one in operations
        }

    def __call__(self, environ: Json, start_response: StartResponse) -> Iterable[bytes]:
        arrived = time.monotonic()
        if environ["PATH_INFO"] == "/rig/report":
            return self._report(start_response)
        service, region = _scope(environ)
        raw = b"" if service == "s3" else _body(environ)
        action, body = self._action(service, environ, raw)
        call = Call(arrived, service, action, body)
        self.record.calls.append(call)
        findings: list[Finding] = []
        if service == "batch":
            world = batch_backends[_account()][region]
            assert isinstance(world, RigBatchBackend)
            findings = Checker(world).check(action, body, len(raw))
            self.record.violations += [finding.message for finding in findings]
        step = self.faults.decide(service, action)
        call.fault = step.kind
        if step.kind == "late":
            _reset(environ["werkzeug.socket"])
            time.sleep(step.seconds)
        refusal = "; ".join(finding.message for finding in findings if finding.refused)
        if action == "GetLogEvents" and RigBatchBackend.engine.options.page_size and "limit" not in body:
            _replace_body(environ, body | {"limit": RigBatchBackend.engine.options.page_size})
        status, headers, answer = self._answer(environ, service, step, refusal)
        if step.kind == "late":
            raise ConnectionResetError
        wait = arrived + self.faults.latency + step.seconds - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        call.seconds = time.monotonic() - arrived
        if step.kind in ("reset", "drop") or (step.kind == "truncate" and not answer):
            _reset(environ["werkzeug.socket"])
            raise ConnectionResetError
        call.status = int(status.split()[0])
        if environ["REQUEST_METHOD"] != "HEAD":
            headers = [(key, value) for key, value in headers if key.lower() != "content-length"]
            headers.append(("Content-Length", str(len(answer))))
        start_response(status, headers)
        return [answer[: len(answer) // 2] if step.kind == "truncate" else answer]

    def _answer(
        self, environ: Json, service: str, step: Step, refusal: str
    ) -> tuple[str, list[tuple[str, str]], bytes]:
        if step.kind in ("throttle", "error"):
            return error_answer(step.kind, service)
        if step.kind == "reset":
            return "", [], b""
        if refusal:
            headers = [("Content-Type", "application/json"), ("x-amzn-ErrorType", "ClientException")]
            return "400 Bad Request", headers, json.dumps({"message": refusal}).encode()
        started: list[Any] = []
        chunks = self._moto(environ, lambda status, headers, _exc_info=None: started.extend((status, list(headers))))
        try:
            answer = b"".join(chunks)
        finally:
            with contextlib.suppress(AttributeError):
                chunks.close()
        if step.kind == "lost":
            return error_answer("error", service)
        return started[0], started[1], answer

    def _action(self, service: str, environ: Json, raw: bytes) -> tuple[str, Json]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if service == "s3":
            return method, {}
        if service == "batch":
            uri = "/v1/tags/{resourceArn}" if path.startswith("/v1/tags/") else path
            return str(self._batch_actions.get((uri, method), path)), json.loads(raw) if raw else {}
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if target:
            return str(target.rpartition(".")[2]), json.loads(raw) if raw else {}
        form: Json = {key: values[0] for key, values in parse_qs(raw.decode("utf-8", "replace")).items()}
        return str(form.get("Action", path)), form

    def _report(self, start_response: StartResponse) -> Iterable[bytes]:
        calls: dict[str, int] = {}
        for call in self.record.calls:
            calls[call.action] = calls.get(call.action, 0) + 1
        jobs = [{"id": job.id, "name": job.name, "state": job.state} for job in RigBatchBackend.engine.accepted]
        report = {"calls": calls, "violations": self.record.violations, "jobs": jobs}
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(report, indent=1).encode()]


def _account() -> str:
    return DEFAULT_ACCOUNT_ID


def _scope(environ: Json) -> tuple[str, str]:
    """Service and region that a request was signed for; S3 if it was not."""
    credential = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition(",")[0].split("/")
    return (credential[3], credential[2]) if len(credential) > 3 else ("s3", "us-east-1")


def _body(environ: Json) -> bytes:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    raw: bytes = environ["wsgi.input"].read(length) if length else b""
    environ["wsgi.input"] = BytesIO(raw)
    return raw


def _replace_body(environ: Json, body: Json) -> None:
    raw = json.dumps(body).encode()
    environ["wsgi.input"] = BytesIO(raw)
    environ["CONTENT_LENGTH"] = str(len(raw))


def _reset(connection: socket.socket) -> None:
    """Close with RST: a lingering time of 0 on a descriptor that nobody else can shut down in order."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())


def wipe() -> None:
    """Empty every backend of moto, and the lists in which its models keep every instance they ever had."""
    BackendDict.reset()
    reset_model_data()


class _QuietHandler(MotoRequestHandler):
    def connection_dropped(self, error: BaseException, environ: Json | None = None) -> None:  # noqa: ARG002
        """After a reset there is no next request on this connection."""
        self.close_connection = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """One line a request on standard error would bury the test's own words."""


class BatchServer:
    """The HTTP server in a thread. There is one a process, as moto's backends are global.

    Parameters
    ----------
    engine
        Where the jobs live.
    faults
        The fault layer.
    port
        0 picks a free one. It listens on 127.0.0.1 only.
    """

    def __init__(self, engine: Engine, faults: Faults, port: int = 0) -> None:
        if batch_backends.backend is RigBatchBackend:
            raise RuntimeError("moto's backends are global: one rig a process, tests.aws.fixtures.shared_rig()")
        RigBatchBackend.engine = engine
        wipe()
        batch_backends.backend = RigBatchBackend
        # 1,300 machine images that no job needs cost each test 0.2 s.
        self._load_images = moto.settings.ec2_load_default_amis
        moto.settings.ec2_load_default_amis = lambda: False
        self.front_door = FrontDoor(faults)
        self._server: BaseWSGIServer = make_server(
            "127.0.0.1", port, self.front_door, threaded=True, request_handler=_QuietHandler
        )
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="rig-http", daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @staticmethod
    def backend(region: str) -> RigBatchBackend:
        backend = batch_backends[_account()][region]
        assert isinstance(backend, RigBatchBackend)
        return backend

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        wipe()
        batch_backends.backend = BatchBackend
        moto.settings.ec2_load_default_amis = self._load_images


def main(argv: list[str] | None = None) -> None:
    """Serve until interrupted, and say at the end what was seen."""
    from tests.aws.rig import Rig  # the package's copy of this module, not __main__'s

    parser = argparse.ArgumentParser(prog="python -m tests.aws.batch_server", description="A stand-in for AWS Batch.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--queue", default="ezbatch", help="a Fargate queue to make; add more with boto3")
    parser.add_argument("--max-vcpus", type=int, default=256)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds a call takes at least")
    parser.add_argument("--submit-rate", type=float, help="SubmitJob calls a second before 429; AWS has 50")
    parser.add_argument(
        "--virtual", type=float, metavar="SECONDS", help="run no process: every job succeeds after so long"
    )
    options = parser.parse_args(argv)
    with Rig(region=options.region, port=options.port) as rig:
        rig.faults.latency = options.latency
        rig.faults.submit_rate = options.submit_rate
        if options.virtual is not None:
            rig.virtual(options.virtual)
        rig.queue(options.queue, max_vcpus=options.max_vcpus)
        out = "\n".join(f"export {name}={value}" for name, value in rig.env.items())
        print(f"{out}\n# queue {options.queue}, execution role {rig.execution_role}", flush=True)  # noqa: T201
        print(f"# {rig.endpoint}/rig/report shows calls, violations and jobs; Ctrl-C ends it", flush=True)  # noqa: T201
        # SIGTERM too must end the jobs' processes.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
        print(json.dumps({"calls": rig.counts(), "violations": rig.violations}, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
