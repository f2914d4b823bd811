"""The picture of a graph: Graphviz says where things are, the drawing is ours, so that fonts and look are."""

from __future__ import annotations

import base64
import dataclasses
import functools
import html
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping

from ezbatch_jupyter.dag import HEIGHT, Graph, Node, NoEngineError, graph_dot, node_width, short_name
from ezbatch_jupyter.rows import COLOURS, clean, shorten, sign, times

__all__ = ["Layout", "badge", "bar_parts", "data_uri", "draw", "engine", "graphviz_output", "layout"]

#: Seconds; a graph of 1,000 nodes takes a quarter of one.
_TIMEOUT = 30
_PYGRAPHVIZ = """\
import sys, pygraphviz
graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode())
sys.stdout.buffer.write(graph.draw(format=sys.argv[1], prog="dot"))
"""
_MARGIN = 8
#: The states that a bar shows, in their order, and the least width of a part (px).
_BAR = ("SUCCEEDED", "FAILED", "BLOCKED", "RUNNING", "STARTING")
_LEAST_PART = 2.0


def engine() -> str | None:
    """Return what draws: ``"dot"``, ``"pygraphviz"`` or None."""
    if shutil.which("dot"):
        return "dot"
    return "pygraphviz" if importlib.util.find_spec("pygraphviz") else None


