"""Tab completion of ``%%ezbatch``, its ``#EZ`` lines and ``%ezbatch``: one matcher in IPython's completer."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ezbatch.ledger import Ledger
    from ezbatch.run import EZBatchRun
    from ezbatch_jupyter.magics import EZBatchMagics

__all__ = ["Completer", "register", "unregister"]

#: Seconds that a person who presses Tab waits at most for what has to be looked up, and for which it is kept.
_PATIENCE, _FRESH = 0.2, 2.0
#: The same for the queues of an account.
_LASTING = 300.0
_RUNS = 50
_CELL = re.compile(r"\s*%%ezbatch\b")
_LINE = re.compile(r"(?:^|[=;])\s*%ezbatch\s(.*)$")
_DIRECTIVE = re.compile(r"#EZ\s(.*)$")
_IDENTIFIER = "ezbatch_jupyter.completion"


class Lookup:
    """Answers of slow questions: asked in a thread, waited for a moment, kept for a while."""

    def __init__(self) -> None:
        self._known: dict[object, tuple[float, list[str]]] = {}
        self._asking: dict[object, threading.Thread] = {}
        self._lock = threading.Lock()

    def get(self, key: object, ask: Callable[[], list[str]], fresh: float = _FRESH) -> list[str]:
        """Return the answer, an old one where the new one takes too long, or nothing."""
        with self._lock:
            when, answer = self._known.get(key, (float("-inf"), []))
            if time.monotonic() - when < fresh:
                return answer
            thread = self._asking.get(key)
            if thread is None:
                thread = threading.Thread(target=self._ask, args=(key, ask), name="ezbatch-completion", daemon=True)
                self._asking[key] = thread
                thread.start()
        thread.join(_PATIENCE)
        with self._lock:
            return self._known.get(key, (0.0, []))[1]

    def _ask(self, key: object, ask: Callable[[], list[str]]) -> None:
        try:
            answer = ask()
        except Exception:  # noqa: BLE001 - a Tab that finds nothing is no error
            answer = []
        with self._lock:
            self._known[key] = (time.monotonic(), answer)
            self._asking.pop(key, None)


class Completer:
    """What fits where the cursor is.

    Parameters
    ----------
    magics : EZBatchMagics
        Whose shell's variables, and settings, are offered.
    """

    def __init__(self, magics: EZBatchMagics) -> None:
        self.magics = magics
        self.lookup = Lookup()
        self._ledgers: dict[object, Ledger] = {}

    def complete(self, text: str, cell: str, line: int) -> tuple[str, list[str]] | None:
        """Return what the completions replace, and the completions, or None where this is not ezbatch's business.

        Parameters
        ----------
        text : str
            The line up to the cursor.
        cell : str
            The whole cell.
        line : int
            The number of the line in it.
        """
        lines = cell.split("\n")
        first = next((i for i, words in enumerate(lines) if words.strip()), 0)
        if _CELL.match(lines[first]):
            if line == first and re.match(r"\s*%%ezbatch\s", text):
                return self._of_cell(text.split("%%ezbatch", 1)[1], lines[first])
            match = _DIRECTIVE.match(text)
            return None if match is None or line <= first else self._of_cell(match[1], lines[first])
        match = _LINE.search(text)
        return None if match is None else self._of_line(match[1])

    def _of_cell(self, text: str, magic_line: str) -> tuple[str, list[str]]:
        from ezbatch_jupyter.cell import cell_parser

        words, fragment = _split(text)
        found = re.search(r"--workflow[= ]+(\w+)", magic_line)
        place = _Place(cell_parser(), {"workflow": [found[1]]} if found else {})
        return self._at(place, words, fragment)

    def _of_line(self, text: str) -> tuple[str, list[str]]:
        from ezbatch_jupyter.magics import line_parser

        words, fragment = _split(text)
        return self._at(_Place(line_parser(), {}), words, fragment)

    def _at(self, place: _Place, words: Sequence[str], fragment: str) -> tuple[str, list[str]]:
        for word in words:
            place.pass_by(word)
        option, equals, value = fragment.partition("=")
        action = place.options.get(option)
        if equals and action is not None:
            return value, _fitting(self._values(action, place), value)
        if fragment.startswith("-") and not place.wants_value:
            return fragment, _fitting(place.flags(), fragment)
        values = [value for action in place.expected() for value in self._values(action, place)]
        if not fragment and not place.wants_value:
            values += place.flags()
        return fragment, _fitting(values, fragment)

    def _values(self, action: argparse.Action, place: _Place) -> list[str]:
        if action.choices is not None:
            return [str(choice) for choice in action.choices]
        about: dict[str, Callable[[], list[str]]] = {
            "queue": self.queues,
            "platform": lambda: ["fargate", "ec2"],
            "image": self.images,
            "var": self.names,
            "map": lambda: self.names(list, tuple, dict, range),
            "workflow": self.workflows,
            "subject": lambda: [*self.workflows(), *self.runs()],
            "run": self.runs,
            "job": lambda: self.jobs(next(iter(place.seen.get("run", ())), "@last")),
            "after": lambda: self.jobs_of(next(iter(place.seen.get("workflow", ())), "")),
        }
        ask = about.get(action.dest)
        # What was written already is not written again.
        taken = place.seen.get(action.dest, ()) if action.nargs in ("+", "*") else ()
        return [] if ask is None else [word for word in ask() if word not in taken]

    # What there is

    def names(self, *kinds: type) -> list[str]:
        """Return the user's variables, those of some types or all that hold data."""
        from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

        shell = self.magics.shell
        code = (ModuleType, FunctionType, BuiltinFunctionType, MethodType, type)
        found = []
        for name, value in shell.user_ns.items():
            # What the shell itself put there has the same value in its own list.
            if name.startswith("_") or shell.user_ns_hidden.get(name, self) is value or isinstance(value, code):
                continue
            if not kinds or isinstance(value, kinds) or hasattr(value, "tolist") or hasattr(value, "columns"):
                found.append(name)
        return sorted(found)

    def _holding(self, module: str, kind: str) -> list[str]:
        """Return the variables that hold an object of a class, which need not be imported for that."""
        return [
            name
            for name, value in self.magics.shell.user_ns.items()
            if not name.startswith("_") and (type(value).__module__, type(value).__name__) == (module, kind)
        ]

    def workflows(self) -> list[str]:
        """Return the variables that hold workflows."""
        return self._holding("ezbatch.workflow", "EZBatchWorkflow")

    def images(self) -> list[str]:
        """Return the images that the workflows at hand use, and the default."""
        from ezbatch.options import DEFAULT_IMAGE

        found = [job.image for name in self.workflows() for job in self.magics.shell.user_ns[name].jobs.values()]
        own = [self.magics.configured.image] if self.magics.configured.image else []
        return list(dict.fromkeys([*own, *found, DEFAULT_IMAGE]))

    def jobs_of(self, workflow: str) -> list[str]:
        """Return the jobs of the workflow in a variable, or those of all workflows."""
        chosen = [workflow] if workflow in self.workflows() else self.workflows()
        return [job for name in chosen for job in self.magics.shell.user_ns[name].jobs]

    def runs(self) -> list[str]:
        """Return ``@last``, the variables that hold runs, and the ids of the newest runs."""
        ids = self.lookup.get("runs", lambda: [record.id for record in self._ledger().runs(_RUNS)])
        return [*(["@last"] if ids else []), *self._holding("ezbatch.run", "EZBatchRun"), *ids]

    def jobs(self, run: str) -> list[str]:
        """Return the jobs of a run."""

        def ask() -> list[str]:
            from ezbatch.run import EZBatchRun

            ledger = self._ledger()
            # No look at where it runs: what the ledger knows is enough.
            return list(EZBatchRun(ledger.find(run), ledger).jobs)

        held: EZBatchRun | None = None
        if run in self._holding("ezbatch.run", "EZBatchRun"):
            held = self.magics.shell.user_ns[run]
        return self.lookup.get(("jobs", run), ask) if held is None else list(held.jobs)

    def queues(self) -> list[str]:
        """Return the queues that are known: this machine, the one that is set, those of the newest runs."""

        def ask() -> list[str]:
            from ezbatch.settings import Settings

            found = [Settings.load().queue, *(record.queue for record in self._ledger().runs(_RUNS))]
            # AWS is asked by nobody who has not spoken to it before: a Tab makes no first call.
            aws: Any = sys.modules.get("ezbatch.aws.backend")
            if aws is not None:
                settings = self.magics.settings()
                found += self.lookup.get("aws", lambda: [q.name for q in aws.AWSBackend(settings).queues()], _LASTING)
            return found

        own = [self.magics.configured.queue] if self.magics.configured.queue else []
        return list(dict.fromkeys([*own, "local", *self.lookup.get("queues", ask)]))

    def _ledger(self) -> Ledger:
        from ezbatch.ledger import Ledger
        from ezbatch.settings import Settings

        directory = Settings.load().state_directory
        return self._ledgers.setdefault(directory, Ledger(directory))


