"""SIGTERM, as a Spot reclaim, a timeout or a cancellation sends it, at every stage of a job."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from ezbatch.preloader import EXIT_UPLOAD
from ezbatch.s3 import S3Mount
from tests.containers import require
from tests.preloader.conftest import SHELLS, Bench, below, finish, session, until
from tests.preloader.test_mounts import worker_sleeps

if TYPE_CHECKING:
    import subprocess

OUT = S3Mount("out", "s3://bucket/out")
WAITING = "echo ready; while :; do sleep 0.05; done"


def ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"


@pytest.mark.parametrize(("name", "number"), [("TERM", 15), ("INT", 2), ("HUP", 1)])
def test_a_signal_reaches_the_command_and_its_code_is_kept(bench: Bench, name: str, number: int) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("under nohup no shell can trap SIGHUP")
    bench.file("out")
    script = f"trap 'echo got {name}; echo late >out; exit 7' {name}; {WAITING}"
    process = bench.start(["/bin/sh", "-c", script], [], [OUT])
    ready(process)
    process.send_signal(number)
    ended = finish(process)
    assert (ended.code, ended.out, ended.err) == (7, f"got {name}\n".encode(), b"")
    assert bench.objects() == {"bucket/out": b"late\n"}


@pytest.mark.parametrize("number", [15, 2, 1])
def test_a_command_that_a_signal_ends_is_128_and_its_number(bench: Bench, number: int) -> None:
    bench.file("out", b"so far")
    process = bench.start(["/bin/sh", "-c", "echo ready; exec sleep 60"], [], [OUT])
    ready(process)
    process.send_signal(number)
    ended = finish(process)
    assert (ended.code, ended.err) == (128 + number, b"")
    assert bench.objects() == {"bucket/out": b"so far"}


def test_a_command_that_goes_on_after_signals(bench: Bench) -> None:
    bench.file("out")
    script = "n=0; trap 'n=$((n + 1)); echo got $n; [ $n -lt 5 ] || exit 0' TERM; " + WAITING
    process = bench.start(["/bin/sh", "-c", script], [], [OUT])
    ready(process)
    assert process.stdout is not None
    for number in range(1, 5):
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == f"got {number}\n".encode()
    process.send_signal(signal.SIGTERM)
    ended = finish(process)
    assert (ended.code, ended.out, ended.err) == (0, b"got 5\n", b"")
    assert bench.objects() == {"bucket/out": b"content"}


def test_nothing_of_ours_is_left_running(bench: Bench) -> None:
    bench.file("out")
    process = bench.start(["/bin/sh", "-c", "echo ready; exec sleep 60"], [], [OUT])
    ready(process)
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 143
    until(lambda: not session(process.pid), "every process to end")


def test_during_the_download(bench: Bench) -> None:
    (bench.store / "bucket/in").symlink_to("/proc/self/mem")
    process = bench.start(["echo", "ran"], [S3Mount("s3://bucket/in", "in")], [OUT])
    until(lambda: worker_sleeps(process.pid), "the pause before the second try")
    assert len(below(process.pid)) == 2
    process.send_signal(signal.SIGTERM)
    ended = finish(process)
    assert (ended.code, ended.out) == (143, b"")
    assert ended.err == b"ezbatch: stopped by SIGTERM; the command was not run\n"
    until(lambda: not session(process.pid), "every process to end")


def test_during_an_upload_that_can_still_end(bench: Bench) -> None:
    (bench.work / "out").symlink_to("/proc/self/mem")
    process = bench.start(["true"], [], [OUT])
    until(lambda: worker_sleeps(process.pid), "the pause before the second try")
    process.send_signal(signal.SIGTERM)
    (bench.work / "out").unlink()
    bench.file("out", b"in time")
    ended = finish(process)
    assert (ended.code, ended.err) == (0, b"")
    assert bench.objects() == {"bucket/out": b"in time"}


@pytest.mark.parametrize("shell", ["dash", "bash"])  # busybox does not look for `sleep` on PATH
@pytest.mark.parametrize("code", [0, 3])
def test_during_an_upload_that_does_not_end_in_time(dash: Bench, shell: str, code: int) -> None:
    bench = Bench(SHELLS[shell], dash.top)
    (bench.work / "out").symlink_to("/proc/self/mem")
    # The 25 s that are left are over at once, and the pause between two tries never is.
    (bench.top / "bin").mkdir()
    (bench.top / "bin/sleep").write_text(f'#!/bin/sh\n[ "$1" = 25 ] || exec {require("sleep")} 60\n')
    (bench.top / "bin/sleep").chmod(0o755)
    path = {"PATH": f"{bench.top}/bin:{os.environ['PATH']}"}
    process = bench.start(["/bin/sh", "-c", f"exit {code}"], [], [OUT], env=path)
    until(lambda: worker_sleeps(process.pid), "the pause before the second try")
    process.send_signal(signal.SIGTERM)
    ended = finish(process)
    assert ended.code == (code or EXIT_UPLOAD)
    assert ended.err.decode() == (
        "ezbatch: upload failed: stopped by a signal before it was complete; "
        f"the command itself ended with exit code {code}\n"
    )
    until(lambda: not session(process.pid), "every process to end")
    assert not list(bench.store.glob(".ezbatch-partial*"))


def test_as_the_first_process_of_a_container(bench: Bench) -> None:
    bwrap = require("bwrap")
    bench.file("out")
    sandbox = [bwrap, "--bind", "/", "/", "--dev", "/dev", "--unshare-pid", "--proc", "/proc", "--as-pid-1"]
    script = f"trap 'echo got TERM; exit 7' TERM; [ $PPID = 1 ] && {WAITING}"
    process = bench.start(["/bin/sh", "-c", script], [], [OUT], before=sandbox)
    ready(process)
    # bwrap stays outside, and the shell is its child.
    os.kill(below(process.pid)[0], signal.SIGTERM)
    ended = finish(process)
    assert (ended.code, ended.out, ended.err) == (7, b"got TERM\n", b"")
    assert bench.objects() == {"bucket/out": b"content"}


def test_at_any_moment(bench: Bench) -> None:
    # Spread over the 20 to 40 ms that such a job takes; what must hold does not depend on where a signal lands.
    bench.put("bucket/in", b"in")
    script = ["/bin/sh", "-c", "trap 'exit 7' TERM; cat in >out; exit 5"]
    for step in range(40):
        process = bench.start(script, [S3Mount("s3://bucket/in", "in")], [OUT, S3Mount("out", "s3://bucket/more")])
        threading.Event().wait(step / 1000)
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
        assert ended.code in {5, 7, 143}
        outputs = set(bench.objects()) - {"bucket/in"}
        if ended.code == 5:
            assert outputs == {"bucket/out", "bucket/more"}
        for key in outputs:
            (bench.store / key).unlink()
        until(lambda leader=process.pid: not session(leader), "every process to end")  # type: ignore[misc]
        assert not list(bench.store.glob(".ezbatch-partial*"))
