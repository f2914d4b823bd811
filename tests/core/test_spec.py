"""The constructors: what they accept, what they refuse, and that they leave the caller's objects alone."""

from __future__ import annotations

import copy
import pickle
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezbatch import EZBatchJob, EZBatchWorkflow, S3Mount, S3Mounts, SpecTypeError
from ezbatch import spec as reading

from .workflows import workflows

MINIMAL: dict[str, Any] = {"image": "i", "command": "true"}


def test_the_documented_order_and_defaults() -> None:
    mounts = S3Mounts([S3Mount("s3://b/k", "in")], [])
    job = EZBatchJob("i", ["c"], {"A": "1"}, mounts, 2, 4096, 30, "EC2", {"t": "v"}, "q", True)  # noqa: FBT003 - the documented order
    assert (job.image, job.command, job.environment, job.mounts) == ("i", ["c"], {"A": "1"}, mounts)
    assert (job.vcpus, job.memory, job.storage_size, job.platform) == (2, 4096, 30, "EC2")
    assert (job.tags, job.queue, job.preloader) == ({"t": "v"}, "q", True)
    plain = EZBatchJob("i", "c")
    assert (plain.environment, plain.mounts, plain.vcpus, plain.memory) == ({}, S3Mounts(), 1, 2048)
    assert (plain.storage_size, plain.platform, plain.tags, plain.queue) == (None, "FARGATE", {}, None)
    assert plain.preloader is False
    mount = S3Mount("a", "b")
    assert (mount.recursive, mount.sse, mount.sse_kms_key_id, mount.options) == (None, None, None, "--quiet")
    assert EZBatchWorkflow("w", {"a": plain}).dependencies == {}


def test_what_is_new_is_keyword_only_and_off() -> None:
    with pytest.raises(TypeError, match="positional"):
        EZBatchJob("i", "c", {}, S3Mounts(), 1, 2048, None, "FARGATE", {}, None, False, 5)  # type: ignore[call-arg]  # noqa: FBT003 - as above
    job = EZBatchJob("i", "c")
    assert (job.array, job.retries, job.timeout, job.gpus) == (None, 0, None, None)
    assert (job.secrets, job.job_role, job.architecture) == ({}, None, None)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image", None, r"image must be a string, not null"),
        ("image", 3, r"image must be a string, not int 3"),
        ("command", None, r"command must be a string or a list of strings, not null"),
        ("command", ["a", 1], r"command\[1\] must be a string, not int 1"),
        ("command", b"ls", r"command must be a string or a list"),
        ("command", {"a": "b"}, r"command must be a string or a list"),
        ("environment", ["A=1"], r"environment must be a dict of strings, not list"),
        ("environment", {"A": None}, r"environment.A must be a string, not null"),
        ("environment", {1: "x"}, r"environment\S* must be named by a string"),
        ("mounts", None, r"mounts must be S3Mounts, not null"),
        ("mounts", [S3Mount("a", "b")], r"mounts must be S3Mounts, not list"),
        ("vcpus", "4", r"vcpus must be a number, not str '4': write 4 without quotes"),
        ("vcpus", "4.5", r"write 4.5 without quotes"),
        ("vcpus", True, r"vcpus must be a number, not bool"),
        ("vcpus", float("nan"), r"vcpus must be a number"),
        ("vcpus", float("inf"), r"vcpus must be a number"),
        ("vcpus", 10**400, r"vcpus must be a number"),
        ("memory", "2048", r"memory must be a whole number, not str '2048': write 2048 without quotes"),
        ("memory", 0.5, r"memory must be a whole number, not float 0.5"),
        ("memory", None, r"memory must be a whole number, not null"),
        ("memory", float("inf"), r"memory must be a whole number"),
        ("storage_size", "30", r"storage_size must be a whole number"),
        ("platform", 1, r"platform must be a string"),
        ("tags", {"a": 1}, r"tags.a must be a string, not int 1"),
        ("queue", 1, r"queue must be a string"),
        ("preloader", "yes", r"preloader must be true or false"),
        ("preloader", 1, r"preloader must be true or false"),
        ("array", "ten", r"array must be a whole number, a list of dicts, or a dict of lists"),
        ("array", True, r"array must be a whole number"),
        ("array", 2.5, r"array must be a whole number"),
        ("array", [1], r"array\[0\] must be a dict"),
        ("array", [{"A": []}], r"array\[0\].A must be a string or a finite number"),
        ("array", {"A": "abc"}, r"array.A must be a list"),
        ("array", {"A": [None]}, r"array.A\[0\] must be a string or a finite number"),
        ("retries", None, r"retries must be a whole number"),
        ("timeout", "60", r"timeout must be a whole number"),
        ("gpus", 0.5, r"gpus must be a whole number"),
        ("secrets", {"A": 1}, r"secrets.A must be a string"),
        ("job_role", 1, r"job_role must be a string"),
        ("architecture", 1, r"architecture must be a string"),
    ],
)
def test_a_wrong_type_raises_and_names_the_field(field: str, value: object, message: str) -> None:
    with pytest.raises(SpecTypeError, match=message) as caught:
        EZBatchJob(**{**MINIMAL, field: value})
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: S3Mount(1, "b"), r"source must be a string"),  # type: ignore[arg-type]
        (lambda: S3Mount("a", None), r"destination must be a string, not null"),  # type: ignore[arg-type]
        (lambda: S3Mount("a", "b", recursive="yes"), r"recursive must be true or false"),  # type: ignore[arg-type]
        (lambda: S3Mount("a", "b", options=None), r"options must be a string"),  # type: ignore[arg-type]
        (lambda: S3Mounts(read="s3://b/k"), r"read must be a list of S3Mount or dict"),  # type: ignore[arg-type]
        (lambda: S3Mounts(read=[1]), r"read\[0\] must be an S3Mount or a dict"),  # type: ignore[list-item]
        (lambda: S3Mounts(write=[{"source": "a"}]), r"^write\[0\] lacks the field 'destination'"),
        (lambda: S3Mounts(read=[{"source": "a", "destination": "b", "recursve": True}]), r"mean 'recursive'"),
        (lambda: S3Mounts(read={"source": "a"}), r"read must be a list"),  # type: ignore[arg-type]
        (lambda: EZBatchWorkflow(1, {}), r"name must be a string"),  # type: ignore[arg-type]
        (lambda: EZBatchWorkflow("w", []), r"jobs must be a dict of EZBatchJob"),  # type: ignore[arg-type]
        (lambda: EZBatchWorkflow("w", {"a": "b"}), r"jobs.a must be an EZBatchJob"),  # type: ignore[dict-item]
        (lambda: EZBatchWorkflow("w", {}, []), r"dependencies must be a dict"),  # type: ignore[arg-type]
        (lambda: EZBatchWorkflow("w", {}, {"a": "b"}), r"write \['b'\]"),  # type: ignore[dict-item]
        (lambda: EZBatchWorkflow("w", {}, {"a": [1]}), r"dependencies.a\[0\] must be a string"),  # type: ignore[list-item]
        (lambda: EZBatchWorkflow("w", {}, {"a": 1}), r"dependencies.a must be a list of job names"),  # type: ignore[dict-item]
    ],
)
def test_mounts_and_workflows_refuse_wrong_types(build: Any, message: str) -> None:  # noqa: ANN401 - a lambda
    with pytest.raises(SpecTypeError, match=message):
        build()


