"""What jobs write, while they write it and afterwards."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from ezbatch import EZBatchRun, JobNotFoundError

from .rig import PATIENCE, Rig, until


def messages(run: EZBatchRun, job: str | None = None, *, tail: int | None = None) -> list[str]:
    return [event.message for event in run.logs(job, tail=tail)]


def test_lines_of_both_streams_in_the_order_written(rig: Rig) -> None:
    run = rig.run({"a": "echo one; echo two >&2; echo; echo '  three  '; printf four"})
    empty = [""] if rig.keeps_empty_lines else []
    assert messages(run, "a") == ["one", "two", *empty, "  three  ", "four"]
    for event in run.logs("a"):
        assert (event.job, event.attempt) == ("a", 1)


@pytest.mark.parametrize("stream", ["/dev/stderr", "/dev/stdout", "/proc/self/fd/2", "/dev/fd/1"])
def test_a_stream_that_is_opened_by_its_name_keeps_what_it_has(rig: Rig, stream: str) -> None:
    run = rig.run({"a": f"echo one; echo two >{stream}; (sleep 0.1; echo three) & echo four; wait"})
    assert messages(run, "a") == ["one", "two", "four", "three"]


def test_lines_come_while_the_job_writes_them(rig: Rig) -> None:
    first, second = rig.gate("first"), rig.gate("second")
    run = rig.submit(rig.workflow({"a": f"echo one; {first.wait}; echo two; {second.wait}; echo three"}))
    lines = run.logs("a", follow=True)
    first.reached()
    assert next(lines).message == "one"
    first.open()
    assert next(lines).message == "two"
    second.open()
    assert [event.message for event in lines] == ["three"]
    assert messages(run, "a") == ["one", "two", "three"]


def test_lines_of_several_jobs_come_as_they_are_written(rig: Rig) -> None:
    gates = {name: rig.gate(name) for name in "abc"}
    run = rig.submit(rig.workflow({name: f"{gate.wait}; echo {name}" for name, gate in gates.items()}))
    lines = run.logs(follow=True)
    for name in "cab":
        gates[name].open()
        event = next(lines)
        assert (event.job, event.message) == (name, name)
    assert list(lines) == []


def test_following_a_job_that_has_not_begun_waits_for_it(rig: Rig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": gate.wait, "b": "echo b"}, {"b": ["a"]}))
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.extend(event.message for event in run.logs("b", follow=True)))
    reader.start()
    gate.reached()
    assert found == []
    gate.open()
    reader.join(PATIENCE)
    assert found == ["b"]


def test_following_goes_on_over_attempts(rig: Rig) -> None:
    script = 'echo "try $AWS_BATCH_JOB_ATTEMPT"; test "$AWS_BATCH_JOB_ATTEMPT" = 3'
    run = rig.submit(rig.workflow({"a": rig.job(script, retries=3)}))
    assert [event.message for event in run.logs("a", follow=True)] == ["try 1", "try 2", "try 3"]


def test_following_a_blocked_job_ends(rig: Rig) -> None:
    run = rig.submit(rig.workflow({"a": "exit 1", "b": "echo b"}, {"b": ["a"]}))
    assert list(run.logs("b", follow=True)) == []


def test_following_a_run_that_has_ended_gives_everything_and_ends(rig: Rig) -> None:
    run = rig.run({"a": "seq 100"})
    assert [event.message for event in run.logs("a", follow=True)] == [str(i) for i in range(1, 101)]


def test_the_last_lines(rig: Rig) -> None:
    run = rig.run({"a": "seq 1000", "b": "seq 5"})
    assert messages(run, "a", tail=3) == ["998", "999", "1000"]
    assert messages(run, "a", tail=0) == []
    assert messages(run, "b", tail=10) == ["1", "2", "3", "4", "5"]
    assert messages(run, tail=1) == ["1000", "5"]
    with pytest.raises(ValueError, match="tail is -1"):
        run.logs(tail=-1)


def test_the_last_lines_and_what_comes_after(rig: Rig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": f"seq 10; {gate.wait}; seq 11 12"}))
    gate.reached()
    until(lambda: len(messages(run.refresh(), "a")) == 10)
    lines = run.logs("a", follow=True, tail=2)
    assert [next(lines).message, next(lines).message] == ["9", "10"]
    gate.open()
    assert [event.message for event in lines] == ["11", "12"]


def test_the_last_lines_of_several_attempts(rig: Rig) -> None:
    script = "echo $AWS_BATCH_JOB_ATTEMPT a; echo $AWS_BATCH_JOB_ATTEMPT b; [ $AWS_BATCH_JOB_ATTEMPT = 3 ]"
    run = rig.run({"a": rig.job(script, retries=2)})
    every = [f"{attempt} {line}" for attempt in (1, 2, 3) for line in "ab"]
    assert messages(run, "a") == every
    for count in range(8):
        assert messages(run, "a", tail=count) == every[max(6 - count, 0) :]
        assert [event.message for event in run.logs("a", tail=count, follow=True)] == every[max(6 - count, 0) :]


def test_a_last_line_without_its_end(rig: Rig) -> None:
    run = rig.run({"a": "echo one; echo two; printf three"})
    assert [messages(run, "a", tail=count) for count in (1, 2, 3)] == [
        ["three"],
        ["two", "three"],
        ["one", "two", "three"],
    ]


def test_every_line_of_many(rig: Rig) -> None:
    run = rig.run({"a": "seq 30000"})
    assert messages(run, "a") == [str(i) for i in range(1, 30001)]
    assert messages(run, "a", tail=25_000) == [str(i) for i in range(5_001, 30001)]
    # The end is not sought from the beginning.
    events, _cursor = run.log_page(run.jobs["a"], 1, last=5)
    assert events[-1].message == "30000"
    assert len(events) <= 10_000


def test_long_lines_lose_nothing(rig: Rig) -> None:
    run = rig.run({"a": "head -c 700000 /dev/zero | tr '\\0' x; echo; echo after"})
    lines = messages(run, "a")
    assert "".join(lines[:-1]) == "x" * 700_000
    assert lines[-1] == "after"


def test_bytes_that_are_no_text_are_shown_as_such(rig: Rig) -> None:
    run = rig.run({"a": r"printf 'a\377b\n'; printf 'win\r\n'; printf 'ü\n'"})
    lines = messages(run, "a")
    assert lines == ["a\ufffdb", "win", "ü"]


def test_times_are_in_order_and_within_the_job(rig: Rig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": f"echo one; {gate.wait}; echo two"}))
    gate.reached()
    until(lambda: len(messages(run.refresh(), "a")) == 1)
    gate.open()
    run.wait(PATIENCE)
    report = run.jobs["a"]
    one, two = run.logs("a")
    assert report.started is not None
    assert report.stopped is not None
    slack = timedelta(seconds=1)
    assert report.started - slack <= one.time <= two.time <= report.stopped + slack
    assert one.time.tzinfo is not None


def test_no_log_and_no_job(rig: Rig) -> None:
    run = rig.run({"quiet": "true", "a": "exit 1", "never": "echo x"}, {"never": ["a"]})
    assert messages(run, "quiet") == []
    assert messages(run, "never") == []
    for name in ("quite", "quiet:0", "a:x", "", ":", "quiet:"):
        with pytest.raises(JobNotFoundError):
            run.logs(name)
    with pytest.raises(JobNotFoundError, match="did you mean 'quiet'"):
        run.logs("quite")


def test_a_job_that_is_called_like_anothers_child(rig: Rig) -> None:
    script = 'echo "child $AWS_BATCH_JOB_ARRAY_INDEX"'
    run = rig.run({"a": rig.job(script, array=4), "a:2": "echo the job itself"})
    assert run.state == "SUCCEEDED"
    assert messages(run, "a:2") == ["the job itself"]
    assert messages(run, "a:3") == ["child 3"]
    assert messages(run, "a") == [f"child {i}" for i in range(4)]


def test_another_process_reads_the_same(rig: Rig) -> None:
    run = rig.run({"a": "echo one; echo two", "b": "echo three"})
    script = "import sys, ezbatch; print(*(e.message for e in ezbatch.EZBatchRun.attach(sys.argv[1]).logs()))"
    assert rig.python(script, run.id).split() == ["one", "two", "three"]
