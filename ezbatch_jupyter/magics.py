"""The magics: ``%%ezbatch`` runs a cell as a job, ``%ezbatch`` speaks of workflows and runs.

A line and a cell become a spec, the spec a call, and what comes back shows itself.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import html
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand

from ezbatch_jupyter.config import EZBatch

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ezbatch.explain import Explanation
    from ezbatch.run import EZBatchRun
    from ezbatch.settings import Settings
    from ezbatch.workflow import EZBatchJob, EZBatchWorkflow
    from ezbatch_jupyter.cell import Cell, Parser
    from ezbatch_jupyter.staging import StagedScript

__all__ = ["Detached", "EZBatchMagics", "Table", "register", "unregister"]

#: Lines of each job's log that ``%ezbatch logs`` prints; a notebook with a million lines opens no more.
LOG_LINES = 1000
#: Characters of one line that are printed.
_LINE_LENGTH = 5000
#: Seconds within which a cancelled run is seen to end.
_CANCEL_TIMEOUT = 60


class Detached(KeyboardInterrupt):
    """The waiting was ended by a person; the run goes on."""

    def _render_traceback_(self) -> list[str]:
        return [f"Detached: {self}"]


# The end of a cell


def _as_magic(text: str) -> str:
    """Return a message with the commands that it names as one types them in a notebook."""
    return re.sub(rf"(?<![%\w./-])(ezbatch (?:{'|'.join(_COMMANDS)})\b)", r"%\1", text)


def _short(error: BaseException) -> BaseException:
    """Let an error show itself without the traceback of the magics: what to do stands in its message."""
    error._render_traceback_ = lambda: [f"{type(error).__name__}: {_as_magic(str(error))}"]  # type: ignore[attr-defined] # IPython looks for it
    return error


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn mistakes in what was typed into UsageError, and show other errors of ezbatch's in a few words."""
    from ezbatch.errors import EZBatchError, JobNotFoundError, RunNotFoundError, SpecTypeError
    from ezbatch_jupyter.cell import HelpShown

    try:
        yield
    except HelpShown:
        pass
    except (SpecTypeError, RunNotFoundError, JobNotFoundError) as error:
        raise UsageError(_as_magic(str(error))) from None
    except EZBatchError as error:
        raise _short(error) from None


def _failure(run: EZBatchRun, *, shown: bool) -> Exception | None:
    """Return what to raise for a run that has ended, or nothing when it succeeded."""
    from ezbatch.errors import JobFailedError
    from ezbatch_jupyter.bundles import secrets_of
    from ezbatch_jupyter.rows import masked

    try:
        run.raise_for_status()
    except JobFailedError as error:
        said = str(error)
        if shown and error.job and run.state != "CANCELLED":
            # Its explanation and the end of its log stand above: this is one line.
            count = sum(1 for report in run.jobs.values() if report.state.value == "FAILED")
            more = f" (and {count - 1} more)" if count > 1 else ""
            found = run.explain(error.job)
            why = found.cause + (f" ({found.evidence})" if found.evidence else "")
            said = f"job {error.job!r}{more} failed: {why}. Log: %ezbatch logs {run.id} {shlex.quote(error.job)}"
            said = f"{' '.join(said.split())}   Again: %ezbatch retry {run.id}"
        return JobFailedError(masked(said, secrets_of(run)), run_id=run.id, job=error.job)
    return None


def _wait(run: EZBatchRun, *, quiet: bool = False, on_interrupt: str = "detach") -> None:
    """Show a run until it has ended, and raise when it failed.

    Raises
    ------
    Detached
        If the waiting was ended first.
    JobFailedError
        If the run failed or was cancelled.
    """
    from ezbatch.run import TERMINAL

    watching = None
    try:
        if quiet:
            run.wait(progress=False)
        else:
            from ezbatch_jupyter import run_view

            view = run_view.view(run)
            view.show()
            watching = view
            view.wait()
    except KeyboardInterrupt:
        with contextlib.suppress(KeyboardInterrupt):  # a second one: then the run is left as it is
            if on_interrupt == "cancel":
                _cancel(run)
                if watching is not None:
                    watching.wait()
        if watching is not None and watching.live:
            watching.detach()
    if run.state not in TERMINAL:
        raise Detached(
            f"the waiting is over, run {run.id} goes on. Come back: %ezbatch attach {run.id}   "
            f"End it: %ezbatch cancel {run.id}"
        )
    error = _failure(run, shown=not quiet)
    if error is not None:
        raise _short(error)


