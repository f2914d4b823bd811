"""Workflows of known shapes, and runs of them whose every step a test decides."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import cast

from ezbatch.backend import Attempt, Backend, JobReport, JobState, LogEvent
from ezbatch.errors import Problem
from ezbatch.ledger import Ledger, RunRecord
from ezbatch.planning import Plan, plan
from ezbatch.run import RUNNING, EZBatchRun
from ezbatch.workflow import EZBatchJob, EZBatchWorkflow

START = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


def job(**fields: object) -> EZBatchJob:
    """A job that does nothing."""
    return EZBatchJob("busybox", "true", **fields)  # type: ignore[arg-type]


def workflow(dependencies: Mapping[str, Sequence[str]], name: str = "shape", **arrays: int) -> EZBatchWorkflow:
    """A workflow of the jobs that a map of dependencies names."""
    names = dict.fromkeys(itertools.chain(dependencies, *dependencies.values()))
    jobs = {each: job(array=arrays.get(each)) for each in names}
    return EZBatchWorkflow(name, jobs, {each: list(parents) for each, parents in dependencies.items() if parents})


def chain(length: int) -> EZBatchWorkflow:
    """Jobs one after the other."""
    return workflow({f"step {i:04}": [f"step {i - 1:04}"] if i else [] for i in range(length)}, "chain")


def fan(width: int) -> EZBatchWorkflow:
    """One job, many after it, and one that waits for them all."""
    middle = [f"part-{i:03}" for i in range(width)]
    return workflow({"first": [], **{name: ["first"] for name in middle}, "last": middle}, "fan")


def diamond() -> EZBatchWorkflow:
    """Two ways from one job to another."""
    return workflow({"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}, "diamond")


def layers(count: int, width: int) -> EZBatchWorkflow:
    """Layers of jobs with names that are all unlike, each waiting for two of the layer above."""
    word = "abcdefghijklmnopqrstuvwxyz"
    name = [
        [f"{word[i % 26]}{word[i // 26]} {word[k % 26]}{word[k // 26]}" for k in range(width)] for i in range(count)
    ]
    above = {
        name[i][k]: [name[i - 1][k], name[i - 1][(k + 1) % width]] if i else []
        for i in range(count)
        for k in range(width)
    }
    return workflow(above, "layers")


def cohort() -> EZBatchWorkflow:
    """The workflow of the pictures: twelve jobs, one of them an array of 500."""
    above = {
        "fetch-reference": [],
        "fetch-reads": [],
        "split-intervals": ["fetch-reference"],
        "index-bwa": ["fetch-reference"],
        "vep-cache": ["fetch-reference"],
        "fastqc": ["fetch-reads"],
        "classify-taxa": ["fetch-reads"],
        "align": ["index-bwa", "fetch-reads"],
        "taxa-report": ["classify-taxa"],
        "joint-call": ["split-intervals", "align"],
        "multiqc": ["align", "fastqc"],
        "annotate": ["vep-cache", "joint-call"],
    }
    return workflow(above, "cohort-wgs", align=500)


def report(
    name: str, state: str, *, seconds: float = 60, exit_code: int | None = None, reason: str = "", **more: object
) -> JobReport:
    """A report of a job in a state, with the times that go with it."""
    known = JobState(state)
    begun = state in ("RUNNING", "SUCCEEDED", "FAILED") and not more.get("children")
    stopped = START + timedelta(seconds=seconds) if known.terminal and begun else None
    code = 0 if state == "SUCCEEDED" else exit_code
    attempts = (Attempt(1, START, stopped, code, reason),) if begun else ()
    made = JobReport(
        name,
        f"id-{name}",
        known,
        attempts,
        code,
        reason,
        START - timedelta(seconds=5),
        START if begun else None,
        stopped,
    )
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


def cohort_reports() -> dict[str, JobReport]:
    """The states of the pictures."""
    done = ("fetch-reference", "fetch-reads", "split-intervals", "index-bwa", "fastqc")
    children = {JobState.SUCCEEDED: 371, JobState.RUNNING: 64, JobState.RUNNABLE: 65}
    oom = "OutOfMemoryError: Container killed due to memory usage"
    found = [
        *(report(name, "SUCCEEDED", seconds=60 * (i + 1)) for i, name in enumerate(done)),
        report("classify-taxa", "FAILED", exit_code=137, reason=oom),
        report("taxa-report", "BLOCKED", reason="Dependent Job failed: classify-taxa"),
        report("align", "RUNNING", children=children),
        report("vep-cache", "RUNNABLE"),
        *(report(name, "PENDING") for name in ("joint-call", "multiqc", "annotate")),
    ]
    return {each.name: each for each in found}


class Stage:
    """A backend that reports what the test says, and does nothing."""

    poll = (0.01, 0.05)

    def __init__(self) -> None:
        self.reports: dict[str, JobReport] = {}
        self.lines: dict[str, list[str]] = {}
        self.cancelled: list[str] = []
        self.looks = 0

    def put(self, *reports: JobReport) -> None:
        """Let jobs be in another state from now on."""
        self.reports = {**self.reports, **{each.name: each for each in reports}}

    def notes(self, plan: Plan) -> list[str]:  # noqa: ARG002 - the protocol's signature, as all below
        return ["On this machine, 2 vCPU; on a stage"]

    def preflight(self, plan: Plan) -> list[Problem]:  # noqa: ARG002
        return []

    def submit(
        self,
        run_id: str,  # noqa: ARG002
        plan: Plan,
        accepted: Mapping[str, str],  # noqa: ARG002
        record: Callable[[Mapping[str, str]], None],
    ) -> None:
        record({each.name: f"id-{each.name}" for each in plan.jobs})

    def describe(self, run_id: str, job_ids: Mapping[str, str]) -> dict[str, JobReport]:  # noqa: ARG002
        self.looks += 1
        return {name: self.reports[name] for name in job_ids if name in self.reports}

    def spans(self, run_id: str, job_id: str) -> list[tuple[datetime, datetime | None]]:  # noqa: ARG002
        return []

    def child(self, run_id: str, job_id: str, name: str, index: int) -> JobReport:  # noqa: ARG002
        return report(name, "RUNNING")

    def failed_children(self, run_id: str, job_id: str) -> list[int]:  # noqa: ARG002
        return [3]

    def cancel(self, run_id: str, job_ids: Collection[str], reason: str) -> None:  # noqa: ARG002
        self.cancelled += job_ids
        ends = [each for each in self.reports.values() if not each.state.terminal]
        self.put(*(report(each.name, "FAILED", reason=f"cancelled: {reason}", cancelled=True) for each in ends))

    def log(
        self,
        run_id: str,  # noqa: ARG002
        report: JobReport,
        attempt: int,
        cursor: object = None,
        last: int | None = None,
    ) -> tuple[list[LogEvent], object]:
        start = 0 if last is None else max(len(self.lines.get(report.name, [])) - last, 0)
        begin = cursor if isinstance(cursor, int) else start
        lines = self.lines.get(report.name, [])[begin : begin + 1000]
        return [LogEvent(START, report.name, attempt, line) for line in lines], begin + len(lines)

    def find(self, run_id: str, plan: Plan, known: Mapping[str, str]) -> dict[str, str]:  # noqa: ARG002
        return {}

    def interruption(self, run_id: str) -> str:  # noqa: ARG002
        return ""

    def resume(self, run_id: str) -> None:
        """Nothing stands still."""

    def finish(self, run_id: str, plan: Plan) -> None:
        """Nothing was taken."""


@functools.cache
def _ledgers() -> str:
    """A directory for ledgers that goes when this process does."""
    directory = tempfile.mkdtemp(prefix="ez-", dir="/tmp")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def staged(flow: EZBatchWorkflow, *reports: JobReport, queue: str = "local") -> tuple[EZBatchRun, Stage]:
    """A run of a workflow on a stage, every job of it pending where no report says otherwise."""
    made = plan(flow, queue)
    stage = Stage()
    stage.put(*(report(each.name, "PENDING") for each in made.jobs), *reports)
    ledger = Ledger(Path(tempfile.mkdtemp(dir=_ledgers())))
    record = RunRecord("shape-abc234", flow.name, queue, RUNNING, START.timestamp(), None, None, None)
    ledger.add(record, json.dumps(flow.to_dict()), made.to_json())
    ledger.accepted(record.id, {each.name: f"id-{each.name}" for each in made.jobs})
    # What it lacks of the protocol, no view asks for.
    return EZBatchRun(record, ledger, cast("Backend", stage), plan=made), stage
