"""The rig itself, by plain boto3: it behaves as AWS Batch is described, and its checker and faults strike."""

# ruff: noqa: ANN401  # requests, moto's models and boto3's clients are what they are
from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ResponseStreamingError

from .engine import Outcome
from .faults import Faults, Step

if TYPE_CHECKING:
    from .engine import Job
    from .rig import Rig

Json = dict[str, Any]


class Account:
    """A queue, a definition and the calls that the tests make all the time."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.batch = rig.client("batch")
        self.logs = rig.client("logs")
        self.queue = rig.queue("q")
        self.definition = self.define()

    def define(self, name: str = "def", **changes: Any) -> str:
        properties = {
            "image": "busybox",
            "command": ["true"],
            "executionRoleArn": self.rig.execution_role,
            "resourceRequirements": [{"type": "VCPU", "value": "0.25"}, {"type": "MEMORY", "value": "512"}],
        }
        request = {"type": "container", "platformCapabilities": ["FARGATE"]}
        request |= {
            key: changes.pop(key)
            for key in ("retryStrategy", "timeout", "tags", "platformCapabilities")
            if key in changes
        }
        properties |= changes
        properties = {key: value for key, value in properties.items() if value is not None}
        made = self.batch.register_job_definition(jobDefinitionName=name, containerProperties=properties, **request)
        return str(made["jobDefinitionArn"])

    def submit(
        self, name: str, *command: str, after: tuple[str, ...] = (), env: Json | None = None, **more: Any
    ) -> str:
        overrides: Json = {}
        if command:
            overrides["command"] = list(command)
        if env:
            overrides["environment"] = [{"name": key, "value": value} for key, value in env.items()]
        request = {"jobQueue": self.queue, "jobDefinition": self.definition, "containerOverrides": overrides} | more
        if after:
            request["dependsOn"] = [{"jobId": job_id} for job_id in after]
        return str(self.batch.submit_job(jobName=name, **request)["jobId"])

    def sh(self, name: str, script: str, **more: Any) -> str:
        return self.submit(name, "sh", "-c", script, **more)

    def describe(self, *job_ids: str) -> list[Json]:
        return list(self.batch.describe_jobs(jobs=list(job_ids))["jobs"])

    def one(self, job_id: str) -> Json:
        (found,) = self.describe(job_id)
        return found

    def messages(self, stream: str) -> list[str]:
        found = self.logs.get_log_events(logGroupName="/aws/batch/job", logStreamName=stream, startFromHead=True)
        return [event["message"] for event in found["events"]]


@pytest.fixture
def aws(aws_rig: Rig) -> Account:
    return Account(aws_rig)


def until(true: Any, timeout: float = 10) -> None:
    end = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Jobs are processes


def test_a_job_runs_its_command_with_its_environment_and_logs(aws: Account) -> None:
    definition = aws.define("tool", environment=[{"name": "A", "value": "def"}, {"name": "EMPTY", "value": ""}])
    job = aws.sh(
        "hello", 'echo "$A $B [${EMPTY-unset}]"; echo oops >&2; env', env={"B": "x y"}, jobDefinition=definition
    )
    aws.rig.wait_idle()
    detail = aws.one(job)
    assert detail["status"] == "SUCCEEDED"
    assert detail["statusReason"] == "Essential container in task exited"
    assert detail["container"]["exitCode"] == 0
    assert isinstance(detail["startedAt"], int)
    assert detail["createdAt"] <= detail["startedAt"] <= detail["stoppedAt"]
    assert re.fullmatch(r"tool/default/[0-9a-f]{32}", detail["container"]["logStreamName"])
    lines = aws.messages(detail["container"]["logStreamName"])
    assert lines[:2] == ["def x y []", "oops"]
    assert {
        f"AWS_BATCH_JOB_ID={job}",
        "AWS_BATCH_JOB_ATTEMPT=1",
        "AWS_BATCH_JQ_NAME=q",
        "AWS_BATCH_CE_NAME=q-ce",
    } <= set(lines)
    assert f"AWS_ENDPOINT_URL={aws.rig.endpoint}" in lines
    assert not any(line.startswith("PYTEST") for line in lines)


def test_each_attempt_has_a_directory_of_its_own_that_goes_away(aws: Account) -> None:
    aws.sh("first", "pwd; touch here; ls")
    aws.sh("second", "pwd; ls")
    aws.rig.wait_idle()
    first, second = aws.rig.logs("first"), aws.rig.logs("second")
    assert first[1:] == ["here"]
    assert second[1:] == []
    assert first[0] != second[0]
    assert not Path(first[0]).exists()


def test_exit_codes_and_programs_that_do_not_exist(aws: Account) -> None:
    failed, missing = aws.sh("failed", "exit 7"), aws.submit("missing", "no-such-program")
    aws.rig.wait_idle()
    assert aws.one(failed)["container"]["exitCode"] == 7
    detail = aws.one(missing)
    assert detail["status"] == "FAILED"
    assert detail["statusReason"] == "Task failed to start"
    assert detail["container"]["reason"].startswith("CannotStartContainerError")
    assert "exitCode" not in detail["container"]


def test_logs_are_live_and_the_stream_is_known_while_running(aws: Account) -> None:
    job = aws.sh("talks", "echo one; sleep 30")
    aws.rig.wait_for("talks", "RUNNING")
    detail = aws.one(job)
    assert detail["attempts"] == []
    stream = detail["container"]["logStreamName"]
    until(lambda: aws.messages(stream) == ["one"])
    assert aws.one(job)["status"] == "RUNNING"
    event = aws.logs.get_log_events(logGroupName="/aws/batch/job", logStreamName=stream, startFromHead=True)["events"][
        0
    ]
    assert isinstance(event["timestamp"], int)


def test_the_end_of_a_log_is_where_the_token_repeats(aws: Account) -> None:
    aws.sh("lines", "for i in 1 2 3 4 5; do echo $i; done")
    aws.rig.wait_idle()
    where = {
        "logGroupName": "/aws/batch/job",
        "logStreamName": aws.one(aws.rig.job("lines").id)["container"]["logStreamName"],
    }
    seen, token = [], None
    while True:
        page = aws.logs.get_log_events(**where, startFromHead=True, limit=2, **({"nextToken": token} if token else {}))
        seen += [event["message"] for event in page["events"]]
        if page["nextForwardToken"] == token:
            break
        token = page["nextForwardToken"]
    assert seen == ["1", "2", "3", "4", "5"]


def test_logs_are_paged_as_small_as_asked(aws: Account) -> None:
    aws.sh("lines", "for i in 1 2 3; do echo $i; done")
    aws.rig.wait_idle()
    aws.rig.options.page_size = 2
    stream = aws.one(aws.rig.job("lines").id)["container"]["logStreamName"]
    assert aws.messages(stream) == ["1", "2"]


def test_log_streams_can_come_late_or_never(aws: Account) -> None:
    aws.rig.options.log_lag = 0.3
    aws.sh("late", "echo hi")
    aws.rig.wait_idle()
    assert aws.rig.logs("late") == []
    until(lambda: aws.rig.logs("late") == ["hi"])
    aws.rig.options.log_streams = False
    job = aws.sh("never", "echo hi")
    aws.rig.wait_idle()
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        aws.messages(aws.one(job)["container"]["logStreamName"])


def test_parameters_are_substituted(aws: Account) -> None:
    aws.submit("params", "echo", "Ref::a", "x-Ref::bc", parameters={"a": "1", "bc": "2"})
    aws.rig.wait_idle()
    assert aws.rig.logs("params") == ["1 x-2"]


def test_images_and_secrets_that_are_not_there(aws: Account) -> None:
    aws.rig.options.missing_images = ("*/nowhere:*",)
    aws.rig.options.secrets = {"arn:aws:secretsmanager:us-east-1:123456789012:secret:known": "s3cret"}
    image = aws.submit("image", jobDefinition=aws.define("i", image="example.com/nowhere:1"))
    known = aws.define("k", secrets=[{"name": "KEY", "valueFrom": next(iter(aws.rig.options.secrets))}])
    unknown = aws.define("u", secrets=[{"name": "KEY", "valueFrom": "arn:other"}])
    aws.sh("known", "echo $KEY", jobDefinition=known)
    secret = aws.submit("unknown", jobDefinition=unknown)
    aws.rig.wait_idle()
    assert aws.rig.logs("known") == ["s3cret"]
    reasons = [one["container"]["reason"].split(":")[0] for one in aws.describe(image, secret)]
    assert reasons == ["CannotPullContainerError", "ResourceInitializationError"]


# Ending them


def test_terminate_asks_first_and_kills_what_does_not_listen(aws: Account) -> None:
    aws.rig.options.stop_grace = 0.3
    polite = aws.sh("polite", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done")
    deaf = aws.sh("deaf", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    plain = aws.submit("plain", "sleep", "60")
    aws.rig.wait_for("*", "RUNNING")
    until(lambda: aws.rig.logs("polite") == aws.rig.logs("deaf") == ["up"])
    for job in (polite, deaf, plain):
        aws.batch.terminate_job(jobId=job, reason="enough")
    aws.rig.wait_idle()
    details = aws.describe(polite, deaf, plain)
    assert [one["container"]["exitCode"] for one in details] == [5, 137, 143]
    assert {(one["status"], one["statusReason"], one["isTerminated"]) for one in details} == {
        ("FAILED", "enough", True)
    }
    assert aws.rig.logs("polite") == ["up", "bye"]


def test_what_a_job_leaves_behind_dies_with_it(aws: Account) -> None:
    aws.sh("parent", "sleep 60 & echo $!")
    aws.rig.wait_idle()
    (pid,) = aws.rig.logs("parent")
    until(lambda: not alive(int(pid)))


def test_cancel_stops_only_what_has_not_started(aws: Account) -> None:
    running = aws.submit("running", "sleep", "60")
    aws.rig.wait_for("running", "RUNNING")
    aws.rig.hold("RUNNABLE")
    runnable = aws.submit("runnable")
    for job in (running, runnable):
        aws.batch.cancel_job(jobId=job, reason="stop")
    one, two = aws.describe(running, runnable)
    assert one["status"] == "RUNNING"
    assert "isCancelled" not in one
    assert (two["status"], two["statusReason"], two["isCancelled"]) == ("FAILED", "stop", True)
    assert "startedAt" not in two
    assert two["attempts"] == []


def test_cancel_does_not_stop_a_starting_job_and_terminate_does(aws: Account) -> None:
    aws.rig.hold("STARTING")
    job = aws.submit("starting")
    aws.batch.cancel_job(jobId=job, reason="stop")
    assert aws.one(job)["status"] == "STARTING"
    aws.batch.terminate_job(jobId=job, reason="now")
    aws.rig.release()
    aws.rig.wait_idle()
    assert aws.one(job)["statusReason"] == "now"
    assert aws.rig.logs("starting") == []


def test_a_pending_job_is_cancelled_when_its_dependencies_have_ended(aws: Account) -> None:
    aws.rig.virtual()
    parent = aws.submit("parent")
    child = aws.submit("child", after=(parent,))
    aws.batch.cancel_job(jobId=child, reason="stop")
    detail = aws.one(child)
    assert (detail["status"], detail["isCancelled"]) == ("PENDING", True)
    aws.rig.finish("parent")
    detail = aws.one(child)
    assert (detail["status"], detail["statusReason"]) == ("FAILED", "stop")


def test_a_timeout_ends_an_attempt_and_is_not_retried(aws: Account) -> None:
    aws.rig.options.timeout_scale = 0.005
    job = aws.submit("slow", "sleep", "60", timeout={"attemptDurationSeconds": 60}, retryStrategy={"attempts": 3})
    aws.rig.wait_idle()
    detail = aws.one(job)
    assert (detail["status"], detail["statusReason"]) == ("FAILED", "Job attempt duration exceeded timeout")
    assert detail["container"]["exitCode"] == 143
    assert len(detail["attempts"]) == 1


def test_cancel_and_terminate_in_bulk(aws: Account) -> None:
    aws.rig.hold("RUNNABLE")
    jobs = [aws.submit(f"job-{n}") for n in range(3)]
    answer = aws.batch.cancel_jobs(jobs=[*jobs[:1], "nobody"], reason="stop")
    assert answer["successful"] == jobs[:1]
    assert [error["job"] for error in answer["errors"]] == ["nobody"]
    assert aws.batch.terminate_jobs(jobs=jobs[1:], reason="stop")["successful"] == jobs[1:]
    assert aws.rig.states() == {"FAILED": 3}


# Retries


def test_every_attempt_has_its_own_log_exit_code_and_times(aws: Account) -> None:
    definition = aws.define("again", retryStrategy={"attempts": 3})
    job = aws.sh(
        "again", "echo try $AWS_BATCH_JOB_ATTEMPT; exit $((3 - AWS_BATCH_JOB_ATTEMPT))", jobDefinition=definition
    )
    aws.rig.wait_idle()
    detail = aws.one(job)
    assert detail["status"] == "SUCCEEDED"
    attempts = detail["attempts"]
    assert [one["container"]["exitCode"] for one in attempts] == [2, 1, 0]
    assert [aws.messages(one["container"]["logStreamName"]) for one in attempts] == [["try 1"], ["try 2"], ["try 3"]]
    assert all(isinstance(one["startedAt"], int) and one["startedAt"] <= one["stoppedAt"] for one in attempts)
    assert attempts[0]["statusReason"] == "Essential container in task exited"
    assert detail["container"]["logStreamName"] == attempts[-1]["container"]["logStreamName"]


@pytest.mark.parametrize(
    ("rules", "outcome", "attempts"),
    [
        ([{"onExitCode": "1*", "action": "EXIT"}], Outcome(0, 13), 1),
        ([{"onExitCode": "1*", "action": "EXIT"}], Outcome(0, 2), 3),  # no rule matches: RETRY
        ([{"onReason": "OutOfMemory*", "action": "exit"}], Outcome(0, 137, "OutOfMemoryError: killed"), 1),
        (
            [{"onStatusReason": "Host EC2*", "action": "retry"}, {"onReason": "*", "action": "exit"}],
            Outcome(0, 1, "x"),
            1,
        ),
        ([{"onStatusReason": "Host EC2*", "action": "retry"}], Outcome(0, 1, None, "Host EC2 (i-0) terminated."), 3),
        ([{"onExitCode": "1", "onReason": "y*", "action": "exit"}], Outcome(0, 1, "x"), 3),  # both must match
    ],
)
def test_evaluate_on_exit(aws: Account, rules: list[Json], outcome: Outcome, attempts: int) -> None:
    aws.rig.options.virtual = outcome
    job = aws.submit("rules", retryStrategy={"attempts": 3, "evaluateOnExit": rules})
    aws.rig.wait_idle()
    detail = aws.one(job)
    assert detail["status"] == "FAILED"
    assert len(detail["attempts"]) == attempts


def test_a_terminated_job_is_not_retried_and_its_dependants_wait_through_retries(aws: Account) -> None:
    aws.rig.virtual()
    parent = aws.submit("parent", retryStrategy={"attempts": 2})
    child = aws.submit("child", after=(parent,))
    aws.rig.finish("parent", exit_code=1)
    assert [one["status"] for one in aws.describe(parent, child)] == ["RUNNING", "PENDING"]
    aws.batch.terminate_job(jobId=parent, reason="enough")
    one, two = aws.describe(parent, child)
    assert (one["status"], len(one["attempts"])) == ("FAILED", 2)
    assert (two["status"], two["statusReason"]) == ("FAILED", "Dependent Job failed")


# Dependencies


def test_a_job_waits_for_all_its_parents(aws: Account) -> None:
    aws.rig.virtual()
    parents = [aws.submit(f"parent-{n}") for n in range(20)]
    child = aws.submit("child", after=tuple(parents))
    for n in range(20):
        assert aws.rig.job("child").state == "PENDING"
        aws.rig.finish(f"parent-{n}")
    assert aws.one(child)["status"] == "RUNNING"
    assert [one["jobId"] for one in aws.one(child)["dependsOn"]] == parents


def test_a_failure_runs_down_a_long_chain(aws: Account) -> None:
    aws.rig.virtual()
    last = aws.submit("link-0")
    for n in range(1, 30):
        last = aws.submit(f"link-{n}", after=(last,))
    aws.rig.finish("link-0", exit_code=1)
    assert aws.rig.states() == {"FAILED": 30}
    assert aws.one(last)["statusReason"] == "Dependent Job failed"
    late = aws.submit("late", after=(last,))
    assert aws.one(late)["statusReason"] == "Dependent Job failed"


def test_parents_run_before_their_children(aws: Account) -> None:
    last = aws.sh("one", "sleep 0.1; date +%s%N")
    aws.sh("two", "date +%s%N", after=(last,))
    aws.rig.wait_idle()
    assert aws.rig.logs("one") < aws.rig.logs("two")


# Arrays


def test_an_array_runs_its_children_by_index(aws: Account) -> None:
    parent = aws.sh(
        "array",
        "echo $AWS_BATCH_JOB_ARRAY_INDEX of $AWS_BATCH_JOB_ARRAY_SIZE $X",
        env={"X": "x"},
        arrayProperties={"size": 3},
    )
    aws.rig.wait_idle()
    detail = aws.one(parent)
    assert detail["status"] == "SUCCEEDED"
    assert detail["arrayProperties"]["size"] == 3
    assert detail["arrayProperties"]["statusSummary"]["SUCCEEDED"] == 3
    assert sum(detail["arrayProperties"]["statusSummary"].values()) == 3
    children = aws.describe(*(f"{parent}:{n}" for n in range(3)))
    assert [child["arrayProperties"] for child in children] == [{"index": 0}, {"index": 1}, {"index": 2}]
    assert [aws.messages(child["container"]["logStreamName"]) for child in children] == [
        [f"{n} of 3 x"] for n in range(3)
    ]


def test_an_array_fails_when_all_children_have_ended_and_one_failed(aws: Account) -> None:
    aws.rig.virtual()
    parent = aws.submit("array", arrayProperties={"size": 3})
    assert aws.one(parent)["status"] == "PENDING"
    aws.rig.finish(f"{parent}:1", exit_code=9)
    assert aws.one(parent)["status"] == "PENDING"
    assert aws.one(parent)["arrayProperties"]["statusSummary"]["FAILED"] == 1
    dependant = aws.submit("after", after=(parent,))
    aws.rig.finish("array")
    detail = aws.one(parent)
    assert (detail["status"], detail["statusReason"]) == ("FAILED", "Array Child Job failed")
    assert aws.one(dependant)["statusReason"] == "Dependent Job failed"


def test_the_retries_of_an_array_are_its_childrens(aws: Account) -> None:
    script = "test $AWS_BATCH_JOB_ARRAY_INDEX$AWS_BATCH_JOB_ATTEMPT != 11"
    parent = aws.sh("array", script, arrayProperties={"size": 2}, retryStrategy={"attempts": 2})
    aws.rig.wait_idle()
    assert aws.one(parent)["status"] == "SUCCEEDED"
    assert [len(one["attempts"]) for one in aws.describe(f"{parent}:0", f"{parent}:1")] == [1, 2]


def test_n_to_n_and_sequential(aws: Account) -> None:
    aws.rig.virtual()
    first = aws.submit("first", arrayProperties={"size": 3})
    second = aws.submit("second", arrayProperties={"size": 3}, dependsOn=[{"jobId": first, "type": "N_TO_N"}])
    third = aws.submit("third", arrayProperties={"size": 3}, dependsOn=[{"type": "SEQUENTIAL"}])
    aws.rig.finish(f"{first}:1")
    aws.rig.finish(f"{first}:2", exit_code=1)
    assert [child.state for child in aws.rig.children(second)] == ["PENDING", "RUNNING", "FAILED"]
    assert [child.state for child in aws.rig.children(third)] == ["RUNNING", "PENDING", "PENDING"]
    aws.rig.finish("third")
    assert [child.state for child in aws.rig.children(third)] == ["SUCCEEDED", "RUNNING", "PENDING"]
    aws.rig.finish("third", exit_code=1)
    assert [child.state for child in aws.rig.children(third)] == ["SUCCEEDED", "FAILED", "FAILED"]
    assert aws.one(third)["status"] == "FAILED"


def test_an_array_whose_parent_fails_or_that_is_cancelled(aws: Account) -> None:
    aws.rig.virtual()
    parent = aws.submit("parent")
    doomed = aws.submit("doomed", arrayProperties={"size": 2}, after=(parent,))
    aws.rig.finish("parent", exit_code=1)
    assert aws.one(doomed)["statusReason"] == "Dependent Job failed"
    assert [child.state for child in aws.rig.children(doomed)] == ["FAILED", "FAILED"]
    running = aws.submit("running", arrayProperties={"size": 2})
    aws.batch.terminate_job(jobId=running, reason="enough")
    detail = aws.one(running)
    assert (detail["status"], detail["statusReason"], detail["isTerminated"]) == ("FAILED", "enough", True)
    assert aws.one(f"{running}:1")["container"]["exitCode"] == 137
    aws.rig.set_capacity(aws.queue, 0.25)
    half = aws.submit("half", arrayProperties={"size": 2})
    aws.batch.cancel_job(jobId=half, reason="stop")
    assert [child.state for child in aws.rig.children(half)] == ["RUNNING", "FAILED"]


# Looking


def test_describe_jobs_takes_a_hundred_and_nothing_gives_nothing(aws: Account) -> None:
    job = aws.submit("job")
    assert aws.describe() == []
    assert aws.describe("nobody") == []
    assert [one["jobId"] for one in aws.describe(job, "nobody", job)] == [job]
    assert [one["jobId"] for one in aws.describe(aws.one(job)["jobArn"])] == [job]
    with pytest.raises(ClientError):
        aws.describe(*(f"{n}" for n in range(101)))
    assert aws.rig.take_violations() == ["DescribeJobs: 101 jobs, at most 100"]


def test_list_jobs_gives_running_ones_unless_asked(aws: Account) -> None:
    aws.rig.virtual()
    done = aws.submit("done")
    aws.rig.finish()
    running = aws.submit("running")
    aws.rig.hold("RUNNABLE")
    array = aws.submit("array", arrayProperties={"size": 2})

    def ids(**request: Any) -> list[str]:
        return [one["jobId"] for one in aws.batch.list_jobs(**request)["jobSummaryList"]]

    assert ids(jobQueue="q") == [running]
    assert ids(jobQueue="q", jobStatus="SUCCEEDED") == [done]
    assert ids(jobQueue="q", jobStatus="PENDING") == [array]  # a parent is PENDING while its children wait
    assert ids(arrayJobId=array, jobStatus="RUNNABLE") == [f"{array}:0", f"{array}:1"]


def test_list_jobs_filters_and_pages(aws: Account) -> None:
    aws.rig.virtual(0)
    jobs = [aws.submit(name) for name in ("Alpha-1", "alpha-2", "beta-1", "alpha-3")]
    aws.rig.wait_idle()

    def found(name: str, value: str, **more: Any) -> list[str]:
        pages = aws.batch.get_paginator("list_jobs").paginate(
            jobQueue="q", filters=[{"name": name, "values": [value]}], **more
        )
        return [one["jobName"] for page in pages for one in page["jobSummaryList"]]

    assert found("JOB_NAME", "ALPHA*") == ["alpha-3", "alpha-2", "Alpha-1"]  # the newest first
    assert found("JOB_NAME", "BETA-1") == ["beta-1"]
    assert found("JOB_NAME", "alpha") == []
    assert found("JOB_DEFINITION", "def") == ["alpha-3", "beta-1", "alpha-2", "Alpha-1"]
    assert found("JOB_DEFINITION", "other*") == []
    born = aws.one(jobs[0])["createdAt"]
    assert len(found("AFTER_CREATED_AT", str(born - 1))) == 4
    assert found("BEFORE_CREATED_AT", str(born)) == []
    aws.rig.forget_calls()
    aws.rig.options.page_size = 2
    assert found("JOB_NAME", "*") == ["alpha-3", "beta-1", "alpha-2", "Alpha-1"]
    assert len(aws.rig.calls("ListJobs")) == 2
    assert len(found("JOB_NAME", "*", PaginationConfig={"PageSize": 1})) == 4
    assert len(aws.rig.calls("ListJobs")) == 6


def test_pages_do_not_shift_when_jobs_arrive(aws: Account) -> None:
    aws.rig.virtual()
    for n in range(4):
        aws.submit(f"job-{n}")
    first = aws.batch.list_jobs(jobQueue="q", maxResults=2)
    aws.submit("new")
    second = aws.batch.list_jobs(jobQueue="q", maxResults=2, nextToken=first["nextToken"])
    names = [one["jobName"] for page in (first, second) for one in page["jobSummaryList"]]
    assert names == ["job-3", "job-2", "job-1", "job-0"]


def test_a_new_job_may_take_a_while_to_be_seen(aws: Account) -> None:
    aws.rig.options.list_lag = 0.2
    aws.rig.virtual()
    job = aws.submit("new")
    assert aws.describe(job) == aws.batch.list_jobs(jobQueue="q")["jobSummaryList"] == []
    until(lambda: aws.describe(job) != [])
    assert len(aws.batch.list_jobs(jobQueue="q")["jobSummaryList"]) == 1


def test_the_queue_has_a_front_and_its_head_says_why(aws: Account) -> None:
    aws.rig.set_capacity(aws.queue, 0.25)
    aws.rig.virtual()
    jobs = [aws.submit(f"job-{n}") for n in range(3)]
    snapshot = aws.batch.get_job_queue_snapshot(jobQueue="q")["frontOfQueue"]["jobs"]
    assert [one["jobArn"].rpartition("/")[2] for one in snapshot] == jobs[1:]
    assert "statusReason" not in aws.one(jobs[1])
    aws.rig.set_capacity(aws.queue, 0.1)
    reasons = [one.get("statusReason") for one in aws.describe(*jobs[1:])]
    aws.rig.finish()
    reasons = [one.get("statusReason") for one in aws.describe(*jobs[1:])]
    assert str(reasons[0]).startswith("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE")
    assert reasons[1] is None
    aws.rig.set_capacity(aws.queue, 0.5)
    assert [one["status"] for one in aws.describe(*jobs)] == ["SUCCEEDED", "RUNNING", "RUNNING"]


def test_a_blocked_queue_and_broken_environments(aws: Account) -> None:
    aws.rig.virtual()
    aws.rig.block("q", "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - none")
    job = aws.submit("job")
    assert aws.one(job)["statusReason"].startswith("CAPACITY:")
    aws.rig.set_environment("q", invalid="CLIENT_ERROR - no role")
    (environment,) = aws.batch.describe_compute_environments(computeEnvironments=["q-ce"])["computeEnvironments"]
    assert (environment["status"], environment["statusReason"]) == ("INVALID", "CLIENT_ERROR - no role")
    aws.rig.block("q", None)
    assert aws.one(job)["statusReason"].startswith("ACTION_REQUIRED")
    aws.rig.set_environment("q", state="ENABLED")
    assert aws.one(job)["status"] == "RUNNING"
    aws.rig.queue("off", state="DISABLED")
    with pytest.raises(ClientError, match="DISABLED"):
        aws.submit("refused", jobQueue="off")


def test_overrides_of_resources_count_against_capacity(aws: Account) -> None:
    aws.rig.set_capacity(aws.queue, 2)
    aws.rig.virtual()
    needs = [{"type": "VCPU", "value": "2"}, {"type": "MEMORY", "value": "4096"}]
    big = aws.submit("big", containerOverrides={"resourceRequirements": needs})
    small = aws.submit("small")
    assert aws.one(big)["container"]["resourceRequirements"] == needs
    assert aws.one(small)["status"] == "RUNNABLE"


def test_aws_forgets(aws: Account) -> None:
    aws.rig.virtual(0)
    job = aws.submit("old")
    aws.rig.wait_idle()
    aws.rig.forget(job)
    assert aws.describe(job) == []
    assert aws.batch.list_jobs(jobQueue="q", jobStatus="SUCCEEDED")["jobSummaryList"] == []
    assert aws.rig.job("old").state == "SUCCEEDED"  # the rig itself remembers


def test_definitions_have_revisions_and_states(aws: Account) -> None:
    second = aws.define("def", image="other")
    assert second.endswith(":2")
    aws.batch.deregister_job_definition(jobDefinition=second)
    by_name = aws.submit("by-name", jobDefinition="def")  # the newest ACTIVE revision
    assert aws.one(by_name)["jobDefinition"] == aws.definition
    described = aws.batch.describe_job_definitions(jobDefinitionName="def", status="ACTIVE")["jobDefinitions"]
    assert [one["revision"] for one in described] == [1]
    named = aws.batch.describe_job_definitions(jobDefinitions=["def:2"])["jobDefinitions"]
    assert [one["status"] for one in named] == ["INACTIVE"]
    assert [one["jobDefinitionArn"] for one in aws.rig.definitions("ACTIVE")] == [aws.definition]
    with pytest.raises(ClientError, match="ClientException"):
        aws.submit("late", jobDefinition=second)
    assert "not ACTIVE" in aws.rig.take_violations()[0]


def test_definitions_are_paged(aws: Account) -> None:
    for n in range(4):
        aws.define(f"more-{n}")
    aws.rig.options.page_size = 2
    pages = list(aws.batch.get_paginator("describe_job_definitions").paginate())
    assert [len(page["jobDefinitions"]) for page in pages] == [2, 2, 1]


def test_environments_and_queues_by_their_requests(aws: Account) -> None:
    """AWS's defaults: no serviceRole, no state; UpdateComputeEnvironment changes the capacity."""
    ec2 = aws.rig.client("ec2")
    made = aws.batch.create_compute_environment(
        computeEnvironmentName="mine",
        type="MANAGED",
        computeResources={
            "type": "FARGATE",
            "maxvCpus": 1,
            "subnets": [ec2.describe_subnets()["Subnets"][0]["SubnetId"]],
            "securityGroupIds": [ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]],
        },
    )
    order = [{"order": 1, "computeEnvironment": made["computeEnvironmentArn"]}]
    aws.batch.create_job_queue(jobQueueName="mine", priority=1, computeEnvironmentOrder=order)
    aws.batch.update_compute_environment(computeEnvironment="mine", computeResources={"maxvCpus": 7})
    (environment,) = aws.batch.describe_compute_environments(computeEnvironments=["mine"])["computeEnvironments"]
    assert environment["computeResources"]["maxvCpus"] == 7
    (queue,) = aws.batch.describe_job_queues(jobQueues=["mine"])["jobQueues"]
    assert (queue["state"], queue["status"]) == ("ENABLED", "VALID")
    aws.rig.queue("iron", platform="EC2")
    assert aws.rig.client("sts").get_caller_identity()["Account"] == "123456789012"


