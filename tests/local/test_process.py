"""The engine as a process: killed, started by several at once, on a full disk, in a place it cannot write."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from ezbatch import (
    EngineError,
    EZBatchRun,
    JobState,
    Plan,
    RunInterruptedError,
    Settings,
    StateDirectoryError,
    runs,
)
from ezbatch.local import process
from ezbatch.local.backend import LocalBackend
from tests.containers import missing
from tests.contract.rig import PATIENCE, LocalRig, environment_of, kill, until

SUCCEEDED, FAILED, BLOCKED, RUNNING = JobState.SUCCEEDED, JobState.FAILED, JobState.BLOCKED, JobState.RUNNING


def start_and_kill_engine(rig: LocalRig, *, retries: int = 0) -> EZBatchRun:
    """Return a run of which one job has ended, one runs and two wait, and whose engine was killed."""
    note = f'echo "$NAME" >>{rig.path("count")}'
    gate = rig.gate()
    scripts = {"done": note, "running": f"{note}; {gate.wait}; echo said", "later": note, "last": note}
    jobs = {name: rig.job(text, environment={"NAME": name}, retries=retries) for name, text in scripts.items()}
    run = rig.submit(rig.workflow(jobs, {"running": ["done"], "later": ["running"], "last": ["later"]}))
    gate.reached()
    until(lambda: run.refresh().jobs["running"].state is RUNNING)
    kill(rig.engines())
    return run


def test_a_killed_engine_is_told_and_resume_finishes_without_repeating_anything(rig: LocalRig) -> None:
    run = start_and_kill_engine(rig)
    run.refresh()
    assert run.state == "INTERRUPTED"
    assert "engine was killed" in run.interruption
    assert [str(report.state) for report in run.jobs.values()] == ["SUCCEEDED", "RUNNING", "PENDING", "PENDING"]
    for act in (run.wait, run.raise_for_status):
        with pytest.raises(RunInterruptedError, match=r"run\.resume\(\)"):
            act()
    assert "stands still" in str(run.explain())
    elsewhere = "import sys, ezbatch; print(ezbatch.EZBatchRun.attach(sys.argv[1]).state)"
    assert rig.python(elsewhere, run.id).strip() == "INTERRUPTED"
    rig.gate().open()
    until(lambda: not rig.processes(run), "the running job's own end")
    assert run.refresh().jobs["running"].state is RUNNING, "nobody has looked"
    assert run.resume().wait(PATIENCE).state == "SUCCEEDED"
    assert rig.lines("count") == ["done", "running", "later", "last"]
    assert [event.message for event in run.logs("running")] == ["said"]
    assert [len(report.attempts) for report in run.jobs.values()] == [1, 1, 1, 1]


def test_what_is_written_to_a_stream_by_its_name_is_kept_without_an_engine(rig: LocalRig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": f"echo one; {gate.wait}; echo two >/dev/stderr; echo three"}))
    gate.reached()
    until(lambda: run.refresh().jobs["a"].state is RUNNING)
    kill(rig.engines())
    gate.open()
    until(lambda: not rig.processes(run), "the running job's own end")
    assert run.resume().wait(PATIENCE).state == "SUCCEEDED"
    assert [event.message for event in run.logs("a")] == ["one", "two", "three"]


def test_a_resumed_run_adopts_what_still_runs(rig: LocalRig) -> None:
    run = start_and_kill_engine(rig)
    run.resume()
    assert run.refresh().state == "RUNNING", "from the moment it is asked for"
    lines = run.logs("running", follow=True)
    rig.gate().open()
    assert [event.message for event in lines] == ["said"]
    assert run.wait(PATIENCE).state == "SUCCEEDED"
    assert rig.lines("count") == ["done", "running", "later", "last"]


def test_cancelling_after_the_engine_was_killed_leaves_nothing_running(rig: LocalRig) -> None:
    run = start_and_kill_engine(rig, retries=2)
    assert run.cancel(reason="enough").wait(PATIENCE).state == "CANCELLED"
    until(lambda: not rig.processes(run))
    assert run.jobs["running"].state is FAILED
    assert "enough" in run.jobs["running"].reason
    assert rig.lines("count") == ["done", "running"]


def test_resuming_twice_and_what_needs_no_resuming(rig: LocalRig) -> None:
    run = start_and_kill_engine(rig)
    script = "import sys, ezbatch; ezbatch.EZBatchRun.attach(sys.argv[1]).resume()"
    both = [subprocess.Popen([sys.executable, "-c", script, run.id]) for _ in range(2)]
    assert [each.wait(PATIENCE) for each in both] == [0, 0]
    run.resume().resume()
    assert len(rig.engines()) == 1
    rig.gate().open()
    assert run.wait(PATIENCE).resume().state == "SUCCEEDED"
    assert rig.lines("count") == ["done", "running", "later", "last"]


def test_after_a_power_cut_what_was_lost_runs_again(rig: LocalRig) -> None:
    run = start_and_kill_engine(rig)
    kill(rig.processes(run))
    rig.gate().open()
    assert run.refresh().state == "INTERRUPTED"
    assert run.resume().wait(PATIENCE).state == "SUCCEEDED"
    assert rig.lines("count") == ["done", "running", "running", "later", "last"]
    first, second = run.jobs["running"].attempts
    assert ("lost" in first.reason, first.exit_code, second.exit_code) == (True, None, 0)
    assert [event.message for event in run.logs("running")] == ["said"]


def test_another_run_goes_on_where_one_stands_still(rig: LocalRig) -> None:
    run = start_and_kill_engine(rig)
    assert rig.run({"a": "true"}).state == "SUCCEEDED"
    assert run.refresh().state == "INTERRUPTED"
    assert "another has come" in run.interruption
    rig.gate().open()
    until(lambda: run.refresh().jobs["running"].state is SUCCEEDED, "the adopted job's end")
    assert run.refresh().jobs["later"].state is not SUCCEEDED
    assert run.resume().wait(PATIENCE).state == "SUCCEEDED"


def test_a_child_of_an_array_survives_its_engine(rig: LocalRig) -> None:
    gate = rig.gate()
    script = f"echo $AWS_BATCH_JOB_ARRAY_INDEX >>{rig.path('count')}; {gate.wait}"
    run = rig.submit(rig.workflow({"a": rig.job(script, array=4), "b": "true"}, {"b": ["a"]}))
    gate.reached(4)
    kill(rig.engines())
    gate.open()
    assert run.resume().wait(PATIENCE).state == "SUCCEEDED"
    assert sorted(rig.lines("count")) == ["0", "1", "2", "3"]
    assert run.jobs["a"].children == {SUCCEEDED: 4}


# Several at once

SUBMIT = """if True:
    import sys
    from ezbatch import EZBatchWorkflow
    run = EZBatchWorkflow.from_json(sys.argv[1]).submit("local")
    print(run.id, run.wait(60).state)