def _cancel(run: EZBatchRun, jobs: Sequence[str] = (), reason: str = "interrupted in the notebook") -> None:
    from ezbatch.errors import WaitTimeoutError

    run.cancel(jobs or None, reason)
    if not jobs:
        with contextlib.suppress(WaitTimeoutError):
            run.wait(_CANCEL_TIMEOUT, progress=False)


# What is shown


def _display(bundle: dict[str, Any]) -> None:
    from IPython.display import display

    display(bundle, raw=True)  # type: ignore[no-untyped-call] # IPython's display has no annotations


def _print(text: str) -> None:
    print(text)  # noqa: T201 - a magic's text is the cell's output


class Table:
    """Rows that show themselves as text and as HTML.

    Parameters
    ----------
    heads : sequence of str
        The columns' names.
    rows : iterable of sequence of str
        Their cells.
    title : str
        Stands above.
    """

    def __init__(self, heads: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
        from ezbatch_jupyter.rows import clean, masked

        self.heads = tuple(heads)
        self.rows = [tuple(masked(clean(cell)) for cell in row) for row in rows]
        self.title = title

    def __repr__(self) -> str:
        from ezbatch_jupyter.rows import columns

        lines = [self.heads, *self.rows]
        widths = [max(columns(line[i]) for line in lines) for i in range(len(self.heads))]
        text = [
            "  ".join(cell + " " * (width - columns(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, *text] if self.title else text)

    def _repr_html_(self) -> str:
        style = "text-align:left;padding:1px 16px 1px 0;vertical-align:top;font-weight:400"
        head = "".join(f'<th style="{style};opacity:.65">{html.escape(cell)}</th>' for cell in self.heads)
        body = "".join(
            "<tr>" + "".join(f'<td style="{style}">{html.escape(cell)}</td>' for cell in row) + "</tr>"
            for row in self.rows
        )
        title = f'<p style="margin:0 0 4px">{html.escape(self.title)}</p>' if self.title else ""
        return f'<div style="font-size:13px;line-height:20px">{title}<table><tr>{head}</tr>{body}</table></div>'


def _hints(job: str, commands: Iterable[str]) -> dict[str, str]:
    """Return the four lines that the first run of a session ends with."""
    queues = "; %ezbatch queues lists your queues" if "queues" in commands else ""
    lines = (
        ("%ezbatch logs @last", "the log again, with times"),
        ("%%ezbatch -o run", f"keeps the run in a variable: run.logs({job!r}), run.retry()"),
        ("%%ezbatch -q QUEUE", f"runs the same cell on AWS Batch{queues}"),
        ("%%ezbatch --help", "every option. These four lines are shown once."),
    )
    width = max(len(code) for code, _text in lines)
    rows = "".join(
        f'<tr style="background:none"><td style="text-align:left;padding:0 16px 0 0">'
        f'<code style="font-size:12px">{html.escape(code)}</code>'
        f'</td><td style="text-align:left;padding:0;opacity:.65">{html.escape(text)}</td></tr>'
        for code, text in lines
    )
    return {
        "text/plain": "\n".join(f"{code.ljust(width)}  {text}" for code, text in lines),
        "text/html": f'<table style="font-size:12px;line-height:20px;margin:0">{rows}</table>',
    }


@magics_class
class EZBatchMagics(Magics):
    """``%%ezbatch`` and ``%ezbatch``.

    Parameters
    ----------
    shell : InteractiveShell
        The shell whose variables the magics read and set.
    settings : EZBatch
        What ``%config EZBatch`` sets.
    """

    def __init__(self, shell: InteractiveShell, settings: EZBatch) -> None:
        super().__init__(shell)
        self.shell: InteractiveShell = shell
        self.configured = settings
        self.hinted = False

    @property
    def variables(self) -> dict[str, Any]:
        """The user's variables."""
        found: dict[str, Any] = self.shell.user_ns
        return found

    def settings(self, **given: tuple[Any, str]) -> Settings:
        """Return the settings: what was given, by name with where, over ``%config EZBatch`` over what is read."""
        from ezbatch.settings import Settings

        found = Settings.load()
        own = {
            name: (getattr(self.configured, name), f"%config EZBatch.{name}") for name in ("queue", "profile", "region")
        }
        chosen = {**own, **{name: pair for name, pair in given.items() if pair[0] is not None}}
        chosen = {name: pair for name, pair in chosen.items() if pair[0] is not None}
        values = {name: value for name, (value, _where) in chosen.items()}
        sources = {**found.sources, **{name: where for name, (_value, where) in chosen.items()}}
        return dataclasses.replace(found, **values, sources=sources)

    def _settings_of(self, arguments: argparse.Namespace) -> Settings:
        names = ("queue", "profile", "region")
        return self.settings(**{name: (getattr(arguments, name), "magic line") for name in names})

    # %%ezbatch

    @no_var_expand
    @cell_magic("ezbatch")  # type: ignore[arg-type] # IPython's decorators have no annotations
    def run_cell(self, line: str, body: str) -> object:
        """Run the body of the cell as a job: %%ezbatch --help tells the options."""
        from ezbatch.workflow import EZBatchWorkflow
        from ezbatch_jupyter import cell as cells
        from ezbatch_jupyter import staging

        with _told():
            cell = cells.read_cell(line, body, self.configured.given())
            values = cell.values
            job = cells.build(cell, self.variables)
            name = cells.job_name(cell)
            given = {field: (getattr(values, field), cell.given(field)) for field in ("queue", "profile", "region")}
            if values.workflow is not None and cell.given("queue") != "%config EZBatch.queue":
                # The workflow goes to the queue that is named when it is submitted, this job to its own.
                job.queue = given.pop("queue")[0]
            settings = self.settings(**given)
            job, script = staging.staged(cell, job, settings)
            if values.workflow is not None:
                workflow = self._grown(values.workflow, name, job, values.after)
            else:
                workflow = EZBatchWorkflow(name, {name: job})
            if script is not None and not values.dry_run and not values.form:
                staging.put(script, job.queue or settings.queue, settings)
            if values.dry_run:
                self._dry_run(cell, workflow, name, settings, script)
            elif values.form:
                if values.workflow is not None:
                    return self._form(workflow, settings, name)
                if "queue" in cell.origins and cell.given("queue") != "%config EZBatch.queue":
                    job.queue = values.queue
                return self._form(job, settings, name)
            elif values.workflow is not None:
                self.variables[values.workflow] = workflow
                return None if values.quiet else workflow
            else:
                progress = False if values.quiet else None
                run = workflow.submit(settings=settings, max_cost=values.max_cost, progress=progress)
                shown = self._follow(run, values)
                if shown is None and not values.quiet and self.configured.hints and not self.hinted:
                    self.hinted = True
                    _display(_hints(name, _COMMANDS))
                return shown
        return None

    def _grown(self, variable: str, name: str, job: EZBatchJob, after: Sequence[str]) -> EZBatchWorkflow:
        """Return the workflow in a variable with one job added or replaced; the variable is not touched."""
        from ezbatch.errors import InvalidWorkflowError
        from ezbatch.rules import check_job
        from ezbatch.spec import nearest
        from ezbatch.workflow import EZBatchWorkflow, submission_order

        old = self.variables.get(variable)
        if old is None:
            old = EZBatchWorkflow(variable, {})
        if not isinstance(old, EZBatchWorkflow):
            raise UsageError(
                f"--workflow {variable}: the variable holds a {type(old).__name__}, not an EZBatchWorkflow. "
                f"Choose another name, or: del {variable}"
            )
        jobs = {**old.jobs, name: job}
        for parent in after:
            if parent not in jobs:
                known = ", ".join(old.jobs) or "none yet"
                raise UsageError(
                    f"--after {parent}: workflow {variable} has no such job{nearest(parent, old.jobs)}. "
                    f"Its jobs: {known}. Run that job's cell first"
                )
        dependencies = {child: list(parents) for child, parents in old.dependencies.items() if child != name}
        if after:
            dependencies[name] = list(dict.fromkeys(after))
        _order, problems = submission_order(list(jobs), dependencies)
        if problems:
            said = "; ".join(f"{problem.what}. {problem.remedy}" for problem in problems)
            raise UsageError(f"workflow {variable} would have {said}. It is left as it was")
        found = list(check_job(job))
        if found:
            raise InvalidWorkflowError(name, found)
        return EZBatchWorkflow(old.name, jobs, dependencies)

    def _dry_run(
        self, cell: Cell, workflow: EZBatchWorkflow, name: str, settings: Settings, script: StagedScript | None
    ) -> None:
        from ezbatch_jupyter.cell import settings_rows

        job = workflow.jobs[name]
        rows = list(settings_rows(cell, job, name))
        if script is not None:
            rows.append(("read", f"{script.uri} -> {script.path}", "staging: the script is too big for the job"))
        if job.queue is not None:
            rows.append(("queue", job.queue, cell.given("queue")))
        else:
            rows.append(("queue", settings.queue, settings.sources.get("queue", "default")))
        rows += _setting_rows(settings, leave_out=("queue",), only_set=True)
        for field in ("wait", "bg", "quiet", "on_interrupt", "max_cost"):
            if field in cell.origins:
                rows.append((field.replace("_", "-"), str(getattr(cell.values, field)), cell.given(field)))
        self._show_plan(workflow, settings, Table(("setting", "value", "from"), rows), cell.values.max_cost)

    def _show_plan(
        self,
        workflow: EZBatchWorkflow,
        settings: Settings,
        after: Table | None = None,
        max_cost: float | None = None,
    ) -> None:
        """Show what submitting would do, and raise when it could not be done."""
        from IPython.display import display

        from ezbatch.cost import over_limit
        from ezbatch.errors import InvalidWorkflowError
        from ezbatch.planning import plan
        from ezbatch.run import backend_for
        from ezbatch.spending import estimated

        made = plan(workflow, settings.queue)
        display(made)  # type: ignore[no-untyped-call] # IPython's display has no annotations
        if after is not None:
            display(after)  # type: ignore[no-untyped-call] # as above
        backend = backend_for(made.queue, settings)
        for note in backend.notes(made):
            _print(f"Note: {note}.")
        problems = over_limit(made, max_cost) or backend.preflight(made)
        if not made.local and not problems:
            guess = estimated(workflow, settings=settings)
            if any(row.observed for row in guess.rows):
                _print(f"Cost, going by earlier runs: {guess.summary}. By job: %ezbatch cost")
        if problems:
            raise InvalidWorkflowError(made.workflow, problems)

    def _form(
        self, subject: EZBatchJob | EZBatchWorkflow | None, settings: Settings | None = None, name: str | None = None
    ) -> object:
        from ezbatch_jupyter import form

        return form(subject, name=name, settings=settings or self.settings())

    # %ezbatch

    @no_var_expand
    @line_magic("ezbatch")  # type: ignore[arg-type] # as above
    def run_line(self, line: str) -> object:
        """Submit, watch, cancel and explain workflows and runs: %ezbatch --help tells the commands."""
        from ezbatch_jupyter.cell import split

        with _told():
            arguments = line_parser().parse_args(split(line, "%ezbatch") or ["--help"])
            act: Callable[[argparse.Namespace], object] = getattr(self, f"_do_{arguments.command}")
            return act(arguments)
        return None

    def _workflow(self, text: str) -> EZBatchWorkflow:
        """Return the workflow that a variable holds, or a file."""
        from ezbatch.spec import nearest
        from ezbatch.workflow import EZBatchWorkflow

        value = self.variables.get(text)
        if isinstance(value, EZBatchWorkflow):
            return value
        if text.endswith(".json") or (value is None and Path(text).is_file()):
            try:
                return EZBatchWorkflow.load(text)
            except OSError as error:
                raise UsageError(f"{text}: {error.strerror}") from None
        known = [name for name, item in self.variables.items() if isinstance(item, EZBatchWorkflow) and name[:1] != "_"]
        if value is not None:
            raise UsageError(f"{text} holds a {type(value).__name__}, not an EZBatchWorkflow{nearest(text, known)}")
        raise UsageError(f"there is no workflow {text!r}{nearest(text, known)}: name a variable or a .json file")

    def _run(self, text: str, queue: str | None = None) -> EZBatchRun:
        """Return the run that a variable holds, or an id; one that the ledger lacks is looked for in the queue."""
        from ezbatch.run import EZBatchRun

        value = self.variables.get(text)
        run = value if isinstance(value, EZBatchRun) else getattr(value, "run", None)
        if isinstance(run, EZBatchRun):
            return run.refresh()
        return EZBatchRun.attach(text, queue, settings=self.settings())

    def _subject(self, text: str) -> EZBatchWorkflow | EZBatchRun:
        """Return the workflow or the run that is meant."""
        from ezbatch.errors import RunNotFoundError

        try:
            return self._workflow(text)
        except UsageError as error:
            try:
                return self._run(text)
            except RunNotFoundError:
                raise error from None

    def _kept(self, run: EZBatchRun, arguments: argparse.Namespace) -> EZBatchRun:
        if getattr(arguments, "out", None) is not None:
            self.variables[arguments.out] = run
        return run

    def _follow(self, run: EZBatchRun, arguments: argparse.Namespace) -> EZBatchRun | None:
        """Wait for a run, or return it when told not to wait."""
        # It is kept first, so that a run that fails, or is detached from, is at hand.
        self._kept(run, arguments)
        if arguments.bg:
            return None if arguments.quiet else run
        on_interrupt = arguments.on_interrupt or self.configured.on_interrupt or "detach"
        _wait(run, quiet=bool(arguments.quiet), on_interrupt=on_interrupt)
        return None

    def _do_submit(self, arguments: argparse.Namespace) -> object:
        from ezbatch_jupyter import staging

        progress = False if arguments.quiet else None
        settings = self._settings_of(arguments)
        workflow = self._workflow(arguments.workflow)
        staging.put_scripts(workflow, settings.queue, settings)
        run = workflow.submit(settings=settings, max_cost=arguments.max_cost, progress=progress)
        return self._follow(run, arguments)

    def _do_plan(self, arguments: argparse.Namespace) -> None:
        self._show_plan(self._workflow(arguments.workflow), self._settings_of(arguments))

    def _do_status(self, arguments: argparse.Namespace) -> EZBatchRun:
        return self._kept(self._run(arguments.run), arguments)

    def _do_attach(self, arguments: argparse.Namespace) -> EZBatchRun:
        return self._kept(self._run(arguments.run, arguments.queue), arguments)

    def _do_wait(self, arguments: argparse.Namespace) -> None:
        run = self._run(arguments.run)
        if arguments.timeout is not None:
            with contextlib.suppress(KeyboardInterrupt):
                run.wait(arguments.timeout, progress=False)
        _wait(run, quiet=bool(arguments.quiet))

    def _do_retry(self, arguments: argparse.Namespace) -> EZBatchRun | None:
        return self._follow(self._run(arguments.run).retry(), arguments)

    def _do_resume(self, arguments: argparse.Namespace) -> EZBatchRun | None:
        return self._follow(self._run(arguments.run).resume(), arguments)

    def _do_cancel(self, arguments: argparse.Namespace) -> None:
        run = self._run(arguments.run)
        if run.finished is not None:
            _print(f"run {run.id} has ended already: {run.state}")
            return
        _cancel(run, arguments.job, arguments.reason)
        what = ", ".join(arguments.job)
        _print(f"{what}: asked to end" if what else f"{run.id}: {run.state}")

    def _do_ls(self, arguments: argparse.Namespace) -> Table:
        from ezbatch.planning import duration_text
        from ezbatch.progress import counts_text
        from ezbatch.run import TERMINAL, runs

        found = runs(settings=self.settings(), limit=arguments.limit or -1)
        rows = []
        for run in found:
            if run.state not in TERMINAL:
                run.refresh()
            took = duration_text((run.finished - run.created).total_seconds()) if run.finished else ""
            when = run.created.astimezone().strftime("%Y-%m-%d %H:%M")
            rows.append((run.id, run.state.lower(), run.queue, when, took, counts_text(run)))
        title = "" if rows else "There are no runs yet."
        return Table(("run", "state", "queue", "submitted", "took", "jobs"), rows, title)

    def _do_logs(self, arguments: argparse.Namespace) -> None:
        from ezbatch_jupyter.bundles import secrets_of
        from ezbatch_jupyter.rows import masked

        run = self._run(arguments.run)
        secrets = secrets_of(run)
        tail = arguments.tail if arguments.tail is not None else LOG_LINES
        several = len(run.jobs) > 1 or (run.jobs and next(iter(run.jobs.values())).children is not None)
        count: dict[str, int] = {}
        try:
            for event in run.logs(arguments.job, follow=arguments.follow, tail=tail or None):
                count[event.job] = count.get(event.job, 0) + 1
                stamp = event.time.astimezone(timezone.utc).strftime("%H:%M:%S")
                who = f"{event.job} | " if several else ""
                _print(f"{stamp}  {who}{masked(event.message[:_LINE_LENGTH], secrets)}")
                if arguments.follow:
                    sys.stdout.flush()
        except KeyboardInterrupt:
            raise Detached(f"no longer following; run {run.id} goes on") from None
        if not count:
            _print("nothing was written" + ("" if run.finished else f" yet ({run.state.lower()})"))
        elif tail and not arguments.follow and max(count.values()) >= tail:
            _print(f"... the last {tail:,} lines of each job; all: %ezbatch logs {run.id} --tail 0")

    def _do_explain(self, arguments: argparse.Namespace) -> None:
        from ezbatch_jupyter.rows import clean

        found: Explanation = self._run(arguments.run).explain(arguments.job)
        for label, text in (("Cause", found.cause), ("Evidence", found.evidence), ("Remedy", found.remedy)):
            if text:
                _print(f"{label:<9} {clean(text)}")

    def _do_dag(self, arguments: argparse.Namespace) -> None:
        from ezbatch_jupyter import dag

        shown = self._subject(arguments.subject)
        if arguments.output is not None:
            try:
                dag.save(shown, arguments.output)
            except ValueError as error:
                raise UsageError(str(error)) from None
            except OSError as error:
                raise UsageError(f"{arguments.output}: {error.strerror}") from None
            _print(arguments.output)
            return
        bundle = {"text/plain": dag.to_text(shown)}
        with contextlib.suppress(dag.NoEngineError):
            bundle["image/svg+xml"] = dag.to_svg(shown)
        _display(bundle)

    def _do_cost(self, arguments: argparse.Namespace) -> Table | None:
        from ezbatch.cost import PRICES, dollars
        from ezbatch.run import EZBatchRun
        from ezbatch.spending import current_prices, estimated, spent_by_tag

        prices = current_prices(settings=self.settings()) if arguments.current_prices else PRICES
        if arguments.by_tag is not None:
            totals = spent_by_tag(arguments.by_tag, prices=prices, settings=self.settings())
            ranked = sorted(totals.items(), key=lambda item: -item[1])
            rows = [(value or "(no such tag)", dollars(cost)) for value, cost in ranked]
            return Table((arguments.by_tag, "cost"), rows, "" if rows else "No run has cost anything yet.")
        subject = self._subject(arguments.subject)
        if isinstance(subject, EZBatchRun):
            _print(str(subject.cost(prices)))
        else:
            _print(str(estimated(subject, arguments.queue, prices=prices, settings=self.settings())))
        return None

    def _do_queues(self, arguments: argparse.Namespace) -> Table:
        from ezbatch.aws.backend import AWSBackend
        from ezbatch.errors import BackendError
        from ezbatch.local.backend import LocalBackend

        names = ("profile", "region")
        settings = self.settings(**{name: (getattr(arguments, name), "magic line") for name in names})
        found = [LocalBackend(settings).queue()]
        title = ""
        try:
            found += AWSBackend(settings).queues()
        except BackendError as error:
            title = f"The queues of AWS Batch cannot be listed: {error}"
        rows = [(q.name, q.platform, q.state, "" if q.max_vcpus is None else f"{q.max_vcpus:g}") for q in found]
        return Table(("queue", "platform", "state", "vCPUs at most"), rows, title)

    def _do_form(self, arguments: argparse.Namespace) -> object:
        return self._form(None if arguments.workflow is None else self._workflow(arguments.workflow))

    def _do_doctor(self, arguments: argparse.Namespace) -> None:
        from ezbatch.diagnosis import doctor

        for check in doctor(arguments.queue, settings=self.settings()):
            _print(str(check))

    def _do_config(self, _arguments: argparse.Namespace) -> Table:
        own = [(f"EZBatch.{name}", str(value), "%config") for name, value in self.configured.given().items()]
        return Table(("setting", "value", "from"), [*_setting_rows(self.settings()), *own])


def _setting_rows(
    settings: Settings, leave_out: Iterable[str] = (), *, only_set: bool = False
) -> Iterator[tuple[str, str, str]]:
    for field in dataclasses.fields(settings):
        name = field.name
        if name == "sources" or name in leave_out or (only_set and name not in settings.sources):
            continue
        value = getattr(settings, name)
        shown = " ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
        yield name.replace("_", "-"), shown, settings.sources.get(name, "default")


#: The commands, with what they do.
_COMMANDS = {
    "submit": "submit a workflow, and show it until it has ended",
    "plan": "show what submit would do, without doing it",
    "dag": "draw a workflow or a run",
    "ls": "list the runs, newest first",
    "status": "show a run (default: the last one)",
    "logs": "show what jobs have written",
    "explain": "say why a job is where it is",
    "wait": "wait until a run has ended; an interrupt leaves it running",
    "attach": "come back to a run, also after the kernel was restarted",
    "cancel": "end a run, or some of its jobs",
    "retry": "run again what did not succeed, and nothing else",
    "resume": "make a run that stands still go on",
    "cost": "say what a workflow may cost, or what a run has cost, on Fargate",
    "queues": "list this machine and the queues of AWS Batch",
    "form": "edit a workflow in a form",
    "doctor": "look at what jobs need, and say what mends it",
    "config": "show every setting and where it comes from",
}
_LINE_EPILOG = """\
WF is a variable that holds a workflow, or a .json file. RUN is a variable, a run's id, a unique prefix of it, or @last.
%ezbatch COMMAND --help tells a command's options; %%ezbatch --help those of a cell.
"""


def line_parser() -> Parser:
    """Return the parser of ``%ezbatch``."""
    from ezbatch.options import MAX_COST, add_job_options, checked, parse_count, parse_seconds
    from ezbatch_jupyter.cell import INTERRUPTS, Parser, parse_name

    parser = Parser("%ezbatch", description="Workflows and runs of ezbatch.", epilog=_LINE_EPILOG)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    made: dict[str, argparse.ArgumentParser] = {}
    for name, about in _COMMANDS.items():
        made[name] = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")

    def named(text: str) -> str:
        try:
            return parse_name(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    for name in ("submit", "plan"):
        made[name].add_argument("workflow", metavar="WF")
    for name in ("submit", "plan", "cost", "attach", "doctor"):
        made[name].add_argument("-q", "--queue", help="a queue's name or ARN; local is this machine")
    for name in ("submit", "plan", "queues"):
        made[name].add_argument("--profile", metavar="NAME", help="AWS profile")
        made[name].add_argument("--region", metavar="NAME", help="AWS region")
    made["cost"].add_argument("subject", metavar="WF|RUN", nargs="?", default="@last")
    made["cost"].add_argument("--by-tag", metavar="KEY", help="of all runs in the ledger, by the value of a tag")
    made["cost"].add_argument(
        "--current-prices", action="store_true", help="ask AWS's price list, not the table of ezbatch"
    )
    add_job_options(made["submit"], [MAX_COST])
    made["form"].add_argument("workflow", metavar="WF", nargs="?")
    made["dag"].add_argument("subject", metavar="WF|RUN")
    made["dag"].add_argument("-o", "--output", metavar="FILE", help="write .svg, .png or .dot instead of showing it")
    for name in ("status", "logs", "explain", "wait", "cancel", "retry", "resume", "attach"):
        optional = {"nargs": "?", "default": "@last"} if name in ("status", "logs", "explain", "wait") else {}
        made[name].add_argument("run", metavar="RUN", **optional)  # type: ignore[arg-type] # the two are argparse's
    made["logs"].add_argument("job", metavar="JOB", nargs="?", help="a job, or an array's child such as align:3")
    made["logs"].add_argument("-f", "--follow", action="store_true", help="go on until the jobs have ended")
    made["logs"].add_argument(
        "--tail",
        type=checked(parse_count),
        metavar="N",
        help=f"the last N lines of each job (default: {LOG_LINES:,}; 0 for all)",
    )
    made["explain"].add_argument("job", metavar="JOB", nargs="?", help="default: the one that needs attention most")
    made["cancel"].add_argument("job", metavar="JOB", nargs="*", help="a job, or an array's child (default: all)")
    made["cancel"].add_argument("--reason", default="cancelled from the notebook", help="kept with the jobs")
    made["wait"].add_argument(
        "--timeout", type=checked(parse_seconds), metavar="SECONDS", help="give up waiting after this long"
    )
    made["ls"].add_argument(
        "-n", "--limit", type=checked(parse_count), default=20, metavar="N", help="how many (default: 20; 0 for all)"
    )
    made["retry"].add_argument("--failed", action="store_true", help="what retry does anyway")
    for name in ("submit", "retry", "resume"):
        made[name].add_argument("-b", "--bg", action="store_true", help="do not wait; show the run while it goes on")
        made[name].add_argument("--on-interrupt", choices=INTERRUPTS, help="what an interrupt does to the run")
    for name in ("submit", "retry", "resume", "wait"):
        made[name].add_argument("-Q", "--quiet", action="store_true", help="show nothing but errors")
    for name in ("submit", "retry", "resume", "status", "attach"):
        made[name].add_argument("-o", "--out", type=named, metavar="NAME", help="keep the run in this variable")
    return parser


# Loading


def _with_body(lines: list[str]) -> list[str]:
    """Give a ``%%ezbatch`` that stands alone an empty line, since IPython calls no cell magic without a body.

    So ``%%ezbatch --help`` shows the help.
    """
    alone = len(lines) == 1 and re.match(r"%%ezbatch(\s|$)", lines[0])
    return [*lines, "\n"] if alone else lines


# A terminal must go on asking for the body.
_with_body.has_side_effects = True  # type: ignore[attr-defined] # IPython's name for what it leaves out while one types


def register(ip: InteractiveShell) -> EZBatchMagics:
    """Give a shell the magics and their ``%config EZBatch``."""
    unregister(ip)
    settings = EZBatch(parent=ip)
    magics = EZBatchMagics(ip, settings)
    ip.input_transformers_cleanup.append(_with_body)
    ip.configurables.append(settings)  # type: ignore[arg-type] # any Configurable will do, and EZBatch is one
    ip.register_magics(magics)
    return magics


def unregister(ip: InteractiveShell) -> None:
    """Take back what :func:`register` did."""
    manager = ip.magics_manager
    for kind in ("line", "cell"):
        if isinstance(getattr(manager.magics[kind].get("ezbatch"), "__self__", None), EZBatchMagics):
            del manager.magics[kind]["ezbatch"]
    manager.registry.pop("EZBatchMagics", None)
    cleaners = ip.input_transformers_cleanup
    cleaners[:] = [item for item in cleaners if getattr(item, "__qualname__", "") != _with_body.__qualname__]
    own = ("EZBatch", "EZBatchMagics")
    ip.configurables[:] = [item for item in ip.configurables if type(item).__name__ not in own]