def test_tags_are_kept(aws: Account) -> None:
    job = aws.submit("tagged", tags={"ezbatch:run": "r1"})
    assert aws.one(job)["tags"] == {"ezbatch:run": "r1"}
    assert aws.batch.list_tags_for_resource(resourceArn=aws.one(job)["jobArn"])["tags"] == {"ezbatch:run": "r1"}


def test_jobs_can_be_held_anywhere_before_they_run(aws: Account) -> None:
    aws.rig.virtual(0)
    for state in ("SUBMITTED", "RUNNABLE", "STARTING"):
        aws.rig.hold(state)
        parent = aws.submit(f"{state}-parent")
        array = aws.submit(f"{state}-array", arrayProperties={"size": 2}, after=(parent,))
        assert [aws.one(one)["status"] for one in (parent, array)] == [
            state,
            "SUBMITTED" if state == "SUBMITTED" else "PENDING",
        ]
        aws.rig.release()
        aws.rig.wait_idle()
        assert [aws.one(one)["status"] for one in (parent, array)] == ["SUCCEEDED", "SUCCEEDED"]


# Size


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_everything_ends_and_nothing_leaks(aws: Account, seed: int) -> None:
    """Random DAGs, arrays and retries, real and virtual, cancelled and terminated at random, from several threads."""
    dice = random.Random(seed)
    aws.rig.set_capacity(aws.queue, 4)
    aws.rig.options.stop_grace = 0.05

    def outcome(job: Job) -> Outcome | None:
        fate = random.Random(f"{seed} {job.name} {job.index} {job.attempt}").random()
        return None if fate < 0.1 else Outcome(fate / 50, 0 if fate < 0.9 else 1)

    aws.rig.virtual(outcome)
    jobs: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        for n in range(60):
            more: Json = {"retryStrategy": {"attempts": dice.randint(1, 3)}}
            if dice.random() < 0.2:
                more["arrayProperties"] = {"size": dice.randint(2, 5)}
            after = tuple(dice.sample(jobs, min(len(jobs), dice.choice((0, 1, 3)))))
            jobs.append(aws.submit(f"job-{n}", "sleep", "0.02", after=after, **more))
            if dice.random() < 0.3:
                stop = dice.choice((aws.batch.cancel_job, aws.batch.terminate_job))
                pool.submit(stop, jobId=dice.choice(jobs), reason="because")
    aws.rig.wait_idle()
    assert set(aws.rig.states()) <= {"SUCCEEDED", "FAILED"}
    assert all(abs(used) < 1e-9 for used in aws.rig.engine._used.values())
    for start in range(0, len(jobs), 50):
        for one in aws.describe(*jobs[start : start + 50]):
            if "arrayProperties" in one:
                summary = one["arrayProperties"]["statusSummary"]
                assert summary["SUCCEEDED"] + summary["FAILED"] == one["arrayProperties"]["size"]
                assert (one["status"] == "FAILED") == bool(summary["FAILED"])
            elif one["status"] == "SUCCEEDED":
                parents = aws.describe(*(parent["jobId"] for parent in one["dependsOn"]))
                assert all(parent["status"] == "SUCCEEDED" for parent in parents)
                assert all(parent["stoppedAt"] <= one["startedAt"] for parent in parents)


