"""The script that runs inside the container, and the few lines that wrap a command in it.

With ``preloader=True`` a job's success means that its inputs were there and its outputs are in S3: the script copies
``read``, runs the command only if that worked, copies ``write`` and ends with the command's own exit code, or with one
of `EXIT_CODES`. It is POSIX sh; its text is the same for every job, so that job definitions can be shared, and all
that differs travels in environment variables.
"""

from __future__ import annotations

import base64
import functools
import importlib.resources
import itertools
import re
import shlex
import string
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ezbatch.s3 import S3Mount

__all__ = [
    "EXIT_CODES",
    "EXIT_DOWNLOAD",
    "EXIT_INTERNAL",
    "EXIT_NO_CLIENT",
    "EXIT_UPLOAD",
    "STORES",
    "Unwrapped",
    "Wrapped",
    "argv",
    "name_problem",
    "script",
    "unwrap",
    "wrap",
]

EXIT_DOWNLOAD = 190
EXIT_UPLOAD = 191
EXIT_NO_CLIENT = 192
EXIT_INTERNAL = 193

EXIT_CODES: dict[int, str] = {
    EXIT_DOWNLOAD: (
        "An input could not be downloaded, so the command was not run: the last line of the log names the input and "
        "the cause; correct the mount's source or its permissions and retry."
    ),
    EXIT_UPLOAD: (
        "The command succeeded but an output could not be uploaded: the last line of the log names the output and "
        "the cause; check that the command writes there and that the destination can be written, and retry."
    ),
    EXIT_NO_CLIENT: (
        "The image has nothing to copy data with, so the command was not run: add what the last line of the log "
        "names to the image, or set preloader=False and copy the data yourself."
    ),
    EXIT_INTERNAL: (
        "The variables that ezbatch gives the preloader were missing or malformed, so the command was not run: submit "
        "the job with ezbatch, and set no variable whose name begins with EZBATCH_ in it."
    ),
}

#: The stores: where ``s3://`` may be. On AWS only S3 itself is needed, and the script must be small there.
STORES = ("s3", "directory")

# Linux takes at most 128 KiB (MAX_ARG_STRLEN) in one string of the environment.
_LONGEST = 120_000
# What AWS could take at all is cut finer, so that one part can stand in a definition and another override it.
_SHORT, _AWS_LONGEST = 1_000, 30_000

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A shell cannot hand these on as given: they are read-only, computed, or steer the shell itself.
#: What a planned row may set as well: a retry runs some children of an array, and each has to know which it is.
_INDEX = frozenset({"AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"})
_RESERVED = frozenset(
    "BASHOPTS BASH_VERSINFO EUID IFS LINENO OLDPWD OPTARG OPTIND PPID PWD SHELLOPTS SHLVL UID _".split()  # noqa: SIM905 - reads better without quotes
)


@dataclass(frozen=True)
class Wrapped:
    """A command with the preloader around it.

    Parameters
    ----------
    command
        The argv of the container: the same for every job.
    environment
        The variables to add to the job's own: what the script is to do.
    """

    command: tuple[str, ...]
    environment: dict[str, str]


@functools.cache
def script(stores: tuple[str, ...] = STORES) -> str:
    """Return the text of the preloader, made small: a job definition has to hold it beside what the job brings.

    Comments, blank lines and indentation are left out, names of its own are shortened, and Python is packed.

    Parameters
    ----------
    stores
        Some of `STORES`: what the script can copy from and to.
    """
    # The functions of the stores come first, then the part that uses them and runs.
    text = "".join(map(_part, (*(f"store_{store}.sh" for store in stores), "preloader.sh")))
    return re.sub(r"'(\w+\.py\.in)'", lambda match: f"'{_packed(match[1])}'", _with_short_names(text))


def _part(name: str) -> str:
    lines = map(str.strip, _read(name).splitlines())
    text = "".join(f"{line}\n" for line in lines if line and not line.startswith("#"))
    # A newline takes two characters of JSON: no more of them than the shell needs.
    text = text.replace("\\\n", "").replace(";;\n", ";;")
    return re.sub(r"(?<=\s)(then|do|else|in|\{|&&|\|\|?)\n", r"\1 ", text)


