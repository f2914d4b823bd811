"""Handing a plan over to AWS Batch: as fast as AWS allows, each job exactly once.

SubmitJob has no idempotency token, so an answer that was lost leaves a question. Every job's name is its own, so the
question can be asked: ListJobs by that name, for as long as a late request may take to show. Only then is it sent
again, and at the end every name is looked up once more: what is there twice loses the one nobody depends on.

An id is kept by the thread that got it, since Ctrl-C strikes the main thread between any two steps.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ezbatch.aws import requests
from ezbatch.aws.clients import Clients, LostAnswerError, ThrottledError
from ezbatch.errors import EZBatchError, UnreachableError
from ezbatch.planning import Plan, PlannedJob

__all__ = ["DESCRIBE_AT_ONCE", "Submission", "accepted_jobs", "found_jobs", "terminate"]

log = logging.getLogger(__name__)

#: Calls under way at once: enough for 50 a second at 300 ms each.
WORKERS = 16
#: Ids that TerminateJobs (boto3 1.44's service model) and DescribeJobs (API reference) take.
TERMINATE_AT_ONCE, DESCRIBE_AT_ONCE = 50, 100
#: Seconds between two entries in the ledger; the ids that a killed process had not written are found by name.
RECORD_EVERY = 0.5


class _StoppedError(Exception):
    """The submission was given up while this job waited."""


class Submission:
    """One try to hand over what is left of a plan.

    Parameters
    ----------
    clients : Clients
        The way to AWS.
    run_id : str
        The run.
    plan : Plan
        What to submit.
    definitions : sequence of str
        The ARN of each of the plan's definitions.
    accepted : mapping of str to str
        The ids of jobs that AWS has already.
    record
        Called with the ids, by name, that are new, now and then.
    settle : float
        Seconds for which a lost request may still show.
    """

    def __init__(
        self,
        clients: Clients,
        run_id: str,
        plan: Plan,
        definitions: list[str],
        accepted: Mapping[str, str],
        record: Callable[[Mapping[str, str]], None],
        settle: float,
    ) -> None:
        self.clients = clients
        self.run_id = run_id
        self.plan = plan
        self.definitions = definitions
        self.ids = dict(accepted)
        self.record = record
        self.settle = settle
        self.unsure = False  # whether AWS may have something that is not in ``ids``
        self._waits: dict[str, int] = {}  # parents without an id
        self._dependents: dict[str, list[PlannedJob]] = defaultdict(list)
        self._ready: deque[PlannedJob] = deque()
        self._lost = False  # whether an answer to SubmitJob was lost
        self._unrecorded: deque[str] = deque()
        self._recorded_at = clients.clock()
        self._stop = threading.Event()
        self._tasks: queue.SimpleQueue[PlannedJob | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[PlannedJob, BaseException | None]] = queue.SimpleQueue()

    def run(self) -> None:
        """Submit; when this raises, nothing is under way any more, and ``ids`` holds what is known to be accepted."""
        self._sort()
        if not self._waits:
            return
        count = min(WORKERS, len(self._waits))
        threads = [threading.Thread(target=self._work, name=f"ezbatch-submit-{n}", daemon=True) for n in range(count)]
        try:
            for thread in threads:
                thread.start()
            self._hand_out(2 * count)
        finally:
            self.unsure = True  # should a second Ctrl-C break off the waiting
            self._stop.set()
            for _thread in threads:
                self._tasks.put(None)
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            self.unsure = self._lost
        self._write_down()
        if self.unsure:
            self._settle_doubles()

    def _sort(self) -> None:
        """Find what can go at once, and what each of the others waits for."""
        for job in self.plan.jobs:
            if job.name in self.ids:
                continue
            missing = [parent for parent in job.parents if parent not in self.ids]
            self._waits[job.name] = len(missing)
            for parent in missing:
                self._dependents[parent].append(job)
            if not missing:
                self._ready.append(job)

    def _hand_out(self, at_once: int) -> None:
        """Give jobs to the threads as their parents' ids come in; raise what a thread could not get over."""
        left, under_way = len(self._waits), 0
        while left:
            # Not everything at once: what has not been handed out need not be taken back.
            while self._ready and under_way < at_once:
                self._tasks.put(self._ready.popleft())
                under_way += 1
            job, error = self._results.get()
            under_way -= 1
            if error is not None:
                raise error
            left -= 1
            for dependent in self._dependents[job.name]:
                self._waits[dependent.name] -= 1
                if not self._waits[dependent.name]:
                    self._ready.append(dependent)
            if self.clients.clock() - self._recorded_at >= RECORD_EVERY:
                self._write_down()

    def _write_down(self) -> None:
        names = [self._unrecorded.popleft() for _name in range(len(self._unrecorded))]
        if names:
            self.record({name: self.ids[name] for name in names})
        self._recorded_at = self.clients.clock()

    # In the threads

    def _work(self) -> None:
        while True:
            job = self._tasks.get()
            if job is None:
                return
            error = None
            try:
                self.ids[job.name] = self._submit(job)
                self._unrecorded.append(job.name)
            except BaseException as caught:  # noqa: BLE001 - it is raised where the results are taken
                error = caught
            self._results.put((job, error))

    def _submit(self, job: PlannedJob) -> str:
        # A parent's id is there before its dependent is handed out, and a dict's reads need no lock.
        parents = [self.ids[parent] for parent in job.parents]
        request = requests.submit_job(self.run_id, self.plan, job, self.definitions[job.definition], parents)
        limiter = self.clients.submits
        failures = 0
        while True:
            if self._stop.is_set():
                raise _StoppedError
            limiter.acquire()
            try:
                job_id = str(self.clients.once("batch", "submit_job", **request)["jobId"])
            except ThrottledError:
                limiter.slow_down()
            except UnreachableError:
                # Nothing was sent. A network that is away for a moment is no reason to undo hundreds of jobs.
                failures += 1
                if failures > 6:  # noqa: PLR2004 - about half a minute with the pauses
                    raise
                self.clients.sleep(min(0.1 * 2**failures, 8))
            except LostAnswerError as error:
                log.info("SubmitJob of %s: the answer was lost (%s); looking for the job", request["jobName"], error)
                self._lost = True
                found = self._look_for(request)
                if found is not None:
                    return found
            else:
                limiter.speed_up()
                return job_id

    def _look_for(self, request: Mapping[str, Any]) -> str | None:
        """Return the id of a job that may have been accepted, looking for as long as it may take to show."""
        pause = self.settle / 15
        for _look in range(4):
            self.clients.sleep(pause)
            pause *= 2
            found = accepted_jobs(self.clients, [request["jobQueue"]], request["jobName"])
            ids = found.get(request["jobName"])
            if ids:
                return ids[0]
        return None

    # Afterwards

    def _settle_doubles(self) -> None:
        """End what was accepted twice because it showed too late: the one that no other job depends on."""
        self.clients.sleep(self.settle / 2)
        found_jobs(self.clients, self.run_id, self.plan, self.ids)


