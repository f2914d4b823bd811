"""Saved workflows: the round trip, the files of ezbatch 0.1.0, and every way in which a file can be broken."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from dataclasses_json import DataClassJsonMixin
from hypothesis import given

from ezbatch import EZBatchJob, EZBatchWorkflow, S3Mount, S3Mounts, WorkflowFileError

from .workflows import workflows

# The documented classes of ezbatch 0.1.0, as its users know them: the same names, fields, order and defaults.


@dataclass
class OldMount(DataClassJsonMixin):
    source: str
    destination: str
    recursive: bool | None = None
    sse: str | None = None
    sse_kms_key_id: str | None = None
    options: str = "--quiet"


@dataclass
class OldMounts(DataClassJsonMixin):
    read: Sequence[OldMount | dict[str, Any]] = field(default_factory=list)
    write: Sequence[OldMount | dict[str, Any]] = field(default_factory=list)


@dataclass
class OldJob(DataClassJsonMixin):
    image: str
    command: str
    environment: dict[str, str] = field(default_factory=dict)
    mounts: OldMounts = field(default_factory=OldMounts)
    vcpus: int = 1
    memory: int = 2048
    storage_size: int | None = None
    platform: str = "FARGATE"
    tags: dict[str, str] = field(default_factory=dict)
    queue: str | None = None
    preloader: bool = False


@dataclass
class OldWorkflow(DataClassJsonMixin):
    name: str
    jobs: dict[str, OldJob]
    dependencies: dict[str, list[str]] = field(default_factory=dict)


GROWN = "--quiet --recursive --recursive --sse AES256"


def old_workflow() -> OldWorkflow:
    mounts = OldMounts(
        read=[OldMount("s3://b/in/", "in", recursive=True, options=GROWN)],
        write=[OldMount("out", "s3://b/out", sse="AES256", options="--quiet --sse AES256")],
    )
    return OldWorkflow(
        "old one",
        {
            "_first": OldJob("python:3.12", "echo $A", {"_A": "1", "A": ""}, mounts, tags={"_t": "v"}, preloader=True),
            "second": OldJob("python:3.12", "true", vcpus=4, memory=8192, storage_size=30, platform="EC2", queue="q"),
        },
        {"second": ["_first"]},
    )


@given(workflows())
def test_save_then_load_is_the_identity(workflow: EZBatchWorkflow) -> None:
    path = Path(os.environ["EZBATCH_STATE_DIR"]).parent / "w.json"
    workflow.save(path)
    first = path.read_bytes()
    loaded = EZBatchWorkflow.load(path)
    assert loaded == workflow
    loaded.save(path)
    assert path.read_bytes() == first
    assert EZBatchWorkflow.from_json(workflow.to_json()) == workflow


def test_a_file_of_the_old_version_loads_and_does_not_grow(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(old_workflow().to_json(indent=4))
    for _ in range(3):
        workflow = EZBatchWorkflow.load(path)
        first = workflow.jobs["_first"]
        assert [mount.options for mount in (*first.mounts.reads, *first.mounts.writes)] == [
            GROWN,
            "--quiet --sse AES256",
        ]
        assert (first.environment, first.tags) == ({"_A": "1", "A": ""}, {"_t": "v"})
        assert first.mounts.reads[0].recursive is True
        assert workflow.dependencies == {"second": ["_first"]}
        assert workflow.jobs["second"] == EZBatchJob(
            "python:3.12", "true", vcpus=4, memory=8192, storage_size=30, platform="EC2", queue="q"
        )
        workflow.save(path)
    assert OldWorkflow.from_json(path.read_text()).to_dict() == old_workflow().to_dict()


def test_a_file_saved_here_loads_in_the_old_version(tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    mounts = S3Mounts([S3Mount("s3://b/in", "in")], [{"source": "out", "destination": "s3://b/out"}])
    job = EZBatchJob("i", "echo hi", environment={"_A": "1"}, mounts=mounts, tags={"_t": "v"}, preloader=True)
    EZBatchWorkflow("w", {"a": job, "b": EZBatchJob("i", "true")}, {"b": ["a"]}).save(path)
    data = json.loads(path.read_text())
    assert list(data) == ["name", "jobs", "dependencies"]
    assert list(data["jobs"]["a"]) == list(OldJob.__dataclass_fields__)
    assert list(data["jobs"]["a"]["mounts"]["read"][0]) == list(OldMount.__dataclass_fields__)
    old = OldWorkflow.from_json(path.read_text())
    assert old.jobs["a"].command == "echo hi"
    assert old.jobs["a"].environment == {"_A": "1"}
    assert old.to_dict() == data


def test_names_and_texts_of_any_kind_survive(tmp_path: Path) -> None:
    path = tmp_path / "ü ' \" 名.json"
    jobs = {name: EZBatchJob("i", ["a", "", "\n", "名"]) for name in ("_x", 'a"b\n', "名前 ✔", "a:3", " ")}
    workflow = EZBatchWorkflow("\u2028 'w'", jobs, {"_x": [" "]})
    workflow.save(str(path))
    assert EZBatchWorkflow.load(path) == workflow


def broken(change: Any) -> str:  # noqa: ANN401 - anything that JSON holds
    """A good file with one thing changed."""
    data: dict[str, Any] = {
        "name": "w",
        "jobs": {
            "a b": {"image": "i", "command": "c", "mounts": {"read": [{"source": "s3://b/k", "destination": "x"}]}},
            "align": {"image": "i", "command": ["c"]},
        },
        "dependencies": {"a b": ["align"]},
    }
    change(data)
    return json.dumps(data)


def put(*place: str | int, value: object) -> str:
    def change(data: Any) -> None:  # noqa: ANN401 - as above
        for part in place[:-1]:
            data = data[part]
        data[place[-1]] = value

    return broken(change)


def drop(*place: str | int) -> str:
    def change(data: Any) -> None:  # noqa: ANN401 - as above
        for part in place[:-1]:
            data = data[part]
        del data[place[-1]]

    return broken(change)


class Broken:
    """Each broken file, and what the error has to say: the place first, then words of what is wrong."""

    cases: ClassVar[dict[str, tuple[str | bytes, list[str]]]] = {
        "empty": ("", ["line 1, column 1", "JSON"]),
        "no JSON": ("name: w\njobs: {}", ["line 1, column 1"]),
        "cut off": ('{"name": "w", "jobs": {\n"a": {"image": ', ["line 2", "JSON"]),
        "a comma too many": ('{"name": "w",\n "jobs": {},}', ["line 2"]),
        "a list": ("[]", ["the workflow must be a dict, not list"]),
        "null": ("null", ["the workflow must be a dict, not null"]),
        "a string": ('"w"', ["the workflow must be a dict"]),
        "no name": (drop("name"), ["the workflow lacks the field 'name'"]),
        "no jobs": (drop("jobs"), ["the workflow lacks the field 'jobs'"]),
        "null name": (put("name", value=None), ["name must be a string, not null"]),
        "null jobs": (put("jobs", value=None), ["jobs must be a dict"]),
        "jobs as a list": (put("jobs", value=[]), ["jobs must be a dict, not list"]),
        "an unknown field": (put("dependancies", value={}), ["dependancies is not a field", "mean 'dependencies'"]),
        "a null job": (put("jobs", "align", value=None), ["jobs.align must be a dict, not null"]),
        "a job as a string": (put("jobs", "a b", value="x"), ['jobs["a b"] must be a dict']),
        "a job without image": (drop("jobs", "align", "image"), ["jobs.align lacks the field 'image'"]),
        "a misspelt field": (put("jobs", "align", "imgae", value="x"), ["jobs.align.imgae", "mean 'image'"]),
        "a strange field": (put("jobs", "align", "zz z", value="x"), ['jobs.align["zz z"] is not a field']),
        "a number as a string": (
            put("jobs", "align", "vcpus", value="4"),
            ["jobs.align.vcpus must be a number, not str '4'", "write 4 without quotes"],
        ),
        "memory as a string": (put("jobs", "a b", "memory", value="2048"), ['jobs["a b"].memory', "without quotes"]),
        "null memory": (put("jobs", "align", "memory", value=None), ["jobs.align.memory", "null"]),
        "half a MiB": (put("jobs", "align", "memory", value=0.5), ["jobs.align.memory must be a whole number"]),
        "a command of numbers": (put("jobs", "align", "command", value=[1]), ["jobs.align.command[0]"]),
        "a null environment": (put("jobs", "align", "environment", value=None), ["jobs.align.environment", "null"]),
        "an environment of numbers": (
            put("jobs", "align", "environment", value={"A": 1}),
            ["jobs.align.environment.A must be a string"],
        ),
        "null mounts": (put("jobs", "align", "mounts", value=None), ["jobs.align.mounts must be", "null"]),
        "mounts as a list": (put("jobs", "align", "mounts", value=[]), ["jobs.align.mounts"]),
        "an unknown side": (put("jobs", "align", "mounts", value={"raed": []}), ["mounts.raed", "mean 'read'"]),
        "reads as a dict": (put("jobs", "align", "mounts", value={"read": {}}), ["jobs.align.mounts.read must be"]),
        "a mount without source": (
            drop("jobs", "a b", "mounts", "read", 0, "source"),
            ["jobs[\"a b\"].mounts.read[0] lacks the field 'source'"],
        ),
        "a misspelt mount": (
            put("jobs", "a b", "mounts", "read", 0, "dest", value="x"),
            ['jobs["a b"].mounts.read[0].dest is not a field'],
        ),
        "a null mount": (put("jobs", "a b", "mounts", "read", 0, value=None), ['jobs["a b"].mounts.read[0]', "null"]),
        "recursive as a word": (
            put("jobs", "a b", "mounts", "read", 0, "recursive", value="yes"),
            ['jobs["a b"].mounts.read[0].recursive must be true or false'],
        ),
        "null dependencies": (put("dependencies", value=None), ["dependencies must be a dict, not null"]),
        "a dependency as a string": (
            put("dependencies", "a b", value="align"),
            ['dependencies["a b"]', "write ['align']"],
        ),
        "a null dependency": (put("dependencies", "a b", 0, value=None), ['dependencies["a b"][0]', "null"]),
        "an array of nulls": (put("jobs", "align", "array", value=[None]), ["jobs.align.array[0]"]),
        "a job twice": (
            '{"name": "w", "jobs": {"a": {"image": "i", "command": "c"}, "a": {"image": "j", "command": "c"}}}',
            ["jobs.a stands there twice"],
        ),
        "a field twice": (
            '{"name": "w", "jobs": {"a": {"image": "i", "vcpus": 1, "command": "c", "vcpus": 2}}}',
            ["jobs.a.vcpus stands there twice"],
        ),
        "NaN": ('{"name": "w", "jobs": {"a": {"image": "i", "command": "c", "vcpus": NaN}}}', ["NaN is no JSON"]),
        "a number without end": (
            put("jobs", "align", "vcpus", value=1).replace(": 1", ": 1e999"),
            ["jobs.align.vcpus"],
        ),
        "9,000 digits": (put("jobs", "align", "vcpus", value=1).replace(": 1", f": {'9' * 9000}"), ["number"]),
        "400 digits": (put("jobs", "align", "vcpus", value=1).replace(": 1", f": {'9' * 400}"), ["jobs.align.vcpus"]),
        "nested lists": ("[" * 200_000, ["nested too deeply"]),
        "nested jobs": ('{"jobs":' * 200_000, ["nested too deeply"]),
        "deep in a field": (
            put("jobs", "align", "tags", value=1).replace(": 1", f": {'[' * 5000}{']' * 5000}"),
            ["w.json"],
        ),
        "UTF-16": (broken(lambda _data: None).encode("utf-16"), ["byte 0 is not UTF-8", "Save the file as UTF-8"]),
        "Latin-1": (b'{"name": "M\xfcller", "jobs": {}}', ["byte 11 is not UTF-8"]),
        "binary": (bytes(range(256)), ["w.json"]),
    }


@pytest.mark.parametrize("case", Broken.cases)
def test_a_broken_file_is_one_error_with_file_place_and_remedy(case: str, tmp_path: Path) -> None:
    content, words = Broken.cases[case]
    path = tmp_path / "w.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(WorkflowFileError) as caught:
        EZBatchWorkflow.load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    for word in words:
        assert word in message
    assert message.endswith(".")
    assert len(message) < 600
    assert "\n" not in message


def test_a_mark_in_front_of_the_file_is_no_reason_to_refuse_it(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_bytes(b"\xef\xbb\xbf" + broken(lambda _data: None).encode())
    assert list(EZBatchWorkflow.load(path).jobs) == ["a b", "align"]


def test_a_file_that_is_not_there_is_the_systems_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.json"):
        EZBatchWorkflow.load(tmp_path / "missing.json")
    with pytest.raises(IsADirectoryError):
        EZBatchWorkflow.load(tmp_path)


def test_whole_floats_are_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text(put("jobs", "align", "memory", value=4096.0))
    memory = EZBatchWorkflow.load(path).jobs["align"].memory
    assert (memory, type(memory)) == (4096, int)


def test_a_file_without_dependencies_loads(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text(drop("dependencies"))
    assert EZBatchWorkflow.load(path).dependencies == {}


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    good = EZBatchWorkflow("w", {"a": EZBatchJob("i", "c")})
    good.save(path)
    path.chmod(0o640)
    bad = EZBatchWorkflow("w", {"a": EZBatchJob("i", "c")})
    bad.jobs["a"].environment["A"] = object()  # type: ignore[assignment] # what JSON does not know
    with pytest.raises(TypeError):
        bad.save(path)
    assert EZBatchWorkflow.load(path) == good
    assert [item.name for item in tmp_path.iterdir()] == ["w.json"]
    good.save(path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    EZBatchWorkflow("old", {"a": EZBatchJob("i", "c")}).save(path)
    script = """if True:
        import resource, signal, sys
        from ezbatch import EZBatchJob, EZBatchWorkflow
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            EZBatchWorkflow("new", {"a": EZBatchJob("i", "c" * 5000)}).save(sys.argv[1])
        except OSError as error:
            sys.exit(error.errno)
    """
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == errno.EFBIG
    assert EZBatchWorkflow.load(path).name == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["w.json"]


def test_a_process_killed_while_it_saves_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    EZBatchWorkflow("old", {"a": EZBatchJob("i", "c")}).save(path)
    script = """if True:
        import sys
        from ezbatch import EZBatchJob, EZBatchWorkflow
        jobs = {f"j{i}": EZBatchJob("i", "c") for i in range(300)}
        print("ready", flush=True)
        while True:
            EZBatchWorkflow("new", jobs).save(sys.argv[1])
    """
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            loaded = {EZBatchWorkflow.load(path).name for _ in range(20)}
            process.kill()
        assert loaded <= {"old", "new"}
        assert EZBatchWorkflow.load(path).name in loaded | {"new"}


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    workflow = EZBatchWorkflow("w", {"a": EZBatchJob("i", "c")})
    workflow.save(real)
    link.symlink_to(real)
    EZBatchWorkflow("other", workflow.jobs).save(link)
    assert link.is_symlink()
    assert EZBatchWorkflow.load(real).name == "other"


def test_building_and_loading_look_nothing_up(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    mounts = S3Mounts([S3Mount("s3://no-such-bucket/k", "/nowhere/x")])
    EZBatchWorkflow("w", {"a": EZBatchJob("no/such:image", "c", mounts=mounts, queue="arn:nothing")}).save(path)
    script = """if True:
        import sys
        def forbid(event, args):
            if event.startswith(("socket.", "subprocess.", "urllib.")) or event in ("os.system", "os.exec", "os.fork"):
                raise AssertionError(event)
        import ezbatch.planning
        sys.addaudithook(forbid)
        workflow = ezbatch.EZBatchWorkflow.load(sys.argv[1])
        workflow.problems()
        repr(workflow)
        assert not [name for name in sys.modules if name.startswith(("boto", "urllib3", "requests"))]
    """
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
