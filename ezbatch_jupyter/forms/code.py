"""From a job or a workflow to the Python, or the cell, that makes it again. Pure."""

from __future__ import annotations

import ast
import contextlib
import io
import shlex
from collections.abc import Iterator, Mapping
from typing import cast

from ezbatch.errors import EZBatchError
from ezbatch.options import OPTIONS
from ezbatch.s3 import MOUNT_FIELDS, S3Mount, S3Mounts
from ezbatch.workflow import JOB_FIELDS, EZBatchJob, EZBatchWorkflow

__all__ = ["LANGUAGES", "CellError", "from_cell", "script_of", "to_cell", "to_python"]

#: The languages of a script, as ``%%ezbatch --lang`` names them.
LANGUAGES = ("sh", "bash", "python")
_WIDTH = 100
_JOB_DEFAULTS = {name: getattr(EZBatchJob("", ""), name) for name in JOB_FIELDS}
_MOUNT_DEFAULTS = {name: getattr(S3Mount("", ""), name) for name in MOUNT_FIELDS}


class CellError(EZBatchError, ValueError):
    """A ``%%ezbatch`` cell cannot express the job; the message says why and what to do."""


# Python


def to_python(subject: EZBatchJob | EZBatchWorkflow, name: str | None = None, queue: str | None = None) -> str:
    """Return Python that makes a job or a workflow again, equal in every field.

    Parameters
    ----------
    subject : EZBatchJob or EZBatchWorkflow
        What to write down, values of environment variables included.
    name : str, optional
        Of a job: also write the workflow of this name that holds it.
    queue : str, optional
        What the commented last line submits to.

    Returns
    -------
    str
        It defines ``job`` or ``workflow``, or both, and submits nothing.
    """
    jobs = list(subject.jobs.values()) if isinstance(subject, EZBatchWorkflow) else [subject]
    names = {"EZBatchJob"} if jobs else set()
    if isinstance(subject, EZBatchWorkflow) or name is not None:
        names.add("EZBatchWorkflow")
    for job in jobs:
        if job.mounts != S3Mounts():
            names |= {"S3Mounts"} | ({"S3Mount"} if job.mounts else set())
    lines = [f"from ezbatch import {', '.join(sorted(names))}", ""]
    if isinstance(subject, EZBatchWorkflow):
        lines += ["workflow = " + _workflow(subject)]
    else:
        lines += ["job = " + _job(subject, "")]
        if name is not None:
            lines += [f"workflow = EZBatchWorkflow({_text(name)}, {{{_text(name)}: job}})"]
    if "EZBatchWorkflow" in names:
        lines += [f"# run = workflow.submit({'' if queue is None else f'queue={_text(queue)}'})"]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    """Return a literal of a string, in double quotes where that needs no more backslashes."""
    made = repr(text)
    return f'"{made[1:-1]}"' if made.startswith("'") and '"' not in made else made


