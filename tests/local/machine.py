"""An engine inside the test's own process: the clock is the test's, the jobs are real."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ezbatch import EZBatchJob, EZBatchRun, EZBatchWorkflow, JobState, Settings
from ezbatch.local import process
from ezbatch.local.engine import Engine
from ezbatch.run import submit

PATIENCE = 60.0


@dataclass
class Machine:
    """A state directory, an engine for it, and a clock that can be put forward.

    Parameters
    ----------
    directory : Path
        The state directory.
    vcpus, memory : float, int
        How big the machine is.
    """

    directory: Path
    vcpus: float = 64
    memory: int = 1_000_000
    offset: float = 0.0
    peak_vcpus: float = 0.0
    peak_memory: int = 0
    engine: Engine = field(init=False)
    past: list[Engine] = field(default_factory=list)

    def __post_init__(self) -> None:
        local = self.directory / "local"
        local.mkdir(parents=True)
        # Who holds the lock is the engine, so nobody starts another.
        self.lock = process._Lock(local)
        assert self.lock.take()
        self.settings = Settings(
            state_directory=self.directory, local_runner="process", local_vcpus=self.vcpus, local_memory=self.memory
        )
        self.begin()

    def begin(self) -> None:
        """Begin an engine; one before this one was killed, as far as this one can see."""
        if hasattr(self, "engine"):
            self.past.append(self.engine)
        self.engine = Engine(self.directory / "local", clock=lambda: time.time() + self.offset)
        self.engine.on_problem = self.lock.say
        self.engine.recover()

    def submit(
        self, jobs: Mapping[str, EZBatchJob | str], dependencies: dict[str, list[str]] | None = None
    ) -> EZBatchRun:
        """Submit a workflow; a job that is a string is its script."""
        made = {name: self.job(job) if isinstance(job, str) else job for name, job in jobs.items()}
        return submit(EZBatchWorkflow("w", made, dependencies or {}), "local", settings=self.settings)

    def job(self, script: str, **changes: Any) -> EZBatchJob:  # noqa: ANN401 - fields of different types
        """Return a job that runs a script."""
        return EZBatchJob(**{"image": "i", "command": ["/bin/sh", "-c", script], "platform": "EC2", **changes})

    def step(self) -> None:
        """Let the engine do what it can do now."""
        self.engine.step()
        self.peak_vcpus = max(self.peak_vcpus, self.engine.used_vcpus)
        self.peak_memory = max(self.peak_memory, self.engine.used_memory)

    def until(self, condition: Callable[[], object]) -> None:
        """Let the engine work until the condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain: {[j.state for j in self.engine.jobs.values()][:20]}"
            self.step()
            time.sleep(0.005)

    def settle(self, seconds: float = 0.3) -> None:
        """Let the engine work for a while, to see that something does not happen."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.step()
            time.sleep(0.005)

    def advance(self, seconds: float) -> None:
        """Put the clock forward."""
        self.offset += seconds

    def finish(self, *runs: EZBatchRun) -> None:
        """Let the engine work until these runs have ended."""
        self.until(lambda: all(run.refresh().state in ("SUCCEEDED", "FAILED", "CANCELLED") for run in runs))

    def close(self) -> None:
        """End what still runs."""
        for attempt in [*self.engine.running.values(), *self.engine.adopted]:
            attempt.job.cancelled = True
            self.engine._stop(attempt, "cancel")
            attempt.killed_at = 0.0
        self.until(lambda: not self.engine.running and not self.engine.adopted)
        for engine in self.past:
            for attempt in engine.running.values():
                assert attempt.process is not None
                attempt.process.wait(PATIENCE)
            engine.connection.close()
        self.engine.close()
        self.lock.release()


def states(run: EZBatchRun) -> dict[str, JobState]:
    return {name: report.state for name, report in run.refresh().jobs.items()}
