"""Handing workflows over to AWS Batch, on the rig of the tests, at 40 ms a call and 50 SubmitJob a second."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.row import Row
from ezbatch import EZBatchJob, EZBatchRun, EZBatchWorkflow, Settings
from ezbatch.run import submit
from tests.aws.rig import Rig

LATENCY, RATE = 0.04, 50.0


def job(**more: object) -> EZBatchJob:
    """Return a job of the smallest size."""
    return EZBatchJob("busybox", "true", vcpus=0.25, memory=512, **more)  # type: ignore[arg-type] # a row's own


def timed(rig: Rig, workflow: EZBatchWorkflow) -> tuple[EZBatchRun, float, int]:
    """Submit, and return the run, the seconds and the calls."""
    rig.forget_calls()
    began = time.perf_counter()
    run = submit(workflow, "bench", progress=False)
    taken = time.perf_counter() - began
    assert not rig.violations, rig.violations
    assert rig.duplicates() == {}
    return run, taken, sum(rig.counts().values())


def naive(rig: Rig, count: int) -> tuple[float, int]:
    """Submit as ezbatch 0.1.0 does: a definition for each job, one call after the other, botocore's own retries."""
    rig.forget_calls()
    batch = rig.client("batch", retries={"mode": "standard", "total_max_attempts": 5})
    began = time.perf_counter()
    for number in range(count):
        container = {
            "image": "busybox",
            "command": ["true"],
            "executionRoleArn": rig.execution_role,
            "resourceRequirements": [{"type": "VCPU", "value": "0.25"}, {"type": "MEMORY", "value": "512"}],
        }
        made = batch.register_job_definition(
            jobDefinitionName=f"naive-{number}",
            type="container",
            platformCapabilities=["FARGATE"],
            containerProperties=container,
        )
        arn = made["jobDefinitionArn"]
        job_id = batch.submit_job(jobName=f"naive-{number}", jobQueue="bench", jobDefinition=arn)["jobId"]
        batch.describe_jobs(jobs=[job_id])
        batch.describe_job_definitions(jobDefinitions=[arn])
        batch.describe_job_queues(jobQueues=["bench"])
    return time.perf_counter() - began, sum(rig.counts().values())


def rows() -> Iterator[Row]:
    """Yield the rows."""
    with tempfile.TemporaryDirectory() as folder, Rig() as rig:
        os.environ.update(rig.env)
        os.environ["EZBATCH_STATE_DIR"] = folder
        os.environ["EZBATCH_CONFIG"] = str(Path(folder) / "none.toml")
        assert Settings.load().state_directory == Path(folder)
        rig.queue("bench", max_vcpus=100_000)
        rig.virtual(0.0)
        rig.faults.latency, rig.faults.submit_rate = LATENCY, RATE
        submit(EZBatchWorkflow("warm", {"a": job()}), "bench", progress=False)  # makes the SDK's clients

        _run, taken, calls = timed(rig, EZBatchWorkflow("independent", {f"j{n}": job() for n in range(500)}))
        peak = rig.peak_rate()
        yield Row("500 independent jobs, submitted / what 50 a second allow", taken, 500 / RATE, 1.15)
        yield Row("  their calls / their jobs", calls, 500, 1.1, unit="")
        yield Row("  SubmitJob in the busiest second / 50", peak, RATE, unit="")
        seconds, theirs = naive(rig, 50)
        yield Row("  the same / five calls a job, one by one (50 of them x 10)", taken, 10 * seconds)
        yield Row("  calls / five calls a job", calls, 10 * theirs, unit="")

        links = {f"j{n}": [f"j{n - 1}"] for n in range(1, 150)}
        _run, taken, calls = timed(rig, EZBatchWorkflow("chain", {f"j{n}": job() for n in range(150)}, links))
        yield Row("a chain of 150 jobs / 150 x 40 ms", taken, 150 * LATENCY, 1.2)

        _run, taken, calls = timed(rig, EZBatchWorkflow("array", {"a": job(array=10_000)}))
        yield Row("an array of 10,000: calls / 5", calls, 5, 1, unit="")
        yield Row("  submitted / 5 x 40 ms", taken, 5 * LATENCY)

        rig.faults.submit_rate = None
        names = [f"p{n}" for n in range(1_000)]
        fan = EZBatchWorkflow("fan", {**dict.fromkeys(names, job()), "end": job()}, {"end": names})
        _run, taken, _calls = timed(rig, fan)
        most = max(len(call.body.get("dependsOn", ())) for call in rig.calls("SubmitJob"))
        yield Row("a job with 1,000 parents: dependencies of a request / 20", most, 20, 1, unit="")

        # Watching, on a clock that moves when somebody sleeps.
        rig.faults.latency = 0
        yield Row("1,000 live jobs: DescribeJobs in the busiest minute / 60", _busiest_minute(rig), 60, 1, unit="")


class _EnoughError(Exception):
    pass


def _busiest_minute(rig: Rig) -> int:
    from ezbatch.aws.backend import AWSBackend
    from ezbatch.aws.clients import Clients

    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    rig.virtual("manual")
    settings = Settings.load()
    backend = AWSBackend(settings, Clients(settings, sleep, lambda: now[0]))
    workflow = EZBatchWorkflow("live", {f"j{n}": job() for n in range(1_000)})
    run = submit(workflow, "bench", backend=backend, progress=False)
    watched = EZBatchRun(run._record, run._ledger, backend, sleep=sleep, clock=lambda: now[0])  # noqa: SLF001 - its time is ours
    calls: list[float] = []
    rig.forget_calls()

    def look(_run: EZBatchRun) -> None:
        calls.extend([now[0]] * (len(rig.calls("DescribeJobs")) - len(calls)))
        rig.finish(f"*-j{len(calls)}")
        if calls and now[0] - calls[0] > 300:  # noqa: PLR2004 - five minutes
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        watched.wait(progress=look)
    return max(sum(1 for at in calls if first <= at < first + 60) for first in calls)
