"""The run's handle: properties that never call out, waiting, coming back from elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from ezbatch import (
    EZBatchJob,
    EZBatchRun,
    JobFailedError,
    JobNotFoundError,
    JobState,
    RunNotFoundError,
    WaitTimeoutError,
    runs,
)
from ezbatch.ledger import Ledger

from .rig import PATIENCE, Rig, until


class OutOfReach:
    """A backend that no one may call."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - it never returns
        pytest.fail(f"called {name}")


def test_properties_never_call_out(rig: Rig) -> None:
    made = rig.run({"a": "exit 1", "b": rig.job("true", array=3)})
    ledger = Ledger(rig.settings.state_directory)
    run = EZBatchRun(ledger.find(made.id), ledger, OutOfReach(), settings=rig.settings)
    assert (run.id, run.name, run.queue, run.state) == (made.id, "w", rig.queue, "FAILED")
    assert (run.interruption, run.retry_of) == ("", None)
    assert run.created == made.created
    assert run.finished == made.finished
    assert run.workflow == made.workflow
    assert run.plan == made.plan
    assert run.jobs == made.jobs
    assert run.counts == {JobState.SUCCEEDED: 1, JobState.FAILED: 1}
    assert run.parents == {"a": (), "b": ()}
    assert made.id in repr(run)
    assert "exit code 1" in str(run.explain("a"))
    assert run.refresh().wait().state == "FAILED", "nor does looking at a run that is over"


