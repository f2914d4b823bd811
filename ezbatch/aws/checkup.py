"""What ``ezbatch doctor`` looks at on AWS, one thing after the other, each as (name, state, what was found, remedy)."""

from __future__ import annotations

import email.utils
import json
import re
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ezbatch import spec
from ezbatch.aws import network
from ezbatch.aws.backend import DEFAULT_EXECUTION_ROLE, EXECUTION_ROLE_TAG, JOB_ROLE_TAG, LOG_GROUP
from ezbatch.aws.clients import Clients
from ezbatch.aws.facts import environment_facts, fargate_quota
from ezbatch.errors import BackendError, UnreachableError
from ezbatch.planning import LOCAL
from ezbatch.settings import Settings

__all__ = ["checkup", "ecr_authorization"]

Finding = tuple[str, str, str, str]
OK, WRONG, UNKNOWN, SKIPPED = "ok", "wrong", "unknown", "skipped"

#: What submitting, watching and reading logs calls.
ACTIONS = (
    "batch:CancelJob",
    "batch:DeregisterJobDefinition",
    "batch:DescribeComputeEnvironments",
    "batch:DescribeJobDefinitions",
    "batch:DescribeJobQueues",
    "batch:DescribeJobs",
    "batch:GetJobQueueSnapshot",
    "batch:ListJobs",
    "batch:RegisterJobDefinition",
    "batch:SubmitJob",
    "batch:TagResource",
    "batch:TerminateJob",
    "iam:PassRole",
    "logs:GetLogEvents",
)
#: Seconds by which AWS lets a request's time differ is 300; what is above this is worth a word.
SKEW = 60.0
#: Addresses below which a subnet soon holds jobs up: each Fargate job takes one.
FEW_ADDRESSES = 8
#: Seconds for which a call is repeated.
PATIENCE = 2.0


def checkup(queue: str, settings: Settings, clients: Clients | None = None) -> Iterator[Finding]:
    """Look at everything on AWS that a job in this queue needs.

    Parameters
    ----------
    queue : str
        Its name or ARN; ``local`` looks at the account alone.
    settings : Settings
        Profile, Region and roles.
    clients : Clients, optional
        Instead of those that the settings give.
    """
    needs_aws = "queue" in settings.sources or queue != LOCAL
    yield _region(settings, needed=needs_aws)
    clients = clients or Clients(settings)
    # Without a queue on AWS nobody needs an account.
    wrong = WRONG if needs_aws else SKIPPED
    try:
        identity, skew = _identity(clients)
    except UnreachableError as error:
        # The credentials may be good: nobody was there to look at them.
        yield "AWS", wrong, str(error), "Check the network, the proxy and the Region's name, then look again"
        yield "credentials", SKIPPED, "nothing can be seen of them while AWS does not answer", ""
        return
    except BackendError as error:
        # What is refused is dated, too, and a wrong clock is a reason to be refused.
        dated = _skew_of(error)
        if dated is not None and abs(dated) > SKEW:
            yield _clock(dated)
        remedy = "aws sso login, aws configure, or AWS_PROFILE=..." if needs_aws else ""
        yield "credentials", wrong, str(error), remedy
        yield "AWS", SKIPPED, "nothing more can be seen without credentials", ""
        return
    yield "credentials", OK, f"account {identity['Account']}, as {str(identity['Arn']).rpartition(':')[2]}", ""
    yield _clock(skew)
    described: list[Mapping[str, Any]] = []
    if queue == LOCAL:
        of_queue = list(_guarded("queue", lambda: _any_queue(clients)))
    else:
        of_queue = list(_guarded("queue", lambda: _queue(clients, queue, described)))
    # The queue tells for which roles and names the rights are needed.
    known = described[0] if described else None
    yield from _guarded("permissions", lambda: _permissions(clients, settings, str(identity["Arn"]), known))
    yield from _guarded("log group", lambda: _log_group(clients))
    yield from of_queue
    if queue == LOCAL:
        return
    if known is None:
        yield "compute environment", SKIPPED, "without a queue there is none to look at", ""
        return
    yield from _guarded("compute environment", lambda: _environments(clients, known))
    yield from _guarded("roles", lambda: _roles(clients, settings, known))


