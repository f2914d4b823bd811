from __future__ import annotations

import itertools
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from ezbatch.planning import plan
from ezbatch.workflow import EZBatchJob, EZBatchWorkflow
from ezbatch_jupyter import dag, svg
from ezbatch_jupyter.rows import times
from tests.containers import require
from tests.jupyter import scenes
from tests.jupyter.corpus import CORPUS

SVG = "{http://www.w3.org/2000/svg}"
SHAPES: dict[str, Callable[[], EZBatchWorkflow]] = {
    "one": lambda: scenes.workflow({"only": []}, "one"),
    "chain": lambda: scenes.chain(12),
    "long chain": lambda: scenes.chain(400),
    "fan": lambda: scenes.fan(100),
    "diamond": scenes.diamond,
    "arrays": scenes.cohort,
    "layers": lambda: scenes.layers(10, 14),
    "a thousand": lambda: scenes.layers(25, 40),
}


@pytest.fixture
def dot() -> str:
    return require("dot")


def nodes_of(picture: str) -> list[ET.Element]:
    root = ET.fromstring(picture)  # noqa: S314 - our own picture
    return [group for group in root.iter(f"{SVG}g") if "node" in (group.get("class") or "").split()]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_drawn(shape: str, dot: str) -> None:
    flow = SHAPES[shape]()
    shown = dag.graph(flow)
    nodes = nodes_of(dag.to_svg(flow))
    assert len(nodes) == len(shown.nodes) <= dag.NODES
    assert len({node.get("id") for node in nodes}) == len(nodes)
    done = subprocess.run([dot, "-Tplain"], input=dag.to_dot(flow), text=True, capture_output=True, check=True)
    assert done.stdout.count("\nnode ") == len(shown.nodes)
    assert len(dag.to_text(flow).splitlines()) <= 40


@pytest.mark.usefixtures("dot")
def test_no_two_nodes_overlap_and_every_edge_is_there() -> None:
    shown = dag.graph(scenes.cohort())
    placed = svg.layout(shown)
    for i, (x, y) in enumerate(placed.boxes):
        assert 0 <= x <= placed.width - placed.node_width
        assert 0 <= y <= placed.height - dag.HEIGHT
        assert all(abs(x - a) >= placed.node_width or abs(y - b) >= dag.HEIGHT for a, b in placed.boxes[:i])
    assert len(shown.edges) == len(placed.paths) == 14
    assert all(path.startswith("M") for path in placed.paths)


@pytest.mark.usefixtures("dot")
def test_states_recolour_and_move_nothing() -> None:
    flow, reports = scenes.cohort(), scenes.cohort_reports()
    run, stage = scenes.staged(flow, *reports.values())
    first = dag.graph(run.refresh())
    before = svg.layout(first)
    stage.put(scenes.report("joint-call", "RUNNING"), scenes.report("vep-cache", "SUCCEEDED"))
    second = dag.graph(run.refresh())
    assert svg.layout(second) is before
    picture = dag.to_svg(run)
    states = {node.get("class", "").partition("st_")[2] for node in nodes_of(picture)}
    assert {"RUNNING", "FAILED", "BLOCKED", "SUCCEEDED", "PENDING"} <= states
    assert "371/500" in picture
    assert "to_BLOCKED" in picture


def test_a_group_stands_for_siblings_and_knows_their_states() -> None:
    flow = scenes.fan(100)
    run, stage = scenes.staged(flow)
    stage.put(*(scenes.report(f"part-{i:03}", "SUCCEEDED") for i in range(37)), scenes.report("part-050", "FAILED"))
    shown = dag.graph(run.refresh())
    assert [node.name for node in shown.nodes] == ["first", "part-000 … part-099", "last"]
    group = shown.nodes[1]
    assert (group.sub, group.state, len(group.jobs)) == ("37/100", "PENDING", 100)
    assert group.counts == {"SUCCEEDED": 37, "FAILED": 1, "PENDING": 62}
    assert shown.edges == ((0, 1), (1, 2))


def test_many_jobs_that_are_alike_in_nothing_are_drawn_by_stage() -> None:
    shown = dag.graph(scenes.layers(25, 40))
    assert len(shown.nodes) <= dag.NODES
    assert sum(len(node.jobs) for node in shown.nodes) == 1000
    assert all(shown.nodes[a].stage < shown.nodes[b].stage for a, b in shown.edges)


def test_joins_are_seen_through() -> None:
    made = plan(scenes.fan(100))
    assert any(job.join for job in made.jobs)
    shown = dag.graph(made)
    assert shown.jobs == 102
    assert len(shown.nodes) == 3
    assert len(shown.edges) == 2


@pytest.mark.usefixtures("dot")
def test_a_workflow_with_a_cycle_or_an_unknown_parent_is_drawn_all_the_same() -> None:
    flow = scenes.workflow({"a": ["c"], "b": ["a"], "c": ["b"]})
    flow.dependencies["b"].append("nobody")
    assert len(nodes_of(dag.to_svg(flow))) == 3
    assert "a" in dag.to_text(flow)


