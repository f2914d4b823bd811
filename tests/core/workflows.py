"""Workflows for Hypothesis, and what must hold of every plan."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from ezbatch import EZBatchJob, EZBatchWorkflow, Plan, S3Mount, S3Mounts
from ezbatch.planning import PlannedJob

# AWS Batch's own numbers, written down here once more: a slip in ezbatch.rules must not hide itself.
JOB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
DEFINITION_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
IMAGE = re.compile(r"[A-Za-z0-9_.:/@#-]{1,255}")
FARGATE: dict[float, list[int]] = {
    0.25: [512, 1024, 2048],
    0.5: [1024, 2048, 3072, 4096],
    1: [2048, 3072, 4096, 5120, 6144, 7168, 8192],
    2: list(range(4096, 16385, 1024)),
    4: list(range(8192, 30721, 1024)),
    8: list(range(16384, 61441, 4096)),
    16: list(range(32768, 122881, 8192)),
    32: [61440, 122880, 249856],
}
SIZES = [(vcpus, memory) for vcpus, choices in FARGATE.items() for memory in choices]
#: As long as a run's id may be, so that names built from it are the longest there are.
RUN_ID = "x" * 40 + "-abcdef"

_characters = st.characters(exclude_categories=["Cs"])  # half of a surrogate pair is no text
texts = st.text(_characters, max_size=40)
names = st.text(_characters, min_size=1, max_size=200).filter(str.strip)
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
variables = st.from_regex(r"[A-Z0-9_]{0,12}", fullmatch=True).map(lambda name: f"V_{name}")
scalars = st.one_of(values, st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False))
keys = st.text("abcXYZ019/._ -", min_size=1, max_size=30)


@st.composite
def commands(draw: st.DrawFn) -> str | list[str]:
    """A command that is not empty, as a string or a list."""
    if draw(st.booleans()):
        return draw(values.filter(str.strip).filter(lambda text: EZBatchJob("i", text).argv[:1] not in ([], [""])))
    return [draw(values.filter(bool)), *draw(st.lists(values, max_size=4))]


@st.composite
def arrays(draw: st.DrawFn) -> int | list[dict[str, Any]] | dict[str, list[Any]]:
    """An array in each of its three forms."""
    form = draw(st.sampled_from(["count", "entries", "grid"]))
    if form == "count":
        return draw(st.integers(1, 10_000))
    if form == "entries":
        return draw(st.lists(st.dictionaries(variables, scalars, max_size=3), min_size=1, max_size=5))
    return draw(st.dictionaries(variables, st.lists(scalars, min_size=1, max_size=4), min_size=1, max_size=3))


@st.composite
def mounts(draw: st.DrawFn) -> S3Mounts:
    """Mounts that AWS could serve."""

    def one(number: int, *, read: bool) -> S3Mount:
        # A number in each, so that no two go to one place.
        remote = f"s3://bucket-{draw(st.integers(0, 9))}/{number}/{draw(keys).replace('..', 'x')}"
        local = f"/data/{number}/{draw(keys).replace('..', 'x')}"
        kind = draw(st.sampled_from([None, "AES256", "aws:kms"]))
        return S3Mount(
            remote if read else local,
            local if read else remote,
            recursive=draw(st.sampled_from([None, True, False])),
            sse=kind,
            sse_kms_key_id="key" if kind == "aws:kms" else None,
            options=draw(st.sampled_from(["--quiet", "--quiet --recursive --recursive --sse AES256", ""])),
        )

    return S3Mounts(
        read=[one(n, read=True) for n in range(draw(st.integers(0, 3)))],
        write=[one(n, read=False) for n in range(draw(st.integers(0, 3)))],
    )


@st.composite
def jobs(draw: st.DrawFn) -> EZBatchJob:
    """A job that AWS Batch takes."""
    fargate = draw(st.booleans())
    vcpus, memory = draw(st.sampled_from(SIZES)) if fargate else (draw(st.integers(1, 96)), draw(st.integers(4, 9999)))
    return EZBatchJob(
        draw(st.sampled_from(["python:3.12", "x", "x_2", "X", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a/x@sha"])),
        draw(commands()),
        environment=draw(st.dictionaries(variables, values, max_size=3)),
        mounts=draw(mounts()),
        vcpus=vcpus,
        memory=memory,
        storage_size=draw(st.sampled_from([None, 21, 200])) if fargate else None,
        platform="FARGATE" if fargate else "EC2",
        tags=draw(
            st.dictionaries(
                values.filter(bool).filter(lambda key: not key.lower().startswith("aws:")), values, max_size=3
            )
        ),
        queue=draw(st.sampled_from([None, "big", "arn:aws:batch:eu-west-1:123456789012:job-queue/q"])),
        preloader=draw(st.booleans()),
        array=draw(st.one_of(st.none(), arrays())),
        retries=draw(st.integers(0, 9)),
        timeout=draw(st.one_of(st.none(), st.integers(60, 10**6))),
        gpus=None if fargate else draw(st.one_of(st.none(), st.integers(1, 8))),
        job_role=draw(st.sampled_from([None, "arn:aws:iam::123456789012:role/r"])),
        architecture=draw(st.sampled_from([None, "ARM64"])) if fargate else None,
    )


@st.composite
def workflows(draw: st.DrawFn, *, most: int = 6) -> EZBatchWorkflow:
    """A workflow that AWS Batch takes, in any order of declaration."""
    named = draw(st.dictionaries(names, jobs(), min_size=1, max_size=most))
    return EZBatchWorkflow(draw(names), named, _dependencies(draw, list(named)))


@st.composite
def wide_workflows(draw: st.DrawFn) -> EZBatchWorkflow:
    """A workflow of small jobs, some of which have more parents than AWS allows."""
    count = draw(st.integers(1, 80))
    order = draw(st.permutations([f"j{i}" for i in range(count)]))
    named = {name: EZBatchJob("x", ["true"], platform=draw(st.sampled_from(["FARGATE", "EC2"]))) for name in order}
    ranks = {name: int(name[1:]) for name in order}
    dependencies: dict[str, list[str]] = {}
    for name in draw(st.lists(st.sampled_from(order), max_size=8, unique=True)):
        before = [f"j{i}" for i in range(ranks[name])]
        if before:
            dependencies[name] = draw(
                st.one_of(
                    st.just(before), st.lists(st.sampled_from(before), max_size=45), st.just(before[: len(before) // 2])
                )
            )
    return EZBatchWorkflow("wide", named, dependencies)


def _dependencies(draw: st.DrawFn, order: Sequence[str]) -> dict[str, list[str]]:
    hidden = draw(st.permutations(order))
    return {
        name: draw(st.lists(st.sampled_from(hidden[:place]), max_size=4))
        for place, name in enumerate(hidden)
        if place and draw(st.booleans())
    }


def shown_parents(plan: Plan) -> dict[str, set[str]]:
    """What each of the workflow's own jobs waits for, joins seen through."""
    by_name = {job.name: job for job in plan.jobs}

    def through(names: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for name in names:
            found |= through(by_name[name].parents) if by_name[name].join else {name}
        return found

    return {job.name: through(job.parents) for job in plan.jobs if not job.join}


def assert_keeps_rules(plan: Plan) -> None:
    """Hold what will be sent to what AWS Batch accepts."""
    job_names = [f"{RUN_ID}-{job.slug}" for job in plan.jobs]
    for name in job_names:
        assert JOB_NAME.fullmatch(name)
    assert len({name.lower() for name in job_names}) == len(plan.jobs)
    assert len({job.name for job in plan.jobs}) == len(plan.jobs)
    definition_names = [definition.name for definition in plan.definitions]
    assert len({name.lower() for name in definition_names}) == len(definition_names)
    for definition in plan.definitions:
        assert DEFINITION_NAME.fullmatch(f"{RUN_ID}-{definition.name}")
        assert IMAGE.fullmatch(definition.image)
        sent = {
            "command": definition.command,
            "environment": _pairs(definition.environment),
            "secrets": _pairs(definition.secrets),
            "image": definition.image,
        }
        assert len(json.dumps(sent)) < 24 * 1024
        assert not any(name.startswith("AWS_BATCH") for name in definition.environment)
    before: set[str] = set()
    for job in plan.jobs:
        assert len(job.parents) <= 20
        assert len(set(job.parents)) == len(job.parents)
        assert before.issuperset(job.parents)
        before.add(job.name)
        _assert_submittable(plan, job)


def _assert_submittable(plan: Plan, job: PlannedJob) -> None:
    definition = plan.definition_of(job)
    assert job.array_size is None or 2 <= job.array_size <= 10_000
    assert 1 <= job.attempts <= 10
    assert job.timeout is None or job.timeout >= 60
    assert all(job.command), "AWS refuses empty words in an override"
    assert all(definition.command)
    assert job.command or definition.command
    assert not any(name.startswith("AWS_BATCH") for name in job.environment)
    if definition.platform == "FARGATE":
        assert job.memory in FARGATE[job.vcpus]
        assert not job.gpus
    else:
        assert job.vcpus >= 1
        assert job.vcpus == int(job.vcpus)
        assert job.memory >= 4
    overrides = {
        "command": job.command,
        "environment": _pairs(job.environment),
        "resourceRequirements": [{"type": kind, "value": "00000"} for kind in ("VCPU", "MEMORY", "GPU")],
    }
    assert len(json.dumps(overrides)) <= 7_680
    tags = {**job.tags, **{f"ezbatch:{name}": "v" * 256 for name in ("run", "workflow", "job")}}
    assert len(tags) <= 50
    sent = {
        "jobName": f"{RUN_ID}-{job.slug}",
        "jobQueue": job.queue,
        "jobDefinition": f"arn:aws:batch:eu-central-1:123456789012:job-definition/{RUN_ID}-{definition.name}:1",
        "dependsOn": [{"jobId": "01234567-89ab-cdef-0123-456789abcdef"} for _ in job.parents],
        "containerOverrides": overrides,
        "tags": tags,
        "arrayProperties": {"size": job.array_size},
        "retryStrategy": {"attempts": job.attempts},
        "timeout": {"attemptDurationSeconds": job.timeout},
    }
    assert len(json.dumps(sent)) < 30 * 1024


def _pairs(mapping: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in mapping.items()]