class _Place:
    """How far a line has got through a parser."""

    def __init__(self, parser: argparse.ArgumentParser, seen: dict[str, list[str]]) -> None:
        self.seen = seen
        self._enter(parser)

    def _enter(self, parser: argparse.ArgumentParser) -> None:
        actions = parser._actions  # noqa: SLF001 - argparse has no public way to ask a parser what it takes
        self.options = {flag: action for action in actions for flag in action.option_strings}
        self.positionals = [action for action in actions if not action.option_strings]
        self.pending: argparse.Action | None = None
        self.wants_value = False
        self.used: set[str] = set()

    def pass_by(self, word: str) -> None:
        """Take a word that stands before the cursor."""
        flag, equals, value = word.partition("=")
        action = self.options.get(flag)
        if action is not None:
            self.used.add(action.dest)
            takes = action.nargs != 0
            self.pending = action if takes and not equals else None
            self.wants_value = self.pending is not None
            if equals:
                self.seen.setdefault(action.dest, []).append(value)
        elif self.pending is not None:
            self.seen.setdefault(self.pending.dest, []).append(word)
            self.wants_value = False
            if self.pending.nargs is None:
                self.pending = None
        elif self.positionals:
            action = self.positionals[0]
            self.seen.setdefault(action.dest, []).append(word)
            if isinstance(action.choices, dict):
                if word in action.choices:
                    self._enter(action.choices[word])
            elif action.nargs != "*":
                del self.positionals[0]

    def expected(self) -> list[argparse.Action]:
        """Return what the next word may belong to."""
        if self.pending is not None:
            return [self.pending]
        return self.positionals[:1]

    def flags(self) -> list[str]:
        """Return the options, long names only, but for those that were given and stand once."""
        once = {flag: action for flag, action in self.options.items() if action.nargs not in ("+", "*")}
        return [flag for flag in self.options if flag.startswith("--") and not self._given(once.get(flag))]

    def _given(self, action: argparse.Action | None) -> bool:
        return action is not None and action.dest in self.used


