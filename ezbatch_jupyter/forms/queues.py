"""The queue: this machine first, then those of the account, which are listed when a person asks for them."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets

from ezbatch import rules
from ezbatch.backend import Queue
from ezbatch.errors import BackendError, EZBatchError, Problem
from ezbatch.planning import LOCAL, size_text
from ezbatch.settings import Settings
from ezbatch_jupyter.forms._parts import Entry, Form, Slot, box, button, markup
from ezbatch_jupyter.forms._work import TooLongError, in_background, in_turn

__all__ = ["QueueForm", "QueueList"]

#: Seconds within which AWS is waited for.
TIME_LIMIT = 20.0
#: Of so many queues the depth is asked for, one call a state.
_DEEP = 25
_STATIC = Path(__file__).parent / "static"


class QueueList(anywidget.AnyWidget):
    """A table of which one row is chosen: real radio buttons, of which some can be off."""

    _esm = _STATIC / "queues.js"

    #: name, platform, state, badge, detail, off.
    rows = traitlets.List(traitlets.Dict()).tag(sync=True)
    value = traitlets.Unicode("").tag(sync=True)


@dataclasses.dataclass(frozen=True)
class Found:
    """A queue and what waits in it.

    Parameters
    ----------
    queue : Queue
        The queue.
    depth : str
        What runs and waits, in words; empty when it is not known.
    """

    queue: Queue
    depth: str = ""


class QueueForm(Form):
    """The queue of a job or a workflow.

    Parameters
    ----------
    queue : str, optional
        What to begin with; None is the queue of the settings.
    platform : callable, optional
        Returns the platforms of the jobs, so that queues of others can be told.
    settings : Settings, optional
        Instead of those that are set.
    """

    label = "Queue"

    def __init__(
        self,
        queue: str | None = None,
        *,
        platforms: Callable[[], set[str]] | None = None,
        settings: Settings | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings or Settings.load()
        self._platforms = platforms or set
        self._asked = 0
        self._value: str | None = None
        self._bad: Sequence[Problem] = ()
        self._found: list[Found] = []
        self.heading = ipywidgets.HTML("<h3>Queue</h3>")
        self.refresh_button = button("List queues", self.refresh)
        self.spinner = ipywidgets.HTML("")
        self.list = QueueList()
        self.list.observe(in_turn(self._picked), "value")
        self.arn: Entry[str | None] = Entry(
            "or another", "queue", lambda t: t.strip() or None, lambda v: v or "", self._typed, kind="ez-code",
            placeholder="a queue's name, or arn:aws:batch:region:account:job-queue/name",
        )  # fmt: skip
        self.slot = Slot(always=True)
        head = box(self.heading, box(self.spinner, self.refresh_button, kind="ez-push ez-acts"), kind="ez-sechead")
        self.widget = box(head, self.list, self.arn.widget, box(self.slot.widget, kind="ez-indent"),
                          kind="ez-sec ez-group")  # fmt: skip
        self._note = "AWS is asked only when you press List queues."
        self.value = queue

    @property
    def value(self) -> str | None:
        """The queue that was chosen, or None for that of the settings."""
        return self._value

    @value.setter
    def value(self, queue: str | None) -> None:
        with self._silently():
            self._value = queue
            known = {LOCAL, *(found.queue.name for found in self._found)}
            self.arn.value = queue if queue is not None and queue not in known else None
        self._refresh()

    @property
    def effective(self) -> str:
        """Where the jobs would go."""
        return self._value or self.settings.queue

    @property
    def local(self) -> bool:
        """Whether they would run on this machine."""
        return self.effective == LOCAL

    def _picked(self, change: dict[str, Any]) -> None:
        if self._silent or not change["new"]:
            return
        self._value = change["new"]
        with self._silently():
            self.arn.value = None
        self.changed()

    def _typed(self) -> None:
        self._value = self.arn.value
        self.changed()

    # What is shown

    def errors(self) -> list[Problem]:
        """Return what cannot be read: nothing, since every text could be a queue."""
        return []

    def problems(self) -> list[Problem]:
        """Return what is wrong with the queue alone."""
        if self._value is None or rules.valid_queue(self._value):
            return []
        what = f"{self._value!r} is neither a queue's name nor its ARN"
        return [Problem("queue", what, "A name has letters, digits, - and _ only")]

    def show(self, problems: Sequence[Problem]) -> None:
        """Show problems, and the rows as they are for these jobs."""
        self._bad = problems
        self.arn.mark(problems)
        rows = [self._local_row(), *(self._row(found) for found in self._found)]
        names = {row["name"] for row in rows}
        # The settings' queue is what is meant when nothing was chosen.
        if self._value is None and self.settings.queue not in names:
            rows.append(
                {
                    "name": self.settings.queue,
                    "platform": "AWS Batch",
                    "state": "not asked",
                    "badge": "SUBMITTED",
                    "detail": "the queue of the settings",
                    "off": "",
                }
            )
            names.add(self.settings.queue)
        with self._silently():
            if self.list.rows != rows:
                self.list.rows = rows
            self.list.value = self.effective if self.effective in names else ""
        chosen = next((row for row in rows if row["name"] == self.effective), None)
        note = self._note
        if chosen is not None and chosen["off"]:
            note = f"{chosen['name']}: {chosen['off']}."
        self.slot.show(problems, markup(note))

    def _refresh(self) -> None:
        self.show(self._bad if self._listeners else self.problems())

    def _local_row(self) -> dict[str, str]:
        vcpus, memory = _machine(self.settings)
        return {
            "name": LOCAL,
            "platform": "this machine",
            "state": "ready",
            "badge": "SUCCEEDED",
            "detail": size_text(vcpus, memory).replace(" vCPU", " CPUs"),
            "off": "",
        }

    def _row(self, found: Found) -> dict[str, str]:
        queue = found.queue
        off = ""
        ready = queue.state == "ready"
        if not ready:
            off = queue.state.removeprefix(f"queue {queue.name!r} is ")
        wanted = self._platforms()
        kinds = {_platform(kind) for kind in queue.platform.split(", ")} - {""}
        if ready and wanted and kinds and not wanted <= kinds:
            of = " and ".join(sorted("Fargate" if kind == "FARGATE" else kind for kind in kinds))
            off = (
                f"takes {of} jobs; not all of these are" if len(wanted) > 1 else f"takes {of} jobs; this one is another"
            )
        room = f"room for {queue.max_vcpus:g} vCPU" if queue.max_vcpus else ""
        return {
            "name": queue.name,
            "platform": ", ".join(_kind(kind) for kind in queue.platform.split(", ")),
            "state": "ready" if ready else "not ready",
            "badge": "SUCCEEDED" if ready else "FAILED",
            "detail": off or "; ".join(text for text in (found.depth, room) if text),
            "off": off,
        }

    @property
    def summary(self) -> str:
        """What is chosen, in a few words."""
        return "this machine" if self.local else self.effective

    # Looking

    def refresh(self) -> None:
        """List the account's queues, without holding up the form."""
        self._asked += 1
        asked = self._asked
        settings = self.settings
        self.refresh_button.disabled = True
        self.spinner.value = '<span class="ez-spin" role="status">asking AWS …</span>'

        def done(found: list[Found] | BaseException) -> None:
            if asked != self._asked:
                return
            self.refresh_button.disabled = False
            self.refresh_button.description = "Refresh"
            now = dt.datetime.now().astimezone().strftime("%H:%M")
            if isinstance(found, BaseException):
                self.spinner.value = f'<span class="ez-note">asked at {now}</span>'
                self._note = _why(found)
            else:
                self._found = [item for item in found if item.queue.name != LOCAL]
                self.spinner.value = f'<span class="ez-note">listed at {now}</span>'
                self._note = "" if self._found else "This account has no queue in this Region."
                self.value = self._value
            self._refresh()

        in_background(lambda: _list(settings), done, TIME_LIMIT)


