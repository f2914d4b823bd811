"""From an empty account to a queue, and back: one CloudFormation stack, shown before it is made.

CloudFormation does the making and the undoing, so that whatever is interrupted goes on or is undone from any machine:
a stack's name is taken once, its failed creation is deleted by AWS, and what is under way is waited for.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import logging
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ezbatch import names, spec
from ezbatch.aws import network
from ezbatch.aws.admin import live_jobs
from ezbatch.aws.clients import Clients, LostAnswerError, ThrottledError, pauses
from ezbatch.errors import BackendError, UnreachableError
from ezbatch.settings import Settings

__all__ = ["SetupPlan", "TeardownPlan", "plan_setup", "plan_teardown", "setup", "teardown", "template"]

log = logging.getLogger(__name__)

NAME = "ezbatch"
LOG_GROUP = "/aws/batch/job"
#: Seconds for which a stack is waited for: EC2 environments take some minutes.
PATIENCE = 1800.0
#: The template's own words at the beginning of a stack's description.
OURS = "ezbatch - "
#: CloudFormation's names of a stack that can only be deleted.
_REMAINS = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED", "REVIEW_IN_PROGRESS")

#: What the template makes, in the words in which it is shown: logical id -> condition, kind, what it is.
_RESOURCES: dict[str, tuple[str, str, str]] = {
    "Queue": ("", "job queue", "{name}: Fargate"),
    "SpotQueue": ("", "job queue", "{name}-spot: Fargate Spot, cheaper and sometimes taken back"),
    "Ec2Queue": ("WithEc2", "job queue", "{name}-ec2: EC2"),
    "Ec2SpotQueue": ("WithEc2", "job queue", "{name}-ec2-spot: EC2 Spot"),
    "FargateEnvironment": ("", "compute environment", "Fargate, at most {vcpus} vCPU at once"),
    "FargateSpotEnvironment": ("", "compute environment", "Fargate Spot, at most {vcpus} vCPU at once"),
    "Ec2Environment": ("WithEc2", "compute environment", "EC2 ({types}), 0 to {vcpus} vCPU"),
    "Ec2SpotEnvironment": ("WithEc2", "compute environment", "EC2 Spot ({types}), 0 to {vcpus} vCPU"),
    "ExecutionRole": ("", "role", "for starting jobs: pulls images, reads secrets named ezbatch/*, writes logs"),
    "JobRole": ("", "role", "for the jobs themselves: {data}"),
    "JobsUseBucket": ("WithBucket", "policy", "jobs may use the new bucket"),
    "JobsUseOtherBuckets": ("DataBuckets", "policy", "jobs may use {buckets}"),
    "InstanceRole": ("WithEc2", "role", "for the ECS agent of EC2 instances"),
    "InstanceProfile": ("WithEc2", "instance profile", "carries that role"),
    "SecurityGroup": ("", "security group", "lets jobs out, and nobody in"),
    "JobLogs": ("WithLogGroup", "log group", "/aws/batch/job, kept {days} days"),
    "DataBucket": ("WithBucket", "bucket", "private, encrypted"),
    "DataBucketPolicy": ("WithBucket", "policy", "encrypted connections alone reach the bucket"),
}
#: Days for which CloudWatch can keep logs, as the template lists them.
LOG_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_INSTANCE_TYPE = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9-]+)?")
#: In a policy these stand for other text than themselves, and a comma ends an item of the template's lists.
_NO_PLACE = re.compile(r"[*?$,\s]")


def template() -> str:
    """Return the CloudFormation template, as it ships in the package."""
    return importlib.resources.files("ezbatch.aws").joinpath("template.yaml").read_text(encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class SetupPlan:
    """What setup would do. Its text is what a person is asked about.

    Parameters
    ----------
    name, account, region : str
        The stack's name, which is the first queue's, and where it will be.
    action : str
        ``create``, ``update`` or ``nothing``.
    parameters : mapping of str to str
        The template's.
    resources : tuple of tuple of str
        What will be there: the template's name for it, its kind, what it is.
    changes : tuple of str
        What an update changes.
    notes : tuple of str
        What a person should know.
    remains : bool
        Whether what a failed attempt left is removed first.
    """

    name: str
    account: str
    region: str
    action: str
    parameters: Mapping[str, str]
    resources: tuple[tuple[str, str, str], ...]
    changes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    remains: bool = False

    @property
    def queues(self) -> tuple[str, ...]:
        """The names of the queues."""
        ec2 = (f"{self.name}-ec2", f"{self.name}-ec2-spot") if self.parameters["WithEc2"] == "yes" else ()
        return (self.name, f"{self.name}-spot", *ec2)

    def __str__(self) -> str:
        where = f"stack {self.name} in {self.region}, account {self.account}"
        if self.action == "nothing":
            return f"{where}: everything is there, nothing to do."
        lines = [f"{where}: {'will be made' if self.action == 'create' else 'will be changed'}"]
        if self.remains:
            lines.append("  What a failed attempt left is removed first.")
        shown = self.resources if self.action == "create" else ()
        lines += [f"  {kind:<20} {what}" for _id, kind, what in shown]
        lines += [f"  {change}" for change in self.changes]
        lines.append("  Fixed cost: 0 USD a month. Jobs cost what they use, and logs and data what they take.")
        lines += [f"  Note: {note}." for note in self.notes]
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class TeardownPlan:
    """What teardown would do. Its text is what a person is asked about.

    Parameters
    ----------
    name, account, region : str
        The stack.
    resources : tuple of tuple of str
        What will be gone: the template's name for it, its kind, its own name.
    live : mapping of str to int
        The jobs of each queue that have not ended.
    bucket : str
        The bucket that would be deleted and is not empty, or nothing.
    notes : tuple of str
        What a person should know.
    """

    name: str
    account: str
    region: str
    resources: tuple[tuple[str, str, str], ...] = ()
    live: Mapping[str, int] = dataclasses.field(default_factory=dict)
    bucket: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"stack {self.name} in {self.region}, account {self.account}"
        if not self.resources:
            return f"{where}: there is none, nothing to do."
        lines = [f"{where}: will be deleted with all that it made"]
        lines += [f"  {kind:<20} {what}" for _id, kind, what in self.resources]
        lines += [f"  {count} jobs of queue {queue} have not ended: they will be" for queue, count in self.live.items()]
        if self.bucket:
            lines.append(f"  The data in bucket {self.bucket} is deleted, too.")
        lines += [f"  Note: {note}." for note in self.notes]
        return "\n".join(lines)


# Setting up


def plan_setup(
    *,
    name: str = NAME,
    vpc: str | None = None,
    subnets: Sequence[str] = (),
    max_vcpus: int | None = None,
    ec2: bool | None = None,
    instance_types: Sequence[str] = (),
    log_days: int | None = None,
    bucket: bool | None = None,
    data: Sequence[str] | None = None,
    settings: Settings | None = None,
    clients: Clients | None = None,
) -> SetupPlan:
    """Return what :func:`setup` would do with these arguments, without changing anything.

    Parameters
    ----------
    name : str
        Of the stack and of the Fargate queue; the other queues begin with it.
    vpc : str, optional
        Where jobs run. None takes the Region's default VPC.
    subnets : sequence of str
        Their ids. None given: all subnets of the VPC that have a way out.
    max_vcpus : int, optional
        The vCPUs that the jobs of each queue can have at once (256).
    ec2 : bool, optional
        Whether to make queues on EC2 and EC2 Spot, too (no).
    instance_types : sequence of str
        Those of the EC2 queues (``optimal``: what AWS Batch chooses).
    log_days : int, optional
        Days for which logs are kept (30); one of those that CloudWatch knows.
    bucket : bool, optional
        Whether to make a bucket for the data of jobs (no).
    data : sequence of str, optional
        Buckets, or ``bucket/prefix``, that exist and that jobs may read and write; an empty one takes back all that
        were given before.
    settings : Settings, optional
        Instead of those that are set.
    clients : Clients, optional
        Instead of those that the settings give.

    Returns
    -------
    SetupPlan
        What is None above stays as it is in a stack that is there.

    Raises
    ------
    BackendError
        If it cannot be done: says why and what to do.
    """
    settings = settings or Settings.load()
    clients = clients or Clients(settings)
    _check_name(name)
    _check_given(max_vcpus, ec2, instance_types, log_days, data)
    account, region, partition = _where(clients)
    stack = _stack(clients, name)
    if stack is not None and stack["StackStatus"] == "UPDATE_ROLLBACK_FAILED":
        raise BackendError(
            f"an update of stack {name} failed, and so did going back: {_reasons(clients, name)}. Mend that, then: aws"
            f" cloudformation continue-update-rollback --stack-name {name}; or remove it by `ezbatch teardown --name"
            f" {name}`"
        )
    given = _given(max_vcpus, ec2, instance_types, log_days, bucket, data, partition)
    old = _parameters(stack)
    remains = stack is not None and stack["StackStatus"] in _REMAINS
    fresh = stack is None or remains or stack["StackStatus"].startswith("DELETE")
    notes: list[str] = []
    if stack is None:
        _check_queues(clients, name)
    if fresh:
        old = {}
    if fresh or vpc is not None or subnets:
        old |= _placed(clients, vpc, subnets, notes)
    if fresh:
        found = _log_group(clients)
        if found is not None:
            old["WithLogGroup"] = "no"
            kept = f"{found['retentionInDays']} days" if found.get("retentionInDays") else "for ever"
            notes.append(f"log group {LOG_GROUP} is there already, and keeps its logs {kept}")
    if old.get("WithLogGroup") == "no" and given.pop("LogRetentionDays", None) is not None:
        notes.append(
            f"log group {LOG_GROUP} is not the stack's, so how long it keeps logs is not changed; do that by: aws logs"
            f" put-retention-policy --log-group-name {LOG_GROUP} --retention-in-days {log_days}"
        )
    parameters = {**_DEFAULTS, **old, **given}
    if parameters["WithEc2"] == "yes" and (fresh or "WithEc2" in given):
        places = network.subnets(clients, ids=parameters["SubnetIds"].split(","))
        closed = [s.id for s in places if s.way_out == "an internet gateway" and not s.public_ip]
        if closed:
            notes.append(
                f"EC2 instances in {', '.join(closed)} get no public IP and cannot reach AWS; Fargate jobs do. Let the"
                " subnets give one (auto-assign public IPv4 address), or name others by --subnets"
            )
    changes = [] if fresh else _changes(old, parameters, str(_body(clients, name)) != template())
    action = "create" if fresh else "update" if changes else "nothing"
    resources = tuple(_resources(name, parameters))
    return SetupPlan(name, account, region, action, parameters, resources, tuple(changes), tuple(notes), remains)


_DEFAULTS = {
    "MaxVcpus": "256",
    "WithEc2": "no",
    "InstanceTypes": "optimal",
    "WithLogGroup": "yes",
    "LogRetentionDays": "30",
    "WithBucket": "no",
    "DataBuckets": "none",
    "DataObjects": "none",
}


def _given(
    max_vcpus: int | None,
    ec2: bool | None,
    instance_types: Sequence[str],
    log_days: int | None,
    bucket: bool | None,
    data: Sequence[str] | None,
    partition: str,
) -> dict[str, str]:
    """Return the template's parameters that a person gave."""
    made: dict[str, str] = {}
    if max_vcpus is not None:
        made["MaxVcpus"] = str(max_vcpus)
    if ec2 is not None or instance_types:
        made["WithEc2"] = "yes" if ec2 is not False else "no"
    if instance_types:
        made["InstanceTypes"] = ",".join(instance_types)
    if log_days is not None:
        made["LogRetentionDays"] = str(log_days)
    if bucket is not None:
        made["WithBucket"] = "yes" if bucket else "no"
    if data is not None and not data:
        made["DataBuckets"] = made["DataObjects"] = "none"
    elif data:
        places = [_place(one) for one in data]
        made["DataBuckets"] = ",".join(
            dict.fromkeys(f"arn:{partition}:s3:::{place.partition('/')[0]}" for place in places)
        )
        made["DataObjects"] = ",".join(f"arn:{partition}:s3:::{place}/*" for place in places)
    return made


