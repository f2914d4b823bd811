"""Which jobs have waited in vain for so long that they may be cancelled: seen stuck more than once, over a dwell."""

from __future__ import annotations

from collections.abc import Mapping

from ezbatch.explain import Explanation

__all__ = ["DWELL", "LOOKS", "LOOK_EVERY", "StuckJobs"]

#: Seconds for which a job must have been seen stuck, how many looks must have said so, and the seconds between two.
#: A queue that was mended, an environment that was still settling: the second look finds the job well.
DWELL, LOOKS, LOOK_EVERY = 600.0, 2, 60.0


class StuckJobs:
    """Remembers since when each job has been seen stuck.

    Parameters
    ----------
    dwell : float
        Seconds for which a job must have been seen stuck.
    """

    def __init__(self, dwell: float = DWELL) -> None:
        self.dwell = dwell
        self._seen: dict[str, tuple[float, int]] = {}
        #: The jobs that the last look found stuck, and why.
        self.suspects: dict[str, Explanation] = {}

    def see(self, now: float, found: Mapping[str, Explanation]) -> dict[str, Explanation]:
        """Take in a look, and return those jobs that have been stuck for long enough.

        Parameters
        ----------
        now : float
            Seconds, on any clock.
        found : mapping of str to Explanation
            Why each job waits that waits for room. One that is left out, or not stuck, starts anew.
        """
        stuck = {name: why for name, why in found.items() if why.stuck}
        self.suspects = stuck
        earlier = {name: self._seen.get(name, (now, 0)) for name in stuck}
        self._seen = {name: (since, looks + 1) for name, (since, looks) in earlier.items()}
        return {
            name: why
            for name, why in stuck.items()
            if self._seen[name][1] >= LOOKS and now - self._seen[name][0] >= self.dwell
        }
