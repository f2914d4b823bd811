"""Tab, through IPython's own completer."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter

from ezbatch_jupyter.cell import CELL_OPTIONS
from ezbatch_jupyter.completion import Lookup
from ezbatch_jupyter.magics import _COMMANDS
from tests.magics.conftest import Shell


def tab(shell: Shell, text: str) -> list[str]:
    """Return what Tab offers where ``|`` stands, each as the whole word that it makes."""
    cursor = text.index("|")
    cell = text.replace("|", "", 1)
    completer: Any = shell.ip.Completer
    with provisionalcompleter():
        found = list(completer.completions(cell, cursor))
    starts = {item.start for item in found}
    assert len(starts) <= 1
    return [item.text for item in found]


@pytest.fixture
def full(shell: Shell) -> Shell:
    """A shell with variables, a workflow and runs."""
    shell.good("samples, threshold, frame = ['a'], 3, {'A': [1]}\nimport os\ndef helper(): pass")
    shell.good("%%ezbatch --workflow wf -n fetch -i busybox:1 -Q\ntrue")
    shell.good("%%ezbatch --workflow wf -n 'fit all' --after fetch -Q\ntrue")
    shell.good("%ezbatch submit wf -Q -o run")
    return shell


@pytest.mark.parametrize(
    "cell", ["%%ezbatch |\necho hi", "%%ezbatch |", "%%ezbatch -c 4 |\nx", "\n%%ezbatch --bg |\nx"]
)
def test_options_are_offered(full: Shell, cell: str) -> None:
    found = set(tab(full, cell))
    for option in CELL_OPTIONS:
        given = {"-c": "--vcpus", "--bg": "--bg"}.get(cell.split()[1], "")
        assert (option.flags[-1] in found) == (option.flags[-1] != given)


#: A cell with the cursor, and what is offered there beside options.
OFFERED: list[tuple[str, list[str]]] = [
    ("%%ezbatch --la|\nx", ["--lang"]),
    ("%%ezbatch --lang |\nx", ["sh", "bash", "python"]),
    ("%%ezbatch --lang p|\nx", ["python"]),
    ("%%ezbatch --lang=p|\nx", ["python"]),
    ("%%ezbatch -p |\nx", ["fargate", "ec2"]),
    ("%%ezbatch --on-interrupt d|\nx", ["detach"]),
    ("%%ezbatch -q l|\nx", ["local"]),
    ("%%ezbatch --queue |\nx", ["local"]),
    ("%%ezbatch -i bus|\nx", ["busybox:1"]),
    ("%%ezbatch --workflow |\nx", ["wf"]),
    ("%%ezbatch --workflow wf --after |\nx", ["fetch", "'fit all'"]),
    ("%%ezbatch --workflow wf --after fetch fi|\nx", ["'fit all'"]),
    ("%%ezbatch -v thr|\nx", ["threshold"]),
    ("%%ezbatch -v threshold sam|\nx", ["samples"]),
    ("%%ezbatch --map |\nx", ["frame", "samples"]),
    ("%%ezbatch -n x\n#EZ --mem|\necho", ["--memory"]),
    ("%%ezbatch -n x\n\n#EZ -c 4 --lang ba|\necho", ["bash"]),
    ("%ezbatch su|", ["submit"]),
    ("x = %ezbatch stat|", ["status"]),
    ("y = 1\n%ezbatch canc|", ["cancel"]),
    ("%ezbatch submit |", ["wf"]),
    ("%ezbatch submit wf -q |", ["local"]),
    ("%ezbatch submit wf --on-interrupt |", ["detach", "cancel"]),
    ("%ezbatch logs ru|", ["run"]),
    ("%ezbatch logs @l|", ["@last"]),
    ("%ezbatch logs @last fe|", ["fetch"]),
    ("%ezbatch logs run |", ["fetch", "'fit all'"]),
    ("%ezbatch cancel run fetch fi|", ["'fit all'"]),
    ("%ezbatch logs run --fol|", ["--follow"]),
    ("%ezbatch ls --lim|", ["--limit"]),
]


def test_what_fits_is_offered(full: Shell) -> None:
    for cell, offered in OFFERED:
        found = tab(full, cell)
        values = [word for word in found if not word.startswith("--")]
        assert (found if offered[0].startswith("--") else values) == offered, cell


def test_commands_and_runs_are_offered(full: Shell) -> None:
    assert [word for word in tab(full, "%ezbatch |") if word[0] != "-"] == list(_COMMANDS)
    run = full.variables["run"]
    assert tab(full, "%ezbatch status wf-|") == [run.id]
    assert {"@last", "run", run.id} <= set(tab(full, "%ezbatch attach |"))


def test_what_is_not_ours_is_left_alone(full: Shell) -> None:
    full.good("%config Completer.use_jedi = False")  # which takes seconds to find this one word
    assert "threshold" in tab(full, "thresh|")
    full.good("%config Completer.use_jedi = True")
    assert "%ezbatch" in tab(full, "%ezb|")
    assert "%%ezbatch" in tab(full, "%%ezb|")


def test_a_slow_answer_holds_nobody_up_and_is_there_the_next_time() -> None:
    lookup = Lookup()

    answer = threading.Event()

    def ask() -> list[str]:
        assert answer.wait(60)
        return ["late"]

    assert lookup.get("x", ask) == []
    answer.set()
    deadline = time.monotonic() + 10
    while not lookup.get("x", ask):
        assert time.monotonic() < deadline
    assert lookup.get("x", lambda: ["another"]) == ["late"]


def test_an_answer_that_fails_is_no_answer() -> None:
    def ask() -> list[str]:
        raise OSError

    assert Lookup().get("x", ask) == []


def test_a_damaged_ledger_offers_nothing(full: Shell, state_directory: Path) -> None:
    (state_directory / "ledger.db").write_bytes(b"no database")
    full.good("%reload_ext ezbatch_jupyter")
    assert "run" in tab(full, "%ezbatch status |")
