"""What a job runs in: Docker, Podman, bubblewrap and plain processes, all for real."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ezbatch import (
    EZBatchJob,
    EZBatchRun,
    EZBatchWorkflow,
    InvalidWorkflowError,
    JobState,
    S3Mount,
    S3Mounts,
    Settings,
)
from ezbatch.local import runners
from tests.containers import ContainerEngine, require
from tests.contract.rig import PATIENCE, LocalRig, all_processes, kill, until, words_of

SUCCEEDED, FAILED, RUNNING = JobState.SUCCEEDED, JobState.FAILED, JobState.RUNNING
CONTAINERS = [pytest.param(name, marks=pytest.mark.containers) for name in ("docker", "podman")]
IMAGE = "busybox:stable"


@dataclass
class Place(LocalRig):
    """This machine with one runner."""

    runner: str = ""
    container_engine: ContainerEngine | None = None

    @property
    def store(self) -> Path:
        """The directory that stands for S3."""
        return self.settings.s3_directory

    def containers(self) -> list[str]:
        """The containers that are there, ended or not."""
        if self.container_engine is None:
            return []
        return self.container_engine.run("ps", "--all", "--format", "{{.Names}}").stdout.split()

    def put(self, key: str, content: str) -> None:
        path = self.store / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.fixture
def place(request: pytest.FixtureRequest, state_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The runner that is the parameter."""
    runner: str = request.param
    directory = state_directory.parent / "files"
    directory.mkdir()
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", runner)
    monkeypatch.setenv("EZBATCH_LOCAL_VCPUS", "16")
    monkeypatch.setenv("EZBATCH_LOCAL_MEMORY", "100000")
    engine = None
    if runner in ("docker", "podman"):
        engine = request.getfixturevalue(f"{runner}_engine")
        engine.image(IMAGE, "busybox")
        for name, value in engine.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("EZBATCH_LOCAL_CONTAINER_ARGS", f"--network host --volume {directory}:{directory}")
        monkeypatch.chdir(engine.root)  # where podman leaves what it has to leave
    elif runner == "bwrap":
        require("bwrap")
    made = Place(Settings.load(), "local", directory, runner, engine)
    try:
        yield made
    finally:
        made.finish()
        if engine is not None and (left := made.containers()):
            engine.run("rm", "--force", *left, check=False)


every_runner = pytest.mark.parametrize("place", [*CONTAINERS, "bwrap", "process"], indirect=True)
in_containers = pytest.mark.parametrize("place", CONTAINERS, indirect=True)
at_absolute_paths = pytest.mark.parametrize("place", [*CONTAINERS, "bwrap"], indirect=True)


