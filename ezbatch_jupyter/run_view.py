"""The live view of a run: one widget, fed from one thread, that ends as what a notebook keeps.

The kernel holds what is shown and sends each change once, numbered; a page that connects, again after a reload,
asks for the whole. A kernel that is busy with the next cell does not hear it, so until one is heard, the whole is sent
unasked now and then. Everything that calls out (looking, logs, cancelling) is done by the poller's thread, on a handle
of the view's own, so that a view never holds up a cell and needs no lock.
"""

from __future__ import annotations

import contextlib
import html
import logging
import math
import queue
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ezbatch.backend import JobReport, JobState
from ezbatch.errors import EZBatchError
from ezbatch.explain import Explanation, explain
from ezbatch.progress import glyph
from ezbatch.run import TERMINAL, EZBatchRun
from ezbatch_jupyter import bundles, dag, svg
from ezbatch_jupyter._logs import LINES, LogFeed, plain
from ezbatch_jupyter._poller import POLLER
from ezbatch_jupyter._pump import pumping
from ezbatch_jupyter.display import show_run
from ezbatch_jupyter.rows import Row, clean, masked

if TYPE_CHECKING:
    from anywidget import AnyWidget

__all__ = ["RunView", "ended", "in_kernel", "show", "view"]

log = logging.getLogger(__name__)

_STATIC = Path(__file__).parent / "static"
#: Seconds between looks, the first and the longest: on this machine, and in an account where each look is a call.
_LOCAL, _AWAY = (0.1, 0.5), (1.0, 15.0)
#: Seconds within which a page that can show widgets says so.
_GRACE = 2.0
#: Seconds after which a page that was not heard gets the whole unasked, at first and at most.
_UNASKED = (1.0, 15.0)
#: Seconds after which a page is told that nothing has changed.
_HEARTBEAT = 5.0
#: Seconds for which what a run costs holds: of arrays, the children's times are looked up for it.
_PRICED = 60.0
#: How often a page that hears nothing gets another widget.
_RENEWALS = 3
#: Seconds for which an explanation holds.
_EXPLAINED = 20.0
#: Lines of a log in one message.
_SLICE = 500
_TAIL = 12
_Message = dict[str, Any]


def ended(run: EZBatchRun) -> bool:
    """Return whether a run had ended when it was last seen."""
    return run.state in TERMINAL


