"""Every error ezbatch raises, and the word for one thing that is wrong with a workflow.

EZBatchError
├── SpecTypeError(TypeError)            a field was given a value of the wrong type
├── InvalidWorkflowError(ValueError)    AWS Batch would refuse the workflow: ``.problems`` lists everything
├── WorkflowFileError(ValueError)       a saved workflow cannot be read
├── SettingsError(ValueError)           a settings file or environment variable cannot be used
├── StateDirectoryError(OSError)        the ledger or the local engine cannot keep its state
├── RunNotFoundError(LookupError)       no run, or more than one, has that id
├── JobNotFoundError(LookupError)       the run has no such job, array child or attempt
├── LogMissingError(LookupError)        a job has ended and its log never came
├── BackendError(RuntimeError)          the place where jobs run could not be used
│   ├── EngineError                     the local engine is not there or stopped
│   ├── SubmissionError                 a submission failed or was interrupted: what was handed over was cancelled
│   └── UnreachableError                AWS does not answer; what was submitted goes on
├── RunInterruptedError(RuntimeError)   the run stands still until ``resume()``
├── WaitTimeoutError(TimeoutError)      ``wait(timeout)`` ran out; the run goes on
└── JobFailedError(RuntimeError)        ``raise_for_status()``: which job failed, why, what to do

Each leaf is also the builtin it resembles, so that code which knows nothing of ezbatch can catch it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

__all__ = [
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
]


@dataclasses.dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong, and what to do about it.

    Parameters
    ----------
    where : str
        The place in the workflow, such as ``jobs.align.memory``. A form shows the problem beside that field.
    what : str
        What is wrong, as a sentence without its full stop.
    remedy : str
        What to do about it, likewise.
    """

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.remedy}."


class EZBatchError(Exception):
    """The base of everything ezbatch raises on purpose."""


class SpecTypeError(EZBatchError, TypeError):
    """A field of a job, mount or workflow was given a value of the wrong type."""


class InvalidWorkflowError(EZBatchError, ValueError):
    """The workflow breaks rules; nothing was sent.

    Parameters
    ----------
    name : str
        The workflow's name.
    problems : iterable of Problem
        Everything that is wrong, not only the first.
    """

    #: So many problems are printed; ``problems`` holds them all.
    shown = 20

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = [f"workflow {name!r} has {count} problem{'s' if count != 1 else ''}; nothing was submitted"]
        lines += [f"  {problem}" for problem in self.problems[: self.shown]]
        if count > self.shown:
            lines.append(f"  ... and {count - self.shown} more: see .problems")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type[InvalidWorkflowError], tuple[str, tuple[Problem, ...]]]:
        return type(self), (self.name, self.problems)


class WorkflowFileError(EZBatchError, ValueError):
    """A saved workflow cannot be read: says the file, the place in it and the remedy."""


class SettingsError(EZBatchError, ValueError):
    """A settings file or an environment variable holds something that cannot be used."""


class StateDirectoryError(EZBatchError, OSError):
    """The directory that holds the ledger and the local engine's state cannot be used."""


class RunNotFoundError(EZBatchError, LookupError):
    """No run has the id, or the prefix fits more than one."""


class JobNotFoundError(EZBatchError, LookupError):
    """The run has no such job, array child or attempt."""


class LogMissingError(EZBatchError, LookupError):
    """A job has ended, and the place that ran it has no log of it."""


class BackendError(EZBatchError, RuntimeError):
    """The place where jobs run could not do what was asked."""


class EngineError(BackendError):
    """The local engine could not be started, or stopped working."""


class SubmissionError(BackendError):
    """A submission failed or was interrupted; what had been handed over was cancelled, and the message says so.

    Parameters
    ----------
    message : str
        What went wrong and what was done.
    interrupted : bool
        Whether a person interrupted it.
    """

    def __init__(self, message: str, *, interrupted: bool = False) -> None:
        super().__init__(message)
        self.interrupted = interrupted


class UnreachableError(BackendError):
    """AWS does not answer. What was submitted goes on."""


class RunInterruptedError(EZBatchError, RuntimeError):
    """The run stands still: finish it by ``run.resume()`` or end it by ``run.cancel()``."""


class WaitTimeoutError(EZBatchError, TimeoutError):
    """``wait(timeout)`` ran out of time. The run itself goes on."""


class JobFailedError(EZBatchError, RuntimeError):
    """A run ended with failed jobs.

    Parameters
    ----------
    message : str
        Which job failed, why, its exit code, the last lines of its log and what to do.
    run_id : str
        The run.
    job : str
        The first job that failed.
    """

    def __init__(self, message: str, *, run_id: str, job: str) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.job = job
