"""A workflow, plan or run as a graph: DOT, a picture where there is a Graphviz, and text where there is none."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ezbatch.backend import JobReport, JobState, array_state
from ezbatch.errors import EZBatchError
from ezbatch.planning import Plan, count_text, size_text
from ezbatch.progress import glyph
from ezbatch.workflow import EZBatchWorkflow
from ezbatch_jupyter.rows import COLOURS, brief, clean, columns, masked, shorten, times

if TYPE_CHECKING:
    from ezbatch.run import EZBatchRun

__all__ = [
    "Graph",
    "NoEngineError",
    "Node",
    "engine",
    "graph",
    "save",
    "to_dot",
    "to_png",
    "to_svg",
    "to_text",
]

#: What can be drawn.
Source = "EZBatchWorkflow | Plan | EZBatchRun"
Reports = Mapping[str, JobReport]

#: Above this, siblings that differ only in a number are drawn as one node: forty of them make a tall picture.
SIBLINGS = 24
#: So few siblings stay as they are.
FEW = 4
#: Above this, jobs are drawn by stage and by similar names, and then by stage alone.
NODES = 150
#: Above this nothing is drawn: a table tells more.
JOBS = 1000
#: Above this, edges are straight: to bend them around nodes would take longer than everything else.
MANY_EDGES = 500
#: Lines of a text DAG.
LINES = 40


class NoEngineError(EZBatchError, RuntimeError):
    """No Graphviz is there to draw with."""

    def __init__(self, why: str = "") -> None:
        super().__init__(
            f"there is no Graphviz to draw with{f' ({why})' if why else ''}. "
            "Install it (apt install graphviz, brew install graphviz) or pip install 'pygraphviz>=2', "
            "or take the text: to_text()."
        )


@dataclasses.dataclass(frozen=True)
class Node:
    """A job, or several alike that are drawn as one.

    Parameters
    ----------
    id : str
        ``n0``, ``n1``, …: never made of what the user wrote.
    name : str
        The job's name, or the first and last of a group's.
    jobs : tuple of str
        The jobs it stands for.
    stage : int
        From 1.
    size : int, optional
        The number of an array's children.
    sub : str
        The line below the name.
    state : str
        Empty before a run.
    counts : mapping of str to int
        Of an array or a group in a run: how many are in each state.
    """

    id: str
    name: str
    jobs: tuple[str, ...]
    stage: int
    size: int | None = None
    sub: str = ""
    state: str = ""
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def label(self) -> str:
        """What is said of it to those who cannot see it, and on hover."""
        parts = [self.name]
        if self.size is not None:
            parts.append(f"array of {self.size:,}")
        if self.state:
            parts.append(self.state.lower())
        if self.sub:
            parts.append(self.sub)
        return ", ".join(parts)


@dataclasses.dataclass(frozen=True)
class Graph:
    """What is drawn. Edges are pairs of positions in ``nodes``."""

    name: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]
    jobs: int
    stages: int
    running: bool

    @property
    def arrays(self) -> list[Node]:
        """The nodes that are arrays."""
        return [node for node in self.nodes if node.size is not None]


@dataclasses.dataclass(frozen=True)
class _Job:
    name: str
    parents: tuple[str, ...]
    stage: int
    size: int | None
    resources: str
    report: JobReport | None


def graph(source: EZBatchWorkflow | Plan | EZBatchRun, reports: Reports | None = None, *, limit: int = NODES) -> Graph:
    """Return what is drawn of a workflow, a plan or a run.

    Parameters
    ----------
    source : EZBatchWorkflow, Plan or EZBatchRun
        Joins are seen through. A workflow with problems, even a cycle, can be drawn.
    reports : mapping of str to JobReport, optional
        What is known of the jobs. Of a run they are those last seen.
    limit : int
        Above this many nodes, those that are alike are drawn as one.
    """
    name, jobs = _jobs(source, reports)
    children: dict[str, list[str]] = {job.name: [] for job in jobs}
    for job in jobs:
        for parent in job.parents:
            children[parent].append(job.name)
    key: Callable[[_Job], Hashable] = lambda job: job.name  # noqa: E731 - it is replaced below
    if len(jobs) > min(SIBLINGS, limit):
        key = _siblings(jobs, children)
        if len({key(job) for job in jobs}) > limit:
            key = lambda job: (job.stage, _pattern(job.name))  # noqa: E731 - as above
        if len({key(job) for job in jobs}) > limit:
            # A chain of a thousand stages is drawn in as many stretches as may be.
            depth = max(job.stage for job in jobs)
            key = lambda job: job.stage if depth <= limit else (job.stage - 1) * limit // depth  # noqa: E731 - as above
    groups: dict[Hashable, list[_Job]] = {}
    for job in jobs:
        groups.setdefault(key(job), []).append(job)
    running = any(job.report is not None for job in jobs)
    all_reports = {job.name: job.report for job in jobs if job.report is not None}
    nodes = tuple(_node(f"n{i}", group, all_reports) for i, group in enumerate(groups.values()))
    place = {job.name: i for i, group in enumerate(groups.values()) for job in group}
    pairs = ((place[parent], place[job.name]) for job in jobs for parent in job.parents)
    edges = tuple(dict.fromkeys(pair for pair in pairs if pair[0] != pair[1]))
    return Graph(name, nodes, edges, len(jobs), max((job.stage for job in jobs), default=0), running)


def _jobs(source: EZBatchWorkflow | Plan | EZBatchRun, reports: Reports | None) -> tuple[str, list[_Job]]:
    """Return a name and the jobs, in an order that keeps dependencies where there is one."""
    if isinstance(source, EZBatchWorkflow):
        known = source.jobs
        parents = {
            name: tuple(dict.fromkeys(p for p in source.dependencies.get(name, ()) if p in known and p != name))
            for name in known
        }
        facts = {name: (job.array_size, size_text(job.vcpus, job.memory, job.gpus)) for name, job in known.items()}
        name = source.name
    else:
        run = None if isinstance(source, Plan) else source
        made = source if isinstance(source, Plan) else source.plan
        reports = reports if run is None or reports is not None else run.jobs
        parents = through_joins(made)
        facts = {}
        for job in made.jobs:
            children = len(job.indices) if job.indices is not None and job.array_size else job.array_size
            facts[job.name] = (children, size_text(job.vcpus, job.memory, job.gpus))
        name = made.workflow
    reports = reports or {}
    stages = _stages(parents)
    return name, [
        _Job(job, parents[job], stages[job], *facts[job], reports.get(job))
        for job in sorted(parents, key=stages.__getitem__)
    ]


def through_joins(made: Plan) -> dict[str, tuple[str, ...]]:
    """Return what each job of a plan depends on, joins seen through."""
    joins = {job.name for job in made.jobs if job.join}
    found: dict[str, tuple[str, ...]] = {}
    for job in made.jobs:
        above = (found[parent] if parent in joins else (parent,) for parent in job.parents)
        found[job.name] = tuple(dict.fromkeys(name for names in above for name in names))
    return {name: above for name, above in found.items() if name not in joins}


def _stages(parents: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return each job's stage, 1 for those without parents; those on a cycle come last."""
    left = {name: len(above) for name, above in parents.items()}
    children: dict[str, list[str]] = {}
    for name, above in parents.items():
        for parent in above:
            children.setdefault(parent, []).append(name)
    stages = {name: 1 for name, count in left.items() if count == 0}
    ready = list(stages)
    for name in ready:
        for child in children.get(name, ()):
            left[child] -= 1
            if left[child] == 0:
                stages[child] = 1 + max(stages[parent] for parent in parents[child])
                ready.append(child)
    last = max(stages.values(), default=0) + 1
    return {name: stages.get(name, last) for name in parents}


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _siblings(jobs: Sequence[_Job], children: Mapping[str, Sequence[str]]) -> Callable[[_Job], Hashable]:
    """Return a key that is the same for jobs whose names differ in numbers only, with the same parents and children."""
    keys = {
        job.name: (_pattern(job.name), job.stage, frozenset(job.parents), frozenset(children[job.name])) for job in jobs
    }
    alike = Counter(keys.values())
    return lambda job: keys[job.name] if alike[keys[job.name]] > FEW else job.name


