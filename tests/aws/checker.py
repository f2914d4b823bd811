"""What AWS Batch accepts, held against every request that leaves boto3.

The rules are those of section 1 of the facts about AWS Batch, written out again here, so that the product and its judge
do not share a mistake. A request that AWS would refuse is answered as AWS answers; one that it would accept and regret
(a definition deregistered under a queued job, overrides that ECS will refuse later) is let through and recorded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

Json = dict[str, Any]

JOB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
RESOURCE_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
IMAGE = re.compile(r"[A-Za-z0-9_.:/@#-]{1,255}")

SUBMIT_PAYLOAD = 30 * 1024
REGISTER_PAYLOAD = 24 * 1024
OVERRIDES = 7_680
"""Bytes of overrides that one project had refused. ECS's own limit is 8,192 characters."""

FARGATE_MEMORY = {
    0.25: {512, 1024, 2048},
    0.5: set(range(1024, 4096 + 1, 1024)),
    1.0: set(range(2048, 8192 + 1, 1024)),
    2.0: set(range(4096, 16384 + 1, 1024)),
    4.0: set(range(8192, 30720 + 1, 1024)),
    8.0: set(range(16384, 61440 + 1, 4096)),
    16.0: set(range(32768, 122880 + 1, 8192)),
    32.0: {61440, 122880, 249856},
}
"""vCPUs to the memory sizes, in MiB, that Fargate has for them."""

NOT_ON_FARGATE = ("privileged", "ulimits", "linuxParameters", "instanceType")
FILTERS = ("JOB_NAME", "JOB_DEFINITION", "BEFORE_CREATED_AT", "AFTER_CREATED_AT", "SHARE_IDENTIFIER")
STATES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")


@dataclass(frozen=True)
class Finding:
    """One broken rule.

    Parameters
    ----------
    message
        What is wrong, with the value.
    refused
        Whether AWS Batch answers ClientException. False: it accepts the request, and something goes wrong later.
    """

    message: str
    refused: bool = True


class World(Protocol):
    """What the rules need to know of the server's state."""

    def array_size(self, job_id: str) -> int | None:
        """Children of a job, 0 for a single job, None for no job."""

    def definition(self, identifier: str) -> Json | None:
        """A definition by ARN, name:revision or name (the newest ACTIVE one), as described by the server."""

    def live_jobs(self, definition_arn: str) -> list[str]:
        """Names of the jobs of a definition that are not terminal."""


