"""What the forms are made of: inputs that keep what they were given, lines for problems and notes, rows, folds."""

from __future__ import annotations

import asyncio
import contextlib
import html
import itertools
import secrets
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import anywidget
import ipywidgets
import traitlets

from ezbatch import spec
from ezbatch.errors import Problem
from ezbatch_jupyter.forms._work import in_turn
from ezbatch_jupyter.rows import clean
from ezbatch_jupyter.run_view import in_kernel

__all__ = [
    "CROSS",
    "Choice",
    "Entry",
    "Fold",
    "Form",
    "Page",
    "Pairs",
    "Slot",
    "after_edits",
    "box",
    "button",
    "discard",
    "markup",
    "place",
    "sentence",
    "state_html",
    "under",
]

_STATIC = Path(__file__).parent / "static"
#: What takes a row away.
CROSS = "\N{MULTIPLICATION SIGN}"
_numbers = itertools.count(1)
#: The pages that there are, and what waits for an echo of one, by its number.
_PAGES: weakref.WeakSet[Page] = weakref.WeakSet()
_ASKED: dict[object, Callable[[], object]] = {}
#: Seconds to wait for an echo.
_PATIENCE = 10.0
T = TypeVar("T")
Widget = Any  # ipywidgets has no annotations


def place(problem: Problem) -> str:
    """Return the first word of a problem's place: the field of a job."""
    head = problem.where
    for i, char in enumerate(head):
        if char in ".[":
            return head[:i]
    return head


def under(problems: Iterable[Problem], *fields: str) -> list[Problem]:
    """Return the problems that stand in one of the fields of a job."""
    return [problem for problem in problems if place(problem) in fields]


def sentence(problem: Problem) -> str:
    """Return a problem as it stands beside its field, which need not be named again."""
    what = problem.what[:1].upper() + problem.what[1:]
    return f"{what}. {problem.remedy}."


def markup(text: object) -> str:
    """Return a text as HTML that says just that."""
    return html.escape(clean(text))


def state_html(state: str, text: str, title: str = "") -> str:
    """Return a badge with its word, as the other views show it."""
    about = f' title="{markup(title)}"' if title else ""
    return f'<span class="ez-st ez-st-{state}"{about}>{markup(text)}</span>'


def box(*children: Widget, kind: str = "") -> Widget:
    """Return a box that the stylesheet lays out."""
    made = ipywidgets.Box(list(children))
    for name in kind.split():
        made.add_class(name)
    return made


def after_edits(act: Callable[[], object]) -> None:
    """Do what a person asked for when all that was typed before has arrived.

    While an input's text is on its way, a page holds back what is typed meanwhile, but no click: where the kernel is
    slow or far, a click overtakes the text. So the page is asked for an echo, twice. The first comes after the text
    that was on its way; what was held back leaves the page when it hears that the kernel is done with that, which it
    hears before the second question.
    """
    if not in_kernel():  # nobody types
        act()
        return
    _ask(lambda: _ask(in_turn(act)))


def _ask(then: Callable[[], object]) -> None:
    number = next(_numbers)
    _ASKED[number] = then
    for page in tuple(_PAGES):
        page.send({"t": "echo", "number": number})
    # A page that was closed meanwhile answers no more.
    asyncio.get_running_loop().call_later(_PATIENCE, _echoed, number)


def _echoed(number: object) -> None:
    then = _ASKED.pop(number, None)
    if then is not None:
        then()


class _Button(ipywidgets.Button):  # type: ignore[misc] # ipywidgets has no annotations
    """A button that is pressed in a page after what was typed there before."""

    def _handle_button_msg(self, _widget: object, content: Mapping[str, object], _buffers: object) -> None:
        if content.get("event") == "click":
            in_turn(after_edits)(self._press)

    def _press(self) -> None:
        # What was typed may have disabled it, or taken it away.
        if self.comm is not None and not self.disabled:
            self.click()


