"""AWS Batch as a place of the contract suite: the product's own backend, its seconds short, on the AWS rig."""

from __future__ import annotations

import itertools

import pytest

from ezbatch import EZBatchRun, EZBatchWorkflow
from ezbatch.run import runs, submit
from tests.aws.fixtures import shared_rig
from tests.aws.product import QUEUE, Pace, backend_of
from tests.aws.rig import Rig as Account
from tests.contract.rig import Rig, all_processes, environment_of, kill

_numbers = itertools.count()


class AWSRig(Rig):
    """An account of AWS Batch."""

    account: Account
    # All three as AWS Batch, ECS and CloudWatch are.
    cancels_waiting_at_once = False
    keeps_empty_lines = False
    starts_what_is_missing = False

    def submit(self, workflow: EZBatchWorkflow) -> EZBatchRun:
        """Submit by a backend whose seconds are short: at AWS's own pace a test would wait for its turn to look."""
        return submit(workflow, self.queue, settings=self.settings, backend=backend_of(Pace(100)))

    def processes(self, run: EZBatchRun) -> list[int]:
        """Return the processes of a run's jobs, each of which has the id of its own."""
        ids = {view.id for job in self.account.jobs(f"{run.id}-*") for view in (job, *self.account.children(job.id))}
        marks = {f"AWS_BATCH_JOB_ID={job_id}".encode() for job_id in ids}
        return [pid for pid in all_processes() if marks.intersection(environment_of(pid))]

    def finish(self) -> None:
        """End every job; then hold the requests to what AWS accepts."""
        for run in runs(settings=self.settings):
            kill(self.processes(run))
        violations = self.account.take_violations()
        self.account.engine.reset()
        assert not violations, violations


def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    """Return a new account, and point this process and those it starts at it."""
    made = shared_rig()
    made.reset()
    made.queue(QUEUE, max_vcpus=1000)
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    # Another account for ezbatch, whose rate of looking does not depend on the tests before.
    monkeypatch.setenv("AWS_EZBATCH_ACCOUNT", str(next(_numbers)))
    return made
