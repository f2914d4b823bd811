"""The one table of job options that the command line and the cell magic share."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ezbatch import rules
from ezbatch.s3 import S3Mount, S3Mounts
from ezbatch.spec import nearest
from ezbatch.workflow import EZBatchJob

__all__ = [
    "DEFAULT_IMAGE",
    "MAX_COST",
    "OPTIONS",
    "Option",
    "Parser",
    "add_job_options",
    "checked",
    "job_from",
    "parse_count",
    "parse_dollars",
    "parse_duration",
    "parse_memory",
    "parse_seconds",
]

#: What a job runs in when no image is named: it has sh and python3.
DEFAULT_IMAGE = "public.ecr.aws/docker/library/python:3.12-slim"

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_memory(text: str) -> int:
    """Return MiB from ``8G``, ``8GiB``, ``512M`` or a plain number of MiB.

    Raises
    ------
    ValueError
        If the text is none of these, or no whole number of MiB.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([MGT])(?:i?B)?)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError(f"{text!r} is no size: write 8G, or 512M, or a number of MiB")
    value = float(match[1]) * {"M": 1, "G": 1024, "T": 1024**2}[(match[2] or "M").upper()]
    if not value.is_integer():
        raise ValueError(f"{text!r} is {value:g} MiB: write a whole number of MiB")
    return int(value)


def parse_storage(text: str) -> int:
    """Return GiB from ``50G`` or a plain number of GiB.

    Raises
    ------
    ValueError
        If the text is neither.
    """
    match = re.fullmatch(r"(\d+)\s*(?:G(?:i?B)?)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError(f"{text!r} is no size in GiB: write 50G")
    return int(match[1])


def parse_duration(text: str) -> int:
    """Return seconds from ``90s``, ``15m``, ``2h``, ``1h30m``, ``1d`` or a plain number of seconds.

    Raises
    ------
    ValueError
        If the text is none of these.
    """
    words = re.findall(r"(\d+)\s*([smhd]?)", text.strip(), re.IGNORECASE)
    if not words or not re.fullmatch(r"(\s*\d+\s*[smhd]\s*)+|\s*\d+\s*", text, re.IGNORECASE):
        raise ValueError(f"{text!r} is no duration: write 90s, 15m, 2h or 1h30m")
    return sum(int(number) * _UNITS[unit.lower()] for number, unit in words)


def parse_vcpus(text: str) -> int | float:
    """Return a number of vCPUs from ``4`` or ``0.25``.

    Raises
    ------
    ValueError
        If the text is no number above 0.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 10_000:  # noqa: PLR2004 - no machine has more, and inf is no number of vCPUs
        raise ValueError(f"{text!r} is no number of vCPUs: write 1, 4 or 0.25")
    return int(value) if value.is_integer() else value


def parse_dollars(text: str) -> float:
    """Return US dollars from ``5``, ``2.50`` or ``$2.50``.

    Raises
    ------
    ValueError
        If the text is none of these.
    """
    if not re.fullmatch(r"\$?(\d+(\.\d*)?|\.\d+)", text.strip(), re.ASCII):
        raise ValueError(f"{text!r} is no amount in US dollars: write 5 or 2.50")
    return float(text.strip().lstrip("$"))


def parse_count(text: str) -> int:
    """Return a whole number of 0 or more.

    Raises
    ------
    ValueError
        If the text is none.
    """
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is no whole number of 0 or more")
    return int(text)


def parse_seconds(text: str) -> float:
    """Return a finite number of seconds, 0 or more.

    Raises
    ------
    ValueError
        If the text is none.
    """
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text, re.ASCII):
        raise ValueError(f"{text!r} is no number of seconds")
    return float(text)


def parse_pair(text: str) -> tuple[str, str]:
    """Return name and value from ``NAME=VALUE``.

    Raises
    ------
    ValueError
        If there is no ``=``.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"{text!r} has no =: write NAME=VALUE")
    return name, value


def parse_platform(text: str) -> str:
    """Return ``FARGATE`` or ``EC2``, however it is written.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if text.upper() not in rules.PLATFORMS:
        raise ValueError(f"{text!r} is no platform{nearest(text.upper(), rules.PLATFORMS)}: write fargate or ec2")
    return text.upper()


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a job.

    Parameters
    ----------
    flags : tuple of str
        As a person types them.
    field : str
        Where its value goes: a field of :class:`EZBatchJob`, or a name that :func:`job_from` knows.
    help : str
        One line.
    metavar : str or tuple of str
        What stands for the value in the help.
    parse : callable
        From text to the value; raises ValueError with what to write instead.
    many : bool
        Whether it takes several values, after one flag or after several.
    words : int
        How many words make a value; 0 for a switch.
    choices : tuple of str
        The only values it takes, where these are few.
    """

    flags: tuple[str, ...]
    field: str
    help: str
    metavar: str | tuple[str, ...]
    parse: Callable[[str], Any] = str
    many: bool = False
    words: int = 1
    choices: tuple[str, ...] = ()


