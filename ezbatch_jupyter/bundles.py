"""What a notebook keeps of workflows, plans and runs: mime bundles that read well anywhere.

Making one calls nothing. It holds no account id, environment value or presigned URL.
"""

from __future__ import annotations

import dataclasses
import html
import logging
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ezbatch.cost import Estimate, EstimateRow, about, estimate
from ezbatch.explain import Explanation
from ezbatch.planning import HEADS
from ezbatch.progress import glyph
from ezbatch_jupyter import dag, svg
from ezbatch_jupyter.rows import Row, clean, columns, counts_text, masked, rows, run_sign, shorten, times, told, word

if TYPE_CHECKING:
    from ezbatch.planning import Plan
    from ezbatch.run import EZBatchRun
    from ezbatch.workflow import EZBatchWorkflow

__all__ = ["Ending", "plan_bundle", "run_bundle", "run_rows", "run_title", "workflow_bundle"]

log = logging.getLogger(__name__)

Bundle = dict[str, Any]

#: Lines of text/plain, and rows of a saved table.
LINES = 40
NOTHING = "\N{EN DASH}"
ROWS = 60
_WIDTH = 100
#: Shorter values of variables stand in logs by chance, and hide nothing.
_SECRET_LENGTH = 6
#: Columns of a job's name in a table of several jobs; the whole name stands in its title.
_NAME = 36
_QUIET = "opacity:.65"
_CELL = "text-align:left;padding:1px 12px 1px 0;white-space:nowrap;vertical-align:top;line-height:20px"
_EDGE = "border:1px solid rgba(128,128,128,.35)"
_PRE = (
    f"margin:8px 0;padding:8px 12px;{_EDGE};white-space:pre-wrap;font-size:12px;line-height:18px;"
    "font-family:var(--jp-code-font-family, monospace)"
)


@dataclasses.dataclass(frozen=True)
class Ending:
    """What a view that watched a run to its end can tell beside its reports, which alone a repr may use.

    Parameters
    ----------
    job : str
        The job it is about: the one that needs attention most, or the only one.
    explanation : Explanation, optional
        Of that job, when it failed.
    log : sequence of str
        The last lines that the job wrote.
    where : str
        Where the jobs ran.
    child : int, optional
        Which of an array's children wrote that log.
    """

    job: str = ""
    explanation: Explanation | None = None
    log: Sequence[str] = ()
    where: str = ""
    child: int | None = None


def _escaped(text: object) -> str:
    return html.escape(clean(text))


def _quiet(text: str) -> str:
    return f'<span style="{_QUIET}">{_escaped(text)}</span>'


def _image(picture: str, alt: str, style: str) -> str:
    return f'<img src="{svg.data_uri(picture)}" alt="{_escaped(alt)}" style="{style}">'


def _badge(state: str) -> str:
    return _image(
        svg.badge(state),
        state.lower(),
        # JupyterLab's max-width of 100 % would let a table's column be narrower than the badge in it.
        "width:16px;max-width:none;height:16px;vertical-align:-3px;margin:0 8px 0 0;display:inline",
    )


def _dag_image(picture: str, alt: str) -> str:
    return f'<div style="overflow-x:auto;margin:4px 0">{_image(picture, alt, "max-width:100%;height:auto")}</div>'


def _box(content: Iterable[str]) -> str:
    return f'<div style="font-size:13px;line-height:20px">{"".join(content)}</div>'


def _picture(source: Any) -> str | None:  # noqa: ANN401 - whatever dag.to_svg takes
    """Return the DAG as SVG, or None where it cannot be drawn, or would show less than a table."""
    if dag.engine() is None:
        return None
    try:
        shown = dag.graph(source)
        if not shown.nodes or shown.jobs > dag.JOBS:
            return None
        return svg.draw(shown, svg.layout(shown))
    except dag.NoEngineError as error:
        log.warning("the DAG is shown as text: %s", error)
        return None


def _text_block(text: str) -> str:
    return f'<pre style="{_PRE}">{html.escape(text)}</pre>'


def _with_picture(bundle: Bundle, picture: str | None) -> Bundle:
    if picture is not None:
        bundle["image/svg+xml"] = picture
    return bundle


# A workflow


