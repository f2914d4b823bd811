"""The form of a workflow: its graph, the chosen job's fields, the plan and what it costs."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets

from ezbatch import cost, spec
from ezbatch.errors import InvalidWorkflowError, JobNotFoundError, Problem
from ezbatch.planning import LOCAL, Plan, count_text, plan, size_text
from ezbatch.run import EZBatchRun
from ezbatch.settings import Settings
from ezbatch.workflow import EZBatchJob, EZBatchWorkflow
from ezbatch_jupyter.forms import code
from ezbatch_jupyter.forms._editor import JobEditor, named, relative
from ezbatch_jupyter.forms._outlet import Outlet, first_places
from ezbatch_jupyter.forms._parts import (
    CROSS,
    Choice,
    Entry,
    Fold,
    Form,
    Page,
    Slot,
    after_edits,
    box,
    button,
    discard,
    markup,
    place,
    under,
)
from ezbatch_jupyter.forms.graph import GraphInput
from ezbatch_jupyter.forms.job import field_label, new_job
from ezbatch_jupyter.forms.queues import QueueForm
from ezbatch_jupyter.forms.resources import short_duration
from ezbatch_jupyter.rows import shorten

__all__ = ["WorkflowForm"]

#: Rows of the plan that are shown.
_ROWS = 60
_NONE = "\N{EN DASH}"


class _Card:
    """What the form keeps of a job that was opened: its fields, and what it waits for."""

    def __init__(self, owner: WorkflowForm, name: str, job: EZBatchJob) -> None:
        self.owner = owner
        self.key = name
        # A page makes what stands after a change in a box anew: the list would lose the focus among the tags.
        self._tags: Any = box(kind="ez-taglist")
        self.parent: Choice[str] = Choice("Job to wait for", [("choose a job", "")], lambda: None, kind="ez-bare")
        self.add_button = button("Add", self._added, tooltip="Let this job wait for the chosen one")
        self.slot = Slot()
        self.after = box(
            ipywidgets.HTML('<div class="ez-caption">After</div>'),
            box(
                box(self._tags, box(self.parent.widget, self.add_button, kind="ez-tagadd"), kind="ez-tags"),
                self.slot.widget,
                kind="ez-stack",
            ),
            kind="ez-after ez-group",
        )
        self._shown: list[str] | None = None
        self.editor = JobEditor(
            name,
            job,
            page=owner.get_page,
            settings=owner.settings,
            queue=lambda: self.editor.queue.value or owner.queue,
            rename=self._rename,
            after=self.after,
            own_queue=True,
        )
        self.heading = ipywidgets.HTML("")
        editor = self.editor
        self.s3 = Fold("S3", editor.mounts.head, editor.mounts.content)
        editor.mounts.heading.layout.display = "none"
        editor.resources.section.children = [editor.resources.size, editor.resources.cost]
        self.widget = box(
            box(box(self.heading, kind="ez-sechead"), editor.fields, kind="ez-sec"),
            editor.resources.section,
            box(
                self.s3.widget,
                editor.variables.widget,
                editor.resources.times.widget,
                editor.others.widget,
                kind="ez-folds",
            ),
        )
        editor.on_change(lambda: owner.edited(self))

    def fill(self, name: str, job: EZBatchJob) -> None:
        """Take another job in the place of this one."""
        self.key = name
        self.editor.fill(name, job)

    def _rename(self, text: str) -> str:
        name = named(text)
        if name != self.key and self.owner.has(name):
            raise ValueError("another job has this name: choose another")
        return name

    def _added(self) -> None:
        if self.parent.value:
            self.owner.connect(self.parent.value, self.key)
            self._go_back()
        elif self.owner.page is not None:
            self.owner.page.focus("ez-tagadd")

    def _left(self, name: str) -> None:
        self.owner.disconnect(name, self.key)
        self._go_back()

    def _go_back(self) -> None:
        """Move the focus from a button that has gone."""
        if self.owner.page is not None:
            self.owner.page.focus("ez-tags")

    def show(self, parents: Sequence[str], possible: Sequence[str], problems: Sequence[Problem]) -> None:
        """Show what the job waits for, and what it could wait for without a cycle."""
        if self._shown != list(parents):
            self._shown = list(parents)
            tags = []
            for name in dict.fromkeys(parents):
                text = shorten(name, 32) + ("" if self.owner.has(name) else " (no such job)")
                leave = functools.partial(self._left, name)
                tags.append(button(f"{text} {CROSS}", leave, "ez-tag", f"Remove {name}"))
            before = self._tags.children
            self._tags.children = tags
            for tag in before:
                discard(tag)
        first = "choose a job" if possible else "no other job can come before"
        chosen = self.parent.value if self.parent.value in possible else ""
        self.parent.offer([(first, ""), *((name, name) for name in possible)], chosen)
        # Add is not off until a job is chosen: a Tab that comes before the kernel's answer would pass it over.
        self.parent.widget.disabled = self.add_button.disabled = not possible
        self.slot.show(problems)


class WorkflowForm(Form):
    """A form for a workflow.

    Parameters
    ----------
    workflow : EZBatchWorkflow, optional
        What to begin with; it is not changed.
    job : str, optional
        The job that is chosen at first.
    settings : Settings, optional
        Instead of those that are set.

    Attributes
    ----------
    run : EZBatchRun, optional
        The run, once it was submitted.

    Raises
    ------
    JobNotFoundError
        If the workflow has no job of the name that is to be chosen.
    """

    label = "Workflow form"

    def __init__(
        self, workflow: EZBatchWorkflow | None = None, *, job: str | None = None, settings: Settings | None = None
    ) -> None:
        super().__init__()
        self.settings = settings or Settings.load()
        self.page = Page(label=self.label)
        self.run: EZBatchRun | None = None
        self._jobs: dict[str, EZBatchJob] = {}
        self._dependencies: dict[str, list[str]] = {}
        self._cards: dict[str, _Card] = {}
        self._spare: _Card | None = None
        self.selected = ""
        self.name: Entry[str] = Entry("Workflow", "name", _workflow_name, str, self.changed, kind="ez-first")
        self.name_slot = Slot()
        self.queues = QueueForm(None, platforms=self._platforms, settings=self.settings)
        self.queues.heading.layout.display = "none"
        self.queue_fold = Fold("Queue", self.queues.widget)
        self.summary = ipywidgets.HTML("")
        self.graph = GraphInput(self.select, self._show_choice)
        self.add_button = button("Add job", self.add)
        self.duplicate_button = button("Duplicate", self.duplicate)
        self.remove_button = button("Remove", self.remove)
        self.job_choice: Choice[str] = Choice("Job", [("", "")], self._job_chosen, kind="ez-bare")
        self._side = box(kind="ez-side")
        self._no_job = ipywidgets.HTML('<div class="ez-sec ez-note">There is no job yet: add one.</div>')
        self.plan_note = ipywidgets.HTML("")
        self.plan_table = ipywidgets.HTML("")
        self.plan_table.add_class("ez-plan")
        self.outlet = Outlet(self)
        canvas = box(
            self.graph.widget,
            box(self.add_button, self.duplicate_button, self.remove_button, self.job_choice.widget, kind="ez-tools"),
            kind="ez-canvas",
        )
        self.widget = box(
            box(self.name.widget, self.name_slot.widget, box(self.summary, kind="ez-push"), kind="ez-top ez-group"),
            self.queue_fold.widget,
            box(canvas, self._side, kind="ez-split"),
            box(
                box(ipywidgets.HTML("<h3>Plan</h3>"), self.plan_note, kind="ez-sechead"), self.plan_table, kind="ez-sec"
            ),
            self.outlet.widget,
            kind="ez-body",
        )
        self.queues.on_change(self.changed)
        given = workflow if workflow is not None else EZBatchWorkflow("workflow", {"first job": new_job()})
        if job is not None and job not in given.jobs:
            raise JobNotFoundError(f"workflow {given.name!r} has no job {job!r}{spec.nearest(job, given.jobs)}")
        self._fill(given, job)

    # The draft

    def _fill(self, workflow: EZBatchWorkflow, job: str | None = None) -> None:
        for card in list(self._cards.values()):
            self._put_aside(card)
        with self._silently():
            self._jobs = {name: copy.deepcopy(each) for name, each in workflow.jobs.items()}
            self._dependencies = {name: list(parents) for name, parents in workflow.dependencies.items()}
            self.name.value = workflow.name
            self.selected = next(iter(self._jobs), "") if job is None else job
        self._refresh()

    @property
    def workflow(self) -> EZBatchWorkflow:
        """The workflow, as far as it can be read."""
        jobs = {
            name: self._cards[name].editor.value if name in self._cards else job for name, job in self._jobs.items()
        }
        dependencies = {name: list(parents) for name, parents in self._dependencies.items()}
        return EZBatchWorkflow(self.name.value, jobs, dependencies)

    @property
    def value(self) -> EZBatchWorkflow:
        """The workflow.

        Raises
        ------
        InvalidWorkflowError
            If a field holds what cannot be read.
        SpecTypeError
            When it is set, if it is no workflow.
        """
        errors = self._errors()
        if errors:
            raise InvalidWorkflowError(self.name.value, errors)
        return copy.deepcopy(self.workflow)

    @value.setter
    def value(self, workflow: EZBatchWorkflow) -> None:
        if not isinstance(workflow, EZBatchWorkflow):
            raise spec.wrong("the value of a workflow's form", "an EZBatchWorkflow", workflow)
        self._fill(workflow)

    @property
    def queue(self) -> str:
        """Where the jobs go that name no queue."""
        return self.queues.effective

    def _platforms(self) -> set[str]:
        return {job.platform for job in self._jobs.values()}

    def _errors(self) -> list[Problem]:
        found = [] if self.name.error is None else [self.name.error]
        for name, card in self._cards.items():
            for problem in card.editor.errors():
                # The name that cannot be read is not in the places.
                where = spec.path("jobs", name)
                found.append(
                    Problem(
                        f"{where}{'.' if problem.where[:1] != '[' else ''}{problem.where}", problem.what, problem.remedy
                    )
                )
        return found

    def problems(self) -> list[Problem]:
        """Return everything that stands against submitting it."""
        return self._look()[0]

    def _look(self) -> tuple[list[Problem], Plan | None]:
        errors = self._errors()
        try:
            made = plan(self.workflow, self.queue)
        except InvalidWorkflowError as error:
            return [*errors, *error.problems], None
        return errors, made

    # What a person does

    def card(self, name: str) -> _Card:
        """Return what is kept of a job that is open, or that was left with what cannot be read."""
        if name not in self._cards:
            card = self._spare
            if card is None:
                card = next((each for each in self._cards.values() if not each.editor.errors()), None)
            if card is None:
                card = _Card(self, name, self._jobs[name])
            else:
                # A page needs a second or two to make so many inputs: those of another job are filled anew.
                if self._cards.get(card.key) is card:
                    self._jobs[card.key] = card.editor.value
                    del self._cards[card.key]
                self._spare = None
                card.fill(name, self._jobs[name])
            self._cards[name] = card
        return self._cards[name]

    def _put_aside(self, card: _Card) -> None:
        """Keep the inputs of a job that has gone for the next one."""
        del self._cards[card.key]
        if self._spare is None:
            self._spare = card
        else:
            discard(card.widget)

    @property
    def editor(self) -> JobEditor:
        """The fields of the chosen job."""
        return self.card(self.selected).editor

    def select(self, name: str) -> None:
        """Choose a job."""
        if name in self._jobs and name != self.selected:
            self.selected = name
            self._refresh()

    def _job_chosen(self) -> None:
        name = self.job_choice.value
        after_edits(lambda: self.select(name))

    def _fresh(self, stem: str) -> str:
        name, number = stem, 2
        while name in self._jobs:
            name, number = f"{stem} {number}", number + 1
        return name

    def add(self) -> None:
        """Add a job, and go there."""
        self._insert(self._fresh("job"), new_job(), [])

    def duplicate(self) -> None:
        """Add a job like the chosen one, with the same parents."""
        if self.selected:
            job = copy.deepcopy(self.workflow.jobs[self.selected])
            self._insert(self._fresh(self.selected), job, self._dependencies.get(self.selected, []))

    def _insert(self, name: str, job: EZBatchJob, parents: Sequence[str]) -> None:
        self._jobs[name] = job
        if parents:
            self._dependencies[name] = list(parents)
        self.selected = name
        self.changed()
        if self.page is not None:
            self.page.focus("ez-fields")

    def remove(self) -> None:
        """Remove the chosen job, and what others waited for in it."""
        name = self.selected
        if name not in self._jobs:
            return
        order = list(self._jobs)
        at = order.index(name)
        del self._jobs[name]
        if name in self._cards:
            self._put_aside(self._cards[name])
        self._dependencies.pop(name, None)
        for child, parents in list(self._dependencies.items()):
            if name in parents:
                self._set_parents(child, [parent for parent in parents if parent != name])
        rest = list(self._jobs)
        self.selected = rest[min(at, len(rest) - 1)] if rest else ""
        self.changed()

    def connect(self, parent: str, child: str) -> None:
        """Let a job wait for another; what would make a cycle is not done."""
        if parent in self._possible(child):
            self._set_parents(child, [*self._dependencies.get(child, []), parent])
            self.changed()

    def disconnect(self, parent: str, child: str) -> None:
        """Let a job wait for another no longer."""
        self._set_parents(child, [name for name in self._dependencies.get(child, []) if name != parent])
        self.changed()

    def _set_parents(self, child: str, parents: list[str]) -> None:
        if parents:
            self._dependencies[child] = parents
        else:
            self._dependencies.pop(child, None)

    def _possible(self, child: str) -> list[str]:
        """Return the jobs that a job could wait for: not itself, not what waits for it, not what it waits for."""
        below = {child}
        ready = [child]
        children: dict[str, list[str]] = {}
        for name, parents in self._dependencies.items():
            for parent in parents:
                children.setdefault(parent, []).append(name)
        for name in ready:
            for each in children.get(name, ()):
                if each not in below:
                    below.add(each)
                    ready.append(each)
        above = self._dependencies.get(child, [])
        return [name for name in self._jobs if name not in below and name not in above]

    def has(self, name: str) -> bool:
        """Return whether a job has this name."""
        return name in self._jobs

    def edited(self, card: _Card) -> None:
        """Take what a person changed of a job."""
        if self._cards.get(card.key) is not card:  # typed while it was taken away
            return
        name = card.editor.name.value
        if name != card.key:
            self._renamed(card.key, name)
        self.changed()

    def _renamed(self, old: str, new: str) -> None:
        def word(name: str) -> str:
            return new if name == old else name

        self._jobs = {word(name): job for name, job in self._jobs.items()}
        self._dependencies = {
            word(name): [word(parent) for parent in parents] for name, parents in self._dependencies.items()
        }
        self._cards = {word(name): card for name, card in self._cards.items()}
        self._cards[new].key = new
        self.selected = word(self.selected)

    # What is shown

    def changed(self) -> None:
        """Say that a person changed something."""
        if not self._silent:
            self.outlet.edited()
        super().changed()

    def _refresh(self) -> None:
        problems, made = self._look()
        workflow = self.workflow
        self.name.mark(under(problems, "name"))
        self.name_slot.show([p for p in problems if p.where in ("name", "jobs")])
        self.queues.show([p for p in problems if p.where == "queue"])
        self.queue_fold.say(self.queues.summary, bad=any(p.where == "queue" for p in problems))
        sizes = [job.array_size for job in workflow.jobs.values() if job.array is not None]
        arrays = f", one an array of {sizes[0]:,}" if len(sizes) == 1 else f", {len(sizes)} arrays" if sizes else ""
        self.summary.value = f'<span class="ez-note">{count_text(len(workflow.jobs), "job")}{arrays}</span>'
        bad = {name for name in workflow.jobs if _told(problems, name)}
        self.graph.show(workflow, frozenset(bad), self.selected)
        self._refresh_tools()
        self._refresh_card(problems)
        self._refresh_plan(problems, made)
        self.outlet.show(problems, first_places(problems, self.field_of))

    def _refresh_tools(self) -> None:
        names = list(self._jobs)
        shown = shorten(self.selected, 24)
        self.remove_button.description = f"Remove {shown}" if names else "Remove"
        self.remove_button.disabled = self.duplicate_button.disabled = not names
        if names:
            self.job_choice.offer([(name, name) for name in names], self.selected)
        self._show_choice()

    def _show_choice(self) -> None:
        """Let jobs be chosen from a list where a drawing of many shows some of them together."""
        self.job_choice.widget.layout.display = None if self.graph.grouped else "none"

    def _refresh_card(self, problems: Sequence[Problem]) -> None:
        if not self.selected:
            self._side.children = [self._no_job]
            return
        card = self.card(self.selected)
        own, others = relative(problems, self.selected)
        local = (card.editor.queue.value or self.queue) == LOCAL
        card.heading.value = f"<h3>{markup(self.selected)}</h3>"
        rest = card.editor.show(own, local=local)
        if rest:
            card.editor.command.show([*under(own, "command"), *rest])
        mine = spec.path("dependencies", self.selected)
        card.show(
            self._dependencies.get(self.selected, []),
            self._possible(self.selected),
            [p for p in others if p.where in (mine, "dependencies")],
        )
        bad = under(own, "mounts")
        card.s3.say(count_text(len(bad), "problem") if bad else card.editor.mounts.summary, bad=bool(bad))
        if list(self._side.children) != [card.widget]:
            self._side.children = [card.widget]

    def _refresh_plan(self, problems: Sequence[Problem], made: Plan | None) -> None:
        if made is None:
            left = f"{count_text(len(problems), 'problem')} {'is' if len(problems) == 1 else 'are'}"
            self.plan_note.value = f'<span class="ez-note">It can be made when {left} fixed.</span>'
            self.plan_table.add_class("ez-old")
            return
        self.plan_table.remove_class("ez-old")
        guess = cost.estimate(made)
        joins = sum(job.join for job in made.jobs)
        facts = [
            f"{count_text(len(made.jobs), 'request')} to submit",
            count_text(len(made.definitions), "job definition"),
            count_text(joins, "join") if joins else "no joins",
        ]
        text = f"{', '.join(facts)}. Prices: Fargate, {guess.region}, {guess.date}."
        self.plan_note.value = f'<span class="ez-note">{markup(text)}</span>'
        self.plan_table.value = _table(made, guess, self.selected)

    def field_of(self, problem: Problem) -> str:
        """Return what the form calls the field of a problem."""
        for name in self._jobs:
            own, _others = relative([problem], name)
            if own:
                return f"{field_label(own[0])} of {name}" if len(self._jobs) > 1 else field_label(own[0])
        return {"name": "Workflow", "jobs": "Jobs", "queue": "Queue", "dependencies": "After"}.get(
            place(problem), "Workflow"
        )

    # Out

    def python(self) -> str:
        """Return Python that makes the workflow again."""
        return code.to_python(self.value, queue=self.queue)

    def cell(self) -> str:
        """Return the ``%%ezbatch`` cell that makes the chosen job again."""
        if not self.selected:
            raise code.CellError("there is no job")
        return code.to_cell(self.value.jobs[self.selected], self.selected)

    @property
    def in_cell(self) -> str:
        """What of the draft is in the cell, if not all."""
        return f"the job {shorten(self.selected, 40)} alone" if len(self._jobs) > 1 else ""

    def submitted(self, run: EZBatchRun) -> None:
        """Take the run that the form became."""
        self.run = run


def _workflow_name(text: str) -> str:
    if not text.strip():
        raise ValueError("the workflow has no name: call it what you like")
    return text


def _told(problems: Sequence[Problem], name: str) -> bool:
    return bool(relative(problems, name)[0]) or any(p.where == spec.path("dependencies", name) for p in problems)


def _table(made: Plan, guess: cost.Estimate, selected: str) -> str:
    rows: Mapping[str, cost.EstimateRow] = {row.name: row for row in guess.rows}
    jobs = sorted((job for job in made.jobs if not job.join), key=lambda job: job.stage)
    heads = [
        ("Stage", "ez-opt"),
        ("Job", ""),
        ("Array", "ez-num"),
        ("Size", "ez-size"),
        ("An hour, each", "ez-num ez-opt"),
        ("Timeout", "ez-num"),
        ("At most", "ez-num"),
    ]
    lines = ["<thead><tr>", *(f'<th class="{kind}">{text}</th>' for text, kind in heads), "</tr></thead><tbody>"]
    stage = 0
    for job in jobs[:_ROWS]:
        row = rows[job.name]
        count = f"{row.count:,}" if job.array_size or job.indices is not None else _NONE
        cells = [
            str(job.stage) if job.stage != stage else "",
            shorten(job.name, 40),
            count,
            size_text(job.vcpus, job.memory, job.gpus),
            cost.about(row.hourly.total, row.approximate),
            _NONE if job.timeout is None else short_duration(job.timeout),
            cost.about(row.at_most, row.approximate),
        ]
        stage = job.stage
        picked = ' class="ez-picked"' if job.name == selected else ""
        lines.append(f"<tr{picked}>")
        lines += [f'<td class="{kind}">{markup(text)}</td>' for (_head, kind), text in zip(heads, cells, strict=True)]
        lines.append("</tr>")
    lines.append("</tbody><tfoot><tr><td class='ez-opt'></td><td colspan='3'>")
    lines.append(
        "If every attempt ran until its timeout" if guess.at_most is not None else "A minute each, and no limit"
    )
    most = cost.about(guess.at_most if guess.at_most is not None else guess.at_least, guess.approximate)
    more = "" if guess.at_most is not None else "from "
    lines.append(f"</td><td class='ez-opt'></td><td></td><td class='ez-num'>{more}{most}</td></tr></tfoot>")
    notes = [f"{note}." for note in guess.notes]
    if len(jobs) > _ROWS:
        notes.insert(0, f"And {len(jobs) - _ROWS:,} more jobs.")
    return f'<table class="ez-plantable">{"".join(lines)}</table><div class="ez-note">{markup(" ".join(notes))}</div>'
