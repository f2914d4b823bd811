"""What jobs write, from CloudWatch: every attempt, as it comes, and what is said when there is nothing."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from ezbatch import EZBatchWorkflow
from ezbatch.errors import JobNotFoundError, LogMissingError

from .product import Pace, backend_of, end, flow, handle, job, start
from .rig import Rig


def lines(run: object, name: str | None = None, **more: object) -> list[str]:
    return [event.message for event in run.logs(name, **more)]  # type: ignore[attr-defined] # a run


def test_every_attempt_is_read_and_read_again_after_a_restart(rig: Rig) -> None:
    script = 'echo "try $AWS_BATCH_JOB_ATTEMPT"; test $AWS_BATCH_JOB_ATTEMPT = 3'
    run = end(start(EZBatchWorkflow("w", {"a": job(["sh", "-c", script], retries=3)})))
    expected = [("try 1", 1), ("try 2", 2), ("try 3", 3)]
    assert [(event.message, event.attempt) for event in run.logs("a")] == expected
    # A new process has the ledger's reports alone: the names of the streams are in them.
    assert [(event.message, event.attempt) for event in handle(run.id).logs("a")] == expected
    assert rig.calls("GetLogEvents")


def test_long_logs_come_page_by_page(rig: Rig) -> None:
    rig.options.page_size = 7
    run = end(start(EZBatchWorkflow("w", {"a": job(["sh", "-c", "seq 100"])})))
    assert lines(run, "a") == [str(number) for number in range(1, 101)]
    before = len(rig.calls("GetLogEvents"))
    assert lines(run, "a", tail=3) == ["98", "99", "100"]
    assert len(rig.calls("GetLogEvents")) - before <= 2, "the end, and whether there is more"
    assert lines(run, "a", tail=20) == [str(number) for number in range(81, 101)]
    assert lines(run, "a", tail=200) == [str(number) for number in range(1, 101)]


def test_followed_while_it_runs(rig: Rig) -> None:
    run = start(EZBatchWorkflow("w", {"a": job(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done"])}))
    began = time.monotonic()
    came = [(event.message, time.monotonic() - began) for event in run.logs("a", follow=True)]
    assert [message for message, _at in came] == ["1", "2", "3"]
    assert came[2][1] - came[0][1] > 0.2, "they came one by one"
    assert end(run).state == "SUCCEEDED"
    assert rig.states() == {"SUCCEEDED": 1}


def test_children_of_an_array(rig: Rig) -> None:
    run = end(start(EZBatchWorkflow("w", {"a": job(["sh", "-c", "echo child $AWS_BATCH_JOB_ARRAY_INDEX"], array=3)})))
    assert lines(run, "a:1") == ["child 1"]
    assert sorted(lines(run)) == ["child 0", "child 1", "child 2"]
    assert sorted(event.job for event in run.logs()) == ["a:0", "a:1", "a:2"]
    with pytest.raises(JobNotFoundError, match="no child 3"):
        run.logs("a:3")
    assert len(rig.children("*-a")) == 3


def test_the_logs_of_many_children_take_few_looks(rig: Rig) -> None:
    rig.virtual(0.0)
    run = end(start(EZBatchWorkflow("w", {"a": job("true", array=150)})))
    rig.forget_calls()
    assert lines(run) == []
    assert rig.counts()["DescribeJobs"] == 2


def test_no_log_yet_is_no_error(rig: Rig) -> None:
    rig.hold("RUNNABLE")
    run = start(flow("a"))
    assert lines(run.refresh(), "a") == []
    rig.release()
    end(run)


def test_a_stream_that_comes_late_is_waited_for(rig: Rig) -> None:
    rig.options.log_lag = 0.5
    run = start(EZBatchWorkflow("w", {"a": job(["sh", "-c", "echo late; sleep 0.1"])}))
    deadline = time.monotonic() + 10
    while not (came := lines(run.refresh(), "a")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert came == ["late"]
    end(run)


def test_a_stream_that_never_came_is_said(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.options.log_streams = False
    run = end(start(flow("a", "b")))
    (report,) = [run.jobs["a"]]
    assert report.stopped is not None
    if report.attempts[0].log:
        assert lines(run, "a") == [], "CloudWatch may only be late"
    for one in rig.engine.accepted:
        one.attempts[0]["stoppedAt"] -= 60_000
        one.stopped_at = (one.stopped_at or 0) - 60_000
    ledger = run._ledger
    with ledger._writing():
        ledger._db.execute("UPDATE jobs SET report = NULL")
        ledger._db.execute("UPDATE runs SET state = 'RUNNING'")
    again = handle(run.id).refresh()
    with pytest.raises(LogMissingError, match=r"a never came|names no log stream for a"):
        lines(again, "a")
    with caplog.at_level(logging.WARNING):
        assert lines(again) == [], "one job without a log does not hide the others"
    assert "a" in caplog.text


def test_a_container_that_never_started_has_no_log(rig: Rig) -> None:
    rig.options.missing_images = ("busybox",)
    run = end(start(flow("a")))
    assert run.state == "FAILED"
    assert "CannotPullContainerError" in run.jobs["a"].reason
    assert lines(run, "a") == []
    assert rig.logs("*") == []


def test_a_throttled_log_is_read_all_the_same(rig: Rig) -> None:
    run = end(start(EZBatchWorkflow("w", {"a": job(["sh", "-c", "seq 5"])})))
    rig.faults.random(4, "GetLogEvents", service="logs", throttle=0.5, drop=0.1, truncate=0.1, max_faults=20)
    assert lines(handle(run.id, backend_of(Pace(5))), "a") == list("12345")


def test_two_readers_at_once(rig: Rig) -> None:
    run = start(EZBatchWorkflow("w", {"a": job(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"])}))
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda: found.append(lines(handle(run.id), "a", follow=True))) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["1", "2", "3"]] * 2
    assert rig.states() == {"SUCCEEDED": 1}
    end(run)
