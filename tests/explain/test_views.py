"""The person who reads a notebook or a terminal reads cause, evidence and remedy there, for each reason."""

from __future__ import annotations

import html
import json
import re

import pytest

from ezbatch import EZBatchRun
from ezbatch.cli import main
from ezbatch.explain import Explanation
from ezbatch_jupyter.bundles import run_bundle
from tests.aws.engine import NOT_STARTED, Outcome
from tests.aws.rig import Rig
from tests.explain.conftest import Submit, job
from tests.explain.test_causes import PULLS, WAITING


def read(run: EZBatchRun) -> list[str]:
    """Return what a notebook keeps of a run, as a person reads it: the page, and the text for a terminal."""
    bundle = run_bundle(run)
    page = html.unescape(re.sub(r"<[^>]+>", " ", bundle["text/html"]))
    return [" ".join(text.split()) for text in (page, bundle["text/plain"])]


def told(found: Explanation, text: str) -> bool:
    return all(words in text for words in (found.cause, found.evidence, found.remedy))


@pytest.mark.parametrize("reason", [row[0] for row in WAITING], ids=[row[0][:40] for row in WAITING])
@pytest.mark.parametrize("count", [1, 3], ids=["alone", "among others"])
def test_a_stuck_job_is_explained_in_the_notebook_and_in_status(
    aws_env: Rig, submit: Submit, capsys: pytest.CaptureFixture[str], reason: str, count: int
) -> None:
    aws_env.queue()
    aws_env.block("ezbatch", reason)
    run = submit({name: job() for name in "abc"[:count]})
    head = aws_env.jobs()[0].name.rpartition("-")[2]
    # AWS says it of the head; what it says needs no look of ours.
    aws_env.forget_calls()
    for text in read(run):
        assert told(run.explain(head, look=False), text)
    assert aws_env.calls() == []
    assert main(["status", run.id]) == 0
    out = " ".join(capsys.readouterr().out.split())
    found = run.explain(head)
    assert told(found, out)
    assert main(["status", run.id, "--json"]) == 0
    jobs = {one["job"]: one["why"] for one in json.loads(capsys.readouterr().out)["jobs"]}
    assert jobs[head] == {
        "cause": found.cause,
        "evidence": found.evidence,
        "remedy": found.remedy,
        "stuck": found.stuck,
    }


def test_what_a_look_at_the_queue_found_is_in_the_notebook(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue()
    aws_env.hold("RUNNABLE")
    run = submit({"a": job()})
    aws_env.set_environment("ezbatch", state="DISABLED")
    assert "waits for room" not in run.explain("a").cause
    for text in read(run):
        assert told(run.explain("a", look=False), text)
        assert "ezbatch environment enable ezbatch-ce" in text


FAILED = [
    *(Outcome(0, None, reason, NOT_STARTED) for reason, _cause in PULLS),
    Outcome(0, 137, "OutOfMemoryError: Container killed due to memory usage"),
    Outcome(0, 3),
    Outcome(0, 137),
    Outcome(0, None, None, NOT_STARTED),
    Outcome(0, None, None, "Host EC2 (instance i-0123456789abcdef0) terminated."),
]


@pytest.mark.parametrize(
    "outcome", FAILED, ids=[one.reason or f"{one.exit_code} {one.status_reason}" for one in FAILED]
)
@pytest.mark.parametrize("count", [1, 3], ids=["alone", "among others"])
def test_a_failed_job_is_explained_in_the_notebook(aws_env: Rig, submit: Submit, outcome: Outcome, count: int) -> None:
    aws_env.queue()
    aws_env.virtual(lambda _job: outcome)
    run = submit({name: job() for name in "abc"[:count]})
    run.wait(progress=False)
    for text in read(run):
        assert told(run.explain("a", look=False), text)


def test_each_remedy_stands_with_the_first_job_that_it_mends(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue()
    ends = {"memory": Outcome(0, 137, "OutOfMemoryError: Container killed due to memory usage")}
    aws_env.virtual(lambda one: ends.get(one.name.rpartition("-")[2], Outcome(0, 3)))
    run = submit({"first": job(), "memory": job(), "more": job()})
    run.wait(progress=False)
    page, _text = read(run)
    assert page.count("Raise memory") == 1
    assert page.count(run.explain("first").remedy) == 1


def test_a_code_that_is_the_jobs_own_is_not_taken_for_the_scripts(aws_env: Rig, submit: Submit) -> None:
    from ezbatch.preloader import EXIT_DOWNLOAD

    aws_env.queue()
    aws_env.virtual(lambda _job: Outcome(0, EXIT_DOWNLOAD))
    run = submit({"a": job(), "b": job()})
    run.wait(progress=False)
    page, _text = read(run)
    assert run.explain("a").cause == "Its command failed"
    assert page.count("Its command failed") >= 2
    assert "download" not in page
