"""A real IPython shell with the extension, and notebooks run by a real kernel."""

from __future__ import annotations

import atexit
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import RichOutput, capture_output
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config


@dataclasses.dataclass(frozen=True)
class Ran:
    """What came of a cell."""

    result: object
    error: BaseException | None
    stdout: str
    stderr: str
    outputs: list[RichOutput]

    @property
    def text(self) -> str:
        """All that a person sees, as text."""
        shown = [str(output.data.get("text/plain", "")) for output in self.outputs]
        return "\n".join([self.stdout, self.stderr, *shown])


class Shell:
    """An IPython shell."""

    def __init__(self, ip: InteractiveShell) -> None:
        self.ip = ip
        self.variables: dict[str, Any] = ip.user_ns

    def run(self, cell: str) -> Ran:
        """Run a cell, and return what came of it."""
        with capture_output() as captured:
            found: Any = self.ip.run_cell(cell)  # type: ignore[no-untyped-call] # IPython has no annotations
        error = found.error_before_exec or found.error_in_exec
        return Ran(found.result, error, captured.stdout, captured.stderr, captured.outputs)

    def good(self, cell: str) -> Ran:
        """Run a cell that must succeed."""
        ran = self.run(cell)
        assert ran.error is None, ran.text
        return ran

    def refused(self, cell: str) -> str:
        """Run a cell that must end in a UsageError, and return its words."""
        ran = self.run(cell)
        assert type(ran.error).__name__ == "UsageError", ran.text
        assert "UsageError" in ran.stderr
        assert "Traceback" not in ran.text
        return str(ran.error)


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run jobs as plain processes, with no settings of a project about."""
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "process")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InteractiveShell]:
    """The one shell of the session: making one takes as long as a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        config = Config()
        config.HistoryManager.enabled = False
        InteractiveShell.clear_instance()
        ip = InteractiveShell.instance(config=config)
    yield ip
    atexit.unregister(ip.atexit_operations)
    ip.atexit_operations()  # type: ignore[no-untyped-call] # IPython has no annotations
    InteractiveShell.clear_instance()


@pytest.fixture
def bare(terminal: InteractiveShell) -> Iterator[Shell]:
    """A shell without the extension, and without variables."""
    before = dict(terminal.user_ns)
    yield Shell(terminal)
    if "ezbatch_jupyter" in terminal.extension_manager.loaded:  # type: ignore[union-attr] # a shell has one
        terminal.run_line_magic("unload_ext", "ezbatch_jupyter")
    # What %config sets stays with the shell, so that it outlives %reload_ext.
    terminal.config.pop("EZBatch", None)
    terminal.user_ns.clear()
    terminal.user_ns.update(before)


@pytest.fixture
def shell(bare: Shell) -> Shell:
    """A shell with the extension."""
    bare.good("%load_ext ezbatch_jupyter")
    return bare


@dataclasses.dataclass(frozen=True)
class Executed:
    """A notebook that was run."""

    notebook: Any
    error: CellExecutionError | None

    def outputs(self, cell: int) -> list[Any]:
        """Return the outputs of a cell."""
        return list(self.notebook.cells[cell].outputs)

    def text(self, cell: int) -> str:
        """Return all text of a cell's outputs."""
        parts = []
        for output in self.outputs(cell):
            parts += [output.get("text", ""), output.get("evalue", "")]
            parts.append(output.get("data", {}).get("text/plain", ""))
        return "\n".join(parts)


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Executed]:
    """Return what runs cells as a notebook, in a kernel of its own."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))

    def run(*cells: str) -> Executed:
        v4: Any = nbformat.v4
        notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
        client = NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
        try:
            client.execute()
        except CellExecutionError as error:
            return Executed(notebook, error)
        return Executed(notebook, None)

    return run
