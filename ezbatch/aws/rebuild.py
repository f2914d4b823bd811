"""A run from what AWS has of it: for a machine whose ledger never knew it. Pure: from DescribeJobs' answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ezbatch import preloader
from ezbatch.aws import requests
from ezbatch.planning import Plan, PlannedDefinition, PlannedJob
from ezbatch.s3 import S3Mounts
from ezbatch.workflow import EZBatchJob, EZBatchWorkflow

__all__ = ["Rebuilt", "rebuilt"]

_INDEX, _SIZE = "AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"


@dataclasses.dataclass(frozen=True)
class Rebuilt:
    """What could be found out about a run.

    Parameters
    ----------
    workflow : EZBatchWorkflow
        Its jobs, joins left out.
    plan : Plan
        Every job that AWS has, joins included.
    job_ids : dict of str to str
        Ids by name.
    created : float
        Seconds since the epoch: when its first job was submitted.
    """

    workflow: EZBatchWorkflow
    plan: Plan
    job_ids: dict[str, str]
    created: float


def rebuilt(run_id: str, queue: str, details: Sequence[Mapping[str, Any]]) -> Rebuilt:
    """Rebuild a run.

    Parameters
    ----------
    run_id : str
        Its id.
    queue : str
        The queue it was found in.
    details : sequence of mapping
        DescribeJobs' answers, each job once.
    """
    names: dict[str, tuple[str, bool]] = {}
    taken: set[str] = set()
    for detail in details:
        name, join = _name(run_id, detail)
        if name in taken:  # a tag holds the first 256 letters only
            name = f"{name} ({detail['jobName']})"
        taken.add(name)
        names[detail["jobId"]] = name, join
    jobs: dict[str, EZBatchJob] = {}
    parents: dict[str, tuple[str, ...]] = {}
    planned: dict[str, PlannedJob] = {}
    definitions: dict[str, PlannedDefinition] = {}
    order = sorted(details, key=lambda detail: (detail.get("createdAt", 0), detail["jobName"]))
    for detail in order:
        name, join = names[detail["jobId"]]
        spec, indices = _spec(detail)
        listed = [names[d["jobId"]][0] for d in detail.get("dependsOn", ()) if d.get("jobId") in names]
        # A parent is submitted before its dependents, so what stands there is known already.
        seen = [p for parent in listed for p in (parents[parent] if planned[parent].join else (parent,))]
        parents[name] = tuple(dict.fromkeys(seen))
        if not join:
            jobs[name] = spec
        arn = str(detail["jobDefinition"])
        if arn not in definitions:
            definitions[arn] = _definition(run_id, arn, spec)
        planned[name] = PlannedJob(
            name=name,
            slug=str(detail["jobName"]).removeprefix(f"{run_id}-"),
            join=join,
            definition=list(definitions).index(arn),
            stage=1 + max((planned[parent].stage for parent in listed), default=0),
            parents=tuple(listed),
            queue=queue,
            command=tuple(detail.get("container", {}).get("command", ())),
            environment=spec.environment,
            vcpus=spec.vcpus,
            memory=spec.memory,
            gpus=spec.gpus,
            array_size=detail.get("arrayProperties", {}).get("size"),
            indices=indices,
            attempts=spec.retries + 1,
            timeout=spec.timeout,
            tags=spec.tags,
        )
    workflow_name = requests.read_tag(order[0].get("tags", {}).get(requests.WORKFLOW, "")) or run_id
    after = {name: list(found) for name, found in parents.items() if found and name in jobs}
    workflow = EZBatchWorkflow(workflow_name, jobs, after)
    note = f"rebuilt from queue {queue}: this machine's ledger did not know the run"
    plan = Plan(workflow_name, queue, tuple(planned.values()), tuple(definitions.values()), (note,))
    ids = {names[detail["jobId"]][0]: str(detail["jobId"]) for detail in details}
    return Rebuilt(workflow, plan, ids, order[0].get("createdAt", 0) / 1000)


def _name(run_id: str, detail: Mapping[str, Any]) -> tuple[str, bool]:
    """Return what the user called a job, and whether it is a join, which nobody named."""
    tags = detail.get("tags", {})
    slug = str(detail["jobName"]).removeprefix(f"{run_id}-")
    if requests.JOB in tags and not tags[requests.JOB]:
        return f"join {slug}", True
    return requests.read_tag(tags.get(requests.JOB, "")) or slug, False


def _spec(detail: Mapping[str, Any]) -> tuple[EZBatchJob, tuple[int, ...] | None]:
    container = detail.get("container", {})
    environment = {item["name"]: item.get("value", "") for item in container.get("environment", ())}
    asked = {item["type"]: item["value"] for item in container.get("resourceRequirements", ())}
    unwrapped = preloader.unwrap(environment)
    command, mounts, array, indices = list(container.get("command", ())), S3Mounts(), None, None
    size = detail.get("arrayProperties", {}).get("size")
    if unwrapped is not None:
        command, environment = unwrapped.command, unwrapped.environment
        mounts = S3Mounts(unwrapped.read, unwrapped.write)
        array, indices = _array(unwrapped.axes)
    if array is None:
        array = size
    platform = (detail.get("platformCapabilities") or ["EC2"])[0]
    runtime = container.get("runtimePlatform", {}).get("cpuArchitecture")
    vcpus = float(asked.get("VCPU", container.get("vcpus") or 1))
    own = (requests.RUN, requests.WORKFLOW, requests.JOB)
    job = EZBatchJob(
        image=container.get("image", ""),
        command=command,
        environment=environment,
        mounts=mounts,
        vcpus=vcpus,
        memory=int(asked.get("MEMORY", container.get("memory") or 4)),
        storage_size=container.get("ephemeralStorage", {}).get("sizeInGiB"),
        platform=platform,
        tags={key: value for key, value in detail.get("tags", {}).items() if key not in own},
        preloader=bool(mounts),
        array=array,
        retries=max(0, detail.get("retryStrategy", {}).get("attempts", 1) - 1),
        timeout=detail.get("timeout", {}).get("attemptDurationSeconds"),
        gpus=int(asked["GPU"]) if "GPU" in asked else None,
        secrets={item["name"]: item["valueFrom"] for item in container.get("secrets", ())},
        job_role=container.get("jobRoleArn"),
        architecture=runtime if platform == "FARGATE" and runtime != "X86_64" else None,
    )
    return job, indices


def _array(axes: list[list[dict[str, str]]]) -> tuple[Any, tuple[int, ...] | None]:
    """Return an array as the spec has it, and which of its children these are where a retry ran some only."""
    if not axes:
        return None, None
    first = axes[0]
    if _INDEX in first[0]:
        indices = tuple(int(row[_INDEX]) for row in first)
        entries: list[dict[str, str]] = [{} for _child in range(int(first[0][_SIZE]))]
        for index, row in zip(indices, first, strict=True):
            entries[index] = {name: value for name, value in row.items() if name not in (_INDEX, _SIZE)}
        return entries, indices
    if len(axes) == 1:
        return first, None
    return {next(iter(axis[0])): [next(iter(row.values())) for row in axis] for axis in axes}, None


def _definition(run_id: str, arn: str, spec: EZBatchJob) -> PlannedDefinition:
    # arn:aws:batch:REGION:ACCOUNT:job-definition/NAME:REVISION
    name = arn.rpartition("/")[2].partition(":")[0].removeprefix(f"{run_id}-")
    return PlannedDefinition(
        name=name,
        image=spec.image,
        platform=spec.platform,
        command=(),
        environment={},
        vcpus=spec.vcpus,
        memory=spec.memory,
        storage_size=spec.storage_size,
        architecture=spec.architecture,
        job_role=spec.job_role,
        secrets=spec.secrets,
    )
