"""How often a job runs: not at all an array, a count, one child for each entry, or one for each point of a grid."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets

from ezbatch import spec
from ezbatch.errors import Problem, SpecTypeError
from ezbatch_jupyter.forms._parts import Choice, Entry, Slot, box

__all__ = ["ArrayInput"]

Array = Any  # what EZBatchJob takes for one
_NONE, _COUNT, _ENTRIES, _GRID = "none", "count", "entries", "grid"
_KINDS = [
    ("no array", _NONE),
    ("a number of children", _COUNT),
    ("one child an entry", _ENTRIES),
    ("every combination", _GRID),
]
#: A longer array is kept, but not typed over in a page.
_LONG = 20_000
_EXAMPLE = {_ENTRIES: '[{"SAMPLE": "a"}, {"SAMPLE": "b"}]', _GRID: '{"SAMPLE": ["a", "b"], "SEED": [1, 2, 3]}'}


def _kind(array: Array) -> str:
    if array is None:
        return _NONE
    return _COUNT if isinstance(array, int) else _ENTRIES if isinstance(array, list) else _GRID


def _write(array: Array) -> str:
    if array is None:
        return ""
    text = json.dumps(array, ensure_ascii=True)
    if len(text) <= _LONG:
        return text
    what = "entries" if isinstance(array, list) else "variables"
    return f"{len(array):,} {what}, too long to be shown: kept as they are"


class ArrayInput:
    """The kind of an array, and its count or entries."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.kind: Choice[str] = Choice("Array", _KINDS, self._chosen, kind="ez-short")
        self.count: Entry[Array] = Entry(
            "Number of children", "array", self._read_count, _write, changed, kind="ez-bare"
        )
        self.entries: Entry[Array] = Entry(
            "Entries, as JSON", "array", self._read_entries, _write, changed, kind="ez-bare ez-code", lines=3
        )
        self.slot = Slot()
        self.note = ipywidgets.HTML()
        self.note.add_class("ez-indent")
        self.widget = box(
            box(self.kind.widget, self.count.widget, kind="ez-beside"),
            box(self.entries.widget, self.slot.widget, kind="ez-indent ez-stack"),
            kind="ez-stack ez-group ez-array",
        )
        self.value = None

    def _read_count(self, text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"{text!r} is no whole number: write how many children there are") from None

    def _read_entries(self, text: str) -> Array:
        kind = self.kind.value
        try:
            found = spec.array(json.loads(text, parse_constant=_refuse), "array")
        except (ValueError, SpecTypeError, RecursionError) as error:
            said = str(error) if isinstance(error, SpecTypeError) else "this is no JSON"
            raise ValueError(f"{said.replace(': ', ' ')}: write as in {_EXAMPLE[kind]}") from None
        if _kind(found) != kind:
            raise ValueError(f"this is another kind of array: write as in {_EXAMPLE[kind]}")
        return found

    @property
    def _entry(self) -> Entry[Array] | None:
        return {_COUNT: self.count, _ENTRIES: self.entries, _GRID: self.entries}.get(self.kind.value)

    @property
    def value(self) -> Array:
        """The array, as a job takes it."""
        return None if self._entry is None else self._entry.value

    @value.setter
    def value(self, array: Array) -> None:
        kind = _kind(array)
        self.kind.value = kind
        self.count.value = array if kind == _COUNT else 2
        self.entries.value = array if kind in (_ENTRIES, _GRID) else None
        self.entries.widget.disabled = self.entries.text.endswith("kept as they are")
        self._place()

    @property
    def error(self) -> Problem | None:
        """What cannot be read."""
        return None if self._entry is None else self._entry.error

    def _chosen(self) -> None:
        kind = self.kind.value
        if kind in (_ENTRIES, _GRID) and _kind(self.entries.value) != kind:
            self.entries.value = json.loads(_EXAMPLE[kind])
            self.entries.widget.disabled = False
        self._place()
        self._changed()

    def _place(self) -> None:
        kind = self.kind.value
        self.count.widget.layout.display = None if kind == _COUNT else "none"
        self.entries.widget.layout.display = None if kind in (_ENTRIES, _GRID) else "none"

    def show(self, problems: Sequence[Problem]) -> None:
        """Show the problems of the array."""
        if self._entry is not None:
            self._entry.mark(problems)
        self.slot.show(problems, about={p: f"{p.where}: {p.what}. {p.remedy}." for p in problems if p.where != "array"})


def _refuse(name: str) -> object:
    raise ValueError(name)
