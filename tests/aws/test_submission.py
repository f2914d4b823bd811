"""Every job is handed over exactly once, whatever becomes of answers, networks and people's patience."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping

import pytest

from ezbatch import EZBatchRun, EZBatchWorkflow, Settings
from ezbatch.aws import requests
from ezbatch.aws.clients import SUBMIT_BURST, SUBMIT_RATE, Limiter
from ezbatch.errors import RunInterruptedError, SubmissionError
from ezbatch.ledger import Ledger
from ezbatch.planning import plan
from ezbatch.run import runs, submit

from .faults import Step
from .product import QUEUE, Pace, assert_clean, backend_of, end, eventually, flow, handle, job, start
from .rig import Rig

HANDLED = ("drop", "lost", "truncate")


def broad(count: int = 6) -> EZBatchWorkflow:
    return flow(*(f"j{number}" for number in range(count)), name="broad")


def test_shared_definitions_and_one_call_a_job(rig: Rig) -> None:
    run = end(start(broad(20)))
    assert run.state == "SUCCEEDED"
    counts = rig.counts()
    assert counts["SubmitJob"] == 20
    assert counts["RegisterJobDefinition"] == 1
    assert sum(n for action, n in counts.items() if action.startswith("Describe")) <= 6
    assert_clean(rig)


def test_an_array_is_one_call(rig: Rig) -> None:
    rig.virtual(0.0)
    run = start(EZBatchWorkflow("wide", {"a": job(array=1000), "b": job(array=[{"X": "1"}, {"X": "2"}])}, {"b": ["a"]}))
    assert rig.counts()["SubmitJob"] == 2
    assert end(run).state == "SUCCEEDED"
    assert {state.value: n for state, n in (run.jobs["a"].children or {}).items()} == {"SUCCEEDED": 1000}
    assert_clean(rig)


@pytest.mark.parametrize("kind", [*HANDLED, "reset", "error", "throttle"])
@pytest.mark.parametrize("position", [0, 2])
def test_a_lost_answer_is_adopted_and_nothing_is_submitted_twice(rig: Rig, kind: str, position: int) -> None:
    rig.faults.script("SubmitJob", *["ok"] * position, kind)
    run = start(flow("a", "b", "c", b=["a"], c=["b"]))
    assert rig.duplicates() == {}
    assert len(rig.jobs()) == 3
    assert len(rig.calls("SubmitJob")) == (3 if kind in HANDLED else 4), "what was handled is never sent again"
    assert end(run).state == "SUCCEEDED"
    assert_clean(rig)


def test_a_request_that_is_handled_late_is_waited_for(rig: Rig) -> None:
    rig.faults.script("SubmitJob", Step("late", 0.15))
    run = start(flow("a", "b", b=["a"]), backend_of(Pace(10)))
    assert len(rig.calls("SubmitJob")) == 2
    assert end(run).state == "SUCCEEDED"
    assert_clean(rig)


def test_a_listing_that_lags_behind(rig: Rig) -> None:
    rig.options.list_lag = 0.15
    rig.faults.script("SubmitJob", "drop", "truncate")
    run = start(broad(3), backend_of(Pace(10)))
    assert len(rig.calls("SubmitJob")) == 3
    assert end(run).state == "SUCCEEDED"
    assert_clean(rig)


def test_what_is_there_twice_all_the_same_loses_the_one_nobody_depends_on(rig: Rig) -> None:
    rig.virtual("manual")
    run = start(flow("a", "b", b=["a"]))
    kept = run.jobs["a"].job_id
    # A first request for "a", whose answer was lost, and which took effect after ezbatch had waited for it.
    twice = rig.client("batch").submit_job(**rig.calls("SubmitJob")[0].body)["jobId"]
    rig.engine.jobs[twice].created_at -= 1000
    # The submitter was killed before it had written down what became of "a".
    found = backend_of().find(run.id, run.plan, {"b": run.jobs["b"].job_id})
    assert found == {"a": kept, "b": run.jobs["b"].job_id}
    assert rig.job(twice).state == "FAILED"
    rig.wait_for(kept, "RUNNING")
    rig.finish(kept)
    rig.wait_for("*-b", "RUNNING")
    rig.finish("*-b")
    assert end(run).state == "SUCCEEDED"


def test_a_lost_answer_to_registering_leaves_no_definition(rig: Rig) -> None:
    rig.faults.script("RegisterJobDefinition", "drop", "truncate")
    assert end(start(flow("a"))).state == "SUCCEEDED"
    assert len(rig.definitions()) == 3
    assert_clean(rig)


def test_a_job_that_is_refused_takes_the_others_back(rig: Rig) -> None:
    rig.virtual("manual")
    # AWS no longer knows the definition when the last is submitted: it answers ClientException.
    made = flow("a", "b", "c", b=["a"], c=["b"])

    def refuse(_run: EZBatchRun) -> None:
        for definition in rig.definitions("ACTIVE"):
            rig.client("batch").deregister_job_definition(jobDefinition=definition["jobDefinitionArn"])

    rig.faults.latency = 0.1
    with pytest.raises(SubmissionError) as caught:
        submit(made, QUEUE, backend=backend_of(), progress=refuse)
    rig.faults.latency = 0
    assert [line for line in rig.take_violations() if "is not ACTIVE" in line]
    (run,) = runs()
    message = str(caught.value)
    assert f"the submission of run {run.id} was given up: AWS refused batch:SubmitJob" in message
    assert "had been accepted; all were ended" in message
    assert run.state == "CANCELLED"
    rig.wait_idle()
    assert_clean(rig)
    assert not caught.value.interrupted
    assert run.explain("c").cause == "It was cancelled", "it was never submitted, and is not called accepted"
    assert run.report("c").reason == "it was never submitted"


def test_nothing_accepted_leaves_nothing(rig: Rig) -> None:
    rig.faults.script("SubmitJob", *["reset"] * 200)
    rig.faults.script("ListJobs", *["reset"] * 400)
    with pytest.raises((SubmissionError, RunInterruptedError)):
        start(broad())
    (run,) = runs()
    rig.faults.clear()
    if run.state not in ("CANCELLED", "FAILED"):
        handle(run.id).cancel()
        end(handle(run.id))
    assert rig.jobs() == []
    assert_clean(rig)


def test_taking_back_that_fails_leaves_a_run_that_can_be_taken_up(rig: Rig) -> None:
    rig.virtual("manual")
    seen: list[int] = []

    def away(run: EZBatchRun) -> None:
        seen.append(run.accepted)
        rig.faults.random(1, reset=1.0)  # from now on nothing gets through

    rig.faults.latency = 0.05
    with pytest.raises(RunInterruptedError, match="ezbatch cancel") as caught:
        submit(flow(*"abcdef", b=["a"], c=["b"], d=["c"], e=["d"], f=["e"]), QUEUE, backend=backend_of(), progress=away)
    assert "Ending the" in str(caught.value)
    rig.faults.clear()
    assert seen
    assert 0 < len(rig.jobs()) < 6
    (run,) = runs()
    assert (run.refresh().state, run.interruption) == ("INTERRUPTED", "its submission broke off")
    again = handle(run.id)
    assert again.resume().state == "RUNNING"
    assert len(rig.jobs()) == 6
    rig.virtual(0.0)
    rig.finish()
    rig.wait_idle()
    assert end(again).state == "SUCCEEDED"
    assert_clean(rig)


def test_ctrl_c_ends_what_was_accepted_and_says_so(rig: Rig) -> None:
    rig.virtual("manual")
    rig.faults.latency = 0.05

    once = [KeyboardInterrupt]

    def interrupt(_run: EZBatchRun) -> None:
        if once:
            raise once.pop()

    chain = {name: [before] for before, name in zip("abcdefg", "bcdefgh", strict=True)}
    with pytest.raises(KeyboardInterrupt, match=r"was given up: interrupted.*had been accepted; all were ended"):
        submit(flow(*"abcdefgh", **chain), QUEUE, backend=backend_of(), progress=interrupt)
    (run,) = runs()
    assert run.state == "CANCELLED"
    rig.wait_idle()
    assert 0 < len(rig.jobs()) < 8
    assert_clean(rig)


def test_the_ledger_is_written_before_the_first_request(rig: Rig) -> None:
    known: list[str] = []
    rig.faults.when("RegisterJobDefinition", 1, lambda: known.extend(run.state for run in runs()))
    start(flow("a"))
    assert known == ["SUBMITTING"]
    rig.wait_idle()


def test_two_at_once_do_not_disturb_each_other(rig: Rig) -> None:
    rig.faults.submit_rate = 2500
    rig.faults.random("two", "SubmitJob", drop=0.1, throttle=0.3, reset=0.1, max_faults=40)
    made: list[EZBatchRun] = []
    threads = [threading.Thread(target=lambda: made.append(start(broad(30)))) for _thread in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rig.faults.clear()
    assert [end(run).state for run in made] == ["SUCCEEDED"] * 3
    assert len(rig.jobs()) == 90
    assert_clean(rig)


def test_the_rate_is_kept_in_every_second() -> None:
    now, times = 0.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    limiter = Limiter(SUBMIT_RATE, SUBMIT_BURST, lambda: now, sleep)
    for number in range(500):
        if number in (200, 350):
            sleep(30)  # a rest gives no right to catch up
        limiter.acquire()
        times.append(now)
    # The last digits of a sum of fiftieths are nobody's rate.
    most = max(sum(1 for time in times[i:] if time < start + 1 - 1e-6) for i, start in enumerate(times))
    assert most <= 50


def test_threads_that_are_woken_late_do_not_go_in_a_bunch() -> None:
    now = 0.0
    woken, again = threading.Event(), threading.Event()
    asleep: list[float] = []
    gone: list[float] = []

    def sleep(seconds: float) -> None:
        asleep.append(seconds)
        (again if woken.is_set() else woken).wait()

    def go() -> None:
        limiter.acquire()
        gone.append(now)

    limiter = Limiter(SUBMIT_RATE, SUBMIT_BURST, lambda: now, sleep)
    threads = [threading.Thread(target=go) for _ in range(80)]
    for thread in threads:
        thread.start()
    eventually(lambda: (len(gone), len(asleep)) == (1, 79))
    now = 5.0  # a busy machine wakes all of them at once, when the turn of each has come
    woken.set()
    eventually(lambda: len(gone) + len(asleep) == 79 + 80)
    assert gone.count(5.0) == 50
    now = 6.0
    again.set()
    for thread in threads:
        thread.join()
    assert gone.count(6.0) == 29


def test_a_submission_takes_the_time_that_the_rate_demands(rig: Rig) -> None:
    rig.virtual(0.0)
    pace = Pace(1)
    began = pace.clock()
    start(broad(120), backend_of(pace))
    assert pace.clock() - began >= (120 - SUBMIT_BURST) / SUBMIT_RATE


def test_a_cancel_from_elsewhere_reaches_a_submission_under_way(rig: Rig) -> None:
    rig.virtual("manual")
    rig.faults.latency = 0.05

    def cancel(run: EZBatchRun) -> None:
        handle(run.id).cancel(reason="changed my mind")

    chain = {name: [before] for before, name in zip("abcdefg", "bcdefgh", strict=True)}
    run = submit(flow(*"abcdefgh", **chain), QUEUE, backend=backend_of(), progress=cancel)
    assert end(run).state == "CANCELLED"
    assert {view.state for view in rig.jobs()} == {"FAILED"}
    assert_clean(rig)


def test_progress_is_told_while_it_lasts(rig: Rig) -> None:
    told: list[tuple[str, int]] = []
    rig.faults.latency = 0.02
    run = submit(broad(100), QUEUE, backend=backend_of(Pace(10)), progress=lambda r: told.append((r.state, r.accepted)))
    assert run.accepted == 100
    assert len(told) >= 3
    assert {state for state, _count in told} == {"SUBMITTING"}
    assert [count for _state, count in told] == sorted({count for _state, count in told})
    rig.wait_idle()


def test_a_ledger_that_fills_up_takes_everything_back(rig: Rig) -> None:
    rig.virtual("manual")
    rig.faults.latency = 0.05
    ledger = Ledger(Settings.load().state_directory)

    def full(run: EZBatchRun) -> None:
        connection = sqlite3.connect(ledger.directory / "ledger.db")
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        run._ledger._db.execute(f"PRAGMA max_page_count = {pages}")

    names = [f"job-{number}-{'x' * 100}" for number in range(60)]
    with pytest.raises(Exception, match="cannot be used"):
        submit(flow(*names), QUEUE, backend=backend_of(Pace(5)), progress=full)
    rig.wait_idle()
    assert {view.state for view in rig.jobs()} <= {"FAILED"}


def test_names_that_only_differ_in_case_or_script(rig: Rig) -> None:
    names = ["Align", "align", "ALIGN", "ålign", "a lign", "日本", "日本語", "-", "x" * 300]
    rig.faults.random(3, "SubmitJob", drop=0.5, max_faults=8)
    run = start(flow(*names))
    assert end(run).state == "SUCCEEDED"
    assert sorted(run.jobs) == sorted(names)
    assert len(rig.jobs()) == len(names)
    assert_clean(rig)


def test_every_request_fits_what_is_written_in_the_plan() -> None:
    made = plan(flow("a", "b", b=["a"]), QUEUE)
    requested: Mapping[str, object] = requests.submit_job("run", made, made.jobs[1], "arn", ["id"])
    assert requested["dependsOn"] == [{"jobId": "id"}]
    assert requested["jobName"] == "run-b"
