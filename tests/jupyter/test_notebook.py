"""Whole notebooks in a real kernel: what they leave behind, and what they show where nothing can draw."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.containers import missing

LEFT = """
import gc, os, threading, ipywidgets
gc.collect()
descriptors = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")]
open_files = [os.readlink(path) for path in descriptors if os.path.lexists(path)]
print(len([t for t in threading.enumerate() if t.name.startswith("ezbatch")]),
      len([f for f in open_files if f.startswith("socket:")]),
      len(ipywidgets.widgets.widget._instances),
      len([f for f in open_files if "ezbatch" in f or f.endswith(".db")]))
"""


def _run(cells: list[str], where: Path) -> nbformat.NotebookNode:
    made = [nbformat.v4.new_code_cell(source) for source in cells]  # type: ignore[no-untyped-call] # nbformat has none
    notebook: nbformat.NotebookNode = nbformat.v4.new_notebook(cells=made)  # type: ignore[no-untyped-call] # likewise
    nbclient.NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(where)}}).execute()
    return notebook


def _printed(cell: nbformat.NotebookNode) -> list[int]:
    text = "".join(output["text"] for output in cell.outputs if output.output_type == "stream")
    return [int(number) for number in text.split()]


def test_forty_cells_over_a_hundred_runs_leave_no_threads_sockets_or_widgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "process")
    first = (
        "%load_ext ezbatch_jupyter\nfrom ezbatch import EZBatchJob, EZBatchWorkflow\nfrom ezbatch_jupyter import show"
    )
    cell = "%%ezbatch -n quick -c 0.25\necho quick"
    three = "for n in range(3):\n    show(EZBatchWorkflow('w', {'a': EZBatchJob('i', 'true')}).submit('local'))"
    cells = [first, cell, three, LEFT, *([cell] * 6 + [three] * 12) * 2, cell, three, LEFT]
    assert sum(1 for source in cells if source == cell) + 3 * sum(1 for s in cells if s == three) >= 92
    notebook = _run(cells, tmp_path)
    threads, sockets, widgets, files = _printed(notebook.cells[-1])
    early = _printed(notebook.cells[3])
    assert threads <= early[0] <= 1, "only the poller's thread, which ends by itself, may be left"
    assert (sockets, widgets, files) == tuple(early[1:])
    for cell in notebook.cells:
        shown = [output.data for output in cell.outputs if "data" in output]
        assert not [data for data in shown if "application/vnd.jupyter.widget-view+json" in data], cell.source


@pytest.mark.parametrize("engine", ["none", "dot", "wheel"])
def test_the_same_notebook_runs_with_whatever_can_draw(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "process")
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "echo", "sleep", *(["dot"] if engine == "dot" else [])):
        found = subprocess.run(
            ["sh", "-c", f"command -v {tool}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        if found.startswith("/"):
            (tmp_path / "bin" / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    if engine == "wheel" and importlib.util.find_spec("pygraphviz") is None:
        missing("the pygraphviz wheel", "pip install 'pygraphviz>=2'")
    if engine != "wheel":
        # A module of that name which cannot be imported: what a machine without the wheel has.
        (tmp_path / "hidden").mkdir()
        (tmp_path / "hidden" / "pygraphviz.py").write_text("raise ImportError('not installed')\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hidden"))
    cells = [
        "%load_ext ezbatch_jupyter\nfrom ezbatch import EZBatchJob, EZBatchWorkflow",
        "jobs = {'one': EZBatchJob('i', 'echo 1'), 'two': EZBatchJob('i', 'echo 2')}",
        "wf = EZBatchWorkflow('w', jobs, {'two': ['one']})\nwf",
        "run = wf.submit('local').wait(progress=False)\nrun",
    ]
    notebook = _run(cells, tmp_path)
    for cell in notebook.cells[2:]:
        bundles = [output.data for output in cell.outputs if "data" in output]
        assert bundles
        assert "one" in bundles[-1]["text/plain"]
        assert ("image/svg+xml" in bundles[-1]) is (engine != "none")
        assert not [output for output in cell.outputs if output.output_type == "error"]


def test_a_cell_does_not_wait_for_a_run_that_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state_directory: Path
) -> None:
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "process")
    kill = (
        "import os, signal, subprocess, threading, time\n"
        f"listed = ['pgrep', '-f', 'ezbatch.local.process {state_directory}']\n"
        f"begun = '{tmp_path}/begun'\n"
        "def kill():\n"
        "    while not os.path.exists(begun):\n"
        "        time.sleep(0.1)\n"
        "    for pid in subprocess.run(listed, capture_output=True, text=True).stdout.split():\n"
        "        os.kill(int(pid), signal.SIGKILL)\n"
        "threading.Thread(target=kill, daemon=True).start()"
    )
    cells = ["%load_ext ezbatch_jupyter", kill, f"%%ezbatch -n long\ntouch {tmp_path}/begun; exec sleep 600"]
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="stands still"):
        _run(cells, tmp_path)
    left = subprocess.run(["pgrep", "-f", "sleep 600"], capture_output=True, text=True, check=False)
    for pid in left.stdout.split():
        os.kill(int(pid), signal.SIGKILL)


def test_this_python_is_the_kernels(tmp_path: Path) -> None:
    notebook = _run(["import sys; print(sys.executable)"], tmp_path)
    assert notebook.cells[0].outputs[0]["text"].strip() == sys.executable
