"""Looking at jobs: all runs of the process share the calls, and what DescribeJobs says becomes a report."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from ezbatch.aws.clients import Clients, Limiter
from ezbatch.aws.submission import DESCRIBE_AT_ONCE
from ezbatch.backend import Attempt, JobReport, JobState, array_state

__all__ = ["Watcher", "report_of", "time_of"]

#: DescribeJobs calls a second, and at once after a pause: together less than 60 in any minute.
RATE, BURST = 0.75, 12


class Watcher:
    """Describes jobs for every run of the process, a hundred at a time.

    Whoever looks while another is calling waits for its turn; the one whose turn it is asks for all who wait.
    """

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self._limiter = Limiter(RATE, BURST, clients.clock, clients.sleep)
        self._gate = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[_Look] = []

    def look(self, job_ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """Return DescribeJobs' details by id; a job that AWS has forgotten is left out."""
        look = _Look(list(job_ids))
        if not look.ids:
            return {}
        with self._gate:
            self._waiting.append(look)
        with self._turn:
            if not look.done:
                together: list[_Look] = []
                try:
                    with self._gate:
                        together, self._waiting = self._waiting, []
                    self._ask(together)
                except BaseException:
                    # Ctrl-C is for this thread alone: the others' questions wait for the next.
                    with self._gate:
                        self._waiting[:0] = [other for other in together if other is not look]
                    raise
        if look.error is not None:
            raise look.error
        return look.details

    def _ask(self, looks: list[_Look]) -> None:
        ids = list(dict.fromkeys(job_id for look in looks for job_id in look.ids))
        details: dict[str, Mapping[str, Any]] = {}
        error: Exception | None = None
        try:
            for start in range(0, len(ids), DESCRIBE_AT_ONCE):
                self._limiter.acquire()
                answer = self.clients.call("batch", "describe_jobs", jobs=ids[start : start + DESCRIBE_AT_ONCE])
                details.update((detail["jobId"], detail) for detail in answer["jobs"])
        except Exception as caught:  # noqa: BLE001 - each of those who wait raises it for itself
            error = caught
        for look in looks:
            look.details = {job_id: details[job_id] for job_id in look.ids if job_id in details}
            look.error = error
            look.done = True


class _Look:
    def __init__(self, ids: list[str]) -> None:
        self.ids = ids
        self.done = False
        self.details: dict[str, Mapping[str, Any]] = {}
        self.error: Exception | None = None


def time_of(milliseconds: int | None) -> datetime | None:
    """Return a time in UTC from what AWS gives: milliseconds since the epoch, or nothing."""
    return None if not milliseconds else datetime.fromtimestamp(milliseconds / 1000, timezone.utc)


def report_of(detail: Mapping[str, Any], name: str) -> JobReport:
    """Return what DescribeJobs says of a job as a report."""
    state = JobState(detail["status"])
    attempts = _attempts(detail, state)
    reason = str(detail.get("statusReason", ""))
    container = detail.get("container", {})
    last = attempts[-1] if attempts else None
    if last is not None and last.reason and last.reason not in reason:
        # The job says that a container ended, the container says why.
        reason = f"{last.reason} ({reason})" if reason else last.reason
    elif not attempts and container.get("reason"):
        reason = f"{container['reason']} ({reason})" if reason else str(container["reason"])
    children = None
    summary = detail.get("arrayProperties", {}).get("statusSummary")
    if summary is not None and "index" not in detail.get("arrayProperties", {}):
        children = {JobState(child): int(count) for child, count in summary.items() if count}
        if not state.terminal and children:
            made = array_state(children)
            state = JobState.RUNNING if made.terminal else made
    cancelled = bool(detail.get("isCancelled") or detail.get("isTerminated"))
    if state is JobState.FAILED and not attempts and "dependent job failed" in reason.lower() and not cancelled:
        state = JobState.BLOCKED
    exit_code = last.exit_code if last else container.get("exitCode")
    return JobReport(
        name=name,
        job_id=str(detail["jobId"]),
        state=state,
        attempts=attempts,
        exit_code=exit_code,
        reason="" if state is JobState.SUCCEEDED else reason,
        created=time_of(detail.get("createdAt")),
        started=last.started if last else time_of(detail.get("startedAt")),
        stopped=time_of(detail.get("stoppedAt")) if state.terminal else None,
        children=children,
        cancelled=cancelled,
    )


def _attempts(detail: Mapping[str, Any], state: JobState) -> tuple[Attempt, ...]:
    attempts = []
    for number, attempt in enumerate(detail.get("attempts", ()), 1):
        container = attempt.get("container", {})
        reason = str(container.get("reason") or attempt.get("statusReason") or "")
        if container.get("exitCode") == 0:
            reason = ""
        attempts.append(
            Attempt(
                number,
                time_of(attempt.get("startedAt")),
                time_of(attempt.get("stoppedAt")),
                container.get("exitCode"),
                reason,
                str(container.get("logStreamName", "")),
            )
        )
    # The attempt that runs is told by the job itself until it has ended.
    stream = str(detail.get("container", {}).get("logStreamName", ""))
    if state is JobState.RUNNING and stream and all(attempt.log != stream for attempt in attempts):
        attempts.append(Attempt(len(attempts) + 1, time_of(detail.get("startedAt")), log=stream))
    return tuple(attempts)