def _place(data: str) -> str:
    """Return a bucket, or bucket/prefix, without what may stand around it."""
    return data.removeprefix("s3://").strip("/")


def _check_given(
    max_vcpus: int | None,
    ec2: bool | None,
    instance_types: Sequence[str],
    log_days: int | None,
    data: Sequence[str] | None,
) -> None:
    """Check what CloudFormation or IAM would refuse only after everything has been shown and agreed to.

    Raises
    ------
    BackendError
        With the first that is wrong.
    """
    if max_vcpus is not None and max_vcpus < 1:
        raise BackendError(f"max_vcpus is {max_vcpus}. Give at least 1.")
    if log_days is not None and log_days not in LOG_DAYS:
        near = next((days for days in LOG_DAYS if days > log_days), LOG_DAYS[-1])
        known = ", ".join(map(str, LOG_DAYS))
        raise BackendError(f"CloudWatch cannot keep logs for {log_days} days. Take {near}, or another of {known}.")
    if ec2 is False and instance_types:
        raise BackendError("instance types are for EC2 queues, and those are not wanted. Leave one of the two out.")
    for one in instance_types:
        if not _INSTANCE_TYPE.fullmatch(one):
            raise BackendError(
                f"{one!r} is no instance type. Name some such as m7i.large, a family such as g5, or optimal."
            )
    for one in data or ():
        bucket, _slash, prefix = _place(one).partition("/")
        if not _BUCKET.fullmatch(bucket) or _NO_PLACE.search(prefix):
            raise BackendError(
                f"{one!r} names no data. Give a bucket, or bucket/prefix without wildcards, commas and spaces."
            )


