"""Cancelling, and running again what did not succeed."""

from __future__ import annotations

import pytest

from ezbatch import BackendError, EZBatchJob, JobFailedError, JobNotFoundError, JobState

from .rig import PATIENCE, Rig, until

SUCCEEDED, FAILED, BLOCKED = JobState.SUCCEEDED, JobState.FAILED, JobState.BLOCKED
INDEX = "$AWS_BATCH_JOB_ARRAY_INDEX"


# Cancelling


def test_a_cancelled_run_ends_and_leaves_nothing_running(rig: Rig) -> None:
    # Each in its own way out of reach of one signal: in the background, in a session of its own, deaf.
    gates = [rig.gate(name) for name in ("plain", "background", "session", "orphan")]
    jobs = {
        "plain": f"{gates[0].wait}; true",
        "background": f"({gates[1].wait}) & sleep 300 & wait",
        "session": f"setsid sleep 300 & {gates[2].wait}",
        "orphan": f"(setsid sh -c 'sleep 300 & sleep 300' &) ; {gates[3].wait}",
        "later": "true",
    }
    run = rig.submit(rig.workflow(jobs, {"later": ["plain"]}))
    for gate in gates:
        gate.reached()
    assert len(rig.processes(run)) >= 8
    assert run.cancel(reason="no longer wanted") is run
    assert run.wait(PATIENCE).state == "CANCELLED"
    until(lambda: not rig.processes(run), "the end of every process")
    for name in ("plain", "background", "session", "orphan"):
        assert run.jobs[name].state is FAILED
        assert run.jobs[name].cancelled
        assert "no longer wanted" in run.jobs[name].reason
        assert "cancelled" in str(run.explain(name))
    assert run.jobs["later"].state in (FAILED, BLOCKED)
    assert run.jobs["later"].attempts == ()
    with pytest.raises(JobFailedError, match="no longer wanted"):
        run.raise_for_status()


def test_a_cancelled_job_is_not_repeated_and_blocks_what_waits_for_it(rig: Rig) -> None:
    gate, other = rig.gate(), rig.gate("other")
    jobs: dict[str, EZBatchJob | str] = {"a": rig.job(gate.wait, retries=5), "b": "true", "c": other.wait, "d": "true"}
    run = rig.submit(rig.workflow(jobs, {"b": ["a"], "d": ["c"]}))
    gate.reached()
    other.reached()
    run.cancel("a", reason="just this")
    until(lambda: run.refresh().jobs["b"].state is BLOCKED)
    assert (run.jobs["a"].state, len(run.jobs["a"].attempts)) == (FAILED, 1)
    assert "just this" in run.jobs["a"].reason
    assert run.state == "RUNNING", "the rest goes on"
    other.open()
    assert run.wait(PATIENCE).state == "FAILED"
    assert run.jobs["d"].state is SUCCEEDED


def test_a_job_that_has_not_begun_can_be_cancelled(rig: Rig) -> None:
    gate = rig.gate()
    run = rig.submit(
        rig.workflow({"a": gate.wait, "b": f"echo x >{rig.path('b')}", "c": "true"}, {"b": ["a"], "c": ["b"]})
    )
    gate.reached()
    run.cancel(["b"])
    if not rig.cancels_waiting_at_once:
        gate.open()
    until(lambda: run.refresh().jobs["c"].state is BLOCKED)
    assert run.jobs["b"].state is FAILED
    gate.open()
    assert run.wait(PATIENCE).jobs["a"].state is SUCCEEDED
    assert rig.lines("b") == []


