"""Queues and compute environments for those who manage them by hand: make, list, enable, disable, change, delete.

Each change waits until AWS has made it, unless told not to, and returns what AWS then says, not what was asked for.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ezbatch import spec
from ezbatch.aws import network
from ezbatch.aws.clients import Clients, pauses
from ezbatch.errors import BackendError
from ezbatch.settings import Settings

__all__ = [
    "Environment",
    "JobQueue",
    "create_environment",
    "create_queue",
    "delete_environment",
    "delete_queue",
    "disable_environment",
    "disable_queue",
    "enable_environment",
    "enable_queue",
    "list_environments",
    "list_queues",
    "update_environment",
]

PLATFORMS = ("FARGATE", "FARGATE_SPOT", "EC2", "SPOT")
#: Compute environments of a queue (AWS Batch user guide, service quotas).
ENVIRONMENTS_AT_MOST = 3
#: Seconds for which a state is waited for.
PATIENCE = 600.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Environment:
    """A compute environment, as AWS describes it.

    Parameters
    ----------
    name, arn : str
        What it is called.
    platform : str
        ``FARGATE``, ``FARGATE_SPOT``, ``EC2``, ``SPOT`` or ``UNMANAGED``.
    state : str
        ``ENABLED`` or ``DISABLED``: what a person set.
    status, reason : str
        ``VALID``, ``INVALID``, ``CREATING``, ...: what AWS found, and why.
    max_vcpus : float, optional
        The vCPUs that its jobs can have at once.
    subnets, security_groups, instance_types : tuple of str
        Where and on what jobs run.
    """

    name: str
    arn: str
    platform: str
    state: str
    status: str
    reason: str = ""
    max_vcpus: float | None = None
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class JobQueue:
    """A job queue, as AWS describes it.

    Parameters
    ----------
    name, arn : str
        What it is called.
    state, status, reason : str
        As of an :class:`Environment`.
    priority : int
        Among queues that share a compute environment the higher goes first.
    environments : tuple of str
        The names of its compute environments, in the order in which they are tried.
    tags : mapping of str to str
        Its tags.
    """

    name: str
    arn: str
    state: str
    status: str
    reason: str = ""
    priority: int = 1
    environments: tuple[str, ...] = ()
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)


def _clients(settings: Settings | None, clients: Clients | None) -> Clients:
    return clients or Clients(settings or Settings.load())


def _environment(item: Mapping[str, Any]) -> Environment:
    resources = item.get("computeResources") or {}
    most = resources.get("maxvCpus")
    return Environment(
        name=str(item["computeEnvironmentName"]),
        arn=str(item["computeEnvironmentArn"]),
        platform=str(resources.get("type", "UNMANAGED")),
        state=str(item.get("state", "")),
        status=str(item.get("status", "")),
        reason=str(item.get("statusReason", "")),
        max_vcpus=None if most is None else float(most),
        subnets=tuple(resources.get("subnets", ())),
        security_groups=tuple(resources.get("securityGroupIds", ())),
        instance_types=tuple(resources.get("instanceTypes", ())),
    )


def _queue(item: Mapping[str, Any]) -> JobQueue:
    order = sorted(item.get("computeEnvironmentOrder", ()), key=lambda entry: entry.get("order", 0))
    return JobQueue(
        name=str(item["jobQueueName"]),
        arn=str(item["jobQueueArn"]),
        state=str(item.get("state", "")),
        status=str(item.get("status", "")),
        reason=str(item.get("statusReason", "")),
        priority=int(item.get("priority", 0)),
        environments=tuple(str(entry["computeEnvironment"]).rpartition("/")[2] for entry in order),
        tags=dict(item.get("tags", {})),
    )


# Listing


def list_environments(*, settings: Settings | None = None, clients: Clients | None = None) -> list[Environment]:
    """Return every compute environment of the account and Region, by name."""
    found = _clients(settings, clients).pages("batch", "describe_compute_environments", "computeEnvironments")
    made = [_environment(item) for item in found if item.get("status") != "DELETED"]
    return sorted(made, key=lambda environment: environment.name)


def list_queues(*, settings: Settings | None = None, clients: Clients | None = None) -> list[JobQueue]:
    """Return every job queue of the account and Region, by name."""
    found = _clients(settings, clients).pages("batch", "describe_job_queues", "jobQueues")
    return sorted((_queue(item) for item in found if item.get("status") != "DELETED"), key=lambda queue: queue.name)


def _one_environment(clients: Clients, name: str) -> Environment | None:
    answer = clients.call("batch", "describe_compute_environments", computeEnvironments=[name])
    found = [_environment(item) for item in answer["computeEnvironments"] if item.get("status") != "DELETED"]
    return found[0] if found else None


def _one_queue(clients: Clients, name: str) -> JobQueue | None:
    answer = clients.call("batch", "describe_job_queues", jobQueues=[name])
    found = [_queue(item) for item in answer["jobQueues"] if item.get("status") != "DELETED"]
    return found[0] if found else None


def _known_environment(clients: Clients, name: str) -> Environment:
    found = _one_environment(clients, name)
    if found is None:
        known = [environment.name for environment in list_environments(clients=clients)]
        raise BackendError(_missing("compute environment", name, known))
    return found


def _known_queue(clients: Clients, name: str) -> JobQueue:
    found = _one_queue(clients, name)
    if found is None:
        raise BackendError(_missing("queue", name, [queue.name for queue in list_queues(clients=clients)]))
    return found


def _missing(kind: str, name: str, known: Sequence[str]) -> str:
    have = f"there are {', '.join(known[:10])}" if known else "there are none"
    return f"there is no {kind} {name!r} in this account and Region{spec.nearest(name, known)} ({have})."


def _settled(
    clients: Clients, what: str, look: Callable[[], Environment | JobQueue | None], *, gone: bool = False
) -> Environment | JobQueue | None:
    """Wait until AWS is done with something, and return what it is then; None if it is gone.

    Raises
    ------
    BackendError
        If it became INVALID, or is not done in time.
    """
    deadline = clients.clock() + PATIENCE
    for pause in pauses():
        found = look()
        if found is None and gone:
            return None
        if found is not None:
            if found.status == "INVALID":
                raise BackendError(f"{what} is INVALID: {found.reason or 'AWS gives no reason'}. Mend that.")
            if found.status == "VALID" and not gone:
                return found
        if clients.clock() > deadline:
            state = "not there" if found is None else found.status
            raise BackendError(f"{what} is still {state} after {PATIENCE / 60:.0f} minutes. Look at it again later.")
        clients.sleep(pause)
    raise AssertionError  # pauses never end


def _check_name(kind: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BackendError(
            f"{name!r} cannot name a {kind}. Use at most 128 letters, digits, hyphens and underscores, the first"
            " a letter or digit."
        )


# Compute environments


def create_environment(
    name: str,
    *,
    platform: str = "FARGATE",
    max_vcpus: int = 256,
    subnets: Sequence[str] = (),
    security_groups: Sequence[str] = (),
    instance_types: Sequence[str] = ("optimal",),
    instance_role: str | None = None,
    wait: bool = True,
    settings: Settings | None = None,
    clients: Clients | None = None,
) -> Environment:
    """Make a compute environment, with AWS Batch's own service-linked role.

    Parameters
    ----------
    name : str
        At most 128 letters, digits, hyphens and underscores.
    platform : str
        ``FARGATE``, ``FARGATE_SPOT``, ``EC2`` or ``SPOT``.
    max_vcpus : int
        The vCPUs that its jobs can have at once.
    subnets : sequence of str
        Their ids. None given: those of the default VPC that have a way out.
    security_groups : sequence of str
        Their ids. None given: the VPC's default group.
    instance_types : sequence of str
        Of EC2 and Spot only; ``optimal`` is what AWS Batch chooses.
    instance_role : str, optional
        The instance profile of EC2 and Spot, name or ARN (``ecsInstanceRole``).
    wait : bool
        Whether to wait until it is VALID.
    settings : Settings, optional
        Instead of those that are set.
    clients : Clients, optional
        Instead of those that the settings give.

    Returns
    -------
    Environment
        As AWS describes it.

    Raises
    ------
    BackendError
        If it cannot be made, or became INVALID: says why.
    """
    clients = _clients(settings, clients)
    _check_name("compute environment", name)
    if platform not in PLATFORMS:
        raise BackendError(f"there is no platform {platform!r}{spec.nearest(platform, PLATFORMS)}: {PLATFORMS}.")
    if max_vcpus < 1:
        raise BackendError(f"max_vcpus is {max_vcpus}. Give at least 1.")
    if _one_environment(clients, name) is not None:
        raise BackendError(f"there is a compute environment {name!r} already. Update it, or choose another name.")
    places = network.subnets(clients, ids=subnets) if subnets else _default_subnets(clients)
    resources: dict[str, Any] = {
        "type": platform,
        "maxvCpus": max_vcpus,
        "subnets": [subnet.id for subnet in places],
        "securityGroupIds": list(security_groups) or [_default_group(clients, places[0].vpc)],
    }
    if platform in ("EC2", "SPOT"):
        strategy = "BEST_FIT_PROGRESSIVE" if platform == "EC2" else "SPOT_PRICE_CAPACITY_OPTIMIZED"
        resources |= {
            "minvCpus": 0,
            "instanceTypes": list(instance_types),
            "instanceRole": instance_role or "ecsInstanceRole",
            "allocationStrategy": strategy,
        }
    request = {"computeEnvironmentName": name, "type": "MANAGED", "state": "ENABLED", "computeResources": resources}
    _create(clients, "create_compute_environment", request, lambda: _one_environment(clients, name))
    return _environment_after(clients, name, wait=wait)


def _create(
    clients: Clients, method: str, request: Mapping[str, Any], look: Callable[[], Environment | JobQueue | None]
) -> None:
    """Create; after a lost answer the name is taken by what the first try made."""
    try:
        clients.call("batch", method, **request)
    except BackendError as error:
        if "already exists" not in str(error) or look() is None:
            raise


def _default_subnets(clients: Clients) -> list[network.Subnet]:
    known = network.vpcs(clients)
    if not known or not known[0].default:
        raise BackendError("the Region has no default VPC. Name subnets.")
    found = [subnet for subnet in network.subnets(clients, vpc=known[0].id) if subnet.way_out]
    if not found:
        raise BackendError(f"no subnet of {known[0]} has a way out (internet or NAT gateway). Add one, or name others.")
    return found[:16]


def _default_group(clients: Clients, vpc: str) -> str:
    filters = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "group-name", "Values": ["default"]}]
    found = clients.call("ec2", "describe_security_groups", Filters=filters).get("SecurityGroups", ())
    if not found:
        raise BackendError(f"VPC {vpc} has no default security group. Name one.")
    return str(found[0]["GroupId"])


def _environment_after(clients: Clients, name: str, *, wait: bool) -> Environment:
    if wait:
        found = _settled(clients, f"compute environment {name}", lambda: _one_environment(clients, name))
        assert isinstance(found, Environment)  # noqa: S101 - it waits until it is there
        return found
    return _known_environment(clients, name)


def _update_environment(clients: Clients, name: str, *, wait: bool, **changes: Any) -> Environment:  # noqa: ANN401 - the call's own
    _known_environment(clients, name)
    clients.call("batch", "update_compute_environment", computeEnvironment=name, **changes)
    return _environment_after(clients, name, wait=wait)


def enable_environment(
    name: str, *, wait: bool = True, settings: Settings | None = None, clients: Clients | None = None
) -> Environment:
    """Let a compute environment start jobs; returns it as AWS then describes it."""
    return _update_environment(_clients(settings, clients), name, wait=wait, state="ENABLED")


def disable_environment(
    name: str, *, wait: bool = True, settings: Settings | None = None, clients: Clients | None = None
) -> Environment:
    """Keep a compute environment from starting jobs; those that run go on. Returns it as AWS then describes it."""
    return _update_environment(_clients(settings, clients), name, wait=wait, state="DISABLED")


def update_environment(
    name: str,
    *,
    max_vcpus: int,
    wait: bool = True,
    settings: Settings | None = None,
    clients: Clients | None = None,
) -> Environment:
    """Change how many vCPUs a compute environment's jobs can have at once; returns it as AWS then describes it."""
    if max_vcpus < 1:
        raise BackendError(f"max_vcpus is {max_vcpus}. Give at least 1, or disable the compute environment.")
    return _update_environment(_clients(settings, clients), name, wait=wait, computeResources={"maxvCpus": max_vcpus})