def button(text: str, act: Callable[[], object], kind: str = "", tooltip: str = "") -> Widget:
    """Return a button."""
    made = _Button(description=text, tooltip=tooltip or None)
    for name in ["ez-btn", *kind.split()]:
        made.add_class(name)
    made.on_click(lambda _button: act())
    return made


def discard(widget: Widget) -> None:
    """Close a widget that is no longer shown, with all that is in it."""
    for child in getattr(widget, "children", ()):
        discard(child)
    for part in (getattr(widget, "style", None), widget.layout, widget):
        if part is not None:
            part.close()


class Page(anywidget.AnyWidget):
    """What ipywidgets leave out: the stylesheet, descriptions for screen readers, the clipboard, the focus.

    What is copied goes to the page as a message, never as state, which a notebook may save.
    """

    _esm = _STATIC / "page.js"
    _css = _STATIC / "form.css"

    label = traitlets.Unicode("").tag(sync=True)

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        _PAGES.add(self)
        self.on_msg(self._told)

    def _told(self, _widget: object, content: object, _buffers: object) -> None:
        if isinstance(content, dict) and content.get("t") == "echo":
            _echoed(content.get("number"))

    def copy(self, text: str, what: str) -> None:
        """Put a text on the clipboard and show it, for where the browser allows no more."""
        self.send({"t": "copy", "text": text, "what": what})

    def focus(self, kind: str) -> None:
        """Move the focus to the first input of a class."""
        self.send({"t": "focus", "kind": kind})


class Slot:
    """A line for a problem or a note. Once it was needed it keeps its place, so that nothing jumps while one types."""

    def __init__(self, *, always: bool = False) -> None:
        self.widget = ipywidgets.HTML()
        self.widget.add_class("ez-slot")
        if always:
            self.widget.add_class("ez-kept")
        self.problems: list[Problem] = []

    def show(self, problems: Sequence[Problem], note: str = "", about: Mapping[Problem, str] | None = None) -> None:
        """Show problems or, where there are none, a note (HTML)."""
        self.problems = list(problems)
        if problems:
            self.widget.add_class("ez-kept")
        texts = [(about or {}).get(problem) or sentence(problem) for problem in problems[:3]]
        if len(problems) > 3:  # noqa: PLR2004 - three fill the place there is
            texts[-1] += f" And {len(problems) - 3} more."
        lines = [f'<div class="ez-problem" role="status">{state_html("FAILED", text)}</div>' for text in texts]
        self.widget.value = "".join(lines) if lines else f'<div class="ez-note">{note}</div>' if note else ""


class Entry(Generic[T]):
    """An input for text whose value is read from what is typed. What was given and not typed over is kept as it was.

    Parameters
    ----------
    label : str
        Its label.
    where : str
        The field, for what cannot be read.
    read : callable
        From text to the value; raises ValueError with what to write instead.
    write : callable
        From the value to the text.
    changed : callable
        Called after each change by a person.
    kind : str
        Classes.
    lines : int
        More than one makes it a text area.
    """

    def __init__(
        self,
        label: str,
        where: str,
        read: Callable[[str], T],
        write: Callable[[T], str],
        changed: Callable[[], None],
        *,
        kind: str = "",
        lines: int = 1,
        placeholder: str = "",
    ) -> None:
        self.where = where
        self._read, self._write, self._changed = read, write, changed
        if lines > 1:
            self.widget = ipywidgets.Textarea(description=label, placeholder=placeholder, rows=lines)
        else:
            self.widget = ipywidgets.Text(description=label, placeholder=placeholder)
        for name in ["ez-entry", *kind.split()]:
            self.widget.add_class(name)
        self._value: Any = None
        self._given: Any = None
        self._text = ""
        self._quiet = False
        self.error: Problem | None = None
        self.widget.observe(in_turn(self._typed), "value")

    @property
    def value(self) -> T:
        """What was last read."""
        value: T = self._value
        return value

    @value.setter
    def value(self, value: T) -> None:
        self._value = self._given = value
        self.error = None
        self._text = self._write(value)
        self._quiet = True
        try:
            self.widget.value = self._text
        finally:
            self._quiet = False

    @property
    def text(self) -> str:
        """What stands there."""
        text: str = self.widget.value
        return text

    def _typed(self, change: Mapping[str, Any]) -> None:
        if self._quiet:
            return
        text = change["new"]
        self.error = None
        if text == self._text:
            self._value = self._given
        else:
            try:
                self._value = self._read(text)
            except ValueError as error:
                what, _colon, remedy = str(error).partition(": ")
                self.error = Problem(self.where, what, (remedy[:1].upper() + remedy[1:]) or "Write it otherwise")
        self._changed()

    def mark(self, bad: object) -> None:
        """Show or hide the frame of an input with a problem."""
        (self.widget.add_class if bad else self.widget.remove_class)("ez-bad")


