"""The command line as a person types it: real processes, the local engine, exit codes and words."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ezbatch import EZBatchJob, EZBatchWorkflow
from ezbatch.preloader import EXIT_DOWNLOAD

Done = subprocess.CompletedProcess[str]
COMMAND = (sys.executable, "-m", "ezbatch.cli")


@pytest.fixture
def ezbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "process")

    def run(*words: str, check: int | None = 0) -> Done:
        done = subprocess.run([*COMMAND, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        if check is not None:
            assert done.returncode == check, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def chain(tmp_path: Path) -> str:
    jobs = {
        "fetch": EZBatchJob("busybox:1", "echo fetched"),
        "align": EZBatchJob("busybox:1", "echo $SAMPLE", array={"SAMPLE": ["a", "b"]}),
        "report": EZBatchJob("busybox:1", "echo done"),
    }
    EZBatchWorkflow("align reads", jobs, {"align": ["fetch"], "report": ["align"]}).save(tmp_path / "chain.json")
    return "chain.json"


@pytest.fixture
def failing(tmp_path: Path) -> str:
    jobs = {
        "good": EZBatchJob("busybox:1", "echo good"),
        "bad": EZBatchJob("busybox:1", "echo about to fail; exit 7"),
        "later": EZBatchJob("busybox:1", "true"),
    }
    EZBatchWorkflow("failing", jobs, {"later": ["bad"]}).save(tmp_path / "failing.json")
    return "failing.json"


def test_run_and_wait_then_status_logs_and_list(ezbatch: Callable[..., Done], chain: str) -> None:
    done = ezbatch("run", chain, "--wait")
    run_id = done.stdout.split(":")[0]
    assert re.fullmatch(r"align-reads-\w{6}", run_id)
    assert "succeeded" in done.stdout.splitlines()[-1]
    assert "plain processes" in done.stderr
    assert ezbatch("logs", "@last", "fetch").stdout == "fetched\n"
    assert ezbatch("logs", run_id[:-2], "align").stdout == "align:0 | a\nalign:1 | b\n"
    assert ezbatch("logs", "@last").stdout.splitlines()[-1] == "report | done"
    status = ezbatch("status", run_id).stdout
    assert "SUCCEEDED" in status
    assert "align x2" in status
    assert run_id in ezbatch("ls").stdout


def test_what_only_looks_looks_at_the_last_run(ezbatch: Callable[..., Done], chain: str) -> None:
    run_id = ezbatch("run", chain).stdout.split(":")[0]
    assert run_id in ezbatch("wait").stdout
    assert run_id in ezbatch("status").stdout
    assert ezbatch("logs").stdout.splitlines()[-1] == "report | done"
    assert "succeeded" in ezbatch("explain").stdout
    assert "RUN" in ezbatch("cancel", check=2).stderr


def test_json_is_json(ezbatch: Callable[..., Done], chain: str) -> None:
    run = json.loads(ezbatch("run", chain, "--json").stdout)
    assert run["workflow"] == "align reads"
    waited = json.loads(ezbatch("wait", run["run"], "--json").stdout)
    assert waited["state"] == "SUCCEEDED"
    jobs = {job["job"]: job for job in json.loads(ezbatch("status", "@last", "--json").stdout)["jobs"]}
    assert jobs["align"]["children"] == {"SUCCEEDED": 2}
    assert jobs["report"]["after"] == ["align"]
    assert [row["run"] for row in json.loads(ezbatch("ls", "--json").stdout)] == [run["run"]]
    lines = [json.loads(line) for line in ezbatch("logs", "@last", "--json").stdout.splitlines()]
    assert [line["message"] for line in lines] == ["fetched", "a", "b", "done"]
    plan = json.loads(ezbatch("plan", chain, "--json").stdout)
    assert [job["name"] for job in plan["jobs"]] == ["fetch", "align", "report"]


def test_a_failed_run_says_which_job_why_and_what_to_do(ezbatch: Callable[..., Done], failing: str) -> None:
    done = ezbatch("run", failing, "--wait", check=1)
    assert "job 'bad' failed, 1 could not start" in done.stderr
    assert "exit code 7" in done.stderr
    assert "about to fail" in done.stderr
    assert "ezbatch retry" in done.stderr
    assert "Dependent Job failed: bad" in ezbatch("status", "@last").stdout
    explained = ezbatch("explain", "@last").stdout
    assert "Cause" in explained
    assert "exit code 7" in explained
    assert json.loads(ezbatch("explain", "@last", "later", "--json").stdout)["cause"].startswith("It cannot start: bad")
    ezbatch("wait", "@last", check=1)


def test_retry_runs_only_what_did_not_succeed(ezbatch: Callable[..., Done], failing: str) -> None:
    ezbatch("run", failing, "--wait", check=1)
    first = json.loads(ezbatch("status", "@last", "--json").stdout)
    ezbatch("retry", "@last", "--wait", check=1)
    second = json.loads(ezbatch("status", "@last", "--json").stdout)
    assert second["retry_of"] == first["run"]
    assert {job["job"] for job in second["jobs"]} == {"bad", "later"}


def test_submit_takes_the_command_as_it_is(ezbatch: Callable[..., Done]) -> None:
    ezbatch("submit", "-n", "words", "-e", "A=x y", "--wait", "--", "printf", "%s|", "a  b", "", "$A")
    assert ezbatch("logs", "@last").stdout == "a  b||$A|\n"
    ezbatch("submit", "-e", "A=x y", "--wait", "--", 'echo "$A" | tr x z')
    assert ezbatch("logs", "@last").stdout == "z y\n"


def test_submit_with_mounts_copies_them(
    ezbatch: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EZBATCH_LOCAL_S3", str(tmp_path / "s3"))
    (tmp_path / "s3" / "bucket").mkdir(parents=True)
    (tmp_path / "s3" / "bucket" / "in.txt").write_text("b\na\n")
    mounts = ("-r", "s3://bucket/in.txt", "in.txt", "-w", "out.txt", "s3://bucket/made/out.txt")
    ezbatch("submit", *mounts, "--wait", "--", "sort in.txt > out.txt")
    assert (tmp_path / "s3" / "bucket" / "made" / "out.txt").read_text() == "a\nb\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "COMMAND"),
        (("run",), 2, "FILE"),
        (("run", "missing.json"), 3, "missing.json"),
        (("ru", "x.json"), 2, "invalid choice"),
        (("run", "x.json", "--wai"), 2, "unrecognized"),
        (("status", "nothing"), 3, "ezbatch ls"),
        (("status", "@last"), 3, "no run yet"),
        (("logs", "nothing"), 3, "ezbatch ls"),
        (("submit",), 2, "after --"),
        (("submit", "-m", "lots", "--", "true"), 2, "write 8G"),
        (("submit", "-c", "3", "--", "true"), 2, "vcpus=2"),
        (("submit", "-p", "fargat", "--", "true"), 2, "did you mean 'FARGATE'"),
        (("logs", "--tail", "-1"), 2, "'-1' is no whole number of 0 or more"),
        (("ls", "-n", "-3"), 2, "'-3' is no whole number of 0 or more"),
        (("wait", "--timeout", "nan"), 2, "'nan' is no number of seconds"),
        (("wait", "--timeout=-1"), 2, "'-1' is no number of seconds"),
    ],
)
def test_what_is_wrong_is_said(ezbatch: Callable[..., Done], words: tuple[str, ...], code: int, said: str) -> None:
    done = ezbatch(*words, check=code)
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_an_invalid_workflow_is_told_whole_and_nothing_is_submitted(
    ezbatch: Callable[..., Done], tmp_path: Path
) -> None:
    jobs = {"a": EZBatchJob("bad image", "true", vcpus=3), "b": EZBatchJob("x", "", retries=11)}
    EZBatchWorkflow("bad", jobs, {"a": ["c"]}).save(tmp_path / "bad.json")
    said = ezbatch("run", "bad.json", check=2).stderr
    for place in ("jobs.a.image", "jobs.a.vcpus", "jobs.b.command", "jobs.b.retries", "dependencies.a"):
        assert place in said
    assert ezbatch("ls").stdout == ""


def test_cancel_ends_a_run(ezbatch: Callable[..., Done]) -> None:
    ezbatch("submit", "-n", "long", "--", "sleep", "600")
    assert "CANCELLED" in ezbatch("cancel", "@last", "--reason", "enough").stdout
    assert "enough" in ezbatch("status", "@last").stdout
    assert "ended already" in ezbatch("cancel", "@last").stderr
    ezbatch("wait", "@last", check=1)


def test_wait_gives_up_after_its_timeout_and_the_run_goes_on(ezbatch: Callable[..., Done]) -> None:
    ezbatch("submit", "-n", "long", "--", "sleep", "600")
    assert "goes on" in ezbatch("wait", "@last", "--timeout", "0.2", check=124).stderr
    assert json.loads(ezbatch("status", "@last", "--json").stdout)["state"] == "RUNNING"
    ezbatch("cancel", "@last")


def test_ctrl_c_in_wait_detaches_and_says_how_to_come_back(ezbatch: Callable[..., Done], tmp_path: Path) -> None:
    ezbatch("submit", "-n", "long", "--", "sleep", "600")
    waiting = subprocess.Popen(
        [*COMMAND, "attach", "@last"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert waiting.stderr is not None
    waiting.stderr.readline()  # its first line of counts: it waits
    waiting.send_signal(signal.SIGINT)
    _out, said = waiting.communicate(timeout=20)
    assert waiting.returncode == 130
    assert "goes on" in said
    assert "ezbatch attach long-" in said
    assert json.loads(ezbatch("status", "@last", "--json").stdout)["state"] == "RUNNING"
    ezbatch("cancel", "@last")


def test_logs_are_followed_while_the_job_writes(ezbatch: Callable[..., Done], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    ezbatch("submit", "-n", "slow", "--", f"echo one; while [ ! -e '{gate}' ]; do sleep 0.05; done; echo two")
    words = [*COMMAND, "logs", "-f", "@last"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "one\n"
        gate.touch()
        assert following.stdout.readline() == "two\n"
        assert following.wait(timeout=20) == 0


def test_a_reader_that_leaves_is_no_error(ezbatch: Callable[..., Done], tmp_path: Path) -> None:
    ezbatch("submit", "-n", "much", "--wait", "--", "seq 1 100000")
    words = " ".join(COMMAND)
    done = subprocess.run(
        ["sh", "-c", f"{words} logs @last | head -n 1"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


LOOKS = ("ls", "status", "logs", "explain", "ls --json", "status --json", "wait")


@pytest.mark.parametrize("redirected", [">&-", "2>&-", ">&- 2>&-", "| head -c 0"])
def test_nobody_who_reads_is_no_error(ezbatch: Callable[..., Done], tmp_path: Path, redirected: str) -> None:
    ezbatch("submit", "-n", "one", "--wait", "--", "echo one")
    words = " ".join(COMMAND)
    for look in LOOKS:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{words} {look} {redirected}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        said = "" if look == "wait" or "2>" in redirected else done.stderr
        assert (done.returncode, said) == (0, ""), look


def test_output_that_cannot_be_written_is_told(ezbatch: Callable[..., Done], tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    ezbatch("submit", "-n", "one", "--wait", "--", "echo one")
    words = " ".join(COMMAND)
    for look in LOOKS:
        done = subprocess.run(
            ["sh", "-c", f"{words} {look} >/dev/full"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 4, look
        assert done.stderr.splitlines()[-1] == "ezbatch: No space left on device"


def test_an_encoding_without_the_signs_of_the_states_will_do(
    ezbatch: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert "succeeded" in ezbatch("submit", "-n", "é", "--wait", "--", "echo é").stdout
    for look in ("ls", "status", "logs", "wait"):
        assert "Traceback" not in ezbatch(look).stderr
    assert "? SUCCEEDED  ?" in ezbatch("status").stdout


def test_a_failure_is_told_with_its_exit_code(ezbatch: Callable[..., Done]) -> None:
    mounts = ("-r", "s3://bucket/not-there", "in.txt")
    said = ezbatch("submit", "-n", "copies", *mounts, "--wait", "--", "true", check=1).stderr
    [line] = [line for line in said.splitlines() if "copies failed" in line]
    assert line.endswith(f"(exit code {EXIT_DOWNLOAD})")
    said = ezbatch("submit", "-n", "own", "--wait", "--", "exit 7", check=1).stderr
    assert said.count("own failed: exit code 7\n") == 1


def test_names_cannot_move_the_cursor_or_style_the_table(ezbatch: Callable[..., Done], tmp_path: Path) -> None:
    name = "a\x1b[31m[bold]b[/bold]\nc"
    EZBatchWorkflow("ansi", {name: EZBatchJob("busybox", "true")}).save(tmp_path / "ansi.json")
    ezbatch("run", "ansi.json", "--wait")
    status = ezbatch("status", "@last").stdout
    assert "\x1b" not in status
    assert "[bold]b[/bold]" in status


def in_a_terminal(folder: Path, *arguments: str) -> str:
    """Return what a command shows there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*COMMAND, *arguments], cwd=folder, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait(timeout=20) == 0
    return shown.decode()


