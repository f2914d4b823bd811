"""The ``ezbatch`` command against a stand-in for AWS that runs by itself: what a person types, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .product import flow, job

OK, FAILED, USAGE, NOT_FOUND, UNUSABLE, STANDS_STILL, TIMED_OUT, INTERRUPTED = 0, 1, 2, 3, 4, 5, 124, 130


class Shell:
    """A shell whose environment points at the server, and nowhere else."""

    def __init__(self, exports: dict[str, str], directory: Path) -> None:
        self.endpoint = exports["AWS_ENDPOINT_URL"]
        self.directory = directory
        self.environment = {**os.environ, **exports, "EZBATCH_STATE_DIR": str(directory / "state"), "NO_COLOR": "1"}

    def __call__(self, *words: str, code: int = OK, **environment: Any) -> str:  # noqa: ANN401 - strings
        done = subprocess.run(
            [sys.executable, "-m", "ezbatch.cli", *words],
            env={**self.environment, **environment},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ezbatch.cli", *words],
            env=self.environment,
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def report(self) -> Any:  # noqa: ANN401 - JSON
        with urllib.request.urlopen(f"{self.endpoint}/rig/report") as answer:  # noqa: S310 - our own server
            return json.load(answer)

    def until(self, action: str, count: int) -> None:
        deadline = time.monotonic() + 60
        while self.report()["calls"].get(action, 0) < count:
            assert time.monotonic() < deadline, self.report()
            time.sleep(0.05)


def served(directory: Path, *options: str) -> Iterator[Shell]:
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.aws.batch_server", *options], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    exports: dict[str, str] = {}
    while (line := server.stdout.readline()).startswith("export "):
        name, _equals, value = line.removeprefix("export ").strip().partition("=")
        exports[name] = value
    shell = Shell(exports, directory)
    try:
        yield shell
        assert shell.report()["violations"] == []
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    yield from served(tmp_path)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Shell]:
    yield from served(tmp_path, "--latency", "0.3", "--virtual", "0.1")


def test_a_whole_life(shell: Shell) -> None:
    workflow = flow("good", "bad", "after", after=["bad"])
    workflow.jobs["bad"] = job(["sh", "-c", "echo it breaks; test -e mended || exit 3"])
    workflow.jobs["good"] = job(["sh", "-c", "echo all is well"])
    workflow.save(shell.directory / "w.json")
    shown = shell("queues")
    assert "ezbatch" in shown
    assert "FARGATE" in shown
    planned = shell("plan", "w.json", "-q", "ezbatch")
    assert "bad" in planned
    assert "Cost: " in planned
    said = shell("run", "w.json", "-q", "ezbatch", "--wait", code=FAILED)
    assert "'bad' failed" in said
    assert "it breaks" in said
    (listed,) = json.loads(shell("ls", "--json"))
    assert (listed["state"], listed["counts"]) == ("FAILED", {"SUCCEEDED": 1, "FAILED": 1, "BLOCKED": 1})
    run = listed["run"]
    status = shell("status", run[:-2])
    assert "exit" in status or "3" in status
    assert "all is well" in shell("logs", run, "good")
    assert "bad | it breaks" in shell("logs", "@last")
    assert "bad" in shell("explain", run)
    shell("wait", run, code=FAILED)
    said = shell("retry", run, "--wait", code=FAILED)
    assert "2 jobs submitted to ezbatch" in said
    # Nothing of it is left on AWS, and another machine reads the same.
    assert "0 job definitions deregistered" in shell("gc", "-q", "ezbatch")
    elsewhere: dict[str, Any] = {"EZBATCH_STATE_DIR": str(shell.directory / "elsewhere"), "EZBATCH_QUEUE": "ezbatch"}
    assert json.loads(shell("status", run, "--json", **elsewhere))["state"] == "FAILED"
    assert "it breaks" in shell("logs", run, "bad", **elsewhere)
    assert "cannot" not in shell("cancel", run)


def test_one_job_followed_cancelled_and_timed_out(shell: Shell) -> None:
    submitted = shell("submit", "-i", "busybox", "-q", "ezbatch", "-n", "nap", "--", "sh", "-c", "echo begun; sleep 60")
    assert "1 job submitted to ezbatch" in submitted
    shell("wait", "@last", "--timeout", "1", code=TIMED_OUT)
    following = shell.start("logs", "@last", "-f")
    assert following.stdout is not None
    assert following.stdout.readline().strip() == "begun"
    following.send_signal(signal.SIGINT)
    assert "the run goes on" in following.communicate(timeout=30)[0]
    assert following.returncode == INTERRUPTED
    assert "CANCELLED" in shell("cancel", "@last", "--reason", "too long")
    shell("wait", "@last", code=FAILED)
    assert "too long" in shell("status", "@last")


def test_exit_codes_of_what_cannot_be(shell: Shell) -> None:
    flow("a").save(shell.directory / "w.json")
    assert "there is no queue 'ezbotch' (did you mean 'ezbatch'?)" in shell(
        "run", "w.json", "-q", "ezbotch", code=USAGE
    )
    assert "another machine submitted is found by its whole id and its queue: EZBATCH_QUEUE=NAME" in shell(
        "status", "nothing", code=NOT_FOUND
    )
    shell("run", "w.json", "-q", "ezbatch", code=UNUSABLE, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    said = shell("run", "w.json", "-q", "ezbatch", code=UNUSABLE, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert "no AWS credentials" in said
    assert shell.report()["jobs"] == []


def test_progress_ctrl_c_and_kill(slow: Shell) -> None:
    chain = {f"j{number}": [f"j{number - 1}"] for number in range(1, 12)}
    flow(*(f"j{number}" for number in range(12)), **chain).save(slow.directory / "w.json")

    submitting = slow.start("run", "w.json", "-q", "ezbatch")
    slow.until("SubmitJob", 8)
    submitting.send_signal(signal.SIGINT)
    said = submitting.communicate(timeout=60)[0]
    assert submitting.returncode == INTERRUPTED
    assert "submitted" in said
    assert "of 12" in said
    assert "was given up: interrupted" in said
    assert "all were ended" in said
    (first,) = json.loads(slow("ls", "--json"))
    assert first["state"] == "CANCELLED"

    before = slow.report()["calls"]["SubmitJob"]
    submitting = slow.start("run", "w.json", "-q", "ezbatch")
    slow.until("SubmitJob", before + 4)
    submitting.kill()
    submitting.communicate()
    (second, _first) = json.loads(slow("ls", "--json"))
    assert (second["state"], second["interruption"]) == ("INTERRUPTED", "its submission broke off")
    slow("wait", "@last", code=STANDS_STILL)
    assert "resumed on ezbatch, 12 of 12 jobs left" in slow("resume", "@last")
    assert "succeeded" in slow("wait", "@last")
    names = [one["name"] for one in slow.report()["jobs"] if one["name"].startswith(second["run"])]
    assert sorted(names) == sorted(f"{second['run']}-j{number}" for number in range(12))

    before = slow.report()["calls"]["SubmitJob"]
    submitting = slow.start("run", "w.json", "-q", "ezbatch")
    slow.until("SubmitJob", before + 3)
    submitting.kill()
    submitting.communicate()
    assert "CANCELLED" in slow("cancel", "@last")
    assert {one["state"] for one in slow.report()["jobs"]} <= {"SUCCEEDED", "FAILED"}
    assert "0 job definitions deregistered" in slow("gc", "-q", "ezbatch")