class Choice(Generic[T]):
    """A choice from a list. What was given and is not on the list stays, at its end, until another is chosen."""

    def __init__(
        self,
        label: str,
        options: Sequence[tuple[str, T]],
        changed: Callable[[], None],
        *,
        kind: str = "",
        odd: Callable[[T], str] = str,
        make: Callable[..., Widget] = ipywidgets.Dropdown,
    ) -> None:
        self.odd = odd
        self._changed = changed
        self._quiet = True
        self._options: list[tuple[str, T]] = []
        self._shown: list[tuple[str, T]] = []
        self.widget = make(description=label)
        for name in ["ez-choice", *kind.split()]:
            self.widget.add_class(name)
        self.widget.observe(in_turn(self._chosen), "index")
        self.offer(options, options[0][1])

    def offer(self, options: Sequence[tuple[str, T]], value: T) -> None:
        """Put up another list, with a value chosen."""
        self._options = list(options)
        shown = list(options)
        if not any(_same(item, value) for _label, item in options):
            shown.append((self.odd(value), value))
        self._quiet = True
        try:
            if self._shown != shown:
                self._shown = shown
                # ipywidgets takes the value None for no choice at all, so that its values are places in the list.
                self.widget.options = [(label, i) for i, (label, _item) in enumerate(shown)]
            self.widget.index = next(i for i, (_label, item) in enumerate(shown) if _same(item, value))
        finally:
            self._quiet = False

    @property
    def value(self) -> T:
        """What is chosen."""
        value: T = self._shown[self.widget.index][1]
        return value

    @value.setter
    def value(self, value: T) -> None:
        self.offer(self._options, value)

    def choose(self, value: T) -> None:
        """Choose as a person does."""
        self.widget.index = next(i for i, (_label, item) in enumerate(self._shown) if _same(item, value))

    @property
    def choices(self) -> list[T]:
        """What can be chosen now."""
        return [item for _label, item in self._shown]

    def _chosen(self, _change: object) -> None:
        if self._quiet:
            return
        # What only stood there because it had been given is no choice any more.
        self.offer(self._options, self.value)
        self._changed()

    def mark(self, bad: object) -> None:
        """Show or hide the frame of an input with a problem."""
        (self.widget.add_class if bad else self.widget.remove_class)("ez-bad")


def _same(one: object, other: object) -> bool:
    return (
        type(one) is type(other) and one == other if isinstance(one, bool) or isinstance(other, bool) else one == other
    )


