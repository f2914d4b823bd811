from __future__ import annotations

from collections.abc import Iterator

import pytest
from IPython.core.interactiveshell import InteractiveShell

import ezbatch_jupyter
from ezbatch import EZBatchJob, EZBatchWorkflow
from ezbatch_jupyter.cell import command
from ezbatch_jupyter.forms import JobForm, WorkflowForm


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance()
    ezbatch_jupyter.load_ipython_extension(made)
    yield made
    ezbatch_jupyter.unload_ipython_extension(made)
    InteractiveShell.clear_instance()


def run_cell(shell: InteractiveShell, line: str, cell: str) -> object:
    shown: object = shell.run_cell_magic("ezbatch", line, cell)  # type: ignore[no-untyped-call]
    return shown


def test_a_cell_opens_in_a_form_and_comes_back(shell: InteractiveShell) -> None:
    line = "--form --name align -c 4 -m 16G -q big -r s3://lab/in in/x --env 'A=b c' --image busybox"
    shown = run_cell(shell, line, "set -e\necho 'hi'\n")
    assert isinstance(shown, JobForm)
    assert shown.name == "align"
    assert shown.value.command == command("set -e\necho 'hi'\n", "sh")
    assert (shown.value.vcpus, shown.value.memory, shown.value.queue) == (4, 16384, "big")
    first, _newline, body = shown.cell().partition("\n")
    again = run_cell(shell, f"{first.removeprefix('%%ezbatch ')} --form", body)
    assert isinstance(again, JobForm)
    assert (again.name, again.value) == (shown.name, shown.value)


def test_a_queue_that_is_only_configured_is_no_part_of_the_job(shell: InteractiveShell) -> None:
    shell.run_line_magic("config", 'EZBatch.queue = "big"')
    shown = run_cell(shell, "--form", "echo\n")
    assert isinstance(shown, JobForm)
    assert shown.value.queue is None
    assert shown.queue == "big"


def test_a_workflow_opens_in_a_form(shell: InteractiveShell) -> None:
    shell.user_ns["wf"] = EZBatchWorkflow("w", {"a": EZBatchJob("i", "true")})
    shown = shell.run_line_magic("ezbatch", "form wf")
    assert isinstance(shown, WorkflowForm)
    assert shown.value == shell.user_ns["wf"]
    grown = run_cell(shell, "--form --workflow wf -n b --after a", "echo\n")
    assert isinstance(grown, WorkflowForm)
    assert grown.selected == "b"
    assert grown.value.dependencies == {"b": ["a"]}
    assert list(shell.user_ns["wf"].jobs) == ["a"]
    assert isinstance(shell.run_line_magic("ezbatch", "form"), JobForm)