def _check_name(name: str) -> None:
    # CloudFormation's rule; the queues' own allows more, and the longest of their suffixes has ten letters.
    if not name or not name[0].isalpha() or names.slug(name) != name or "_" in name or len(name) > 100:  # noqa: PLR2004
        raise BackendError(f"{name!r} cannot name a stack. Begin with a letter; use letters, digits and hyphens only.")


def _check_queues(clients: Clients, name: str) -> None:
    wanted = [name, f"{name}-spot", f"{name}-ec2", f"{name}-ec2-spot"]
    taken = clients.call("batch", "describe_job_queues", jobQueues=wanted)["jobQueues"]
    taken = [queue for queue in taken if queue.get("status") not in ("DELETING", "DELETED")]
    if taken:
        found = ", ".join(sorted(str(queue["jobQueueName"]) for queue in taken))
        raise BackendError(
            f"there are queues already that no stack made: {found}. Use them as they are, or choose another --name."
        )


def _where(clients: Clients) -> tuple[str, str, str]:
    """Return account, Region and partition."""
    identity = clients.call("sts", "get_caller_identity")
    return str(identity["Account"]), str(clients.client("sts").meta.region_name), str(identity["Arn"]).split(":")[1]


def _placed(clients: Clients, vpc: str | None, ids: Sequence[str], notes: list[str]) -> dict[str, str]:
    """Return the VPC and the subnets for jobs, which have a way out."""
    if ids:
        found = network.subnets(clients, ids=ids)
        networks = {subnet.vpc for subnet in found}
        if len(networks) > 1 or (vpc is not None and networks != {vpc}):
            raise BackendError(f"the subnets are in {', '.join(sorted(networks))}. Name subnets of one VPC.")
    else:
        known = network.vpcs(clients)
        if vpc is None:
            if not known or not known[0].default:
                have = f"there are {', '.join(map(str, known))}" if known else "there is none"
                raise BackendError(f"the Region has no default VPC. Name one by --vpc ({have}).")
            vpc = known[0].id
        elif vpc not in [one.id for one in known]:
            near = spec.nearest(vpc, [one.id for one in known])
            raise BackendError(f"there is no VPC {vpc!r} in this account and Region{near}.")
        found = network.subnets(clients, vpc=vpc)
    out = [subnet for subnet in found if subnet.way_out]
    if not out or (ids and len(out) < len(found)):
        closed = ", ".join(subnet.id for subnet in found if not subnet.way_out) or "it has no subnets"
        raise BackendError(
            f"jobs in {vpc or found[0].vpc} could not reach their images: no way out of {closed}. Add a default route"
            " to an internet gateway or a NAT gateway (or endpoints for ECR, S3 and logs), or name other --subnets."
        )
    left = [subnet.id for subnet in found if not subnet.way_out]
    if left:
        notes.append(f"subnets without a way out are left aside: {', '.join(left)}")
    ways = ", ".join(dict.fromkeys(subnet.way_out for subnet in out))
    notes.append(f"jobs run in {out[0].vpc}, in {len(out)} subnet{'s' if len(out) > 1 else ''}; they get out by {ways}")
    return {"VpcId": out[0].vpc, "SubnetIds": ",".join(subnet.id for subnet in out[:16])}


