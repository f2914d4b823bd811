"""Reading values into a spec: what the constructors accept, and where in the input a wrong value stands.

The same checks serve ``EZBatchJob(vcpus="4")`` (the place is ``vcpus``) and a saved file (the place is
``jobs.align.vcpus``), so a mistake reads the same wherever it was made.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import numbers
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ezbatch.errors import SpecTypeError

#: What an array entry may hold for a variable; it reaches the job as ``str(value)``.
Scalar = str | int | float | bool


def path(where: str, *parts: str | int) -> str:
    """Add names and indices to a place: ``path("jobs", "a b", "read", 0)`` is ``jobs["a b"].read[0]``."""
    for part in parts:
        if isinstance(part, int):
            where += f"[{part}]"
        elif part.replace("-", "_").isidentifier():
            where += f".{part}" if where else part
        else:
            where += f"[{json.dumps(part, ensure_ascii=False)}]"
    return where if where.isascii() else where.encode(errors="backslashreplace").decode()


def inside(where: str, place: str) -> str:
    """Return a place told from within another: ``inside("jobs.a", "mounts")`` is ``jobs.a.mounts``."""
    return where + ("" if place.startswith("[") or not where else ".") + place


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest of the known words, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


_SHORT = 40  # characters of a wrong value that are worth showing


def wrong(where: str, expected: str, value: object) -> SpecTypeError:
    """Return the error for a value of the wrong type; environment values are never shown."""
    shown = "null (None)" if value is None else f"{type(value).__name__}"
    short = len(value) <= _SHORT if isinstance(value, str) else isinstance(value, int | float | bool)
    if short and "environment" not in where:
        shown += f" {value!r}"
    hint = ""
    if isinstance(value, str) and "number" in expected and value.strip().replace(".", "", 1).isdigit():
        hint = f": write {value.strip()} without quotes"
    return SpecTypeError(f"{where} must be {expected}, not {shown}{hint}")


def text(value: object, where: str) -> str:
    """Accept a string."""
    if not isinstance(value, str):
        raise wrong(where, "a string", value)
    return value


def flag(value: object, where: str) -> bool:
    """Accept true or false."""
    if not isinstance(value, bool):
        raise wrong(where, "true or false", value)
    return value


def whole(value: object, where: str) -> int:
    """Accept a whole number (numpy's too; a float such as 2048.0 too, since JSON writers make them)."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise wrong(where, "a whole number", value)


def number(value: object, where: str) -> int | float:
    """Accept a finite number; whole ones become ``int``."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an integer of hundreds of digits
            as_float = float(value)
            if math.isfinite(as_float):
                return int(as_float) if as_float.is_integer() else as_float
    raise wrong(where, "a number", value)


def scalar(value: object, where: str) -> Scalar:
    """Accept what can stand in an environment variable of an array's child."""
    if isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) and math.isfinite(float(value)):
        return float(value)
    raise wrong(where, "a string or a finite number", value)


def optional(accept: Callable[[object, str], Any], value: object, where: str) -> Any:  # noqa: ANN401 - the acceptor's type
    """Accept None, or what the acceptor accepts."""
    return None if value is None else accept(value, where)


def table(value: object, where: str, what: str = "a dict") -> Mapping[str, object]:
    """Accept a mapping with string keys."""
    if not isinstance(value, Mapping):
        raise wrong(where, what, value)
    for key in value:
        if not isinstance(key, str):
            raise wrong(path(where, str(key)), "named by a string", key)
    return value


def texts(value: object, where: str) -> dict[str, str]:
    """Accept a mapping of strings to strings, as a copy."""
    return {key: text(item, path(where, key)) for key, item in table(value, where, "a dict of strings").items()}


def row(value: object, where: str, what: str) -> Sequence[object]:
    """Accept a list or another ordered collection, but no string: that would be taken letter by letter."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise wrong(where, what, value)
    return list(value)


def argv(value: object, where: str) -> str | list[str]:
    """Accept a command: one string, or a list of strings (exec form)."""
    if isinstance(value, str):
        return value
    words = row(value, where, "a string or a list of strings")
    return [text(word, path(where, index)) for index, word in enumerate(words)]


def array(value: object, where: str) -> int | list[dict[str, Scalar]] | dict[str, list[Scalar]]:
    """Accept a count, a list of entries, or a grid of names and their values."""
    what = "a whole number, a list of dicts, or a dict of lists"
    if isinstance(value, Mapping):
        return {
            name: [
                scalar(item, path(where, name, i)) for i, item in enumerate(row(values, path(where, name), "a list"))
            ]
            for name, values in table(value, where).items()
        }
    if isinstance(value, numbers.Real):
        return whole(value, where)
    return [
        {name: scalar(item, path(where, i, name)) for name, item in table(entry, path(where, i), "a dict").items()}
        for i, entry in enumerate(row(value, where, what))
    ]


def known_fields(given: Mapping[str, object], known: Sequence[str], required: Sequence[str], what: str) -> None:
    """Raise for a field that does not exist, naming the nearest, and for one that is missing."""
    for key in given:
        if key not in known:
            message = f"{path('', key)} is not a field{nearest(key, known)}; the fields are {', '.join(known)}"
            raise SpecTypeError(message)
    for key in required:
        if key not in given:
            message = f"{what} lacks the field {key!r}"
            raise SpecTypeError(message)


_WHOLE = re.compile(r"the (job|mount|mounts|workflow)\b")


def within(where: str, build: Callable[[Any], Any], value: object) -> Any:  # noqa: ANN401 - what ``build`` returns
    """Run a builder; its error then begins with the place, also where it speaks of the whole."""
    try:
        return build(value)
    except SpecTypeError as error:
        text = str(error)
        whole = _WHOLE.match(text)
        raise SpecTypeError(where + text[whole.end() :] if whole else inside(where, text)) from None