def workflow_bundle(workflow: EZBatchWorkflow) -> Bundle:
    """Return how a workflow shows itself: what it is, its DAG, and what to do next."""
    shown = dag.graph(workflow)
    problems = workflow.problems()
    state = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}" if problems else "no problems"
    title = f"{dag.title(shown)}; {state}; not submitted"
    picture = _picture(workflow)
    parts = [f'<p style="margin:0"><b>{_escaped(workflow.name)}</b>&ensp;{_quiet(title)}</p>']
    text = dag.to_text(workflow, width=_WIDTH).splitlines()
    lines = [f"{clean(workflow.name)}: {title}", *text[1:]]
    parts.append(
        _text_block("\n".join(text[1:])) if picture is None else _dag_image(picture, f"DAG: {dag.title(shown)}")
    )
    if shown.jobs > dag.JOBS:
        parts.append(
            f'<p style="margin:0">{_quiet("Too many jobs for a picture: ezbatch_jupyter.dag.to_dot(workflow)")}</p>'
        )
    for problem in problems[:5]:
        said = masked(f"{problem.where}: {problem.what}. {problem.remedy}.")
        parts.append(f'<p style="margin:4px 0 0">{_badge("FAILED")}{_escaped(said)}</p>')
    if len(problems) > 5:  # noqa: PLR2004 - as many as are shown above
        parts.append(f'<p style="margin:4px 0 0">{_quiet(f"… and {len(problems) - 5} more: workflow.problems()")}</p>')
    hints = (
        ("plan(workflow)", "what will be submitted"),
        ("%ezbatch form workflow", "edit"),
        ("workflow.submit(queue=…)", "run"),
    )
    said = "&emsp;".join(f'<code style="font-size:12px">{_escaped(code)}</code> {_quiet(what)}' for code, what in hints)
    parts.append(f'<p style="margin:4px 0 0;font-size:12px">{said}</p>')
    problem_lines = [shorten(masked(clean(f"  ✖ {p.where}: {p.what}")), _WIDTH * 2) for p in problems[:5]]
    lines = [*lines[: LINES - len(problem_lines)], *problem_lines]
    return _with_picture({"text/html": _box(parts), "text/plain": "\n".join(lines)}, picture)


# A plan


def plan_bundle(plan: Plan) -> Bundle:
    """Return how a plan shows itself: its DAG, what will be submitted, and on AWS what it may cost."""
    lines = [masked(line) for line in str(plan).splitlines()]
    picture = _picture(plan)
    title = masked(f"{plan.summary}; on {plan.place}; planned, not submitted")
    parts = [f'<p style="margin:0"><b>{_escaped(plan.workflow)}</b>&ensp;{_quiet(title)}</p>']
    if picture is not None:
        parts.append(_dag_image(picture, f"DAG of {plan.workflow}"))
    # On this machine nothing is billed.
    guess = None if plan.local else estimate(plan)
    parts.append(_plan_table(plan, guess))
    if guess is not None:
        parts.append(f'<p style="margin:4px 0 0"><b>Cost</b>&ensp;{_escaped(guess.summary)}</p>')
    parts += [f'<p style="margin:4px 0 0">{_quiet(masked(f"{note}."))}</p>' for note in plan.notes]
    last = [] if guess is None else ["", f"  Cost: {guess.summary}"]
    room = LINES - len(last)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"  … and {len(lines) - room + 1} more lines: print(plan)"]
    return _with_picture({"text/html": _box(parts), "text/plain": "\n".join([*lines, *last])}, picture)


def _plan_table(plan: Plan, guess: Estimate | None) -> str:
    rows = plan.rows()[:ROWS]
    heads: tuple[str, ...] = HEADS
    costs = {} if guess is None else {row.name: row for row in guess.rows}
    if guess is not None:
        heads = (*HEADS[:-2], "an hour, each", "at most", *HEADS[-2:])
    body = []
    for row in rows:
        cells = row.cells
        if guess is not None:
            cells = (*cells[:-2], *_costs([costs[name] for name in row.jobs if name in costs]), *cells[-2:])
        styles = [_CELL] * (len(cells) - 1) + [f"{_CELL};font-family:var(--jp-code-font-family, monospace)"]
        body.append(_table_row([_escaped(shorten(masked(clean(cell)), 60)) for cell in cells], styles))
    left = len(plan.jobs) - sum(len(row.jobs) for row in rows)
    if left:
        more = _quiet(f"… and {left:,} more: plan.jobs")
        body.append(f'<tr><td style="{_CELL}" colspan="{len(heads)}">{more}</td></tr>')
    return _scrolled(_table(heads, body))


def _costs(rows: Sequence[EstimateRow]) -> tuple[str, str]:
    """Return what each of some jobs that are alike costs an hour, and what all of them cost at most."""
    if not rows:  # a join costs nothing
        return "", ""
    limits = [row.at_most for row in rows if row.at_most is not None]
    at_most = sum(limits) if len(limits) == len(rows) else None
    return about(rows[0].hourly.total, rows[0].approximate), about(at_most, rows[0].approximate)


# A run


def run_rows(run: EZBatchRun) -> dict[str, Row]:
    """Return a row for each job of a run, as it was last seen."""
    planned = {job.name: job for job in run.plan.jobs}
    sizes = {
        name: len(job.indices) if job.indices is not None and job.array_size else job.array_size
        for name, job in planned.items()
    }
    copying = {name for name, job in planned.items() if job.paths}
    made = rows(run.jobs, run.parents, sizes, {name: job.attempts for name, job in planned.items()}, copying)
    for name, found in run.waiting.items():
        made[name] = dataclasses.replace(made[name], why=masked(clean(told(found))), remedy=masked(clean(found.remedy)))
    return made


