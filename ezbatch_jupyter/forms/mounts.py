"""What a job reads from S3 and writes to S3: rows, a check that is asked for, and a browser to pick from."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence

import ipywidgets

from ezbatch import rules
from ezbatch.errors import Problem
from ezbatch.planning import LOCAL, count_text
from ezbatch.s3 import S3Mount, S3Mounts
from ezbatch.settings import Settings
from ezbatch.workflow import EZBatchJob
from ezbatch_jupyter.forms import access
from ezbatch_jupyter.forms._parts import CROSS, Choice, Entry, Form, Slot, box, button, discard, markup, state_html
from ezbatch_jupyter.forms._work import TooLongError, in_background, in_turn
from ezbatch_jupyter.forms.browse import Item, Listing, list_page, parent_of

__all__ = ["MountsForm"]

#: Seconds within which S3 is waited for.
TIME_LIMIT = 20.0

_RECURSIVE: list[tuple[str, bool | None]] = [
    ("by what is there", None),
    ("everything below it", True),
    ("this one object", False),
]
_SSE: list[tuple[str, str | None]] = [("the bucket's own", None), *((kind, kind) for kind in rules.SSE)]
_PLACE = re.compile(r"mounts\.(read|write)\[(\d+)\]\.(\w+)")
_numbers = itertools.count(1)


class MountsForm(Form):
    """The mounts of a job, and whether ezbatch copies them.

    Parameters
    ----------
    mounts : S3Mounts, optional
        What to begin with.
    preloader : bool
        Whether ezbatch copies them.
    queue : callable, optional
        Returns the queue: for ``local``, the directory that stands for S3 is looked at.
    settings : Settings, optional
        Instead of those that are set.
    """

    label = "S3"

    def __init__(
        self,
        mounts: S3Mounts | None = None,
        *,
        preloader: bool | None = None,
        queue: Callable[[], str] | None = None,
        settings: Settings | None = None,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._queue = queue or (lambda: self.settings.queue)
        self._asked = 0
        self._bad: Sequence[Problem] = ()
        self.reads: list[MountRow] = []
        self.writes: list[MountRow] = []
        self.preloader_box = ipywidgets.Checkbox(
            value=bool(mounts) if preloader is None else preloader,
            description="ezbatch copies the files (preloader)",
            indent=False,
        )
        self.preloader_box.add_class("ez-check")
        self.preloader_box.observe(in_turn(lambda _change: self.changed()), "value")
        self.check_button = button(
            "Check access",
            self.check,
            tooltip="Looks for what is read, and writes and removes an empty object where is written",
        )
        self.spinner = ipywidgets.HTML()
        self._rows_box = box(kind="ez-rows")
        self.add_read_button = button("Add read", lambda: self.add("read"), "ez-add-read")
        self.add_write_button = button("Add write", lambda: self.add("write"), "ez-add-write")
        self.slot = Slot()
        self.heading = ipywidgets.HTML("<h3>S3</h3>")
        captions = box(
            ipywidgets.HTML(""), ipywidgets.HTML("on S3"), ipywidgets.HTML(""), ipywidgets.HTML("in the container"),
            kind="ez-mount ez-mountcaps",
        )  # fmt: skip
        self.captions = captions
        self.content = box(
            captions,
            self._rows_box,
            box(self.add_read_button, self.add_write_button, kind="ez-acts ez-indent"),
            self.slot.widget,
            kind="ez-stack ez-mounts",
        )
        self.head = box(
            self.heading,
            self.preloader_box,
            box(self.spinner, self.check_button, kind="ez-push ez-acts"),
            kind="ez-sechead",
        )
        self.widget = box(self.head, self.content, kind="ez-sec")
        self.value = mounts or S3Mounts()

    @property
    def settings(self) -> Settings:
        """The settings, read when first needed."""
        if self._settings is None:
            self._settings = Settings.load()
        return self._settings

    @property
    def local(self) -> bool:
        """Whether the directory that stands for S3 is meant."""
        return self._queue() == LOCAL

    @property
    def preloader(self) -> bool:
        """Whether ezbatch copies the files."""
        return bool(self.preloader_box.value)

    @preloader.setter
    def preloader(self, value: bool) -> None:
        with self._silently():
            self.preloader_box.value = value
        self._refresh()

    @property
    def rows(self) -> list[MountRow]:
        """All rows, reads first."""
        return [*self.reads, *self.writes]

    @property
    def value(self) -> S3Mounts:
        """The mounts."""
        return S3Mounts(read=[row.value for row in self.reads], write=[row.value for row in self.writes])

    @value.setter
    def value(self, mounts: S3Mounts) -> None:
        before = self.rows
        self._asked += 1  # what is being looked at are the rows of before
        self.spinner.value = ""
        with self._silently():
            self.reads = [MountRow(self, mount, is_read=True) for mount in mounts.reads]
            self.writes = [MountRow(self, mount, is_read=False) for mount in mounts.writes]
            self._place()
        for row in before:
            row.close()
        self._refresh()

    def _place(self) -> None:
        self._rows_box.children = [row.widget for row in self.rows]
        for rows in (self.reads, self.writes):
            for i, row in enumerate(rows):
                row.placed(i, len(rows))
        self.captions.layout.display = None if self.rows else "none"
        self.check_button.disabled = not self.rows

    def _rows_of(self, row: MountRow) -> list[MountRow]:
        return self.reads if row.is_read else self.writes

    def add(self, kind: str) -> MountRow:
        """Add an empty row, and go there. With the first one ezbatch begins to copy."""
        row = MountRow(self, S3Mount("", ""), is_read=kind == "read")
        with self._silently():
            if not self.rows:
                self.preloader_box.value = True
            self._rows_of(row).append(row)
            self._place()
        if self.page is not None:
            self.page.focus(row.kind)
        self.changed()
        return row

    def remove(self, row: MountRow) -> None:
        """Take a row away."""
        rows = self._rows_of(row)
        at = rows.index(row)
        rows.remove(row)
        self._place()
        row.close()
        if self.page is not None:
            left = rows[min(at, len(rows) - 1)].kind if rows else "ez-add-read" if row.is_read else "ez-add-write"
            self.page.focus(left)
        self.changed()

    def move(self, row: MountRow, by: int) -> None:
        """Move a row up or down among its like."""
        rows = self._rows_of(row)
        at = rows.index(row)
        to = at + by
        if 0 <= to < len(rows):
            rows.insert(to, rows.pop(at))
            self._place()
            if self.page is not None:
                self.page.focus(row.kind)
            self.changed()

    # What is shown

    def errors(self) -> list[Problem]:
        """Return what cannot be read: nothing, since every text can be a path."""
        return []

    def problems(self) -> list[Problem]:
        """Return what is wrong with the mounts alone."""
        return EZBatchJob("image", "true", mounts=self.value, preloader=self.preloader).problems()

    def show(self, problems: Sequence[Problem]) -> None:
        """Show the problems of the job that stand in its mounts."""
        self._bad = problems
        rest = []
        found: dict[tuple[str, int], list[tuple[str, Problem]]] = {}
        for problem in problems:
            match = _PLACE.fullmatch(problem.where)
            if match:
                found.setdefault((match[1], int(match[2])), []).append((match[3], problem))
            else:
                rest.append(problem)
        for kind, rows in (("read", self.reads), ("write", self.writes)):
            for i, row in enumerate(rows):
                row.show(found.get((kind, i), []))
        off = "The preloader is off: the command itself has to copy these." if self.rows and not self.preloader else ""
        self.slot.show(rest, off)

    def _refresh(self) -> None:
        self.show(self._bad if self._listeners else self.problems())

    @property
    def summary(self) -> str:
        """What is inside, in a few words."""
        if not self.rows:
            return "none"
        parts = [count_text(len(self.reads), "read")] if self.reads else []
        return ", ".join([*parts, *([count_text(len(self.writes), "write")] if self.writes else [])])

    # Looking

    def check(self) -> None:
        """Look whether the mounts are there and may be used, without holding up the form."""
        rows = self.rows
        if not rows:
            return
        self._asked += 1
        asked = self._asked
        mounts = [(row.value, row.is_read) for row in rows]
        self.check_button.disabled = True
        self.spinner.value = '<span class="ez-spin" role="status">looking …</span>'
        for row in rows:
            row.judge(None)
        settings, local = self.settings, self.local

        def look() -> list[access.Finding]:
            return access.look(mounts, settings, local=local)

        def done(found: list[access.Finding] | BaseException) -> None:
            if asked != self._asked:
                return
            self.check_button.disabled = not self.rows
            self.spinner.value = ""
            if isinstance(found, BaseException):
                text = f"S3 gave {found}" if isinstance(found, TooLongError) else str(found)
                finding = access.Finding("PENDING", "not known", text)
                found = [finding] * len(rows)
            for row, (mount, _is_read), finding in zip(rows, mounts, found, strict=True):
                # What was changed in the meantime was not looked at.
                if row.value == mount:
                    row.judge(finding)

        in_background(look, done, TIME_LIMIT)


class MountRow:
    """One mount."""

    def __init__(self, owner: MountsForm, mount: S3Mount, *, is_read: bool) -> None:
        self.owner = owner
        self.is_read = is_read
        self._options = mount.options
        self._finding: access.Finding | None = None
        self._browser: Browser | None = None
        self.kind = f"ez-mount-{next(_numbers)}"
        word = "source" if is_read else "destination"
        text: Callable[[str], str] = str
        self.remote: Entry[str] = Entry(
            f"S3 {word}", "mounts", text, str, self._edited, kind="ez-bare ez-code", placeholder="s3://bucket/key"
        )
        self.local: Entry[str] = Entry(
            "Path in the container", "mounts", text, str, self._edited, kind="ez-bare ez-code", placeholder="in/data"
        )
        self.remote.value, self.local.value = (
            (mount.source, mount.destination) if is_read else (mount.destination, mount.source)
        )
        self.caption = ipywidgets.HTML("")
        self.status = ipywidgets.HTML("")
        self.more_button = button("⋯", self._turn, "ez-plain ez-more", "How it is copied, order, browse")
        self.remove_button = button(CROSS, lambda: owner.remove(self), "ez-plain", "Remove this mount")
        arrow = ipywidgets.HTML(f'<span title="{"download" if is_read else "upload"}">{"→" if is_read else "←"}</span>')
        arrow.add_class("ez-arrow")
        self.recursive: Choice[bool | None] = Choice("Copied", _RECURSIVE, self._edited, kind="ez-above")
        self.recursive.value = mount.recursive
        self.sse: Choice[str | None] = Choice("Encryption", _SSE, self._edited, kind="ez-above")
        self.sse.value = mount.sse
        self.key: Entry[str | None] = Entry(
            "KMS key", "mounts", lambda t: t or None, lambda v: v or "", self._edited, kind="ez-above ez-code"
        )
        self.key.value = mount.sse_kms_key_id
        self.up_button = button("Up", lambda: owner.move(self, -1))
        self.down_button = button("Down", lambda: owner.move(self, 1))
        self.browse_button = button("Browse S3", self.browse)
        self.details = box(
            box(self.recursive.widget, self.sse.widget, self.key.widget, kind="ez-sizes"),
            box(self.browse_button, self.up_button, self.down_button, kind="ez-acts"),
            kind="ez-details ez-indent ez-stack",
        )
        self.details.layout.display = "none"
        self._browser_box = box(kind="ez-indent")
        self.slot = Slot()
        line = box(
            self.caption,
            self.remote.widget,
            arrow,
            self.local.widget,
            self.status,
            self.more_button,
            self.remove_button,
            kind="ez-mount",
        )
        self.widget = box(
            line, self.slot.widget, self.details, self._browser_box, kind=f"ez-stack ez-group {self.kind}"
        )
        self._show_sse()

    @property
    def value(self) -> S3Mount:
        """The mount."""
        source, destination = self.remote.value, self.local.value
        if not self.is_read:
            source, destination = destination, source
        return S3Mount(source, destination, self.recursive.value, self.sse.value, self.key.value, self._options)

    def close(self) -> None:
        """Take the row's widgets away for good."""
        self._close_browser()
        discard(self.widget)

    def placed(self, at: int, count: int) -> None:
        """Tell the row where it stands among its like."""
        self.caption.value = ("Read" if self.is_read else "Write") if at == 0 else ""
        self.up_button.disabled = at == 0
        self.down_button.disabled = at == count - 1

    def _turn(self) -> None:
        shown = self.details.layout.display == "none"
        self.details.layout.display = None if shown else "none"
        (self.more_button.add_class if shown else self.more_button.remove_class)("ez-open")
        if not shown:
            self._close_browser()

    def _edited(self) -> None:
        self._finding = None
        self._show_sse()
        self.owner.changed()

    def _show_sse(self) -> None:
        # Only what is written can be encrypted anew.
        shown = not self.is_read or self.sse.value is not None or self.key.value is not None
        self.sse.widget.layout.display = None if shown else "none"
        keyed = shown and (self.key.value is not None or str(self.sse.value).startswith("aws:kms"))
        self.key.widget.layout.display = None if keyed else "none"

    def show(self, problems: Sequence[tuple[str, Problem]]) -> None:
        """Show the problems of this mount, or else what the check has found."""
        fields = {field for field, _problem in problems}
        remote, local = ("source", "destination") if self.is_read else ("destination", "source")
        self.remote.mark(remote in fields)
        self.local.mark(local in fields)
        self.sse.mark("sse" in fields)
        self.key.mark("sse_kms_key_id" in fields)
        if problems:
            self.status.value = state_html("FAILED", "problem")
            about = {
                problem: f"{'On S3' if field == remote else 'In the container' if field == local else field}: "
                f"{problem.what}. {problem.remedy}."
                for field, problem in problems
            }
            self.slot.show([problem for _field, problem in problems], about=about)
            return
        finding = self._finding
        if finding is None:
            self.status.value = state_html("SUBMITTED", "not checked")
            self.slot.show([])
        else:
            self.status.value = state_html(finding.state, finding.word, finding.text)
            self.slot.show([], markup(finding.text))

    def judge(self, finding: access.Finding | None) -> None:
        """Take what the check has found."""
        if self.slot.problems:
            return
        self._finding = finding
        self.show([])

    # The browser

    def browse(self) -> None:
        """Open the browser at what stands here, or close it."""
        if self._browser is not None:
            self._close_browser()
            return
        self._browser = Browser(self)
        self._browser_box.children = [self._browser.widget]
        text = self.remote.value
        self._browser.go(text if text.startswith("s3://") else "")

    def _close_browser(self) -> None:
        if self._browser is not None:
            browser, self._browser = self._browser, None
            browser.closed = True
            self._browser_box.children = []
            discard(browser.widget)

    def picked(self, uri: str) -> None:
        """Take what was picked in the browser."""
        self.remote.widget.value = uri
        self._close_browser()
        if self.owner.page is not None:
            self.owner.page.focus(self.kind)


