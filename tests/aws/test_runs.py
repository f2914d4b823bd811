"""Killed and taken up, cancelled, retried, attached to from elsewhere; and what is left on AWS afterwards: nothing."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ezbatch import EZBatchRun, EZBatchWorkflow, S3Mount, S3Mounts, Settings
from ezbatch.aws.backend import AWSBackend
from ezbatch.backend import JobState
from ezbatch.errors import RunNotFoundError
from ezbatch.garbage import collect_garbage
from ezbatch.run import runs
from ezbatch.spending import spent_by_tag

from .engine import Outcome
from .product import QUEUE, Pace, assert_clean, backend_of, end, flow, handle, job, start
from .rig import Rig
from .submitter import Order, Submitter

CHAIN = {name: [before] for before, name in zip("abcde", "bcdef", strict=True)}
#: The calls of a submission of six jobs in a row, in order; a submitter is killed as each arrives.
CALLS = [("DescribeJobQueues", 1), ("RegisterJobDefinition", 1), *[("SubmitJob", number) for number in range(1, 7)]]


@pytest.fixture
def submitter(rig: Rig) -> Iterator[Submitter]:
    made = Submitter(rig.env)
    yield made
    made.close()


def killed(rig: Rig, submitter: Submitter, action: str, nth: int) -> EZBatchRun | None:
    """Return the run whose submitter was killed when a call arrived; that call is still handled."""
    workflow = flow(*"abcdef", **CHAIN)
    environment = {"EZBATCH_STATE_DIR": os.environ["EZBATCH_STATE_DIR"]}
    pid = submitter.start(Order("submit", json.dumps(workflow.to_dict()), environment, 20.0, 4.0))
    rig.faults.when(action, nth, lambda: os.kill(pid, 9))
    assert submitter.ended() == -9
    found = runs()
    return handle(found[0].id, backend_of()) if found else None


@pytest.mark.parametrize(("action", "nth"), CALLS)
@pytest.mark.parametrize("then", ["resume", "cancel"])
def test_a_killed_submission_is_shown_and_finished_or_undone(
    rig: Rig, submitter: Submitter, action: str, nth: int, then: str
) -> None:
    rig.virtual("manual")
    run = killed(rig, submitter, action, nth)
    if run is None:
        assert action == "DescribeJobQueues", "what was begun is in the ledger"
        assert rig.jobs() == []
        return
    run.refresh()
    assert (run.state, run.interruption) == ("INTERRUPTED", "its submission broke off")
    if then == "resume":
        assert run.resume().state == "RUNNING"
        assert len(rig.jobs()) == 6
        rig.virtual(0.0)
        rig.finish()
        assert end(run).state == "SUCCEEDED"
        assert len(rig.definitions()) == 1
    else:
        assert end(run.cancel()).state == "CANCELLED"
        rig.wait_idle()
        assert len(rig.jobs()) < 6 or nth == 6
    assert_clean(rig)


def test_two_resume_at_once(rig: Rig, submitter: Submitter) -> None:
    rig.virtual("manual")
    run = killed(rig, submitter, "SubmitJob", 3)
    assert run is not None
    environment = {"EZBATCH_STATE_DIR": os.environ["EZBATCH_STATE_DIR"]}
    submitter.start(Order("resume", run.id, environment, 20.0, 4.0))
    handle(run.id, backend_of()).resume()
    assert submitter.ended() == 0
    assert len(rig.jobs()) == 6
    rig.virtual(0.0)
    rig.finish()
    assert end(handle(run.id)).state == "SUCCEEDED"
    assert_clean(rig)


# Cancelling


@pytest.mark.parametrize("bulk", [True, False])
def test_cancelling_in_bulk_and_one_by_one(rig: Rig, bulk: bool) -> None:
    rig.virtual("manual")
    backend = backend_of()
    if not bulk:
        backend.clients._clients["batch"] = _Older(backend.clients.client("batch"))
    run = start(flow(*(f"j{number}" for number in range(60)), "end", end=["j0"]), backend)
    rig.wait_for("*-j1", "RUNNING")
    run.cancel(reason="enough")
    assert end(run).state == "CANCELLED"
    counts = rig.counts()
    assert (counts.get("TerminateJobs", 0), counts.get("TerminateJob", 0)) == ((2, 0) if bulk else (0, 61))
    assert run.jobs["j0"].cancelled
    assert "enough" in run.jobs["j0"].reason
    assert_clean(rig)


class _Older:
    """boto3's client as it was before it knew TerminateJobs."""

    def __init__(self, client: object) -> None:
        self._client = client

    def __getattr__(self, name: str) -> object:
        if name == "terminate_jobs":
            raise AttributeError(name)
        return getattr(self._client, name)