def delete_environment(
    name: str, *, wait: bool = True, settings: Settings | None = None, clients: Clients | None = None
) -> None:
    """Disable and delete a compute environment that no queue uses.

    Raises
    ------
    BackendError
        If there is none, or a queue uses it: names the queue.
    """
    clients = _clients(settings, clients)
    found = _known_environment(clients, name)
    users = [queue.name for queue in list_queues(clients=clients) if found.name in queue.environments]
    if users:
        raise BackendError(
            f"compute environment {name} is used by queue {', '.join(users)}. Delete that first: ezbatch queue delete"
            f" {users[0]}"
        )
    if found.status != "DELETING":
        if found.state != "DISABLED":
            clients.call("batch", "update_compute_environment", computeEnvironment=name, state="DISABLED")
            _until_changed(clients, lambda: _one_environment(clients, name))
        clients.call("batch", "delete_compute_environment", computeEnvironment=name)
    if wait:
        _settled(clients, f"compute environment {name}", lambda: _one_environment(clients, name), gone=True)


def _until_changed(clients: Clients, look: Callable[[], Environment | JobQueue | None]) -> None:
    """Wait until a change of state is over; what is INVALID can be deleted, too."""
    deadline = clients.clock() + PATIENCE
    for pause in pauses():
        found = look()
        if found is None or found.status not in ("UPDATING", "CREATING") or clients.clock() > deadline:
            return
        clients.sleep(pause)