def _log_group(clients: Clients) -> Mapping[str, Any] | None:
    answer = clients.call("logs", "describe_log_groups", logGroupNamePrefix=LOG_GROUP)
    return next((group for group in answer.get("logGroups", ()) if group["logGroupName"] == LOG_GROUP), None)


def _resources(name: str, parameters: Mapping[str, str]) -> Iterable[tuple[str, str, str]]:
    buckets = re.sub(r"arn:[\w-]+:s3:::", "s3://", parameters["DataObjects"]).replace(",", ", ")
    uses = [
        *(["the new bucket"] if parameters["WithBucket"] == "yes" else []),
        *([buckets] if buckets != "none" else []),
    ]
    words = {
        "name": name,
        "vcpus": parameters["MaxVcpus"],
        "types": parameters["InstanceTypes"],
        "days": parameters["LogRetentionDays"],
        "buckets": buckets,
        "data": f"use {' and '.join(uses)}" if uses else "nothing, until --data or --bucket gives them data",
    }
    for logical, (condition, kind, what) in _RESOURCES.items():
        if not condition or parameters[condition] not in ("no", "none"):
            yield logical, kind, what.format(**words)


_CHANGED = {
    "VpcId": "the VPC",
    "SubnetIds": "the subnets",
    "MaxVcpus": "vCPUs at most",
    "WithEc2": "EC2 queues",
    "InstanceTypes": "instance types",
    "WithLogGroup": "the log group",
    "LogRetentionDays": "days for which logs are kept",
    "WithBucket": "the bucket",
    "DataBuckets": "buckets that jobs may use",
    "DataObjects": "data that jobs may use",
}


