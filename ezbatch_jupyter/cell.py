"""From the line and the body of a ``%%ezbatch`` cell to a job, and where every setting came from. Submits nothing."""

from __future__ import annotations

import argparse
import dataclasses
import json
import numbers
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

from IPython.core.error import UsageError

from ezbatch import options, preloader, rules
from ezbatch.errors import EZBatchError
from ezbatch.options import MAX_COST, OPTIONS, Option, add_job_options, job_from, parse_platform
from ezbatch.spec import nearest
from ezbatch.workflow import EZBatchJob

__all__ = [
    "CELL_OPTIONS",
    "ITEM",
    "Cell",
    "HelpShown",
    "Parser",
    "cell_parser",
    "command",
    "file_command",
    "parse_name",
    "read_cell",
    "script_text",
]

#: The variable that holds a child's value when ``--map`` names a list of plain values.
ITEM = "ITEM"
#: The name of a job that was given none.
NAME = "cell"
LANGUAGES = ("sh", "bash", "python")
INTERRUPTS = ("detach", "cancel")


class HelpShown(Exception):  # noqa: N818 - no error: what was asked for has been printed
    """The help was printed; there is nothing more to do."""


class Parser(options.Parser):
    """A parser that leaves the kernel alive: mistakes are UsageError, and help ends in :class:`HelpShown`."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:  # noqa: ANN401 - argparse's own
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        settings["allow_abbrev"] = False
        super().__init__(*arguments, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with argparse's message and where to read on."""
        match = re.fullmatch(r"unrecognized arguments: (-[^\s=]+).*", message, re.DOTALL)
        if match:
            known = [flag for action in self._actions for flag in action.option_strings]
            message = f"there is no option {match[1]}{nearest(match[1], known)}"
        match = re.match(r"argument COMMAND: invalid choice: '([^']*)'", message)
        if match:
            # With the commands only; argparse's own message lists them all.
            known = [str(name) for action in self._actions for name in action.choices or ()]
            message = f"there is no command {match[1]}{nearest(match[1], known)}"
        raise UsageError(f"{message}. See {self.prog} --help")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Raise HelpShown: argparse calls this after the help."""
        raise HelpShown(message or status)


def parse_name(text: str) -> str:
    """Return the name of a Python variable.

    Raises
    ------
    ValueError
        If it cannot be one.
    """
    if not text.isidentifier():
        raise ValueError(f"{text!r} cannot name a Python variable: write letters, digits and _")
    return text


CELL_OPTIONS: tuple[Option, ...] = (
    *OPTIONS,
    Option(("-q", "--queue"), "queue", "a queue's name or ARN; local is this machine (the default)", "QUEUE"),
    Option(("--lang",), "lang", "sh, bash or python (default: sh); a #! line wins", "LANG", choices=LANGUAGES),
    Option(
        ("-v", "--var"), "var", "Python variable into an environment variable, as JSON if no string or number",
        "NAME", parse_name, many=True,
    ),
    Option(
        ("--map",), "map", f"an array, a child for each entry of a Python variable: a list of values ({ITEM} in the "
        "child), a list of dicts, a dict of lists (every combination), a data frame",
        "NAME", parse_name,
    ),
    Option(
        ("--workflow",), "workflow", "add the job to the workflow in this variable; submit nothing", "WF", parse_name
    ),
    Option(("--after",), "after", "jobs of the workflow that must succeed first", "JOB", many=True),
    Option(("-o", "--out"), "out", "keep the run in this variable, also when it fails", "NAME", parse_name),
    Option(("-b", "--bg"), "bg", "do not wait; show the run while it goes on", "", words=0),
    Option(("--wait",), "wait", "wait, whatever %%config EZBatch.wait says", "", words=0),
    Option(("--dry-run",), "dry_run", "show the plan and where every setting comes from; submit nothing", "", words=0),
    Option(("--form",), "form", "edit the job in a form before it is submitted", "", words=0),
    Option(("-Q", "--quiet"), "quiet", "show nothing but errors", "", words=0),
    Option(
        ("--on-interrupt",), "on_interrupt", "detach (the default): the run goes on; or cancel", "WHAT",
        choices=INTERRUPTS,
    ),
    MAX_COST,
    Option(("--profile",), "profile", "AWS profile", "NAME"),
    Option(("--region",), "region", "AWS region", "NAME"),
)  # fmt: skip

#: Of two that contradict each other the one given nearer to the job wins.
_RIVALS = (("array", "map"), ("bg", "wait"))
#: They say how a run is submitted and watched.
_OF_RUNS = frozenset({"out", "bg", "wait", "on_interrupt", "max_cost", "profile", "region"})
#: A form's Submit goes by what stands in the form, and the form shows the run.
_NOT_OF_FORMS = frozenset({"out", "bg", "wait", "on_interrupt", "max_cost"})
#: Their values may be secret, so only their names are shown.
_SECRET = frozenset({"environment"})
_PAIRS = frozenset({"environment", "tags", "secrets"})
_LINE = "magic line"

_DESCRIPTION = "Run the cell's body as a job: on this machine, or on AWS Batch by naming a queue."
_EPILOG = """\
Options may also stand in the cell itself, above the script, one or more to a line; those of the magic line win:
  #EZ --vcpus 4 --memory 30G