"""


#: An engine that goes as soon as there is nothing to do.
HASTY = "import sys, pathlib, ezbatch.local.process as p; p.LINGER = 0; p.main(pathlib.Path(sys.argv[1]))"


def submit_at_once(count: int, text: str) -> list[str]:
    argv = [sys.executable, "-c", SUBMIT, text]
    every = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return [each.communicate(timeout=PATIENCE)[0] for each in every]


def test_several_processes_submit_at_once_and_there_is_one_engine(rig: LocalRig) -> None:
    workflow = rig.workflow({"a": f"echo x >>{rig.path('count')}", "b": "true"}, {"b": ["a"]})
    said = submit_at_once(4, workflow.to_json())
    assert [text.split()[-1] for text in said] == ["SUCCEEDED"] * 4
    assert len({text.split()[0] for text in said}) == 4
    assert rig.lines("count") == ["x"] * 4
    assert len(rig.engines()) == 1
    assert len(runs(settings=rig.settings)) == 4


def test_the_machine_is_shared_by_all_runs(rig: LocalRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EZBATCH_LOCAL_VCPUS", "2")
    script = f"echo +1 >>{rig.path('stamps')}; sleep 0.05; echo -1 >>{rig.path('stamps')}"
    workflow = rig.workflow({"a": rig.job(script, array=6), "b": script, "c": script})
    said = submit_at_once(2, workflow.to_json())
    assert [text.split()[-1] for text in said] == ["SUCCEEDED"] * 2
    at_once, most = 0, 0
    for line in rig.lines("stamps"):
        at_once += int(line)
        most = max(most, at_once)
    assert (most, at_once, len(rig.lines("stamps"))) == (2, 0, 32)


def test_an_engine_that_is_about_to_go_takes_up_what_comes_just_then(rig: LocalRig) -> None:
    directory = rig.settings.state_directory / "local"
    directory.mkdir(parents=True)
    for turn in range(5):
        until(lambda: not rig.engines())
        subprocess.run([sys.executable, "-c", HASTY, str(directory)], check=True)
        time.sleep(0.015 * turn)  # somewhere within its short life
        assert rig.run({"a": "true"}).state == "SUCCEEDED"
        kill(rig.engines())


def test_who_only_asks_for_an_engine_never_keeps_one_from_starting(rig: LocalRig) -> None:
    directory = rig.settings.state_directory / "local"
    directory.mkdir(parents=True)
    asking = threading.Event()
    asking.set()

    def ask() -> None:
        while asking.is_set():
            process.alive(directory)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        for _turn in range(4):
            assert process.start(directory) == ""
            assert process.alive(directory)
            kill(rig.engines())
    finally:
        asking.clear()
        for asker in askers:
            asker.join()


def test_an_engine_that_a_job_has_started_is_no_part_of_the_job(rig: LocalRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BATCH_JOB_ID", "outer")
    assert rig.run({"a": "true"}).state == "SUCCEEDED"
    (engine,) = rig.engines()
    assert not [word for word in environment_of(engine) if word.startswith(b"AWS_BATCH_")]


# Submissions that broke off

BROKEN = """if True:
    import os, signal, sys
    from ezbatch import EZBatchWorkflow, Settings
    from ezbatch.local.backend import LocalBackend
    from ezbatch.run import submit

    def die(*_args, **_kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

    class Backend(LocalBackend):
        def _insert(self, *args):
            super()._insert(*args)
            if sys.argv[2] == "_insert":
                die()

    if sys.argv[2] != "_insert":
        setattr(Backend, sys.argv[2], die)
    submit(EZBatchWorkflow.from_json(sys.argv[1]), "local", backend=Backend(Settings.load()))
"""


@pytest.mark.parametrize("where", ["submit", "_insert", "_start"])
@pytest.mark.parametrize("then", ["resume", "cancel"])
def test_a_submission_that_was_killed_is_finished_or_undone(rig: LocalRig, where: str, then: str) -> None:
    workflow = rig.workflow({"a": f"echo x >>{rig.path('count')}", "b": rig.job("true", array=3)}, {"b": ["a"]})
    done = subprocess.run([sys.executable, "-c", BROKEN, workflow.to_json(), where], check=False)
    assert done.returncode == -9
    (run,) = runs(settings=rig.settings)
    run.refresh()
    assert run.state == "INTERRUPTED"
    assert "broke off" in run.interruption
    if then == "resume":
        assert run.resume().wait(PATIENCE).state == "SUCCEEDED"
        assert rig.lines("count") == ["x"]
        assert set(run.jobs) == {"a", "b"}
    else:
        assert run.cancel(reason="enough").wait(PATIENCE).state == "CANCELLED"
        assert EZBatchRun.attach(run.id, settings=rig.settings).state == "CANCELLED"
        rig.run({"other": "true"})
        assert rig.lines("count") == []


# Places that cannot be used


@pytest.mark.parametrize("place", ["/proc/nothing/state", "/dev/null/state"])
def test_a_state_directory_that_cannot_be_made(rig: LocalRig, place: str) -> None:
    settings = Settings(state_directory=Path(place), local_runner="process")
    from ezbatch.run import submit

    with pytest.raises(StateDirectoryError, match="EZBATCH_STATE_DIR") as caught:
        submit(rig.workflow({"a": "true"}), "local", settings=settings)
    assert "\n" not in str(caught.value)
    assert runs(settings=settings) == []


def test_a_state_directory_that_was_emptied(rig: LocalRig) -> None:
    run = start_and_kill_engine(rig)
    kill(rig.processes(run))
    shutil.rmtree(rig.settings.state_directory / "local")
    again = EZBatchRun.attach(run.id, settings=rig.settings)
    assert again.state == "INTERRUPTED"
    assert "may have been emptied" in again.interruption
    assert again.jobs["done"].state is SUCCEEDED, "what was seen is still known"
    with pytest.raises(EngineError, match="ezbatch cancel"):
        again.resume()
    again = EZBatchRun.attach(run.id, settings=rig.settings)
    assert again.cancel().state == "CANCELLED", "nobody is left to end its jobs, so it ends by itself"
    assert EZBatchRun.attach(run.id, settings=rig.settings).state == "CANCELLED"
    rig.gate().open()
    retried = again.retry().wait(PATIENCE)
    assert retried.state == "SUCCEEDED"
    assert set(retried.jobs) == {"running", "later", "last"}


class Interrupted(LocalBackend):
    """A place where the person presses Ctrl-C as the jobs are handed over; ``when`` says how far that has got."""

    when = ""

    def submit(
        self, run_id: str, plan: Plan, accepted: Mapping[str, str], record: Callable[[Mapping[str, str]], None]
    ) -> None:
        def interrupted(ids: Mapping[str, str]) -> None:
            if self.when == "after recording":
                record(ids)
            raise KeyboardInterrupt

        super().submit(run_id, plan, accepted, record if self.when == "after adding" else interrupted)

    def _start(self) -> None:
        first, self.when = self.when, ""
        super()._start()
        if first == "after adding":
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("when", "said", "state"),
    [
        ("before recording", "Nothing was submitted", "CANCELLED"),
        ("after recording", "ezbatch cancel", "INTERRUPTED"),
        ("after adding", "its jobs are cancelled", "CANCELLED"),
    ],
)
def test_an_interrupted_submission_says_what_was_done(rig: LocalRig, when: str, said: str, state: str) -> None:
    from ezbatch.run import submit

    place = Interrupted(rig.settings)
    place.when = when
    with pytest.raises(KeyboardInterrupt, match=said):
        submit(rig.workflow({"a": "sleep 600"}), settings=rig.settings, backend=place)
    [run] = runs(settings=rig.settings)
    until(lambda: run.refresh().state == state)
    if state == "INTERRUPTED":
        assert run.cancel().state == "CANCELLED"
    assert not rig.processes(run)


def test_an_engine_does_not_bring_back_a_state_directory_that_was_removed(rig: LocalRig, tmp_path: Path) -> None:
    directory = rig.settings.state_directory / "local"
    directory.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", HASTY.replace("LINGER = 0", "LINGER = 2"), str(directory)], check=True)
    assert rig.engines()
    # Removed, as far as the engine can see; removing it file by file could meet one that the engine makes.
    rig.settings.state_directory.rename(tmp_path / "removed")
    until(lambda: not rig.engines())
    assert not rig.settings.state_directory.exists()


def test_an_engine_leaves_a_state_directory_that_was_made_anew_to_another(rig: LocalRig, tmp_path: Path) -> None:
    directory = rig.settings.state_directory / "local"
    directory.mkdir(parents=True)
    hasty = HASTY.replace("LINGER = 0", "LINGER = 2")
    subprocess.run([sys.executable, "-c", hasty, str(directory)], check=True)
    [first] = rig.engines()
    rig.settings.state_directory.rename(tmp_path / "removed")
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": gate.wait}))
    gate.reached()
    until(lambda: first not in rig.engines(), "the end of the engine of what was removed")
    assert run.refresh().state == "RUNNING", "it did not take the run for its own"
    gate.open()
    assert run.wait(PATIENCE).state == "SUCCEEDED"


@pytest.fixture
def small_disk(state_directory: Path) -> Iterator[Path]:
    """The state directory on a disk of its own, of a few MiB."""
    state_directory.mkdir(parents=True)
    if os.geteuid() != 0:
        missing("a disk of its own", "run the tests as root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(state_directory)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        missing("a disk of its own", f"mount said {mounted.stderr.decode()}")
    try:
        yield state_directory
    finally:
        subprocess.run(["umount", "--lazy", str(state_directory)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


def test_a_full_disk_is_told_and_the_run_goes_on_once_there_is_space(small_disk: Path, rig: LocalRig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": gate.wait, "b": f"echo x >>{rig.path('b')}"}, {"b": ["a"]}))
    gate.reached()
    until(lambda: run.refresh().jobs["a"].state is RUNNING)
    filler = fill(small_disk)
    gate.open()
    until(lambda: run.refresh().state == "INTERRUPTED")
    assert "full" in run.interruption
    assert "Free some space" in run.interruption
    elsewhere = "import sys, ezbatch; run = ezbatch.EZBatchRun.attach(sys.argv[1]); print(run.state, run.interruption)"
    assert "INTERRUPTED" in rig.python(elsewhere, run.id)
    with pytest.raises(StateDirectoryError, match=r"full|space"):
        rig.submit(rig.workflow({"c": "true"}))
    with pytest.raises(StateDirectoryError, match=r"full|space"):
        run.cancel("b")
    assert process.alive(small_disk / "local")
    filler.unlink()
    until(lambda: run.refresh().state not in ("INTERRUPTED", "RUNNING"))
    # Its log could not be made while the disk was full, or it began afterwards: both are an end.
    assert run.jobs["a"].state is SUCCEEDED
    assert run.jobs["b"].state.terminal
    if run.state == "FAILED":
        assert "The disk is full" in str(run.explain("b"))
        run = run.retry().wait(PATIENCE)
    assert run.state == "SUCCEEDED"
    assert rig.lines("b") == ["x"]


def test_a_run_on_a_full_disk_can_be_cancelled_once_there_is_space(small_disk: Path, rig: LocalRig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": gate.wait, "b": "true"}, {"b": ["a"]}))
    gate.reached()
    until(lambda: run.refresh().jobs["a"].state is RUNNING)
    filler = fill(small_disk)
    with pytest.raises(StateDirectoryError, match=r"full|space"):
        run.cancel()
    filler.unlink()
    assert run.cancel().wait(PATIENCE).state == "CANCELLED"
    until(lambda: not rig.processes(run))


def test_an_engine_killed_on_a_full_disk_can_be_followed_by_another(small_disk: Path, rig: LocalRig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": f"echo x >>{rig.path('a')}; {gate.wait}", "b": "true"}, {"b": ["a"]}))
    gate.reached()
    until(lambda: run.refresh().jobs["a"].state is RUNNING)
    filler = fill(small_disk)
    kill(rig.engines())
    assert run.refresh().state == "INTERRUPTED"
    filler.unlink()
    gate.open()
    assert run.resume().wait(PATIENCE).state == "SUCCEEDED"
    assert rig.lines("a") == ["x"]


def test_the_state_can_be_read_by_its_owner_only(rig: LocalRig) -> None:
    secret = "correct-horse"
    run = rig.submit(rig.workflow({"a": rig.job("true", environment={"A": secret})})).wait(PATIENCE)
    assert run.state == "SUCCEEDED"
    holding = [
        path
        for path in rig.settings.state_directory.rglob("*")
        if path.is_file() and secret.encode() in path.read_bytes()
    ]
    assert holding
    for path in holding:
        assert path.stat().st_mode & 0o077 == 0, path
    assert secret not in json.dumps([repr(run), str(run.plan), str(run.explain()), repr(run.jobs)])