def _literal(value: object, indent: str) -> str:
    """Return a literal of strings, numbers, lists and dicts, over several lines where one would be long."""
    inner = indent + "    "
    if isinstance(value, str):
        lines = value.split("\n")
        if len(lines) == 1 or (len(lines) == 2 and not lines[1]):  # noqa: PLR2004 - one line and its end
            return _text(value)
        pieces = [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
        return "(\n" + "".join(f"{inner}{_text(piece)}\n" for piece in pieces) + f"{indent})"
    if isinstance(value, Mapping):
        pairs = [f"{_literal(key, inner)}: {_literal(item, inner)}" for key, item in value.items()]
        return _wrapped("{", pairs, "}", indent)
    if isinstance(value, list):
        return _wrapped("[", [_literal(item, inner) for item in value], "]", indent)
    return repr(value)


def _wrapped(before: str, parts: list[str], after: str, indent: str) -> str:
    flat = f"{before}{', '.join(parts)}{after}"
    if not parts or (len(indent) + len(flat) <= _WIDTH and "\n" not in flat):
        return flat
    inner = indent + "    "
    return f"{before}\n" + "".join(f"{inner}{part},\n" for part in parts) + f"{indent}{after}"


def _job(job: EZBatchJob, indent: str) -> str:
    inner = indent + "    "
    parts = [_literal(job.image, inner), _literal(job.command, inner)]
    # A command over several lines is told by its name, or it could be taken for a tuple.
    if "\n" in parts[1]:
        parts[1] = f"command={parts[1]}"
    for field in JOB_FIELDS[2:]:
        value = getattr(job, field)
        if type(value) is type(_JOB_DEFAULTS[field]) and value == _JOB_DEFAULTS[field]:
            continue
        made = _mounts(value, inner) if isinstance(value, S3Mounts) else _literal(value, inner)
        parts.append(f"{field}={made}")
    return _wrapped("EZBatchJob(", parts, ")", indent)


def _mounts(mounts: S3Mounts, indent: str) -> str:
    inner = indent + "    "
    parts = []
    for field, some in (("read", mounts.reads), ("write", mounts.writes)):
        if some:
            made = _wrapped("[", [_mount(mount, inner + "    ") for mount in some], "]", inner)
            parts.append(f"{field}={made}")
    return _wrapped("S3Mounts(", parts, ")", indent)


def _mount(mount: S3Mount, indent: str) -> str:
    parts = [_text(mount.source), _text(mount.destination)]
    for field in MOUNT_FIELDS[2:]:
        value = getattr(mount, field)
        if value != _MOUNT_DEFAULTS[field]:
            parts.append(f"{field}={_literal(value, indent + '    ')}")
    return _wrapped("S3Mount(", parts, ")", indent)


def _workflow(workflow: EZBatchWorkflow) -> str:
    jobs = [f"{_text(name)}: {_job(job, ' ' * 8)}" for name, job in workflow.jobs.items()]
    parts = [_text(workflow.name), _wrapped("jobs={", jobs, "}", "    ")]
    if workflow.dependencies:
        parts.append(f"dependencies={_literal(workflow.dependencies, '    ')}")
    return _wrapped("EZBatchWorkflow(", parts, ")", "")


# A cell


def script_of(command: str | list[str]) -> tuple[str, str] | None:
    """Return the language and the script of a command as ``%%ezbatch`` makes it, or None for another."""
    from IPython.core.error import UsageError

    from ezbatch_jupyter import cell

    if not isinstance(command, list):
        return None
    # The script is the last word, but for what a #! line names after it.
    scripts = [command[4]] if len(command) > 4 and command[3] == "ezbatch" else command[-1:]  # noqa: PLR2004 - its place
    for script in scripts:
        for lang in LANGUAGES:
            for text in (script, script.removeprefix("\n")):
                try:
                    if text.endswith("\n") and cell.command(text, lang) == command:
                        return lang, text
                except UsageError:  # a #! line without an interpreter
                    continue
    return None


def to_cell(job: EZBatchJob, name: str = "cell") -> str:
    """Return the ``%%ezbatch`` cell that makes a job again, equal in every field.

    Parameters
    ----------
    job : EZBatchJob
        Its queue becomes ``-q``.
    name : str
        What the job is called.

    Raises
    ------
    CellError
        If a cell cannot express the job: the cell is read back by the magic's own parser, and nothing is lost silently.
    """
    reasons = list(_refusals(job))
    if reasons:
        raise CellError("; ".join(reasons))
    _lang, script = script_of(job.command) or ("", "")
    words = list(_words(job, name))
    if _lang not in ("", "sh") and not script.lstrip("\n").startswith("#!"):
        words.append(f"--lang {_lang}")
    text = f"%%ezbatch {' '.join(words)}\n{script}"
    try:
        found_name, found = from_cell(text)
    except (EZBatchError, ValueError) as error:
        raise CellError(f"as a cell it could not be read back: {error}") from None
    lost = [field for field in JOB_FIELDS if getattr(found, field) != getattr(job, field)]
    if found_name != name:
        lost.insert(0, "name")
    if lost:
        raise CellError(f"a cell would change its {', '.join(lost)}. Copy it as Python")
    return text


def _refusals(job: EZBatchJob) -> Iterator[str]:
    if script_of(job.command) is None:
        yield "a cell runs a script, and this job's command is none: choose a script for its command, or copy as Python"
    if job.array is not None and not isinstance(job.array, int):
        yield "the entries of an array stand in a variable that a cell names by --map: copy as Python"
    kept = [
        mount for mount in (*job.mounts.reads, *job.mounts.writes) if mount != S3Mount(mount.source, mount.destination)
    ]
    if kept:
        yield "a cell cannot say how a mount is copied (recursive, encryption, options): copy as Python"
    if job.mounts and not job.preloader:
        yield "in a cell ezbatch always copies the mounts; for this job that is off: copy as Python"
    if job.preloader and not job.mounts:
        yield "in a cell the preloader is on only where there are mounts: copy as Python"
    words = [job.image, job.queue, job.job_role, job.architecture, *job.environment, *job.environment.values()]
    words += [*job.tags, *job.tags.values(), *job.secrets, *job.secrets.values()]
    words += [path for mount in (*job.mounts.reads, *job.mounts.writes) for path in (mount.source, mount.destination)]
    if any(len(word.splitlines()) > 1 or word.endswith("\n") for word in words if word):
        yield "the options of a cell are one line, and one of this job's values has several: copy as Python"


def _words(job: EZBatchJob, name: str) -> Iterator[str]:
    """Yield the options, each quoted as a shell would have it."""

    def single(flag: str, value: str) -> str:
        # The long form with = also takes what begins with -.
        return shlex.quote(f"{flag}={value}") if value.startswith("-") or not value else f"{flag} {shlex.quote(value)}"

    if name != "cell":
        yield single("--name", name)
    yield single("--image", job.image)
    if job.queue is not None:
        yield single("--queue", job.queue)
    if (job.vcpus, job.memory) != (EZBatchJob.vcpus, EZBatchJob.memory):
        yield f"--vcpus {job.vcpus!r}"
        yield f"--memory {f'{job.memory // 1024}G' if job.memory % 1024 == 0 else job.memory}"
    shown: dict[str, str] = {"storage_size": "{}G", "timeout": "{}s"}
    flags = {option.field: option.flags[-1] for option in OPTIONS}
    for field in ("storage_size", "platform", "gpus", "retries", "timeout", "array", "job_role", "architecture"):
        value = getattr(job, field)
        if value != _JOB_DEFAULTS[field]:
            yield single(flags[field], shown.get(field, "{}").format(value))
    for field in ("environment", "secrets", "tags"):
        for key, value in getattr(job, field).items():
            yield single(flags[field], f"{key}={value}")
    for field, mounts in (("read", job.mounts.reads), ("write", job.mounts.writes)):
        for mount in mounts:
            yield f"{flags[field]} {shlex.quote(mount.source)} {shlex.quote(mount.destination)}"


def from_cell(text: str) -> tuple[str, EZBatchJob]:
    """Return the name and the job of a ``%%ezbatch`` cell, read as IPython and the magic read it.

    Raises
    ------
    CellError
        If it is no such cell, or one with a mistake.
    """
    from IPython.core.error import UsageError
    from IPython.core.inputtransformer2 import TransformerManager

    from ezbatch_jupyter import cell as cells

    source = TransformerManager().transform_cell(text)  # type: ignore[no-untyped-call] # IPython has no annotations
    try:
        tree = ast.parse(source, mode="eval").body
        magic, line, body = (ast.literal_eval(argument) for argument in cast("ast.Call", tree).args)
    except (SyntaxError, ValueError, AttributeError) as error:
        raise CellError("it is no %%ezbatch cell") from error
    if magic != "ezbatch":
        raise CellError("it is no %%ezbatch cell")
    try:
        # What it warns of does not matter here: what gets lost is seen by comparing.
        with contextlib.redirect_stderr(io.StringIO()):
            cell = cells.read_cell(line, body)
        job = cells.build(cell, {})
        job.queue = cell.values.queue
        return cells.job_name(cell), job
    except (UsageError, cells.HelpShown) as error:
        raise CellError(str(error)) from None