def test_numbers_of_every_kind_are_read() -> None:
    class Int64:
        """As numpy's: an Integral that is no int."""

        def __init__(self, value: int) -> None:
            self.value = value

        def __int__(self) -> int:
            return self.value

        def __index__(self) -> int:
            return self.value

    import numbers

    numbers.Integral.register(Int64)
    assert EZBatchJob("i", "c", memory=Int64(4096)).memory == 4096  # type: ignore[arg-type]
    job = EZBatchJob("i", "c", vcpus=2.0, memory=2048.0)  # type: ignore[arg-type]
    assert (type(job.vcpus), type(job.memory)) == (int, int)
    assert EZBatchJob("i", "c", vcpus=0.25).vcpus == 0.25


def test_values_of_the_environment_are_never_shown() -> None:
    secret = "correct-horse"
    job = EZBatchJob("i", "c", environment={"PASSWORD": secret, "_K": secret})
    workflow = EZBatchWorkflow("w", {"a": job})
    for shown in (repr(job), str(job), repr(workflow), str(workflow), f"{job}"):
        assert secret not in shown
    assert "PASSWORD" in repr(job)
    for wrong in ({"PASSWORD": [secret]}, {"PASSWORD": 1234567}, {"PASSWORD": True}):
        with pytest.raises(SpecTypeError) as caught:
            EZBatchJob("i", "c", environment=wrong)  # type: ignore[arg-type]
        assert secret not in str(caught.value)
        assert "1234567" not in str(caught.value)
        assert "PASSWORD" in str(caught.value)


@given(workflows())
def test_nothing_mutates_what_the_caller_gave(workflow: EZBatchWorkflow) -> None:
    before = copy.deepcopy(workflow)
    workflow.to_dict()
    workflow.problems()
    repr(workflow)
    for job in workflow.jobs.values():
        job.to_definition()
    EZBatchWorkflow.job_submission_queue(workflow.jobs, workflow.dependencies)
    assert workflow == before


def test_the_spec_does_not_share_the_callers_containers() -> None:
    environment, tags, command = {"A": "1"}, {"t": "v"}, ["echo", "x"]
    reads = [{"source": "s3://b/k", "destination": "in"}]
    entries: list[dict[str, Any]] = [{"X": 1}]
    job = EZBatchJob("i", command, environment=environment, tags=tags, mounts=S3Mounts(read=reads), array=entries)
    jobs, dependencies = {"a": job, "b": job}, {"b": ["a"]}
    workflow = EZBatchWorkflow("w", jobs, dependencies)
    before = copy.deepcopy(workflow)
    environment["B"] = tags["u"] = "2"
    command.append("y")
    reads[0]["source"] = "s3://other/k"
    reads.append(reads[0])
    entries[0]["X"] = 2
    jobs["c"] = job
    dependencies["b"].append("c")
    assert workflow == before
    definition = job.to_definition()
    definition["environment"]["Z"] = definition["tags"]["Z"] = "z"
    definition["command"].append("z")
    saved = workflow.to_dict()
    saved["jobs"]["a"]["environment"]["Z"] = "z"
    saved["jobs"]["a"]["mounts"]["read"][0]["source"] = "z"
    saved["jobs"]["a"]["array"][0]["X"] = "z"
    saved["dependencies"]["b"].append("z")
    assert workflow == before


