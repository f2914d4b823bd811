"""Jobs that wait in vain: told without a call, cancelled only after a dwell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ezbatch import EZBatchRun
from ezbatch.aws.backend import AWSBackend
from ezbatch.aws.clients import Clients
from ezbatch.backend import JobReport, JobState
from ezbatch.errors import BackendError, WaitTimeoutError
from ezbatch.explain import Explanation
from ezbatch.ledger import Ledger
from ezbatch.settings import Settings
from ezbatch.stuck import StuckJobs
from tests.aws.rig import Rig
from tests.explain.conftest import Submit, Time, job

TOO_BIG = "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - too big"
STUCK = {"a": Explanation("c", stuck=True)}


def test_one_look_is_never_enough() -> None:
    watch = StuckJobs()
    assert watch.see(0, STUCK) == {}
    assert watch.see(599, STUCK) == {}
    assert watch.see(600, STUCK) == STUCK
    late = StuckJobs()
    assert late.see(5000, STUCK) == {}


def test_a_job_that_was_well_between_starts_anew() -> None:
    watch = StuckJobs()
    watch.see(0, STUCK)
    watch.see(500, {})
    assert watch.see(700, STUCK) == {}
    assert watch.see(1299, STUCK) == {}
    assert watch.see(1300, STUCK) == STUCK


def test_waiting_cancels_what_is_stuck_after_ten_minutes_and_nothing_else(
    aws_env: Rig, submit: Submit, time: Time
) -> None:
    aws_env.queue()
    aws_env.block("ezbatch", TOO_BIG)
    run = submit({"a": job(), "b": job()})
    with pytest.raises(WaitTimeoutError):
        run.wait(500, progress=False, cancel_stuck=True)
    assert {report.state for report in run.jobs.values()} == {JobState.RUNNABLE}
    began = time.now
    with pytest.raises(WaitTimeoutError):
        run.wait(900, progress=False, cancel_stuck=True)
    assert time.now - began >= 600
    states = {name: report.state for name, report in run.jobs.items()}
    # The one behind it was only behind it; as the head it starts to count anew.
    assert sorted(state.value for state in states.values()) == ["FAILED", "RUNNABLE"]
    gone = next(name for name, state in states.items() if state is JobState.FAILED)
    assert "stuck for 10 minutes" in run.jobs[gone].reason
    assert TOO_BIG in run.jobs[gone].reason


def test_a_job_that_is_only_queued_is_never_cancelled(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue()
    aws_env.hold("RUNNABLE")
    run = submit({"a": job()})
    assert run.cancel_stuck() == {}
    with pytest.raises(WaitTimeoutError):
        run.wait(1300, progress=False, cancel_stuck=True)
    assert run.jobs["a"].state is JobState.RUNNABLE


def test_cancel_stuck_tells_first_and_waits(aws_env: Rig, submit: Submit, time: Time) -> None:
    aws_env.queue()
    aws_env.block("ezbatch", TOO_BIG)
    run = submit({"a": job()})
    told: list[tuple[float, list[str]]] = []
    began = time.now
    gone = run.cancel_stuck(lambda suspects: told.append((time.now - began, list(suspects))))
    assert list(gone) == ["a"]
    ((at, names),) = told
    assert names == ["a"]
    assert at <= 1, "at the first look, which may wait a second for its turn"
    assert 600 <= time.now - began < 700


def test_properties_and_reprs_never_call_and_refresh_looks_once_a_minute(
    aws_env: Rig, submit: Submit, time: Time
) -> None:
    aws_env.queue()
    aws_env.block("ezbatch", TOO_BIG)
    run = submit({"a": job(), "b": job()})
    aws_env.forget_calls()
    assert run.explain("b", look=False).cause == "It waits for room"
    assert aws_env.calls() == []
    run.refresh()
    assert aws_env.calls("GetJobQueueSnapshot") == []  # nobody has waited for long
    for _look in range(20):
        time.sleep(15)
        run.refresh()
    assert 2 <= len(aws_env.calls("GetJobQueueSnapshot")) <= 4
    aws_env.forget_calls()
    texts = [str(run.explain(name, look=False)) for name in ("a", "b")]
    assert any("queued behind" in text for text in texts)
    assert aws_env.calls() == []


class Counting(EZBatchRun):
    """A run that counts how often its reports are put together, which takes as long as it has jobs."""

    gathered = 0

    def _reports(self) -> dict[str, JobReport]:
        self.gathered += 1
        return super()._reports()


def test_explaining_many_jobs_takes_no_longer_for_each(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue()
    aws_env.hold("RUNNABLE")
    counts = []
    for size in (3, 30):
        run = submit({f"j{n}": job() for n in range(size)})
        settings = Settings.load()
        ledger = Ledger(settings.state_directory)
        many = Counting(ledger.find(run.id), ledger, AWSBackend(settings), settings=settings)
        many.refresh()
        many.gathered = 0
        assert len(many.stuck()) == len(many.waiting) == size
        counts.append(many.gathered)
    assert counts[0] == counts[1]


class Forbidden(Clients):
    """Clients whose credentials may not make some calls."""

    calls: tuple[str, ...] = ("get_job_queue_snapshot", "get_service_quota")

    def once(self, service: str, method: str, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401 - the calls' own
        if method in self.calls:
            raise BackendError(f"the credentials lack the right to {service}:{method}: no. Ask for it.")
        return super().once(service, method, **parameters)


def test_what_may_not_be_looked_at_is_said(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue()
    aws_env.hold("RUNNABLE")
    run = submit({"a": job()})
    settings = Settings.load()
    ledger = Ledger(settings.state_directory)
    blind = EZBatchRun(ledger.find(run.id), ledger, AWSBackend(settings, Forbidden(settings)), settings=settings)
    found = blind.refresh().explain("a")
    assert found.cause == "Why it waits is not known"
    assert "not seen: the order of its jobs (the credentials lack the right" in found.evidence
    assert "the vCPU quota (" in found.evidence
    assert not found.stuck