The body is handed over as it is: $x and {x} mean what they mean in its own language.
Settings that are not given come from %config EZBatch, then environment variables, [tool.ezbatch] in pyproject.toml,
the user's file.
"""


def cell_parser() -> Parser:
    """Return the parser of the magic line and of ``#EZ`` lines."""
    parser = Parser("%%ezbatch", description=_DESCRIPTION, epilog=_EPILOG)
    add_job_options(parser, CELL_OPTIONS)
    return parser


def split(text: str, where: str) -> list[str]:
    """Split a line into words like a shell.

    Raises
    ------
    UsageError
        If a quote is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{where}: {str(error).lower()}. Close the quote, or put a \\ before it") from None


@dataclasses.dataclass(frozen=True)
class Cell:
    """What a cell asks for.

    Parameters
    ----------
    values : argparse.Namespace
        Of every option; None or an empty list where nothing was said.
    origins : dict of str to str
        For each field that was given, where; of an option that takes several, for each ``field:key``.
    script : str
        The body without its ``#EZ`` lines, on the same lines as in the body.
    """

    values: argparse.Namespace
    origins: dict[str, str]
    script: str

    def given(self, field: str, default: str = "default") -> str:
        """Return where a field comes from."""
        return self.origins.get(field, default)


def read_cell(line: str, body: str, config: Mapping[str, Any] | None = None) -> Cell:
    """Read the options of a cell: those of its line, then of its ``#EZ`` lines, then of ``%config EZBatch``.

    Parameters
    ----------
    line : str
        What follows ``%%ezbatch``.
    body : str
        The rest of the cell.
    config : mapping of str to object, optional
        What ``%config EZBatch`` sets.

    Raises
    ------
    UsageError
        If an option is wrong.
    HelpShown
        If help was asked for, and printed.
    """
    parser = cell_parser()
    script, directives = _directives(body)
    values, origins = argparse.Namespace(), dict[str, str]()
    for option in CELL_OPTIONS:
        setattr(values, option.field, [] if option.many else None)
    for text, where in [*directives, (line, _LINE)]:
        words = split(text, where)
        try:
            found = parser.parse_args(words)
        except UsageError as error:
            raise UsageError(str(error) if where == _LINE else f"{where}: {error}") from None
        _merge(values, origins, found, where)
    _check_pairs(values)
    if values.after and values.workflow is None:
        raise UsageError("--after says what a job of a workflow waits for: name the workflow too, as in --workflow wf")
    for option in CELL_OPTIONS:
        flag = option.flags[-1]
        if values.workflow is not None and option.field in _OF_RUNS and option.field in origins:
            raise UsageError(f"{flag} is about a run, and --workflow submits nothing: use it with %ezbatch submit")
        if values.form and option.field in _NOT_OF_FORMS and option.field in origins:
            raise UsageError(f"{flag} is about a run, and --form submits nothing by itself: leave one of them out")
    for field, value in (config or {}).items():
        _take_config(values, origins, field, value)
    return Cell(values, origins, script)


def _merge(values: argparse.Namespace, origins: dict[str, str], found: argparse.Namespace, where: str) -> None:
    """Let what was found here win over what was known."""
    for rivals in _RIVALS:
        said = [field for field in rivals if getattr(found, field) is not None]
        if len(said) > 1:
            raise UsageError(f"{where}: --{said[0]} and --{said[1]} contradict each other: keep one")
        for field in rivals if said else ():
            setattr(values, field, None)
            origins.pop(field, None)
    for option in CELL_OPTIONS:
        field, value = option.field, getattr(found, option.field)
        if value is None or value == []:
            continue
        if option.many:
            value = [*getattr(values, field), *value]
            if field in _PAIRS:
                value = list(dict(value).items())
            origins.update({f"{field}:{_key(field, item)}": where for item in getattr(found, field)})
        setattr(values, field, value)
        origins[field] = where


def _key(field: str, item: Any) -> str:  # noqa: ANN401 - a word, a pair or a mount
    return str(item[0]) if field in _PAIRS else str(item)


def _take_config(values: argparse.Namespace, origins: dict[str, str], field: str, value: Any) -> None:  # noqa: ANN401 - a trait's
    if field in ("wait", "hints") or getattr(values, field) is not None:
        if field == "wait" and values.bg is None and values.wait is None:
            values.bg, origins["bg"] = not value, "%config EZBatch.wait"
        return
    if field == "platform":
        try:
            value = parse_platform(value)
        except ValueError as error:
            raise UsageError(f"%config EZBatch.platform: {error}") from None
    setattr(values, field, value)
    origins[field] = f"%config EZBatch.{field}"


def _check_pairs(values: argparse.Namespace) -> None:
    for name in values.var:
        if name in dict(values.environment):
            raise UsageError(f"{name} is given by both -e and -v: keep one")


_DIRECTIVE = re.compile(r"#EZ(?:[ \t]+(.*))?")


def _directives(body: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the script, and the ``#EZ`` lines with where they stand: among the comments at the head of the body.

    They become blank lines: not every language takes # for a comment, and all count lines.
    """
    lines = body.replace("\r\n", "\n").split("\n")
    found = []
    head = True
    for index, line in enumerate(lines):
        head = head and (not line.strip() or line.startswith("#"))
        match = _DIRECTIVE.fullmatch(line.rstrip())
        if match is None:
            continue
        where = f"#EZ, line {index + 2} of the cell"
        if not head:
            _warn(f"{where}: not read, since it stands below the first line of the script. Move it up.")
            continue
        found.append((match[1] or "", where))
        lines[index] = ""
    return "\n".join(lines), found