class Fold:
    """A section that opens: its button says in a few words what is inside."""

    def __init__(self, title: str, *children: Widget, opened: bool = False) -> None:
        self.title = title
        self.button = button(title, self.turn, "ez-fold")
        self.summary = ipywidgets.HTML()
        self.summary.add_class("ez-sum")
        self.content = box(*children, kind="ez-inside")
        self.widget = box(box(self.button, self.summary, kind="ez-foldhead"), self.content, kind="ez-folded")
        self._opened = not opened
        self.turn()

    @property
    def opened(self) -> bool:
        """Whether it shows what is inside."""
        return self._opened

    def turn(self) -> None:
        """Open it, or close it."""
        self._opened = not self._opened
        self.content.layout.display = None if self._opened else "none"
        (self.button.add_class if self._opened else self.button.remove_class)("ez-open")

    def say(self, text: str, *, bad: bool = False) -> None:
        """Say what is inside; with a badge where something is wrong there."""
        self.summary.value = state_html("FAILED", text) if bad else f'<span class="ez-note">{markup(text)}</span>'


class Pairs:
    """Rows of names and values.

    Parameters
    ----------
    field : str
        The job's field.
    noun : tuple of str
        What a row is, and what its value is called.
    changed : callable
        Called after each change by a person.
    masked : bool
        Whether values are kept from the page until they are asked for.
    """

    def __init__(
        self,
        field: str,
        noun: tuple[str, str],
        changed: Callable[[], None],
        page: Callable[[], Page | None],
        *,
        masked: bool = False,
    ) -> None:
        self.field = field
        self.noun, self.value_noun = noun
        self.changed = changed
        self._page = page
        self.masked = masked
        self.rows: list[_Pair] = []
        self._box = box(kind="ez-rows")
        self.add_button = button(f"Add {self.noun}", self.add)
        parts = [self.add_button]
        if masked:
            self.show_values = ipywidgets.Checkbox(value=False, description="Show values", indent=False)
            self.show_values.add_class("ez-check")
            self.show_values.observe(in_turn(lambda change: self._show(shown=change["new"])), "value")
            parts.append(self.show_values)
        self.slot = Slot()
        self.widget = box(self._box, box(*parts, kind="ez-acts"), self.slot.widget, kind="ez-pairs ez-group")

    @property
    def value(self) -> dict[str, str]:
        """The pairs; of a name that stands there twice, the first."""
        made: dict[str, str] = {}
        for row in self.rows:
            made.setdefault(row.name.value, row.value)
        return made

    @value.setter
    def value(self, pairs: Mapping[str, str]) -> None:
        self._set([self._row(name, value) for name, value in pairs.items()])

    def _row(self, name: str = "", value: str = "") -> _Pair:
        shown = not self.masked or bool(self.show_values.value)
        return _Pair(self, name, value, shown=shown)

    def _set(self, rows: Sequence[_Pair]) -> None:
        gone = [row for row in self.rows if row not in rows]
        self.rows = list(rows)
        self._box.children = [row.widget for row in rows]
        for row in gone:
            discard(row.widget)

    def add(self) -> None:
        """Add an empty row, and go there."""
        row = self._row()
        self._set([*self.rows, row])
        page = self._page()
        if page is not None:
            page.focus(row.kind)
        self.changed()

    def remove(self, row: _Pair) -> None:
        """Take a row away."""
        self._set([other for other in self.rows if other is not row])
        page = self._page()
        if page is not None:
            page.focus(self.rows[-1].kind if self.rows else self.kind)
        self.changed()

    @property
    def kind(self) -> str:
        """The class of the place to go to when no row is left."""
        name = f"ez-add-{self.field}"
        self.add_button.add_class(name)
        return name

    def _show(self, *, shown: bool) -> None:
        for row in self.rows:
            row.show(shown=shown)

    def errors(self) -> list[Problem]:
        """Return the rows that cannot be part of a dict."""
        found = []
        seen: set[str] = set()
        for row in self.rows:
            name = row.name.value
            if name in seen:
                what = "stands there twice" if name else "a second row has no name"
                found.append(Problem(spec.path(self.field, name), what, "Keep one of the two, or name it otherwise"))
            seen.add(name)
        return found

    def show(self, problems: Sequence[Problem]) -> None:
        """Show the problems of the field; each row's are marked there."""
        places = {problem.where for problem in problems}
        for row in self.rows:
            row.name.mark(spec.path(self.field, row.name.value) in places)
        about = {}
        for problem in problems:
            name = next(
                (row.name.value for row in self.rows if spec.path(self.field, row.name.value) == problem.where), ""
            )
            about[problem] = f"{name}: {problem.what}. {problem.remedy}." if name else sentence(problem)
        self.slot.show(problems, about=about)