def _explained(run: EZBatchRun, ordered: Sequence[Row], ending: Ending) -> Ending:
    """Return an ending that explains the job that needs attention most, as far as its last look tells."""
    if ending.explanation is not None:
        return ending
    row = next((row for row in ordered if row.state in ("FAILED", "RUNNABLE") and row.remedy), None)
    return (
        ending
        if row is None
        else dataclasses.replace(ending, job=row.name, explanation=run.explain(row.name, look=False))
    )


def secrets_of(run: EZBatchRun) -> list[str]:
    """Return the values of variables that must not be saved, the longest first."""
    values = {value for job in run.workflow.jobs.values() for value in job.environment.values()}
    return sorted((value for value in values if len(value) >= _SECRET_LENGTH), key=len, reverse=True)


def elapsed(run: EZBatchRun) -> float | None:
    """Return for how many seconds an ended run went on."""
    return None if run.finished is None else max((run.finished - run.created).total_seconds(), 0)


def run_title(run: EZBatchRun) -> str:
    """Return in a line what has become of a run."""
    from ezbatch.planning import duration_text

    seconds = elapsed(run)
    parts = [run.id]
    if seconds is not None:
        parts.append(duration_text(seconds))
    counts = {state.value: count for state, count in run.counts.items()}
    if len(run.jobs) > 1:
        if counts:
            parts.append(counts_text(counts))
        if run.unsubmitted:
            parts.append(f"{run.unsubmitted:,} not submitted")
    parts.append("on this machine" if run.queue == "local" else f"on {masked(run.queue)}")
    return ", ".join(parts)


def run_bundle(run: EZBatchRun, ending: Ending | None = None) -> Bundle:
    """Return what a notebook keeps of a run.

    Parameters
    ----------
    run : EZBatchRun
        It is not looked at again.
    ending : Ending, optional
        What a view saw at the run's end.
    """
    made = run_rows(run)
    ordered = sorted(made.values(), key=lambda row: row.urgency)
    ending = _explained(run, ordered, ending or Ending())
    secrets = secrets_of(run)

    def hidden(text: str) -> str:
        return masked(text, secrets)

    picture = _picture(run)
    state = run.state
    single = len(made) == 1
    title = _single_title(run, ordered[0], ending) if single else run_title(run)
    parts = [
        f'<p style="margin:0">{_badge(run_sign(state))}',
        f"<b>{_escaped(run.name)} {_escaped(state.lower())}</b>&emsp;{_quiet(hidden(title))}</p>",
    ]
    lines = [f"{glyph(run_sign(state))} {clean(run.name)} {state.lower()}  {hidden(title)}"]
    table = [dataclasses.replace(row, why=hidden(row.why), remedy=hidden(row.remedy)) for row in ordered]
    if not single:
        text = dag.to_text(run, width=_WIDTH).splitlines()[1:]
        parts.append(
            _dag_image(picture, f"DAG of {run.name}: {title}") if picture is not None else _text_block("\n".join(text))
        )
        parts.append(_html_table(table, {hidden(ending.explanation.remedy)} if ending.explanation else set()))
        lines += ["", *text]
    whose = "" if ending.child is None else _whose_log(run.id, clean(ending.job), ending.child)
    after = _ending_lines(ending, whose, hidden)
    parts += _ending_html(ending, whose, hidden)
    room = LINES - len(lines) - len(after) - 1
    if not single:
        rest = _text_table(table, room)
        lines += ["", *rest] if rest else []
    lines = [hidden(line) for line in lines + after]
    return _with_picture({"text/html": _box(parts), "text/plain": "\n".join(lines[:LINES])}, picture)


def _single_title(run: EZBatchRun, row: Row, ending: Ending) -> str:
    report = run.jobs[row.name]
    parts = []
    if row.ran_text:
        parts.append(f"ran {row.ran_text}")
    if report.exit_code is not None:
        parts.append(f"exit {report.exit_code}")
    if row.counts:
        parts.append(counts_text(row.counts))
    if row.attempt > 1:
        parts.append(f"attempt {row.attempt_text}")
    where = "on this machine" if run.queue == "local" else f"on {run.queue}"
    parts.append(ending.where or where)
    parts.append(run.id)
    return ", ".join(parts)


