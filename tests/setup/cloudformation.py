"""What moto's CloudFormation lacks for AWS Batch, filled in beside the rig's other gaps.

moto makes queues and compute environments of a stack, but demands a service role, drops tags, and neither changes nor
deletes them: a teardown would leave them behind. Updates that only turn a condition of the template make nothing new.
Of bucket policies moto's CloudFormation knows nothing. It looks whether a name is free, and takes it much later: two
who ask at once would both get it.
"""

# ruff: noqa: ANN401  # moto's models are what they are

from __future__ import annotations

import threading
from copy import deepcopy
from functools import cache
from typing import Any

from moto.batch import models as batch
from moto.batch.utils import lowercase_first_key
from moto.cloudformation import models, parsing
from moto.core.common_models import CloudFormationModel

Json = dict[str, Any]

# What is filled in is what their types do not say.
batch_backends: Any = batch.batch_backends
ComputeEnvironment: Any = batch.ComputeEnvironment
JobQueue: Any = batch.JobQueue
Stack: Any = models.Stack
ResourceMap: Any = parsing.ResourceMap

Backend: Any = models.CloudFormationBackend

_parse_template = Stack.parse_template
_build_resource_diff = ResourceMap.build_resource_diff
_delete_resource = ResourceMap._delete_resource


@cache
def _parsed(text: str) -> Json:
    parsed: Json = _parse_template(text)
    return parsed


def _delete(resources: Any, resource: Any, body: Json) -> None:
    _delete_resource(resources, resource, body)
    # moto would delete it again with the stack.
    resources._parsed_resources[resource.logical_resource_id] = None


def _diff(resources: Any, template: Json, parameters: Json | None = None) -> dict[str, list[str]]:
    """Return what an update adds, changes and removes, with the template's conditions."""
    found: dict[str, list[str]] = _build_resource_diff(resources, template, parameters)
    future = ResourceMap(
        resources.stack_id,
        resources["AWS::StackName"],
        {**resources.input_parameters, **(parameters or {})},
        resources.tags,
        region_name=resources._region_name,
        account_id=resources._account_id,
        template=template,
        cross_stack_resources=resources.cross_stack_resources,
    )
    future.load()

    def wanted(name: str) -> bool:
        condition = template["Resources"][name].get("Condition")
        return condition is None or bool(future.lazy_condition_map[condition])

    there = {name for name in resources.resources if resources._parsed_resources.get(name) is not None}
    names = template["Resources"]
    return {
        "Add": [name for name in names if wanted(name) and name not in there],
        "Modify": [name for name in found["Modify"] if wanted(name) and name in there],
        "Remove": [name for name in there if name not in names or not wanted(name)],
    }


_parameter_list: Any = Stack.parameter_list.fget


def _parameters(stack: Any) -> list[Json]:
    """Return the parameters as AWS does: a list as one text with commas."""
    return [
        {**one, "ParameterValue": ",".join(value) if isinstance(value := one["ParameterValue"], list) else str(value)}
        for one in _parameter_list(stack)
    ]


_create_stack = Backend.create_stack
_delete_stack = Backend.delete_stack
_one_after_the_other = threading.RLock()


def _create_one(backend: Any, *args: object, **kwargs: object) -> Any:
    with _one_after_the_other:
        return _create_stack(backend, *args, **kwargs)


def _delete_one(backend: Any, *args: object, **kwargs: object) -> Any:
    with _one_after_the_other:
        return _delete_stack(backend, *args, **kwargs)


def _make_environment(name: str, body: Json, account_id: str, region: str, **_kwargs: object) -> ComputeEnvironment:
    properties = body["Properties"]
    backend = batch_backends[account_id][region]
    return backend.create_compute_environment(
        name,
        properties["Type"],
        properties.get("State", "ENABLED"),
        lowercase_first_key(properties["ComputeResources"]),
        properties.get("ServiceRole") or backend.default_service_role(),
        tags=properties.get("Tags"),
    )


def _make_queue(name: str, body: Json, account_id: str, region: str, **_kwargs: object) -> JobQueue:
    properties = body["Properties"]
    return batch_backends[account_id][region].create_job_queue(
        queue_name=name,
        priority=properties["Priority"],
        state=properties.get("State", "ENABLED"),
        compute_env_order=[lowercase_first_key(entry) for entry in properties["ComputeEnvironmentOrder"]],
        schedule_policy=None,
        tags=properties.get("Tags"),
    )


def _change_environment(
    original_resource: Any,
    new_resource_name: str,  # noqa: ARG001 - moto's signature
    cloudformation_json: Json,
    account_id: str,  # noqa: ARG001 - likewise
    region_name: str,  # noqa: ARG001 - likewise
) -> ComputeEnvironment:
    original_resource.compute_resources |= lowercase_first_key(cloudformation_json["Properties"]["ComputeResources"])
    return original_resource


def _change_queue(original_resource: Any, **_kwargs: object) -> JobQueue:
    return original_resource


class BucketPolicy(CloudFormationModel):
    """A bucket policy that is there and denies nothing: moto would deny without reading its conditions."""

    def __init__(self, name: str) -> None:
        self.physical_resource_id = name

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::S3::BucketPolicy"

    @classmethod
    def create_from_cloudformation_json(cls, resource_name: str, *_body: object, **_where: object) -> Any:
        return cls(resource_name)

    @classmethod
    def update_from_cloudformation_json(cls, original_resource: Any, *_body: object, **_where: object) -> Any:
        return original_resource

    @classmethod
    def delete_from_cloudformation_json(cls, *_body: object, **_where: object) -> None:
        """Nothing was made."""


def _delete_environment(environment: Any, account_id: str, region: str) -> None:
    backend = batch_backends[account_id][region]
    if any(environment in queue.environments for queue in backend._job_queues.values()):
        raise ValueError("a queue uses it")  # moto then tries again, when the queue is gone
    backend.delete_compute_environment(environment.arn)


def _delete_queue(queue: Any, account_id: str, region: str) -> None:
    backend = batch_backends[account_id][region]
    backend.update_job_queue(queue.arn, None, "DISABLED", None, None)
    backend.delete_job_queue(queue.arn)


def fill() -> None:
    """Fill the gaps, once for the process; and parse a template once, which takes moto longer than all the rest."""
    gaps: dict[tuple[Any, str], object] = {
        (Backend, "create_stack"): _create_one,
        (Backend, "delete_stack"): _delete_one,
        (Stack, "parse_template"): staticmethod(lambda text: deepcopy(_parsed(text))),
        (Stack, "parameter_list"): property(_parameters),
        # What a condition left out is no resource.
        (Stack, "stack_resources"): property(
            lambda stack: [one for one in stack.resource_map.values() if one is not None]
        ),
        (ResourceMap, "build_resource_diff"): _diff,
        (ResourceMap, "_delete_resource"): _delete,
        (ComputeEnvironment, "create_from_cloudformation_json"): staticmethod(_make_environment),
        (ComputeEnvironment, "update_from_cloudformation_json"): staticmethod(_change_environment),
        (ComputeEnvironment, "delete"): _delete_environment,
        (JobQueue, "create_from_cloudformation_json"): staticmethod(_make_queue),
        (JobQueue, "update_from_cloudformation_json"): staticmethod(_change_queue),
        (JobQueue, "delete"): _delete_queue,
    }
    for (kind, name), filling in gaps.items():
        setattr(kind, name, filling)
