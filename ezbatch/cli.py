"""The ``ezbatch`` command."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ezbatch.cli_aws import add_commands
from ezbatch.errors import (
    BackendError,
    EZBatchError,
    InvalidWorkflowError,
    JobFailedError,
    JobNotFoundError,
    RunInterruptedError,
    RunNotFoundError,
    SettingsError,
    StateDirectoryError,
    WaitTimeoutError,
    WorkflowFileError,
)
from ezbatch.options import MAX_COST, Parser, add_job_options, checked, job_from, parse_count, parse_seconds
from ezbatch.progress import counts_text, glyph

if TYPE_CHECKING:
    from rich.console import Console

    from ezbatch.backend import JobReport
    from ezbatch.cost import Estimate, Spent
    from ezbatch.explain import Explanation
    from ezbatch.progress import Progress
    from ezbatch.run import EZBatchRun
    from ezbatch.workflow import EZBatchWorkflow

__all__ = ["main"]

OK, RUN_FAILED, USAGE, NOT_FOUND, UNUSABLE, STANDS_STILL, TIMED_OUT, DETACHED = 0, 1, 2, 3, 4, 5, 124, 130

_EPILOG = """\
RUN is a run's id, a unique prefix of it, or @last. FILE is a workflow saved as JSON.

exit codes:
  0    done; with --wait, wait, attach: the run succeeded
  1    the run failed or was cancelled
  2    the command line, the file or the workflow is wrong; nothing was submitted
  3    there is no such run, job or file
  4    the place where jobs run, or the state directory, cannot be used
  5    the run stands still: resume or cancel it
  124  wait --timeout ran out; the run goes on
  130  interrupted; the run goes on
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit code."""
    _make_streams_usable()
    parser = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        parser.print_help()
        return USAGE
    # What follows -- is the job's command, whatever it looks like.
    command: list[str] = []
    if "--" in words and words[0] == "submit":
        cut = words.index("--")
        words, command = words[:cut], words[cut + 1 :]
    arguments = parser.parse_args(words)
    arguments.command = command
    try:
        code = int(arguments.act(arguments))
        sys.stdout.flush()  # here, where what goes wrong with it is told
    except KeyboardInterrupt as error:
        # The terminal's own ^C stands on that line. A submission that was interrupted says what was done.
        _say(f"\nezbatch: {str(error) or 'interrupted'}")
        return DETACHED
    except BrokenPipeError:
        # The reader (head, less) has gone. Nothing more can be said, not even when Python closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (EZBatchError, OSError) as error:
        _say(f"ezbatch: {_message(error)}")
        return _exit_code(error)
    return code


def _make_streams_usable() -> None:
    """Let output go nowhere where it was closed (``>&-``), and let what its encoding lacks be a ``?``."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for the process's life
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


_EXIT_CODES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], int], ...] = (
    (JobFailedError, RUN_FAILED),
    ((InvalidWorkflowError, WorkflowFileError, SettingsError), USAGE),
    ((RunNotFoundError, JobNotFoundError, FileNotFoundError), NOT_FOUND),
    (RunInterruptedError, STANDS_STILL),
    (WaitTimeoutError, TIMED_OUT),
    ((BackendError, StateDirectoryError, OSError), UNUSABLE),
)


def _exit_code(error: Exception) -> int:
    return next((code for kinds, code in _EXIT_CODES if isinstance(error, kinds)), USAGE)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, EZBatchError) and error.strerror:
        # Without a file it was the output that could not be written.
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


# Words


