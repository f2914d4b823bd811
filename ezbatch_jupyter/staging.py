"""A cell's script that is too big to be a part of its job goes to the place that the setting ``staging`` names."""

from __future__ import annotations

import dataclasses
import hashlib

from ezbatch.errors import BackendError
from ezbatch.planning import LOCAL, job_problems, oversized
from ezbatch.s3 import S3Mount, S3Mounts
from ezbatch.settings import Settings
from ezbatch.workflow import EZBatchJob, EZBatchWorkflow
from ezbatch_jupyter.cell import Cell, file_command, script_text

__all__ = ["StagedScript", "put", "put_scripts", "staged"]


@dataclasses.dataclass(frozen=True)
class StagedScript:
    """A script and where it goes.

    Parameters
    ----------
    uri : str
        On S3; named for the content, so that the same script is always the same object.
    path : str
        In the container.
    content : bytes
        What is written.
    """

    uri: str
    path: str
    content: bytes


#: The scripts of this session's cells by where they go, which names their content: a workflow made of cells may be
#: submitted elsewhere than where they were put when added.
_SCRIPTS: dict[str, StagedScript] = {}


def staged(cell: Cell, job: EZBatchJob, settings: Settings) -> tuple[EZBatchJob, StagedScript | None]:
    """Return the job that runs the cell's script from S3, where that is needed and helps. Writes nothing.

    Parameters
    ----------
    cell : Cell
        What the cell asks for.
    job : EZBatchJob
        Made from it.
    settings : Settings
        Name the place and, where the job does not, the queue.

    Returns
    -------
    tuple of EZBatchJob and StagedScript
        The job as it was and None where it is not too big, no place is set, or it would be refused all the same.
    """
    if settings.staging is None or not oversized(job):
        return job, None
    content = script_text(cell.script).encode()
    digest = hashlib.sha256(content).hexdigest()
    # A plain process has a directory of its own, but no file system; a container's user may write to /tmp alone.
    folder = "" if (job.queue or settings.queue) == LOCAL else "/tmp/"  # noqa: S108 - the container's own
    script = StagedScript(f"{settings.staging}/scripts/{digest[:32]}", f"{folder}ezbatch-script-{digest[:8]}", content)
    made = dataclasses.replace(
        job,
        command=file_command(cell.script, cell.values.lang, script.path),
        # Mounts of the cell's own have turned the preloader on already, so that nothing changes about them.
        mounts=S3Mounts([*job.mounts.reads, S3Mount(script.uri, script.path, recursive=False)], job.mounts.writes),
        preloader=True,
    )
    if job_problems(made):
        return job, None
    _SCRIPTS[script.uri] = script
    return made, script


def put_scripts(workflow: EZBatchWorkflow, queue: str, settings: Settings) -> None:
    """Write the scripts that a workflow's jobs have from cells where the jobs will look for them.

    Parameters
    ----------
    workflow : EZBatchWorkflow
        What is about to be submitted.
    queue : str
        Of every job that names none.
    settings : Settings
        As for :func:`put`.

    Raises
    ------
    BackendError
        If one was not written.
    """
    for job in workflow.jobs.values() if _SCRIPTS else ():
        for mount in job.mounts.reads:
            if mount.source in _SCRIPTS:
                put(_SCRIPTS[mount.source], job.queue or queue, settings)


def put(script: StagedScript, queue: str, settings: Settings) -> None:
    """Write a script where the jobs of a queue find it.

    Parameters
    ----------
    script : StagedScript
        The script.
    queue : str
        A queue of AWS Batch, or ``local``.
    settings : Settings
        Say what S3 is to jobs on this machine, and how AWS is reached.

    Raises
    ------
    BackendError
        If it was not written.
    """
    from ezbatch.aws import staging as on_aws
    from ezbatch.local import staging as on_this_machine

    here = queue == LOCAL and settings.local_s3_store == "directory"
    try:
        (on_this_machine if here else on_aws).put(script.uri, script.content, settings)
    except BackendError as error:
        message = f"the script cannot be put at {script.uri}, so nothing was submitted: {error}"
        raise BackendError(message) from error