def test_in_a_terminal_a_bar_is_shown(chain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "process")
    shown = in_a_terminal(tmp_path, "run", chain, "--wait")
    assert "━" in shown
    assert "succeeded" in shown


def test_a_terminal_is_not_flooded_with_jobs(
    ezbatch: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "process")
    jobs = {f"part-{number}": EZBatchJob("busybox", "true") for number in range(130)}
    jobs["odd"] = EZBatchJob("busybox", "exit 4")
    EZBatchWorkflow("many", jobs).save(tmp_path / "many.json")
    assert ezbatch("run", "many.json", "--wait", check=1).returncode == 1
    shown = in_a_terminal(tmp_path, "status")
    assert "odd" in shown
    assert "... and 30 more succeeded" in shown
    assert len(shown.splitlines()) < 110
    assert "part-129" in ezbatch("status").stdout, "what reads a pipe gets all"


def test_dag_is_drawn_as_text_and_into_files(ezbatch: Callable[..., Done], chain: str, tmp_path: Path) -> None:
    text = ezbatch("dag", chain).stdout
    assert "align" in text
    assert "×2" in text  # noqa: RUF001 - the sign for an array
    ezbatch("dag", chain, "-o", "out.dot")
    assert (tmp_path / "out.dot").read_text().startswith("digraph")
    assert ".svg" in ezbatch("dag", chain, "-o", "out.pdf", check=2).stderr