@pytest.mark.parametrize("place", [pytest.param("podman", marks=pytest.mark.containers)], indirect=True)
def test_a_runtime_that_starts_nothing_is_not_taken_for_the_command(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What crun does where both versions of cgroups are mounted: podman then exits 126, as for a bad command.
    broken = place.directory / "crun"
    broken.write_text("#!/bin/sh\necho 'cgroups in hybrid mode not supported' >&2\nexit 1\n")
    broken.chmod(0o755)
    configuration = place.directory / "containers.conf"
    theirs = Path(os.environ["CONTAINERS_CONF"]).read_text(encoding="utf-8")
    ours = "\n".join(line for line in theirs.splitlines() if not line.startswith("runtime"))
    configuration.write_text(f'{ours}\nruntime = "broken"\n[engine.runtimes]\nbroken = ["{broken}"]\n')
    monkeypatch.setenv("CONTAINERS_CONF", str(configuration))
    run = place.run({"a": "pwd"})
    assert run.jobs["a"].state is FAILED
    told = run.explain("a")
    assert "hybrid mode" in told.evidence
    assert "could not be started" in told.cause


@every_runner
def test_exit_codes_output_and_variables(place: Place) -> None:
    environment = {"A": "two\nlines 名", "B": "", "HOME": "/elsewhere", "LC_X": "own"}
    script = 'echo "$A|${B-unset}|$HOME|$LC_X"; sleep 0.1; echo err >&2; exit 3'
    run = place.run({"a": place.job(script, environment=environment), "b": "pwd"})
    assert run.jobs["b"].state is SUCCEEDED, str(run.explain("b"))
    assert (run.jobs["a"].exit_code, run.jobs["a"].reason) == (3, "exit code 3")
    lines = [event.message for event in run.logs("a")]
    assert sorted(lines) == sorted(["two", "lines 名||/elsewhere|own", "err"])
    assert place.containers() == []


@every_runner
def test_a_stream_that_is_opened_by_its_name_keeps_what_it_has(place: Place) -> None:
    run = place.run({"a": place.job("echo one; echo two >/dev/stderr; echo three")})
    assert run.state == "SUCCEEDED", str(run.explain("a"))
    assert sorted(event.message for event in run.logs("a")) == ["one", "three", "two"]


@every_runner
def test_values_of_variables_are_on_no_command_line(place: Place) -> None:
    gate = place.gate()
    secret = "correct-horse-battery"
    run = place.submit(place.workflow({"a": place.job(gate.wait, environment={"PASSWORD": secret})}))
    gate.reached()
    assert not [pid for pid in all_processes() if secret.encode() in b" ".join(words_of(pid))]
    gate.open()
    assert run.wait(PATIENCE).state == "SUCCEEDED"


@every_runner
def test_a_cancelled_job_is_gone(place: Place) -> None:
    gate = place.gate()
    # The first process of a container has to ask for SIGTERM, or it is killed after the grace only.
    script = f"trap exit TERM; setsid sleep 300 & sleep 300 & {gate.wait}"
    run = place.submit(place.workflow({"a": script, "b": place.job(f"trap exit TERM; {gate.wait}", array=2)}))
    gate.reached(3)
    run.cancel(reason="enough").wait(PATIENCE)
    assert run.state == "CANCELLED"
    assert "enough" in run.jobs["a"].reason
    until(lambda: not place.processes(run), "the end of every process")
    until(lambda: place.containers() == [])


@every_runner
def test_a_job_survives_its_engine(place: Place) -> None:
    gate = place.gate()
    script = f"echo begun; {gate.wait}; echo ended; exit 5"
    run = place.submit(place.workflow({"a": script, "b": "true"}))
    gate.reached()
    until(lambda: run.refresh().jobs["b"].state is SUCCEEDED)
    kill(place.engines())
    assert run.refresh().state == "INTERRUPTED"
    run.resume()
    gate.open()
    assert run.wait(PATIENCE).state == "FAILED"
    assert (run.jobs["a"].exit_code, len(run.jobs["a"].attempts)) == (5, 1)
    assert [event.message for event in run.logs("a")] == ["begun", "ended"]
    assert place.containers() == []


@every_runner
def test_arrays_and_logs_as_they_are_written(place: Place) -> None:
    gate = place.gate()
    grid = {"A": ["x", "y z"], "B": [1]}
    script = f'echo "$AWS_BATCH_JOB_ARRAY_INDEX $A $B"; {gate.wait}; echo end'
    run = place.submit(place.workflow({"a": place.job(script, array=grid)}))
    lines = run.logs("a:1", follow=True)
    assert next(lines).message == "1 y z 1"
    gate.open()
    assert [event.message for event in lines] == ["end"]
    assert run.wait(PATIENCE).state == "SUCCEEDED"


@every_runner
def test_data_is_copied_at_relative_paths(place: Place) -> None:
    place.put("bucket/in.txt", "hello\n")
    mounts = S3Mounts([S3Mount("s3://bucket/in.txt", "in/in.txt")], [S3Mount("out.txt", "s3://bucket/out.txt")])
    jobs = {
        "copy": EZBatchJob(IMAGE, "tr a-z A-Z <in/in.txt >out.txt", mounts=mounts, preloader=True),
        "missing": EZBatchJob(
            IMAGE,
            f"echo ran >{place.path('ran')}",
            mounts=S3Mounts([S3Mount("s3://bucket/none", "x")]),
            preloader=True,
        ),
    }
    run = place.run(jobs)
    assert run.jobs["copy"].state is SUCCEEDED, [event.message for event in run.logs("copy")]
    assert (place.store / "bucket/out.txt").read_text() == "HELLO\n"
    assert run.jobs["missing"].exit_code == 190
    assert "s3://bucket/none" in run.jobs["missing"].reason
    assert "An input could not be downloaded" in str(run.explain("missing"))
    assert place.lines("ran") == []


@pytest.fixture
def host_files() -> Iterator[tuple[Path, Path, Path]]:
    """Files of this machine that stand where jobs have their mounts: in /opt, in /tmp, and in / itself."""
    directory = Path(tempfile.mkdtemp(prefix="ezbatch-test-", dir="/opt"))
    temporary = Path(tempfile.mkdtemp(prefix="ezbatch-test-", dir="/tmp"))
    descriptor, top = tempfile.mkstemp(prefix="ezbatch-test-", dir="/")
    os.close(descriptor)
    files = (directory / "ref.fa", temporary / "ref.fa", Path(top))
    for file in files:
        file.write_text("the machine's own\n")
    (directory / "other").write_text("other\n")
    try:
        yield files
    finally:
        shutil.rmtree(directory)
        shutil.rmtree(temporary)
        Path(top).unlink()


@at_absolute_paths
def test_data_is_copied_at_absolute_paths_and_the_machines_own_files_stay(
    place: Place, host_files: tuple[Path, Path, Path]
) -> None:
    place.put("bucket/in/a", "A\n")
    place.put("bucket/in/deep/b", "B\n")
    place.put("bucket/ref", "the job's\n")
    new = Path("/ezbatch-test-data")
    assert not new.exists()
    reads = [S3Mount("s3://bucket/in/", f"{new}/in"), *(S3Mount("s3://bucket/ref", str(file)) for file in host_files)]
    writes = [
        S3Mount(f"{new}/out/result", "s3://bucket/result"),
        S3Mount(f"{host_files[0].parent}/made/", "s3://bucket/made/"),
    ]
    script = f"""
        mkdir -p {new}/out {host_files[0].parent}/made
        cat {new}/in/a {new}/in/deep/b {" ".join(map(str, host_files))} >{new}/out/result
        echo more >>{host_files[0]}
        cp {host_files[0]} {host_files[0].parent}/made/copy
    """
    run = place.run({"a": EZBatchJob(IMAGE, script, mounts=S3Mounts(reads, writes), preloader=True)})
    assert run.state == "SUCCEEDED", [event.message for event in run.logs("a")]
    assert (place.store / "bucket/result").read_text() == "A\nB\n" + "the job's\n" * 3
    assert (place.store / "bucket/made/copy").read_text() == "the job's\nmore\n"
    for file in host_files:
        assert file.read_text() == "the machine's own\n"
    assert sorted(path.name for path in host_files[0].parent.iterdir()) == ["other", "ref.fa"]
    assert not new.exists()


@at_absolute_paths
def test_what_stands_where_a_mounts_directory_is_stays(place: Place, host_files: tuple[Path, Path, Path]) -> None:
    place.put("bucket/in/ref.fa", "the job's\n")
    directory = host_files[0].parent
    mounts = S3Mounts(
        [S3Mount("s3://bucket/in/", str(directory), recursive=True)],
        [S3Mount(str(directory), "s3://bucket/back/", recursive=True)],
    )
    run = place.run({"a": EZBatchJob(IMAGE, f"echo new >{directory}/new", mounts=mounts, preloader=True)})
    assert run.state == "SUCCEEDED", [event.message for event in run.logs("a")]
    assert (place.store / "bucket/back/ref.fa").read_text() == "the job's\n"
    assert (place.store / "bucket/back/new").read_text() == "new\n"
    assert host_files[0].read_text() == "the machine's own\n"
    assert sorted(path.name for path in directory.iterdir()) == ["other", "ref.fa"]


@pytest.mark.parametrize("place", ["process"], indirect=True)
def test_a_plain_process_cannot_have_absolute_mounts(place: Place) -> None:
    mounts = S3Mounts([S3Mount("s3://bucket/in", "/data/in")])
    with pytest.raises(InvalidWorkflowError, match="/data/in"):
        place.submit(place.workflow({"a": EZBatchJob(IMAGE, "true", mounts=mounts, preloader=True)}))


@in_containers
def test_a_container_that_takes_too_much_memory_says_so(place: Place) -> None:
    greedy = 'x=aaaaaaaaaaaaaaaa; while :; do x="$x$x"; done'
    run = place.run({"a": place.job(greedy, memory=64, platform="EC2")})
    report = run.jobs["a"]
    assert (report.state, report.exit_code) == (FAILED, 137)
    assert report.reason.startswith("OutOfMemoryError")
    assert "64 MiB" in report.reason
    assert str(run.explain("a")).startswith("It ran out of memory")


@in_containers
def test_an_image_that_is_not_there(place: Place) -> None:
    run = place.run({"a": EZBatchJob("localhost:1/no/such-image:1", ["true"])})
    report = run.jobs["a"]
    assert (report.state, report.exit_code) == (FAILED, 125)
    assert report.reason.startswith("CannotPullContainerError: localhost:1/no/such-image:1: ")
    assert "--help" not in report.reason
    assert "refused" in report.reason
    assert "image" in run.explain("a").cause


@in_containers
def test_codes_that_a_runtime_uses_too(place: Place) -> None:
    jobs: dict[str, EZBatchJob | str] = {str(code): f"exit {code}" for code in (125, 126, 127, 190)}
    jobs["none"] = EZBatchJob(IMAGE, ["no-such-program"])
    run = place.run(jobs)
    for code in (125, 126, 127, 190):
        assert (run.jobs[str(code)].exit_code, run.jobs[str(code)].reason) == (code, f"exit code {code}")
    assert run.jobs["none"].exit_code == 127
    assert "was not found" in str(run.explain("none"))


@in_containers
def test_the_image_counts(place: Place) -> None:
    assert place.container_engine is not None
    place.container_engine.image("ezbatch-test/python:3", "python")
    jobs: dict[str, EZBatchJob | str] = {
        "python": EZBatchJob("ezbatch-test/python:3", ["python3", "-c", "print('there')"]),
        "busybox": EZBatchJob(IMAGE, "command -v python3 || echo none"),
    }
    run = place.run(jobs)
    assert [event.message for event in run.logs("python")] == ["there"]
    assert [event.message for event in run.logs("busybox")] == ["none"]


def container_jobs(run: EZBatchRun) -> set[str]:
    return {f"ezbatch-{report.job_id}-1" for report in run.jobs.values()}


@in_containers
def test_a_container_whose_supervisor_was_lost_does_not_go_on_beside_its_successor(place: Place) -> None:
    gate = place.gate()
    run = place.submit(place.workflow({"a": f"echo x >>{place.path('count')}; {gate.wait}"}))
    gate.reached()
    until(lambda: run.refresh().jobs["a"].state is RUNNING)
    assert set(place.containers()) == container_jobs(run)
    supervisors = [pid for pid in place.processes(run) if b"ezbatch" in words_of(pid)]
    kill(place.engines())
    kill(supervisors)
    run.resume()
    gate.reached(2)
    until(lambda: not container_jobs(run) & set(place.containers()), "the end of the first container")
    gate.open()
    assert run.wait(PATIENCE).state == "SUCCEEDED"
    assert len(place.lines("count")) == 2


def test_a_runner_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for name in ("docker", "podman", "bwrap"):
        assert runners.choose(name, []) == ("", f"{name} is not installed")
    assert runners.choose("process", ["in/x"]) == ("process", "")
    assert runners.choose("auto", ["in/x"]) == ("process", "")
    assert runners.choose("auto", ["/in/x"]) == (
        "",
        "a mount at /in/x needs Docker, Podman or bubblewrap, and bwrap is not installed",
    )


def test_a_chosen_runner_that_does_not_work_is_told_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'Cannot connect to it at unix:///x.sock. Is the daemon running?' >&2; exit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "docker")
    jobs = {name: EZBatchJob("image", "true") for name in ("a", "b", "c")}
    with pytest.raises(InvalidWorkflowError) as caught:
        EZBatchWorkflow("w", jobs).submit("local")
    (problem,) = caught.value.problems
    assert problem.what == (
        "docker does not work here: Cannot connect to it at unix:///x.sock; "
        "environment variable EZBATCH_LOCAL_RUNNER asks for it"
    )
