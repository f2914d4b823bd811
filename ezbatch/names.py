"""Names that AWS Batch accepts, made from whatever the user called things."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

#: The longest part of a job's name that stems from what the user called it. A run's id takes at most 47 more.
SLUG_LENGTH = 72

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_-]+")


def slug(name: str, length: int = SLUG_LENGTH) -> str:
    """Return the name in letters, digits, ``-`` and ``_``, beginning with a letter or digit, never empty.

    A name that had to be shortened or lost everything ends in a hash of the whole, so that two long names
    which differ only at their end stay apart.
    """
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    made = _NOT_ALLOWED.sub("-", ascii_name).rstrip("-").lstrip("-_")
    if made and len(made) <= length:
        return made
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{made[: length - 9].rstrip('-')}-{digest}" if made else f"job-{digest}"


def unique_slugs(names: Iterable[str], length: int = SLUG_LENGTH) -> dict[str, str]:
    """Return a slug for every name, no two alike even to a reader that ignores case (ListJobs' JOB_NAME does)."""
    slugs: dict[str, str] = {}
    taken: set[str] = set()
    next_number: dict[str, int] = {}
    for name in names:
        made = slug(name, length)
        if made.lower() in taken:
            stem = made[: length - 8]
            number = next_number.get(stem.lower(), 2)
            while f"{stem}-{number}".lower() in taken:
                number += 1
            next_number[stem.lower()] = number + 1
            made = f"{stem}-{number}"
        taken.add(made.lower())
        slugs[name] = made
    return slugs