class Checker:
    """Gives the findings for one request."""

    def __init__(self, world: World) -> None:
        self._world = world

    def check(self, action: str, body: Json, size: int) -> list[Finding]:
        """Check one request.

        Parameters
        ----------
        action
            The API action, such as ``SubmitJob``.
        body
            The request's JSON.
        size
            Length of the body, in bytes.
        """
        rules = getattr(self, f"_{_snake(action)}", None)
        if rules is None:
            return [Finding(f"{action} is not an action that the rig knows")]
        findings: Iterator[Finding] = rules(body, size)
        return [Finding(f"{action}: {finding.message}", finding.refused) for finding in findings]

    # One generator of findings for each action

    def _submit_job(self, body: Json, size: int) -> Iterator[Finding]:
        if size >= SUBMIT_PAYLOAD:
            yield Finding(f"the payload has {size} bytes; job size must be less than 30 KiB")
        if not JOB_NAME.fullmatch(body.get("jobName") or ""):
            yield Finding(f"bad jobName {body.get('jobName')!r}")
        if not body.get("jobQueue"):
            yield Finding("no jobQueue")
        definition = self._world.definition(body.get("jobDefinition") or "")
        if definition is None or definition["status"] != "ACTIVE":
            yield Finding(f"the job definition {body.get('jobDefinition')!r} is not ACTIVE")
        array_size = (body.get("arrayProperties") or {}).get("size")
        if array_size is not None and not 2 <= array_size <= 10_000:
            yield Finding(f"array size {array_size} is not between 2 and 10,000")
        yield from self._depends_on(body.get("dependsOn") or [], array_size)
        yield from _retry_and_timeout(body)
        yield from _tags(body.get("tags"))
        overrides = body.get("containerOverrides") or {}
        yield from self._overrides(overrides)
        if definition is not None:
            if body.get("propagateTags", definition.get("propagateTags")):
                combined = {**(definition.get("tags") or {}), **(body.get("tags") or {})}
                if len(combined) > 50:
                    yield Finding(
                        f"{len(combined)} tags to propagate from job and definition, at most 50", refused=False
                    )
            properties = definition["containerProperties"]
            if overrides.get("resourceRequirements"):
                needs = _needs(properties) | _needs(overrides)
                yield from _resources(needs, fargate="FARGATE" in (definition.get("platformCapabilities") or []))

    def _depends_on(self, dependencies: list[Json], array_size: int | None) -> Iterator[Finding]:
        if len(dependencies) > 20:
            yield Finding(f"dependsOn has {len(dependencies)} jobs, at most 20")
        for dependency in dependencies:
            kind, job_id = dependency.get("type"), dependency.get("jobId")
            if kind not in (None, "N_TO_N", "SEQUENTIAL"):
                yield Finding(f"bad dependency type {kind!r}")
            if kind == "SEQUENTIAL":
                if job_id:
                    yield Finding("a SEQUENTIAL dependency has a jobId")
                if array_size is None:
                    yield Finding("a SEQUENTIAL dependency on a job that is no array")
                continue
            if not job_id:
                yield Finding(f"a dependency of type {kind} without jobId")
                continue
            other = self._world.array_size(job_id)
            if other is None:
                yield Finding(f"dependsOn names {job_id!r}, which does not exist")
            elif kind == "N_TO_N" and (array_size is None or other != array_size):
                yield Finding(f"N_TO_N between an array of {array_size} and one of {other}")

    def _overrides(self, overrides: Json) -> Iterator[Finding]:
        length = len(json.dumps(overrides, separators=(",", ":")))
        if length >= OVERRIDES:
            yield Finding(f"container overrides of {length} characters, refused from about {OVERRIDES}", refused=False)
        for key in ("vcpus", "memory", "instanceType"):
            if key in overrides:
                yield Finding(f"containerOverrides.{key} is for EC2 jobs of old; use resourceRequirements")
        if any(part == "" for part in overrides.get("command") or ()):
            yield Finding("an override command has an empty element")
        yield from _environment(overrides)

    def _register_job_definition(self, body: Json, size: int) -> Iterator[Finding]:
        if size > REGISTER_PAYLOAD:
            yield Finding(f"the payload has {size} bytes, at most 24 KiB")
        if not RESOURCE_NAME.fullmatch(body.get("jobDefinitionName") or ""):
            yield Finding(f"bad jobDefinitionName {body.get('jobDefinitionName')!r}")
        if body.get("type") != "container":
            yield Finding(f"type {body.get('type')!r}; this project uses container")
        yield from _retry_and_timeout(body)
        yield from _tags(body.get("tags"))
        platforms = body.get("platformCapabilities") or ["EC2"]
        if set(platforms) - {"EC2", "FARGATE"}:
            yield Finding(f"bad platformCapabilities {platforms}")
        properties = body.get("containerProperties")
        if properties is None or "ecsProperties" in body:
            yield Finding("use containerProperties: with ecsProperties DescribeJobs has no exit code")
            return
        if not IMAGE.fullmatch(properties.get("image") or ""):
            yield Finding(f"bad image {properties.get('image')!r}")
        yield from _environment(properties)
        for secret in properties.get("secrets") or ():
            if not secret.get("name") or not secret.get("valueFrom"):
                yield Finding("a secret needs name and valueFrom")
            elif secret["name"].startswith("AWS_BATCH"):
                yield Finding(f"the secret {secret['name']} begins with AWS_BATCH")
        volumes = {volume.get("name") for volume in properties.get("volumes") or ()}
        for mount in properties.get("mountPoints") or ():
            if mount.get("sourceVolume") not in volumes:
                yield Finding(f"the mount point {mount.get('containerPath')} names no volume")
        fargate = "FARGATE" in platforms
        yield from _resources(_needs(properties), fargate=fargate)
        yield from _fargate(properties) if fargate else _ec2(properties)

    def _deregister_job_definition(self, body: Json, _size: int) -> Iterator[Finding]:
        identifier = body.get("jobDefinition") or ""
        if not re.search(r":[0-9]+$", identifier):
            yield Finding(f"jobDefinition {identifier!r} is neither name:revision nor an ARN")
            return
        definition = self._world.definition(identifier)
        if definition is not None:
            live = self._world.live_jobs(definition["jobDefinitionArn"])
            if live:
                yield Finding(
                    f"{identifier} is deregistered while {len(live)} jobs use it, such as {live[0]}", refused=False
                )

    def _describe_jobs(self, body: Json, _size: int) -> Iterator[Finding]:
        yield from _count(body, "jobs", 100)

    def _list_jobs(self, body: Json, _size: int) -> Iterator[Finding]:
        scopes = [key for key in ("jobQueue", "arrayJobId", "multiNodeJobId") if body.get(key)]
        if len(scopes) != 1:
            yield Finding(f"give exactly one of jobQueue, arrayJobId and multiNodeJobId, not {scopes}")
        if body.get("jobStatus") not in (None, *STATES):
            yield Finding(f"bad jobStatus {body['jobStatus']!r}")
        filters = body.get("filters") or []
        if len(filters) > 1:
            yield Finding(f"{len(filters)} filters; only one at a time")
        if filters and "jobQueue" not in scopes:
            yield Finding("filters do not apply to the children of an array", refused=False)
        for one in filters:
            if one.get("name") not in FILTERS:
                yield Finding(f"bad filter {one.get('name')!r}")
            elif str(one["name"]).endswith("CREATED_AT") and not all(
                value.isdigit() for value in one.get("values", ())
            ):
                yield Finding(f"{one['name']} takes milliseconds as a string, not {one.get('values')}")
        yield from _page(body, 100 if filters else 1000)

    def _cancel_job(self, body: Json, _size: int) -> Iterator[Finding]:
        if not body.get("jobId"):
            yield Finding("no jobId")
        yield from _reason(body)

    _terminate_job = _cancel_job

    def _cancel_jobs(self, body: Json, _size: int) -> Iterator[Finding]:
        if not body.get("jobs"):
            yield Finding("no jobs")
        yield from _count(body, "jobs", 50)
        yield from _reason(body)

    _terminate_jobs = _cancel_jobs

    def _describe_job_definitions(self, body: Json, _size: int) -> Iterator[Finding]:
        yield from _count(body, "jobDefinitions", 100)
        if body.get("jobDefinitions") and len(body) > 1:
            yield Finding("jobDefinitions excludes the other parameters")
        yield from _page(body, 100)

    def _describe_job_queues(self, body: Json, _size: int) -> Iterator[Finding]:
        yield from _count(body, "jobQueues", 100)
        yield from _page(body, 100)

    def _describe_compute_environments(self, body: Json, _size: int) -> Iterator[Finding]:
        yield from _count(body, "computeEnvironments", 100)
        yield from _page(body, 100)

    def _get_job_queue_snapshot(self, body: Json, _size: int) -> Iterator[Finding]:
        if not body.get("jobQueue"):
            yield Finding("no jobQueue")

    def _create_job_queue(self, body: Json, _size: int) -> Iterator[Finding]:
        if not RESOURCE_NAME.fullmatch(body.get("jobQueueName") or ""):
            yield Finding(f"bad jobQueueName {body.get('jobQueueName')!r}")
        if not 1 <= len(body.get("computeEnvironmentOrder") or ()) <= 3:
            yield Finding("a queue has 1 to 3 compute environments")
        yield from _tags(body.get("tags"))

    def _create_compute_environment(self, body: Json, _size: int) -> Iterator[Finding]:
        if not RESOURCE_NAME.fullmatch(body.get("computeEnvironmentName") or ""):
            yield Finding(f"bad computeEnvironmentName {body.get('computeEnvironmentName')!r}")
        yield from _tags(body.get("tags"))

    def _tag_resource(self, body: Json, _size: int) -> Iterator[Finding]:
        yield from _tags(body.get("tags"))

    def _nothing_to_check(self, _body: Json, _size: int) -> Iterator[Finding]:
        yield from ()

    _list_tags_for_resource = _untag_resource = _nothing_to_check
    _update_job_queue = _delete_job_queue = _nothing_to_check
    _update_compute_environment = _delete_compute_environment = _nothing_to_check