def found_jobs(clients: Clients, run_id: str, plan: Plan, known: Mapping[str, str]) -> dict[str, str]:
    """Return the ids of the plan's jobs that AWS has, by name, and end what it has twice.

    Parameters
    ----------
    clients : Clients
        The way to AWS.
    run_id : str
        The run.
    plan : Plan
        Its plan.
    known : mapping of str to str
        The ids, by name, that the ledger has: other jobs may depend on those, so they are kept.
    """
    named = {requests.job_name(run_id, job): job.name for job in plan.jobs}
    accepted = accepted_jobs(clients, dict.fromkeys(job.queue for job in plan.jobs), f"{run_id}-*")
    found = {named[name]: ids for name, ids in accepted.items() if name in named}
    kept = {name: ids[0] for name, ids in found.items()} | dict(known)
    if any(len(ids) > 1 and name not in known for name, ids in found.items()):
        # A submitter that was killed knew which of the two the dependents name; they still do.
        used = _depended_on(clients, [job_id for ids in found.values() for job_id in ids])
        for name, ids in found.items():
            if name not in known:
                kept[name] = next((job_id for job_id in ids if job_id in used), ids[0])
    doubles = [job_id for name, ids in found.items() for job_id in ids if job_id != kept[name]]
    if doubles:
        log.warning("%d jobs of %s were accepted twice; the second of each is ended", len(doubles), run_id)
        terminate(clients, doubles, "submitted twice: the answer to the first was lost")
    return kept


def _depended_on(clients: Clients, job_ids: Sequence[str]) -> set[str]:
    """Return the ids that jobs name in dependsOn."""
    used: set[str] = set()
    for start in range(0, len(job_ids), DESCRIBE_AT_ONCE):
        answer = clients.call("batch", "describe_jobs", jobs=job_ids[start : start + DESCRIBE_AT_ONCE])
        used |= {parent["jobId"] for detail in answer["jobs"] for parent in detail.get("dependsOn", ())}
    return used


def accepted_jobs(clients: Clients, queues: Iterable[str], name: str) -> dict[str, list[str]]:
    """Return the ids of the jobs that AWS has by a name, or its beginning and ``*``: oldest first, in any state."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for job_queue in queues:
        # A filter makes ListJobs disregard the state (API reference, ListJobs).
        query: dict[str, Any] = {"jobQueue": job_queue, "filters": [{"name": "JOB_NAME", "values": [name]}]}
        for summary in clients.pages("batch", "list_jobs", "jobSummaryList", **query):
            found[summary["jobName"]].append((summary.get("createdAt", 0), summary["jobId"]))
    return {job: [job_id for _created, job_id in sorted(ids)] for job, ids in found.items()}


def terminate(clients: Clients, job_ids: Iterable[str], reason: str) -> list[str]:
    """End jobs, in bulk where boto3 can; return why some could not be ended. Ending a job twice does no harm."""
    ids = list(job_ids)
    failed: list[str] = []
    if clients.has("batch", "terminate_jobs"):
        for start in range(0, len(ids), TERMINATE_AT_ONCE):
            answer = clients.call("batch", "terminate_jobs", jobs=ids[start : start + TERMINATE_AT_ONCE], reason=reason)
            failed += [str(error.get("message", error)) for error in answer["errors"]]
        return failed
    for job_id in ids:
        try:
            clients.call("batch", "terminate_job", jobId=job_id, reason=reason)
        except UnreachableError:
            raise
        except EZBatchError as error:
            failed.append(str(error))
    return failed