class _Pair:
    def __init__(self, owner: Pairs, name: str, value: str, *, shown: bool) -> None:
        self.owner = owner
        self.value = value
        self.kind = f"ez-pair-{next(_numbers)}"
        self.name: Entry[str] = Entry(
            f"Name of the {owner.noun}", owner.field, str, str, owner.changed, kind="ez-bare ez-code"
        )
        self.name.value = name
        self._place = box(kind="ez-value")
        remove = button(CROSS, lambda: owner.remove(self), "ez-plain", f"Remove this {owner.noun}")
        self.widget = box(self.name.widget, self._place, remove, kind=f"ez-pair {self.kind}")
        self._input: Widget = None
        self.show(shown=shown)

    def show(self, *, shown: bool) -> None:
        """Show the value, or keep it from the page."""
        label = self.owner.value_noun
        if self._input is not None:
            self._input.unobserve_all()
            self._input.value = ""
        if not shown:
            made = ipywidgets.Password(description=label, placeholder="set, not shown" if self.value else "empty")
        elif "\n" in self.value:
            made = ipywidgets.Textarea(description=label, value=self.value, rows=2)
        else:
            made = ipywidgets.Text(description=label, value=self.value)
        for kind in ("ez-entry", "ez-bare", "ez-code"):
            made.add_class(kind)
        made.observe(in_turn(self._typed), "value")
        before, self._input = self._input, made
        self._place.children = [made]
        if before is not None:
            discard(before)

    @property
    def input(self) -> Widget:
        """The input of the value."""
        return self._input

    def _typed(self, change: Mapping[str, Any]) -> None:
        self.value = change["new"]
        self.owner.changed()


class Form:
    """What all forms have: a draft that a person edits, listeners, and a way to show themselves.

    Attributes
    ----------
    widget
        The ipywidgets box, to be put into another.
    """

    #: What a screen reader calls it.
    label = "Form"

    def __init__(self) -> None:
        self.page: Page | None = None
        self._listeners: list[Callable[[], None]] = []
        self._silent = 0
        self.displays: list[str] = []
        self.widget: Widget = None
        self._root: Widget = None

    def on_change(self, act: Callable[[], None]) -> None:
        """Call something after each change by a person."""
        self._listeners.append(act)

    @contextlib.contextmanager
    def _silently(self) -> Iterator[None]:
        """Let changes be set without anybody being told."""
        self._silent += 1
        try:
            yield
        finally:
            self._silent -= 1

    def changed(self) -> None:
        """Say that a person changed something."""
        if self._silent:
            return
        self._refresh()
        for act in self._listeners:
            act()

    def _refresh(self) -> None:
        """Show what follows from a change."""

    def get_page(self) -> Page | None:
        """Return the page of the form, or of the one that this is part of."""
        return self.page

    @property
    def root(self) -> Widget:
        """The whole form as a widget: with its stylesheet, to be shown alone."""
        if self._root is None:
            if self.page is None:
                self.page = Page(label=self.label)
            self._root = box(self.widget, self.page, kind="ez-form")
        return self._root

    def _ipython_display_(self) -> None:
        from IPython.display import display

        # By its id the display can be replaced by the live view.
        identity = f"ezbatch-form-{secrets.token_hex(4)}"
        self.displays.append(identity)
        display(self.root, display_id=identity)  # type: ignore[no-untyped-call] # IPython has no annotations