def graphviz_output(dot: str, kind: str) -> bytes:
    """Run Graphviz.

    Parameters
    ----------
    dot : str
        A graph in its language.
    kind : str
        What to make of it, such as ``plain`` or ``png``.

    Raises
    ------
    NoEngineError
        If there is none, or it failed.
    """
    name = engine()
    if name is None:
        raise NoEngineError
    # The wheel's Graphviz runs in a process of its own, so that a crash in it is not the kernel's.
    command = ["dot", f"-T{kind}"] if name == "dot" else [sys.executable, "-c", _PYGRAPHVIZ, kind]
    try:
        done = subprocess.run(command, input=dot.encode(), capture_output=True, timeout=_TIMEOUT, check=True)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise NoEngineError(f"{name} failed: {said[-1] if said else error.returncode}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoEngineError(f"{name}: {error}") from error
    return done.stdout


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where things are, in pixels, y downwards.

    Parameters
    ----------
    width, height : float
        Of the picture.
    node_width : int
        Of every node.
    boxes : tuple of (float, float)
        Each node's upper left corner.
    paths : tuple of str
        Each edge as SVG's path data.
    tips : tuple of str
        Each edge's arrow, as SVG's points.
    """

    width: float
    height: float
    node_width: int
    boxes: tuple[tuple[float, float], ...]
    paths: tuple[str, ...]
    tips: tuple[str, ...]


def layout(shown: Graph) -> Layout:
    """Return where a graph's nodes and edges go. States do not count: a graph is laid out once.

    Raises
    ------
    NoEngineError
        If there is no Graphviz, or it failed.
    """
    bare = tuple(dataclasses.replace(node, sub="", state="", counts={}, name="", size=None) for node in shown.nodes)
    plain = dataclasses.replace(shown, name="", nodes=bare)
    width = node_width(shown)
    return _placed(graph_dot(plain, width), len(shown.nodes), shown.edges, width)


@functools.lru_cache(maxsize=64)
def _placed(dot: str, count: int, edges: tuple[tuple[int, int], ...], width: int) -> Layout:
    boxes: dict[int, tuple[float, float]] = {}
    curves: dict[tuple[int, int], list[tuple[float, float]]] = {}
    total = (0.0, 0.0)
    for line in graphviz_output(dot, "plain").decode().splitlines():
        kind, *words = line.split(" ")
        if kind == "graph":
            total = (float(words[1]) * 72, float(words[2]) * 72)
        elif kind == "node":
            x, y = float(words[1]) * 72, total[1] - float(words[2]) * 72
            boxes[int(words[0][1:])] = (x - width / 2 + _MARGIN, y - HEIGHT / 2 + _MARGIN)
        elif kind == "edge":
            numbers = [float(number) * 72 for number in words[3 : 3 + 2 * int(words[2])]]
            points = list(zip(numbers[::2], (total[1] - y for y in numbers[1::2]), strict=True))
            curves[int(words[0][1:]), int(words[1][1:])] = [(x + _MARGIN, y + _MARGIN) for x, y in points]
    drawn = [_arrow(curves.get(edge, []), boxes[edge[1]]) for edge in edges]
    return Layout(
        width=round(total[0] + 2 * _MARGIN, 1),
        height=round(total[1] + 2 * _MARGIN, 1),
        node_width=width,
        boxes=tuple((round(boxes[i][0], 1), round(boxes[i][1], 1)) for i in range(count)),
        paths=tuple(path for path, _tip in drawn),
        tips=tuple(tip for _path, tip in drawn),
    )


def _arrow(points: list[tuple[float, float]], head: tuple[float, float]) -> tuple[str, str]:
    """Return an edge's path and its tip, from the Bézier points, which end where Graphviz would put its own arrow."""
    if not points:
        return "", ""
    (x, y), (bx, by) = points[-1], points[-2]
    # Graphviz leaves room for its arrow: the line goes on in its direction as far as the box.
    dx, dy = x - bx, y - by
    length = (dx * dx + dy * dy) ** 0.5 or 1.0
    ux, uy = dx / length, dy / length
    reach = min(max((head[0] - x) / ux, 0), 12) if ux > 0.2 else 5  # noqa: PLR2004 - a steep line has no far to go
    tx, ty = x + ux * reach, y + uy * reach
    sx, sy = tx - ux * 5, ty - uy * 5
    rest = " ".join(f"{px:.1f},{py:.1f}" for px, py in points[1:])
    path = f"M{points[0][0]:.1f},{points[0][1]:.1f}C{rest}L{sx:.1f},{sy:.1f}"
    wing = 1.8
    tip = f"{sx - uy * wing:.1f},{sy + ux * wing:.1f} {tx:.1f},{ty:.1f} {sx + uy * wing:.1f},{sy - ux * wing:.1f}"
    return path, tip


# Drawing

_GLYPHS = "'DejaVu Sans','Segoe UI Symbol','Apple Symbols','Noto Sans Symbols 2',sans-serif"
#: JupyterLab's variables where the picture is part of its page; else the colours of the reader's scheme. What knows
#: neither, such as a converter to PDF, finds plain attributes.
_STYLE = (
    ".ez-dag{--ez-card:var(--jp-layout-color0,#fff);--ez-box:var(--jp-layout-color1,#fff);"
    "--ez-line:var(--jp-border-color1,#bdbdbd);--ez-track:var(--jp-border-color2,#e0e0e0);"
    "--ez-ink1:var(--jp-ui-font-color1,rgba(0,0,0,.87));--ez-ink2:var(--jp-ui-font-color2,rgba(0,0,0,.54));"
    "--ez-fail:#fdf2ec}"
    "@media (prefers-color-scheme:dark){.ez-dag{--ez-card:var(--jp-layout-color0,#111);"
    "--ez-box:var(--jp-layout-color1,#212121);--ez-line:var(--jp-border-color1,#616161);"
    "--ez-track:var(--jp-border-color2,#424242);--ez-ink1:var(--jp-ui-font-color1,rgba(255,255,255,.87));"
    "--ez-ink2:var(--jp-ui-font-color2,rgba(255,255,255,.54));--ez-fail:#3a2a1f}}"
    ".ez-dag .card{fill:var(--ez-card)}.ez-dag .box{fill:var(--ez-box);stroke:var(--ez-line)}"
    ".ez-dag .edge path{stroke:var(--ez-line)}.ez-dag .edge polygon{fill:var(--ez-line)}"
    ".ez-dag .name{fill:var(--ez-ink1)}.ez-dag .sub,.ez-dag .count{fill:var(--ez-ink2)}"
    ".ez-dag .track{fill:var(--ez-track)}"
    ".ez-dag .st_RUNNING .box{stroke:#0072b2;stroke-width:1.5}"
    ".ez-dag .st_FAILED .box{stroke:#d55e00;stroke-width:1.5;fill:var(--ez-fail)}"
    ".ez-dag .st_FAILED .sub{fill:var(--ez-ink1)}"
    ".ez-dag .to_BLOCKED path{stroke:#cc79a7;stroke-dasharray:3 3}.ez-dag .to_BLOCKED polygon{fill:#cc79a7}"
)


def _xml(text: str) -> str:
    return html.escape(clean(text))


def draw(shown: Graph, placed: Layout) -> str:
    """Return the picture as SVG."""
    return "".join(_draw(shown, placed))


def _draw(shown: Graph, placed: Layout) -> Iterator[str]:
    width, height = placed.width, placed.height
    name = _xml(f"DAG of {shown.name}")
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ez-dag" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{name}" '
        f"font-family=\"system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif\"><title>{name}</title>"
        f'<style>{_STYLE}</style><rect class="card" width="{width:g}" height="{height:g}" rx="2" fill="#fff"/>'
    )
    for (_tail, head), path, tip in zip(shown.edges, placed.paths, placed.tips, strict=True):
        blocked = " to_BLOCKED" if shown.nodes[head].state == "BLOCKED" else ""
        yield (
            f'<g class="edge{blocked}"><path d="{path}" fill="none" stroke="#bdbdbd"/>'
            f'<polygon points="{tip}" fill="#bdbdbd"/></g>'
        )
    for node, (x, y) in zip(shown.nodes, placed.boxes, strict=True):
        yield from _draw_node(node, x, y, placed.node_width)
    yield "</svg>"


