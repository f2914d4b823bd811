"""What can go wrong between boto3 and AWS, on request or at random from a seed.

A fault is chosen by the action's name and its count alone, ``f(seed, action, n)``, so a schedule replays whatever
threads do; the n-th SubmitJob of a run meets the same fate every time.

========== ==================================================================================================
kind       what the client sees
========== ==================================================================================================
ok         nothing
delay      the answer comes `Step.seconds` later
throttle   429 TooManyRequestsException from Batch, each other service's own words, before anything happened
error      500, before anything happened
reset      the connection is reset before the request was handled
drop       the request is **handled**, then the connection is reset in place of an answer
late       the connection is reset at once, and the request is **handled** `Step.seconds` later
lost       the request is **handled**, then 500 in place of an answer
truncate   the request is **handled**, the answer's body ends in the middle: botocore does not compare lengths, and
           makes of half a JSON body a **successful, empty answer**, ``{"ResponseMetadata": …}`` and nothing else
========== ==================================================================================================
"""

from __future__ import annotations

import fnmatch
import json
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

KINDS = ("ok", "delay", "throttle", "error", "reset", "drop", "lost", "late", "truncate")


@dataclass(frozen=True)
class Step:
    """One request's fate.

    Parameters
    ----------
    kind
        One of `KINDS`.
    seconds
        Added before the answer, whatever the kind; before the work when it is ``late``.
    """

    kind: str = "ok"
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no fault {self.kind!r}; there are {', '.join(KINDS)}")


OK = Step()


@dataclass(frozen=True)
class _Random:
    seed: int | str
    actions: tuple[str, ...]
    service: str
    chances: tuple[tuple[str, float], ...]
    burst: int
    max_delay: float

    def step(self, service: str, action: str, n: int) -> Step:
        if not fnmatch.fnmatchcase(service, self.service) or not any(
            fnmatch.fnmatchcase(action, glob) for glob in self.actions
        ):
            return OK
        # A burst that began at one of the calls just before goes on.
        for start in range(max(0, n - self.burst + 1), n + 1):
            dice = random.Random(f"{self.seed}/{service}/{action}/{start}")
            mark = dice.random()
            for kind, chance in self.chances:
                mark -= chance
                if mark < 0:
                    return Step(kind, dice.random() * self.max_delay if kind in ("delay", "late") else 0.0)
        return OK


class Faults:
    """The fault layer's settings. `clear` returns to a perfect network.

    Attributes
    ----------
    latency
        Seconds that every call takes at least, the server's own work included.
    submit_rate
        SubmitJob calls a second that are let through; the rest get 429. None: no limit. AWS has 50.
    submit_burst
        Tokens that the rate limit's bucket holds.
    injected
        What was done, as ``(action, kind)`` in order.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        self.latency = 0.0
        self.submit_rate: float | None = None
        self.submit_burst = 50.0
        self.injected: list[tuple[str, str]] = []
        self._scripts: dict[tuple[str, str], deque[Step]] = {}
        self._random: list[_Random] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._events: dict[tuple[str, str, int], Callable[[], object]] = {}
        self._budget: int | None = None
        self._tokens: float | None = None
        self._filled_at = 0.0

    def script(self, action: str, *steps: str | Step, service: str = "batch") -> None:
        """Give the next calls of an action (a glob; ``*`` is any) these fates in turn; then all is well again."""
        made = [Step(step) if isinstance(step, str) else step for step in steps]
        with self._lock:
            self._scripts.setdefault((service, action), deque()).extend(made)

    def random(
        self,
        seed: int | str,
        *actions: str,
        service: str = "batch",
        burst: int = 1,
        max_faults: int | None = None,
        max_delay: float = 0.05,
        **chances: float,
    ) -> None:
        """Add a random schedule: ``random(7, "SubmitJob", throttle=0.5, drop=0.1)``.

        Parameters
        ----------
        seed
            Replays the schedule.
        actions
            Globs; none means every action.
        service
            Glob of the services it is for.
        burst
            Calls of the action in a row that a fault, once it strikes, strikes.
        max_faults
            After so many faults the network is perfect, so that every client gets through in the end.
        max_delay
            Longest delay, in seconds.
        chances
            Kind to probability.
        """
        for kind, chance in chances.items():
            if kind not in KINDS or not 0 <= chance <= 1:
                raise ValueError(f"no fault {kind}={chance}; there are {', '.join(KINDS)}, each between 0 and 1")
        with self._lock:
            self._random.append(_Random(seed, actions or ("*",), service, tuple(chances.items()), burst, max_delay))
            self._budget = max_faults

    def when(self, action: str, nth: int, act: Callable[[], object], service: str = "batch") -> None:
        """Do something as soon as the n-th call of an action, from 1, has arrived and nothing has come of it yet."""
        self._events[service, action, nth] = act

    def decide(self, service: str, action: str) -> Step:
        """The fate of the call that has just arrived."""
        with self._lock:
            n = self._counts[service, action]
            self._counts[service, action] += 1
            event = self._events.pop((service, action, n + 1), None)
        if event is not None:
            event()
        with self._lock:
            step = OK
            if service == "batch" and action == "SubmitJob" and not self._token():
                step = Step("throttle")
            else:
                step = self._scripted(service, action) or self._by_chance(service, action, n)
            if step.kind != "ok":
                self.injected.append((action, step.kind))
            return step

    def _scripted(self, service: str, action: str) -> Step | None:
        for (services, actions), steps in self._scripts.items():
            if steps and fnmatch.fnmatchcase(action, actions) and fnmatch.fnmatchcase(service, services):
                return steps.popleft()
        return None

    def _by_chance(self, service: str, action: str, n: int) -> Step:
        if self._budget == 0:
            return OK
        for schedule in self._random:
            step = schedule.step(service, action, n)
            if step.kind != "ok":
                if self._budget is not None:
                    self._budget -= 1
                return step
        return OK

    def _token(self) -> bool:
        if self.submit_rate is None:
            return True
        now = self._clock()
        if self._tokens is None:
            self._tokens = self.submit_burst
        else:
            self._tokens = min(self.submit_burst, self._tokens + (now - self._filled_at) * self.submit_rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def error_answer(kind: str, service: str) -> tuple[str, list[tuple[str, str]], bytes]:
    """Status line, headers and body of a ``throttle`` or an ``error``, in the service's own protocol."""
    throttle = kind == "throttle"
    if service == "s3":
        status, code = ("503 Slow Down", "SlowDown") if throttle else ("500 Internal Server Error", "InternalError")
        return (
            status,
            [("Content-Type", "application/xml")],
            f"<Error><Code>{code}</Code><Message>fault</Message></Error>".encode(),
        )
    if service == "batch":
        status, code = (
            ("429 Too Many Requests", "TooManyRequestsException")
            if throttle
            else ("500 Internal Server Error", "ServerException")
        )
        body = json.dumps({"message": "Too Many Requests" if throttle else "Internal server error"})
        return status, [("Content-Type", "application/json"), ("x-amzn-ErrorType", code)], body.encode()
    if service == "logs":
        status, code = (
            ("400 Bad Request", "ThrottlingException")
            if throttle
            else ("500 Internal Server Error", "ServiceUnavailableException")
        )
        body = json.dumps({"__type": code, "message": "Rate exceeded" if throttle else "Internal failure"})
        return status, [("Content-Type", "application/x-amz-json-1.1")], body.encode()
    status, code = ("400 Bad Request", "Throttling") if throttle else ("500 Internal Server Error", "InternalFailure")
    xml = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>fault</Message></Error></ErrorResponse>"
    )
    return status, [("Content-Type", "text/xml")], xml.encode()