def in_kernel() -> bool:
    """Return whether this is a notebook's kernel, whose page may show widgets."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def view(run: EZBatchRun) -> RunView:
    """Return a live view of a run; it begins to watch when it is shown."""
    return RunView(run)


def show(run: EZBatchRun, *, wait: bool = True) -> RunView:
    """Show a run's live view and, with ``wait``, return when the run has ended.

    Parameters
    ----------
    run : EZBatchRun
        The run. When the view has ended, its handle knows what the view saw.
    wait : bool
        Whether to wait. The page is answered meanwhile: nodes can be selected, the run cancelled. ``Detach`` ends the
        waiting, and so does an interrupt; the run goes on.

    Raises
    ------
    KeyboardInterrupt
        If the waiting was interrupted; the view goes on.
    """
    shown = RunView(run)
    shown.show()
    if wait:
        shown.wait()
    return shown


def _widget() -> AnyWidget | None:
    """Return a new widget, or None where there is nothing to show one with."""
    if not in_kernel():
        return None
    try:
        import anywidget
    except ImportError:
        return None

    global _Widget  # noqa: PLW0603 - a class that can be made only once anywidget is there
    if _Widget is None:
        _Widget = type(
            "RunViewWidget",
            (anywidget.AnyWidget,),
            {"_esm": _STATIC / "run_view.js", "_css": _STATIC / "run_view.css", "__module__": __name__},
        )
    made: AnyWidget = _Widget()
    return made


_Widget: type[AnyWidget] | None = None


class RunView:
    """A live view of a run, shown by a notebook as the value of a cell, or by :meth:`show`.

    Parameters
    ----------
    run : EZBatchRun
        The run.
    limit : int
        Above this many nodes, jobs that are alike are drawn as one.
    """

    def __init__(self, run: EZBatchRun, *, limit: int = dag.NODES) -> None:
        self.run = run
        self._own = run.copy()
        self._limit = limit
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._displays: list[str] = []
        self._widget: AnyWidget | None = None
        self._clients: list[str] = []
        self._unasked = _UNASKED[0]
        self._unasked_at = 0.0
        self._seq = 0
        self._rows: list[Row] = []
        self._names: list[str] = []
        self._note = ""
        self._looked = time.time()
        self._pause = 0.0
        self._panel: _Panel | None = None
        self._chosen = False
        self._where = ""
        self._priced: _Message = {}
        self._priced_until = 0.0
        self._renewals = 0
        self._told_head: _Message = {}
        self._told_at = 0.0
        self._lines: deque[str] = deque(maxlen=bundles.LINES)
        self._new_lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._showing = threading.Lock()
        self._over = threading.Event()
        self._met = threading.Event()
        self._final: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<RunView of {self.run.id}>"

    def _ipython_display_(self) -> None:
        self.show()

    # For whoever has it

    @property
    def live(self) -> bool:
        """Whether it still watches."""
        return not self._over.is_set()

    def show(self) -> None:
        """Show the view here, and begin to watch; a view that has ended shows what is kept of the run."""
        from IPython.display import display

        if not self.live or ended(self.run):
            self._over.set()
            display(self._final or show_run(self.run), raw=True)  # type: ignore[no-untyped-call] # IPython has no annotations
            return
        first = not self._displays
        if first:
            self._widget = _widget()
        identity = f"ezbatch-{self.run.id}-{secrets.token_hex(4)}"
        self._displays.append(identity)
        if first:
            self._begin()
        if in_kernel():
            display(self._live_bundle(), raw=True, display_id=identity)  # type: ignore[no-untyped-call] # as above
        if first:
            POLLER.add(self)

    def detach(self) -> None:
        """Stop watching. The run goes on; what was last seen of it stays in the notebook."""
        self._inbox.put({"t": "detach"})
        POLLER.hurry(self)
        if threading.current_thread() is threading.main_thread():
            self._over.wait(10)

    def wait(self) -> None:
        """Return when the run has ended or the view was detached, answering the page meanwhile.

        Raises
        ------
        KeyboardInterrupt
            If the waiting was interrupted; the view goes on.
        RunInterruptedError
            If the run stands still, and waiting would never end; the view goes on and shows when somebody resumes it.
        """
        begun = time.monotonic()
        terminal = not in_kernel()
        as_text = terminal
        with pumping() as pause:
            while not self._over.is_set():
                pause(0.05)
                if not as_text and not self._met.is_set() and time.monotonic() - begun > _GRACE:
                    as_text = True
                if as_text and not terminal and self._met.is_set():
                    # The page was late, not unable.
                    as_text = False
                    self._update_displays(self._live_bundle())
                if as_text:
                    self._print(terminal=terminal)
                if self.run.interruption:
                    self.run.raise_for_status()
        if terminal and self._displays:  # else it had ended when it was shown, and stands there already
            self._print(terminal=True)
            self._display(self._final or show_run(self.run))

    def _display(self, bundle: dict[str, Any]) -> None:
        from IPython.display import display

        display(bundle, raw=True)  # type: ignore[no-untyped-call] # IPython has no annotations

    def _print(self, *, terminal: bool) -> None:
        """Say in words what has changed, where no widget can: a line a change."""
        came = []
        with contextlib.suppress(queue.Empty):
            while True:
                came.append(self._new_lines.get_nowait())
        if not came:
            return
        if terminal:
            for line in came:
                self._display({"text/plain": line})
            return
        self._lines.extend(came)
        self._update_displays({"text/plain": "\n".join(self._lines)})

    def _live_bundle(self) -> dict[str, Any]:
        bundle = {"text/plain": show_run(self.run)["text/plain"]}
        if self._widget is not None:
            model = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
            bundle["application/vnd.jupyter.widget-view+json"] = model
        return bundle

    def _update_displays(self, bundle: dict[str, Any]) -> None:
        """Replace what is shown; nothing comes after what is kept."""
        if not in_kernel():
            return
        from IPython.display import update_display

        with self._showing:
            if self._final is not None and bundle is not self._final:
                return
            for identity in self._displays:
                update_display(bundle, raw=True, display_id=identity)  # type: ignore[no-untyped-call] # as above

    # In the poller's thread

    def tick(self) -> float | None:
        """Look once, tell the page what changed, and return the seconds until the next look."""
        try:
            return self._tick()
        except Exception:
            # The poller says what it was. Nobody is to wait for a view that looks no more.
            self._update_displays(show_run(self.run))
            self._over.set()
            raise

    def _tick(self) -> float | None:
        if self._over.is_set():
            return None
        asked = list(self._asked())
        if any(message["t"] == "detach" for message in asked):
            self._end()
            return None
        changed = self._look()
        for message in asked:
            self._answer(message)
        patch: _Message = {}
        rows = self._changed_rows() if changed else []
        if rows:
            patch["rows"] = [[i, _wire(self._rows[i])] for i in rows]
        self._choose()
        messages = self._panel_messages()
        if messages:
            patch.update(messages[0])
        if rows or asked or messages or changed or self._looked - self._told_at > _HEARTBEAT:
            self._send({"head": self._changed_head(), **patch})
        for more in messages[1:]:
            self._send(more)
        for message in asked:
            if message["t"] == "hello":
                self._send_snapshot(message.get("client"))
        if ended(self._own):
            self._end()
            return None
        first, longest = _LOCAL if self._own.queue == "local" else _AWAY
        self._pause = first if rows or messages or changed else min(max(self._pause, first) * 1.5, longest)
        return min(self._pause, self._tell_unasked())

    def _tell_unasked(self) -> float:
        """Send the whole if it is time to, as no page was heard; return the seconds until it is the next time."""
        if self._widget is None or self._clients:
            return math.inf
        now = time.monotonic()
        if now >= self._unasked_at:
            self._send_snapshot(None)
            self._unasked = min(2 * self._unasked, _UNASKED[1])
            self._unasked_at = now + self._unasked
        return self._unasked_at - now

    def _begin(self) -> None:
        """Take what is known already; before the thread watches, so that nothing is told twice."""
        self._rows = list(bundles.run_rows(self._own).values())
        self._names = [row.name for row in self._rows]
        for row in self._rows:
            self._say(row)
        if self._widget is not None:
            self._widget.on_msg(self._on_message)
        self._unasked_at = time.monotonic() + self._unasked

    def _on_message(self, _widget: object, content: _Message, _buffers: object) -> None:
        """Take a message of the page, in whatever thread the kernel reads it; nothing is done here."""
        if not isinstance(content, dict) or not isinstance(content.get("t"), str):
            return
        if content["t"] == "hello":
            self._met.set()
        if content["t"] == "ended":
            self._close_widget()
        elif self._over.is_set():
            self._clients.append(str(content.get("client")))
            # A page that was loaded after the end: the widget is still there only to be told what is kept.
            self._send_snapshot(content.get("client"))
            self._send_end()
        else:
            self._inbox.put(content)
            POLLER.hurry(self)

    def _asked(self) -> Iterator[_Message]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._inbox.get_nowait()

    def _look(self) -> bool:
        """Look, and return whether anything is different."""
        run = self._own
        before, state, note = run.jobs, run.state, self._note
        try:
            run.refresh()
            self._note = f"The run stands still: {run.interruption}. Finish it by resume." if run.interruption else ""
        except EZBatchError as error:
            self._note = f"The run could not be looked at: {error}"
        self._looked = time.time()
        if run.jobs == before and run.state == state and self._note == note:
            return False
        # The user's handle knows what its view has seen.
        self.run.learn(run)
        return True

    def _changed_rows(self) -> list[int]:
        made = list(bundles.run_rows(self._own).values())
        changed = [i for i, (old, new) in enumerate(zip(self._rows, made, strict=True)) if old != new]
        for i in changed:
            if made[i].state != self._rows[i].state:
                self._say(made[i])
        self._rows = made
        return changed

    def _say(self, row: Row) -> None:
        if row.state not in ("SUBMITTED", "PENDING"):
            detail = row.why or (f"ran {row.ran_text}" if row.ran_text else "")
            self._new_lines.put(
                f"{glyph(row.state)} {clean(row.name)} {row.state.lower()}" + (f": {detail}" if detail else "")
            )

    def _head(self) -> _Message:
        run = self._own
        return {
            "state": run.state,
            "live": self.live and not ended(run),
            "created": run.created.timestamp(),
            "finished": None if run.finished is None else run.finished.timestamp(),
            "looked": round(self._looked, 3),
            "note": masked(clean(self._note)) if self._note else "",
            **self._cost(),
        }

    def _cost(self) -> _Message:
        """Return what the run has cost so far; nothing for this machine, where it costs nothing."""
        if self._own.queue == "local":
            return {}
        if time.monotonic() >= self._priced_until:
            from ezbatch.cost import dollars

            self._priced_until = time.monotonic() + _PRICED
            try:
                spent = self._own.cost()
                title = f"Fargate On-Demand, {spent.region}, {spent.date}"
                self._priced = {"cost": dollars(spent.total), "prices": title}
            except EZBatchError as error:
                log.info("what run %s costs could not be looked up: %s", self._own.id, error)
        return self._priced

    def _changed_head(self) -> _Message:
        head = self._head()
        changed = {name: value for name, value in head.items() if self._told_head.get(name, self) != value}
        self._told_head = head
        return changed

    def _answer(self, message: _Message) -> None:
        kind = message["t"]
        if kind == "hello" and isinstance(message.get("client"), str):
            self._clients.append(message["client"])
        elif kind == "deaf" and self._renewals < _RENEWALS:
            self._renew()
        elif kind == "select":
            self._select(message)
        elif kind == "cancel":
            try:
                self._own.cancel(reason="asked for in the notebook")
                self._note = "The run is being cancelled."
            except EZBatchError as error:
                self._note = f"The run could not be cancelled: {error}"

    def _renew(self) -> None:
        """Give a page that can speak but not hear another widget.

        anywidget drops every message to a model whose script did not begin within two seconds, as on a busy machine.
        """
        self._renewals += 1
        old, self._widget = self._widget, _widget()
        self._clients.clear()
        if self._widget is not None:
            self._widget.on_msg(self._on_message)
        self._update_displays(self._live_bundle())
        self._close(old)

    def _select(self, message: _Message) -> None:
        job, child, attempt = (message.get(name) for name in ("job", "child", "attempt"))
        if not isinstance(job, int) or not 0 <= job < len(self._names):
            return
        self._chosen = True
        self._panel = _Panel(
            self._own,
            job,
            self._names[job],
            child if isinstance(child, int) and child >= 0 else None,
            attempt if isinstance(attempt, int) else None,
        )

    def _choose(self) -> None:
        """Until the user selects a job, show the one that needs attention, or the first that runs."""
        if self._chosen:
            return
        begun = [(row.urgency, i) for i, row in enumerate(self._rows) if row.state in ("FAILED", "RUNNING")]
        if len(self._rows) == 1:
            begun = [(0, 0)]
        if not begun:
            return
        urgency, job = min(begun)
        shown = "SUCCEEDED" if self._panel is None else self._rows[self._panel.job].state
        if self._panel is None or (
            shown != "FAILED" and (urgency == 0 or shown == "SUCCEEDED") and job != self._panel.job
        ):
            self._panel = _Panel(self._own, job, self._names[job], None, None)

    def _panel_messages(self) -> list[_Message]:
        """Return what changed of the selected job: what it is, and the new lines of its log."""
        panel = self._panel
        if panel is None:
            return []
        shown = panel.shown
        try:
            lines = panel.read()
        except EZBatchError as error:
            panel.problem = masked(clean(error))
            lines = []
        messages: list[_Message] = []
        if panel.shown != shown:
            messages.append({"panel": panel.shown})
        if panel.fresh or lines or panel.logged != panel.told:
            panel.told = panel.logged
            slices = [lines[i : i + _SLICE] for i in range(0, len(lines), _SLICE)] or [[]]
            for i, part in enumerate(slices):
                piece = {"lines": part, "fresh": panel.fresh and i == 0, "keep": LINES, "logged": panel.logged}
                if i == 0 and messages:
                    messages[0]["log"] = piece
                else:
                    messages.append({"log": piece})
            panel.fresh = False
        return messages

    # What is sent

    def _send(self, message: _Message) -> None:
        if self._widget is None:
            return
        self._seq += 1
        self._told_at = time.time()
        self._widget.send({"t": "patch", "seq": self._seq, "now": round(time.time(), 3), **message})

    def _send_snapshot(self, client: object) -> None:
        if self._widget is None:
            return
        panel = self._panel
        self._widget.send(
            {
                "t": "snap",
                "to": client,
                "seq": self._seq,
                "now": round(time.time(), 3),
                "head": self._head(),
                "facts": self._facts(),
                "dag": self._dag(),
                "rows": [_wire(row) for row in self._rows],
                "panel": None if panel is None else panel.shown,
                "lines": [] if panel is None else panel.lines,
                "logged": None if panel is None else panel.logged,
            }
        )

    def _facts(self) -> _Message:
        run = self._own
        if not self._where:
            where = "on this machine" if run.queue == "local" else f"on {masked(clean(run.queue))}"
            self._where = where
        return {
            "name": clean(run.name),
            "id": run.id,
            "model": None if self._widget is None else self._widget.model_id,
            "where": self._where,
            "names": [clean(name) for name in self._names],
            "sizes": [row.size for row in self._rows],
            "attempts": [row.attempts for row in self._rows],
        }

    def _dag(self) -> _Message | None:
        """Return where nodes and edges are, or a text where nothing can be drawn; None for one job alone."""
        if len(self._rows) < 2:  # noqa: PLR2004 - one job is no graph
            return None
        if len(self._rows) > dag.JOBS:
            return {"text": ""}
        try:
            shown = dag.graph(self._own, limit=self._limit)
            placed = svg.layout(shown)
        except dag.NoEngineError as error:
            log.info("%s", error)
            lines = dag.to_text(self._own.plan).splitlines()
            return {"text": "\n".join(lines[1:])}
        index = {name: i for i, name in enumerate(self._names)}
        nodes = []
        for node, (x, y) in zip(shown.nodes, placed.boxes, strict=True):
            jobs = [index[name] for name in node.jobs if name in index]
            label = f"{node.name}, array of {node.size:,}" if node.size is not None else node.name
            nodes.append([dag.short_name(node), label, node.size, x, y, jobs])
        edges = zip(shown.edges, placed.paths, placed.tips, strict=True)
        return {
            "width": placed.width,
            "height": placed.height,
            "box": [placed.node_width, dag.HEIGHT],
            "nodes": nodes,
            "edges": [[tail, head, path, tip] for (tail, head), path, tip in edges],
        }

    # The end

    def _end(self) -> None:
        """Leave in the notebook what is kept, and close the widget once the pages have what they need."""
        run = self._own
        ending = self._ending() if ended(run) else bundles.Ending()
        try:
            kept = bundles.run_bundle(run, ending)
        except Exception:  # like a repr, an end never raises
            log.warning("what is kept of run %s could not be made", run.id, exc_info=True)
            kept = show_run(run)
        if not ended(run):
            back = f'%ezbatch attach {run.id}, or EZBatchRun.attach("{run.id}")'
            hint = f"Detached: the run goes on. Come back to it: {back}"
            kept["text/plain"] = f"{kept['text/plain']}\n\n  {hint}"
            kept["text/html"] = f'{kept.get("text/html", "")}<p style="font-size:12px">{html.escape(hint)}</p>'
        with self._showing:
            self._final = kept
        self._update_displays(kept)
        if self._clients:
            self._send_end()
        else:
            self._close_widget()
        POLLER.remove(self)
        # Last: whoever waits for it finds everything done.
        self._over.set()

    def _send_end(self) -> None:
        if self._widget is None:
            return
        # A page that was loaded again cannot be told by an update of the display.
        again = self._final if len(set(self._clients)) > 1 or not self._clients else None
        self._widget.send({"t": "end", "id": self._widget.model_id, "bundle": again})

    def _close_widget(self) -> None:
        widget, self._widget = self._widget, None
        self._close(widget)

    def _close(self, widget: Any) -> None:  # noqa: ANN401 - anywidget has no annotations
        """Close a widget, and let go of it: something keeps closed ones, and with them would keep this view's files."""
        if widget is not None:
            widget.on_msg(self._on_message, remove=True)
            widget.layout.close()
            widget.close()

    def _ending(self) -> bundles.Ending:
        """Return what is kept beside the reports: the failed job's explanation, the end of its log."""
        run = self._own
        reports = run.jobs
        failed = [row.name for row in self._rows if row.state == "FAILED"]
        failed.sort(key=lambda name: reports[name].cancelled)  # what failed by itself says more
        single = len(self._rows) == 1
        if not failed and not single:
            return bundles.Ending()
        job = failed[0] if failed else self._names[0]
        tail: list[str] = []
        child: int | None = None
        explanation = run.explain(job) if failed else None
        try:
            panel = _Panel(run, self._names.index(job), job, None, None)
            panel.read()
            tail = [text for _time, text in panel.lines][-_TAIL:]
            child = panel.child
            where = _where(run) if single else ""
        except EZBatchError as error:
            log.info("the end of the log of %s cannot be kept: %s", job, error)
            where = ""
        return bundles.Ending(job, explanation, [plain(line) for line in tail], where, child)


