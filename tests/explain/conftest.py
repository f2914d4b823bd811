from __future__ import annotations

from collections.abc import Callable

import pytest

from ezbatch import EZBatchJob, EZBatchRun, EZBatchWorkflow
from ezbatch.aws.backend import AWSBackend
from ezbatch.aws.clients import Clients
from ezbatch.ledger import Ledger
from ezbatch.settings import Settings
from tests.aws.fixtures import aws_env, aws_rig
from tests.aws.rig import Rig

__all__ = ["aws_env", "aws_rig"]

IMAGE = "public.ecr.aws/docker/library/busybox"

Submit = Callable[..., EZBatchRun]


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def job(command: str | list[str] = "true", **fields: object) -> EZBatchJob:
    return EZBatchJob(IMAGE, command, **fields)  # type: ignore[arg-type] # what each test says of its job


@pytest.fixture
def submit(aws_env: Rig, time: Time) -> Submit:
    """Submit jobs to a queue of the rig, with a clock of the test's own."""

    def submit(
        jobs: dict[str, EZBatchJob], dependencies: dict[str, list[str]] | None = None, queue: str = "ezbatch"
    ) -> EZBatchRun:
        aws_env.execution_role  # noqa: B018 - makes the role
        run = EZBatchWorkflow("w", jobs, dependencies or {}).submit(queue)
        settings = Settings.load()
        ledger = Ledger(settings.state_directory)
        backend = AWSBackend(settings, Clients(settings, time.sleep, time))
        return EZBatchRun(
            ledger.find(run.id), ledger, backend, settings=settings, sleep=time.sleep, clock=time
        ).refresh()

    return submit
