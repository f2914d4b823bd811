"""What is asked of AWS Batch, from a plan. Pure: no call is made here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ezbatch.planning import Plan, PlannedDefinition, PlannedJob

__all__ = ["definition_name", "job_name", "read_tag", "register_job_definition", "submit_job", "tag_value"]

#: The tags by which a run is found again where no ledger knows it.
RUN, WORKFLOW, JOB = "ezbatch:run", "ezbatch:workflow", "ezbatch:job"

_NOT_IN_TAGS = re.compile(r"[^\w +\-.:/@]", re.ASCII)
_TAG_LENGTH = 256


def job_name(run_id: str, job: PlannedJob) -> str:
    """Return the name of a job: by its beginning all jobs of a run are found."""
    return f"{run_id}-{job.slug}"


def definition_name(run_id: str, definition: PlannedDefinition) -> str:
    """Return the name of a job definition, which no other run uses."""
    return f"{run_id}-{definition.name}"[:128]


def tag_value(text: str) -> str:
    """Return a text in the letters AWS allows in a tag, the others as ``=XX`` for each byte."""
    made = _NOT_IN_TAGS.sub(lambda m: "".join(f"={byte:02X}" for byte in m[0].encode("utf-8", "surrogatepass")), text)
    return made[:_TAG_LENGTH]


def read_tag(value: str) -> str:
    """Return the text that :func:`tag_value` was given, if it was not too long."""
    raw = re.sub(rb"=([0-9A-F]{2})", lambda m: bytes([int(m[1], 16)]), value.encode())
    return raw.decode("utf-8", "replace")


def register_job_definition(
    run_id: str, plan: Plan, definition: PlannedDefinition, *, execution_role: str, task_role: str | None
) -> dict[str, Any]:
    """Return the parameters of RegisterJobDefinition."""
    container: dict[str, Any] = {
        "image": definition.image,
        "command": list(definition.command),
        "resourceRequirements": _resources(definition.vcpus, definition.memory, None),
        "environment": _variables(definition.environment),
        "secrets": [{"name": name, "valueFrom": arn} for name, arn in definition.secrets.items()],
    }
    if definition.job_role or task_role:
        container["jobRoleArn"] = definition.job_role or task_role
    if definition.platform == "FARGATE":
        container["executionRoleArn"] = execution_role
        # Without it a job in a public subnet cannot pull its image; in a private one it changes nothing.
        container["networkConfiguration"] = {"assignPublicIp": "ENABLED"}
        container["runtimePlatform"] = {
            "operatingSystemFamily": "LINUX",
            "cpuArchitecture": definition.architecture or "X86_64",
        }
        if definition.storage_size is not None:
            container["ephemeralStorage"] = {"sizeInGiB": definition.storage_size}
    elif definition.secrets:
        container["executionRoleArn"] = execution_role
    return {
        "jobDefinitionName": definition_name(run_id, definition),
        "type": "container",
        "platformCapabilities": [definition.platform],
        "containerProperties": container,
        "tags": {RUN: run_id, WORKFLOW: tag_value(plan.workflow)},
    }


def submit_job(
    run_id: str, plan: Plan, job: PlannedJob, definition_arn: str, parent_ids: Sequence[str]
) -> dict[str, Any]:
    """Return the parameters of SubmitJob."""
    overrides: dict[str, Any] = {"resourceRequirements": _resources(job.vcpus, job.memory, job.gpus)}
    if job.command:
        overrides["command"] = list(job.command)
    if job.environment:
        overrides["environment"] = _variables(job.environment)
    request: dict[str, Any] = {
        "jobName": job_name(run_id, job),
        "jobQueue": job.queue,
        "jobDefinition": definition_arn,
        "containerOverrides": overrides,
        "retryStrategy": {"attempts": job.attempts},
        # A join says so by having no job's name.
        "tags": {
            **job.tags,
            RUN: run_id,
            WORKFLOW: tag_value(plan.workflow),
            JOB: "" if job.join else tag_value(job.name),
        },
        "propagateTags": True,
    }
    if parent_ids:
        request["dependsOn"] = [{"jobId": parent_id} for parent_id in parent_ids]
    if job.array_size is not None:
        request["arrayProperties"] = {"size": job.array_size}
    if job.timeout is not None:
        request["timeout"] = {"attemptDurationSeconds": job.timeout}
    return request


def _resources(vcpus: float, memory: int, gpus: int | None) -> list[dict[str, str]]:
    asked = [("VCPU", f"{vcpus:g}"), ("MEMORY", str(memory)), *([("GPU", str(gpus))] if gpus else [])]
    return [{"type": kind, "value": value} for kind, value in asked]


def _variables(environment: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in environment.items()]
