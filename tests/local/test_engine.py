"""The scheduler, with a clock of the test's: timeouts, room, patience, long chains, and engines that come and go."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ezbatch import EZBatchJob, JobState

from .machine import Machine, states

SUCCEEDED, FAILED, BLOCKED, RUNNING = JobState.SUCCEEDED, JobState.FAILED, JobState.BLOCKED, JobState.RUNNING
RUNNABLE = JobState.RUNNABLE


# Timeouts


def test_a_timeout_ends_the_attempt_and_is_not_repeated(machine: Machine, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    run = machine.submit(
        {"a": machine.job(f"touch {begun}; sleep 300", timeout=60, retries=3), "b": "true"}, {"b": ["a"]}
    )
    machine.until(begun.exists)
    machine.advance(58)
    machine.settle()
    assert states(run)["a"] is RUNNING
    machine.advance(3)
    machine.finish(run)
    report = run.jobs["a"]
    assert (report.state, len(report.attempts)) == (FAILED, 1)
    assert report.reason == "Job attempt duration exceeded timeout of 60 s"
    assert report.exit_code == 143
    assert "longer than its timeout" in str(run.explain("a"))
    assert run.jobs["b"].state is BLOCKED
    assert run.state == "FAILED"


def test_a_timeout_holds_for_each_attempt_and_each_child(machine: Machine, tmp_path: Path) -> None:
    script = f"touch {tmp_path}/$AWS_BATCH_JOB_ARRAY_INDEX; test $AWS_BATCH_JOB_ARRAY_INDEX = 1 || sleep 300"
    run = machine.submit({"a": machine.job(script, array=3, timeout=60)})
    machine.until(lambda: len(list(tmp_path.iterdir())) == 3)
    machine.until(lambda: (run.refresh().jobs["a"].children or {}).get(SUCCEEDED))
    machine.advance(61)
    machine.finish(run)
    assert run.jobs["a"].children == {SUCCEEDED: 1, FAILED: 2}
    assert "timeout" in run.report("a:0").reason


def test_what_is_deaf_to_the_request_is_killed(machine: Machine, tmp_path: Path) -> None:
    script = f'trap "" TERM; touch {tmp_path}/begun; while :; do sleep 1; done'
    run = machine.submit({"a": machine.job(script, timeout=60), "b": machine.job(script.replace("begun", "too"))})
    machine.until(lambda: len(list(tmp_path.iterdir())) == 2)
    machine.advance(61)
    run.cancel("b", reason="enough")
    machine.settle()
    assert set(states(run).values()) == {RUNNING}
    machine.advance(11)
    machine.finish(run)
    assert (run.jobs["a"].exit_code, run.jobs["b"].exit_code) == (137, 137)
    assert "timeout" in run.jobs["a"].reason
    assert "enough" in run.jobs["b"].reason


# Room


def test_never_more_than_the_machine_over_all_runs(new_machine: Callable[..., Machine]) -> None:
    machine = new_machine(vcpus=4, memory=4096)
    sizes = [(1, 512), (2, 512), (1, 2048), (3, 1024), (4, 64)]
    runs = [
        machine.submit({f"j{i}": machine.job("sleep 0.03", vcpus=v, memory=m) for i, (v, m) in enumerate(sizes * 3)})
        for _ in range(3)
    ]
    machine.finish(*runs)
    assert {run.state for run in runs} == {"SUCCEEDED"}
    assert 3 <= machine.peak_vcpus <= 4
    assert machine.peak_memory <= 4096
    assert (machine.engine.used_vcpus, machine.engine.used_memory) == (0, 0)


def test_quarters_of_a_processor_add_up(new_machine: Callable[..., Machine], tmp_path: Path) -> None:
    machine = new_machine(vcpus=1, memory=100_000)
    script = f'touch {tmp_path}/"$AWS_BATCH_JOB_ID"; while ! test -e {tmp_path}/go; do sleep 0.01; done'
    run = machine.submit({f"j{i}": machine.job(script, vcpus=0.25, memory=512, platform="FARGATE") for i in range(6)})
    machine.until(lambda: len(list(tmp_path.iterdir())) == 4)
    machine.settle()
    assert sorted(states(run).values()) == [RUNNABLE] * 2 + [RUNNING] * 4
    assert "waits for room" in str(run.explain("j5"))
    (tmp_path / "go").touch()
    machine.finish(run)
    assert machine.engine.used_vcpus == 0


def test_a_job_that_is_too_big_runs_alone(new_machine: Callable[..., Machine], tmp_path: Path) -> None:
    machine = new_machine(vcpus=2, memory=4096)
    script = (
        f"test ! -e {tmp_path}/busy || touch {tmp_path}/clash; touch {tmp_path}/busy; sleep 0.05; rm {tmp_path}/busy"
    )
    run = machine.submit(
        {
            "small": machine.job(script, memory=64),
            "wide": machine.job(script, vcpus=16, memory=64),
            "tall": machine.job(script, memory=100_000),
            "other": machine.job(script, vcpus=2, memory=64),
        }
    )
    machine.finish(run)
    assert run.state == "SUCCEEDED"
    assert list(tmp_path.iterdir()) == []
    assert any("Too big for this machine" in note for note in run.notes)


def test_a_big_job_is_overtaken_for_a_while_and_no_longer(new_machine: Callable[..., Machine], tmp_path: Path) -> None:
    machine = new_machine(vcpus=2)

    def gate(name: str) -> str:
        return f"touch {tmp_path}/{name}; while ! test -e {tmp_path}/{name}.go; do sleep 0.01; done"

    def begun(name: str) -> bool:
        return (tmp_path / name).exists()

    first = machine.submit({"first": gate("first")})
    machine.until(lambda: begun("first"))
    big = machine.submit({"big": machine.job(gate("big"), vcpus=2)})
    machine.settle()
    small = machine.submit({"small": gate("small")})
    machine.until(lambda: begun("small"))
    assert states(big)["big"] is RUNNABLE
    (tmp_path / "small.go").touch()
    machine.finish(small)
    machine.advance(61)
    late = machine.submit({"late": gate("late")})
    machine.settle()
    assert states(late)["late"] is RUNNABLE, "it would fit, but it is not its turn"
    (tmp_path / "first.go").touch()
    machine.until(lambda: begun("big"))
    assert not begun("late")
    (tmp_path / "big.go").touch()
    machine.until(lambda: begun("late"))
    (tmp_path / "late.go").touch()
    machine.finish(first, big, late)


def test_a_job_that_was_cancelled_while_it_waited_never_begins(
    new_machine: Callable[..., Machine], tmp_path: Path
) -> None:
    machine = new_machine(vcpus=1)
    script = f'touch {tmp_path}/"$NAME"; while ! test -e {tmp_path}/go; do sleep 0.01; done'

    def job(name: str) -> EZBatchJob:
        return machine.job(script, environment={"NAME": name})

    held = machine.submit({name: job(name) for name in ("h0", "h1", "h2")})
    machine.until((tmp_path / "h0").exists)
    machine.begin()  # the engine was killed; what had begun goes on, the rest of that run is held
    other = machine.submit({"o0": job("o0"), "o1": job("o1"), "o2": job("o2")})
    machine.settle()
    other.cancel(["o0", "o1"])
    machine.settle()
    assert states(other) == {"o0": FAILED, "o1": FAILED, "o2": RUNNABLE}
    (tmp_path / "go").touch()
    machine.finish(other)
    machine.settle()
    assert {path.name for path in tmp_path.iterdir()} == {"h0", "o2", "go"}
    assert states(held) == {"h0": SUCCEEDED, "h1": RUNNABLE, "h2": RUNNABLE}
    assert held.state == "INTERRUPTED"
    held.resume()
    machine.finish(held)
    assert held.state == "SUCCEEDED"


# Chains


def test_a_long_chain_ends_at_once_when_its_first_job_fails(machine: Machine) -> None:
    names = [f"j{i}" for i in range(5_000)]
    jobs = dict.fromkeys(names, machine.job("true")) | {"j0": machine.job("exit 1")}
    run = machine.submit(jobs, {after: [before] for before, after in itertools.pairwise(names)})
    machine.finish(run)
    assert run.counts == {FAILED: 1, BLOCKED: 4_999}
    assert run.jobs["j4999"].reason == "Dependent Job failed: j0"
    assert list(run.logs()) == [], "for each job a look at itself alone, or this would not end"


def test_a_long_chain_can_be_cancelled(machine: Machine, tmp_path: Path) -> None:
    names = [f"j{i}" for i in range(5_000)]
    jobs = dict.fromkeys(names, machine.job("true")) | {"j0": machine.job(f"touch {tmp_path}/x; sleep 300")}
    run = machine.submit(jobs, {after: [before] for before, after in itertools.pairwise(names)})
    machine.until((tmp_path / "x").exists)
    run.cancel()
    machine.finish(run)
    assert run.state == "CANCELLED"
    assert set(run.counts) <= {FAILED, BLOCKED}


def test_layers_of_joins(machine: Machine) -> None:
    layers = [[f"l{layer}-{i}" for i in range(30)] for layer in range(10)]
    jobs = {name: "true" for layer in layers for name in layer}
    dependencies = {name: list(above) for above, below in itertools.pairwise(layers) for name in below}
    run = machine.submit(jobs, dependencies)
    machine.finish(run)
    assert run.counts == {SUCCEEDED: 300}
    starts = {name: report.started for name, report in run.jobs.items() if report.started}
    stops = {name: report.stopped for name, report in run.jobs.items() if report.stopped}
    for above, below in itertools.pairwise(layers):
        assert max(stops[name] for name in above) <= min(starts[name] for name in below)


# Engines that come and go


def test_a_cancellation_is_not_lost_with_the_engine_that_took_it(machine: Machine, tmp_path: Path) -> None:
    run = machine.submit({"a": f"touch {tmp_path}/x; sleep 300", "b": "true"}, {"b": ["a"]})
    machine.until(lambda: (tmp_path / "x").exists() and states(run)["a"] is RUNNING)
    run.cancel(reason="enough")
    machine.engine.load()  # taken, and then the engine is killed before it writes anything down
    machine.begin()
    machine.finish(run)
    assert run.state == "CANCELLED"
    assert "enough" in run.jobs["a"].reason
    assert run.jobs["a"].cancelled


def test_the_next_engine_finishes_what_was_cancelled(machine: Machine, tmp_path: Path) -> None:
    script = f'trap "" TERM; touch {tmp_path}/x; while :; do sleep 1; done'
    run = machine.submit({"a": machine.job(script, retries=3)})
    machine.until(lambda: (tmp_path / "x").exists() and states(run)["a"] is RUNNING)
    run.cancel(reason="enough")
    machine.settle()
    machine.begin()
    machine.finish(run)
    assert (run.state, len(run.jobs["a"].attempts)) == ("CANCELLED", 1)
    assert "enough" in run.jobs["a"].reason


def test_what_is_cancelled_right_after_an_engine_came_gets_the_chance_to_end_well(
    machine: Machine, tmp_path: Path
) -> None:
    script = f"trap 'touch {tmp_path}/well; exit 3' TERM; touch {tmp_path}/x; while :; do sleep 0.01; done"
    run = machine.submit({"a": script})
    machine.until(lambda: (tmp_path / "x").exists() and states(run)["a"] is RUNNING)
    run.cancel()
    machine.begin()
    machine.finish(run)
    assert (tmp_path / "well").exists()
    assert run.jobs["a"].exit_code == 3


def test_a_job_that_ended_while_there_was_no_engine(machine: Machine, tmp_path: Path) -> None:
    script = f"touch {tmp_path}/x; while ! test -e {tmp_path}/go; do sleep 0.01; done; touch {tmp_path}/done; exit 7"
    run = machine.submit({"a": machine.job(script, retries=1), "b": "true"}, {"b": ["a"]})
    machine.until(lambda: (tmp_path / "x").exists() and states(run)["a"] is RUNNING)
    (tmp_path / "go").touch()
    process = next(iter(machine.engine.running.values())).process
    assert process is not None
    process.wait()
    machine.begin()
    machine.until(lambda: states(run)["a"] is RUNNABLE)
    assert [(a.number, a.exit_code) for a in run.jobs["a"].attempts] == [(1, 7)]
    assert run.state == "INTERRUPTED"
    run.resume()
    machine.finish(run)
    assert [(a.number, a.exit_code) for a in run.jobs["a"].attempts] == [(1, 7), (2, 7)]


def test_an_attempt_that_was_lost_with_the_machine_does_not_count(machine: Machine, tmp_path: Path) -> None:
    script = f'echo x >>{tmp_path}/count; test "$(wc -l <{tmp_path}/count)" != 1 || sleep 300'
    run = machine.submit({"a": script, "b": "true"}, {"b": ["a"]})
    machine.until(lambda: (tmp_path / "count").exists() and states(run)["a"] is RUNNING)
    (attempt,) = machine.engine.running.values()
    assert attempt.process is not None
    os.killpg(attempt.pid, signal.SIGKILL)  # the supervisor and all: a power cut
    attempt.process.wait()
    machine.begin()
    machine.settle()
    machine.advance(3)
    run.resume()
    machine.finish(run)
    assert run.state == "SUCCEEDED"
    first, second = run.jobs["a"].attempts
    assert "lost" in first.reason
    assert second.exit_code == 0


@pytest.mark.parametrize("turns", [1, 5])
def test_engines_that_come_one_after_another_run_every_job_once(machine: Machine, tmp_path: Path, turns: int) -> None:
    script = f'echo "$AWS_BATCH_JOB_ID" >>{tmp_path}/count; sleep 0.05'
    names = [f"j{i}" for i in range(12)]
    jobs: dict[str, EZBatchJob | str] = dict.fromkeys([*names, "end"], script)
    jobs["array"] = machine.job(script, array=6)
    run = machine.submit(jobs, {"j6": ["j0"], "j7": ["j1"], "array": ["j2"], "end": [*names, "array"]})
    for _turn in range(turns):
        machine.step()
        machine.step()
        machine.begin()
        run.resume()
    machine.finish(run)
    assert run.state == "SUCCEEDED"
    lines = (tmp_path / "count").read_text().split()
    assert len(lines) == len(set(lines)) == 19