def test_waiting_has_an_end(rig: Rig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": gate.wait}))
    for timeout in (0, 0.05):
        with pytest.raises(WaitTimeoutError, match=run.id) as caught:
            run.wait(timeout)
        assert isinstance(caught.value, TimeoutError)
    gate.reached()
    assert run.refresh().jobs["a"].state is JobState.RUNNING, "it goes on"
    gate.open()
    assert run.wait(PATIENCE) is run
    assert run.wait(0).state == "SUCCEEDED"


def test_progress_is_told_to_who_asks(rig: Rig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": gate.wait, "b": "true"}, {"b": ["a"]}))
    seen: list[dict[JobState, int]] = []

    def show(shown: EZBatchRun) -> None:
        assert shown is run
        seen.append(shown.counts)
        if shown.jobs["a"].state is JobState.RUNNING:
            gate.open()

    run.wait(PATIENCE, progress=show)
    assert seen[-1] == {JobState.SUCCEEDED: 2}
    assert {JobState.PENDING: 1, JobState.RUNNING: 1} in seen


def test_what_failed_is_told_in_one_message(rig: Rig) -> None:
    script = "seq 100; echo 'no such sample' >&2; exit 3"
    run = rig.run(
        {"fine": "true", "align reads": script, "other": "exit 4", "report": "true"}, {"report": ["align reads"]}
    )
    with pytest.raises(JobFailedError) as caught:
        run.raise_for_status()
    error = caught.value
    assert isinstance(error, RuntimeError)
    assert (error.run_id, error.job) == (run.id, "align reads")
    text = str(error)
    for part in (
        "'align reads'",
        "1 more failed",
        "1 could not start",
        "exit code 3",
        "no such sample",
        run.id,
        "retry",
    ):
        assert part in text
    assert "94" in text, "the end of the log"
    assert "\n    50\n" not in text, "only the end"
    assert f"ezbatch logs {run.id} 'align reads'" in text


def test_explaining_a_run(rig: Rig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": gate.wait, "b": "exit 3", "c": "true"}, {"b": ["a"], "c": ["b"]}))
    gate.reached()
    until(lambda: run.refresh().jobs["a"].state is JobState.RUNNING)
    assert str(run.explain()).startswith("a: It runs")
    gate.open()
    run.wait(PATIENCE)
    assert str(run.explain()).startswith("b: Its command failed")
    assert run.explain("c").remedy
    with pytest.raises(JobNotFoundError):
        run.explain("nothing")
    with pytest.raises(JobNotFoundError):
        run.explain("nothing:1")
    assert str(rig.run({"a": "true"}).explain()) == "Every job succeeded."


ATTACH = """if True:
    import json, sys
    from ezbatch import EZBatchRun
    run = EZBatchRun.attach(sys.argv[1])
    jobs = {name: [str(report.state), report.exit_code] for name, report in run.jobs.items()}
    print(json.dumps([run.id, run.state, jobs]))
"""


def test_another_process_comes_back_to_a_run(rig: Rig) -> None:
    gate = rig.gate()
    older = rig.run({"x": "true"})
    run = rig.submit(rig.workflow({"a": gate.wait, "b": "exit 5"}, {"b": ["a"]}, name="demo"))
    gate.reached()
    until(lambda: run.refresh().jobs["a"].state is JobState.RUNNING)
    running = [run.id, "RUNNING", {"a": ["RUNNING", None], "b": ["PENDING", None]}]
    for text in (run.id, run.id[:6], "@last"):
        assert json.loads(rig.python(ATTACH, text)) == running
    gate.open()
    run.wait(PATIENCE)
    assert json.loads(rig.python(ATTACH, run.id)) == [run.id, "FAILED", {"a": ["SUCCEEDED", 0], "b": ["FAILED", 5]}]
    assert json.loads(rig.python(ATTACH, older.id))[1] == "SUCCEEDED"
    with pytest.raises(RunNotFoundError, match="ezbatch ls"):
        EZBatchRun.attach("no-such-run", settings=rig.settings)


def test_another_process_waits_cancels_and_runs_again(rig: Rig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": gate.wait}))
    gate.reached()
    rig.python("import sys, ezbatch; ezbatch.EZBatchRun.attach(sys.argv[1]).cancel(reason='from elsewhere')", run.id)
    run.wait(PATIENCE)
    assert run.state == "CANCELLED"
    assert "from elsewhere" in run.jobs["a"].reason
    gate.open()
    script = "import sys, ezbatch; print(ezbatch.EZBatchRun.attach(sys.argv[1]).retry().wait(60).id)"
    again = EZBatchRun.attach(rig.python(script, run.id).strip(), settings=rig.settings)
    assert (again.state, again.retry_of) == ("SUCCEEDED", run.id)


def test_runs_are_listed_newest_first(rig: Rig) -> None:
    assert runs(settings=rig.settings) == []
    made = [rig.run({"a": script}) for script in ("true", "exit 1", "true")]
    listed = runs(settings=rig.settings)
    assert [run.id for run in listed] == [run.id for run in reversed(made)]
    assert [run.state for run in listed] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert [run.id for run in runs(settings=rig.settings, limit=1)] == [made[-1].id]
    assert listed[1].jobs == made[1].jobs


def test_the_ledger_remembers_the_workflow(rig: Rig) -> None:
    workflow = rig.workflow({"a": rig.job("exit 0", environment={"SECRET": "x"}, tags={"t": "v"})})
    run = rig.submit(workflow).wait(PATIENCE)
    assert EZBatchRun.attach(run.id, settings=rig.settings).workflow == workflow


def test_an_interrupt_ends_the_waiting_not_the_run(rig: Rig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": gate.wait}))

    def interrupt(_run: EZBatchRun) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.wait(progress=interrupt)
    gate.reached()
    gate.open()
    assert run.wait(PATIENCE).state == "SUCCEEDED"


def test_a_submitting_process_that_is_killed_loses_nothing(rig: Rig) -> None:
    gate = rig.gate()
    script = """if True:
        import os, signal, sys
        from ezbatch import EZBatchWorkflow
        run = EZBatchWorkflow.from_json(sys.argv[1]).submit(sys.argv[2])
        print(run.id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    jobs: dict[str, EZBatchJob | str] = {
        "a": f"{gate.wait}; echo from a",
        "b": rig.job("echo $AWS_BATCH_JOB_ARRAY_INDEX", array=3),
        "c": "echo from c",
    }
    workflow = rig.workflow(jobs, {"b": ["a"], "c": ["b"]})
    done = subprocess.run(
        [sys.executable, "-c", script, workflow.to_json(), rig.queue], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr
    run = EZBatchRun.attach("@last", settings=rig.settings)
    assert run.id == done.stdout.strip()
    gate.reached()
    gate.open()
    assert run.wait(PATIENCE).state == "SUCCEEDED"
    assert [event.message for event in run.logs()] == ["from a", "0", "1", "2", "from c"]