class Browser:
    """Prefixes and objects to pick from, a page at a time."""

    def __init__(self, row: MountRow) -> None:
        self.row = row
        self.closed = False
        self._asked = 0
        self._listing = Listing(())
        self._items: list[Item] = []
        self.place = ipywidgets.Text(description="Look in", continuous_update=False, placeholder="s3://bucket/prefix")
        for kind in ("ez-entry", "ez-code"):
            self.place.add_class(kind)
        self.place.observe(in_turn(lambda change: self.go(change["new"])), "value")
        self.list = ipywidgets.Select(options=[], rows=8, description="What is there")
        for kind in ("ez-bare", "ez-code"):
            self.list.add_class(kind)
        self.note = ipywidgets.HTML("")
        self.up_button = button("Up", lambda: self.go(parent_of(self.place.value)))
        self.open_button = button("Open", self._open)
        self.more_button = button("More", self._more)
        self.use_button = button("Use", self._use)
        self.widget = box(
            self.place,
            self.list,
            box(self.use_button, self.open_button, self.up_button, self.more_button, self.note, kind="ez-acts"),
            kind="ez-browser ez-stack",
        )

    def go(self, location: str) -> None:
        """List a place."""
        if self.place.value != location:
            self.place.value = location  # which comes back here
            return
        self._items = []
        self._fetch(location, "")

    def _fetch(self, location: str, following: str) -> None:
        self._asked += 1
        asked = self._asked
        owner = self.row.owner
        settings, local = owner.settings, owner.local
        self.note.value = '<span class="ez-spin" role="status">looking …</span>'
        self.more_button.disabled = True

        def done(listing: Listing | BaseException) -> None:
            if asked != self._asked or self.closed:
                return
            if isinstance(listing, BaseException):
                text = f"S3 gave {listing}." if isinstance(listing, TooLongError) else str(listing)
                self.note.value = state_html("FAILED", text)
                self._fill(Listing(()))
                return
            self._fill(listing)
            more = "" if not listing.following else "; there is more"
            empty = "nothing is there" if not self._items else f"{len(self._items):,} shown{more}"
            self.note.value = f'<span class="ez-note">{empty}</span>'

        in_background(lambda: list_page(location, settings, local=local, following=following), done, TIME_LIMIT)

    def _fill(self, listing: Listing) -> None:
        self._listing = listing
        before = len(self._items)
        self._items += listing.items
        self.list.options = [(_label(item), i) for i, item in enumerate(self._items)]
        # One reads on where the page before ended.
        self.list.index = min(before, len(self._items) - 1) if self._items else None
        self.more_button.disabled = not listing.following

    @property
    def _item(self) -> Item | None:
        return None if self.list.index is None else self._items[self.list.index]

    def _open(self) -> None:
        if self._item is not None and self._item.uri.endswith("/"):
            self.go(self._item.uri)

    def _more(self) -> None:
        if self._listing.following:
            self._fetch(self.place.value, self._listing.following)

    def _use(self) -> None:
        if self._item is not None:
            self.row.picked(self._item.uri)


def _label(item: Item) -> str:
    if item.size is None:
        return f"{item.name}/"
    size = float(item.size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:  # noqa: PLR2004 - the next unit begins there
            return f"{item.name}   {size:.3g} {unit}" if unit != "B" else f"{item.name}   {item.size} B"
        size /= 1024
    return f"{item.name}   {size:,.3g} TiB"