def _split(text: str) -> tuple[list[str], str]:
    """Return the words before the cursor, and the one that is being written."""
    match = re.search(r"\S*$", text)
    fragment = match[0] if match else ""
    before = text[: len(text) - len(fragment)]
    try:
        return shlex.split(before), fragment
    except ValueError:
        return before.split(), fragment


def _fitting(words: Iterable[str], fragment: str) -> list[str]:
    return [shlex.quote(word) if " " in word else word for word in words if word.startswith(fragment)]


# Loading


def register(ip: InteractiveShell, magics: EZBatchMagics) -> None:
    """Let Tab complete the magics."""
    unregister(ip)
    completer = Completer(magics)

    @context_matcher(identifier=_IDENTIFIER)  # type: ignore[untyped-decorator] # IPython's has no annotations
    def matcher(context: CompletionContext) -> dict[str, Any]:
        found = completer.complete(context.text_until_cursor, context.full_text, context.cursor_line)
        if found is None:
            return {"completions": []}
        fragment, words = found
        made = [SimpleCompletion(text=word, type="magic") for word in words]
        return {"completions": made, "matched_fragment": fragment, "suppress": bool(made), "ordered": True}

    _matchers(ip).append(matcher)


def unregister(ip: InteractiveShell) -> None:
    """Take back what :func:`register` did."""
    known = _matchers(ip)
    known[:] = [item for item in known if getattr(item, "matcher_identifier", None) != _IDENTIFIER]


def _matchers(ip: InteractiveShell) -> list[Any]:
    completer: Any = ip.Completer
    matchers: list[Any] = [] if completer is None else completer.custom_matchers
    return matchers
