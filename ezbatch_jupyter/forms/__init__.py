"""Forms: fill in a job or a workflow, see what is wrong, what it costs and how it runs, and take it away as code.

Each edits a draft. ``form.value`` is the spec as it stands, and setting it fills the form. Nothing is sent, and nothing
looked up, before a button is pressed.
"""

from __future__ import annotations

from ezbatch.settings import Settings
from ezbatch.workflow import EZBatchJob, EZBatchWorkflow
from ezbatch_jupyter.forms.code import CellError, from_cell, to_cell, to_python
from ezbatch_jupyter.forms.job import JobForm
from ezbatch_jupyter.forms.mounts import MountsForm
from ezbatch_jupyter.forms.queues import QueueForm
from ezbatch_jupyter.forms.resources import ResourcesForm
from ezbatch_jupyter.forms.workflow import WorkflowForm

__all__ = [
    "CellError",
    "JobForm",
    "MountsForm",
    "QueueForm",
    "ResourcesForm",
    "WorkflowForm",
    "form",
    "from_cell",
    "to_cell",
    "to_python",
]


def form(
    job_or_workflow: EZBatchJob | EZBatchWorkflow | None = None,
    *,
    name: str | None = None,
    settings: Settings | None = None,
) -> JobForm | WorkflowForm:
    """Return a form that shows itself as the value of a cell.

    Parameters
    ----------
    job_or_workflow : EZBatchJob or EZBatchWorkflow, optional
        What to begin with; it is not changed. None is a job that greets.
    name : str, optional
        What a job is called; of a workflow, the job that is chosen at first.
    settings : Settings, optional
        Instead of those that are set.

    Returns
    -------
    JobForm or WorkflowForm
        Its ``value`` is the job or the workflow as it stands, its ``run`` the run once it was submitted.

    Raises
    ------
    TypeError
        If it is neither a job nor a workflow.
    JobNotFoundError
        If the workflow has no job of that name.
    """
    if isinstance(job_or_workflow, EZBatchWorkflow):
        return WorkflowForm(job_or_workflow, job=name, settings=settings)
    if job_or_workflow is None or isinstance(job_or_workflow, EZBatchJob):
        return JobForm(job_or_workflow, name="job" if name is None else name, settings=settings)
    raise TypeError(f"a form is for an EZBatchJob or an EZBatchWorkflow, not a {type(job_or_workflow).__name__}")