def test_an_engine_that_was_killed_is_told_and_resumed(
    ezbatch: Callable[..., Done], tmp_path: Path, state_directory: Path
) -> None:
    jobs = {"first": EZBatchJob("busybox", "sleep 0.5"), "second": EZBatchJob("busybox", "echo second")}
    EZBatchWorkflow("killed", jobs, {"second": ["first"]}).save(tmp_path / "killed.json")
    ezbatch("run", "killed.json")
    listed = subprocess.run(
        ["pgrep", "-f", f"ezbatch.local.process {state_directory}"], capture_output=True, text=True, check=True
    )
    for pid in listed.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    deadline = time.monotonic() + 20
    while "INTERRUPTED" not in ezbatch("ls").stdout:
        assert time.monotonic() < deadline
    assert "ezbatch resume" in ezbatch("status", "@last").stdout
    assert "stands still" in ezbatch("wait", "@last", check=5).stderr
    assert re.search(
        r"^killed-\w+: resumed on local, [12] of 2 jobs left$",
        ezbatch("resume", "@last", "--wait").stdout,
        re.MULTILINE,
    )
    assert ezbatch("logs", "@last", "second").stdout == "second\n"


def test_help_names_every_exit_code(ezbatch: Callable[..., Done]) -> None:
    said = ezbatch("--help").stdout
    for code in ("0", "1", "2", "3", "4", "5", "124", "130"):
        assert re.search(rf"^  {code} ", said, re.MULTILINE)
    assert re.fullmatch(r"ezbatch \d+\.\d+\S*\n", ezbatch("--version").stdout)
