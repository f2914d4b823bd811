"""A bar for those who wait. It goes to stderr, and only where a person looks."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ezbatch.run import EZBatchRun

__all__ = ["Progress", "counts_text", "glyph", "shown"]

#: Called with the run after every look, and now and then while it is being submitted.
Progress = Callable[["EZBatchRun"], None]

#: One for each state, told apart without colour.
GLYPHS = {
    "SUBMITTED": "○",
    "PENDING": "◔",
    "RUNNABLE": "◑",
    "STARTING": "◕",
    "RUNNING": "▶",
    "SUCCEEDED": "✔",
    "FAILED": "✖",
    "BLOCKED": "⊘",
}


def glyph(state: str) -> str:
    """Return a state's sign."""
    return GLYPHS.get(str(state), "·")


def counts_text(run: EZBatchRun) -> str:
    """Return in a line how many of a run's jobs are in each state, and how many were never submitted."""
    parts = [f"{glyph(state.value)} {count} {state.value.lower()}" for state, count in run.counts.items()]
    left = run.unsubmitted
    if left:
        parts.append(f"· {left} not submitted")
    return "  ".join(parts)


@contextlib.contextmanager
def shown(progress: Progress | bool | None) -> Iterator[Progress]:
    """Yield what shows a run's progress; nothing is shown where nobody looks."""
    if callable(progress):
        yield progress
    elif progress or (progress is None and _watched()):
        with _bar() as show:
            yield show
    else:
        yield lambda _run: None


def _watched() -> bool:
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[states]}"),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("waiting", total=None, states="")

    def show(run: EZBatchRun) -> None:
        bar.start()  # with the first that there is to show
        if run.state == "SUBMITTING":
            bar.update(task, description=run.id, total=len(run.plan.jobs), completed=run.accepted, states="submitted")
        else:
            jobs = run.jobs
            done = sum(1 for report in jobs.values() if report.state.terminal)
            bar.update(task, description=run.id, total=len(jobs), completed=done, states=counts_text(run))

    try:
        yield show
    finally:
        bar.stop()