OPTIONS: tuple[Option, ...] = (
    Option(("-i", "--image"), "image", f"container image (default: {DEFAULT_IMAGE})", "IMAGE"),
    Option(("-n", "--name"), "name", "name of the job", "NAME"),
    Option(("-c", "--vcpus"), "vcpus", "vCPUs (default: 1, or what the memory needs)", "N", parse_vcpus),
    Option(
        ("-m", "--memory"), "memory", "memory, as in 8G (default: 2G, or the least for the vCPUs)", "SIZE", parse_memory
    ),
    Option(
        ("-s", "--storage"), "storage_size", "disk, 21G to 200G, Fargate only (default: 20 GiB)", "SIZE", parse_storage
    ),
    Option(("-p", "--platform"), "platform", "fargate or ec2 (default: fargate)", "PLATFORM", parse_platform),
    Option(("-e", "--env"), "environment", "environment variable", "NAME=VALUE", parse_pair, many=True),
    Option(("-r", "--read"), "read", "copied from S3 before the command runs", ("S3URI", "PATH"), many=True, words=2),
    Option(("-w", "--write"), "write", "copied to S3 after the command has run", ("PATH", "S3URI"), many=True, words=2),
    Option(("-t", "--tag"), "tags", "AWS tag", "NAME=VALUE", parse_pair, many=True),
    Option(("--array",), "array", "run it N times; AWS_BATCH_JOB_ARRAY_INDEX tells which (from 0)", "N", int),
    Option(("--retries",), "retries", "repeat a failed attempt up to N times, 0 to 9", "N", int),
    Option(("--timeout",), "timeout", "end an attempt after this long, as in 2h; 60s or more", "TIME", parse_duration),
    Option(("--gpus",), "gpus", "GPUs, EC2 only", "N", int),
    Option(("--secret",), "secrets", "environment variable from a secret's ARN", "NAME=ARN", parse_pair, many=True),
    Option(("--job-role",), "job_role", "IAM role of the command", "ARN"),
    Option(("--architecture",), "architecture", "X86_64 or ARM64", "NAME", str.upper),
)

#: Of a run, not of a job: wherever something is submitted.
MAX_COST = Option(("--max-cost",), "max_cost", "refuse what could cost more on AWS", "DOLLARS", parse_dollars)


def checked(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Let argparse show the parser's own words; it has its own for ValueError."""

    def check(text: str) -> Any:  # noqa: ANN401 - what the parser returns
        try:
            return parse(text)
        except ValueError as error:
            message = str(error) if parse is not int else f"{text!r} is no whole number"
            raise argparse.ArgumentTypeError(message) from None

    return check


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose commands refuse what they do not know themselves, and so point at their own help."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:  # noqa: ANN401 - argparse's own
        """Parse all of the arguments: nothing is left for the parser above."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


class _Groups(argparse.Action):
    """Collects values that are several words each, as in ``-r s3://b/x in/x s3://b/y in/y``."""

    def __init__(self, *arguments: Any, words: int, **settings: Any) -> None:  # noqa: ANN401 - argparse's own
        super().__init__(*arguments, **settings)
        self.words = words

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,  # noqa: ANN401 - a list, since nargs is +
        option_string: str | None = None,
    ) -> None:
        if len(values) % self.words:
            said = f"{' '.join(values)!r} is {len(values)} word{'s' if len(values) != 1 else ''}"
            parser.error(f"argument {option_string}: {said}: write {self.metavar}, as often as you need")
        groups = [list(values[i : i + self.words]) for i in range(0, len(values), self.words)]
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or ()), *groups])


def add_job_options(parser: argparse.ArgumentParser, options: Iterable[Option] = OPTIONS) -> None:
    """Add options to a parser. What a person leaves out is None in its result, or an empty list."""
    for option in options:
        settings: dict[str, Any] = {"dest": option.field, "help": option.help, "metavar": option.metavar}
        if option.many:
            settings["default"] = []
        if option.words == 0:
            settings.update(action="store_true", default=None)
            del settings["metavar"]
        elif option.words > 1:
            # argparse shows the metavar as one word that repeats, which is what it is.
            settings.update(action=_Groups, nargs="+", words=option.words, metavar=" ".join(option.metavar))
        else:
            settings["type"] = checked(option.parse)
            if option.choices:
                settings["choices"] = option.choices
            if option.many:
                settings.update(action="extend", nargs="+")
        parser.add_argument(*option.flags, **settings)


def job_from(values: argparse.Namespace, command: str | Sequence[str], **more: Any) -> EZBatchJob:  # noqa: ANN401 - fields
    """Build a job from parsed options.

    Mounts turn the preloader on. Of vCPUs and memory, one that is left out follows the other, so that ``-c 4`` alone
    is a size that Fargate has.

    Parameters
    ----------
    values : argparse.Namespace
        What a parser with :func:`add_job_options` made.
    command : str or sequence of str
        What the job runs.
    **more
        Fields that win over the options.
    """
    found = {option.field: getattr(values, option.field, None) for option in OPTIONS}
    given: dict[str, Any] = {name: value for name, value in found.items() if value not in (None, [])}
    given.pop("name", None)
    read = [S3Mount(source, destination) for source, destination in given.pop("read", [])]
    write = [S3Mount(source, destination) for source, destination in given.pop("write", [])]
    for field in ("environment", "tags", "secrets"):
        if field in given:
            given[field] = dict(given[field])
    given.setdefault("image", DEFAULT_IMAGE)
    if read or write:
        given.update(mounts=S3Mounts(read, write), preloader=True)
    if given.get("platform", "FARGATE") == "FARGATE":
        _complete_size(given)
    given.update(more)
    return EZBatchJob(command=command if isinstance(command, str) else list(command), **given)


def _complete_size(given: dict[str, Any]) -> None:
    vcpus, memory = given.get("vcpus"), given.get("memory")
    if vcpus is not None and memory is None and vcpus in rules.FARGATE_MEMORY:
        # 2 GiB, the default, where Fargate offers it.
        offered = rules.FARGATE_MEMORY[vcpus]
        given["memory"] = EZBatchJob.memory if EZBatchJob.memory in offered else offered[0]
    elif memory is not None and vcpus is None and memory not in rules.FARGATE_MEMORY[1]:
        fitting = [size for size, offered in rules.FARGATE_MEMORY.items() if memory in offered]
        if fitting:
            given["vcpus"] = fitting[-1] if fitting[-1] < 1 else fitting[0]
