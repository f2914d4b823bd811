"""The form of one job."""

from __future__ import annotations

import ipywidgets

from ezbatch import spec
from ezbatch.errors import InvalidWorkflowError, Problem
from ezbatch.options import DEFAULT_IMAGE
from ezbatch.planning import plan
from ezbatch.run import EZBatchRun
from ezbatch.settings import Settings
from ezbatch.workflow import EZBatchJob, EZBatchWorkflow
from ezbatch_jupyter.cell import command
from ezbatch_jupyter.forms import code
from ezbatch_jupyter.forms._editor import JobEditor, relative
from ezbatch_jupyter.forms._outlet import Outlet, first_places
from ezbatch_jupyter.forms._parts import Form, Page, box, place, under
from ezbatch_jupyter.forms.queues import QueueForm

__all__ = ["JobForm", "field_label"]

_LABELS = {
    "name": "Name",
    "image": "Image",
    "command": "Command",
    "platform": "Platform",
    "vcpus": "vCPU",
    "memory": "Memory",
    "storage_size": "Storage",
    "architecture": "Architecture",
    "gpus": "GPUs",
    "mounts": "S3",
    "queue": "Queue",
    "environment": "Environment",
    "secrets": "Secrets",
    "array": "Array",
    "retries": "Retries",
    "timeout": "Timeout",
    "job_role": "Role",
    "tags": "Tags",
}


def field_label(problem: Problem) -> str:
    """Return what the form calls the field of a problem."""
    return _LABELS.get(place(problem), "the job")


def new_job() -> EZBatchJob:
    """Return what an empty form holds: a script, as a cell has, in the image that a cell gets."""
    return EZBatchJob(DEFAULT_IMAGE, command("echo hello from AWS Batch\n", "sh"))


class JobForm(Form):
    """A form for one job.

    Parameters
    ----------
    job : EZBatchJob, optional
        What to begin with; it is not changed.
    name : str
        What the job is called.
    settings : Settings, optional
        Instead of those that are set.

    Attributes
    ----------
    run : EZBatchRun, optional
        The run, once it was submitted.
    """

    label = "Job form"

    def __init__(self, job: EZBatchJob | None = None, *, name: str = "job", settings: Settings | None = None) -> None:
        super().__init__()
        self.settings = settings or Settings.load()
        self.page = Page(label=self.label)
        self.run: EZBatchRun | None = None
        given = job if job is not None else new_job()
        self.editor = JobEditor(name, given, page=self.get_page, settings=self.settings, queue=lambda: self.queue)
        self.queues = QueueForm(
            given.queue, platforms=lambda: {self.editor.resources.platform.value}, settings=self.settings
        )
        self.outlet = Outlet(self)
        heading = box(
            ipywidgets.HTML("<h3>Job</h3>"),
            box(ipywidgets.HTML('<span class="ez-note">A draft: nothing is sent before you press a button.</span>'),
                kind="ez-push"),
            kind="ez-sechead",
        )  # fmt: skip
        editor = self.editor
        self.widget = box(
            box(heading, editor.fields, kind="ez-sec"),
            editor.resources.section,
            editor.mounts.widget,
            self.queues.widget,
            box(editor.variables.widget, editor.resources.times.widget, editor.others.widget, kind="ez-folds"),
            self.outlet.widget,
            kind="ez-body",
        )
        editor.on_change(self.changed)
        self.queues.on_change(self.changed)
        self._refresh()

    @property
    def name(self) -> str:
        """What the job is called."""
        return self.editor.name.value

    @name.setter
    def name(self, name: str) -> None:
        with self._silently():
            self.editor.name.value = name
        self._refresh()

    @property
    def value(self) -> EZBatchJob:
        """The job.

        Raises
        ------
        InvalidWorkflowError
            If a field holds what cannot be read.
        SpecTypeError
            When it is set, if it is no job.
        """
        errors = self.editor.errors()
        if errors:
            raise InvalidWorkflowError(self.name, errors)
        return self._draft()

    @value.setter
    def value(self, job: EZBatchJob) -> None:
        if not isinstance(job, EZBatchJob):
            raise spec.wrong("the value of a job's form", "an EZBatchJob", job)
        with self._silently():
            self.editor.set(job)
            self.queues.value = job.queue
        self._refresh()

    def _draft(self) -> EZBatchJob:
        job = self.editor.value
        job.queue = self.queues.value
        return job

    @property
    def workflow(self) -> EZBatchWorkflow:
        """The workflow that is submitted: of this one job."""
        return EZBatchWorkflow(self.name, {self.name: self._draft()})

    @property
    def queue(self) -> str:
        """Where the job would go."""
        return self.queues.effective

    def problems(self) -> list[Problem]:
        """Return everything that stands against submitting it; the places are the job's fields."""
        errors = self.editor.errors()
        workflow = self.workflow
        try:
            plan(workflow, self.queue)
        except InvalidWorkflowError as error:
            own, others = relative(error.problems, self.name)
            # The job's queue is the workflow's: what is wrong with it is said once.
            found = dict.fromkeys(
                Problem("name" if p.where == "name" else p.where, p.what, p.remedy) for p in [*own, *others]
            )
            return [*errors, *found]
        return errors

    def _refresh(self) -> None:
        problems = self.problems()
        rest = self.editor.show(problems, local=self.queues.local)
        if rest:
            # What is wrong with the job as a whole is its size, of which most is the command.
            self.editor.command.show([*under(problems, "command"), *rest])
        self.queues.show(under(problems, "queue"))
        self.outlet.show(problems, first_places(problems, field_label))

    def changed(self) -> None:
        """Say that a person changed something."""
        if not self._silent:
            self.outlet.edited()
        super().changed()

    def python(self) -> str:
        """Return Python that makes the job again."""
        return code.to_python(self.value, self.name, self.queue)

    def cell(self) -> str:
        """Return the ``%%ezbatch`` cell that makes the job again."""
        return code.to_cell(self.value, self.name)

    @property
    def in_cell(self) -> str:
        """What of the draft is in the cell, if not all."""
        return ""

    def field_of(self, problem: Problem) -> str:
        """Return what the form calls the field of a problem."""
        own, _others = relative([problem], self.name)
        return field_label(own[0] if own else problem)

    def submitted(self, run: EZBatchRun) -> None:
        """Take the run that the form became."""
        self.run = run