def test_one_child_of_an_array_can_be_cancelled(rig: Rig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": rig.job(gate.wait, array=3)}))
    gate.reached(3)
    run.cancel("a:1", reason="not this one")
    until(lambda: run.report("a:1").state is FAILED)
    assert "not this one" in run.report("a:1").reason
    assert run.report("a:0").state is JobState.RUNNING
    gate.open()
    run.wait(PATIENCE)
    assert run.jobs["a"].children == {SUCCEEDED: 2, FAILED: 1}


def test_a_whole_array_can_be_cancelled(rig: Rig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": rig.job(gate.wait, array=4), "b": "true"}, {"b": ["a"]}))
    gate.reached(2)
    run.cancel("a")
    assert run.wait(PATIENCE).jobs["a"].children == {FAILED: 4}
    assert run.jobs["b"].state is BLOCKED
    until(lambda: not rig.processes(run))


def test_cancelling_twice_and_too_late(rig: Rig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": gate.wait, "done": "true"}))
    gate.reached()
    until(lambda: run.refresh().jobs["done"].state is SUCCEEDED)
    run.cancel("done")
    run.cancel().cancel()
    run.cancel("a")
    assert run.wait(PATIENCE).state == "CANCELLED"
    assert run.jobs["done"].state is SUCCEEDED, "what has ended stays as it is"
    before = run.jobs
    assert run.cancel(reason="again").refresh().jobs == before
    finished = rig.run({"a": "true"})
    assert finished.cancel().refresh().state == "SUCCEEDED"


def test_cancelling_as_jobs_end(rig: Rig) -> None:
    for turn in range(5):
        run = rig.submit(rig.workflow({"a": "true", "b": f"sleep 0.0{turn}", "c": rig.job("true", array=3)}))
        run.cancel().wait(PATIENCE)
        states = {report.state for report in run.jobs.values()}
        assert run.state == ("SUCCEEDED" if states == {SUCCEEDED} else "CANCELLED")
        assert states <= {SUCCEEDED, FAILED}
        assert not rig.processes(run)


def test_cancelling_what_is_not_there(rig: Rig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"align": gate.wait}))
    with pytest.raises(JobNotFoundError, match="did you mean 'align'"):
        run.cancel("algin")
    with pytest.raises(JobNotFoundError):
        run.cancel(["align", "align:0"])
    gate.reached()
    assert run.refresh().jobs["align"].state is JobState.RUNNING, "all or nothing"
    gate.open()
    assert run.wait(PATIENCE).state == "SUCCEEDED"


def test_a_long_reason_is_no_trouble(rig: Rig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": gate.wait}))
    gate.reached()
    run.cancel(reason="ünï\n" * 1000).wait(PATIENCE)
    assert run.state == "CANCELLED"


# Again


def test_a_retry_runs_what_did_not_succeed(rig: Rig) -> None:
    fix, out = rig.path("fix"), rig.path("out")
    jobs = {
        "a": f"echo a >>{out}",
        "b": f"echo b >>{out}; test -e {fix}",
        "c": f"echo c >>{out}",
        "d": f"echo d >>{out}",
    }
    run = rig.run(jobs, {"b": ["a"], "c": ["b"], "d": ["a"]})
    assert run.state == "FAILED"
    (rig.directory / "fix").touch()
    again = run.retry()
    assert again.id != run.id
    assert again.retry_of == run.id
    assert again.wait(PATIENCE).state == "SUCCEEDED"
    assert set(again.jobs) == {"b", "c"}
    assert sorted(rig.lines("out")) == ["a", "b", "b", "c", "d"]
    assert run.refresh().state == "FAILED", "the old one stays as it was"


def test_a_retry_of_a_retry_of_an_array(rig: Rig) -> None:
    grid = {"A": ["p", "q"], "B": [1, 2, 3]}
    script = f'echo "{INDEX}/$AWS_BATCH_JOB_ARRAY_SIZE $A $B" >>{rig.path("out")}; test -e {rig.path("fix")}.{INDEX}'
    jobs: dict[str, EZBatchJob | str] = {"a": rig.job(script, array=grid), "b": f"echo b >>{rig.path('out')}"}

    def fix(*indices: int) -> None:
        for index in indices:
            (rig.directory / f"fix.{index}").touch()

    fix(0, 2)
    run = rig.run(jobs, {"b": ["a"]})
    assert run.jobs["a"].children == {SUCCEEDED: 2, FAILED: 4}
    (rig.directory / "out").unlink()
    fix(1, 4)
    second = run.retry().wait(PATIENCE)
    assert sorted(rig.lines("out")) == ["1/6 p 2", "3/6 q 1", "4/6 q 2", "5/6 q 3"]
    assert second.jobs["a"].children == {SUCCEEDED: 2, FAILED: 2}
    assert second.report("a:4").state is SUCCEEDED
    assert second.report("a:5").state is FAILED
    with pytest.raises(JobNotFoundError, match="succeeded before"):
        second.report("a:0")
    (rig.directory / "out").unlink()
    fix(5)
    third = second.retry().wait(PATIENCE)
    assert sorted(rig.lines("out")) == ["3/6 q 1", "5/6 q 3"]
    (rig.directory / "out").unlink()
    fix(3)
    fourth = third.retry().wait(PATIENCE)
    # One child is no array for AWS, but it is the same child.
    assert fourth.state == "SUCCEEDED"
    assert sorted(rig.lines("out")) == ["3/6 q 1", "b"]
    assert fourth.report("a:3").state is SUCCEEDED
    with pytest.raises(BackendError, match="nothing to retry"):
        fourth.retry()


def test_a_retry_keeps_order_and_joins(rig: Rig) -> None:
    parents = [f"p{i}" for i in range(45)]
    script = f"echo x >>{rig.path('out')}; test -e {rig.path('fix')}"
    jobs = {"end": f"wc -l <{rig.path('out')}", **dict.fromkeys(parents, script), "fine": "true"}
    run = rig.run(jobs, {"end": [*parents, "fine"]})
    assert run.jobs["end"].state is BLOCKED
    (rig.directory / "fix").touch()
    (rig.directory / "out").unlink()
    again = run.retry().wait(PATIENCE)
    assert again.state == "SUCCEEDED"
    assert "fine" not in again.jobs
    assert [event.message.strip() for event in again.logs("end")] == ["45"]


def test_a_cancelled_run_can_be_run_again(rig: Rig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"first": "true", "a": gate.wait, "b": "true"}, {"a": ["first"], "b": ["a"]}))
    gate.reached()
    run.cancel().wait(PATIENCE)
    gate.open()
    again = run.retry().wait(PATIENCE)
    assert again.state == "SUCCEEDED"
    assert set(again.jobs) == {"a", "b"}


def test_what_cannot_be_run_again(rig: Rig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": gate.wait}))
    gate.reached()
    with pytest.raises(BackendError, match="has not ended"):
        run.retry()
    gate.open()
    run.wait(PATIENCE)
    with pytest.raises(BackendError, match="nothing to retry"):
        run.retry()
