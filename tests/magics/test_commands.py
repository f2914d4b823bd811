"""``%ezbatch``: every command."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import ezbatch
from ezbatch import EZBatchRun
from ezbatch_jupyter.magics import _COMMANDS, line_parser
from tests.magics.conftest import Shell

FAILING = "%%ezbatch -n broken -o failed -Q\necho reading\nexit 7"


@pytest.fixture
def wf(shell: Shell) -> Shell:
    """A shell with a workflow of two jobs."""
    shell.good("%%ezbatch --workflow wf -n a -Q\necho from a")
    shell.good("%%ezbatch --workflow wf -n b --after a -Q\necho from b")
    return shell


def test_every_command_is_there() -> None:
    design = "submit status ls logs dag wait cancel retry attach form queues cost explain config plan resume"
    assert set(design.split()) <= set(_COMMANDS)


def test_help_is_shown(shell: Shell) -> None:
    text = shell.good("%ezbatch").stdout
    assert text == shell.good("%ezbatch --help").stdout
    for command, about in _COMMANDS.items():
        assert command in text
        assert about in text
        assert f"%ezbatch {command}" in shell.good(f"%ezbatch {command} --help").stdout


def test_submit_waits_and_raises(wf: Shell) -> None:
    assert "2 succeeded" in wf.good("%ezbatch submit wf -o run").text
    assert wf.variables["run"].state == "SUCCEEDED"
    wf.good("%%ezbatch --workflow wf -n c -Q\nexit 3")
    ran = wf.run("%ezbatch submit wf -o run")
    assert type(ran.error).__name__ == "JobFailedError"
    assert "job 'c' failed" in str(ran.error)
    assert wf.variables["run"].state == "FAILED"


def test_submit_takes_a_file_and_need_not_wait(wf: Shell) -> None:
    wf.variables["wf"].save("wf.json")
    ran = wf.good("%ezbatch submit wf.json --bg -o run")
    run: EZBatchRun = wf.variables["run"]
    assert ran.result is run
    assert run.wait(progress=False).state == "SUCCEEDED"


def test_submit_quietly(wf: Shell) -> None:
    assert wf.good("%ezbatch submit wf -Q").text.strip() == ""


def test_submit_goes_to_the_queue_that_is_named(wf: Shell) -> None:
    wf.good('%config EZBatch.queue = "somewhere"')
    assert "on this machine (queue local)" in wf.good("%ezbatch plan wf -q local").text
    wf.good("%ezbatch submit wf -q local -Q")
    assert [run.queue for run in ezbatch.runs()] == ["local"]


def test_plan_submits_nothing(wf: Shell) -> None:
    text = wf.good("%ezbatch plan wf").text
    assert "2 jobs, 2 stages" in text
    assert "plain processes" in text
    assert ezbatch.runs() == []


def test_dag_shows_a_workflow_and_a_run(wf: Shell, tmp_path: Path) -> None:
    assert "2 jobs; 2 stages" in wf.good("%ezbatch dag wf").text
    wf.good("%ezbatch submit wf -Q -o run")
    for subject in ("run", "@last", wf.variables["run"].id):
        assert "✔ b" in wf.good(f"%ezbatch dag {subject}").text
    wf.good("%ezbatch dag wf -o wf.dot")
    assert "digraph" in (tmp_path / "wf.dot").read_text()
    assert "has to end in" in wf.refused("%ezbatch dag wf -o wf.jpg")
    assert "nowhere/wf.svg: No such file or directory" in wf.refused("%ezbatch dag wf -o nowhere/wf.svg")
    assert "there is no workflow 'nowhere'" in wf.refused("%ezbatch dag nowhere")


def test_ls_lists_runs_newest_first(wf: Shell) -> None:
    assert "There are no runs yet." in wf.good("%ezbatch ls").text
    wf.good("%ezbatch submit wf -Q")
    wf.run(FAILING)
    text = wf.good("%ezbatch ls").text
    assert text.index("broken-") < text.index("wf-")
    assert "failed" in text
    assert "wf-" not in wf.good("%ezbatch ls -n 1").text
    table = wf.good("%ezbatch ls").result
    assert "<td" in table._repr_html_()  # type: ignore[attr-defined] # a Table has it


def test_logs_come_with_times(wf: Shell) -> None:
    wf.good("%ezbatch submit wf -Q -o run")
    text = wf.good("%ezbatch logs").text
    assert "a | from a" in text
    assert "b | from b" in text
    assert text.split()[0].count(":") == 2
    only = wf.good("%ezbatch logs run b").text
    assert "from b" in only
    assert "from a" not in only
    assert "from b" in wf.good("%ezbatch logs @last b --follow").text
    assert "did you mean 'a'?" in wf.refused("%ezbatch logs run aa")
    wf.good("%%ezbatch -Q\ntrue")
    assert wf.good("%ezbatch logs").text.strip() == "nothing was written"


def test_values_of_variables_are_not_printed(shell: Shell) -> None:
    shell.run("%%ezbatch -e TOKEN=very-secret-value -o run\necho token is $TOKEN; echo $TOKEN >&2; exit 3")
    assert "token is •••" in shell.good("%ezbatch logs").text
    for cell in ("%ezbatch logs", "%ezbatch status", "%ezbatch explain", "%ezbatch wait", "%ezbatch wait -Q", "run"):
        assert "very-secret-value" not in shell.run(cell).text


def test_long_logs_are_cut(shell: Shell) -> None:
    shell.good("%%ezbatch -Q\nseq 1 1500")
    text = shell.good("%ezbatch logs").text
    assert "  1500\n" in text
    assert "  400\n" not in text
    assert "the last 1,000 lines of each job" in text
    assert "  1\n" in shell.good("%ezbatch logs --tail 0").text
    assert shell.good("%ezbatch logs --tail 2").text.count("\n") < 6
    assert "'-2' is no whole number of 0 or more" in shell.run("%ezbatch logs --tail=-2").text


def test_a_run_is_a_variable_an_id_a_prefix_or_the_last(shell: Shell) -> None:
    shell.run(FAILING)
    run = shell.variables["failed"]
    for word in ("", "failed", run.id, run.id[:8], "@last"):
        found = shell.good(f"%ezbatch status {word}").result
        assert isinstance(found, EZBatchRun)
        assert (found.id, found.state) == (run.id, "FAILED")
    words = shell.refused("%ezbatch status nowhere")
    assert "no run has an id that begins with 'nowhere'" in words
    assert "%ezbatch ls" in words


def test_explain_says_why(shell: Shell) -> None:
    shell.run(FAILING)
    text = shell.good("%ezbatch explain").text
    assert "Cause" in text
    assert "exit code 7" in text
    assert "Its command failed" in shell.good("%ezbatch explain failed broken").text


def test_wait_waits_and_raises(shell: Shell) -> None:
    shell.good("%%ezbatch -n x --bg -o run\nsleep 0.5; exit 3")
    ran = shell.run("%ezbatch wait run -Q")
    assert type(ran.error).__name__ == "JobFailedError"
    run: EZBatchRun = shell.variables["run"]
    assert f"%ezbatch logs {run.id} x   Again: %ezbatch retry {run.id}" in ran.text, "what to type in a notebook"
    ran = shell.run("%ezbatch wait run")
    assert type(ran.error).__name__ == "JobFailedError"
    assert ran.text.count("x failed  ran") == 1, "a run that has ended is shown once"
    shell.good("%%ezbatch -n slow --bg -o run\nsleep 300")
    ran = shell.run("%ezbatch wait run --timeout 0.2")
    assert type(ran.error).__name__ == "WaitTimeoutError"
    assert "CANCELLED" in shell.good("%ezbatch cancel run").text


def test_cancel_ends_a_run_or_a_job(shell: Shell) -> None:
    shell.good("%%ezbatch --workflow wf -n a -Q\nsleep 300")
    shell.good("%%ezbatch --workflow wf -n b -c 0.25 -Q\nsleep 300")
    shell.good("%ezbatch submit wf --bg -o run")
    assert "a: asked to end" in shell.good("%ezbatch cancel run a --reason 'not needed'").text
    run: EZBatchRun = shell.variables["run"]
    while not run.refresh().jobs["a"].state.terminal:  # as long as it ends, a second reason would replace the first
        time.sleep(0.02)
    assert "CANCELLED" in shell.good("%ezbatch cancel run").text
    assert "not needed" in shell.variables["run"].jobs["a"].reason
    assert "has ended already" in shell.good("%ezbatch cancel run").text


def test_retry_runs_what_failed(shell: Shell, tmp_path: Path) -> None:
    shell.run(f"%%ezbatch -n flaky -o run -Q\ntest -e {tmp_path}/mended")
    (tmp_path / "mended").touch()
    shell.good("%ezbatch retry run --failed -o again")
    assert shell.variables["again"].state == "SUCCEEDED"
    assert shell.variables["again"].retry_of == shell.variables["run"].id
    ran = shell.run("%ezbatch retry again")
    assert type(ran.error).__name__ == "BackendError"
    assert "nothing to retry" in ran.stdout
    assert 'File "' not in ran.stdout


def test_resume_of_a_run_that_has_ended_shows_it(shell: Shell) -> None:
    shell.good("%%ezbatch -n x -Q -o run\ntrue")
    assert "succeeded" in shell.good("%ezbatch resume run").text


def test_attach_keeps_the_run(shell: Shell) -> None:
    shell.good("%%ezbatch -n x -Q\ntrue")
    shell.good("%ezbatch attach @last -o mine")
    assert shell.variables["mine"].name == "x"


def test_cost_of_a_workflow_and_a_run(wf: Shell) -> None:
    assert "$" in wf.good("%ezbatch cost wf").text
    wf.good("%ezbatch submit wf -Q")
    assert "$" in wf.good("%ezbatch cost").text
    assert "No run has cost anything yet" in wf.good("%ezbatch cost --by-tag project").text


def test_queues_are_listed_without_an_account(shell: Shell) -> None:
    text = shell.good("%ezbatch queues").text
    assert "local" in text
    assert "cannot be listed" in text


def test_doctor_looks_without_an_account(shell: Shell) -> None:
    text = shell.good("%ezbatch doctor").text
    assert "credentials" in text.lower()
    assert "local" in text.lower()


def test_config_tells_where_settings_come_from(shell: Shell) -> None:
    text = shell.good("%ezbatch config").text
    assert "environment variable EZBATCH_STATE_DIR" in text
    rows = {line.split()[0]: line.split()[-1] for line in text.splitlines() if line.split()}
    assert rows["queue"] == "default"


def test_form_opens(wf: Shell) -> None:
    for line in ("%ezbatch form wf", "%ezbatch form"):
        assert type(wf.good(line).result).__module__.startswith("ezbatch_jupyter.forms")
    assert ezbatch.runs() == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("statsu", "there is no command statsu (did you mean 'status'?)"),
        ("status --jsn", "there is no option --jsn. See %ezbatch status --help"),
        ("logs --tial 5", "there is no option --tial (did you mean '--tail'?). See %ezbatch logs --help"),
        ("submit", "the following arguments are required: WF"),
        ("submit nothing", "there is no workflow 'nothing'"),
        ("submit nothing.json", "nothing.json: No such file"),
        ("submit number", "number holds a int, not an EZBatchWorkflow"),
        ("retry", "the following arguments are required: RUN"),
        ("ls -n x", "no whole number of 0 or more"),
        ("logs 'x", "no closing quotation"),
        ("attach x -o 1", "'1' cannot name a Python variable"),
    ],
)
def test_a_mistake_is_a_usage_error(shell: Shell, line: str, words: str) -> None:
    shell.variables["number"] = 3
    assert words in shell.refused(f"%ezbatch {line}")


def test_a_broken_file_is_told_without_a_traceback(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    ran = shell.run("%ezbatch submit bad.json")
    assert type(ran.error).__name__ == "WorkflowFileError"
    assert "bad.json, line 1" in ran.stdout
    assert 'File "' not in ran.stdout


def test_no_command_can_be_abbreviated() -> None:
    assert not line_parser().allow_abbrev