def _changes(old: Mapping[str, str], new: Mapping[str, str], other_template: bool) -> list[str]:
    found = [
        f"{_CHANGED[key]}: {old.get(key, 'not set')} -> {value}" for key, value in new.items() if old.get(key) != value
    ]
    return found + (["this version of ezbatch brings a newer template"] if other_template else [])


def setup(
    *,
    name: str = NAME,
    vpc: str | None = None,
    subnets: Sequence[str] = (),
    max_vcpus: int | None = None,
    ec2: bool | None = None,
    instance_types: Sequence[str] = (),
    log_days: int | None = None,
    bucket: bool | None = None,
    data: Sequence[str] | None = None,
    confirm: Callable[[SetupPlan], bool] | None = None,
    settings: Settings | None = None,
    clients: Clients | None = None,
) -> dict[str, str]:
    """Make everything that jobs need on AWS, as one CloudFormation stack, or bring the stack up to date.

    Doing it again changes nothing. Interrupted, it goes on when done again; :func:`teardown` removes it.

    Parameters
    ----------
    name, vpc, subnets, max_vcpus, ec2, instance_types, log_days, bucket, data, settings, clients
        As of :func:`plan_setup`.
    confirm : callable, optional
        Is shown the plan and returns whether to go on. Without it nobody is asked.

    Returns
    -------
    dict of str to str
        The stack's outputs: ``Queue``, ``SpotQueue``, ``ExecutionRole``, ``JobRole``, ``Bucket`` if there is one. Empty
        if ``confirm`` said no.

    Raises
    ------
    BackendError
        If it cannot be done: says why, and what is left of it.
    """
    settings = settings or Settings.load()
    clients = clients or Clients(settings)
    made = name
    _settle(clients, name)
    plan = plan_setup(
        name=name,
        vpc=vpc,
        subnets=subnets,
        max_vcpus=max_vcpus,
        ec2=ec2,
        instance_types=instance_types,
        log_days=log_days,
        bucket=bucket,
        data=data,
        settings=settings,
        clients=clients,
    )
    if plan.action != "nothing":
        if confirm is not None and not confirm(plan):
            return {}
        if plan.remains:
            _delete(clients, name)
        made = _apply(clients, plan)
    stack = _settle(clients, name)
    if stack is None or (plan.action != "nothing" and stack["StackStatus"] not in _DONE):
        left = "nothing is left of it" if stack is None else "it is as it was before"
        raise BackendError(
            f"stack {name} could not be made: {_reasons(clients, made)}; {left}. Mend that, and try again."
        )
    _wait_valid(clients, plan.queues)
    return {item["OutputKey"]: str(item["OutputValue"]) for item in stack.get("Outputs", ())}


