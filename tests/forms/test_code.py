from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ezbatch import EZBatchJob, EZBatchWorkflow, S3Mount, S3Mounts
from ezbatch_jupyter.cell import command
from ezbatch_jupyter.forms import CellError, JobForm, WorkflowForm, from_cell, to_cell, to_python
from tests.core import workflows
from tests.forms.drafts import anything, cell_jobs, odd_jobs

# Forms have no state between examples but what is set; making them anew takes most of the time.
relaxed = settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def run(text: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    exec(text, made)  # noqa: S102 - what the form offers to run
    return made


@pytest.fixture(scope="module")
def forms() -> tuple[JobForm, JobForm]:
    return JobForm(), JobForm()


@relaxed
@given(job=st.one_of(odd_jobs(), workflows.jobs()), name=anything)
def test_a_form_python_and_a_form_are_the_identity(forms: tuple[JobForm, JobForm], job: EZBatchJob, name: str) -> None:
    first, second = forms
    first.value, first.name = job, name
    assert first.value == job, "setting the value fills the form"
    made = run(first.python())
    assert made["job"] == job
    assert {type(value) for value in vars(made["job"]).values()} == {type(value) for value in vars(job).values()}
    ((second.name, second.value),) = made["workflow"].jobs.items()
    assert (second.name, second.value) == (name, job)


@relaxed
@given(workflow=workflows.workflows(most=3))
def test_a_workflow_form_python_and_a_form_are_the_identity(workflow: EZBatchWorkflow) -> None:
    first = WorkflowForm(workflow)
    assert first.value == workflow
    again = run(first.python())["workflow"]
    assert again == workflow
    assert list(again.jobs) == list(workflow.jobs), "in the same order"
    first.value = again
    assert first.value == workflow


@relaxed
@given(job=cell_jobs(), name=st.text("abcXYZ 019-_'$%", min_size=1, max_size=20))
def test_a_form_a_cell_and_a_form_are_the_identity(forms: tuple[JobForm, JobForm], job: EZBatchJob, name: str) -> None:
    first, second = forms
    first.value, first.name = job, name
    second.name, second.value = from_cell(first.cell())
    assert (second.name, second.value) == (name, job)


@relaxed
@given(job=st.one_of(odd_jobs(), workflows.jobs(), cell_jobs()), name=anything)
@example(job=EZBatchJob("i", command("#EZ -c 4\necho\n", "sh")), name="x")
@example(job=EZBatchJob("i", command("echo\r\n", "sh")), name="x")
@example(job=EZBatchJob("i", command("\n\n", "sh")), name="x")
@example(job=EZBatchJob("i", command("echo\n", "sh"), environment={"A": "a\nb"}), name="x")
@example(job=EZBatchJob("i", command("echo\n", "sh"), environment={"A": "a\u2028b"}), name="--help")
@example(job=EZBatchJob("-i", command(">>> x\n  %%sh\n", "python")), name="-n")
def test_what_a_cell_cannot_express_is_refused_and_never_lost(job: EZBatchJob, name: str) -> None:
    why = text = ""
    try:
        text = to_cell(job, name)
    except CellError as error:
        why = str(error)
    assert why or from_cell(text) == (name, job), "a reason, or the same job"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"command": "echo"}, "choose a script"),
        ({"array": [{"A": 1}]}, "--map"),
        ({"mounts": S3Mounts(read=[S3Mount("s3://b/k", "x", recursive=True)]), "preloader": True}, "how a mount"),
        ({"mounts": S3Mounts(read=[S3Mount("s3://b/k", "x")])}, "always copies"),
        ({"preloader": True}, "only where there are mounts"),
        ({"environment": {"A": "a\nb"}}, "one line"),
        ({"architecture": "arm64"}, "architecture"),
    ],
)
def test_a_refusal_says_why(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(CellError, match=why):
        to_cell(EZBatchJob(**{"image": "i", "command": command("echo\n", "sh"), **fields}))


def test_python_is_written_as_a_person_would() -> None:
    job = EZBatchJob("python:3.12", "echo one\necho two\n", environment={"A": "it's"}, vcpus=4, memory=8192)
    assert to_python(job, "align", "local") == (
        "from ezbatch import EZBatchJob, EZBatchWorkflow\n"
        "\n"
        "job = EZBatchJob(\n"
        '    "python:3.12",\n'
        "    command=(\n"
        '        "echo one\\n"\n'
        '        "echo two\\n"\n'
        "    ),\n"
        '    environment={"A": "it\'s"},\n'
        "    vcpus=4,\n"
        "    memory=8192,\n"
        ")\n"
        'workflow = EZBatchWorkflow("align", {"align": job})\n'
        '# run = workflow.submit(queue="local")\n'
    )
