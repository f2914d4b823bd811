"""Workflows that grow over cells."""

from __future__ import annotations

import ezbatch
from tests.magics.conftest import Shell


def test_cells_build_a_workflow_that_shows_itself_as_it_grows(shell: Shell) -> None:
    first = shell.good("%%ezbatch --workflow wf -n fetch\necho fetch")
    assert first.result == shell.variables["wf"]
    assert "wf: 1 job; 1 stage" in first.text
    shell.good("%%ezbatch --workflow wf -n clean --after fetch\necho clean")
    third = shell.good("%%ezbatch --workflow wf -n 'fit all' --after fetch clean -c 2\necho fit")
    assert "wf: 3 jobs; 3 stages" in third.text
    assert shell.variables["wf"].dependencies == {"clean": ["fetch"], "fit all": ["fetch", "clean"]}
    assert ezbatch.runs() == []
    done = shell.good("%ezbatch submit wf -o run")
    assert "3 succeeded" in done.text
    assert shell.variables["run"].state == "SUCCEEDED"


def test_a_cell_run_again_replaces_its_job(shell: Shell) -> None:
    shell.good("%%ezbatch --workflow wf -n a -Q\necho 1")
    shell.good("%%ezbatch --workflow wf -n b --after a -Q\necho 2")
    shell.good("%%ezbatch --workflow wf -n c --after b -Q\necho 3")
    before = shell.variables["wf"]
    shell.good("%%ezbatch --workflow wf -n b -c 4 -Q\necho 22")
    after = shell.variables["wf"]
    assert list(after.jobs) == ["a", "b", "c"]
    assert after.jobs["b"].vcpus == 4
    assert after.dependencies == {"c": ["b"]}
    # The old object is as it was: whoever holds it, holds what was shown.
    assert before.dependencies == {"b": ["a"], "c": ["b"]}
    assert before.jobs["b"].vcpus == 1


def test_the_same_cell_again_changes_nothing(shell: Shell) -> None:
    cells = ["%%ezbatch --workflow wf -n a -Q\necho 1", "%%ezbatch --workflow wf -n b --after a -Q\necho 2"]
    for cell in cells:
        shell.good(cell)
    before = shell.variables["wf"]
    for cell in cells:
        shell.good(cell)
    assert shell.variables["wf"] == before


def test_what_does_not_fit_leaves_the_workflow_as_it_was(shell: Shell) -> None:
    shell.good("%%ezbatch --workflow wf -n a -Q\necho 1")
    shell.good("%%ezbatch --workflow wf -n b --after a -Q\necho 2")
    before = shell.variables["wf"]
    words = shell.refused("%%ezbatch --workflow wf -n a --after b\necho 1")
    assert "a cycle: 'a' -> 'b' -> 'a'" in words
    assert "left as it was" in words
    assert "a cycle" in shell.refused("%%ezbatch --workflow wf -n a --after a\necho 1")
    assert "did you mean 'b'?" in shell.refused("%%ezbatch --workflow wf -n c --after bb\necho 1")
    assert "Its jobs: a, b" in shell.refused("%%ezbatch --workflow wf -n c --after zzz\necho 1")
    ran = shell.run("%%ezbatch --workflow wf -n c -c 3\necho 1")
    assert type(ran.error).__name__ == "InvalidWorkflowError"
    assert shell.variables["wf"] is before


def test_a_job_that_was_taken_out_can_be_waited_for_no_more(shell: Shell) -> None:
    shell.good("%%ezbatch --workflow wf -n a -Q\necho 1")
    shell.good("%%ezbatch --workflow wf -n b --after a -Q\necho 2")
    shell.good("del wf.jobs['a']")
    words = shell.refused("%%ezbatch --workflow wf -n c --after b\necho 3")
    assert "'b'" not in words or "depends on 'a', which is no job" in words
    assert "workflow wf has no such job" in shell.refused("%%ezbatch --workflow wf -n b --after a\necho 2")
    shell.good("%%ezbatch --workflow wf -n b -Q\necho 2")
    assert shell.variables["wf"].dependencies == {}


def test_a_queue_on_the_line_is_the_jobs_own(shell: Shell) -> None:
    shell.good('%config EZBatch.queue = "configured"')
    shell.good("%%ezbatch --workflow wf -n a -Q\necho 1")
    shell.good("%%ezbatch --workflow wf -n b -q gpu -Q\necho 2")
    assert [job.queue for job in shell.variables["wf"].jobs.values()] == [None, "gpu"]


def test_a_workflow_of_python_grows_too(shell: Shell) -> None:
    shell.good("from ezbatch import EZBatchJob, EZBatchWorkflow")
    shell.good("wf = EZBatchWorkflow('mine', {'a': EZBatchJob('busybox', 'true')})")
    shell.good("%%ezbatch --workflow wf -n b --after a -Q\necho 2")
    assert shell.variables["wf"].name == "mine"
    assert list(shell.variables["wf"].jobs) == ["a", "b"]