def test_five_hundred_jobs_as_fast_as_they_come(aws: Account) -> None:
    aws.rig.virtual(0)
    # CPU time of boto3 and the server together: a busy machine must not fail it.
    before = time.process_time()
    for n in range(500):
        aws.submit(f"job-{n}")
    aws.rig.wait_idle()
    assert 500 / (time.process_time() - before) > 100
    assert aws.rig.states() == {"SUCCEEDED": 500}


def test_an_array_of_ten_thousand(aws: Account) -> None:
    aws.rig.virtual()
    parent = aws.submit("big", arrayProperties={"size": 10_000})
    summary = aws.one(parent)["arrayProperties"]["statusSummary"]
    assert summary["RUNNING"] == 1024  # what 256 vCPUs hold
    aws.rig.virtual(0)
    aws.rig.finish()
    aws.rig.wait_idle()
    assert aws.one(parent)["status"] == "SUCCEEDED"


def test_a_dag_of_eight_thousand(aws: Account) -> None:
    """Past HTTP, so that it is the engine alone: chains with joins."""
    aws.rig.virtual()
    backend = aws.rig._backend
    chain: list[Job] = []
    for n in range(8000):
        depends_on = [{"jobId": job.id} for job in chain[-20 if n % 10 == 0 else -1 :]]
        request = {"jobName": f"j{n}", "jobQueue": "q", "jobDefinition": aws.definition, "dependsOn": depends_on}
        chain.append(backend.submit(request))
    assert aws.rig.states() == {"RUNNING": 1, "PENDING": 7999}
    aws.rig.virtual(0)
    aws.rig.finish("j0")
    aws.rig.wait_idle()
    assert aws.rig.states() == {"SUCCEEDED": 8000}