class _Panel:
    """The selected job: which attempt of which child, why it is where it is, and its log."""

    def __init__(self, run: EZBatchRun, job: int, name: str, child: int | None, attempt: int | None) -> None:
        self.run = run
        self.job = job
        self.name = name
        self.child = child
        self.attempt = attempt
        self.wanted = attempt
        self.problem = ""
        self.fresh = True
        self.feed: LogFeed | None = None
        self.shown: _Message | None = None
        self.told: _Message | None = None
        self._explanation: tuple[JobReport, float, Explanation] | None = None
        planned = next(planned for planned in run.plan.jobs if planned.name == name)
        self.indices: tuple[int, ...] = ()
        if planned.array_size is not None:
            self.indices = planned.indices if planned.indices is not None else tuple(range(planned.array_size))

    @property
    def lines(self) -> list[tuple[float, str]]:
        """The lines that are kept."""
        return [] if self.feed is None else list(self.feed.kept)

    @property
    def logged(self) -> _Message:
        """How much of the log there is."""
        if self.feed is None:
            note = self.problem or "it has not started"
            return {"total": 0, "complete": False, "note": note}
        return {"total": self.feed.total, "complete": self.feed.complete, "note": self.problem}

    def read(self) -> list[tuple[float, str]]:
        """Look at the job, and return the lines that are new."""
        report = self._report()
        attempts = [attempt.number for attempt in report.attempts]
        attempt = self.wanted if self.wanted in attempts else max(attempts, default=None)
        if attempt is not None and (self.feed is None or self.feed.attempt != attempt):
            self.feed, self.fresh = LogFeed(self.run, attempt), True
        found = self._explained(report)
        self.shown = {
            "job": self.job,
            "state": report.state.value,
            "child": self.child,
            "children": len(self.indices),
            "attempts": attempts,
            "attempt": attempt,
            "cause": masked(clean(found.cause)),
            "evidence": masked(clean(found.evidence)),
            "remedy": masked(clean(found.remedy)),
        }
        self.problem = ""
        return [] if self.feed is None else self.feed.read(report)

    def _explained(self, report: JobReport) -> Explanation:
        """Return why the job is where it is; the run may look at the queue for that, so it is not asked each time."""
        if self._explanation is None or self._explanation[0] != report or time.monotonic() > self._explanation[1]:
            # A child's report is here already; the run would look it up again.
            one = self.run.explain(self.name) if not self.indices else explain(report, self.run.jobs, self.run.parents)
            self._explanation = (report, time.monotonic() + _EXPLAINED, one)
        return self._explanation[2]

    def _report(self) -> JobReport:
        """Return the report of the job or, of an array, of one child: the one asked for, or one that failed."""
        report = self.run.report(self.name)
        if not self.indices:
            return report
        if self.child not in self.indices:
            failed = []
            if report.state is JobState.FAILED:
                failed = self.run.failed_children(self.name)
            self.child = failed[0] if failed else self.indices[0]
        return self.run.report(f"{self.name}:{self.child}")


def _where(run: EZBatchRun) -> str:
    """Return in a few words where a run's jobs ran, or nothing."""
    if run.queue != "local":
        return ""
    how = [note.partition("; ")[2] for note in run.notes if note.startswith("On this machine")]
    return masked(f"on this machine: {how[0]}") if how and how[0] else ""


def _wire(row: Row) -> list[Any]:
    """Return a row as it is sent: what cannot change is among the facts."""
    counts: Mapping[str, int] | None = dict(row.counts) or None
    return [row.state, row.attempt, row.queued, row.started, row.stopped, row.why, row.brief, counts]