def _machine(settings: Settings) -> tuple[float, int]:
    from ezbatch.local import machine

    return settings.local_vcpus or float(machine.processors()), settings.local_memory or machine.memory()


def _platform(kind: str) -> str:
    if kind.startswith("FARGATE"):
        return "FARGATE"
    return "EC2" if kind in ("EC2", "SPOT") else ""


def _kind(kind: str) -> str:
    return {"FARGATE": "Fargate", "FARGATE_SPOT": "Fargate Spot", "SPOT": "EC2 Spot"}.get(kind, kind)


def _why(error: BaseException) -> str:
    if isinstance(error, TooLongError):
        return f"AWS gave {error}: check the network and the Region. The rest of the form works."
    if isinstance(error, EZBatchError):
        text = str(error)
        return f"{text[:1].upper()}{text[1:]} The rest of the form works."
    return f"The queues could not be listed: {error}. The rest of the form works."


def _list(settings: Settings) -> list[Found]:
    from ezbatch.aws.backend import AWSBackend

    backend = AWSBackend(settings)
    # A person waits: the first call is not repeated for long.
    backend.clients.call("batch", "describe_job_queues", patience=1, maxResults=1)
    queues = backend.queues()
    found = []
    for i, queue in enumerate(queues):
        depth = ""
        if i < _DEEP and queue.state == "ready":
            try:
                depth = _depth(backend, queue.name)
            except BackendError:  # the list is worth something without it
                depth = ""
        found.append(Found(queue, depth))
    return found


def _depth(backend: Any, name: str) -> str:  # noqa: ANN401 - an AWSBackend, whose module loads boto3
    parts = []
    for state in ("RUNNING", "RUNNABLE"):
        answer = backend.clients.call("batch", "list_jobs", patience=1, jobQueue=name, jobStatus=state, maxResults=100)
        count = f"{len(answer['jobSummaryList'])}{'+' if answer.get('nextToken') else ''}"
        parts.append(f"{count} {state.lower()}")
    return ", ".join(parts)
