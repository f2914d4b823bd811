"""The rows of the table in turn: what AWS shows, and what the person reads."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from ezbatch import EZBatchJob, EZBatchRun, EZBatchWorkflow, S3Mount, S3Mounts
from ezbatch.aws.backend import AWSBackend
from ezbatch.aws.clients import Clients
from ezbatch.backend import EnvironmentFacts, JobReport, JobState, QueueFacts
from ezbatch.errors import JobFailedError
from ezbatch.explain import Needs, explain
from ezbatch.ledger import Ledger
from ezbatch.preloader import EXIT_CODES
from ezbatch.settings import Settings
from tests.aws.engine import NOT_STARTED, Outcome
from tests.aws.rig import Rig
from tests.explain.conftest import IMAGE, Submit, job

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)

#: What AWS says of the job at the head of its queue -> words of the cause, of the remedy, whether waiting is in vain.
WAITING = [
    (
        (
            "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - The job resource requirement (vCPU/memory/GPU) is"
            " higher than that can be met by the CE(s) attached to the job queue."
        ),
        "more than any compute environment",
        "raise maxvCpus",
        True,
    ),
    (
        "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement is higher than any instance.",
        "No instance type of its queue is large enough",
        "less memory or fewer vCPUs",
        True,
    ),
    (
        "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED - The instance type is not supported in the zone.",
        "instances that do not exist there",
        "instance types, zones",
        True,
    ),
    (
        "MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS - Batch service role has a permission issue.",
        "own role lacks rights",
        "service-linked role",
        True,
    ),
    (
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested for p4d.24xlarge",
        "no machines of that kind free",
        "Wait, or allow more",
        False,
    ),
    ("ACTION_REQUIRED - CE(s) associated with the job queue are invalid.", "is invalid", "environment list", True),
    ("UNDETERMINED - Batch job is blocked, root cause is undetermined.", "does not know why", "way out", False),
]


@pytest.mark.parametrize(("reason", "cause", "remedy", "stuck"), WAITING, ids=[row[0][:40] for row in WAITING])
def test_what_aws_says_at_the_head_is_told(
    aws_env: Rig, submit: Submit, reason: str, cause: str, remedy: str, *, stuck: bool
) -> None:
    aws_env.queue()
    aws_env.block("ezbatch", reason)
    run = submit({"a": job(), "b": job()})
    # Jobs without dependencies are submitted at once, in no order.
    head, next_one = (found.name.rpartition("-")[2] for found in aws_env.jobs())
    first, second = run.explain(head), run.explain(next_one)
    assert cause in first.cause
    assert reason.rstrip(".") in first.evidence
    assert remedy in first.remedy
    assert first.stuck is stuck
    # AWS says nothing of the one behind it; its own cause is the first.
    assert second.cause == f"It is queued behind {head}, which cannot start"
    assert "position 2 of 2" in second.evidence
    assert reason.rstrip(".") in second.evidence
    assert not second.stuck


def test_a_job_above_maxvcpus_is_told_with_both_numbers(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue(max_vcpus=16)
    aws_env.hold("RUNNABLE")
    run = submit({"a": job(vcpus=16, memory=32768)})
    aws_env.set_capacity("ezbatch", 4)
    found = run.explain("a")
    assert "more than any compute environment" in found.cause
    assert "16 vCPU; maxvCpus of ezbatch-ce is 4" in found.evidence
    assert "ezbatch environment update ezbatch-ce --max-vcpus 16" in found.remedy
    assert found.stuck


def test_an_invalid_environment_is_told_with_its_own_reason(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue()
    aws_env.hold("RUNNABLE")
    run = submit({"a": job()})
    aws_env.set_environment("ezbatch", invalid="CLIENT_ERROR - Subnet is not there")
    found = run.explain("a")
    assert "compute environment of its queue is invalid" in found.cause
    assert "INVALID (CLIENT_ERROR - Subnet is not there)" in found.evidence
    assert found.stuck


def test_a_disabled_environment_comes_with_the_command_that_enables_it(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue()
    aws_env.hold("RUNNABLE")
    run = submit({"a": job()})
    aws_env.set_environment("ezbatch", state="DISABLED")
    found = run.explain("a")
    assert "is disabled" in found.cause
    assert "ezbatch-ce is DISABLED" in found.evidence
    assert "ezbatch environment enable ezbatch-ce" in found.remedy
    assert found.stuck


def queue_facts(**fields: object) -> QueueFacts:
    known: dict[str, object] = {
        "queue": "ezbatch",
        "seen": NOW,
        "environments": (EnvironmentFacts("ce", max_vcpus=256.0),),
        "front": {"1": NOW - timedelta(minutes=20)},
        "runnable": 1,
        "running": 0,
        "vcpus": 0.0,
        "looked": ("the queue", "its compute environments"),
    }
    return QueueFacts(**{**known, **fields})  # type: ignore[arg-type] # each test's own


WAITS = JobReport("a", "1", JobState.RUNNABLE)
FARGATE = Needs(4, 8192)


def test_a_queue_that_is_off_is_named_when_nothing_else_is() -> None:
    found = explain(WAITS, {"a": WAITS}, {}, queue_facts(state="DISABLED"), needs=FARGATE)
    assert found.cause == "Its queue is disabled"
    assert "ezbatch queue enable ezbatch" in found.remedy
    found = explain(WAITS, {"a": WAITS}, {}, queue_facts(status="INVALID", reason="no CE"), needs=FARGATE)
    assert "not valid" in found.cause
    assert "no CE" in found.evidence
    assert found.stuck


def test_the_quota_is_blamed_only_by_its_number() -> None:
    facts = queue_facts(quota=6.0, vcpus=4.0, running=1)
    found = explain(WAITS, {"a": WAITS}, {}, facts, needs=FARGATE)
    assert "account's vCPU quota" in found.cause
    assert "4 of the 6 vCPU" in found.evidence
    assert "Service Quotas" in found.remedy
    assert not found.stuck
    larger = explain(WAITS, {"a": WAITS}, {}, queue_facts(quota=6.0), needs=Needs(8, 16384))
    assert "more vCPUs than the account may have" in larger.cause
    assert larger.stuck
    unseen = explain(WAITS, {"a": WAITS}, {}, queue_facts(unseen=("the vCPU quota (no right)",)), needs=FARGATE)
    assert unseen.cause == "Why it waits is not known"
    assert "looked at the queue, its compute environments; not seen: the vCPU quota (no right)" in unseen.evidence
    assert "6, unless it was raised" in unseen.remedy


def test_a_queue_that_was_turned_off_is_named_with_the_command_that_turns_it_on(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue()
    aws_env.hold("RUNNABLE")
    run = submit({"a": job()})
    # It has been at the head for long: nothing but the queue's state is left to explain that.
    aws_env.engine.jobs[aws_env.jobs()[0].id].created_at -= 20 * 60 * 1000
    aws_env.client("batch").update_job_queue(jobQueue="ezbatch", state="DISABLED")
    found = run.explain("a")
    assert found.cause == "Its queue is disabled"
    assert "queue ezbatch is DISABLED; looked at the queue, its compute environments" in found.evidence
    assert "ezbatch queue enable ezbatch" in found.remedy


class Quota(Clients):
    """Clients of an account whose quota can be read: moto has none."""

    def once(self, service: str, method: str, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401 - the calls' own
        if method == "get_service_quota":
            assert parameters == {"ServiceCode": "fargate", "QuotaCode": "L-3032A538"}
            return {"Quota": {"Value": 6.0}}
        return super().once(service, method, **parameters)


def test_a_job_beyond_the_quota_waits_while_its_environment_is_valid(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue()
    aws_env.virtual("manual")
    submit({"first": job(vcpus=4, memory=8192)})
    aws_env.wait_for("*-first", "RUNNING")
    aws_env.hold("RUNNABLE")
    run = submit({"second": job(vcpus=4, memory=8192)})
    settings = Settings.load()
    ledger = Ledger(settings.state_directory)
    seeing = EZBatchRun(ledger.find(run.id), ledger, AWSBackend(settings, Quota(settings)), settings=settings)
    found = seeing.refresh().explain("second")
    assert found.cause == "It waits for the account's vCPU quota"
    assert "4 of the 6 vCPU that the account may have on Fargate, and the job asks for 4" in found.evidence
    assert "Service Quotas" in found.remedy


def test_just_queued_is_an_answer(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue()
    aws_env.hold("RUNNABLE")
    jobs = {f"j{n}": job() for n in range(15)}
    run = submit(jobs)
    order = [found.name for found in aws_env.jobs()]
    place = next(n for n, name in enumerate(order) if name.endswith("-j13"))
    found = run.explain("j13")
    assert found.cause == "It is just queued"
    assert f"position {place + 1} of 15" in found.evidence
    assert "Wait" in found.remedy


def test_the_position_is_of_all_that_wait() -> None:
    front = {str(n): NOW for n in range(1, 101)}
    report = JobReport("a", "14", JobState.RUNNABLE)
    found = explain(report, {"a": report}, {}, queue_facts(front=front, runnable=212), needs=FARGATE)
    assert "position 14 of 212" in found.evidence
    report = JobReport("a", "500", JobState.RUNNABLE)
    found = explain(report, {"a": report}, {}, queue_facts(front=front, runnable=212), needs=FARGATE)
    assert "behind the first 100 of 212" in found.evidence


def test_a_full_queue_is_told_with_its_vcpus(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue(max_vcpus=2)
    aws_env.virtual("manual")
    run = submit({"a": job(vcpus=2, memory=4096), "b": job(vcpus=2, memory=4096)})
    aws_env.wait_for("*-a", "RUNNING", "RUNNABLE")
    waits = next(name for name, report in run.refresh().jobs.items() if report.state is JobState.RUNNABLE)
    found = run.explain(waits)
    assert "all vCPUs of its queue are in use" in found.cause
    assert "2 of 2 vCPU in use" in found.evidence


def test_a_job_that_waits_names_the_one_that_blocks_it(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue()
    aws_env.hold("RUNNABLE")
    run = submit({"a": job(), "b": job(), "c": job()}, {"b": ["a"], "c": ["b"]})
    found = run.explain("c")
    assert found.cause == "It waits for other jobs"
    assert found.evidence == "b (pending); those wait for a (runnable)"
    assert "explain a" in found.remedy


def test_an_image_that_is_not_there(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue()
    aws_env.options.missing_images = ("*busybox*",)
    run = submit({"a": job()})
    run.wait(progress=False)
    found = run.explain("a")
    assert found.cause == "Its image cannot be pulled"
    assert IMAGE in found.evidence
    assert "name and tag" in found.remedy
    with pytest.raises(JobFailedError, match="Its image cannot be pulled"):
        run.raise_for_status()


def test_a_secret_that_is_not_there(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue()
    run = submit({"a": job(secrets={"TOKEN": "arn:aws:secretsmanager:us-east-1:123456789012:secret:x"})})
    run.wait(progress=False)
    found = run.explain("a")
    assert "could not be prepared" in found.cause
    assert "ResourceInitializationError" in found.evidence
    assert "execution role" in found.remedy
    assert "secrets" in found.remedy


def ended(aws_env: Rig, submit: Submit, outcome: Outcome, **fields: object) -> tuple[str, str, str]:
    aws_env.queue()
    aws_env.virtual(lambda _job: outcome)
    run = submit({"a": job("true", **fields)})
    run.wait(progress=False)
    found = run.explain("a")
    with pytest.raises(JobFailedError) as error:
        run.raise_for_status()
    # The person who reads the traceback reads all three.
    assert found.cause in str(error.value)
    assert found.evidence in str(error.value)
    assert found.remedy in str(error.value)
    return found.cause, found.evidence, found.remedy


def test_out_of_memory(aws_env: Rig, submit: Submit) -> None:
    outcome = Outcome(0, 137, "OutOfMemoryError: Container killed due to memory usage")
    cause, evidence, remedy = ended(aws_env, submit, outcome)
    assert (cause, remedy) == ("It ran out of memory", "Raise memory")
    assert "exit code 137" in evidence
    assert "it had 2,048 MiB" in evidence


def test_a_timeout_is_told_before_memory_although_both_end_with_137(aws_env: Rig, submit: Submit) -> None:
    aws_env.options.timeout_scale = 0.001
    cause, evidence, remedy = ended(aws_env, submit, Outcome(None), timeout=60)
    assert cause == "It took longer than its timeout"
    assert "exit code 137; it had 60 s" in evidence
    assert "Raise timeout" in remedy


def test_the_program_failed(aws_env: Rig, submit: Submit) -> None:
    cause, evidence, remedy = ended(aws_env, submit, Outcome(0, 3))
    assert cause == "Its command failed"
    assert "exit code 3" in evidence
    assert "log" in remedy


def test_killed_without_a_word_is_not_called_out_of_memory(aws_env: Rig, submit: Submit) -> None:
    cause, evidence, _remedy = ended(aws_env, submit, Outcome(0, 137))
    assert cause == "It was killed (signal 9)"
    assert "137" in evidence


def test_never_started(aws_env: Rig, submit: Submit) -> None:
    cause, evidence, remedy = ended(aws_env, submit, Outcome(0, None, None, NOT_STARTED))
    assert cause == "Its container never started"
    assert "Task failed to start" in evidence
    assert "doctor" in remedy


@pytest.mark.parametrize(
    "reason", ["Host EC2 (instance i-0123456789abcdef0) terminated.", "Your Spot Task was interrupted."]
)
def test_spot_reclaim(aws_env: Rig, submit: Submit, reason: str) -> None:
    cause, evidence, remedy = ended(aws_env, submit, Outcome(0, None, None, reason))
    assert "took its machine back" in cause
    assert reason.rstrip(".") in evidence
    assert "retries" in remedy


PULLS = [
    (
        "CannotPullContainerError: image Manifest does not contain descriptor matching: no match for platform",
        "processor",
    ),
    ("CannotPullContainerError: toomanyrequests: You have reached your pull rate limit", "that often"),
    ("CannotPullContainerError: dial tcp 3.5.1.2:443: i/o timeout", "registry cannot be reached"),
    ("CannotPullContainerError: failed to authorize: 403 Forbidden", "registry refuses"),
    ("CannotPullContainerError: pull access denied, repository does not exist", "registry refuses"),
    ("ResourceInitializationError: failed to validate logger args: The specified log group does not exist", "its log"),
    ("CannotStartContainerError: exec format error", "could not be started"),
]


@pytest.mark.parametrize(("reason", "cause"), PULLS, ids=[cause for _reason, cause in PULLS])
def test_what_the_message_tells_more_is_told(aws_env: Rig, submit: Submit, reason: str, cause: str) -> None:
    found = ended(aws_env, submit, Outcome(0, None, reason, NOT_STARTED))
    assert cause in found[0]
    assert reason in found[1]


def test_what_failed_upstream_is_named(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue()
    run = submit({"a": job("exit 3"), "b": job(), "c": job()}, {"b": ["a"], "c": ["b"]})
    run.wait(progress=False)
    for name in ("b", "c"):
        found = run.explain(name)
        assert "a did not succeed" in found.cause
        assert found.evidence.endswith("a: Essential container in task exited, exit code 3")
        assert "Mend a" in found.remedy
        assert "explain a" in found.remedy


def test_cancelled_is_no_riddle(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue()
    aws_env.virtual("manual")
    run = submit({"a": job()})
    run.cancel("a", "enough")
    run.wait(progress=False)
    assert run.explain("a").cause == "It was cancelled"
    assert "enough" in run.explain("a").evidence


def test_without_a_reason_it_says_that_it_does_not_know() -> None:
    report = JobReport("a", "1", JobState.FAILED)
    assert "not known" in explain(report, {"a": report}, {}).cause
    waits = explain(WAITS, {"a": WAITS}, {}, queue_facts(), needs=FARGATE)
    assert waits.cause == "Why it waits is not known"
    assert "looked at the queue" in waits.evidence


def test_no_explanation_promises_what_it_does_not_know() -> None:
    # Without facts nothing but the job's own reason is told.
    assert str(explain(WAITS, {"a": WAITS}, {})) == ("It waits for room (every job it depends on has succeeded).")


def test_no_role_and_no_subnet_is_to_blame_for_a_pull_on_this_machine() -> None:
    reason = "CannotPullContainerError: lab/tool:1: dial tcp: lookup registry.example: no such host"
    failed = JobReport("a", "id", JobState.FAILED, reason=reason)
    here = explain(failed, {"a": failed}, {}, needs=Needs(1, 2048, image="lab/tool:1", local=True))
    assert "registry cannot be reached" in here.cause
    assert "docker pull lab/tool:1" in here.remedy
    assert "subnet" not in here.remedy
    assert "subnet" in explain(failed, {"a": failed}, {}, needs=Needs(1, 2048, image="lab/tool:1")).remedy


def test_a_code_of_the_scripts_counts_only_where_the_script_said_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "process")
    missing, out = S3Mount("s3://bucket/missing", "in.txt"), S3Mount("out.txt", "s3://bucket/out.txt")
    # The log's last line is the script's, for want of an output; there is none; it is the command's own.
    own = {
        f"{code} {made}": copying(f"{made}; exit {code}", write=[out])
        for code in EXIT_CODES
        for made in ("true", "echo x >out.txt", "echo x | tee out.txt")
    }
    staged = {"staged": copying("cat in.txt; true", read=[missing])}
    run = EZBatchWorkflow("w", {**own, **staged}).submit("local").wait(progress=False)
    for name in own:
        assert run.explain(name).cause == "Its command failed"
        assert run.explain(name).evidence == f"exit code {run.jobs[name].exit_code}"
    assert run.explain("staged").cause == "An input could not be downloaded, so the command was not run"
    assert "s3://bucket/missing" in run.explain("staged").evidence


def test_on_aws_whose_code_it_is_can_only_be_read_in_the_log(aws_env: Rig, submit: Submit) -> None:
    aws_env.queue()
    aws_env.virtual(lambda _job: Outcome(0, 190))
    run = submit({"a": copying("true; true", write=[S3Mount("out.txt", "s3://bucket/out.txt")])})
    found = run.wait(progress=False).explain("a")
    assert "could not be downloaded" in found.cause
    assert found.remedy.endswith("last line does not say so, the command itself ended with 190")


def copying(command: str, **mounts: list[S3Mount]) -> EZBatchJob:
    return job(command, mounts=S3Mounts(**mounts), preloader=True)
