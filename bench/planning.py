"""Planning beside graphlib alone over the same graph."""

from __future__ import annotations

import graphlib
import random
from collections.abc import Iterator

from bench.row import Row, seconds
from ezbatch import EZBatchJob, EZBatchWorkflow, plan


def layered(jobs: int, edges: int) -> EZBatchWorkflow:
    """Return a workflow in which jobs depend on random earlier ones."""
    choose = random.Random(7)
    made = {f"job-{i}": EZBatchJob("busybox:1", f"echo {i}", {"N": str(i)}) for i in range(jobs)}
    after: dict[str, list[str]] = {}
    each = edges // jobs
    for i in range(1, jobs):
        parents = {choose.randrange(max(0, i - 1000), i) for _ in range(each)}
        after[f"job-{i}"] = [f"job-{parent}" for parent in sorted(parents)]
    return EZBatchWorkflow("layered", made, after)


def chain(jobs: int) -> EZBatchWorkflow:
    """Return a chain, declared from its end."""
    made = {f"job-{i}": EZBatchJob("busybox:1", "true") for i in reversed(range(jobs))}
    return EZBatchWorkflow("chain", made, {f"job-{i}": [f"job-{i - 1}"] for i in reversed(range(1, jobs))})


def _order(workflow: EZBatchWorkflow) -> None:
    graph = dict.fromkeys(workflow.jobs, ()) | {name: tuple(parents) for name, parents in workflow.dependencies.items()}
    list(graphlib.TopologicalSorter(graph).static_order())


def rows() -> Iterator[Row]:
    """Yield the rows."""
    for what, workflow in (
        ("100,000 jobs, 500,000 edges", layered(100_000, 500_000)),
        ("a chain of 100,000, declared in reverse", chain(100_000)),
    ):
        theirs = seconds(lambda workflow=workflow: _order(workflow))  # type: ignore[misc]
        ours = seconds(lambda workflow=workflow: plan(workflow))  # type: ignore[misc]
        yield Row(f"plan {what} / graphlib alone", ours, theirs, 10)
    fan = {f"p{i}": EZBatchJob("busybox:1", "true") for i in range(10_000)}
    workflow = EZBatchWorkflow("fan", {**fan, "end": EZBatchJob("busybox:1", "true")}, {"end": list(fan)})
    made = plan(workflow)
    yield Row("jobs planned for a fan-in of 10,000 / jobs asked for", len(made.jobs), len(workflow.jobs), unit="")