def _draw_node(node: Node, x: float, y: float, width: int) -> Iterator[str]:
    state = f" st_{node.state}" if node.state in COLOURS else ""
    yield (
        f'<g id="{node.id}" class="node{state}"><title>{_xml(node.label)}</title>'
        f'<rect class="box" x="{x:g}" y="{y:g}" width="{width}" height="{HEIGHT}" rx="6" fill="#fff" stroke="#bdbdbd"/>'
    )
    left = x + 10
    if state:
        ink = "#fff" if node.state == "RUNNING" else "#111"
        yield (
            f'<rect x="{left:g}" y="{y + 7:g}" width="16" height="16" rx="3" fill="{COLOURS[node.state]}"/>'
            f'<text x="{left + 8:g}" y="{y + 15:g}" dy=".36em" font-size="12" text-anchor="middle" fill="{ink}" '
            f'font-family="{_GLYPHS}">{sign(node.state)}</text>'
        )
        left += 24
    count = (
        f'<tspan class="count" font-weight="400" fill="#666">{times(node.size)}</tspan>'
        if node.size is not None
        else ""
    )
    yield (
        f'<text class="name" x="{left:g}" y="{y + 19.3:g}" font-size="12" font-weight="500" fill="#222">'
        f"{_xml(short_name(node))}{count}</text>"
    )
    sub = shorten(node.sub, int((x + width - left - 6) / 5.6))
    yield f'<text class="sub" x="{left:g}" y="{y + 34.5:g}" font-size="11" fill="#666">{_xml(sub)}</text>'
    total = sum(node.counts.values())
    if total and state:
        bar = left + 8 + round(6.2 * len(sub))
        room = x + width - 10 - bar
        if room > 16:  # noqa: PLR2004 - a shorter bar says nothing
            where = f'y="{y + 28.5:g}" height="4"'
            yield f'<rect class="track" x="{bar:g}" {where} width="{room:g}" rx="2" fill="#e0e0e0"/>'
            for kind, part in bar_parts(node.counts, room).items():
                yield f'<rect x="{bar:.1f}" {where} width="{part:.1f}" fill="{COLOURS[kind]}"/>'
                bar += part
    yield "</g>"


def bar_parts(counts: Mapping[str, int], room: float) -> dict[str, float]:
    """Return how wide each state's part of a bar is: one failure among thousands is seen, too.

    Parameters
    ----------
    counts : mapping of str to int
        How many are in each state.
    room : float
        The bar's width.
    """
    total = sum(counts.values())
    shares = {kind: room * counts[kind] / total for kind in _BAR if counts.get(kind)}
    parts = {kind: max(share, _LEAST_PART) for kind, share in shares.items()}
    if parts:
        parts[max(parts, key=lambda kind: parts[kind])] -= sum(parts.values()) - sum(shares.values())
    return parts


def badge(state: str, size: int = 16) -> str:
    """Return a state's badge as SVG."""
    ink = "#fff" if state == "RUNNING" else "#111"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size}" height="{size}" viewBox="0 0 16 16">'
        f'<rect width="16" height="16" rx="3" fill="{COLOURS.get(state, "#bbb")}"/>'
        f'<text x="8" y="8" dy=".36em" font-size="12" text-anchor="middle" fill="{ink}" font-family="{_GLYPHS}">'
        f"{sign(state)}</text></svg>"
    )


def data_uri(svg: str) -> str:
    """Return a picture as an address that holds it."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