_DONE = ("CREATE_COMPLETE", "UPDATE_COMPLETE")


def _apply(clients: Clients, plan: SetupPlan) -> str:
    """Ask for the stack, and return what to call it.

    An answer that is lost needs no care: a name is taken once, and an update without changes is refused.
    """
    request: dict[str, Any] = {
        "StackName": plan.name,
        "TemplateBody": template(),
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in plan.parameters.items()],
        "Capabilities": ["CAPABILITY_IAM"],
        "ClientRequestToken": f"{plan.name}-{uuid.uuid4()}",
    }
    method = "update_stack"
    if plan.action == "create":
        method = "create_stack"
        request |= {"OnFailure": "DELETE", "Tags": [{"Key": "ezbatch:stack", "Value": plan.name}]}
    try:
        # By its id a stack is still known when its creation failed and it was deleted.
        return str(clients.call("cloudformation", method, **request).get("StackId", plan.name))
    except UnreachableError:
        raise
    except BackendError as error:
        if not any(word in str(error) for word in ("already exists", "No updates are to be performed")):
            raise
        return plan.name


def _wait_valid(clients: Clients, queues: Sequence[str]) -> None:
    deadline = clients.clock() + PATIENCE
    for pause in pauses():
        found = clients.call("batch", "describe_job_queues", jobQueues=list(queues))["jobQueues"]
        states = {str(queue["jobQueueName"]): str(queue.get("status", "")) for queue in found}
        if all(states.get(name) == "VALID" for name in queues):
            return
        invalid = [queue for queue in found if queue.get("status") == "INVALID"]
        if invalid or clients.clock() > deadline:
            shown = ", ".join(f"{name} is {states.get(name, 'not there')}" for name in queues)
            why = "; ".join(str(queue.get("statusReason", "")) for queue in invalid)
            raise BackendError(
                f"the stack is made, but its queues are not usable: {shown}{': ' if why else ''}{why}. See what is"
                " wrong: ezbatch doctor"
            )
        clients.sleep(pause)