def _warn(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - shown in the cell's output


# The script

# Runs a script by its #! line as the kernel would, but needs no right to execute files, and removes the file. It passes
# on the signal that ends a job: the first process of a container gets it alone.
_BY_SHEBANG = """\
# the script that follows, by its #! line
f=$(mktemp 2>/dev/null) || f=${TMPDIR:-/tmp}/ezbatch-script-$$
printf %s "$1" >"$f" || exit 125
shift
p= s=
trap 's=1; [ -z "$p" ] || kill "$p" 2>/dev/null' TERM INT HUP
"$@" "$f" & p=$!
[ -z "$s" ] || kill "$p" 2>/dev/null
wait "$p"; c=$?
while kill -0 "$p" 2>/dev/null; do wait "$p"; c=$?; done
rm -f "$f"
exit "$c"
"""


def is_shebang(script: str) -> bool:
    """Return whether a script names its interpreter by a ``#!`` line: the first, but for ``#EZ`` lines."""
    return script.lstrip("\n").startswith("#!")


def command(script: str, lang: str | None) -> list[str]:
    """Return the argv that runs a cell's script.

    Parameters
    ----------
    script : str
        The body of the cell.
    lang : str, optional
        ``sh`` (the default), ``bash`` or ``python``; a ``#!`` line wins.

    Returns
    -------
    list of str
        For an image that has the interpreter, and sh where a ``#!`` line names it.
    """
    text = script_text(script)
    if is_shebang(script):
        return ["/bin/sh", "-c", _BY_SHEBANG, "ezbatch", text, *_shebang_words(text)]
    if lang == "python":
        return ["python3", "-u", "-c", text]  # -u: lines are logged as they are printed, and survive a kill
    return ["bash", "-c", text] if lang == "bash" else ["/bin/sh", "-c", text]


def file_command(script: str, lang: str | None, path: str) -> list[str]:
    """Return the argv that runs a cell's script as :func:`command` does, from a file that holds it.

    Parameters
    ----------
    script, lang
        As :func:`command` takes them.
    path : str
        Where :func:`script_text` of the script will be.
    """
    if is_shebang(script):
        return [*_shebang_words(script_text(script)), path]
    if lang == "python":
        # Named by its path alone, python3 would look for modules beside the file, not in the working directory.
        return ["python3", "-u", "-c", f"exec(compile(open({path!r}, 'rb').read(), {path!r}, 'exec'))"]
    return ["bash" if lang == "bash" else "/bin/sh", path]


def script_text(script: str) -> str:
    """Return what the interpreter of a cell's script reads."""
    # One blank line stands for the magic line, so that errors tell the lines as the notebook counts them.
    return script.lstrip("\n") if is_shebang(script) else f"\n{script}"


def _shebang_words(text: str) -> list[str]:
    interpreter, _space, argument = text[2:].partition("\n")[0].strip().partition(" ")
    if not interpreter:
        raise UsageError("the #! line names no interpreter: write as in #!/usr/bin/env Rscript")
    # What follows the interpreter is one word to the kernel, too.
    return [interpreter, argument.strip()] if argument.strip() else [interpreter]


# Python values


def _plain(value: object) -> object:
    """Return what JSON can hold of arrays and scalars of numpy, columns of pandas and paths."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, set | frozenset | range):
        return list(value)
    raise TypeError(f"a {type(value).__name__} is no JSON")


def variable(name: str, namespace: Mapping[str, Any]) -> str:
    """Return a Python variable's value as an environment variable holds it.

    Raises
    ------
    UsageError
        If it is not defined, has no JSON or is too large.
    """
    value = _defined(name, namespace, "-v")
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, str):
        text = value
    elif isinstance(value, numbers.Real) and not isinstance(value, bool):
        text = str(value)
    else:
        try:
            text = json.dumps(value, default=_plain, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            said = f"-v {name}: a {type(value).__name__} that cannot be written as JSON: {error}"
            raise UsageError(f"{said}. Convert it first, or pass it as a file: -r S3URI PATH") from None
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > rules.MAX_DEFINITION_BYTES:
        raise UsageError(
            f"-v {name}: {size:,} bytes; all variables of a job together may have {rules.MAX_DEFINITION_BYTES:,}. "
            "Put it on S3 and pass it as a file: -r S3URI PATH"
        )
    return text


def entries(name: str, namespace: Mapping[str, Any]) -> list[dict[str, Any]] | dict[str, list[Any]]:
    """Return a Python variable as an array's entries.

    Returns
    -------
    list of dict, or dict of lists
        A list of plain values gives entries with the one variable :data:`ITEM`; a data frame one for each row.

    Raises
    ------
    UsageError
        If it is not defined or nothing of these.
    """
    value = _defined(name, namespace, "--map")
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        value = value.to_dict("records")
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        made = {key: _items(item, f"--map {name}[{key!r}]") for key, item in value.items()}
    else:
        made = _items(value, f"--map {name}")  # type: ignore[assignment] # the other kind of array
    if not made:
        raise UsageError(f"--map {name} is empty: there is nothing to run")
    if isinstance(made, list):
        dicts = sum(isinstance(item, Mapping) for item in made)
        if dicts not in (0, len(made)):
            raise UsageError(f"--map {name}: {dicts} of {len(made)} entries are dicts: make it all of them or none")
        return [dict(item) if dicts else {ITEM: item} for item in made]
    return made


def _items(value: object, where: str) -> list[Any]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise UsageError(
            f"{where} is a {type(value).__name__}: --map takes a list of values, a list of dicts, or a dict of lists"
        )
    return [item.item() if hasattr(item, "item") else os.fspath(item) if isinstance(item, os.PathLike) else item
            for item in (value.tolist() if hasattr(value, "tolist") else value)]  # fmt: skip


def _defined(name: str, namespace: Mapping[str, Any], flag: str) -> Any:  # noqa: ANN401 - whatever the user made
    if name not in namespace:
        known = [word for word in namespace if not word.startswith("_")]
        raise UsageError(f"{flag} {name}: there is no such variable{nearest(name, known)}")
    return namespace[name]


# The job


def job_name(cell: Cell) -> str:
    """Return the name of the cell's job."""
    if cell.values.name is not None:
        return str(cell.values.name)
    if cell.values.workflow is not None:
        # A name of our own would change when the cell runs again, and leave its old job behind.
        raise UsageError("a job of a workflow needs a name: write -n NAME")
    return NAME


def build(cell: Cell, namespace: Mapping[str, Any]) -> EZBatchJob:
    """Build the cell's job.

    Parameters
    ----------
    cell : Cell
        What the cell asks for.
    namespace : mapping of str to object
        The user's variables.

    Raises
    ------
    UsageError
        If the body is empty, or a value cannot be used.
    """
    values = argparse.Namespace(**vars(cell.values))
    if not cell.script.strip():
        raise UsageError("the cell has no body: write the job's script below the line. Options: %%ezbatch --help")
    values.environment = [*values.environment, *((name, variable(name, namespace)) for name in values.var)]
    more: dict[str, Any] = {}
    if values.map is not None:
        more["array"] = entries(values.map, namespace)
        _check_map(values.map, more["array"])
    try:
        return job_from(values, command(cell.script, values.lang), **more)
    except EZBatchError as error:
        what = f"--map {values.map}: " if str(error).startswith("array") else ""
        raise UsageError(f"{what}{error}") from None


def _check_map(name: str, array: list[dict[str, Any]] | dict[str, list[Any]]) -> None:
    keys = array if isinstance(array, dict) else dict.fromkeys(key for entry in array for key in entry)
    for key in keys:
        problem = "is no string" if not isinstance(key, str) else preloader.name_problem(key)
        if problem:
            raise UsageError(f"--map {name}: {key!r} {problem}, so it cannot name an environment variable")


# Where every setting came from


_UNITS = {"memory": "MiB", "storage_size": "GiB", "timeout": "s"}


def settings_rows(cell: Cell, job: EZBatchJob, name: str) -> Iterator[tuple[str, str, str]]:
    """Yield label, value and origin of everything the cell's job was made of. Environment values are not told."""
    values = cell.values
    yield "name", name, cell.given("name")
    if is_shebang(cell.script):
        yield "lang", "by its #! line", "the script"
    else:
        yield "lang", values.lang or "sh", cell.given("lang")
    follows = {"vcpus": "memory", "memory": "vcpus"}
    for option in OPTIONS:
        field = option.field
        value = getattr(job, field, None)
        if field in ("name", "read", "write") or value in (None, {}, 0):
            continue
        label = option.flags[-1].lstrip("-")
        if field in _PAIRS:
            for key in value or ():
                shown = "(not shown)" if field in _SECRET else str((value or {})[key])
                origin = cell.given(f"{field}:{key}", f"-v, {cell.given(f'var:{key}')}")
                yield f"{label} {key}", shown, origin
        elif field == "array" and values.map is not None:
            yield "map", f"{values.map}: {job.array_size:,} entries", cell.given("map")
        else:
            other = follows.get(field)
            default = "default"
            if other in cell.origins and value != getattr(EZBatchJob, field):
                default = f"the least for the {other} given"
            yield label, f"{value} {_UNITS[field]}" if field in _UNITS else str(value), cell.given(field, default)
    for field in ("read", "write"):
        for mount in getattr(values, field):
            yield field, " -> ".join(mount), cell.given(f"{field}:{mount}")
    if values.after:
        for parent in values.after:
            yield "after", parent, cell.given(f"after:{parent}")