def test_real_jobs_are_bounded_and_all_run(aws: Account) -> None:
    aws.rig.options.max_processes = 4
    parent = aws.sh("many", "echo $AWS_BATCH_JOB_ARRAY_INDEX", arrayProperties={"size": 60})
    aws.rig.wait_idle()
    assert aws.one(parent)["status"] == "SUCCEEDED"
    assert sorted(map(int, aws.rig.logs("many"))) == list(range(60))


def test_virtual_jobs_by_a_function_and_by_their_command(aws: Account) -> None:
    def outcome(job: Job) -> Outcome | None:
        return Outcome(0, job.attempt) if job.name == "dies" else None

    aws.rig.virtual(outcome)
    dies = aws.submit("dies", retryStrategy={"attempts": 2})
    aws.sh("real", "echo here")
    sleeps = aws.submit("sleeps", "ezbatch-rig-sleep", "0.1", "3")
    waits = aws.submit("waits", "ezbatch-rig-sleep", "manual")
    aws.rig.wait_for("sleeps")
    assert [one["container"]["exitCode"] for one in aws.one(dies)["attempts"]] == [1, 2]
    assert aws.one(sleeps)["container"]["exitCode"] == 3
    assert aws.rig.finish(waits) == 1
    aws.rig.wait_idle()
    assert aws.rig.logs("real") == ["here"]