@pytest.mark.usefixtures("dot")
def test_an_empty_workflow_is_no_error() -> None:
    flow = EZBatchWorkflow("empty", {})
    assert nodes_of(dag.to_svg(flow)) == []
    assert dag.to_text(flow) == "empty: 0 jobs; 0 stages"


def test_the_text_of_the_cohort() -> None:
    assert dag.to_text(scenes.cohort(), scenes.cohort_reports()) == (
        """\
cohort-wgs: 12 jobs, one an array of 500; 5 stages
  1  ✔ fetch-reference  1 m 00 s
     ✔ fetch-reads      2 m 00 s
  2  ✔ split-intervals  3 m 00 s           ← fetch-reference
     ✔ index-bwa        4 m 00 s           ← fetch-reference
     ◑ vep-cache        waits for room     ← fetch-reference
     ✔ fastqc           5 m 00 s           ← fetch-reads
     ✖ classify-taxa    ran out of memory  ← fetch-reads
  3  ▶ align x500       371/500            ← index-bwa, fetch-reads
     ⊘ taxa-report      by classify-taxa   ← classify-taxa
  4  ◔ joint-call       waits for align    ← split-intervals, align
     ◔ multiqc          waits for align    ← align, fastqc
  5  ◔ annotate         waits for 2 jobs   ← vep-cache, joint-call""".replace(" x500", times(500))
    )


def test_the_text_of_a_fan() -> None:
    assert dag.to_text(scenes.fan(44)) == (
        """\
fan: 46 jobs; 3 stages
  1  first                          1 vCPU, 2 GiB
  2  part-000 … part-043 (44 jobs)                 ← first
  3  last                           1 vCPU, 2 GiB  ← part-000 … part-043"""
    )


@pytest.mark.parametrize("width", [40, 60, 100])
def test_no_line_of_a_text_is_wider_than_asked_for(width: int) -> None:
    for shape in SHAPES.values():
        assert max(map(len, dag.to_text(shape(), width=width).splitlines())) <= width + 30  # the columns' least


def test_without_an_engine_there_is_text_and_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    svg._placed.cache_clear()
    assert dag.engine() is None
    with pytest.raises(dag.NoEngineError, match=r"pip install 'pygraphviz>=2'"):
        dag.to_svg(scenes.diamond())
    with pytest.raises(dag.NoEngineError):
        dag.to_png(scenes.diamond())
    assert "diamond: 4 jobs" in dag.to_text(scenes.diamond())


def test_an_engine_that_fails_is_no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dot").write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    (tmp_path / "dot").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    svg._placed.cache_clear()
    with pytest.raises(dag.NoEngineError, match="dot failed: broken"):
        dag.to_svg(scenes.diamond())


@pytest.mark.usefixtures("dot")
def test_a_png_is_one() -> None:
    assert dag.to_png(scenes.diamond()).startswith(b"\x89PNG")


def hostile() -> EZBatchWorkflow:
    names = list(CORPUS)
    jobs = {name: EZBatchJob("image", "true") for name in names}
    return EZBatchWorkflow(CORPUS[0], jobs, {b: [a] for a, b in itertools.pairwise(names)})


def test_what_users_write_is_text_in_the_picture() -> None:
    require("dot")
    assert len(CORPUS) >= 100
    reports = {name: scenes.report(name, "FAILED", reason=name) for name in CORPUS}
    for found in (dag.to_svg(hostile(), limit=1000), dag.to_svg(hostile(), reports, limit=1000)):
        root = ET.fromstring(found)  # noqa: S314 - our own picture
        assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
            "svg", "title", "style", "rect", "g", "path", "polygon", "text", "tspan",
        }  # fmt: skip
        assert not [
            name for element in root.iter() for name in element.attrib if name.startswith("on") or "href" in name
        ]


def test_what_users_write_is_text_in_dot() -> None:
    dot = require("dot")
    reports = {name: scenes.report(name, "FAILED", reason=name) for name in CORPUS}
    source = dag.to_dot(hostile(), reports, limit=1000)
    drawn = subprocess.run([dot, "-Tsvg"], input=source.encode(), capture_output=True, check=True).stdout
    root = ET.fromstring(drawn)  # noqa: S314 - of our own DOT
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags <= {"svg", "g", "title", "polygon", "path", "text", "{http://www.w3.org/1999/xlink}a", "a"}
    assert not re.search(rb'href="(?!#)[^"]', drawn), "a label became a link"


def test_one_failure_among_thousands_is_seen_in_a_bar() -> None:
    parts = svg.bar_parts({"SUCCEEDED": 9_998, "FAILED": 1, "RUNNING": 1}, 60)
    assert list(parts) == ["SUCCEEDED", "FAILED", "RUNNING"]
    assert min(parts.values()) >= 2
    assert sum(parts.values()) == pytest.approx(60)
    assert svg.bar_parts({"RUNNABLE": 3, "SUCCEEDED": 1}, 60) == {"SUCCEEDED": 15}
    assert svg.bar_parts({"RUNNABLE": 3}, 60) == {}