def _node(node_id: str, group: Sequence[_Job], reports: Reports) -> Node:
    first = group[0]
    if len(group) == 1:
        report = first.report
        if report is None:
            return Node(node_id, clean(first.name), (first.name,), first.stage, first.size, first.resources)
        counts = {state.value: count for state, count in (report.children or {}).items() if count}
        sub = masked(clean(brief(report, first.parents, reports), 200))
        return Node(node_id, clean(first.name), (first.name,), first.stage, first.size, sub, report.state.value, counts)
    names = [job.name for job in group]
    if len({_pattern(name) for name in names}) == 1:
        name = f"{clean(names[0])} … {clean(names[-1])}"
    elif first.stage == group[-1].stage:
        name = f"stage {first.stage}"
    else:
        name = f"stages {first.stage} to {group[-1].stage}"
    if not reports:
        return Node(node_id, name, tuple(names), first.stage, None, count_text(len(group), "job"))
    states = Counter(reports[n].state if n in reports else JobState.SUBMITTED for n in names)
    counts = {state.value: count for state, count in states.items()}
    sub = f"{states[JobState.SUCCEEDED]:,}/{len(group):,}"
    return Node(node_id, name, tuple(names), first.stage, None, sub, array_state(states).value, counts)


# DOT

#: Of a node, in pixels; Graphviz is told the same in inches.
HEIGHT = 44
_NARROW, _WIDE = 132, 220