# The checker


def long_env(n: int) -> list[Json]:
    return [{"name": "X", "value": "x" * n}]


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        ("bad jobName", {"jobName": "-x"}),
        ("bad jobName", {"jobName": "x" * 129}),
        ("30 KiB", {"parameters": {"x": "x" * 31_000}}),
        ("overrides of", {"containerOverrides": {"environment": long_env(7_700)}}),
        ("at most 20", {"dependsOn": [{"jobId": "a-job"}] * 21}),
        ("does not exist", {"dependsOn": [{"jobId": "nobody"}]}),
        ("without jobId", {"dependsOn": [{}]}),
        ("N_TO_N between", {"dependsOn": [{"jobId": "a-job", "type": "N_TO_N"}]}),
        ("is no array", {"dependsOn": [{"type": "SEQUENTIAL"}]}),
        ("has a jobId", {"dependsOn": [{"type": "SEQUENTIAL", "jobId": "a-job"}], "arrayProperties": {"size": 2}}),
        ("bad dependency type", {"dependsOn": [{"type": "AFTER", "jobId": "a-job"}]}),
        ("array size 1 ", {"arrayProperties": {"size": 1}}),
        ("array size 10001", {"arrayProperties": {"size": 10_001}}),
        ("begins with AWS_BATCH", {"containerOverrides": {"environment": [{"name": "AWS_BATCH_X", "value": ""}]}}),
        ("empty element", {"containerOverrides": {"command": ["echo", ""]}}),
        ("no size of", {"containerOverrides": {"resourceRequirements": [{"type": "VCPU", "value": "4"}]}}),
        ("no GPU", {"containerOverrides": {"resourceRequirements": [{"type": "GPU", "value": "1"}]}}),
        ("vcpus is for", {"containerOverrides": {"vcpus": 1}}),
        ("timeout 59", {"timeout": {"attemptDurationSeconds": 59}}),
        ("11 attempts", {"retryStrategy": {"attempts": 11}}),
        ("needs attempts", {"retryStrategy": {"evaluateOnExit": [{"action": "exit", "onExitCode": "1"}]}}),
        (
            "at most 5",
            {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "exit", "onExitCode": "1"}] * 6}},
        ),
        ("asterisk", {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "exit", "onReason": "a*b"}]}}),
        ("digits", {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "exit", "onExitCode": "x"}]}}),
        ("bad evaluateOnExit", {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "again"}]}}),
        ("51 tags", {"tags": {f"k{n}": "" for n in range(51)}}),
        ("begins with aws:", {"tags": {"aws:x": ""}}),
        ("257 characters", {"tags": {"k": "x" * 257}}),
        ("129 characters", {"tags": {"k" * 129: ""}}),
        ("tags to propagate", {"tags": {f"k{n}": "" for n in range(50)}, "propagateTags": True}),
        ("not ACTIVE", {"jobDefinition": "nothing:1"}),
    ],
)
def test_the_checker_of_submit_job(aws: Account, words: str, request_: Json) -> None:
    aws.rig.virtual()
    definition = aws.define("tagged", tags={"def": "x"})
    job = aws.submit("a-job")
    request = {"jobName": "x", "jobQueue": "q", "jobDefinition": definition} | json.loads(
        json.dumps(request_).replace('"a-job"', f'"{job}"')
    )
    refused = _refused(lambda: aws.batch.submit_job(**request))
    violations = aws.rig.take_violations()
    assert any(words in one and one.startswith("SubmitJob: ") for one in violations), violations
    assert refused == (words not in ("overrides of", "tags to propagate"))


