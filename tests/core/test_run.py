"""The run's handle over what the ledger holds, where no place that runs jobs can be asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from ezbatch import (
    EZBatchJob,
    EZBatchRun,
    EZBatchWorkflow,
    JobFailedError,
    JobReport,
    JobState,
    Settings,
    plan,
    runs,
)
from ezbatch.ledger import Ledger, RunRecord
from ezbatch.progress import counts_text

PARENTS = [f"p{i}" for i in range(30)]


def remembered(directory: Path, states: dict[str, tuple[JobState, str]], state: str) -> EZBatchRun:
    """A run of 30 jobs, a join and one more, as the ledger holds it."""
    jobs = dict.fromkeys([*PARENTS, "end"], EZBatchJob("i", ["true"]))
    workflow = EZBatchWorkflow("w", jobs, {"end": PARENTS})
    made = plan(workflow, "queue")
    ledger = Ledger(directory)
    record = RunRecord("w-aaaaaa", "w", "queue", state, 1.0, 2.0, None, None)
    ledger.add(record, workflow.to_json(), made.to_json())
    ledger.accepted(record.id, {job.name: f"id-{job.slug}" for job in made.jobs})
    reports = []
    for job in made.jobs:
        found, reason = states["join" if job.join else job.name if job.name in states else "others"]
        reports.append(JobReport(job.name, f"id-{job.slug}", found, reason=reason, exit_code=None))
    ledger.seen(record.id, reports)
    return EZBatchRun(record, ledger)


def test_a_join_that_failed_is_told_though_joins_are_not_shown(tmp_path: Path) -> None:
    why = "CannotPullContainerError: busybox: pull access denied"
    run = remembered(
        tmp_path,
        {
            "others": (JobState.SUCCEEDED, ""),
            "join": (JobState.FAILED, why),
            "end": (JobState.BLOCKED, "Dependent Job failed"),
        },
        "FAILED",
    )
    assert not any("join" in name for name in run.jobs)
    with pytest.raises(JobFailedError) as caught:
        run.raise_for_status()
    assert "pull access denied" in str(caught.value)
    assert "1 could not start" in str(caught.value)
    assert "pulled" in str(run.explain())


def test_jobs_that_wait_or_were_only_accepted_explain_themselves(tmp_path: Path) -> None:
    run = remembered(
        tmp_path,
        {"others": (JobState.RUNNING, ""), "join": (JobState.PENDING, ""), "end": (JobState.PENDING, "")},
        "RUNNING",
    )
    assert str(run.explain()).startswith("p0: It runs")
    assert "waits for other jobs (p" in str(run.explain("end"))
    assert "and 25 more" in str(run.explain("end"))
    assert run.raise_for_status() is run


def test_jobs_that_were_never_submitted_are_in_no_state(tmp_path: Path) -> None:
    jobs = dict.fromkeys([*PARENTS, "end"], EZBatchJob("i", ["true"]))
    workflow = EZBatchWorkflow("w", jobs, {"end": PARENTS})
    made = plan(workflow, "queue")
    ledger = Ledger(tmp_path)
    record = RunRecord("w-aaaaaa", "w", "queue", "SUBMITTING", 1.0, None, None, None)
    ledger.add(record, workflow.to_json(), made.to_json())
    ledger.accepted(record.id, {name: f"id-{name}" for name in PARENTS[:10]})
    run = EZBatchRun(record, ledger).refresh()
    assert run.state == "INTERRUPTED"
    assert run.counts == {JobState.SUBMITTED: 10}
    assert run.unsubmitted == 21
    assert counts_text(run).endswith("10 submitted  · 21 not submitted")
    assert run.report("end").reason == "it is not submitted yet"
    ledger.update(record.id, state="CANCELLED", finished=2.0, cancelled="it could not be submitted")
    [run] = runs(settings=Settings(state_directory=tmp_path))
    assert run.counts == {JobState.SUBMITTED: 10}, "what was never handed over has not failed"
    assert run.report("end").reason == "it was never submitted"


def test_a_job_that_aws_calls_blocked_says_by_which_also_when_asked_alone(tmp_path: Path) -> None:
    run = remembered(
        tmp_path,
        {
            "others": (JobState.FAILED, "Essential container in task exited"),
            "join": (JobState.BLOCKED, "Dependent Job failed"),
            "end": (JobState.BLOCKED, "Dependent Job failed"),
        },
        "FAILED",
    )
    assert run.report("end") == run.jobs["end"]
    assert run.report("end").reason.startswith("Dependent Job failed: p")
