"""The fields of one job, as the job's form and the workflow's form lay them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets

from ezbatch.errors import Problem
from ezbatch.planning import count_text
from ezbatch.settings import Settings
from ezbatch.spec import path
from ezbatch.workflow import EZBatchJob
from ezbatch_jupyter.forms import code
from ezbatch_jupyter.forms._parts import Choice, Entry, Fold, Form, Page, Pairs, Slot, box, markup, place, under
from ezbatch_jupyter.forms.mounts import MountsForm
from ezbatch_jupyter.forms.resources import ResourcesForm

__all__ = ["JobEditor", "named", "relative"]

_LINE, _WORDS = "line", "words"
_LANGUAGES = [
    ("as one command", _LINE),
    ("sh script", "sh"),
    ("bash script", "bash"),
    ("Python script", "python"),
    ("words, no shell", _WORDS),
]


def named(text: str) -> str:
    """Return a job's name.

    Raises
    ------
    ValueError
        If it is empty.
    """
    if not text.strip():
        raise ValueError("the job has no name: call it what you like")
    return text


class CommandInput:
    """A command: a string, a script in a language, or words."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.kind: Choice[str] = Choice("Runs", _LANGUAGES, self._chosen, kind="ez-bare ez-short")
        self.entry: Entry[Any] = Entry("Command", "command", self._read, self._write, changed, kind="ez-code", lines=4)
        self.slot = Slot(always=True)
        self.widget = box(
            self.entry.widget,
            box(self.kind.widget, self.slot.widget, kind="ez-indent ez-runs"),
            kind="ez-stack ez-group",
        )
        self.value = ""

    @property
    def value(self) -> str | list[str]:
        """The command, as a job takes it."""
        value: str | list[str] = self.entry.value
        return value

    @value.setter
    def value(self, command: str | list[str]) -> None:
        script = code.script_of(command)
        self.kind.value = _LINE if isinstance(command, str) else script[0] if script else _WORDS
        self.entry.value = command

    @property
    def error(self) -> Problem | None:
        """What cannot be read."""
        return self.entry.error

    def _read(self, text: str) -> str | list[str]:
        import shlex

        from IPython.core.error import UsageError

        from ezbatch_jupyter import cell

        kind = self.kind.value
        if kind == _LINE:
            return text
        if kind == _WORDS:
            try:
                return shlex.split(text)
            except ValueError as error:
                raise ValueError(f"{str(error).lower()}: close the quote") from None
        try:
            # As a cell's body, a script ends its last line.
            return cell.command(text if text.endswith("\n") else f"{text}\n", kind)
        except UsageError as error:
            raise ValueError(str(error)) from None

    def _write(self, command: str | list[str]) -> str:
        import shlex

        if isinstance(command, str):
            return command
        script = code.script_of(command)
        return shlex.join(command) if script is None else script[1].removesuffix("\n")

    def _chosen(self) -> None:
        """Take the text that stands there for a command of another kind."""
        text = self.entry.text
        try:
            value = self._read(text)
        except ValueError:
            # The text stays, and its problem shows.
            self.entry._typed({"new": text})  # noqa: SLF001 - typed once more, as it were
            return
        kind = self.kind.value
        self.entry.value = value
        self.kind.value = kind
        if self.entry.text != text.removesuffix("\n"):
            self.entry.widget.value = text
        self._changed()

    def note(self) -> str:
        """Return how it is run."""
        command = self.value
        if isinstance(command, str):
            if not command.strip():
                return ""
            if EZBatchJob("", command).uses_shell:
                return "It has shell syntax, so <code>/bin/sh -c</code> runs it."
            return "It is run as it stands, without a shell."
        if self.kind.value == _WORDS:
            return f"{count_text(len(command), 'word')}, run as they stand, without a shell."
        if self.entry.text.lstrip("\n").startswith("#!"):
            return "Its #! line says what runs it."
        return f"The image's {'python3' if self.kind.value == 'python' else self.kind.value} runs it, as in a cell."

    def show(self, problems: Sequence[Problem]) -> None:
        """Show the problems of the command."""
        self.entry.mark(problems)
        self.slot.show(problems, self.note())