# Queues


def create_queue(
    name: str,
    environments: Sequence[str],
    *,
    priority: int = 1,
    tags: Mapping[str, str] | None = None,
    wait: bool = True,
    settings: Settings | None = None,
    clients: Clients | None = None,
) -> JobQueue:
    """Make a job queue.

    Parameters
    ----------
    name : str
        At most 128 letters, digits, hyphens and underscores.
    environments : sequence of str
        One to three compute environments, names or ARNs, in the order in which they are tried; all Fargate or all EC2.
    priority : int
        Among queues that share a compute environment the higher goes first.
    tags : mapping of str to str, optional
        ``ezbatch:execution-role`` and ``ezbatch:job-role`` tell ezbatch which roles the queue's jobs take.
    wait : bool
        Whether to wait until it is VALID.
    settings : Settings, optional
        Instead of those that are set.
    clients : Clients, optional
        Instead of those that the settings give.

    Returns
    -------
    JobQueue
        As AWS describes it.

    Raises
    ------
    BackendError
        If it cannot be made: says why.
    """
    clients = _clients(settings, clients)
    _check_name("queue", name)
    if not 1 <= len(environments) <= ENVIRONMENTS_AT_MOST:
        raise BackendError(f"a queue has 1 to {ENVIRONMENTS_AT_MOST} compute environments, not {len(environments)}.")
    if _one_queue(clients, name) is not None:
        raise BackendError(f"there is a queue {name!r} already. Use it, or choose another name.")
    found = [_known_environment(clients, one) for one in environments]
    if len({one.platform.startswith("FARGATE") for one in found}) > 1:
        shown = ", ".join(f"{one.name} ({one.platform})" for one in found)
        raise BackendError(f"a queue cannot have Fargate and EC2 at once: {shown}. Make two queues.")
    request: dict[str, Any] = {
        "jobQueueName": name,
        "state": "ENABLED",
        "priority": priority,
        "computeEnvironmentOrder": [
            {"order": number, "computeEnvironment": one.arn} for number, one in enumerate(found, 1)
        ],
    }
    if tags:
        request["tags"] = dict(tags)
    _create(clients, "create_job_queue", request, lambda: _one_queue(clients, name))
    return _queue_after(clients, name, wait=wait)


