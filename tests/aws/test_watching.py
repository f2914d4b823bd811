"""Looking at jobs: few calls however many there are, and an end even where AWS no longer knows."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from ezbatch import EZBatchWorkflow, Settings
from ezbatch.aws.backend import AWSBackend
from ezbatch.aws.clients import Clients
from ezbatch.aws.watching import RATE, Watcher
from ezbatch.backend import JobState
from ezbatch.errors import JobFailedError
from ezbatch.ledger import Ledger
from ezbatch.run import EZBatchRun, submit

from .engine import Outcome
from .product import QUEUE, Pace, assert_clean, backend_of, end, eventually, flow, handle, job, start
from .rig import Rig


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class EnoughError(Exception):
    """The watching has lasted long enough."""


def test_a_thousand_live_jobs_take_at_most_sixty_calls_a_minute(rig: Rig) -> None:
    rig.virtual("manual")
    run = start(flow(*(f"j{number}" for number in range(1000))), backend_of(Pace(1000)))
    rig.forget_calls()
    time_ = Time()
    backend = backend_of()
    backend.clients.clock, backend.clients.sleep = time_.clock, time_.sleep
    backend._account = (backend.clients, Watcher(backend.clients))
    backend.poll = type(backend).poll
    ledger = Ledger(Settings.load().state_directory)
    calls: list[float] = []

    def look(_watched: EZBatchRun) -> None:
        # A job ends after every look, so that the pauses between them stay as short as they get.
        calls.extend([time_.now] * (len(rig.calls("DescribeJobs")) - len(calls)))
        rig.finish(f"*-j{len(calls)}")
        if time_.now > 600:
            raise EnoughError

    watched = EZBatchRun(ledger.find(run.id), ledger, backend, sleep=time_.sleep, clock=time_.clock)
    with pytest.raises(EnoughError):
        watched.wait(progress=look)
    busiest = max(sum(1 for at in calls if start_ <= at < start_ + 60) for start_ in calls)
    assert len(calls) > 100
    assert busiest <= 60
    assert all(len(call.body["jobs"]) <= 100 for call in rig.calls("DescribeJobs"))


def test_looks_at_the_queues_of_jobs_that_wait_are_within_the_same_budget(rig: Rig) -> None:
    """Twelve runs whose jobs wait for room, as the live views of one notebook have them."""
    rig.queue("small", max_vcpus=2)
    rig.virtual("manual")
    time_ = Time()
    calls: list[float] = []

    class Timed(Clients):
        def once(self, service: str, method: str, **parameters: object) -> Mapping[str, Any]:
            if method == "describe_jobs":
                calls.append(time_.now)
            return super().once(service, method, **parameters)

    runs = [submit(flow(*"abcde"), "small", progress=False, backend=backend_of()) for _run in range(12)]
    ledger = Ledger(Settings.load().state_directory)
    backend = AWSBackend(Settings.load(), Timed(Settings.load(), time_.sleep, time_.clock))
    watched = [EZBatchRun(ledger.find(run.id), ledger, backend, sleep=time_.sleep, clock=time_.clock) for run in runs]
    looks = 0
    while time_.now < 600:
        for run in watched:
            run.refresh()
        # Now and then nobody looks for a while, so that much may be made up for afterwards.
        looks += 1
        time_.sleep(1.0 if looks % 10 else 30.0)
    assert sum(bool(run.waiting) for run in watched) > 8
    assert max(sum(1 for at in calls if start_ <= at < start_ + 60) for start_ in calls) <= 60


def test_the_pauses_grow_while_nothing_changes(rig: Rig) -> None:
    rig.virtual("manual")
    run = start(flow("a"))
    time_ = Time()
    ledger = Ledger(Settings.load().state_directory)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        time_.sleep(seconds)
        if time_.now > 120:
            raise EnoughError

    backend = backend_of()
    backend.poll = type(backend).poll
    with pytest.raises(EnoughError):
        EZBatchRun(ledger.find(run.id), ledger, backend, sleep=sleep, clock=time_.clock).wait(progress=False)
    assert pauses[0] == 1.0
    assert pauses[1:] == sorted(pauses[1:])
    assert pauses[-1] == 15.0


def test_what_has_ended_is_not_asked_for_again(rig: Rig) -> None:
    rig.virtual("manual")
    run = start(flow("a", "b"))
    rig.wait_for("*", "RUNNING")
    rig.finish("*-a")
    eventually(lambda: run.refresh().jobs["a"].state is JobState.SUCCEEDED)
    rig.forget_calls()
    run.refresh()
    assert [call.body["jobs"] for call in rig.calls("DescribeJobs")] == [[run.jobs["b"].job_id]]
    rig.finish("*-b")
    end(run)
    rig.forget_calls()
    handle(run.id).refresh().wait(progress=False)
    assert rig.calls() == []


def test_several_runs_and_threads_share_the_calls(rig: Rig) -> None:
    rig.virtual("manual")
    backend = backend_of(Pace(1))
    runs = [start(flow(*"abc", name=f"n{number}"), backend) for number in range(10)]
    rig.forget_calls()
    rig.faults.latency = 0.2
    threads = [threading.Thread(target=run.refresh) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # One asks; the nine that came meanwhile are asked for together.
    assert len(rig.calls("DescribeJobs")) <= 3
    assert all(report.created is not None for run in runs for report in run.jobs.values())


def test_an_interrupt_in_one_thread_leaves_the_others_their_answers(rig: Rig) -> None:
    rig.virtual("manual")
    run = start(flow("a"))
    job_id = run.jobs["a"].job_id
    here = threading.Event()
    through = threading.Event()

    class Interrupting(Clients):
        def call(self, service: str, method: str, **parameters: object) -> object:  # type: ignore[override] # a stage
            if threading.current_thread() is threading.main_thread():
                here.set()
                through.wait(10)
                raise KeyboardInterrupt
            return super().call(service, method, **parameters)  # type: ignore[arg-type] # likewise

    watcher = Watcher(Interrupting(Settings.load()))
    answers: list[object] = []

    def other() -> None:
        here.wait(10)
        thread = threading.Thread(target=lambda: answers.append(watcher.look([job_id])))
        thread.start()
        time.sleep(0.1)
        through.set()
        thread.join(20)

    helper = threading.Thread(target=other)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        watcher.look([job_id])
    helper.join()
    (answer,) = answers
    assert list(answer) == [job_id]  # type: ignore[call-overload] # a mapping


@pytest.mark.parametrize("seen", ["RUNNING", "SUCCEEDED"])
def test_a_job_that_aws_has_forgotten_keeps_its_last_state_and_watching_ends(rig: Rig, seen: str) -> None:
    rig.virtual("manual")
    run = start(flow("a", "b"))
    rig.wait_for("*", "RUNNING")
    if seen == "SUCCEEDED":
        rig.finish("*-a")
        rig.wait_for("*-a", "SUCCEEDED")
    run.refresh()
    rig.finish()
    rig.wait_idle()
    rig.forget(run.jobs["a"].job_id)
    again = end(handle(run.id))
    report = again.jobs["a"]
    assert report.state.value == seen
    assert again.jobs["b"].state is JobState.SUCCEEDED
    if seen == "SUCCEEDED":
        assert (again.state, report.forgotten) == ("SUCCEEDED", False)
    else:
        assert (again.state, report.forgotten) == ("FAILED", True)
        assert report.reason == "ezbatch no longer knows it; it was last seen RUNNING"
        with pytest.raises(JobFailedError, match=r"how 1 jobs of run .* ended is not known"):
            again.raise_for_status()
        rig.virtual(0.0)
        retried = end(again.retry())
        assert (retried.state, list(retried.jobs)) == ("SUCCEEDED", ["a"])
        assert handle(run.id).jobs["a"].forgotten, "the ledger keeps that, too"
    assert_clean(rig)


def test_a_run_that_was_never_looked_at_before_aws_forgot_it_ends(rig: Rig) -> None:
    run = start(flow("a"))
    rig.wait_idle()
    rig.forget(run.jobs["a"].job_id)
    ledger = Ledger(Settings.load().state_directory)
    # A moment ago it could be that AWS does not show it yet; a fortnight ago it cannot.
    assert handle(run.id).refresh().refresh().refresh().refresh().state == "RUNNING"
    with ledger._writing():
        ledger._db.execute("UPDATE runs SET created = created - 1209600")
    again = end(handle(run.id))
    assert (again.state, again.jobs["a"].forgotten) == ("FAILED", True)
    assert_clean(rig)


def test_a_job_that_does_not_show_yet_is_not_forgotten(rig: Rig) -> None:
    rig.options.list_lag = 0.5
    run = start(flow("a"))
    for _look in range(5):
        assert run.refresh().jobs["a"].state is JobState.SUBMITTED
    assert end(run).state == "SUCCEEDED"


def test_waiting_goes_on_while_the_network_is_away(rig: Rig) -> None:
    rig.virtual(0.0)
    run = start(flow("a"))
    rig.faults.script("DescribeJobs", *["reset"] * 30)
    assert end(handle(run.id, backend_of(Pace(200)))).state == "SUCCEEDED"


def test_reasons_codes_and_times_of_every_attempt(rig: Rig) -> None:
    fate = {1: Outcome(0.01, 137, "OutOfMemoryError: Container killed due to memory usage"), 2: Outcome(0.01, 0)}
    rig.virtual(lambda one: fate[one.attempt])
    run = end(start(EZBatchWorkflow("w", {"a": job(retries=1)})))
    first, second = run.jobs["a"].attempts
    assert (first.number, first.exit_code, second.exit_code) == (1, 137, 0)
    assert "OutOfMemory" in first.reason
    assert first.started is not None
    assert first.stopped is not None
    assert second.started is not None
    assert first.started <= first.stopped <= second.started
    assert run.jobs["a"].reason == ""


def test_the_budget_of_looks() -> None:
    assert RATE * 60 <= 45


def test_a_right_that_is_missing_keeps_no_run_from_its_end(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    run = start(flow("a"))
    rig.wait_idle()
    for definition in rig.definitions("ACTIVE"):
        rig.client("batch").deregister_job_definition(jobDefinition=definition["jobDefinitionArn"])
    assert end(run).state == "SUCCEEDED"
    assert "stay" not in caplog.text
    assert run.queue == QUEUE