class JobEditor(Form):
    """The fields of one job.

    Parameters
    ----------
    name : str
        What the job is called.
    job : EZBatchJob
        What to begin with.
    page : callable
        Returns the page of the form that this is part of.
    settings : Settings
        Profile, Region, and the directory that stands for S3.
    queue : callable
        Returns where the job would go.
    rename : callable
        From the text of the name to the name; raises ValueError.
    after : widget, optional
        What stands below the command.
    own_queue : bool
        Whether the job's own queue is a field here.
    """

    label = "Job"

    def __init__(
        self,
        name: str,
        job: EZBatchJob,
        *,
        page: Callable[[], Page | None],
        settings: Settings,
        queue: Callable[[], str],
        rename: Callable[[str], str] = named,
        after: Any = None,  # noqa: ANN401 - a widget
        own_queue: bool = False,
    ) -> None:
        super().__init__()
        self._get_page = page
        self.own_queue = own_queue
        text: Callable[[str], str] = str
        self.name: Entry[str] = Entry("Name", "name", rename, str, self.changed)
        self.image: Entry[str] = Entry(
            "Image", "image", text, str, self.changed, kind="ez-code", placeholder="python:3.12-slim"
        )
        self.command = CommandInput(self.changed)
        self.name_slot, self.image_slot = Slot(), Slot()
        self.resources = ResourcesForm(job)
        self.mounts = MountsForm(queue=queue, settings=settings)
        self.environment = Pairs("environment", ("variable", "Value of the variable"), self.changed, page, masked=True)
        self.secrets = Pairs("secrets", ("secret", "ARN of a secret or parameter"), self.changed, page)
        self.tags = Pairs("tags", ("tag", "Value of the tag"), self.changed, page)
        self.role: Entry[str | None] = Entry(
            "Job role", "job_role", lambda t: t or None, lambda v: v or "", self.changed, kind="ez-code",
            placeholder="arn:aws:iam::ACCOUNT:role/NAME",
        )  # fmt: skip
        self.queue: Entry[str | None] = Entry(
            "Queue", "queue", lambda t: t or None, lambda v: v or "", self.changed, kind="ez-code",
            placeholder="that of the workflow",
        )  # fmt: skip
        self.role_slot, self.queue_slot = Slot(), Slot()
        self.variables = Fold(
            "Environment and secrets",
            _caption("Variables"),
            self.environment.widget,
            _caption("Secrets"),
            self.secrets.widget,
        )
        others = [
            box(self.role.widget, self.role_slot.widget, kind="ez-stack ez-group"),
            _caption("Tags"),
            self.tags.widget,
        ]
        if own_queue:
            others.insert(0, box(self.queue.widget, self.queue_slot.widget, kind="ez-stack ez-group"))
        self.others = Fold("Queue, role and tags" if own_queue else "Role and tags", *others)
        self.fields = box(
            box(self.name.widget, self.name_slot.widget, kind="ez-beside ez-group"),
            box(self.image.widget, self.image_slot.widget, kind="ez-beside ez-group"),
            self.command.widget,
            *([] if after is None else [after]),
            kind="ez-fields",
        )
        for part in (self.resources, self.mounts):
            part.on_change(self.changed)
        self.name.value = name
        self._load(job)

    def get_page(self) -> Page | None:
        return self._get_page()

    def _load(self, job: EZBatchJob) -> None:
        with self._silently():
            self.image.value = job.image
            self.command.value = job.command
            self.resources.value = {field: getattr(job, field) for field in self.resources.value}
            self.mounts.preloader = job.preloader
            self.mounts.value = job.mounts
            self.environment.value = job.environment
            self.secrets.value = job.secrets
            self.tags.value = job.tags
            self.role.value = job.job_role
            self.queue.value = job.queue

    @property
    def value(self) -> EZBatchJob:
        """The job, as far as it can be read."""
        fields = self.resources.value
        return EZBatchJob(
            self.image.value,
            self.command.value,
            environment=self.environment.value,
            mounts=self.mounts.value,
            tags=self.tags.value,
            queue=self.queue.value,
            preloader=self.mounts.preloader,
            secrets=self.secrets.value,
            job_role=self.role.value,
            **fields,
        )

    def set(self, job: EZBatchJob) -> None:
        """Fill the fields, all but the name."""
        self.mounts.page = self.get_page()
        self._load(job)

    def fill(self, name: str, job: EZBatchJob) -> None:
        """Fill the fields and the name with another job's, whose values nobody asked to see."""
        with self._silently():
            self.environment.show_values.value = False
            self.name.value = name
        self.set(job)

    def errors(self) -> list[Problem]:
        """Return what cannot be read."""
        entries: list[Any] = [self.name, self.image, self.command, self.role, self.queue]
        found = [entry.error for entry in entries if entry.error is not None]
        for part in (self.environment, self.secrets, self.tags):
            found += part.errors()
        return [*found, *self.resources.errors(), *self.mounts.errors()]

    def show(self, problems: Sequence[Problem], *, local: bool) -> list[Problem]:
        """Show the problems of the job, each at its field, and return those that have no field."""
        self.mounts.page = self.get_page()
        self.name.mark(under(problems, "name"))
        self.name_slot.show(under(problems, "name"))
        self.image.mark(under(problems, "image"))
        self.image_slot.show(under(problems, "image"))
        self.command.show(under(problems, "command"))
        self.resources.show(problems, local=local)
        self.mounts.show(under(problems, "mounts"))
        self.environment.show(under(problems, "environment"))
        self.secrets.show(under(problems, "secrets"))
        self.tags.show(under(problems, "tags"))
        self.role.mark(under(problems, "job_role"))
        self.role_slot.show(under(problems, "job_role"))
        self.queue.mark(under(problems, "queue"))
        self.queue_slot.show(under(problems, "queue") if self.own_queue else [])
        self._say(problems)
        known = {"name", "image", "command", "environment", "secrets", "tags", "job_role", "mounts", "queue"}
        known |= set(self.resources.value)
        return [problem for problem in problems if place(problem) not in known]

    def _say(self, problems: Sequence[Problem]) -> None:
        names, arns, tags = self.environment.value, self.secrets.value, self.tags.value
        bad = len(under(problems, "environment", "secrets"))
        said = [count_text(len(names), "variable")] if names else []
        said += [count_text(len(arns), "secret")] if arns else []
        self.variables.say(count_text(bad, "problem") if bad else ", ".join(said) or "none", bad=bool(bad))
        bad = len(under(problems, "job_role", "tags", *(("queue",) if self.own_queue else ())))
        said = ["the default role" if self.role.value is None else self.role.value.rpartition("/")[2]]
        said.append(count_text(len(tags), "tag") if tags else "no tags")
        if self.own_queue:
            said.insert(0, self.queue.value or "the workflow's queue")
        self.others.say(count_text(bad, "problem") if bad else ", ".join(said), bad=bool(bad))


def _caption(text: str) -> Any:  # noqa: ANN401 - a widget
    made = ipywidgets.HTML(markup(text))
    made.add_class("ez-subhead")
    return made


def relative(problems: Sequence[Problem], name: str) -> tuple[list[Problem], list[Problem]]:
    """Part a workflow's problems in those of one job, with the places in it, and the others."""
    prefix = path("jobs", name)
    own, others = [], []
    for problem in problems:
        rest = problem.where.removeprefix(prefix)
        if problem.where.startswith(prefix) and rest[:1] in (".", "[", ""):
            own.append(Problem(rest.lstrip("."), problem.what, problem.remedy))
        else:
            others.append(problem)
    return own, others