def _with_short_names(text: str) -> str:
    """Shorten the names that begin with ``ez_``, ``s3_`` and ``dir_``, but for those that the script puts together."""
    counts = Counter(re.findall(r"\b(?:ez|s3|dir)_(?!(?:ready|get|put)\b)\w+", text))
    letters = string.ascii_letters
    short = (f"ez_{letter}" for letter in (*letters, *map("".join, itertools.product(letters, letters))))
    found = dict(zip((name for name, _count in counts.most_common()), short, strict=False))
    return re.sub(r"\b(?:ez|s3|dir)_\w+", lambda match: found.get(match[0], match[0]), text)


def _python(name: str) -> str:
    """Return a Python program without comments and blank lines, indented by one space."""
    lines = [line for line in _read(name).splitlines() if line.strip() and not line.strip().startswith("#")]
    return "\n".join(re.sub(r"^ +", lambda match: match[0][::4], line) for line in lines)


def _packed(name: str) -> str:
    """Return a Python program that unpacks itself: half as long, and no character of it means anything to a shell."""
    packed = base64.b85encode(zlib.compress(_python(name).encode(), 9)).decode()
    return f'import base64,zlib;exec(zlib.decompress(base64.b85decode("{packed}")))'


def _read(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def wrap(
    command: Sequence[str],
    read: Sequence[S3Mount] = (),
    write: Sequence[S3Mount] = (),
    axes: Sequence[Sequence[Mapping[str, str]]] = (),
    stores: tuple[str, ...] = STORES,
) -> Wrapped:
    """Wrap a command so that its inputs are there before it and its outputs in S3 after it.

    Parameters
    ----------
    command
        The argv to run, of at least one word.
    read
        What to copy from S3 before the command.
    write
        What to copy to S3 after the command, also when it fails.
    axes
        For an array job. Every axis is a list of rows, every row the variables that it sets. The child's index selects
        one row of each axis in the order of `itertools.product`: the last axis varies fastest.
    stores
        Some of `STORES`: where the job may be told to find ``s3://``.

    Returns
    -------
    Wrapped
        The argv of the container and the variables to add to its environment.

    Raises
    ------
    ValueError
        If the command is empty, an axis has no rows, a name is used by two axes or cannot be set by a shell, or a
        string holds a NUL.
    """
    if isinstance(command, str) or not command:
        raise ValueError(f"command must be a list of at least one word, not {command!r}")
    texts = {
        "EZBATCH_COMMAND": shlex.join(command),
        "EZBATCH_READ": shlex.join(word for mount in read for word in _mount_words(mount, is_read=True)),
        "EZBATCH_WRITE": shlex.join(word for mount in write for word in _mount_words(mount, is_read=False)),
        "EZBATCH_ARRAY": _array_text(axes),
    }
    for name, text in texts.items():
        if "\0" in text:
            raise ValueError(f"a NUL character cannot be passed to a job, found in {name}")
    environment = {
        f"{name}_{number}" if number else name: part
        for name, text in texts.items()
        for number, part in enumerate(_parts(text))
    }
    return Wrapped(argv(stores), environment)


def argv(stores: tuple[str, ...] = STORES) -> tuple[str, ...]:
    """Return the argv of every wrapped command whose script has these stores."""
    return ("/bin/sh", "-c", script(stores), "ezbatch")


@dataclass(frozen=True)
class Unwrapped:
    """What was wrapped, as :func:`unwrap` finds it; ``environment`` is what is not the script's own."""

    command: list[str]
    read: list[dict[str, object]]
    write: list[dict[str, object]]
    axes: list[list[dict[str, str]]]
    environment: dict[str, str]


def unwrap(environment: Mapping[str, str]) -> Unwrapped | None:
    """Return what :func:`wrap` was given, from a container's variables, or None where nothing was wrapped."""
    own: dict[str, str] = {}
    rest: dict[str, str] = {}
    for name, value in environment.items():
        match = _OWN.fullmatch(name)
        if match is None:
            rest[name] = value
        else:
            own[name] = value
    if "EZBATCH_COMMAND" not in own:
        return None

    def words(name: str) -> list[str]:
        text, number = own.get(name, ""), 1
        while f"{name}_{number}" in own:
            text += own[f"{name}_{number}"]
            number += 1
        return shlex.split(text)

    axes = _axes(words("EZBATCH_ARRAY"))
    read, write = _mounts(words("EZBATCH_READ")), _mounts(words("EZBATCH_WRITE"))
    return Unwrapped(words("EZBATCH_COMMAND"), read, write, axes, rest)


_OWN = re.compile(r"EZBATCH_(COMMAND|READ|WRITE|ARRAY|S3)(_\d+)?")


def _mounts(words: list[str]) -> list[dict[str, object]]:
    recursive = {"auto": None, "yes": True, "no": False}
    return [
        {
            "source": words[at],
            "destination": words[at + 1],
            "recursive": recursive[words[at + 2]],
            "sse": words[at + 3] or None,
            "sse_kms_key_id": words[at + 4] or None,
            "options": options.unpack(words[at + 5]),
        }
        for at in range(0, len(words), 6)
    ]


def _axes(words: list[str]) -> list[list[dict[str, str]]]:
    axes: list[list[dict[str, str]]] = []
    while words:
        rows, columns = int(words[0]), int(words[1])
        words = words[2:]
        if columns:
            names = words[:columns]
            values = words[columns : columns * (rows + 1)]
            cut = range(0, len(values), columns)
            axis = [dict(zip(names, values[at : at + columns], strict=True)) for at in cut]
            words = words[columns * (rows + 1) :]
        else:
            axis = [dict(pair.split("=", 1) for pair in shlex.split(row)) for row in words[:rows]]
            words = words[rows:]
        axes.insert(0, axis)
    return axes


def _mount_words(mount: S3Mount, *, is_read: bool) -> tuple[str, str, str, str, str, str]:
    said = options.parse(mount.options, is_read=is_read)
    recursive = {None: "auto", True: "yes", False: "no"}[mount.recursive]
    # Files of ezbatch 0.1.0 keep these in the options as well, or only there.
    if recursive == "auto" and said.recursive:
        recursive = "yes"
    sse, kms = mount.sse or said.sse, mount.sse_kms_key_id or said.kms
    return (_address(mount.source), _address(mount.destination), recursive, sse, kms, said.packed())


def _address(text: str) -> str:
    """Write an access point's ARN so that no slash is before the key: all clients take a colon as well."""
    return re.sub(r"^(s3://arn:[^/]*:accesspoint)/", r"\1:", text)


def _array_text(axes: Sequence[Sequence[Mapping[str, str]]]) -> str:
    seen: set[str] = set()
    words: list[str] = []
    # Last axis first, because the script divides the index by the fastest axis first.
    for axis in reversed(axes):
        if not axis:
            raise ValueError("an axis of an array needs at least one row")
        names = {name for row in axis for name in row}
        _check_names(names)
        if twice := seen & names:
            raise ValueError(f"two axes of the array set {', '.join(sorted(twice))}")
        seen |= names
        first = list(axis[0])
        if first and all(row.keys() == axis[0].keys() for row in axis):
            words += [str(len(axis)), str(len(first)), *first, *(row[name] for row in axis for name in first)]
        else:
            words += [str(len(axis)), "0", *(shlex.join(f"{k}={v}" for k, v in row.items()) for row in axis)]
    return shlex.join(words)


def name_problem(name: str) -> str:
    """Return why a name cannot be a variable of an array's entries, or nothing."""
    if not _NAME.fullmatch(name):
        return "cannot name a shell variable: use letters, digits and _, no digit first"
    if name in _RESERVED or name.startswith(("AWS_BATCH", "EZBATCH_", "ez_")):
        return "belongs to the shell, AWS Batch or ezbatch"
    return ""


def _check_names(names: set[str]) -> None:
    for name in sorted(names - _INDEX):
        if problem := name_problem(name):
            raise ValueError(f"{name!r} cannot be a variable of an array: it {problem}")


def _parts(text: str) -> Iterator[str]:
    """Cut a text into pieces that each fit one environment variable, between characters."""
    step = _SHORT if len(text) <= _AWS_LONGEST else _LONGEST // 4
    for start in range(0, len(text), step):
        yield text[start : start + step]