def _ending_html(ending: Ending, whose: str, hidden: Callable[[str], str]) -> list[str]:
    parts = []
    if ending.explanation is not None:
        found = ending.explanation
        rows_ = (("Job", ending.job), ("Cause", found.cause), ("Evidence", found.evidence), ("Remedy", found.remedy))
        said = "".join(
            f'<tr><td style="{_CELL}">{_quiet(head)}</td>'
            f'<td style="{_CELL};white-space:normal;overflow-wrap:anywhere">{_escaped(hidden(text))}</td></tr>'
            for head, text in rows_
            if text
        )
        parts.append(f'<table style="margin:8px 0 0;font-size:13px">{said}</table>')
    if ending.log:
        if whose:
            parts.append(f'<p style="margin:8px 0 0;font-size:12px">{_quiet(whose)}</p>')
        parts.append(_text_block("\n".join(hidden(clean(line, 400)) for line in ending.log)))
    return parts


def _whose_log(run_id: str, job: str, child: int) -> str:
    another = shlex.quote(f"{job}:NUMBER")
    return f"The end of the log of {job}:{child}; of another child: %ezbatch logs {run_id} {another}"


def _ending_lines(ending: Ending, whose: str, hidden: Callable[[str], str]) -> list[str]:
    lines = []
    if ending.explanation is not None:
        lines += ["", f"  {hidden(clean(ending.job))}: {hidden(clean(str(ending.explanation)))}"]
    if ending.log:
        lines += [f"  {whose}"] if whose else []
        lines += ["", *(f"    {hidden(clean(line, 400))}" for line in ending.log[-12:])]
    return lines


def _html_table(table: Sequence[Row], said: set[str]) -> str:
    """Return the table; each remedy that stands nowhere else stands with the first job that it mends."""
    heads = ("State", "Job", "Attempt", "Queued", "Ran", "Why")
    body = []
    for row in table[:ROWS]:
        count = f"{_quiet(times(row.size))}" if row.size is not None else ""
        remedy = f"<br>{_quiet(row.remedy)}" if row.remedy and row.remedy not in said else ""
        said = said | {row.remedy}
        cells = (
            f"{_badge(row.state)}{word(row.state)}",
            f'<b title="{_escaped(row.name)}">{_escaped(shorten(clean(row.name), _NAME))}</b>{count}',
            _escaped(row.attempt_text or NOTHING),
            _escaped(row.queued_text or NOTHING),
            _escaped(row.ran_text or NOTHING),
            _escaped(row.why) + remedy,
        )
        # Without a least width, the reasons alone would give way to a narrow page, letter by letter.
        styles = [_CELL] * (len(cells) - 1) + [f"{_CELL};white-space:normal;overflow-wrap:anywhere;min-width:200px"]
        body.append(_table_row(cells, styles))
    if len(table) > ROWS:
        left = counts_of(table[ROWS:])
        body.append(f'<tr><td style="{_CELL}" colspan="6">{_quiet(f"… and {counts_text(left)}")}</td></tr>')
    return _scrolled(_table(heads, body))


def _scrolled(table: str) -> str:
    """Give a table room as the live view does: sixty rows would hide the cells below."""
    return f'<div style="overflow:auto;max-height:420px">{table}</div>'


def _table_row(cells: Sequence[str], styles: Sequence[str]) -> str:
    made = (f'<td style="{style}">{cell}</td>' for style, cell in zip(styles, cells, strict=True))
    return f"<tr>{''.join(made)}</tr>"


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f'<th style="{_CELL};font-weight:400;{_QUIET}">{name[:1].upper()}{name[1:]}</th>' for name in heads)
    return (
        f'<table style="margin:4px 0 0;font-size:13px;border-collapse:collapse"><tr>{head}</tr>{"".join(rows)}</table>'
    )


def counts_of(table: Iterable[Row]) -> Mapping[str, int]:
    """Return how many rows are in each state."""
    counts: dict[str, int] = {}
    for row in table:
        counts[row.state] = counts.get(row.state, 0) + 1
    return counts


def _text_table(table: Sequence[Row], room: int) -> list[str]:
    """Return the table as lines, none when not even the first three rows have room."""
    if room < min(len(table), 3) + 2:
        return []
    shown = table if len(table) + 1 <= room else table[: room - 2]
    cells = [("state", "job", "attempt", "queued", "ran", "why")]
    for row in shown:
        name = shorten(clean(row.name), _NAME) + times(row.size)
        state = f"{glyph(row.state)} {row.state.lower()}"
        cells.append((state, name, row.attempt_text or "-", row.queued_text or "-", row.ran_text or "-", row.why))
    widths = [max(columns(line[i]) for line in cells) for i in range(5)]
    lines = []
    for line in cells:
        padded = "  ".join(text + " " * (width - columns(text)) for text, width in zip(line, widths, strict=False))
        lines.append(f"  {padded}  {shorten(line[-1], 80)}".rstrip())
    if len(shown) < len(table):
        lines.append(f"  … and {counts_text(counts_of(table[len(shown) :]))}")
    return lines
