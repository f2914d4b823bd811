"""What is wrong with a queue is listed at once, before anything is written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ezbatch import EZBatchWorkflow
from ezbatch.errors import InvalidWorkflowError

from .product import QUEUE, backend_of, flow, job
from .rig import Rig

READS = {"DescribeJobQueues", "DescribeComputeEnvironments"}


def refused(workflow: EZBatchWorkflow, queue: str = QUEUE) -> list[str]:
    with pytest.raises(InvalidWorkflowError) as caught:
        workflow.submit(queue, backend=backend_of())
    return [str(problem) for problem in caught.value.problems]


def one_line(problems: list[str]) -> str:
    (line,) = problems
    return line


@pytest.fixture(autouse=True)
def nothing_was_written(rig: Rig) -> Iterator[None]:
    yield
    assert set(rig.counts()) <= READS


def test_a_queue_that_is_disabled(rig: Rig) -> None:
    rig.queue("off", state="DISABLED")
    assert "queue 'off' is disabled. Enable it" in one_line(refused(flow("a"), "off"))


def test_a_queue_that_is_not_valid(rig: Rig) -> None:
    rig.queue("bad")
    rig.set_queue("bad", status="INVALID")
    assert "queue 'bad' is INVALID" in one_line(refused(flow("a"), "bad"))


def test_no_compute_environment_that_works(rig: Rig) -> None:
    rig.set_environment(QUEUE, state="DISABLED")
    assert "no working compute environment: ezbatch-ce is disabled. Enable" in one_line(refused(flow("a")))
    rig.set_environment(QUEUE, state="ENABLED", invalid="the service role is gone")
    assert "ezbatch-ce is enabled and invalid (the service role is gone)" in one_line(refused(flow("a")))


def test_a_platform_that_the_queue_does_not_have(rig: Rig) -> None:
    rig.queue("metal", platform="EC2")
    line = one_line(refused(flow("a"), "metal"))
    assert "jobs.a.platform: queue 'metal' runs EC2 jobs; this one is for FARGATE. Set platform to EC2" in line


def test_a_job_that_never_fits(rig: Rig) -> None:
    rig.set_capacity(QUEUE, 8)
    workflow = EZBatchWorkflow("big", {"small": job(), "big": job(vcpus=16, memory=32768)})
    line = one_line(refused(workflow))
    assert "jobs.big.vcpus: 16 vCPU are more than queue 'ezbatch' can ever give (8)" in line


def test_everything_is_listed_at_once_in_few_calls(rig: Rig) -> None:
    rig.queue("off", state="DISABLED")
    rig.queue("metal", platform="EC2")
    rig.set_capacity(QUEUE, 1)
    jobs = {f"j{number}": job() for number in range(30)}
    jobs |= {
        "big": job(vcpus=2, memory=4096),
        "lost": job(queue="nowhere"),
        "off": job(queue="off"),
        "metal": job(queue="metal"),
        "big-too": job(vcpus=4, memory=8192),
    }
    problems = refused(EZBatchWorkflow("all", jobs))
    assert len(problems) == 5, problems
    for word in ("'nowhere'", "'off' is disabled", "jobs.metal.platform", "jobs.big.vcpus", "jobs.big-too.vcpus"):
        assert any(word in problem for problem in problems), word
    # One more than usual: the names of the queues that there are.
    assert rig.counts() == {"DescribeJobQueues": 2, "DescribeComputeEnvironments": 1}


def test_a_queue_by_its_arn(rig: Rig) -> None:
    rig.set_capacity(QUEUE, 0.25)
    workflow = EZBatchWorkflow("big", {"big": job(vcpus=1, memory=2048)})
    assert "jobs.big.vcpus" in one_line(refused(workflow, rig.queue_arn(QUEUE)))
    assert backend_of().queues()[0].name == QUEUE
