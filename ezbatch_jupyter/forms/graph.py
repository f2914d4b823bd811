"""The workflow as a graph to choose a job from; laid out in the background."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from ezbatch.workflow import EZBatchWorkflow
from ezbatch_jupyter import dag, svg
from ezbatch_jupyter.forms._parts import after_edits
from ezbatch_jupyter.forms._work import in_background, in_turn
from ezbatch_jupyter.rows import clean, shorten

__all__ = ["GraphInput"]

_STATIC = Path(__file__).parent / "static"
#: Seconds; a graph of 1,000 nodes takes a quarter of one.
_TIME_LIMIT = 40.0


class GraphWidget(anywidget.AnyWidget):
    """The drawing. Where there is no Graphviz it is a list."""

    _esm = _STATIC / "graph.js"

    dag = traitlets.Dict().tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)


class GraphInput:
    """A graph of which one node is chosen.

    Parameters
    ----------
    chosen : callable
        Called with the job that a person chose.
    drawn : callable
        Called when another drawing is there.
    """

    def __init__(self, chosen: Callable[[str], None], drawn: Callable[[], None]) -> None:
        self._chosen = chosen
        self._drawn = drawn
        self.widget = GraphWidget()
        self.widget.on_msg(self._told)
        self._jobs: list[tuple[str, ...]] = []
        self._job = ""
        self._busy = False
        self._next: tuple[EZBatchWorkflow, frozenset[str]] | None = None

    @property
    def grouped(self) -> bool:
        """Whether a node stands for several jobs."""
        return any(len(jobs) > 1 for jobs in self._jobs)

    def show(self, workflow: EZBatchWorkflow, bad: frozenset[str], job: str) -> None:
        """Draw a workflow; while one is being laid out, the newest waits.

        Parameters
        ----------
        workflow : EZBatchWorkflow
            What to draw; problems do not matter.
        bad : frozenset of str
            The jobs with problems.
        job : str
            The chosen one.
        """
        self._job = job
        self._mark()
        self._next = (workflow, bad)
        if not self._busy:
            self._begin()

    def _begin(self) -> None:
        if self._next is None:
            return
        (workflow, bad), self._next = self._next, None
        self._busy = True

        def done(found: tuple[dict[str, Any], list[tuple[str, ...]]] | BaseException) -> None:
            self._busy = False
            if not isinstance(found, BaseException):
                shown, self._jobs = found
                if self.widget.dag != shown:
                    self.widget.dag = shown
                self._mark()
                self._drawn()
            self._begin()

        in_background(lambda: _picture(workflow, bad), done, _TIME_LIMIT)

    def _mark(self) -> None:
        found = next((i for i, jobs in enumerate(self._jobs) if self._job in jobs), -1)
        if self.widget.selected != found:
            self.widget.selected = found

    def _told(self, _widget: object, content: object, _buffers: object) -> None:
        at = content.get("node") if isinstance(content, dict) else None
        if isinstance(at, int) and 0 <= at < len(self._jobs):
            jobs = self._jobs[at]
            in_turn(after_edits)(lambda: self._choose(jobs))

    def _choose(self, jobs: Sequence[str]) -> None:
        # Of a group the next one each time.
        self._chosen(jobs[(jobs.index(self._job) + 1) % len(jobs)] if self._job in jobs else jobs[0])


def _picture(workflow: EZBatchWorkflow, bad: frozenset[str]) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    shown = dag.graph(workflow)
    jobs = [node.jobs for node in shown.nodes]
    nodes: list[dict[str, Any]] = [
        {
            "short": dag.short_name(node),
            "label": node.label,
            "size": node.size,
            "sub": node.sub,
            "bad": not bad.isdisjoint(node.jobs),
        }
        for node in shown.nodes
    ]
    if not nodes:
        return {"nodes": []}, jobs
    try:
        placed = svg.layout(shown)
    except dag.NoEngineError:
        return {"nodes": nodes}, jobs
    for node, (x, y) in zip(nodes, placed.boxes, strict=True):
        node.update(x=x, y=y, sub=shorten(node["sub"], int((placed.node_width - 16) / 5.6)))
    made = {
        "name": clean(shown.name),
        "width": placed.width,
        "height": placed.height,
        "box": [placed.node_width, dag.HEIGHT],
        "nodes": nodes,
        "edges": [list(pair) for pair in zip(placed.paths, placed.tips, strict=True)],
    }
    return made, jobs