@pytest.mark.parametrize(
    ("words", "properties", "request_"),
    [
        ("bad jobDefinitionName", {}, {"jobDefinitionName": "a.b"}),
        ("24 KiB", {"environment": long_env(25_000)}, {}),
        ("bad image", {"image": "x" * 256}, {}),
        ("bad image", {"image": "a b"}, {}),
        ("begins with AWS_BATCH", {"environment": [{"name": "AWS_BATCH", "value": "x"}]}, {}),
        ("name and value", {"environment": [{"name": "X"}]}, {}),
        (
            "no size of 0.25",
            {"resourceRequirements": [{"type": "VCPU", "value": "0.25"}, {"type": "MEMORY", "value": "3072"}]},
            {},
        ),
        ("need VCPU", {"resourceRequirements": []}, {}),
        ("needs executionRoleArn", {"executionRoleArn": ""}, {}),
        ("not memory", {"memory": 512}, {}),
        ("no privileged", {"privileged": True}, {}),
        ("no ulimits", {"ulimits": [{"name": "nofile", "hardLimit": 1, "softLimit": 1}]}, {}),
        ("no linuxParameters", {"linuxParameters": {"sharedMemorySize": 64}}, {}),
        ("host volumes", {"volumes": [{"name": "v", "host": {"sourcePath": "/x"}}]}, {}),
        ("names no volume", {"mountPoints": [{"sourceVolume": "v", "containerPath": "/x"}]}, {}),
        ("20 GiB", {"ephemeralStorage": {"sizeInGiB": 20}}, {}),
        ("bad cpuArchitecture", {"runtimePlatform": {"cpuArchitecture": "RISCV"}}, {}),
        ("is for Fargate only", {"ephemeralStorage": {"sizeInGiB": 30}}, {"platformCapabilities": ["EC2"]}),
        ("whole vCPUs", {}, {"platformCapabilities": ["EC2"]}),
        ("timeout 1 s", {}, {"timeout": {"attemptDurationSeconds": 1}}),
        ("0 attempts", {}, {"retryStrategy": {"attempts": 0}}),
        ("51 tags", {}, {"tags": {f"k{n}": "" for n in range(51)}}),
        ("bad platformCapabilities", {}, {"platformCapabilities": ["MOON"]}),
        ("this project uses container", {}, {"type": "multinode"}),
    ],
)
def test_the_checker_of_register_job_definition(aws: Account, words: str, properties: Json, request_: Json) -> None:
    good = {
        "image": "busybox",
        "executionRoleArn": aws.rig.execution_role,
        "resourceRequirements": [{"type": "VCPU", "value": "0.25"}, {"type": "MEMORY", "value": "512"}],
    }
    request: Json = {"jobDefinitionName": "x", "type": "container", "platformCapabilities": ["FARGATE"]}
    request |= {"containerProperties": good | properties} | request_
    assert _refused(lambda: aws.batch.register_job_definition(**request))
    violations = aws.rig.take_violations()
    assert any(words in one for one in violations), violations