def test_a_job_that_waits_ends_once_what_it_waits_for_has(rig: Rig) -> None:
    rig.virtual("manual")
    run = start(flow("a", "b", b=["a"]))
    rig.wait_for("*-a", "RUNNING")
    run.cancel("b")
    assert run.refresh().jobs["b"].state is JobState.PENDING
    rig.finish("*-a")
    assert end(run).state == "FAILED"
    assert (run.jobs["a"].state, run.jobs["b"].state) == (JobState.SUCCEEDED, JobState.FAILED)
    assert run.jobs["b"].attempts == ()
    assert_clean(rig)


def test_cancelling_through_a_bad_network(rig: Rig) -> None:
    rig.virtual("manual")
    run = start(flow(*"abc"))
    rig.faults.random(5, "TerminateJobs", "DescribeJobs", drop=0.3, error=0.2, truncate=0.2, max_faults=10)
    run.cancel()
    assert end(run).state == "CANCELLED"
    assert_clean(rig)


def test_one_child_of_an_array(rig: Rig) -> None:
    rig.virtual("manual")
    run = start(EZBatchWorkflow("w", {"a": job(array=3)}))
    rig.wait_for(f"{run.jobs['a'].job_id}:1", "RUNNING")
    run.cancel("a:1")
    rig.wait_for(f"{run.jobs['a'].job_id}:1", "FAILED")
    rig.finish()
    assert end(run).state == "FAILED"
    assert run.jobs["a"].children == {JobState.SUCCEEDED: 2, JobState.FAILED: 1}


# Retrying


def test_only_what_did_not_succeed_runs_again(rig: Rig) -> None:
    fails = {"b", ("arr", 1), ("arr", 3)}
    rig.virtual(lambda one: Outcome(0.0, int(_who(one) in fails)))
    jobs = {"a": job(), "b": job(), "c": job(), "arr": job(array=5), "last": job()}
    run = end(start(EZBatchWorkflow("w", jobs, {"c": ["b"], "last": ["arr", "a"]})))
    assert run.state == "FAILED"
    assert [run.jobs[name].state.value for name in jobs] == ["SUCCEEDED", "FAILED", "BLOCKED", "FAILED", "BLOCKED"]
    fails.clear()
    again = end(run.retry())
    assert again.state == "SUCCEEDED"
    assert sorted(again.jobs) == ["arr", "b", "c", "last"]
    assert again.retry_of == run.id
    assert again.jobs["arr"].children == {JobState.SUCCEEDED: 2}
    assert_clean(rig)


def _who(one: object) -> object:
    name = one.name.rpartition("-")[2]  # type: ignore[attr-defined] # a job of the engine
    return name if one.index is None else (name, one.index)  # type: ignore[attr-defined] # likewise


# Elsewhere


def moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Go to another machine, whose ledger is empty."""
    monkeypatch.setenv("EZBATCH_STATE_DIR", str(tmp_path / "another-machine"))


def test_a_run_is_rebuilt_where_no_ledger_knows_it(rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rig.options.secrets = {"arn:aws:secretsmanager:us-east-1:123456789012:secret:one": "s"}
    jobs = {
        "plain": job(["sh", "-c", "echo out; echo 'two  words'"], environment={"A": "b c", "EMPTY": ""}),
        "日本 語": job("true", tags={"who": "me"}, retries=2, timeout=120),
        "a b/c": job("true", secrets={"S": "arn:aws:secretsmanager:us-east-1:123456789012:secret:one"}),
        "count": job("true", array=3),
    }
    after = {"日本 語": ["plain"], "a b/c": ["plain", "日本 語"], "count": ["a b/c"]}
    workflow = EZBatchWorkflow("wörk flow", jobs, after)
    made = end(start(workflow))
    assert made.state == "SUCCEEDED"
    moved(monkeypatch, tmp_path)
    assert runs() == []
    run = EZBatchRun.attach(made.id, QUEUE)
    assert (run.state, run.name) == ("SUCCEEDED", "wörk flow")
    assert list(run.jobs) == list(jobs)
    assert run.parents == {name: tuple(after.get(name, ())) for name in jobs}
    rebuilt = run.workflow
    for name, was in jobs.items():
        now = rebuilt.jobs[name]
        assert now.argv == was.argv
        for field in ("environment", "vcpus", "memory", "tags", "retries", "timeout", "secrets", "array", "image"):
            assert getattr(now, field) == getattr(was, field), (name, field)
    assert [event.message for event in run.logs("plain")] == ["out", "two  words"]
    assert [listed.id for listed in runs()] == [made.id], "from now on this ledger knows it"
    assert_clean(rig)


def test_a_run_with_joins_mounts_and_arrays_is_rebuilt_and_retried(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fails = {"end", ("grid", 2), ("list", 0), ("list", 1)}
    rig.virtual(lambda one: Outcome(0.0, int(_who(one) in fails)))
    mounts = S3Mounts(
        read=[S3Mount("s3://bucket/in/", "/data/in", recursive=True)],
        write=[S3Mount("/data/out", "s3://bucket/out/", recursive=True)],
    )
    parents = [f"p{number}" for number in range(45)]
    jobs = {name: job() for name in parents}
    jobs |= {
        "end": job(["sh", "-c", "wc"], mounts=mounts, preloader=True, environment={"X": "1"}),
        "grid": job("true", array={"A": ["p", "q"], "B": ["1", "2"]}),
        "list": job("true", array=[{"A": "1"}, {"A": "2"}, {"B": "3"}]),
    }
    made = end(start(EZBatchWorkflow("joined", jobs, {"end": parents})))
    assert made.state == "FAILED"
    moved(monkeypatch, tmp_path)
    run = EZBatchRun.attach(made.id, QUEUE)
    assert run.state == "FAILED"
    assert set(run.jobs) == set(jobs), "joins are hidden"
    assert set(run.parents["end"]) == set(parents)
    rebuilt = run.workflow.jobs
    assert rebuilt["end"].mounts == mounts
    assert rebuilt["end"].preloader
    assert rebuilt["end"].argv == ["sh", "-c", "wc"]
    assert rebuilt["end"].environment == {"X": "1"}
    assert rebuilt["grid"].array == jobs["grid"].array
    assert rebuilt["list"].array == jobs["list"].array
    fails.clear()
    again = end(run.retry())
    assert again.state == "SUCCEEDED"
    assert sorted(again.jobs) == ["end", "grid", "list"]
    assert again.jobs["list"].children == {JobState.SUCCEEDED: 2}
    # And once more from a third machine: a retry of a rebuilt run is rebuilt, too.
    moved(monkeypatch, tmp_path / "third")
    third = EZBatchRun.attach(again.id, QUEUE)
    assert third.state == "SUCCEEDED"
    assert third.report("list:1").name == "list:1"
    assert_clean(rig)


def test_a_run_that_goes_on_is_attached_to_and_ended(rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rig.virtual("manual")
    made = start(flow("a", "b", b=["a"]))
    moved(monkeypatch, tmp_path)
    run = EZBatchRun.attach(made.id, QUEUE)
    assert run.state == "RUNNING"
    assert rig.definitions("ACTIVE")
    run = handle(made.id)
    assert end(run.cancel()).state == "CANCELLED"
    assert_clean(rig)


def test_what_is_not_there_is_said(rig: Rig) -> None:
    with pytest.raises(RunNotFoundError, match="Write the whole id, and check the queue, profile and Region"):
        EZBatchRun.attach("nothing-abcdef", QUEUE)
    assert rig.calls("ListJobs")


def test_a_run_whose_id_begins_like_anothers_is_not_mixed_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = end(start(flow("a", name="x")))
    # A workflow may be called like a run.
    other = end(start(flow("b", name=first.id)))
    assert other.id.startswith(f"{first.id}-")
    moved(monkeypatch, tmp_path)
    assert list(EZBatchRun.attach(first.id, QUEUE).jobs) == ["a"]
    assert list(EZBatchRun.attach(other.id, QUEUE).jobs) == ["b"]
    assert len(rig.jobs()) == 2


# Definitions


def test_whoever_sees_the_end_first_deregisters_and_nobody_before(rig: Rig) -> None:
    rig.virtual("manual")
    run = start(flow("a", "b", b=["a"]))
    other = handle(run.id)
    rig.wait_for("*-a", "RUNNING")
    rig.finish("*-a")
    other.refresh()
    assert rig.definitions("ACTIVE"), "a job of it has not ended"
    rig.wait_for("*-b", "RUNNING")
    rig.finish("*-b")
    rig.wait_idle()
    assert other.refresh().state == "SUCCEEDED"
    assert rig.definitions("ACTIVE") == []
    assert end(run).state == "SUCCEEDED"
    assert_clean(rig)


def test_garbage(rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, submitter: Submitter) -> None:
    rig.virtual("manual")
    gone = killed(rig, submitter, "SubmitJob", 1)
    assert gone is not None
    live = start(flow("a"))
    rig.client("batch").terminate_job(jobId=rig.jobs(f"{gone.id}-*")[0].id, reason="by hand")
    rig.wait_for(f"{gone.id}-*", "FAILED")
    collected, kept = collect_garbage()
    assert len(collected) == 1
    assert gone.id in collected[0]
    assert kept == {live.id: "1 of its jobs have not ended"}
    moved(monkeypatch, tmp_path)
    assert collect_garbage() == (
        [],
        {live.id: "this machine did not submit it; name its queue with -q to look for its jobs"},
    )
    assert collect_garbage(QUEUE)[1] == {live.id: "1 of its jobs have not ended"}
    rig.finish(f"{live.id}-*")
    rig.wait_idle()
    assert len(collect_garbage(QUEUE)[0]) == 1
    assert_clean(rig)


def test_queues_as_a_person_chooses_one(rig: Rig) -> None:
    rig.queue("off", state="DISABLED")
    rig.queue("spot", platform="FARGATE_SPOT", max_vcpus=12)
    rig.queue("empty")
    rig.set_environment("empty", state="DISABLED")
    found = {queue.name: queue for queue in AWSBackend(Settings.load()).queues()}
    assert list(found) == ["empty", QUEUE, "off", "spot"]
    assert (found["spot"].platform, found["spot"].max_vcpus, found["spot"].state) == ("FARGATE_SPOT", 12, "ready")
    assert re.search("disabled", found["off"].state)
    assert "no working compute environment" in found["empty"].state


def test_cost_without_a_way_to_aws_leaves_arrays_out_and_says_so(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tags = {"project": "p"}
    workflow = EZBatchWorkflow("w", {"a": job(array=3, tags=tags), "b": job(tags=tags)})
    started = [end(start(workflow)) for _run in range(3)]
    first = started[0]
    whole = first.cost()
    assert ([row.name for row in whole.rows], whole.unreachable) == (["a", "b"], False)
    rig.faults.script("ListJobs", "reset", "reset", "reset", "reset", "reset")
    assert [row.name for row in first.cost().rows] == ["a", "b"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens there
    backend = backend_of(Pace(1000))
    found = handle(first.id, backend).cost()
    assert ([row.name for row in found.rows], found.unreachable) == (["b"], True)
    assert "could not be looked up: a. AWS cannot be reached" in found.notes[-1]
    assert [row.name for row in handle(first.id, backend).cost(look=False).rows] == ["b"]
    monkeypatch.setenv("AWS_PROFILE", "gone")
    caplog.clear()
    assert spent_by_tag("project")["p"] == pytest.approx(sum(run.cost(look=False).total for run in started))
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"the sums lack arrays of {started[-1].id} and 2 more runs" in said
    assert "The config profile (gone) could not be found" in said