def _guarded(name: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Make of what cannot be looked at a finding."""
    try:
        yield from look()
    except UnreachableError as error:
        yield name, UNKNOWN, str(error), "Check the network and the proxy, then look again"
    except BackendError as error:
        yield name, UNKNOWN, str(error), ""


def _region(settings: Settings, *, needed: bool) -> Finding:
    import boto3

    region = settings.region
    source = settings.sources.get("region", "")
    if region is None:
        try:
            region, source = boto3.Session(profile_name=settings.profile).region_name, "the AWS configuration"
        except Exception as error:  # noqa: BLE001 - a profile that is not there, a file that cannot be read
            return "Region", WRONG, f"the AWS configuration cannot be used: {error}", "aws configure"
    if region is None:
        remedy = "export AWS_REGION=us-east-1, or the Region that is yours" if needed else ""
        return "Region", WRONG if needed else SKIPPED, "none is set", remedy
    session = boto3.Session()
    every = [
        name for part in session.get_available_partitions() for name in session.get_available_regions("batch", part)
    ]
    if region not in every:
        # A Region younger than this boto3 is one, too.
        found = f"boto3 knows no Region {region!r}{spec.nearest(region, every)} (from {source})"
        return "Region", UNKNOWN, found, "export AWS_REGION=us-east-1, or the Region that is yours"
    return "Region", OK, f"{region} (from {source})", ""


def _identity(clients: Clients) -> tuple[Mapping[str, Any], float]:
    answer = clients.call("sts", "get_caller_identity", patience=PATIENCE)
    return answer, _skew(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}))


def _skew(headers: Mapping[str, str]) -> float:
    """Return by how many seconds this machine's clock is ahead of AWS's."""
    try:
        theirs = email.utils.parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return 0.0
    return time.time() - theirs


def _skew_of(error: BackendError) -> float | None:
    response = getattr(error.__cause__, "response", None)
    return None if response is None else _skew(response.get("ResponseMetadata", {}).get("HTTPHeaders", {}))


def _clock(skew: float) -> Finding:
    if abs(skew) > SKEW:
        found = f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} AWS's"
        return "clock", WRONG, f"{found}; at 300 s AWS refuses", "sudo timedatectl set-ntp true, or restart the machine"
    return "clock", OK, "agrees with AWS's", ""


def _permissions(clients: Clients, settings: Settings, arn: str, queue: Mapping[str, Any] | None) -> Iterator[Finding]:
    kind, _slash, name = arn.partition(":")[2].rpartition(":")[2].partition("/")
    if arn.endswith(":root"):
        yield "permissions", OK, "the account's root may do everything", "Better use a role: root needs none of this"
        return
    if kind == "assumed-role":
        # The role's own ARN may have a path, which a session's does not tell.
        role = name.partition("/")[0]
        arn = str(clients.call("iam", "get_role", patience=PATIENCE, RoleName=role)["Role"]["Arn"])
    denied = _denied(clients, arn, ACTIONS, "*")
    open_ = []
    if denied and queue is not None:
        # A right that holds for the queue's own roles and names alone is enough.
        needed = _needed(settings, queue)
        denied = [
            action
            for action in denied
            if action not in needed or any(_denied(clients, arn, [action], one) for one in needed[action])
        ]
    elif denied:
        open_ = [action for action in denied if action in _NARROW]
        denied = [action for action in denied if action not in _NARROW]
    if denied:
        remedy = f"Ask for the right to {', '.join(denied)}"
        yield "permissions", WRONG, f"these credentials may not {', '.join(denied)}", remedy
    elif open_:
        found = f"these credentials may not {', '.join(open_)} everywhere; whether where it is needed, the queue tells"
        yield "permissions", UNKNOWN, found, "Look again with the queue: ezbatch doctor -q QUEUE"
    else:
        yield "permissions", OK, f"all {len(ACTIONS)} that submitting and watching need (as IAM simulates them)", ""


#: The rights that a policy may give for some resources alone.
_NARROW = (
    "batch:CancelJob",
    "batch:DeregisterJobDefinition",
    "batch:RegisterJobDefinition",
    "batch:SubmitJob",
    "batch:TagResource",
    "batch:TerminateJob",
    "iam:PassRole",
    "logs:GetLogEvents",
)


def _needed(settings: Settings, queue: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return for what jobs of a queue need the rights that may be narrow."""
    # arn:PARTITION:batch:REGION:ACCOUNT:job-queue/NAME
    arn = str(queue["jobQueueArn"])
    here = arn.rpartition(":")[0]
    _arn, partition, _batch, region, account = here.split(":")
    execution, task = _role_arns(settings, queue)
    # The names begin with those of the workflow, which may be any.
    definition, job = f"{here}:job-definition/any", f"{here}:job/any"
    of: dict[str, tuple[str, ...]] = dict.fromkeys(_NARROW, (definition,))
    of |= dict.fromkeys(("batch:CancelJob", "batch:TerminateJob"), (job,))
    of["batch:SubmitJob"] = (arn, definition)
    of["iam:PassRole"] = (execution,) if task is None else (execution, task)
    of["logs:GetLogEvents"] = (f"arn:{partition}:logs:{region}:{account}:log-group:{LOG_GROUP}:log-stream:any",)
    return of


def _denied(clients: Clients, arn: str, actions: Sequence[str], resource: str) -> list[str]:
    answer = clients.call(
        "iam",
        "simulate_principal_policy",
        patience=PATIENCE,
        PolicySourceArn=arn,
        ActionNames=list(actions),
        ResourceArns=[resource],
    )
    results = answer.get("EvaluationResults", ())
    return [str(one["EvalActionName"]) for one in results if one.get("EvalDecision") != "allowed"]


def _log_group(clients: Clients) -> Iterator[Finding]:
    answer = clients.call("logs", "describe_log_groups", patience=PATIENCE, logGroupNamePrefix=LOG_GROUP)
    found = next((group for group in answer.get("logGroups", ()) if group["logGroupName"] == LOG_GROUP), None)
    if found is None:
        remedy = f"aws logs create-log-group --log-group-name {LOG_GROUP}"
        yield "log group", UNKNOWN, f"there is no {LOG_GROUP} yet; as a rule AWS makes it with the first job", remedy
    elif not found.get("retentionInDays"):
        remedy = f"aws logs put-retention-policy --log-group-name {LOG_GROUP} --retention-in-days 30"
        yield "log group", OK, f"{LOG_GROUP}; it keeps logs for ever, which costs", remedy
    else:
        yield "log group", OK, f"{LOG_GROUP}, kept {found['retentionInDays']} days", ""


def _any_queue(clients: Clients) -> Iterator[Finding]:
    names = [str(one["jobQueueName"]) for one in clients.pages("batch", "describe_job_queues", "jobQueues")]
    if names:
        shown = ", ".join(sorted(names)[:10])
        yield "queue", OK, f"local; on AWS there are {shown}", f"ezbatch doctor -q {min(names)} looks at that one"
    else:
        yield "queue", OK, "local; on AWS there is none", "ezbatch setup makes one"


def _queue(clients: Clients, queue: str, described: list[Mapping[str, Any]]) -> Iterator[Finding]:
    found = clients.call("batch", "describe_job_queues", patience=PATIENCE, jobQueues=[queue])["jobQueues"]
    if not found:
        known = [str(one["jobQueueName"]) for one in clients.pages("batch", "describe_job_queues", "jobQueues")]
        have = f"there are {', '.join(sorted(known)[:10])}" if known else "there are none"
        yield "queue", WRONG, f"there is no queue {queue!r}{spec.nearest(queue, known)} ({have})", "ezbatch setup"
        return
    described.append(found[0])
    name = str(found[0]["jobQueueName"])
    if found[0].get("status") != "VALID":
        why = found[0].get("statusReason", "AWS gives no reason")
        yield "queue", WRONG, f"{name} is {found[0].get('status')}: {why}", "Wait if it is being made; else mend that"
    elif found[0].get("state") != "ENABLED":
        yield "queue", WRONG, f"{name} is {found[0].get('state')}", f"ezbatch queue enable {name}"
    else:
        yield "queue", OK, f"{name} is enabled and valid", ""


def _environments(clients: Clients, queue: Mapping[str, Any]) -> Iterator[Finding]:
    order = [entry["computeEnvironment"] for entry in queue.get("computeEnvironmentOrder", ())]
    answer = clients.call("batch", "describe_compute_environments", patience=PATIENCE, computeEnvironments=order)
    for item in answer["computeEnvironments"]:
        facts = environment_facts(item)
        most = "" if facts.max_vcpus is None else f", at most {facts.max_vcpus:g} vCPU"
        if facts.status not in ("VALID", "UPDATING"):
            why = facts.reason or "AWS gives no reason"
            found = f"{facts.name} is {facts.status}: {why}"
            yield "compute environment", WRONG, found, "Mend what it says, or make it anew: ezbatch environment create"
        elif facts.state != "ENABLED":
            found = f"{facts.name} is {facts.state}"
            yield "compute environment", WRONG, found, f"ezbatch environment enable {facts.name}"
        elif facts.max_vcpus == 0:
            remedy = f"ezbatch environment update {facts.name} --max-vcpus 256"
            yield "compute environment", WRONG, f"{facts.name} may have no vCPU", remedy
        else:
            yield "compute environment", OK, f"{facts.name} ({facts.platform}) is enabled and valid{most}", ""
        subnets = (item.get("computeResources") or {}).get("subnets", ())
        if subnets:
            yield from _guarded("way out", lambda ids=subnets, on=facts.platform: _way_out(clients, ids, on))  # type: ignore[misc]
        if facts.platform.startswith("FARGATE"):
            yield from _guarded("vCPU quota", lambda one=facts.platform: _quota(clients, one))  # type: ignore[misc]


def _way_out(clients: Clients, ids: Sequence[str], platform: str) -> Iterator[Finding]:
    found = network.subnets(clients, ids=ids)
    closed = [subnet.id for subnet in found if not subnet.way_out]
    # An instance in a public subnet reaches nobody without a public IP; Fargate jobs ask for one themselves.
    private = [s.id for s in found if s.way_out == "an internet gateway" and not s.public_ip]
    full = [f"{subnet.id} ({subnet.free})" for subnet in found if subnet.free < FEW_ADDRESSES]
    if closed:
        remedy = "Add a default route to an internet or NAT gateway, or endpoints for ECR, S3 and logs"
        yield "way out", WRONG, f"no way out of {', '.join(closed)}: images cannot be pulled", remedy
    elif private and not platform.startswith("FARGATE"):
        remedy = f"aws ec2 modify-subnet-attribute --map-public-ip-on-launch --subnet-id {private[0]}"
        yield "way out", WRONG, f"instances in {', '.join(private)} get no public IP", remedy
    else:
        ways = ", ".join(dict.fromkeys(subnet.way_out for subnet in found))
        yield "way out", OK, f"{len(found)} subnets, by {ways}", ""
    if full:
        yield "addresses", WRONG, f"few are left in {', '.join(full)}: jobs wait for one", "Use larger or more subnets"


def _quota(clients: Clients, platform: str) -> Iterator[Finding]:
    quota = fargate_quota(clients, platform)
    remedy = "Have it raised where that is little: Service Quotas, AWS Fargate" if quota <= 6 else ""  # noqa: PLR2004 - what accounts begin with
    yield "vCPU quota", OK, f"{quota:g} vCPU at once on {platform.replace('_', ' ').title()}", remedy


def _role_arns(settings: Settings, queue: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the execution role of a queue's jobs, and their own if they have one."""
    _arn, partition, _batch, _region, account, *_rest = str(queue["jobQueueArn"]).split(":")
    tags = queue.get("tags", {})
    default = f"arn:{partition}:iam::{account}:role/{DEFAULT_EXECUTION_ROLE}"
    execution = settings.execution_role or tags.get(EXECUTION_ROLE_TAG) or default
    return execution, settings.task_role or tags.get(JOB_ROLE_TAG)


def _roles(clients: Clients, settings: Settings, queue: Mapping[str, Any]) -> Iterator[Finding]:
    execution, task = _role_arns(settings, queue)
    yield from _guarded("execution role", lambda: _role(clients, "execution role", execution))
    if task:
        yield from _guarded("job role", lambda: _role(clients, "job role", task))
    else:
        remedy = "task-role in the settings, if they need some"
        yield "job role", OK, "none: jobs have no rights on AWS, not even to S3", remedy


def _role(clients: Clients, kind: str, arn: str) -> Iterator[Finding]:
    name = arn.rpartition("/")[2]
    try:
        role = clients.call("iam", "get_role", patience=PATIENCE, RoleName=name)["Role"]
    except BackendError as error:
        if "cannot be found" not in str(error) and "not found" not in str(error):
            raise
        yield kind, WRONG, f"there is no role {name}", "ezbatch setup makes one; or set execution-role in the settings"
        return
    trust = role.get("AssumeRolePolicyDocument")
    text = trust if isinstance(trust, str) else json.dumps(trust)
    if "ecs-tasks.amazonaws.com" not in urllib.parse.unquote(text):
        remedy = "Let ecs-tasks.amazonaws.com assume it (its trust relationship), or use another"
        yield kind, WRONG, f"ECS may not use role {name}", remedy
        return
    yield kind, OK, name, ""


def ecr_authorization(image: str, settings: Settings) -> str:
    """Return the HTTP header by which an ECR repository lets these credentials in."""
    clients = Clients(settings)
    account = re.match(r"(\d{12})\.dkr\.ecr\.", image)
    query = {"registryIds": [account[1]]} if account else {}
    answer = clients.call("ecr", "get_authorization_token", patience=PATIENCE, **query)
    return f"Basic {answer['authorizationData'][0]['authorizationToken']}"
