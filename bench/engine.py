"""A thousand one-line jobs on the local engine beside xargs running the same lines."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.row import Row, seconds
from ezbatch import EZBatchJob, EZBatchWorkflow, Settings

JOBS = 1_000


def rows() -> Iterator[Row]:
    """Yield the rows."""
    lines = [f"echo job {i}; test {i} -ge 0" for i in range(JOBS)]
    workflow = EZBatchWorkflow("lines", {f"job-{i}": EZBatchJob("busybox:1", line) for i, line in enumerate(lines)})

    def theirs() -> None:
        quoted = "\0".join(lines)
        command = ["xargs", "-0", f"-P{len(os.sched_getaffinity(0))}", "-I{}", "sh", "-c", "{}"]
        subprocess.run(command, input=quoted.encode(), stdout=subprocess.DEVNULL, check=True)

    def ours() -> None:
        # A state directory each, so that the engine's start is part of what is measured.
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(state_directory=Path(folder), local_runner="process")
            run = workflow.submit("local", settings=settings).wait(progress=False)
            if run.state != "SUCCEEDED":
                raise AssertionError(run.explain())

    yield Row(f"{JOBS:,} one-line jobs, from submit to seen done / xargs", seconds(ours), seconds(theirs), 3)