# Taking down


def plan_teardown(
    *, name: str = NAME, settings: Settings | None = None, clients: Clients | None = None
) -> TeardownPlan:
    """Return what :func:`teardown` would do, without changing anything."""
    settings = settings or Settings.load()
    clients = clients or Clients(settings)
    account, region, _partition = _where(clients)
    if _stack(clients, name) is None:
        return TeardownPlan(name, account, region)
    found = {
        str(item["LogicalResourceId"]): str(item.get("PhysicalResourceId", ""))
        for item in clients.call("cloudformation", "describe_stack_resources", StackName=name).get("StackResources", ())
        if item.get("ResourceStatus") != "DELETE_COMPLETE"
    }
    resources = tuple(
        (logical, kind, found[logical].rpartition("/")[2] if "arn:" in found[logical] else found[logical])
        for logical, (_condition, kind, _what) in _RESOURCES.items()
        if logical in found
    )
    queues = [found[logical] for logical in found if logical.endswith("Queue") and found[logical]]
    live = {queue.rpartition("/")[2]: _live(clients, queue) for queue in queues}
    bucket = found.get("DataBucket", "")
    notes = []
    if "JobLogs" in found:
        stored = (_log_group(clients) or {}).get("storedBytes", 0)
        notes.append(f"the logs in {LOG_GROUP} go, too ({stored / 1e6:,.1f} MB, whoever wrote them)")
    if settings.queue in [queue.rpartition("/")[2] for queue in queues]:
        notes.append(f"the settings name queue {settings.queue} ({settings.sources.get('queue', 'default')})")
    return TeardownPlan(
        name,
        account,
        region,
        resources or (("Stack", "stack", "nothing of it is there yet"),),
        {queue: count for queue, count in live.items() if count},
        bucket if bucket and _filled(clients, bucket) else "",
        tuple(notes),
    )


def _live(clients: Clients, queue: str) -> int:
    try:
        return live_jobs(clients, queue)
    except UnreachableError:
        raise
    except BackendError:  # the queue is gone: an earlier teardown was interrupted
        return 0


def _filled(clients: Clients, bucket: str) -> bool:
    try:
        answer = clients.call("s3", "list_object_versions", Bucket=bucket, MaxKeys=1)
    except UnreachableError:
        raise
    except BackendError:  # likewise
        return False
    return bool(answer.get("Versions") or answer.get("DeleteMarkers"))


def teardown(
    *,
    name: str = NAME,
    force: bool = False,
    delete_data: bool = False,
    confirm: Callable[[TeardownPlan], bool] | None = None,
    settings: Settings | None = None,
    clients: Clients | None = None,
) -> bool:
    """Delete what :func:`setup` made. Interrupted, it goes on when done again.

    Parameters
    ----------
    name : str
        The stack.
    force : bool
        Whether to go on although jobs have not ended; they are ended.
    delete_data : bool
        Whether to empty the stack's bucket, if it has one.
    confirm : callable, optional
        Is shown the plan and returns whether to go on. Without it nobody is asked.
    settings, clients
        As of :func:`plan_setup`.

    Returns
    -------
    bool
        Whether it is gone; False if ``confirm`` said no.

    Raises
    ------
    BackendError
        If it must not be done yet or failed: says what is left and what to do.
    """
    settings = settings or Settings.load()
    clients = clients or Clients(settings)
    plan = plan_teardown(name=name, settings=settings, clients=clients)
    if not plan.resources:
        return True
    if plan.live and not force:
        shown = ", ".join(f"{count} of queue {queue}" for queue, count in plan.live.items())
        raise BackendError(f"jobs have not ended: {shown}. Cancel them (ezbatch cancel RUN), or add --force.")
    if plan.bucket and not delete_data:
        raise BackendError(
            f"bucket {plan.bucket} holds data. Copy away what is needed (aws s3 sync s3://{plan.bucket} DIRECTORY),"
            " then add --delete-data. Nothing was deleted."
        )
    if confirm is not None and not confirm(plan):
        return False
    if plan.bucket:
        _empty(clients, plan.bucket)
    stack = _stack(clients, name)
    if stack is not None and stack["StackStatus"].startswith("UPDATE") and "IN_PROGRESS" in stack["StackStatus"]:
        _settle(clients, name)
    _delete(clients, name)
    return True


