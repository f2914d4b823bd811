"""Every rule of AWS Batch that concerns a workflow, each broken once: the place, what is wrong, what to do."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezbatch import EZBatchJob, EZBatchWorkflow, InvalidWorkflowError, Problem, S3Mount, S3Mounts, plan
from ezbatch.rules import nearest_fargate_sizes

from .workflows import FARGATE, SIZES, workflows

ROLE = "arn:aws:iam::123456789012:role/r"
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:s-AbCdEf"
PARAMETER = "arn:aws:ssm:eu-west-1:123456789012:parameter/p"


def job(**changes: Any) -> EZBatchJob:  # noqa: ANN401 - fields of different types
    return EZBatchJob(**{"image": "i", "command": "c", **changes})


def read(**changes: Any) -> S3Mounts:  # noqa: ANN401 - as above
    return S3Mounts(read=[S3Mount(**{"source": "s3://bucket/k", "destination": "in", **changes})])


def write(**changes: Any) -> S3Mounts:  # noqa: ANN401 - as above
    return S3Mounts(write=[S3Mount(**{"source": "out", "destination": "s3://bucket/k", **changes})])


def reads(*pairs: tuple[str, str]) -> S3Mounts:
    return S3Mounts(read=[S3Mount(source, destination) for source, destination in pairs])


def writes(*pairs: tuple[str, str]) -> S3Mounts:
    return S3Mounts(write=[S3Mount(source, destination) for source, destination in pairs])


EC2 = {"platform": "EC2"}

#: What breaks a rule, where that is told, and words of what is wrong or of the remedy.
BROKEN: list[tuple[dict[str, Any], str, str]] = [
    ({"image": ""}, "image", "is empty"),
    ({"image": "a b"}, "image", "holds a space"),
    ({"image": "python:3.12 "}, "image", "holds a space"),
    ({"image": "ubuntu;rm"}, "image", "';'"),
    ({"image": "ü"}, "image", "'ü'"),
    ({"image": "x" * 256}, "image", "256 characters"),
    ({"command": ""}, "command", "is empty"),
    ({"command": "   "}, "command", "is empty"),
    ({"command": []}, "command", "is empty"),
    ({"command": ["", "x"]}, "command", "is empty"),
    ({"command": ["a\0b"]}, "command", "NUL"),
    ({"command": "a\0b"}, "command", "NUL"),
    ({"command": ["a\ud800"]}, "command", "surrogate"),
    ({"environment": {"": "x"}}, 'environment[""]', "cannot name"),
    ({"environment": {"A=B": "x"}}, 'environment["A=B"]', "cannot name"),
    ({"environment": {"AWS_BATCH_X": "x"}}, "environment.AWS_BATCH_X", "belong to AWS Batch"),
    ({"environment": {"EZBATCH_COMMAND": "x"}}, "environment.EZBATCH_COMMAND", "uses itself"),
    ({"environment": {"A": "\0"}}, "environment.A", "NUL"),
    ({"environment": {"A": "caf\udce9"}}, "environment.A", "surrogate"),
    ({"platform": "fargate"}, "platform", "Set platform to FARGATE"),
    ({"platform": "GPU"}, "platform", "FARGATE or EC2"),
    ({"vcpus": 3}, "vcpus", "vcpus=4, memory=8192"),
    ({"vcpus": 0}, "vcpus", "vcpus=0.25"),
    ({"vcpus": 64, "memory": 500_000}, "vcpus", "vcpus=32, memory=249856"),
    ({"memory": 1024}, "memory", "memory=2048"),
    ({"memory": 2049}, "memory", "memory=3072"),
    ({"memory": 16384}, "memory", "vcpus=2, memory=16384"),
    ({"memory": -1}, "memory", "memory=2048"),
    ({"storage_size": 20}, "storage_size", "20 GiB is what Fargate gives"),
    ({"storage_size": 201}, "storage_size", "21 to 200"),
    ({"gpus": 1}, "gpus", 'platform="EC2"'),
    ({"architecture": "arm64"}, "architecture", "X86_64 or ARM64"),
    ({**EC2, "vcpus": 0.5}, "vcpus", "whole number, such as 1"),
    ({**EC2, "vcpus": 0}, "vcpus", "such as 1"),
    ({**EC2, "memory": 3}, "memory", "4 MiB"),
    ({**EC2, "storage_size": 30}, "storage_size", "Fargate's only"),
    ({**EC2, "gpus": 0}, "gpus", "leave it out"),
    ({**EC2, "gpus": -1}, "gpus", "leave it out"),
    ({**EC2, "architecture": "ARM64"}, "architecture", "Leave it out"),
    ({"retries": 10}, "retries", "9 or less"),
    ({"retries": -1}, "retries", "0 to 9"),
    ({"timeout": 59}, "timeout", "60 or more"),
    ({"timeout": 0}, "timeout", "60 or more"),
    ({"timeout": 2**31}, "timeout", "2,147,483,647 s"),
    ({"timeout": 10**30}, "timeout", "Leave it out"),
    ({"queue": "a b"}, "queue", "ARN"),
    ({"queue": ""}, "queue", "ARN"),
    ({"queue": "q" * 129}, "queue", "ARN"),
    ({"job_role": "r"}, "job_role", "arn:aws:iam::ACCOUNT:role/NAME"),
    ({"array": 0}, "array", "1 to 10,000"),
    ({"array": -1}, "array", "1 to 10,000"),
    ({"array": 10_001}, "array", "1 to 10,000"),
    ({"array": []}, "array", "1 to 10,000"),
    ({"array": {}}, "array", "names no variable"),
    ({"array": {"A": []}}, "array", "1 to 10,000"),
    ({"array": {"A": [1] * 101, "B": [1] * 100}}, "array", "10100 children"),
    ({"array": [{"1A": "x"}]}, 'array[0]["1A"]', "shell variable"),
    ({"array": [{"A": "x"}, {"a-b": "x"}]}, "array[1].a-b", "shell variable"),
    ({"array": {"AWS_BATCH_X": [1]}}, "array.AWS_BATCH_X", "belongs to"),
    ({"array": {"UID": [1]}}, "array.UID", "belongs to"),
    ({"array": {"A": ["\0"]}}, "array.A", "NUL"),
    ({"array": {"A": ["\ud800"]}}, "array.A", "surrogate"),
    ({"tags": {f"t{i}": "" for i in range(48)}}, "tags", "Keep 47"),
    ({"tags": {"": "x"}}, 'tags[""]', "1 to 128"),
    ({"tags": {"k" * 129: "x"}}, f"tags.{'k' * 129}", "1 to 128"),
    ({"tags": {"k": "v" * 257}}, "tags.k", "256"),
    ({"tags": {"aws:x": "v"}}, 'tags["aws:x"]', "belong to AWS"),
    ({"tags": {"AWS:x": "v"}}, 'tags["AWS:x"]', "belong to AWS"),
    ({"tags": {"ezbatch:run": "v"}}, 'tags["ezbatch:run"]', "sets itself"),
    ({"tags": {"k": "\ud800"}}, "tags.k", "surrogate"),
    ({"environment": {"SHELLOPTS": "braceexpand:noexec"}, "preloader": True}, "environment.SHELLOPTS", "run nothing"),
    ({"secrets": {"A": "hunter2"}}, "secrets.A", "never put the secret itself"),
    ({"secrets": {"A": SECRET}, "environment": {"A": "x"}}, "secrets.A", "environment too"),
    ({"secrets": {"AWS_BATCH_A": SECRET}}, "secrets.AWS_BATCH_A", "belong to AWS Batch"),
    ({"mounts": read(source="bucket/k")}, "mounts.read[0].source", "s3://BUCKET/KEY"),
    ({"mounts": read(source="in", destination="s3://bucket/k")}, "mounts.read[0].source", "seem swapped"),
    ({"mounts": read(source="s3://B_D/k")}, "mounts.read[0].source", "3 to 63"),
    ({"mounts": read(source="s3://ab/k")}, "mounts.read[0].source", "3 to 63"),
    ({"mounts": read(source="s3://")}, "mounts.read[0].source", "3 to 63"),
    ({"mounts": read(source="s3://bucket/a/../b")}, "mounts.read[0].source", ".."),
    ({"mounts": read(source="s3://bucket", recursive=False)}, "mounts.read[0].source", "recursive"),
    ({"mounts": read(destination="")}, "mounts.read[0].destination", "is empty"),
    ({"mounts": read(destination="s3://bucket/k")}, "mounts.read[0].destination", "on S3 too"),
    ({"mounts": read(sse="aes")}, "mounts.read[0].sse", "AES256, aws:kms"),
    ({"mounts": read(options="--x 'y")}, "mounts.read[0].options", "Close the quote"),
    ({"mounts": read(destination="a\0")}, "mounts.read[0].source", "NUL"),
    ({"mounts": write(destination="out")}, "mounts.write[0].destination", "s3://BUCKET/KEY"),
    ({"mounts": write(source="")}, "mounts.write[0].source", "is empty"),
    ({"mounts": write(sse_kms_key_id="k")}, "mounts.write[0].sse_kms_key_id", 'sse="aws:kms"'),
    ({"mounts": reads(("s3://bucket/a", "in"), ("s3://bucket/b", "./in"))}, "mounts.read[1].destination", "end with /"),
    ({"mounts": reads(("s3://bucket/a/x", "in/"), ("s3://bucket/b/x", "in/"))}, "mounts.read[1].destination", "in/x"),
    ({"mounts": reads(("s3://bucket/a/", "in"), ("s3://bucket/b", "in"))}, "mounts.read[1].destination", "read[0]"),
    ({"mounts": writes(("a", "s3://bucket/k"), ("b", "s3://bucket/k"))}, "mounts.write[1].destination", "write[0]"),
    ({"mounts": writes(("a/x", "s3://bucket"), ("x", "s3://bucket/"))}, "mounts.write[1].destination", "bucket/x"),
    ({"command": ["x" * 30_000]}, "", "24,576"),
    ({"environment": {"A": "x" * 30_000}}, "", "24,576"),
    ({"array": [{"A": "x" * 100} for _ in range(400)]}, "", "dict of lists"),
    ({"tags": {f"{i:02}": "ü" * 256 for i in range(47)}}, "tags", "30,720"),
]


@pytest.mark.parametrize(
    ("changes", "where", "words"), BROKEN, ids=[f"{i}-{w or 'job'}" for i, (_, w, _) in enumerate(BROKEN)]
)
def test_each_rule_broken_once(changes: dict[str, Any], where: str, words: str) -> None:
    made = job(**changes)
    problems = made.problems()
    assert [problem.where for problem in problems] == [where]
    problem = problems[0]
    assert words in f"{problem.what}. {problem.remedy}"
    assert problem.remedy
    assert not problem.what.endswith(".")
    assert not problem.remedy.endswith(".")
    # The same in a workflow, whose job has a name that needs quotes.
    workflow = EZBatchWorkflow("w", {"fine": job(), "a b": made})
    within = 'jobs["a b"]' + (f".{where}" if where else "")
    assert [(p.where, p.what) for p in workflow.problems()] == [(within, problem.what)]
    with pytest.raises(InvalidWorkflowError, match="1 problem; nothing was submitted"):
        plan(workflow, "queue")


def test_the_whole_workflow_breaks_rules_of_its_own() -> None:
    def places(workflow: EZBatchWorkflow) -> list[str]:
        return [problem.where for problem in workflow.problems()]

    assert places(EZBatchWorkflow("", {"a": job()})) == ["name"]
    assert places(EZBatchWorkflow(" \n", {"a": job()})) == ["name"]
    assert places(EZBatchWorkflow("w", {})) == ["jobs"]
    assert places(EZBatchWorkflow("w", {" ": job()})) == ['jobs[" "]']
    assert places(EZBatchWorkflow("w\udce9", {"a": job()})) == ["name"]
    assert places(EZBatchWorkflow("w", {"a\udce9": job()})) == ['jobs["a\\udce9"]']
    assert places(EZBatchWorkflow("w", {"a": job()}, {"b": []})) == ["dependencies.b"]
    assert places(EZBatchWorkflow("w", {"a": job()}, {"a": ["b"]})) == ["dependencies.a"]
    assert places(EZBatchWorkflow("w", {"a": job()}, {"a": ["a"]})) == ["dependencies"]


def test_everything_wrong_is_told_at_once() -> None:
    workflow = EZBatchWorkflow(
        "w",
        {"one": job(image="a b", vcpus=3, timeout=1), "two": job(**EC2, gpus=0), "three": job()},
        {"two": ["oen"], "thre": ["one"]},
    )
    with pytest.raises(InvalidWorkflowError) as caught:
        workflow.submit(queue="local")
    problems = caught.value.problems
    assert {problem.where for problem in problems} == {
        "jobs.one.image",
        "jobs.one.vcpus",
        "jobs.one.timeout",
        "jobs.two.gpus",
        "dependencies.two",
        "dependencies.thre",
    }
    text = str(caught.value)
    assert "6 problems" in text
    assert "did you mean 'one'?" in text
    assert "did you mean 'three'?" in text
    assert isinstance(caught.value, ValueError)
    assert all(isinstance(problem, Problem) for problem in problems)


def test_many_problems_are_all_there_and_twenty_are_printed() -> None:
    workflow = EZBatchWorkflow("w", {f"j{i}": job(image="") for i in range(50)})
    with pytest.raises(InvalidWorkflowError) as caught:
        plan(workflow)
    assert len(caught.value.problems) == 50
    assert len(str(caught.value).splitlines()) == 22
    assert "30 more" in str(caught.value)


def test_a_cycle_is_printed_as_its_path() -> None:
    jobs = {name: job() for name in "abcde"}
    workflow = EZBatchWorkflow("w", jobs, {"b": ["a"], "c": ["b"], "a": ["c"], "d": ["a"]})
    (problem,) = workflow.problems()
    assert problem.where == "dependencies"
    names = [part.strip("' ") for part in problem.what.split("a cycle: ")[1].split(" (")[0].split("->")]
    assert names[0] == names[-1]
    assert set(names) == {"a", "b", "c"}
    for before, after in itertools.pairwise(names):
        assert before in workflow.dependencies[after]


@pytest.mark.parametrize("vcpus", [*FARGATE, 0.1, 3, 64])
def test_fargates_table_exhaustively(vcpus: float) -> None:
    for memory in [*range(0, 250_000, 512), 249_856, 249_857]:
        problems = job(vcpus=vcpus, memory=memory).problems()
        fits = memory in FARGATE.get(vcpus, [])
        assert [problem.where for problem in problems] == ([] if fits else ["memory" if vcpus in FARGATE else "vcpus"])


@given(st.floats(-1, 100), st.integers(-1, 300_000))
def test_the_nearest_sizes_exist_and_are_near(vcpus: float, memory: int) -> None:
    sizes = nearest_fargate_sizes(vcpus, memory)
    assert 1 <= len(sizes) <= 2
    assert set(sizes) <= set(SIZES)
    enough = [size for size in SIZES if size[0] >= vcpus and size[1] >= memory]
    if enough:
        assert sizes[0] == min(enough)
    if vcpus in FARGATE:
        assert any(size[0] == vcpus for size in sizes)
    if (vcpus, memory) in SIZES:
        assert sizes == [(vcpus, memory)]


@pytest.mark.parametrize(
    "fine",
    [
        {"queue": "arn:aws:batch:eu-west-1:123456789012:job-queue/q"},
        {"queue": "arn:aws-us-gov:batch:us-gov-west-1:123456789012:job-queue/q"},
        {"job_role": ROLE},
        {"job_role": "arn:aws-cn:iam::123456789012:role/path/r"},
        {"secrets": {"A": SECRET, "B": PARAMETER}},
        {"timeout": 60, "retries": 9, "architecture": "ARM64", "storage_size": 200},
        {**EC2, "vcpus": 192, "memory": 10**6, "gpus": 8},
        {"array": 10_000},
        {"array": 1},
        {"array": {"A": list(range(100)), "B": list(range(100))}},
        {"tags": {f"t{i}": "v" * 256 for i in range(47)}},
        {"environment": {"a.b": "x", "É": "x", "EZBATCH_OTHER": "x", "A": "two\nlines ü"}},
        {"image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a/b_c:1.0@sha256:0"},
        {"mounts": read(source="s3://bucket")},
        {"mounts": read(source="s3://bucket", recursive=True)},
        {"mounts": reads(("s3://bucket/a/", "in"), ("s3://bucket/b/", "in"), ("s3://bucket", "in/"))},
        {"mounts": reads(("s3://bucket/a", "in/"), ("s3://bucket/b", "in/"))},
        {"mounts": writes(("a/", "s3://bucket/out"), ("b/", "s3://bucket/out/"), ("c", "s3://bucket/out/"))},
        {"mounts": write(sse="aws:kms", sse_kms_key_id="k")},
        {"mounts": read(source="s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/k")},
        {"command": ["a", "", "b"]},
    ],
)
def test_what_aws_takes_is_not_refused(fine: dict[str, Any]) -> None:
    assert job(**fine).problems() == []
    plan(EZBatchWorkflow("w", {"a": job(**fine)}), "queue")


@given(workflows())
def test_what_the_strategy_makes_is_fine(workflow: EZBatchWorkflow) -> None:
    assert workflow.problems() == []


def test_a_run_is_on_this_machine_or_on_aws() -> None:
    workflow = EZBatchWorkflow("w", {"a": job(queue="local"), "b": job()})
    assert workflow.problems() == []
    with pytest.raises(InvalidWorkflowError, match=r"jobs\.a\.queue"):
        plan(workflow, "queue")
    assert plan(workflow, "local").local
    with pytest.raises(InvalidWorkflowError, match=r"jobs\.b\.queue"):
        plan(EZBatchWorkflow("w", {"a": job(), "b": job(queue="queue")}), "local")
    with pytest.raises(InvalidWorkflowError, match="neither a queue's name nor its ARN"):
        plan(workflow, "a b")


def test_problems_are_plain_data() -> None:
    problem = Problem("jobs.a.memory", "is wrong", "Mend it")
    assert str(problem) == "jobs.a.memory: is wrong. Mend it."
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.where = "x"  # type: ignore[misc]
