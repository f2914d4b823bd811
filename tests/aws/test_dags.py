"""Jobs with more parents than AWS Batch takes: they are submitted through joins, and run in the right order."""

from __future__ import annotations

import pytest

from ezbatch import EZBatchWorkflow

from .product import Pace, assert_clean, backend_of, end, job, start
from .rig import Rig


@pytest.mark.parametrize("parents", [21, 400, 1_000, pytest.param(8_000, marks=pytest.mark.soak)])
def test_many_parents(rig: Rig, parents: int) -> None:
    rig.virtual(0.0)
    names = [f"p{number}" for number in range(parents)]
    workflow = EZBatchWorkflow("fan", {**dict.fromkeys(names, job()), "end": job(), "after": job()})
    workflow.dependencies.update({"end": names, "after": ["end"]})
    run = start(workflow, backend_of(Pace(1000)))
    submitted = [len(call.body.get("dependsOn", ())) for call in rig.calls("SubmitJob")]
    assert max(submitted) <= 20
    # The fewest joins there can be: each makes of 20 parents one.
    assert len(submitted) - len(workflow.jobs) == -(-(parents - 20) // 19)
    assert end(run).state == "SUCCEEDED"
    ended = max(view.stopped_at or 0 for view in rig.jobs(f"{run.id}-p*"))
    assert ended <= (rig.job(run.jobs["end"].job_id).started_at or 0)
    assert (rig.job(run.jobs["end"].job_id).stopped_at or 0) <= (rig.job(run.jobs["after"].job_id).started_at or 0)
    assert set(run.jobs) == set(workflow.jobs)
    assert_clean(rig)


def test_one_of_many_parents_that_fails_blocks_what_waits_for_it(rig: Rig) -> None:
    names = [f"p{number}" for number in range(50)]
    jobs = {**dict.fromkeys(names, job()), "end": job(), "p33": job("false")}
    run = end(start(EZBatchWorkflow("fan", jobs, {"end": names})))
    assert run.state == "FAILED"
    assert run.jobs["end"].state.value == "BLOCKED"
    assert "p33" in run.jobs["end"].reason
    assert_clean(rig)