def _empty(clients: Clients, bucket: str) -> None:
    log.info("bucket %s is emptied", bucket)
    while True:
        answer = clients.call("s3", "list_object_versions", Bucket=bucket)
        found = [
            {"Key": item["Key"], "VersionId": item["VersionId"]}
            for item in (*answer.get("Versions", ()), *answer.get("DeleteMarkers", ()))
        ]
        if not found:
            return
        clients.call("s3", "delete_objects", Bucket=bucket, Delete={"Objects": found, "Quiet": True})


# The stack


def _stack(clients: Clients, name: str) -> Mapping[str, Any] | None:
    """Return a stack as CloudFormation describes it; None if there is none."""
    try:
        found: Sequence[Mapping[str, Any]] = clients.call("cloudformation", "describe_stacks", StackName=name)["Stacks"]
    except UnreachableError:
        raise
    except BackendError as error:
        if "does not exist" in str(error):
            return None
        raise
    found = [stack for stack in found if stack["StackStatus"] != "DELETE_COMPLETE"]
    if not found:
        return None
    about = str(found[0].get("Description", ""))
    if about and not about.startswith(OURS):
        raise BackendError(f"stack {name} is not ezbatch's ({about[:80]}). Choose another --name.")
    return found[0]


def _parameters(stack: Mapping[str, Any] | None) -> dict[str, str]:
    found = stack.get("Parameters", ()) if stack is not None else ()
    return {item["ParameterKey"]: _text(item["ParameterValue"]) for item in found}


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _body(clients: Clients, name: str) -> object:
    return clients.call("cloudformation", "get_template", StackName=name).get("TemplateBody")


def _settle(clients: Clients, name: str) -> Mapping[str, Any] | None:
    """Wait until nothing is under way with a stack, and return it."""
    deadline = clients.clock() + PATIENCE
    for pause in pauses():
        stack = _stack(clients, name)
        if stack is None or "IN_PROGRESS" not in stack["StackStatus"] or stack["StackStatus"] in _REMAINS:
            return stack
        if clients.clock() > deadline:
            raise BackendError(
                f"stack {name} is still {stack['StackStatus']} after {PATIENCE / 60:.0f} minutes. Look at it in the"
                " CloudFormation console; doing this again goes on waiting."
            )
        clients.sleep(pause)
    raise AssertionError  # pauses never end


def _delete(clients: Clients, name: str) -> None:
    clients.call("cloudformation", "delete_stack", StackName=name)
    stack = _settle(clients, name)
    if stack is not None:
        raise BackendError(
            f"stack {name} could not be deleted: {_reasons(clients, name)}. Mend that, then `ezbatch teardown` again."
        )


def _reasons(clients: Clients, name: str) -> str:
    """Return what failed first: all that follows was only cancelled."""
    try:
        answer = clients.once("cloudformation", "describe_stack_events", StackName=name)
    except (BackendError, LostAnswerError, ThrottledError):
        return "CloudFormation keeps no events of it"
    failed = [
        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}".rstrip(".")
        for event in answer.get("StackEvents", ())
        if str(event.get("ResourceStatus", "")).endswith("FAILED")
        and "cancelled" not in str(event.get("ResourceStatusReason", ""))
    ]
    return "; ".join(reversed(failed[-3:])) or "CloudFormation gives no reason"