def _snake(action: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", action).lower()


def _count(body: Json, key: str, limit: int) -> Iterator[Finding]:
    if len(body.get(key) or ()) > limit:
        yield Finding(f"{len(body[key])} {key}, at most {limit}")


def _page(body: Json, limit: int) -> Iterator[Finding]:
    size = body.get("maxResults")
    if size is not None and not 1 <= size <= limit:
        yield Finding(f"maxResults {size} is not between 1 and {limit}")


def _reason(body: Json) -> Iterator[Finding]:
    length = len(body.get("reason") or "")
    if not 1 <= length <= 1024:
        yield Finding(f"the reason has {length} characters: 1 to 1,024")


def _tags(tags: dict[str, str] | None) -> Iterator[Finding]:
    if len(tags or ()) > 50:
        yield Finding(f"{len(tags or ())} tags, at most 50")
    for key, value in (tags or {}).items():
        if not 1 <= len(key) <= 128:
            yield Finding(f"the tag key {key!r} has {len(key)} characters: 1 to 128")
        if key.lower().startswith("aws:"):
            yield Finding(f"the tag key {key!r} begins with aws:")
        if len(value) > 256:
            yield Finding(f"the tag {key!r} has a value of {len(value)} characters, at most 256")


def _retry_and_timeout(body: Json) -> Iterator[Finding]:
    seconds = (body.get("timeout") or {}).get("attemptDurationSeconds")
    if seconds is not None and seconds < 60:
        yield Finding(f"timeout {seconds} s, at least 60")
    strategy = body.get("retryStrategy")
    if not strategy:
        return
    attempts = strategy.get("attempts")
    if attempts is not None and not 1 <= attempts <= 10:
        yield Finding(f"{attempts} attempts: 1 to 10")
    rules = strategy.get("evaluateOnExit") or []
    if rules and attempts is None:
        yield Finding("evaluateOnExit needs attempts")
    if len(rules) > 5:
        yield Finding(f"{len(rules)} evaluateOnExit rules, at most 5")
    for rule in rules:
        if str(rule.get("action")).upper() not in ("RETRY", "EXIT"):
            yield Finding(f"bad evaluateOnExit action {rule.get('action')!r}")
        for key in ("onExitCode", "onReason", "onStatusReason"):
            glob = rule.get(key)
            if glob is None:
                continue
            if not 1 <= len(glob) <= 512 or "*" in glob[:-1]:
                yield Finding(f"{key} {glob[:40]!r}: up to 512 characters, an asterisk only at the end")
            if key == "onExitCode" and not re.fullmatch(r"[0-9]*\*?", glob):
                yield Finding(f"onExitCode {glob!r}: digits and an asterisk only")


def _environment(properties: Json) -> Iterator[Finding]:
    for pair in properties.get("environment") or ():
        name = pair.get("name") or ""
        if not name or "value" not in pair:
            yield Finding(f"an environment entry needs name and value: {sorted(pair)}")
        elif name.startswith("AWS_BATCH"):
            yield Finding(f"the variable {name} begins with AWS_BATCH")


def _needs(properties: Json) -> dict[str, str]:
    return {need.get("type", ""): need.get("value", "") for need in properties.get("resourceRequirements") or ()}


def _resources(needs: dict[str, str], *, fargate: bool) -> Iterator[Finding]:
    if set(needs) - {"VCPU", "MEMORY", "GPU"}:
        yield Finding(f"bad resourceRequirements {sorted(needs)}")
    try:
        vcpus, memory = float(needs["VCPU"]), int(needs["MEMORY"])
    except (KeyError, ValueError):
        yield Finding(f"resourceRequirements need VCPU and MEMORY as numbers, not {needs}")
        return
    if fargate:
        if memory not in FARGATE_MEMORY.get(vcpus, ()):
            yield Finding(f"Fargate has no size of {vcpus} vCPU with {memory} MiB")
        if "GPU" in needs:
            yield Finding("Fargate has no GPU")
    else:
        if memory < 4:
            yield Finding(f"memory {memory} MiB, at least 4")
        if vcpus < 1 or not vcpus.is_integer():
            yield Finding(f"EC2 takes whole vCPUs, at least 1, not {vcpus}")


def _fargate(properties: Json) -> Iterator[Finding]:
    if not properties.get("executionRoleArn"):
        yield Finding("a Fargate job needs executionRoleArn")
    for key in ("vcpus", "memory"):
        if key in properties:
            yield Finding(f"Fargate takes resources only through resourceRequirements, not {key}")
    for key in NOT_ON_FARGATE:
        if properties.get(key):
            yield Finding(f"Fargate has no {key}")
    for volume in properties.get("volumes") or ():
        if "host" in volume:
            yield Finding(f"Fargate has no host volumes: {volume.get('name')}")
    size = (properties.get("ephemeralStorage") or {}).get("sizeInGiB")
    if size is not None and not 21 <= size <= 200:
        yield Finding(f"ephemeralStorage {size} GiB: 21 to 200")
    architecture = (properties.get("runtimePlatform") or {}).get("cpuArchitecture")
    if architecture not in (None, "X86_64", "ARM64"):
        yield Finding(f"bad cpuArchitecture {architecture!r}")
    public = (properties.get("networkConfiguration") or {}).get("assignPublicIp")
    if public not in (None, "ENABLED", "DISABLED"):
        yield Finding(f"bad assignPublicIp {public!r}")


def _ec2(properties: Json) -> Iterator[Finding]:
    for key in ("ephemeralStorage", "fargatePlatformConfiguration", "networkConfiguration", "runtimePlatform"):
        if properties.get(key):
            yield Finding(f"{key} is for Fargate only")
