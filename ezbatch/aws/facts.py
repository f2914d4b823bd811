"""One look at a queue, for telling why its jobs wait: a few calls, each of which may be forbidden or unknown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, TypeVar

from ezbatch.aws.clients import Clients
from ezbatch.aws.watching import Watcher
from ezbatch.backend import EnvironmentFacts, QueueFacts
from ezbatch.errors import BackendError, UnreachableError

__all__ = ["environment_facts", "fargate_quota", "queue_facts"]

#: The quotas of AWS Fargate on vCPUs in use at once (Service Quotas' own codes).
FARGATE_QUOTAS = {"FARGATE": "L-3032A538", "FARGATE_SPOT": "L-36FBB829"}
#: So many running jobs are asked for their vCPUs, in calls of a hundred: beyond it the sum is not worth the calls.
RUNNING_AT_MOST = 300
#: Seconds for each of the calls: a look must not keep anybody waiting.
PATIENCE = 3.0

_Found = TypeVar("_Found")


def environment_facts(described: Mapping[str, Any]) -> EnvironmentFacts:
    """Return what DescribeComputeEnvironments says of one."""
    resources = described.get("computeResources") or {}
    most = resources.get("maxvCpus")
    return EnvironmentFacts(
        name=str(described["computeEnvironmentName"]),
        platform=str(resources.get("type", "UNMANAGED")),
        state=str(described.get("state", "ENABLED")),
        status=str(described.get("status", "VALID")),
        reason=str(described.get("statusReason", "")),
        max_vcpus=None if most is None else float(most),
    )


class _Look:
    """Remembers what was looked at and what could not be."""

    def __init__(self) -> None:
        self.looked: list[str] = []
        self.unseen: list[str] = []

    def at(self, what: str, look: Callable[[], _Found]) -> _Found | None:
        try:
            found = look()
        except UnreachableError:
            raise
        except BackendError as error:
            self.unseen.append(f"{what} ({_short(error)})")
            return None
        self.looked.append(what)
        return found


def _short(error: Exception) -> str:
    """Return the beginning of an error: one line of evidence holds several."""
    text = str(error).split(". ")[0].rstrip(".")
    return text if len(text) <= 120 else f"{text[:117]}..."  # noqa: PLR2004 - what reads as a clause


def queue_facts(clients: Clients, watcher: Watcher, queue: str) -> QueueFacts | None:
    """Look at a queue.

    Parameters
    ----------
    clients : Clients
        The way to AWS.
    watcher : Watcher
        What describes jobs: these looks count towards its budget.
    queue : str
        Its name or ARN.

    Returns
    -------
    QueueFacts or None
        None if there is no such queue.

    Raises
    ------
    UnreachableError
        If AWS does not answer.
    """
    look = _Look()
    found = look.at("the queue", lambda: clients.call("batch", "describe_job_queues", jobQueues=[queue])["jobQueues"])
    if found is not None and not found:
        return None
    described: Mapping[str, Any] = found[0] if found else {}
    order = [entry["computeEnvironment"] for entry in described.get("computeEnvironmentOrder", ())]
    environments = look.at("its compute environments", lambda: _environments(clients, order)) or ()
    front = look.at("the order of its jobs", lambda: _front(clients, queue))
    head = next(iter(front or {}), "")
    head_name = head_reason = ""
    if head:
        detail = (look.at("the job at its head", lambda: watcher.look([head])) or {}).get(head)
        if detail:
            head_name, head_reason = str(detail["jobName"]), str(detail.get("statusReason", ""))
    runnable = look.at("the jobs that wait", lambda: len(_listed(clients, queue, "RUNNABLE")))
    running = look.at(
        "the jobs that run", lambda: [*_listed(clients, queue, "STARTING"), *_listed(clients, queue, "RUNNING")]
    )
    vcpus = None
    if running is not None and len(running) <= RUNNING_AT_MOST:
        vcpus = look.at("the vCPUs of those", lambda: sum(map(_vcpus, watcher.look(running).values())))
    platform = next((one.platform for one in environments if one.platform in FARGATE_QUOTAS), None)
    quota = None
    if platform is not None:
        quota = look.at("the vCPU quota", lambda: fargate_quota(clients, platform))
    return QueueFacts(
        queue=str(described.get("jobQueueName", queue)),
        seen=datetime.now(timezone.utc),
        state=str(described.get("state", "ENABLED")),
        status=str(described.get("status", "VALID")),
        reason=str(described.get("statusReason", "")),
        environments=tuple(environments),
        front=front,
        head_name=head_name,
        head_reason=head_reason,
        # ListJobs leaves the children of arrays out, the snapshot does not.
        runnable=None if runnable is None else max(runnable, len(front or ())),
        running=None if running is None else len(running),
        vcpus=vcpus,
        quota=quota,
        looked=tuple(look.looked),
        unseen=tuple(look.unseen),
    )


def _environments(clients: Clients, order: Sequence[str]) -> list[EnvironmentFacts]:
    if not order:
        return []
    answer = clients.call("batch", "describe_compute_environments", patience=PATIENCE, computeEnvironments=list(order))
    found = {item["computeEnvironmentArn"]: item for item in answer["computeEnvironments"]}
    found |= {item["computeEnvironmentName"]: item for item in answer["computeEnvironments"]}
    return [environment_facts(found[name]) for name in order if name in found]


def _front(clients: Clients, queue: str) -> dict[str, datetime]:
    if not clients.has("batch", "get_job_queue_snapshot"):
        raise BackendError("this boto3 does not know GetJobQueueSnapshot")
    answer = clients.call("batch", "get_job_queue_snapshot", patience=PATIENCE, jobQueue=queue)
    return {
        str(job["jobArn"]).rpartition("job/")[2]: datetime.fromtimestamp(
            job.get("earliestTimeAtPosition", 0) / 1000, timezone.utc
        )
        for job in answer.get("frontOfQueue", {}).get("jobs", ())
    }


def _listed(clients: Clients, queue: str, state: str) -> list[str]:
    found = clients.pages("batch", "list_jobs", "jobSummaryList", jobQueue=queue, jobStatus=state)
    return [str(item["jobId"]) for item in found]


def _vcpus(detail: Mapping[str, Any]) -> float:
    needs = detail.get("container", {}).get("resourceRequirements", ())
    return next((float(need["value"]) for need in needs if need["type"] == "VCPU"), 0.0)


def fargate_quota(clients: Clients, platform: str) -> float:
    """Return the vCPUs that the account may have at once on Fargate or Fargate Spot, in this Region."""
    answer = clients.call(
        "service-quotas",
        "get_service_quota",
        patience=PATIENCE,
        ServiceCode="fargate",
        QuotaCode=FARGATE_QUOTAS[platform],
    )
    return float(answer["Quota"]["Value"])
