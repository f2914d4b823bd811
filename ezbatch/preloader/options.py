"""A mount's ``options``, in the words of ``aws s3 cp``: what each means to a script that may have another client."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Options", "parse", "unpack"]

#: About what is printed, which is nothing here; or what is so anyway.
_NOTHING = frozenset({"--quiet", "--only-show-errors", "--no-progress", "--follow-symlinks"})
#: For every request.
_FLAGS = frozenset({"--no-sign-request"})
_FLAGS_WITH_VALUE = frozenset({"--request-payer"})
#: For what is written. All clients know them, by these names or, in boto3, by ones made of these.
_WORDS = frozenset(
    {
        "--acl",
        "--cache-control",
        "--content-disposition",
        "--content-encoding",
        "--content-type",
        "--storage-class",
    }
)
_FILTERS = frozenset({"--exclude", "--include"})
_SSE = frozenset({"--sse", "--sse-kms-key-id"})
_ALONE = _NOTHING | _FLAGS | {"--recursive"}
_VALUES = _FLAGS_WITH_VALUE | _WORDS | _FILTERS | {"--sse-kms-key-id"}
#: Options that somebody will try, and what to do instead.
_INSTEAD = {
    "--dryrun": "Leave it out: a job whose inputs or outputs were not copied would succeed",
    "--endpoint-url": "Set AWS_ENDPOINT_URL_S3 in the job's environment",
    "--no-follow-symlinks": "Leave it out: links are followed",
    "--profile": "Give the job a role that may read or write there (job_role)",
    "--region": "Leave it out, or set AWS_REGION in the job's environment",
}


@dataclass(frozen=True)
class Options:
    """What the options of a mount say.

    Parameters
    ----------
    recursive
        Whether ``--recursive`` is among them.
    sse, kms
        The encryption they ask for, or nothing.
    flags
        For every request, such as ``--no-sign-request``.
    words
        For what is written: names and values in turn.
    filters
        ``--include`` and ``--exclude`` with their patterns in turn.
    problems
        What cannot be honoured, each with its remedy.
    """

    recursive: bool = False
    sse: str = ""
    kms: str = ""
    flags: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    filters: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def packed(self) -> str:
        """Return the one word from which the script takes flags, words and filters."""
        texts = [" ".join(self.flags), shlex.join(self.words), shlex.join(self.filters)]
        return shlex.join(texts) if any(texts) else ""


def unpack(text: str) -> str:
    """Return options that mean what a packed word does; the default where it says nothing."""
    return " ".join(filter(None, shlex.split(text))) or "--quiet"


def parse(text: str, *, is_read: bool) -> Options:
    """Read a mount's options.

    Parameters
    ----------
    text
        As in :class:`ezbatch.s3.S3Mount`.
    is_read
        Whether the mount is copied from S3.

    Returns
    -------
    Options
        With everything that cannot be honoured in ``problems``, never an error.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        return Options(problems=[(f"cannot be split into words: {error}", "Close the quote")])
    recursive = False
    sse = kms = ""
    found = Options()
    for name, value in _pairs(words):
        if value is None and name in _VALUES:
            found.problems.append((f"{name} needs a value", "Write it after the name"))
        elif name in _NOTHING:
            pass
        elif name == "--recursive":
            recursive = True
        elif name == "--sse":
            sse = value or "AES256"
        elif name == "--sse-kms-key-id":
            kms = value or ""
        elif name in _FLAGS:
            found.flags.append(name)
        elif name in _FLAGS_WITH_VALUE and value == "requester":
            found.flags.extend((name, value))
        elif name in _FILTERS:
            found.filters.extend((name, value or ""))
        elif name in _WORDS and not is_read:
            found.words.extend((name, value or ""))
        else:
            found.problems.append(_refused(name, is_read=is_read))
    return Options(recursive, sse, kms, found.flags, found.words, found.filters, found.problems)


def _refused(name: str, *, is_read: bool) -> tuple[str, str]:
    if name in _WORDS and is_read:
        return f"{name} is about what is written, and this is a read", "Leave it out"
    if name in _FLAGS_WITH_VALUE:
        return f"{name} can only be requester", f"Write {name} requester"
    known = sorted(_FLAGS | _FLAGS_WITH_VALUE | _WORDS | _FILTERS | _SSE | {"--recursive"})
    remedy = _INSTEAD.get(name, f"Leave it out, or copy in the command itself. Known are {', '.join(known)}")
    return f"{name} cannot be honoured whichever client the image has", remedy


def _pairs(words: list[str]) -> Iterator[tuple[str, str | None]]:
    """Yield each option with its value, if it takes one and has one; that of ``--sse`` may be left out."""
    at = 0
    while at < len(words):
        name, equals, value = words[at].partition("=")
        following = words[at + 1] if at + 1 < len(words) else None
        at += 1
        if equals and name.startswith("--"):
            yield name, value
        elif following is not None and (name in _VALUES or (name not in _ALONE and not following.startswith("--"))):
            yield name, following
            at += 1
        else:
            yield words[at - 1], None
