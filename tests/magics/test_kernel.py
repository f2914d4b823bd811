"""Notebooks, run by a real kernel as papermill and nbclient run them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from ezbatch import EZBatchRun
from tests.magics.conftest import Executed

LOAD = "%load_ext ezbatch_jupyter"


def test_a_cell_runs_and_leaves_a_static_output(execute: Callable[..., Executed]) -> None:
    done = execute(LOAD, "%%ezbatch -n pi --lang python\nprint('3.14', '{x}', '$y')", "%ezbatch logs @last")
    assert done.error is None
    text = done.text(1)
    assert "pi succeeded" in text
    assert "exit 0" in text
    assert "3.14 {x} $y" in text
    assert "%%ezbatch --help" in text
    kinds = {kind for output in done.outputs(1) for kind in output.get("data", {})}
    assert "application/vnd.jupyter.widget-view+json" not in kinds
    assert "text/html" in kinds
    assert "3.14 {x} $y" in done.text(2)


def test_a_failed_job_fails_the_notebook(execute: Callable[..., Executed]) -> None:
    done = execute(LOAD, "%%ezbatch -n broken -o run\necho reading; ls /no/such/place; exit 7", "print('not reached')")
    assert done.error is not None
    assert done.error.ename == "JobFailedError"
    (error,) = [output for output in done.outputs(1) if output.output_type == "error"]
    assert error.ename == "JobFailedError"
    assert "job 'broken' failed" in error.evalue
    assert "exit code 7" in error.evalue
    assert "\n" not in error.evalue
    assert error.traceback == [f"JobFailedError: {error.evalue}"]
    assert "reading" in done.text(1)
    assert done.outputs(2) == []


def test_a_wrong_option_fails_the_notebook(execute: Callable[..., Executed]) -> None:
    done = execute(LOAD, "%%ezbatch --nmae x\ntrue")
    assert done.error is not None
    assert "UsageError: there is no option --nmae (did you mean '--name'?)" in done.text(1)


@contextlib.contextmanager
def kernel(tmp_path: Path) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(tmp_path))
    client: BlockingKernelClient = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def interrupted(
    manager: KernelManager, client: BlockingKernelClient, cell: str, *, early: bool = False
) -> tuple[dict[str, str], float]:
    """Run a cell, interrupt it when its job runs, and return its reply and how long the interrupt took.

    With ``early`` the view may not be there yet.
    """
    message = client.execute(cell)
    deadline = time.monotonic() + 60
    while not any(run.counts.get("RUNNING") for run in _runs()):  # type: ignore[call-overload] # a JobState is a str
        assert time.monotonic() < deadline
        time.sleep(0.05)
    while not early and client.get_iopub_msg(timeout=60)["msg_type"] != "display_data":
        pass
    begun = time.monotonic()
    os.kill(manager.provisioner.pid, signal.SIGINT)  # type: ignore[union-attr] # the local provisioner has one
    while True:
        reply = client.get_shell_msg(timeout=60)
        if reply["parent_header"]["msg_id"] == message:
            return reply["content"], time.monotonic() - begun


def _runs() -> list[EZBatchRun]:
    import ezbatch

    return [run.refresh() for run in ezbatch.runs()]


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    with kernel(tmp_path) as (manager, client):
        client.execute_interactive(LOAD, timeout=30)
        yield manager, client
        for run in _runs():
            run.cancel()


def said(client: BlockingKernelClient) -> str:
    """Return what the kernel has published as text."""
    parts = []
    with contextlib.suppress(queue.Empty):
        while True:
            content = client.get_iopub_msg(timeout=0.5)["content"]
            parts += [content.get("text", ""), content.get("evalue", "")]
            parts.append(content.get("data", {}).get("text/plain", "") if "data" in content else "")
    return "\n".join(parts)


def test_an_interrupt_detaches_and_the_run_can_be_taken_up_again(
    slow: tuple[KernelManager, BlockingKernelClient],
) -> None:
    manager, client = slow
    reply, took = interrupted(manager, client, "%%ezbatch -n long -o run\nsleep 300")
    assert reply["status"] == "error"
    assert reply["ename"] == "Detached"
    (run,) = _runs()
    assert f"%ezbatch attach {run.id}" in reply["evalue"]
    assert f"%ezbatch cancel {run.id}" in reply["evalue"]
    assert run.state == "RUNNING"
    assert took < 8
    said(client)
    client.execute("print(run.id, run.state)")
    assert f"{run.id} RUNNING" in said(client)
    client.execute("%ezbatch cancel run")
    assert f"{run.id}: CANCELLED" in said(client)
    assert run.refresh().state == "CANCELLED"


def test_an_early_interrupt_detaches_too(slow: tuple[KernelManager, BlockingKernelClient]) -> None:
    reply, took = interrupted(*slow, "%%ezbatch -n long\nsleep 300", early=True)
    assert reply["ename"] == "Detached"
    assert took < 8
    assert _runs()[0].state == "RUNNING"


def test_an_interrupt_cancels_when_told_to(slow: tuple[KernelManager, BlockingKernelClient]) -> None:
    manager, client = slow
    reply, _took = interrupted(manager, client, "%%ezbatch -n long --on-interrupt cancel\nsleep 300")
    assert reply["status"] == "error"
    assert reply["ename"] == "JobFailedError"
    (run,) = _runs()
    assert run.state == "CANCELLED"
    assert "interrupted in the notebook" in reply["evalue"]


def test_the_tour_runs_and_is_stored_without_outputs(execute: Callable[..., Executed]) -> None:
    path = Path(__file__).parents[2] / "notebooks" / "first_cell.ipynb"
    tour = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in tour["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    done = execute(*("".join(cell["source"]) for cell in code))
    assert done.error is None
    text = "\n".join(done.text(i) for i in range(len(code)))
    assert "400,000 points" in text
    assert "south-pole above 0.5, child 2 of an array" in text
    assert "#EZ, line 2 of the cell" in text
    assert "4 succeeded" in text