@pytest.mark.parametrize(
    ("words", "method", "request_"),
    [
        ("exactly one of", "list_jobs", {}),
        ("exactly one of", "list_jobs", {"jobQueue": "q", "arrayJobId": "x"}),
        ("2 filters", "list_jobs", {"jobQueue": "q", "filters": [{"name": "JOB_NAME", "values": ["x"]}] * 2}),
        ("bad filter", "list_jobs", {"jobQueue": "q", "filters": [{"name": "NAME", "values": ["x"]}]}),
        ("milliseconds", "list_jobs", {"jobQueue": "q", "filters": [{"name": "AFTER_CREATED_AT", "values": ["1.5"]}]}),
        (
            "maxResults 101",
            "list_jobs",
            {"jobQueue": "q", "filters": [{"name": "JOB_NAME", "values": ["x"]}], "maxResults": 101},
        ),
        ("bad jobStatus", "list_jobs", {"jobQueue": "q", "jobStatus": "DONE"}),
        ("the reason has 0", "cancel_job", {"jobId": "x", "reason": ""}),
        ("the reason has 1025", "terminate_job", {"jobId": "x", "reason": "x" * 1025}),
        ("51 jobs", "terminate_jobs", {"jobs": ["x"] * 51, "reason": "x"}),
        ("neither name:revision nor", "deregister_job_definition", {"jobDefinition": "def"}),
        ("excludes", "describe_job_definitions", {"jobDefinitions": ["def:1"], "status": "ACTIVE"}),
        ("1 to 3", "create_job_queue", {"jobQueueName": "x", "priority": 1, "computeEnvironmentOrder": []}),
    ],
)
def test_the_checker_of_the_rest(aws: Account, words: str, method: str, request_: Json) -> None:
    assert _refused(lambda: getattr(aws.batch, method)(**request_))
    violations = aws.rig.take_violations()
    assert any(words in one for one in violations), violations


def test_a_definition_deregistered_too_early_is_a_violation(aws: Account) -> None:
    aws.rig.virtual()
    aws.submit("job")
    aws.batch.deregister_job_definition(jobDefinition=aws.definition)
    assert "while 1 jobs use it" in aws.rig.take_violations()[0]
    aws.rig.finish()
    aws.batch.deregister_job_definition(jobDefinition=aws.definition)
    assert aws.rig.violations == []


def test_overrides_too_long_for_ecs_are_accepted_and_fail(aws: Account) -> None:
    job = aws.submit("long", containerOverrides={"environment": long_env(8_200)})
    aws.rig.wait_idle()
    assert aws.one(job)["statusReason"] == "Container Overrides length must be at most 8192"
    assert len(aws.rig.take_violations()) == 1


def _code(call: Any) -> str:
    """The error code that a call ends in, with its status; empty if all went well."""
    try:
        call()
    except ClientError as exc:
        return f"{exc.response['Error']['Code']} {exc.response['ResponseMetadata']['HTTPStatusCode']}"
    return ""


def _refused(call: Any) -> bool:
    code = _code(call)
    assert code in ("", "ClientException 400")
    return bool(code)


# Faults


def test_a_throttle_looks_as_batch_makes_it(aws: Account) -> None:
    aws.rig.faults.script("SubmitJob", "throttle")
    with pytest.raises(ClientError) as caught:
        aws.submit("job")
    assert caught.value.response["Error"]["Code"] == "TooManyRequestsException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert aws.rig.jobs() == []
    aws.submit("job")
    assert [call.status for call in aws.rig.calls("SubmitJob")] == [429, 200]
    assert aws.rig.faults.injected == [("SubmitJob", "throttle")]


def test_faults_before_and_after_the_fact(aws: Account) -> None:
    aws.rig.virtual()
    aws.rig.faults.script("SubmitJob", "error", "reset", "drop", "lost")
    raised: list[str] = []
    for kind in ("error", "reset", "drop", "lost"):
        with pytest.raises((ClientError, ConnectionClosedError)) as caught:
            aws.submit(kind)
        raised.append(type(caught.value).__name__)
    assert [job.name for job in aws.rig.jobs()] == ["drop", "lost"]
    assert [call.status for call in aws.rig.calls("SubmitJob")] == [500, None, None, 500]
    assert raised == ["ServerException", "ConnectionClosedError", "ConnectionClosedError", "ServerException"]
    aws.submit("fine")