def node_width(shown: Graph) -> int:
    """Return the width of every node: fonts differ between Graphviz and the browser, so no text may set it alone."""
    badge = 24 if shown.running else 0
    longest = max((columns(short_name(node) + times(node.size)) for node in shown.nodes), default=0)
    return min(max(_NARROW + badge * 2 // 3, 20 + badge + round(6.9 * longest)), _WIDE + badge)


def short_name(node: Node) -> str:
    """Return a node's name as it fits into the widest node."""
    name = node.name
    if len(node.jobs) > 1 and " … " in name:
        # What both have in common is not said twice.
        head, _, tail = name.partition(" … ")
        common = 0
        while common < min(len(head), len(tail)) and head[common] == tail[common] and not head[common].isdigit():
            common += 1
        name = f"{head} … {tail[common:]}"
    return shorten(name, 28 - len(times(node.size)))


def to_dot(workflow: EZBatchWorkflow | Plan | EZBatchRun, reports: Reports | None = None, *, limit: int = NODES) -> str:
    """Return a workflow, a plan or a run in Graphviz's language.

    Parameters
    ----------
    workflow : EZBatchWorkflow, Plan or EZBatchRun
        What to draw.
    reports : mapping of str to JobReport, optional
        What is known of the jobs; of a run, those last seen.
    limit : int
        Above this many nodes, those that are alike become one.
    """
    shown = graph(workflow, reports, limit=limit)
    return graph_dot(shown, node_width(shown))


def graph_dot(shown: Graph, width: int) -> str:
    """Return a graph in Graphviz's language, its nodes so many pixels wide."""
    import graphviz

    def label(*lines: str) -> Any:  # noqa: ANN401 - graphviz's own kind of string
        # A label that begins with < and ends with > would be markup, one with & an entity.
        return graphviz.nohtml("\\n".join(graphviz.escape(line.replace("&", "&amp;")) for line in lines if line))

    inch = 72
    dot = graphviz.Digraph(
        graph_attr={"rankdir": "LR", "nodesep": f"{12 / inch:.3f}", "ranksep": f"{34 / inch:.3f}", "bgcolor": "white"},
        node_attr={
            "shape": "box",
            "style": "rounded,filled",
            "fixedsize": "true",
            "width": f"{width / inch:.3f}",
            "height": f"{HEIGHT / inch:.3f}",
            "fontname": "Helvetica",
            "fontsize": "10",
            "color": "#bdbdbd",
            "fillcolor": "white",
        },
        edge_attr={"color": "#8a8a8a", "arrowsize": "0.5"},
    )
    dot.attr(tooltip=label(shown.name))
    if len(shown.edges) > MANY_EDGES:
        dot.attr(splines="line")
    sources = {i for i, node in enumerate(shown.nodes) if node.stage == 1}
    with dot.subgraph() as first:
        first.attr(rank="same")
        for i in sorted(sources):
            _dot_node(first, shown.nodes[i], label)
    for i, node in enumerate(shown.nodes):
        if i not in sources:
            _dot_node(dot, node, label)
    for tail, head in shown.edges:
        blocked = {"style": "dashed", "color": COLOURS["BLOCKED"]} if shown.nodes[head].state == "BLOCKED" else {}
        dot.edge(f"n{tail}", f"n{head}", **blocked)
    return str(dot.source)


def _dot_node(into: Any, node: Node, label: Callable[..., str]) -> None:  # noqa: ANN401 - graphviz ships no annotations
    name = short_name(node) + times(node.size)
    attributes = {}
    if node.state:
        name = f"{glyph(node.state)} {name}"
        attributes["fillcolor"] = COLOURS.get(node.state, "white")
        attributes["fontcolor"] = "white" if node.state == "RUNNING" else "#111111"
    into.node(node.id, label(name, shorten(node.sub, 30)), tooltip=label(node.label), **attributes)


def engine() -> str | None:
    """Return what draws: ``"dot"``, ``"pygraphviz"`` or None."""
    from ezbatch_jupyter import svg

    return svg.engine()


def to_svg(workflow: EZBatchWorkflow | Plan | EZBatchRun, reports: Reports | None = None, *, limit: int = NODES) -> str:
    """Return a picture of a workflow, a plan or a run that stands alone: legible on light and dark pages.

    Parameters
    ----------
    workflow : EZBatchWorkflow, Plan or EZBatchRun
        What to draw.
    reports : mapping of str to JobReport, optional
        What is known of the jobs; of a run, those last seen.
    limit : int
        Above this many nodes, those that are alike become one.

    Raises
    ------
    NoEngineError
        If there is no Graphviz, or it failed.
    """
    from ezbatch_jupyter import svg

    shown = graph(workflow, reports, limit=limit)
    return svg.draw(shown, svg.layout(shown))


def to_png(
    workflow: EZBatchWorkflow | Plan | EZBatchRun, reports: Reports | None = None, *, limit: int = NODES
) -> bytes:
    """Return a PNG, as Graphviz itself draws it.

    Raises
    ------
    NoEngineError
        If there is no Graphviz, or it cannot draw PNG.
    """
    from ezbatch_jupyter import svg

    return svg.graphviz_output(to_dot(workflow, reports, limit=limit), "png")


def save(workflow: EZBatchWorkflow | Plan | EZBatchRun, path: str | os.PathLike[str]) -> None:
    """Write the graph into a file, as what its name ends in says.

    Parameters
    ----------
    workflow : EZBatchWorkflow, Plan or EZBatchRun
        What to draw.
    path : str or path
        A name that ends in ``.svg``, ``.png``, ``.dot`` or ``.gv``.

    Raises
    ------
    ValueError
        If the name ends in something else.
    NoEngineError
        If it takes Graphviz, and there is none.
    OSError
        If the file cannot be written.
    """
    output = Path(path)
    kind = output.suffix.lower()
    if kind == ".svg":
        output.write_text(to_svg(workflow), encoding="utf-8")
    elif kind == ".png":
        output.write_bytes(to_png(workflow))
    elif kind in (".dot", ".gv"):
        output.write_text(to_dot(workflow), encoding="utf-8")
    else:
        raise ValueError(f"{output}: the name has to end in .svg, .png or .dot")


# Text


def to_text(workflow: EZBatchWorkflow | Plan | EZBatchRun, reports: Reports | None = None, width: int = 100) -> str:
    """Return the graph as lines of text, one a node, stage by stage, each with what it waits for.

    Parameters
    ----------
    workflow : EZBatchWorkflow, Plan or EZBatchRun
        What to draw.
    reports : mapping of str to JobReport, optional
        What is known of the jobs; of a run, those last seen.
    width : int
        Columns at most.
    """
    shown = graph(workflow, reports, limit=LINES - 2)
    return "\n".join(_text(shown, max(width, 40)))


def title(shown: Graph) -> str:
    """Return what a graph is, in a few words."""
    parts = [count_text(shown.jobs, "job")]
    sizes = [node.size for node in shown.arrays if node.size is not None]
    if sizes:
        parts[0] += (
            f", {'one' if len(sizes) == 1 else len(sizes)} {'an array' if len(sizes) == 1 else 'of them arrays'}"
        )
        parts[0] += f" of {sum(sizes):,}" if len(sizes) == 1 else f" ({sum(sizes):,} children)"
    return f"{parts[0]}; {count_text(shown.stages, 'stage')}"


def _text(shown: Graph, width: int) -> Iterator[str]:
    yield shorten(f"{clean(shown.name)}: {title(shown)}", width)
    above: dict[int, list[int]] = {}
    for tail, head in shown.edges:
        above.setdefault(head, []).append(tail)
    order = sorted(range(len(shown.nodes)), key=lambda i: shown.nodes[i].stage)
    kept = order if len(order) < LINES else order[: LINES - 2]
    lefts = {i: _left(shown.nodes[i]) for i in kept}
    room = min(max((columns(left) for left in lefts.values()), default=0), width // 2)
    subs = {i: shown.nodes[i].sub if len(shown.nodes[i].jobs) == 1 or shown.running else "" for i in kept}
    sub_room = min(max((columns(sub) for sub in subs.values()), default=0), 24)
    stage = 0
    for i in kept:
        node = shown.nodes[i]
        number = f"{node.stage:>3}" if node.stage != stage else "   "
        stage = node.stage
        left, sub = shorten(lefts[i], room), shorten(subs[i], sub_room)
        line = f"{number}  {_padded(left, room)}  {_padded(sub, sub_room)}"
        names = [shown.nodes[parent].name for parent in above.get(i, ())]
        if names:
            line += "  ← " + _some(names, width - columns(line) - 4)
        yield line.rstrip()
    if len(kept) < len(order):
        yield f"     … and {len(order) - len(kept):,} more like these"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - columns(text))


def _left(node: Node) -> str:
    text = node.name + times(node.size)
    if len(node.jobs) > 1:
        text += f" ({count_text(len(node.jobs), 'job')})"
    return f"{glyph(node.state)} {text}" if node.state else text


def _some(names: Iterable[str], room: int) -> str:
    """Return as many names as fit."""
    names = list(names)
    shown: list[str] = []
    for i, name in enumerate(names):
        more = f" and {len(names) - i - 1} more" if i < len(names) - 1 else ""
        if shown and columns(", ".join([*shown, name])) + len(more) > room:
            return f"{', '.join(shown)} and {len(names) - i} more"
        shown.append(shorten(name, max(room - len(more), 12)))
    return ", ".join(shown)
