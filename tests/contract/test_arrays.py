"""Arrays: one job, many children."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ezbatch import JobNotFoundError, JobState

from .rig import PATIENCE, Rig, until

SUCCEEDED, FAILED, BLOCKED = JobState.SUCCEEDED, JobState.FAILED, JobState.BLOCKED
INDEX = "$AWS_BATCH_JOB_ARRAY_INDEX"


def test_each_child_knows_which_it_is(rig: Rig) -> None:
    script = f'echo "{INDEX} $AWS_BATCH_JOB_ARRAY_SIZE" >>{rig.path("out")}'
    run = rig.run({"a": rig.job(script, array=5)})
    assert run.state == "SUCCEEDED"
    assert sorted(rig.lines("out")) == [f"{i} 5" for i in range(5)]
    report = run.jobs["a"]
    assert (report.state, report.children) == (SUCCEEDED, {SUCCEEDED: 5})
    assert run.counts == {SUCCEEDED: 1}, "an array is one job"


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        ([{"A": "x y", "B": 1}, {"A": "'\"$*", "B": 2.5}, {"B": True}], ["x y|1", "'\"$*|2.5", "none|True"]),
        ({"A": ["p", "q"], "B": [1, 2, 3]}, [f"{a}|{b}" for a, b in itertools.product("pq", (1, 2, 3))]),
        ([{"A": "only", "B": "one"}], ["only|one"]),
    ],
)
def test_each_child_has_its_entry(rig: Rig, array: Any, expected: list[str]) -> None:  # noqa: ANN401 - any form
    script = f'echo "{INDEX} ${{A-none}}|$B $OTHER"'
    run = rig.run({"a": rig.job(script, array=array, environment={"OTHER": "same"})})
    assert run.state == "SUCCEEDED"
    for index, text in enumerate(expected):
        assert [event.message for event in run.logs(f"a:{index}")] == [f"{index} {text} same"]


def test_what_depends_on_an_array_waits_for_all_of_it(rig: Rig) -> None:
    gate = rig.gate()
    script = f"if test {INDEX} = 1; then {gate.wait}; fi; echo x >>{rig.path('out')}"
    run = rig.submit(rig.workflow({"a": rig.job(script, array=3), "b": f"wc -l <{rig.path('out')}"}, {"b": ["a"]}))
    gate.reached()
    until(lambda: (run.refresh().jobs["a"].children or {}).get(SUCCEEDED) == 2)
    report = run.jobs["a"]
    assert report.state is JobState.RUNNING
    assert report.children == {SUCCEEDED: 2, JobState.RUNNING: 1}
    assert run.jobs["b"].state is JobState.PENDING
    assert run.report("a:0").state is SUCCEEDED
    assert run.report("a:1").state is JobState.RUNNING
    gate.open()
    assert run.wait(PATIENCE).state == "SUCCEEDED"
    assert [event.message.strip() for event in run.logs("b")] == ["3"]


def test_one_child_that_fails_fails_the_array_and_the_others_end(rig: Rig) -> None:
    script = f'echo "child {INDEX}"; test {INDEX} != 2 || exit 9'
    run = rig.run({"a": rig.job(script, array=5), "b": "true"}, {"b": ["a"]})
    assert run.state == "FAILED"
    report = run.jobs["a"]
    assert (report.state, report.children) == (FAILED, {SUCCEEDED: 4, FAILED: 1})
    child = run.report("a:2")
    assert (child.name, child.state, child.exit_code) == ("a:2", FAILED, 9)
    assert run.report("a:4").state is SUCCEEDED
    assert run.jobs["b"].state is BLOCKED
    assert "children failed" in str(run.explain("a"))
    assert "9" in str(run.explain("a:2"))
    with pytest.raises(Exception, match=r"child 2") as caught:
        run.raise_for_status()
    assert "'a'" in str(caught.value)


def test_children_that_fail_are_repeated_alone(rig: Rig) -> None:
    attempt = "$AWS_BATCH_JOB_ATTEMPT"
    script = f'echo "{INDEX} {attempt}" >>{rig.path("out")}; test {INDEX} != 1 || test {attempt} = 2'
    run = rig.run({"a": rig.job(script, array=3, retries=1)})
    assert run.state == "SUCCEEDED"
    assert sorted(rig.lines("out")) == ["0 1", "1 1", "1 2", "2 1"]
    assert [attempt.exit_code for attempt in run.report("a:1").attempts] == [1, 0]


def test_a_child_that_is_not_there(rig: Rig) -> None:
    run = rig.run({"a": rig.job("true", array=3), "b": "true"})
    for name in ("a:3", "a:-1", "a:x", "a:", "a:1:1", "b:0", "a:²"):
        with pytest.raises(JobNotFoundError):
            run.report(name)
        with pytest.raises(JobNotFoundError):
            run.cancel(name).report(name)


def test_logs_of_an_array_are_those_of_its_children(rig: Rig) -> None:
    run = rig.run({"a": rig.job(f'echo "line {INDEX}"', array=4)})
    assert [(event.job, event.message) for event in run.logs("a")] == [(f"a:{i}", f"line {i}") for i in range(4)]
    assert [event.message for event in run.logs(follow=True)] == [f"line {i}" for i in range(4)]


def test_a_blocked_array_has_blocked_children(rig: Rig) -> None:
    run = rig.run({"a": "exit 1", "b": rig.job("true", array=3), "c": "true"}, {"b": ["a"], "c": ["b"]})
    assert {name: report.state for name, report in run.jobs.items()} == {"a": FAILED, "b": BLOCKED, "c": BLOCKED}
    assert list(run.logs("b")) == []


def test_ten_thousand_children(rig: Rig) -> None:
    gate = rig.gate()
    grid = {"A": list(range(100)), "B": [f"v{i}" for i in range(100)]}
    run = rig.submit(
        rig.workflow({"a": rig.job(f'echo "{INDEX} $A $B"; {gate.wait}', array=grid), "b": "true"}, {"b": ["a"]})
    )
    gate.reached(3)
    run.refresh()
    assert sum((run.jobs["a"].children or {}).values()) == 10_000
    for index in (0, 1, 2):
        (event,) = itertools.islice(run.logs(f"a:{index}", follow=True), 1)
        assert event.message == f"{index} 0 v{index}"
        assert run.report(f"a:{index}").state is JobState.RUNNING
    assert run.report("a:9999").name == "a:9999"
    run.cancel().wait(PATIENCE)
    assert run.state == "CANCELLED"
    assert run.jobs["a"].state is FAILED
    assert sum((run.jobs["a"].children or {}).values()) == 10_000
    until(lambda: not rig.processes(run))
