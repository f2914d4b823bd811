"""What importing costs, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from bench.row import Row, seconds


def _import(statement: str) -> float:
    return seconds(lambda: subprocess.run([sys.executable, "-c", statement], check=True), 7)


def rows() -> Iterator[Row]:
    """Yield the rows."""
    theirs = _import("import dataclasses_json")
    yield Row("import ezbatch / import dataclasses_json", _import("import ezbatch"), theirs, 1)
    spec = _import("from ezbatch import EZBatchJob, EZBatchWorkflow, plan")
    yield Row("import its spec and plan / import dataclasses_json", spec, theirs)
    yield Row("import ezbatch / an empty Python", _import("import ezbatch"), _import("pass"))