def _parser() -> argparse.ArgumentParser:  # noqa: PLR0915 - a list of commands, not a procedure
    settings: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = Parser(
        "ezbatch",
        description="AWS Batch without the manual: the same workflow here and on AWS.",
        epilog=_EPILOG,
        **settings,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, act: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.", **settings)
        made.set_defaults(act=act)
        return made

    def queue(made: argparse.ArgumentParser) -> None:
        made.add_argument("-q", "--queue", help="a queue's name or ARN; local is this machine")

    def as_json(made: argparse.ArgumentParser) -> None:
        made.add_argument("--json", action="store_true", help="print JSON")

    def waiting(made: argparse.ArgumentParser) -> None:
        made.add_argument("--wait", action="store_true", help="wait until the run has ended")
        as_json(made)

    def limited(made: argparse.ArgumentParser) -> None:
        add_job_options(made, [MAX_COST])

    def of_run(made: argparse.ArgumentParser) -> None:
        made.add_argument("run", metavar="RUN")

    def of_last_run(made: argparse.ArgumentParser) -> None:
        # Only for what looks: what changes a run is told which.
        made.add_argument("run", metavar="RUN", nargs="?", default="@last", help="default: the last one")

    made = add("run", _run, "submit a workflow")
    made.add_argument("file", metavar="FILE")
    queue(made)
    limited(made)
    waiting(made)

    made = add("submit", _submit, "submit one job: ezbatch submit -i IMAGE [options] -- COMMAND")
    add_job_options(made)
    queue(made)
    limited(made)
    waiting(made)

    made = add("plan", _plan, "show what run would do, without doing it")
    made.add_argument("file", metavar="FILE")
    queue(made)
    as_json(made)

    made = add("dag", _dag, "draw a workflow or a run")
    made.add_argument("file", metavar="FILE|RUN")
    made.add_argument("-o", "--output", metavar="FILE", help="write .svg, .png or .dot instead of printing text")

    made = add("ls", _ls, "list the runs, newest first")
    made.add_argument(
        "-n", "--limit", type=checked(parse_count), default=20, metavar="N", help="how many (default: 20; 0 for all)"
    )
    as_json(made)

    made = add("status", _status, "show a run's jobs")
    of_last_run(made)
    as_json(made)

    made = add("logs", _logs, "show what jobs have written")
    of_last_run(made)
    made.add_argument("job", metavar="JOB", nargs="?", help="a job, or an array's child such as align:3 (default: all)")
    made.add_argument("-f", "--follow", action="store_true", help="go on until the jobs have ended")
    made.add_argument("--tail", type=checked(parse_count), metavar="N", help="only the last N lines of each job")
    made.add_argument("-T", "--timestamps", action="store_true", help="begin each line with its time (UTC)")
    as_json(made)

    made = add("wait", _wait, "wait until a run has ended; Ctrl-C leaves it running")
    of_last_run(made)
    made.add_argument(
        "--timeout", type=checked(parse_seconds), metavar="SECONDS", help="give up waiting after this long"
    )
    made.add_argument("--cancel-stuck", action="store_true", help="cancel what has been stuck for ten minutes")
    as_json(made)

    made = add("attach", _attach, "show a run and wait with it; Ctrl-C leaves it running")
    of_run(made)
    made.add_argument("-q", "--queue", help="where it was submitted, for a run that this machine did not submit")
    as_json(made)

    made = add("cancel", _cancel, "end a run, or some of its jobs")
    of_run(made)
    made.add_argument("job", metavar="JOB", nargs="*", help="a job, or an array's child such as align:3 (default: all)")
    made.add_argument("--reason", default="cancelled by the user", help="kept with the jobs")
    made.add_argument("--stuck", action="store_true", help="only what is stuck, and still is in ten minutes")
    as_json(made)

    made = add("retry", _retry, "run again what did not succeed, and nothing else")
    of_run(made)
    waiting(made)

    made = add("resume", _resume, "make a run that stands still go on")
    of_run(made)
    waiting(made)

    made = add("cost", _cost, "say what a workflow may cost, or what a run has cost, on Fargate")
    made.add_argument("file", metavar="FILE|RUN", nargs="?")
    made.add_argument("--by-tag", metavar="KEY", help="of all runs in the ledger, by the value of a tag")
    made.add_argument("--current-prices", action="store_true", help="ask AWS's price list, not the table of ezbatch")
    queue(made)
    as_json(made)

    made = add("queues", _queues, "list this machine and the queues of AWS Batch")
    as_json(made)

    add_commands(add)

    made = add("gc", _gc, "deregister job definitions that broken submissions left on AWS")
    queue(made)
    as_json(made)

    made = add("explain", _explain, "say why a job is where it is")
    of_last_run(made)
    made.add_argument("job", metavar="JOB", nargs="?", help="default: the one that needs attention most")
    as_json(made)
    return parser


class _Version(argparse.Action):
    """Look the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_arguments: object) -> None:
        import ezbatch

        _print(f"ezbatch {ezbatch.__version__}")
        parser.exit()


# Output


def _print(text: str = "") -> None:
    print(text)  # noqa: T201 - a command's output is for stdout


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a command's remarks are for stderr


def _print_json(value: object) -> None:
    _print(json.dumps(value, indent=2, default=_plain))


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def _console() -> Console:
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # main knows what to do; rich would exit with the code of a run that failed

    # Piped tables are for programs and log files, which have no width.
    width = None if sys.stdout.isatty() else 160
    return Piped(markup=False, highlight=False, width=width, soft_wrap=False)


def _clean(text: str) -> str:
    """Return text for a table: on one line, and without what would move a terminal's cursor."""
    return "".join(character if character.isprintable() else " " for character in text)


def _ago(moment: datetime | None) -> str:
    from ezbatch.planning import duration_text

    return "-" if moment is None else f"{duration_text((datetime.now(timezone.utc) - moment).total_seconds())} ago"


def _took(start: datetime | None, stop: datetime | None) -> str:
    from ezbatch.planning import duration_text

    if start is None:
        return "-"
    return duration_text(((stop or datetime.now(timezone.utc)) - start).total_seconds())


_STYLES = {
    "SUBMITTED": "dim",
    "PENDING": "dim",
    "RUNNABLE": "yellow",
    "STARTING": "cyan",
    "RUNNING": "bold blue",
    "SUCCEEDED": "green",
    "FAILED": "bold red",
    "BLOCKED": "magenta",
    "CANCELLED": "bold red",
    "INTERRUPTED": "bold yellow",
    "SUBMITTING": "dim",
}


def _job_rows(run: EZBatchRun) -> list[dict[str, Any]]:
    parents = run.parents  # of all jobs at once: they are made anew each time
    return [_job_row(report, parents.get(report.name, ())) for report in run.jobs.values()]


def _job_row(report: JobReport, parents: Sequence[str]) -> dict[str, Any]:
    return {
        "job": report.name,
        "state": report.state.value,
        "attempt": report.attempt,
        "exit_code": report.exit_code,
        "reason": report.reason,
        "created": report.created,
        "started": report.started,
        "stopped": report.stopped,
        "children": None
        if report.children is None
        else {str(state): count for state, count in report.children.items()},
        "cancelled": report.cancelled,
        "job_id": report.job_id,
        "after": list(parents),
    }


def _run_row(run: EZBatchRun) -> dict[str, Any]:
    return {
        "run": run.id,
        "workflow": run.name,
        "queue": run.queue,
        "state": run.state,
        "interruption": run.interruption,
        "created": run.created,
        "finished": run.finished,
        "retry_of": run.retry_of,
        "counts": {str(state): count for state, count in run.counts.items()},
        "not_submitted": run.unsubmitted,
    }


def _print_status(run: EZBatchRun) -> None:
    from rich.table import Table
    from rich.text import Text

    console = _console()
    head = Text(f"{run.id}  ")
    head.append(run.state, style=_STYLES.get(run.state, ""))
    head.append(f"  on {run.queue}, submitted {_ago(run.created)}, {_took(run.created, run.finished)}")
    console.print(head, soft_wrap=True)
    if run.retry_of:
        console.print(f"a retry of {run.retry_of}")
    if run.interruption:
        console.print(f"It stands still: {run.interruption}.", soft_wrap=True)
        console.print(f"  ezbatch resume {run.id}   or   ezbatch cancel {run.id}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("state", no_wrap=True)
    table.add_column("job", overflow="fold")
    table.add_column("attempt", justify="right")
    table.add_column("ran", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    planned = {job.name: job for job in run.plan.jobs}
    known, parents = run.jobs, run.parents
    found = _explained(run)
    shown: dict[str, int] = {}
    for report in sorted(known.values(), key=lambda report: _ORDER.index(report.state.value)):
        shown[report.state.value] = shown.get(report.state.value, 0) + 1
        if console.is_terminal and shown[report.state.value] > _ROWS:
            continue
        job = planned[report.name]
        name = Text(_clean(report.name))
        if job.array_size:
            name.append(f" x{job.array_size:,}", style="dim")
        attempt = f"{report.attempt} of {job.attempts}" if report.attempt else "-"
        state = Text(f"{glyph(report.state.value)} {report.state.value}", style=_STYLES[report.state.value])
        waits = [name for name in parents.get(report.name, ()) if name in known and not known[name].state.terminal]
        why = Text(_clean(_why(report, waits, found.get(report.name))))
        table.add_row(state, name, attempt, _took(report.started, report.stopped), why)
    console.print(table)
    left = [f"{count - _ROWS:,} more {state.lower()}" for state, count in shown.items() if count > _ROWS]
    if left and console.is_terminal:
        console.print(f"... and {', '.join(left)}: ezbatch status {run.id} | less", soft_wrap=True)
    console.print(counts_text(run))


#: Jobs of a state that a terminal gets; whatever reads a pipe gets all.
_ROWS = 100
_UNWELL = ("FAILED", "BLOCKED", "RUNNABLE")
_ORDER = ("FAILED", "BLOCKED", "RUNNING", "STARTING", "RUNNABLE", "PENDING", "SUBMITTED", "SUCCEEDED")


def _explained(run: EZBatchRun) -> dict[str, Explanation]:
    """Return why those jobs are where they are of which there is something to explain."""
    return run.explanations(name for name, report in run.jobs.items() if report.state.value in _UNWELL)


def _why(report: JobReport, waits: Sequence[str], found: Explanation | None) -> str:
    """Return a few words on why a job is where it is; nothing for one that is well."""
    state = report.state.value
    if report.children is not None and state not in ("PENDING", "SUBMITTED", "BLOCKED"):
        counts = ", ".join(f"{count:,} {child.value.lower()}" for child, count in report.children.items() if count)
        return f"{counts}; {report.reason}" if report.reason else counts
    if state == "PENDING":
        return f"waits for {', '.join(waits[:2])}" + (f" and {len(waits) - 2} more" if len(waits) > 2 else "")  # noqa: PLR2004
    if state in ("RUNNABLE", "FAILED") and found is not None:
        return f"{found.cause} ({found.evidence})" if found.evidence else found.cause
    return report.reason


def _failure(report: JobReport) -> str:
    """Return why a job has failed, with its exit code: AWS has the same words for every command that failed."""
    code = "" if report.exit_code in (None, 0) else f"exit code {report.exit_code}"
    return f"{report.reason} ({code})" if code and code not in report.reason else report.reason


class _Watcher:
    """Says what changes while a person waits: a line when something has, failures at once."""

    #: Seconds between two lines of counts.
    every = 1.0

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.last_line = -self.every
        self.last_text = ""
        self.failed: set[str] = set()

    def __call__(self, run: EZBatchRun) -> None:
        if run.state == "SUBMITTING":
            if time.monotonic() - self.last_line >= self.every:
                self.last_line = time.monotonic()
                _say(f"  {self.elapsed()}  submitted {run.accepted:,} of {len(run.plan.jobs):,}")
            return
        for report in run.jobs.values():
            if report.state.value == "FAILED" and report.name not in self.failed:
                self.failed.add(report.name)
                _say(f"  {self.elapsed()}  {glyph('FAILED')} {_clean(report.name)} failed: {_clean(_failure(report))}")
        text = counts_text(run)
        ended = run.state in ("SUCCEEDED", "FAILED", "CANCELLED")
        if text != self.last_text and (ended or time.monotonic() - self.last_line >= self.every):
            self.last_text, self.last_line = text, time.monotonic()
            running = [report.name for report in run.jobs.values() if report.state.value == "RUNNING"]
            shown = ", ".join(map(_clean, running[:3])) + (f" and {len(running) - 3} more" if len(running) > 3 else "")  # noqa: PLR2004
            _say(f"  {self.elapsed()}  {text}" + (f"   running: {shown}" if running else ""))

    def elapsed(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        return f"{minutes}:{seconds:02}"


def _progress() -> Progress | bool:
    """Return what shows a run's progress: a bar in a terminal, else lines."""
    return True if sys.stderr.isatty() else _Watcher()


# Commands


def _load(path: str) -> EZBatchWorkflow:
    from ezbatch.workflow import EZBatchWorkflow

    return EZBatchWorkflow.load(path)


def _attached(run_id: str, queue: str | None = None) -> EZBatchRun:
    from ezbatch.run import EZBatchRun

    return EZBatchRun.attach(run_id, queue)


def _submitted(workflow: EZBatchWorkflow, arguments: argparse.Namespace) -> int:
    run = workflow.submit(arguments.queue, max_cost=arguments.max_cost, progress=_progress())
    return _follow_up(run, arguments)


def _follow_up(run: EZBatchRun, arguments: argparse.Namespace, *, resumed: bool = False) -> int:
    """Tell what was submitted or goes on, and wait for it when asked to."""
    if arguments.json and not arguments.wait:
        _print_json(_run_row(run))
        return OK
    if not arguments.json:
        joins = sum(1 for job in run.plan.jobs if job.join)
        size = len(run.plan.jobs) - joins
        jobs = f"{size:,} job{'s' if size != 1 else ''}"
        if resumed:
            left = sum(1 for report in run.jobs.values() if not report.state.terminal)
            _print(f"{run.id}: resumed on {run.queue}, {left:,} of {jobs} left")
        else:
            _print(f"{run.id}: {jobs} submitted to {run.queue}")
        for note in run.notes:
            _say(f"  {note}.")
    if not arguments.wait:
        _say(f"  watch: ezbatch attach {run.id}   logs: ezbatch logs {run.id}   end: ezbatch cancel {run.id}")
        return OK
    return _waited(run, arguments)


def _waited(run: EZBatchRun, arguments: argparse.Namespace, timeout: float | None = None) -> int:
    try:
        run.wait(timeout, progress=_progress(), cancel_stuck=getattr(arguments, "cancel_stuck", False))
    except KeyboardInterrupt:
        _say(f"\ndetached; run {run.id} goes on. Come back: ezbatch attach {run.id}   End it: ezbatch cancel {run.id}")
        return DETACHED
    if arguments.json:
        _print_json({**_run_row(run), "jobs": _job_rows(run)})
        return OK if run.state == "SUCCEEDED" else RUN_FAILED
    run.raise_for_status()
    _print(f"{glyph('SUCCEEDED')} {run.id} succeeded: {counts_text(run)} in {_took(run.created, run.finished)}")
    return OK


def _run(arguments: argparse.Namespace) -> int:
    return _submitted(_load(arguments.file), arguments)


def _submit(arguments: argparse.Namespace) -> int:
    from ezbatch.workflow import EZBatchWorkflow

    if not arguments.command:
        _say("ezbatch: submit needs a command. Write it after --, as in: ezbatch submit -i IMAGE -- echo hello")
        return USAGE
    # One word is what a shell line was quoted into; several are taken as they are.
    command = arguments.command[0] if len(arguments.command) == 1 else arguments.command
    name = arguments.name or Path(arguments.command[0].split()[0] if arguments.command[0].split() else "job").name
    return _submitted(EZBatchWorkflow(name, {name: job_from(arguments, command)}), arguments)


def _plan(arguments: argparse.Namespace) -> int:
    from ezbatch.planning import plan
    from ezbatch.run import backend_for
    from ezbatch.settings import Settings
    from ezbatch.spending import estimated

    settings = Settings.load()
    workflow = _load(arguments.file)
    made = plan(workflow, arguments.queue or settings.queue)
    backend = backend_for(made.queue, settings)
    problems = backend.preflight(made)
    if arguments.json:
        _print_json({**json.loads(made.to_json()), "problems": [str(problem) for problem in problems]})
    else:
        _print(str(made))
        for note in backend.notes(made):
            _print(f"\n  Note: {note}.")
        if not made.local:
            _print(f"\n  Cost: {estimated(workflow, made.queue, settings=settings).summary}")
    if problems:
        raise InvalidWorkflowError(made.workflow, problems)
    return OK


def _dag(arguments: argparse.Namespace) -> int:
    from ezbatch_jupyter import dag

    path = Path(arguments.file)
    shown: EZBatchWorkflow | EZBatchRun = _load(arguments.file) if path.exists() else _attached(arguments.file)
    if arguments.output is None:
        _print(dag.to_text(shown, width=_console().width))
        return OK
    try:
        dag.save(shown, arguments.output)
    except ValueError as error:
        _say(f"ezbatch: {error}")
        return USAGE
    return OK


def _ls(arguments: argparse.Namespace) -> int:
    from rich.table import Table
    from rich.text import Text

    from ezbatch.run import TERMINAL, runs

    found = runs(limit=arguments.limit or -1)
    for run in found:
        if run.state not in TERMINAL:
            try:
                run.refresh()
            except BackendError as error:
                _say(f"ezbatch: {run.id} is shown as it was last seen: {error}")
    if arguments.json:
        _print_json([_run_row(run) for run in found])
        return OK
    if not found:
        _say("there are no runs yet. Submit one: ezbatch run FILE")
        return OK
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("run", "state", "queue", "submitted", "took", "jobs"):
        table.add_column(column, no_wrap=column != "jobs")
    for run in found:
        state = Text(run.state, style=_STYLES.get(run.state, ""))
        took = _took(run.created, run.finished)
        table.add_row(run.id, state, _clean(run.queue), _ago(run.created), took, counts_text(run))
    _console().print(table)
    return OK


def _status(arguments: argparse.Namespace) -> int:
    run = _attached(arguments.run)
    waiting = run.stuck()  # one look at the queues of jobs that wait for room, for the column that says why
    if arguments.json:
        whys = _explained(run)
        jobs = [
            {**row, "why": dataclasses.asdict(whys[row["job"]]) if row["job"] in whys else None}
            for row in _job_rows(run)
        ]
        _print_json({**_run_row(run), "jobs": jobs})
        return OK
    _print_status(run)
    failed = next((report.name for report in run.jobs.values() if report.state.value == "FAILED"), None)
    held_up = sorted((name for name, why in waiting.items() if why.remedy), key=lambda name: not waiting[name].stuck)
    urgent = failed or next(iter(held_up), None)
    if urgent is not None:
        _print(f"\n{_clean(urgent)}: {_clean(str(run.explain(urgent, look=False)))}")
    return OK


def _logs(arguments: argparse.Namespace) -> int:
    run = _attached(arguments.run)
    several = arguments.job is None and len(run.jobs) > 1
    array = arguments.job in run.jobs and run.jobs[arguments.job].children is not None
    with _flushed(follow=arguments.follow):
        for event in run.logs(arguments.job, follow=arguments.follow, tail=arguments.tail):
            if arguments.json:
                line = json.dumps(
                    {
                        "time": event.time.isoformat(),
                        "job": event.job,
                        "attempt": event.attempt,
                        "message": event.message,
                    }
                )
            else:
                stamp = f"{event.time:%Y-%m-%d %H:%M:%S}  " if arguments.timestamps else ""
                line = (
                    f"{stamp}{_clean(event.job)} | {event.message}" if several or array else f"{stamp}{event.message}"
                )
            sys.stdout.write(f"{line}\n")
            if arguments.follow:
                sys.stdout.flush()
    return OK


@contextlib.contextmanager
def _flushed(*, follow: bool) -> Iterator[None]:
    """Say how to come back when a person stops following."""
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        if not follow:
            raise
        _say("\nstopped following; the run goes on")
        raise SystemExit(DETACHED) from None


def _wait(arguments: argparse.Namespace) -> int:
    return _waited(_attached(arguments.run), arguments, arguments.timeout)


def _attach(arguments: argparse.Namespace) -> int:
    run = _attached(arguments.run, arguments.queue)
    if not arguments.json:
        _print_status(run)
    return _waited(run, arguments)


def _cancel(arguments: argparse.Namespace) -> int:
    from ezbatch.run import TERMINAL

    run = _attached(arguments.run)
    if run.state in TERMINAL:
        _say(f"run {run.id} has ended already: {run.state}")
    elif arguments.stuck:
        return _cancel_stuck(run, arguments)
    else:
        run.cancel(arguments.job or None, arguments.reason)
        if not arguments.job:
            run.wait(progress=False)
    if arguments.json:
        _print_json(_run_row(run))
    else:
        what = ", ".join(arguments.job) if arguments.job else run.id
        _print(f"{what}: asked to end" if arguments.job else f"{run.id}: {run.state}   {counts_text(run)}")
    return OK


def _cancel_stuck(run: EZBatchRun, arguments: argparse.Namespace) -> int:
    def tell(suspects: Mapping[str, Explanation]) -> None:
        _say("cancelled if still stuck in ten minutes (Ctrl-C leaves them):")
        for name, why in suspects.items():
            _say(f"  {_clean(name)}: {_clean(str(why))}")

    gone = run.cancel_stuck(tell)
    if arguments.json:
        _print_json({name: str(why) for name, why in gone.items()})
    else:
        _print(f"{run.id}: {', '.join(map(_clean, gone))} cancelled" if gone else f"{run.id}: no job is stuck")
    return OK


def _retry(arguments: argparse.Namespace) -> int:
    return _follow_up(_attached(arguments.run).retry(progress=_progress()), arguments)


def _resume(arguments: argparse.Namespace) -> int:
    from ezbatch.run import TERMINAL

    run = _attached(arguments.run)
    if run.state in TERMINAL:
        _say(f"run {run.id} has ended already: {run.state}")
        return OK
    return _follow_up(run.resume(progress=_progress()), arguments, resumed=True)


def _cost(arguments: argparse.Namespace) -> int:
    from ezbatch.cost import PRICES, dollars
    from ezbatch.spending import current_prices, estimated, spent_by_tag

    prices = current_prices() if arguments.current_prices else PRICES
    if arguments.by_tag is not None:
        totals = spent_by_tag(arguments.by_tag, prices=prices)
        if arguments.json:
            _print_json(totals)
        for value, amount in sorted(totals.items(), key=lambda item: -item[1]) if not arguments.json else ():
            _print(f"{dollars(amount):>12}  {_clean(value) or '(no such tag)'}")
        return OK
    if arguments.file is None:
        _say("ezbatch: cost needs a workflow's file, a run, or --by-tag KEY")
        return USAGE
    found: Estimate | Spent
    if Path(arguments.file).exists():
        found = estimated(_load(arguments.file), arguments.queue, prices=prices)
    else:
        found = _attached(arguments.file).cost(prices)
    if arguments.json:
        _print_json(found.to_dict())
    else:
        _print(str(found))
    return OK


def _queues(arguments: argparse.Namespace) -> int:
    from rich.table import Table

    from ezbatch.aws.backend import AWSBackend
    from ezbatch.local.backend import LocalBackend
    from ezbatch.settings import Settings

    settings = Settings.load()
    found = [LocalBackend(settings).queue()]
    trouble = None
    try:
        found += AWSBackend(settings).queues()
    except BackendError as error:
        trouble = error
    if arguments.json:
        _print_json(
            [{"name": q.name, "platform": q.platform, "state": q.state, "max_vcpus": q.max_vcpus} for q in found]
        )
    else:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("queue", "platform", "state", "vCPUs at most"):
            table.add_column(column, no_wrap=True)
        for item in found:
            vcpus = "-" if item.max_vcpus is None else f"{item.max_vcpus:g}"
            table.add_row(_clean(item.name), item.platform, _clean(item.state), vcpus)
        _console().print(table)
    if trouble is not None:
        _say(f"the queues of AWS Batch cannot be listed: {trouble}")
    return OK


def _gc(arguments: argparse.Namespace) -> int:
    from ezbatch.garbage import collect_garbage

    gone, kept = collect_garbage(arguments.queue)
    if arguments.json:
        _print_json({"deregistered": gone, "kept": kept})
        return OK
    _print(f"{len(gone)} job definition{'s' if len(gone) != 1 else ''} deregistered")
    for run_id, why in kept.items():
        _print(f"  kept those of {run_id}: {why}")
    return OK


def _explain(arguments: argparse.Namespace) -> int:
    run = _attached(arguments.run)
    found = run.explain(arguments.job)
    if arguments.json:
        _print_json(dataclasses.asdict(found))
        return OK
    for label, text in (("Cause", found.cause), ("Evidence", found.evidence), ("Remedy", found.remedy)):
        if text:
            _print(f"{label:<9} {_clean(text)}")
    return OK


if __name__ == "__main__":
    sys.exit(main())