def _queue_after(clients: Clients, name: str, *, wait: bool) -> JobQueue:
    if wait:
        found = _settled(clients, f"queue {name}", lambda: _one_queue(clients, name))
        assert isinstance(found, JobQueue)  # noqa: S101 - it waits until it is there
        return found
    return _known_queue(clients, name)


def enable_queue(
    name: str, *, wait: bool = True, settings: Settings | None = None, clients: Clients | None = None
) -> JobQueue:
    """Let a queue take jobs; returns it as AWS then describes it."""
    return _turn_queue(_clients(settings, clients), name, "ENABLED", wait=wait)


def disable_queue(
    name: str, *, wait: bool = True, settings: Settings | None = None, clients: Clients | None = None
) -> JobQueue:
    """Keep a queue from taking jobs; those in it go on. Returns it as AWS then describes it."""
    return _turn_queue(_clients(settings, clients), name, "DISABLED", wait=wait)


def _turn_queue(clients: Clients, name: str, state: str, *, wait: bool) -> JobQueue:
    _known_queue(clients, name)
    clients.call("batch", "update_job_queue", jobQueue=name, state=state)
    return _queue_after(clients, name, wait=wait)


def delete_queue(
    name: str,
    *,
    force: bool = False,
    wait: bool = True,
    settings: Settings | None = None,
    clients: Clients | None = None,
) -> None:
    """Disable and delete a queue.

    Parameters
    ----------
    name : str
        The queue.
    force : bool
        Whether to go on although jobs in it have not ended; AWS then ends them.
    wait : bool
        Whether to wait until it is gone.
    settings : Settings, optional
        Instead of those that are set.
    clients : Clients, optional
        Instead of those that the settings give.

    Raises
    ------
    BackendError
        If there is none, or jobs in it have not ended.
    """
    clients = _clients(settings, clients)
    found = _known_queue(clients, name)
    if not force:
        live = live_jobs(clients, name)
        if live:
            raise BackendError(f"{live} jobs of queue {name} have not ended. Cancel them, or delete it by force.")
    if found.status != "DELETING":
        if found.state != "DISABLED":
            clients.call("batch", "update_job_queue", jobQueue=name, state="DISABLED")
            _until_changed(clients, lambda: _one_queue(clients, name))
        clients.call("batch", "delete_job_queue", jobQueue=name)
    if wait:
        _settled(clients, f"queue {name}", lambda: _one_queue(clients, name), gone=True)


def live_jobs(clients: Clients, queue: str) -> int:
    """Return how many jobs of a queue have not ended."""
    states = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
    return sum(
        1
        for state in states
        for _job in clients.pages("batch", "list_jobs", "jobSummaryList", jobQueue=queue, jobStatus=state)
    )
