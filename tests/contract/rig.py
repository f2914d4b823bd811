"""`Rig`: one place that runs jobs, and a test's hands on it. The suite asks for nothing else.

A place joins the suite by a subclass that says how it is taken down, and one more parameter of the fixture in
`conftest.py`. Its jobs must be real processes of this machine with this machine's files: that is how a test blocks
them, counts them and sees that they are gone.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ezbatch import EZBatchJob, EZBatchRun, EZBatchWorkflow, Settings
from ezbatch.run import submit

#: Seconds after which what a test waits for is taken not to happen; ten times what a busy machine needs.
PATIENCE = 60.0


def until(condition: Callable[[], Any], what: str = "") -> Any:  # noqa: ANN401 - whatever the condition gives
    """Wait until the condition holds, and return what it gave."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what or condition}"
        time.sleep(0.02)
    return found


@dataclass(frozen=True)
class Gate:
    """What a job waits at until the test lets it through."""

    path: Path

    @property
    def wait(self) -> str:
        """Shell words: say that the gate is reached, and wait there."""
        path = shlex.quote(str(self.path))
        mark = "${AWS_BATCH_JOB_ID:-x}.${AWS_BATCH_JOB_ATTEMPT:-1}"
        return f': >{path}."{mark}"; while ! test -e {path}; do sleep 0.02; done'

    def reached(self, count: int = 1) -> None:
        """Wait until so many jobs stand at the gate."""
        until(lambda: len(list(self.path.parent.glob(f"{self.path.name}.*"))) >= count, f"{count} at {self.path.name}")

    def open(self) -> None:
        """Let everybody through."""
        self.path.touch()


@dataclass
class Rig:
    """One place that runs jobs.

    Parameters
    ----------
    settings : Settings
        With which everything is submitted.
    queue : str
        Where to.
    directory : Path
        For the files of jobs and tests.
    """

    settings: Settings
    queue: str
    directory: Path

    #: Whether a job that waits for another ends as soon as it is cancelled, or only once the other has ended.
    cancels_waiting_at_once = True
    #: Whether a line without a character is kept.
    keeps_empty_lines = True
    #: Whether a program that is not there has an exit code and a log.
    starts_what_is_missing = True

    def job(self, script: str, **changes: Any) -> EZBatchJob:  # noqa: ANN401 - fields of different types
        """Return a job that runs a script of the shell, as small as a job can be."""
        return EZBatchJob(**{"image": "busybox:stable", "command": ["/bin/sh", "-c", script], **changes})

    def workflow(
        self, jobs: Mapping[str, EZBatchJob | str], dependencies: dict[str, list[str]] | None = None, name: str = "w"
    ) -> EZBatchWorkflow:
        """Return a workflow; a job that is a string is its script."""
        made = {key: self.job(value) if isinstance(value, str) else value for key, value in jobs.items()}
        return EZBatchWorkflow(name, made, dependencies or {})

    def submit(self, workflow: EZBatchWorkflow) -> EZBatchRun:
        """Submit a workflow to this place."""
        return submit(workflow, self.queue, settings=self.settings)

    def run(self, jobs: Mapping[str, EZBatchJob | str], dependencies: dict[str, list[str]] | None = None) -> EZBatchRun:
        """Submit jobs and wait until they have ended."""
        return self.submit(self.workflow(jobs, dependencies)).wait(PATIENCE)

    def gate(self, name: str = "gate") -> Gate:
        """Return a gate, which is closed."""
        return Gate(self.directory / name)

    def path(self, name: str) -> str:
        """Return a path for a script to write to, quoted."""
        return shlex.quote(str(self.directory / name))

    def lines(self, name: str) -> list[str]:
        """Return the lines that scripts have written there."""
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []

    def python(self, script: str, *words: str) -> str:
        """Run Python in a process of its own, as another shell or a restarted kernel would, and return its output."""
        done = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def processes(self, run: EZBatchRun) -> list[int]:
        """Return the processes of a run's jobs, whatever group or session they are in."""
        mark = f"AWS_BATCH_JOB_ID={run.id}".encode()
        return [pid for pid in all_processes() if any(word.startswith(mark) for word in environment_of(pid))]

    def finish(self) -> None:
        """End everything that was begun."""


class LocalRig(Rig):
    """This machine, jobs as plain processes."""

    def finish(self) -> None:
        from ezbatch import runs

        for run in runs(settings=self.settings):
            kill(self.processes(run))
        kill(self.engines())

    def engines(self) -> list[int]:
        """Return the process of the local engine, if there is one."""
        directory = os.fsencode(self.settings.state_directory / "local")
        return [
            pid
            for pid in all_processes()
            if (words := words_of(pid))[-1:] == [directory] and b"ezbatch.local.process" in b" ".join(words)
        ]


def all_processes() -> list[int]:
    """Return every process of this machine."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def environment_of(pid: int) -> list[bytes]:
    """Return a process's environment, empty for one that has gone."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def words_of(pid: int) -> list[bytes]:
    """Return a process's command line, empty for one that has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []


def kill(pids: Iterable[int]) -> None:
    """Kill processes and wait until they have gone."""
    pids = list(pids)
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    until(lambda: not any(is_running(pid) for pid in pids), f"the end of {pids}")


def is_running(pid: int) -> bool:
    """Return whether there is such a process; one that only waits for its parent to ask how it ended has gone."""
    try:
        # Until its last thread has gone, too, its files are open and its locks are held.
        threads = sum(1 for _thread in Path(f"/proc/{pid}/task").iterdir())
        return threads > 1 or Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
