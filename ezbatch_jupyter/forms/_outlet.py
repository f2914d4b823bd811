"""The foot of a form: check it, take it away as code or as a file, submit it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import ipywidgets

from ezbatch import names
from ezbatch.errors import EZBatchError, InvalidWorkflowError, Problem
from ezbatch.ledger import Ledger
from ezbatch.planning import LOCAL, count_text, plan
from ezbatch.run import EZBatchRun, backend_for, submit
from ezbatch.settings import Settings
from ezbatch.workflow import EZBatchWorkflow
from ezbatch_jupyter.forms import _live
from ezbatch_jupyter.forms._parts import Page, box, button, markup, state_html
from ezbatch_jupyter.forms._work import TooLongError, in_background, in_turn
from ezbatch_jupyter.forms.code import CellError
from ezbatch_jupyter.staging import put_scripts

__all__ = ["Outlet"]

#: Seconds a check may take; a submission ends by itself.
_CHECK, _SUBMIT = 30.0, 86_400.0
#: Seconds after a failed submission in which clicks that were meant for it are not taken for another.
_STALE = 0.5


class Owner(Protocol):
    """The form above the foot."""

    page: Page | None

    @property
    def settings(self) -> Settings: ...

    @property
    def workflow(self) -> EZBatchWorkflow: ...

    @property
    def queue(self) -> str: ...

    @property
    def root(self) -> Any: ...  # noqa: ANN401

    @property
    def displays(self) -> Sequence[str]: ...

    def problems(self) -> list[Problem]: ...

    def python(self) -> str: ...

    def cell(self) -> str: ...

    @property
    def in_cell(self) -> str: ...

    def field_of(self, problem: Problem) -> str: ...

    def submitted(self, run: EZBatchRun) -> None: ...


class Outlet:
    """Check, Copy as Python, Copy as %%ezbatch, Save JSON, Submit."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self._sent = False
        self._failed_at = 0.0
        self._asked = 0
        self._problems: list[Problem] = []
        self._replace = ""
        self.check_button = button("Check", self.check, tooltip="Ask the queue whether it would take this")
        self.python_button = button("Copy as Python", self.copy_python)
        self.cell_button = button("Copy as %%ezbatch", self.copy_cell)
        self.save_button = button("Save JSON", self.open_save, "ez-savejson")
        self.submit_button = button("Submit", self.submit, "ez-primary")
        self.state = ipywidgets.HTML("")
        self.state.add_class("ez-state")
        self.message = ipywidgets.HTML("")
        self.message.add_class("ez-message")
        self.message.layout.display = "none"
        self.file = ipywidgets.Text(description="File")
        for kind in ("ez-entry", "ez-code"):
            self.file.add_class(kind)
        self.file.observe(in_turn(lambda _change: self._ask_no_more()), "value")
        self.write_button = button("Save", self.save)
        self.file_box = box(self.file, self.write_button, kind="ez-file ez-savefile")
        self.file_box.layout.display = "none"
        self.widget = box(
            self.message,
            self.file_box,
            box(
                self.check_button,
                self.python_button,
                self.cell_button,
                self.save_button,
                box(self.state, self.submit_button, kind="ez-end"),
                kind="ez-foot",
            ),
            kind="ez-stack",
        )

    # What is shown

    def show(self, problems: Sequence[Problem], where: str) -> None:
        """Show whether it can be submitted and, if not, why."""
        self._problems = list(problems)
        if self._sent:
            return
        readable = not problems
        self.submit_button.disabled = not readable
        if readable:
            self.state.value = state_html("SUCCEEDED", "no problems")
        else:
            self.state.value = state_html("FAILED", f"{count_text(len(problems), 'problem')} to fix: {where}")
        queue = self.owner.queue
        target = "this machine" if queue == LOCAL else queue.rpartition("/")[2]
        count = len(self.owner.workflow.jobs)
        self.submit_button.description = f"Submit {count:,} jobs to {target}" if count > 1 else f"Submit to {target}"

    def say(self, text: str, state: str = "FAILED") -> None:
        """Say something above the buttons; nothing takes it away."""
        shown = "".join(f"<div>{state_html(state, line)}</div>" for line in text.splitlines() if line.strip())
        self.message.value = shown
        self.message.layout.display = None if shown else "none"

    def _tell(self, problems: Sequence[Problem]) -> None:
        """Say each problem with the field that it stands in."""
        labelled = [(self.owner.field_of(problem), problem) for problem in problems]
        self.say("\n".join(f"{label[:1].upper()}{label[1:]}: {p.what}. {p.remedy}." for label, p in labelled))

    def edited(self) -> None:
        """Take away what was said of an earlier draft."""
        self._asked += 1
        if self.message.value and not self._sent:
            self.say("")

    # Check

    def check(self) -> None:
        """Ask the queue whether it would take this, without holding up the form."""
        if self._problems:
            self._tell(self._problems)
            return
        self._asked += 1
        asked = self._asked
        workflow, queue, settings = self.owner.workflow, self.owner.queue, self.owner.settings
        self.check_button.disabled = True
        self.say("checking …", "PENDING")

        def look() -> tuple[list[Problem], list[str]]:
            made = plan(workflow, queue)
            backend = backend_for(made.queue, settings)
            return backend.preflight(made), [*made.notes, *backend.notes(made)]

        def done(found: tuple[list[Problem], list[str]] | BaseException) -> None:
            self.check_button.disabled = False
            if asked != self._asked:
                return
            if isinstance(found, BaseException):
                self.say(f"The queue gave {found}." if isinstance(found, TooLongError) else str(found))
                return
            problems, notes = found
            if problems:
                self._tell(problems)
                self.state.value = state_html("FAILED", f"{count_text(len(problems), 'problem')} found by Check")
            else:
                self.say("\n".join(["The queue would take it.", *(f"{note}." for note in notes)]), "SUCCEEDED")

        in_background(look, done, _CHECK)

    # Taking it away

    def copy_python(self) -> None:
        """Put Python that makes it again on the clipboard."""
        self._copy(self.owner.python, "Python")

    def copy_cell(self) -> None:
        """Put a cell that makes it again on the clipboard, or say why no cell can."""
        part = self.owner.in_cell
        self._copy(self.owner.cell, f"%%ezbatch ({part})" if part else "%%ezbatch")

    def _copy(self, make: Any, what: str) -> None:  # noqa: ANN401 - a method of the form
        try:
            text = make()
        except (CellError, InvalidWorkflowError) as error:
            why = str(error) if isinstance(error, CellError) else "; ".join(map(str, error.problems))
            self.say(f"It cannot be copied as {what}: {why}.")
            return
        self.say("")
        if self.owner.page is not None:
            self.owner.page.copy(text, what)

    def open_save(self) -> None:
        """Ask for the file."""
        shown = self.file_box.layout.display == "none"
        self.file_box.layout.display = None if shown else "none"
        if shown:
            if not self.file.value:
                self.file.value = f"{names.slug(self.owner.workflow.name)}.json"
            if self.owner.page is not None:
                self.owner.page.focus("ez-savefile")

    def _ask_no_more(self) -> None:
        self._replace = ""
        self.write_button.description = "Save"

    def save(self) -> None:
        """Save the workflow; a file that is there is replaced when asked once more."""
        target = self.file.value.strip()
        if not target:
            self.say("Name a file to save it as.")
            return
        try:
            workflow = self.owner.workflow
            path = Path(target).expanduser()
            if path.exists() and self._replace != target:
                self._replace = target
                self.write_button.description = "Replace it"
                self.say(f"{target} is there already: press again to replace it.", "RUNNABLE")
                return
            workflow.save(path)
        except (OSError, EZBatchError, RuntimeError) as error:
            self.say(f"It could not be saved: {getattr(error, 'strerror', None) or error}.")
            return
        self._ask_no_more()
        self.file_box.layout.display = "none"
        self.say(f"Saved as {target}. Load it: EZBatchWorkflow.load({target!r})", "SUCCEEDED")

    # Submit

    def submit(self) -> None:
        """Submit it, once, however often it is clicked; the form then becomes the live view of the run."""
        if self._sent or time.monotonic() - self._failed_at < _STALE:
            return
        problems = self.owner.problems()
        if problems:
            return
        self._sent = True
        self.submit_button.disabled = True
        self.state.value = '<span class="ez-spin" role="status">submitting …</span>'
        workflow, queue, settings = self.owner.workflow, self.owner.queue, self.owner.settings

        def hand_over() -> str:
            put_scripts(workflow, queue, settings)
            # The handle stays in this thread, to which its connection to the ledger belongs.
            return submit(workflow, queue, settings=settings).id

        in_background(hand_over, self._submitted, _SUBMIT)

    def _submitted(self, found: str | BaseException) -> None:
        if isinstance(found, BaseException):
            self._sent = False
            self._failed_at = time.monotonic()
            self.show(self._problems, "")
            if isinstance(found, InvalidWorkflowError):
                self._tell(found.problems)
                self.state.value = state_html("FAILED", "it was refused")
            else:
                self.say(str(found) if isinstance(found, EZBatchError) else f"{type(found).__name__}: {found}")
            return
        settings = self.owner.settings
        ledger = Ledger(settings.state_directory)
        run = EZBatchRun(ledger.find(found), ledger, settings=settings)
        self.owner.submitted(run)
        _live.begin(run, self.owner.root, self.owner.displays)


def first_places(problems: Sequence[Problem], label: Any) -> str:  # noqa: ANN401 - from a problem to its field's name
    """Return the names of the fields with problems, as many as fit."""
    found = list(dict.fromkeys(label(problem) for problem in problems))
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""  # noqa: PLR2004 - what fits
    return ", ".join(markup(name) for name in found[:3]) + more
