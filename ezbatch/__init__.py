"""AWS Batch from a notebook: the same workflow on this machine and on AWS Batch.

Importing this package loads nothing but itself: each public name is fetched when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ezbatch.aws.setup import setup, teardown
    from ezbatch.backend import JobReport, JobState, LogEvent
    from ezbatch.diagnosis import Check, doctor
    from ezbatch.errors import (
        BackendError,
        EngineError,
        EZBatchError,
        InvalidWorkflowError,
        JobFailedError,
        JobNotFoundError,
        LogMissingError,
        Problem,
        RunInterruptedError,
        RunNotFoundError,
        SettingsError,
        SpecTypeError,
        StateDirectoryError,
        SubmissionError,
        UnreachableError,
        WaitTimeoutError,
        WorkflowFileError,
    )
    from ezbatch.planning import Plan, plan
    from ezbatch.run import EZBatchRun, runs
    from ezbatch.s3 import S3Mount, S3Mounts
    from ezbatch.settings import Settings
    from ezbatch.workflow import EZBatchJob, EZBatchJobDefinition, EZBatchWorkflow

_HOMES = {
    "ezbatch.aws.setup": ("setup", "teardown"),
    "ezbatch.backend": ("JobReport", "JobState", "LogEvent"),
    "ezbatch.diagnosis": ("Check", "doctor"),
    "ezbatch.errors": (
        "BackendError",
        "EZBatchError",
        "EngineError",
        "InvalidWorkflowError",
        "JobFailedError",
        "JobNotFoundError",
        "LogMissingError",
        "Problem",
        "RunInterruptedError",
        "RunNotFoundError",
        "SettingsError",
        "SpecTypeError",
        "StateDirectoryError",
        "SubmissionError",
        "UnreachableError",
        "WaitTimeoutError",
        "WorkflowFileError",
    ),
    "ezbatch.planning": ("Plan", "plan"),
    "ezbatch.run": ("EZBatchRun", "runs"),
    "ezbatch.s3": ("S3Mount", "S3Mounts"),
    "ezbatch.settings": ("Settings",),
    "ezbatch.workflow": ("EZBatchJob", "EZBatchJobDefinition", "EZBatchWorkflow"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "BackendError",
    "Check",
    "EZBatchError",
    "EZBatchJob",
    "EZBatchJobDefinition",
    "EZBatchRun",
    "EZBatchWorkflow",
    "EngineError",
    "InvalidWorkflowError",
    "JobFailedError",
    "JobNotFoundError",
    "JobReport",
    "JobState",
    "LogEvent",
    "LogMissingError",
    "Plan",
    "Problem",
    "RunInterruptedError",
    "RunNotFoundError",
    "S3Mount",
    "S3Mounts",
    "Settings",
    "SettingsError",
    "SpecTypeError",
    "StateDirectoryError",
    "SubmissionError",
    "UnreachableError",
    "WaitTimeoutError",
    "WorkflowFileError",
    "__version__",
    "doctor",
    "plan",
    "runs",
    "setup",
    "teardown",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the type is that of the name, given above for type checkers
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("ezbatch")
    elif name in _HOME_OF:
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
    else:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
