"""ezbatch on the rig: backends whose seconds are short, submitters in processes of their own, and what must hold."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any

from ezbatch import EZBatchJob, EZBatchRun, EZBatchWorkflow, Settings
from ezbatch.aws.backend import AWSBackend
from ezbatch.aws.clients import Clients
from ezbatch.ledger import Ledger
from ezbatch.run import submit

from .rig import Rig

QUEUE = "ezbatch"


@dataclasses.dataclass(frozen=True)
class Pace:
    """A clock that runs fast, and the sleep that goes with it.

    Parameters
    ----------
    times
        Seconds of the product in one real second.
    """

    times: float = 25.0

    def clock(self) -> float:
        return time.monotonic() * self.times

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / self.times)


_made: dict[object, Clients] = {}


def _clients(settings: Settings, pace: Pace) -> Clients:
    """Return clients with a pace of their own. The SDK's own clients, which take 0.1 s to make, are made once."""
    clients = Clients(settings, pace.sleep, pace.clock)
    key = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    if key in _made:
        clients._clients.update(_made[key]._clients)
    elif "AWS_ENDPOINT_URL" in os.environ:
        for service in ("batch", "logs"):
            clients.client(service)
        _made[key] = clients
    return clients


def backend_of(pace: Pace | None = None, *, settle: float = 4.0, settings: Settings | None = None) -> AWSBackend:
    """Return a backend whose seconds are short; it shares nothing with any other."""
    pace = pace or Pace()
    settings = settings or Settings.load()
    backend = AWSBackend(settings, _clients(settings, pace), settle)
    backend.poll = (backend.poll[0] / pace.times, backend.poll[1] / pace.times)
    return backend


def handle(run_id: str, backend: AWSBackend | None = None) -> EZBatchRun:
    """Return a new handle of a run that the ledger knows, as another process would have it."""
    ledger = Ledger(Settings.load().state_directory)
    return EZBatchRun(ledger.find(run_id), ledger, backend or backend_of())


def job(command: str | list[str] = "true", **more: object) -> EZBatchJob:
    """Return a job of the smallest size."""
    return EZBatchJob("busybox", command, **{"vcpus": 0.25, "memory": 512} | more)  # type: ignore[arg-type] # a test's own


def flow(*names: str, name: Any = "flow", **after: Any) -> EZBatchWorkflow:  # noqa: ANN401 - lists of names
    """Return a workflow of jobs that do nothing: ``flow("a", "b", b=["a"])``."""
    return EZBatchWorkflow(name, {one: job() for one in names}, after)


def start(workflow: EZBatchWorkflow, backend: AWSBackend | None = None) -> EZBatchRun:
    """Submit to the rig's queue."""
    return submit(workflow, QUEUE, backend=backend or backend_of(), progress=False)


def end(run: EZBatchRun) -> EZBatchRun:
    """Wait for a run, at most for a minute."""
    return run.wait(60, progress=False)


def eventually(there: Callable[[], object], timeout: float = 20) -> None:
    """Return as soon as something holds."""
    deadline = time.monotonic() + timeout
    while not there():
        if time.monotonic() > deadline:
            raise AssertionError("it never came")
        time.sleep(0.01)


def assert_clean(rig: Rig) -> None:
    """No job twice, no definition left, no job live."""
    assert rig.duplicates() == {}
    assert rig.definitions("ACTIVE") == []
    assert [view.name for view in rig.jobs() if view.state not in ("SUCCEEDED", "FAILED")] == []