def test_half_an_answer_looks_like_an_empty_success(aws: Account) -> None:
    """botocore reads what comes and parses what it can: the job exists, and its id is not there."""
    aws.rig.virtual()
    aws.rig.faults.script("*", "truncate")
    answer = aws.batch.submit_job(jobName="half", jobQueue="q", jobDefinition=aws.definition)
    assert set(answer) == {"ResponseMetadata"}
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert [job.name for job in aws.rig.jobs()] == ["half"]
    aws.rig.bucket("data")
    s3 = aws.rig.client("s3")
    s3.put_object(Bucket="data", Key="k", Body=b"x" * 100)
    aws.rig.faults.script("GET", "truncate", service="s3")
    with pytest.raises(ResponseStreamingError):
        s3.get_object(Bucket="data", Key="k")["Body"].read()


def test_a_late_request_is_handled_when_nobody_waits_any_more(aws: Account) -> None:
    aws.rig.virtual()
    aws.rig.faults.script("SubmitJob", Step("late", 0.2))
    with pytest.raises(ConnectionClosedError):
        aws.submit("late")
    assert aws.rig.jobs() == []
    aws.rig.wait_for("late", "RUNNING")


def test_a_lost_answer_and_a_retry_make_a_duplicate(aws: Account) -> None:
    """The danger that the product must not fall to."""
    aws.rig.virtual()
    aws.rig.faults.script("SubmitJob", "drop")
    retrying = aws.rig.client("batch", retries={"mode": "standard", "total_max_attempts": 2})
    retrying.submit_job(jobName="twin", jobQueue="q", jobDefinition=aws.definition)
    assert aws.rig.duplicates() == {"twin": 2}
    assert [call.fault for call in aws.rig.calls("SubmitJob")] == ["drop", "ok"]


def test_latency_is_what_a_call_takes(aws: Account) -> None:
    aws.rig.faults.latency = 0.05
    before = time.monotonic()
    for _ in range(10):
        aws.describe("nobody")
    assert time.monotonic() - before >= 0.5
    aws.rig.faults.latency = 0
    aws.rig.faults.script("*", Step("delay", 0.2))
    before = time.monotonic()
    aws.describe("nobody")
    assert time.monotonic() - before >= 0.2


def test_random_faults_replay_and_end(aws: Account) -> None:
    def run(seed: int) -> list[str]:
        faults = Faults()
        faults.random(seed, "SubmitJob", "Describe*", throttle=0.3, drop=0.2)
        return [faults.decide("batch", "SubmitJob").kind for _ in range(200)]

    assert run(1) == run(1) != run(2)
    kinds = Counter(run(3))
    assert 35 < kinds["throttle"] < 85
    assert 20 < kinds["drop"] < 65
    aws.rig.faults.random(5, throttle=1.0, max_faults=3)
    codes = [_code(lambda: aws.describe("x")) for _ in range(5)]
    assert codes == ["TooManyRequestsException 429"] * 3 + [""] * 2
    assert len(aws.rig.faults.injected) == 3


def test_bursts_and_other_services(aws: Account) -> None:
    faults = Faults()
    faults.random(8, throttle=0.05, burst=4)
    kinds = "".join(faults.decide("batch", "SubmitJob").kind[0] for _ in range(400))
    assert all(len(run) >= 4 for run in re.findall("t+", kinds)[:-1])
    assert faults.decide("s3", "PUT") == Step()
    for service in ("logs", "sts", "s3"):
        aws.rig.faults.random(1, service=service, throttle=1.0)
    calls = (aws.logs.describe_log_groups, aws.rig.client("sts").get_caller_identity, aws.rig.client("s3").list_buckets)
    assert [_code(call) for call in calls] == ["ThrottlingException 400", "Throttling 400", "SlowDown 503"]


def test_the_rate_limit_is_a_token_bucket() -> None:
    now = 0.0
    faults = Faults(clock=lambda: now)
    faults.submit_rate, faults.submit_burst = 50, 50
    first = [faults.decide("batch", "SubmitJob").kind for _ in range(60)]
    assert first == ["ok"] * 50 + ["throttle"] * 10
    now = 0.1
    assert [faults.decide("batch", "SubmitJob").kind for _ in range(6)] == ["ok"] * 5 + ["throttle"]
    assert faults.decide("batch", "DescribeJobs").kind == "ok"


def test_calls_are_counted_with_their_times(aws: Account) -> None:
    aws.rig.forget_calls()
    for n in range(5):
        aws.submit(f"job-{n}")
    aws.describe("x")
    aws.rig.client("sts").get_caller_identity()
    assert aws.rig.counts("batch") == {"SubmitJob": 5, "DescribeJobs": 1}
    assert aws.rig.calls("SubmitJob")[3].body["jobName"] == "job-3"
    assert aws.rig.peak_rate("SubmitJob", window=60) == 5
    assert aws.rig.calls(service="sts")[0].action == "GetCallerIdentity"


def test_a_container_reaches_the_same_s3(aws: Account) -> None:
    bucket = aws.rig.bucket("data")
    script = "import boto3; boto3.client('s3').put_object(Bucket='data', Key='k', Body=b'from inside')"
    aws.submit("writer", sys.executable, "-c", script)
    aws.rig.wait_idle()
    assert aws.rig.client("s3").get_object(Bucket=bucket, Key="k")["Body"].read() == b"from inside"


def test_reset_ends_everything(aws: Account) -> None:
    aws.sh("deaf", "trap '' TERM; echo $$; while :; do sleep 0.05; done")
    until(lambda: len(aws.rig.logs("deaf")) == 1)
    (pid,) = aws.rig.logs("deaf")
    aws.submit("waits", after=(aws.rig.job("deaf").id,))
    aws.rig.reset()
    until(lambda: not alive(int(pid)))
    assert aws.rig.jobs() == []
    assert aws.rig.calls() == []
    assert aws.batch.describe_job_queues()["jobQueues"] == []


def test_it_runs_by_itself() -> None:
    command = [sys.executable, "-m", "tests.aws.batch_server", "--port", "0", "--virtual", "0"]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as server:
        try:
            assert server.stdout is not None
            lines = [server.stdout.readline().strip() for _ in range(10)]
            exports = dict(line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export "))
            with urllib.request.urlopen(f"{exports['AWS_ENDPOINT_URL']}/rig/report") as answer:  # noqa: S310  # it is http
                assert json.load(answer) == {"calls": {}, "violations": [], "jobs": []}
            script = "import boto3; print(boto3.client('batch').describe_job_queues()['jobQueues'][0]['jobQueueName'])"
            seen = subprocess.run(
                [sys.executable, "-c", script], env=os.environ | exports, capture_output=True, text=True, check=True
            )
            assert seen.stdout.strip() == "ezbatch"
        finally:
            server.terminate()
