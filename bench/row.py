"""One line of a benchmark's table."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Row:
    """A measurement beside what it is compared with.

    Parameters
    ----------
    what : str
        Both things measured.
    ours, theirs : float
        In seconds, or a count.
    target : float, optional
        The ratio that ours to theirs should not exceed.
    unit : str
        ``s`` or nothing.
    """

    what: str
    ours: float
    theirs: float
    target: float | None = None
    unit: str = "s"

    def __str__(self) -> str:
        shown = [f"{value:.3f} {self.unit}" if self.unit else f"{value:g}" for value in (self.ours, self.theirs)]
        ratio = self.ours / self.theirs
        goal = "" if self.target is None else f"<= {self.target:g}"
        return f"{self.what:<58}{shown[0]:>12}{shown[1]:>12}{ratio:>8.2f}{goal:>9}"


def seconds(act: Callable[[], object], times: int = 3) -> float:
    """Return the median time of some calls."""
    taken = []
    for _time in range(times):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