def test_defaults_are_not_shared_between_jobs() -> None:
    one, other = EZBatchJob("i", "c"), EZBatchJob("i", "c")
    one.environment["A"] = "1"
    one.tags["t"] = "v"
    assert isinstance(one.mounts.read, list)
    one.mounts.read.append(S3Mount("s3://b/k", "in"))
    assert (other.environment, other.tags, other.mounts) == ({}, {}, S3Mounts())


def test_a_job_can_be_copied_and_pickled() -> None:
    job = EZBatchJob("i", "c", environment={"A": "1"}, mounts=S3Mounts([S3Mount("s3://b/k", "in")]), array=[{"X": 1}])
    assert pickle.loads(pickle.dumps(job)) == copy.deepcopy(job) == job  # noqa: S301 - made here


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("python3 train.py --rate 0.1", ["python3", "train.py", "--rate", "0.1"]),
        ("  two   spaces  ", ["two", "spaces"]),
        ("echo 'a  b' \"c d\"", ["echo", "a  b", "c d"]),
        (r"echo a\ b", ["echo", "a b"]),
        ("echo it's", ["/bin/sh", "-c", "echo it's"]),
        (["echo", "$HOME", "a b", ""], ["echo", "$HOME", "a b", ""]),
        (["true"], ["true"]),
        *(
            (text, ["/bin/sh", "-c", text])
            for text in (
                "a | b",
                "a && b",
                "a; b",
                "a > f",
                "a < f",
                "echo $HOME",
                "echo `date`",
                "ls *.txt",
                "ls ?",
                "ls [ab]",
                "echo {a,b}",
                "(a)",
                "# comment",
                "ls ~",
                "A=1 env",
                "printf %s x",
                "! true",
                "a\nb",
                "a &",
                "exit 3",
                "set -e",
                "exec true",
                "cd /tmp",
                ": nothing",
            )
        ),
    ],
)
def test_commands_are_words_or_go_to_the_shell(command: str | list[str], argv: list[str]) -> None:
    job = EZBatchJob("i", command)
    assert job.argv == argv
    assert job.uses_shell == (argv[:2] == ["/bin/sh", "-c"])


@given(st.text("ab'\"\\ -.x", max_size=12))
def test_words_are_split_as_a_shell_splits_them(text: str) -> None:
    job = EZBatchJob("i", f"printf {text}")
    if job.uses_shell:
        return
    script = f"set -- {job.command}\nfor word; do printf '[%s]' \"$word\"; done"
    by_shell = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
    assert by_shell.stdout == "".join(f"[{word}]" for word in job.argv)


def test_places_are_written_as_people_write_them() -> None:
    assert reading.path("jobs", "align", "memory") == "jobs.align.memory"
    assert reading.path("jobs", "a b", "read", 0) == 'jobs["a b"].read[0]'
    assert reading.path("", "x") == "x"
    assert reading.path("jobs", "a-1") == "jobs.a-1"
    assert reading.path("jobs", "a.b", "x[0]") == 'jobs["a.b"]["x[0]"]'
    assert reading.path('jobs["a b"]', 1, 'q"\n') == 'jobs["a b"][1]["q\\"\\n"]'
    assert reading.inside("jobs.a", "mounts.read[0]") == "jobs.a.mounts.read[0]"
    assert reading.inside("jobs.a", '["x y"]') == 'jobs.a["x y"]'
    assert reading.inside("", "image") == "image"


def test_to_definition_is_what_was_documented() -> None:
    job = EZBatchJob("a/b/python:3.12", "echo hi", {"A": "1"}, vcpus=2, memory=4096, storage_size=30, tags={"t": "v"})
    assert job.to_definition() == {
        "job_name": "python-3-12-job",
        "container_name": "python-3-12",
        "command": ["echo", "hi"],
        "image": "a/b/python:3.12",
        "environment": {"A": "1"},
        "vcpus": 2,
        "memory": 4096,
        "platform": "FARGATE",
        "tags": {"t": "v"},
        "storage_size": 30,
    }
    wrapped = EZBatchJob("i", "echo hi", preloader=True, mounts=S3Mounts([S3Mount("s3://b/k", "in")])).to_definition()
    assert wrapped["command"][:2] == ["/bin/sh", "-c"]
    assert wrapped["environment"]["EZBATCH_COMMAND"] == "echo hi"
    assert "s3://b/k" in wrapped["environment"]["EZBATCH_READ"]
