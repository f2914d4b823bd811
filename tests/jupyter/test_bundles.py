from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from ezbatch.errors import Problem
from ezbatch.planning import plan
from ezbatch.workflow import EZBatchJob, EZBatchWorkflow
from ezbatch_jupyter import bundles, display
from ezbatch_jupyter.rows import masked, shorten
from tests.containers import require
from tests.jupyter import scenes

ACCOUNT = "123456789012"


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance()
    made.run_line_magic("load_ext", "ezbatch_jupyter")
    yield made
    made.run_line_magic("unload_ext", "ezbatch_jupyter")
    InteractiveShell.clear_instance()


def shown(shell: InteractiveShell, value: object) -> dict[str, Any]:
    assert shell.display_formatter is not None
    found: dict[str, Any] = shell.display_formatter.format(value)[0]  # type: ignore[no-untyped-call] # IPython's
    return found


def test_a_workflow_shows_itself(shell: InteractiveShell) -> None:
    require("dot")
    found = shown(shell, scenes.cohort())
    assert set(found) == {"text/html", "text/plain", "image/svg+xml"}
    assert found["text/plain"].startswith(
        "cohort-wgs: 12 jobs, one an array of 500; 5 stages; no problems; not submitted"
    )
    assert '<img src="data:image/svg+xml;base64,' in found["text/html"]


def test_a_workflow_shows_its_problems(shell: InteractiveShell) -> None:
    flow = EZBatchWorkflow("bad", {"a": EZBatchJob("image", "true", memory=77)}, {"a": ["nobody"]})
    found = shown(shell, flow)
    assert "2 problems" in found["text/plain"] or "1 problem" in found["text/plain"]
    assert "nobody" in found["text/html"]


def test_a_plan_shows_its_table(shell: InteractiveShell) -> None:
    found = shown(shell, plan(scenes.cohort()))
    assert "stage  job" in found["text/plain"]
    assert ">Stage</th>" in found["text/html"]
    assert "Cost" not in found["text/html"], "on this machine nothing is billed"


def test_a_plan_for_aws_shows_what_it_may_cost(shell: InteractiveShell) -> None:
    job = EZBatchJob("image", "echo hi", vcpus=1, memory=2048, timeout=3600)
    found = shown(shell, plan(EZBatchWorkflow("one", {"a": job}), "genomics"))
    for text in (found["text/html"], found["text/plain"]):
        assert "to $0.049 (Fargate On-Demand, us-east-1, 2026-03)" in text
    assert ">At most</th>" in found["text/html"]
    # Jobs that are alike share a line: an hour of each, and what all of them may cost.
    many = shown(shell, plan(EZBatchWorkflow("many", {f"a{n}": job for n in range(10)}), "genomics"))["text/html"]
    assert "a0 … a9 (10)" in many
    assert ">$0.049</td>" in many
    assert ">$0.494</td>" in many
    endless = shown(shell, plan(EZBatchWorkflow("one", {"a": dataclasses.replace(job, timeout=None)}), "genomics"))
    assert "without a limit: a has no timeout" in endless["text/plain"]


def test_unloading_takes_it_all_back(shell: InteractiveShell) -> None:
    shell.run_line_magic("unload_ext", "ezbatch_jupyter")
    assert set(shown(shell, scenes.diamond())) == {"text/plain"}
    shell.run_line_magic("load_ext", "ezbatch_jupyter")
    assert "text/html" in shown(shell, scenes.diamond())
    shell.run_line_magic("reload_ext", "ezbatch_jupyter")
    assert "text/html" in shown(shell, scenes.diamond())


def test_a_finished_run_keeps_its_picture_table_and_text() -> None:
    run, stage = scenes.staged(scenes.cohort(), *scenes.cohort_reports().values())
    run.refresh()
    found = bundles.run_bundle(run)
    lines = found["text/plain"].splitlines()
    assert len(lines) <= 40
    assert lines[0].startswith("▶ cohort-wgs running  shape-abc234")
    table = [line.split()[1] for line in lines if line.startswith(("  ✖", "  ✔"))]
    assert table[0] == "failed", "what needs attention comes first"
    assert stage.looks == 1, "a repr looks at nothing"


@pytest.mark.parametrize(
    "flow", [scenes.fan(100), scenes.chain(400), scenes.layers(30, 40)], ids=lambda flow: flow.name
)
def test_a_text_is_never_longer_than_forty_lines(flow: EZBatchWorkflow) -> None:
    run, _stage = scenes.staged(flow)
    run.refresh()
    for found in (bundles.run_bundle(run), bundles.workflow_bundle(flow), bundles.plan_bundle(run.plan)):
        assert len(found["text/plain"].splitlines()) <= 40
        assert len(found["text/html"]) < 400_000


def test_what_is_kept_holds_no_secret() -> None:
    flow = scenes.diamond()
    flow.jobs["b"].environment["TOKEN"] = "hunter2-and-more"
    queue = f"arn:aws:batch:eu-west-1:{ACCOUNT}:job-queue/genomics"
    url = "https://bucket.s3.amazonaws.com/key?X-Amz-Signature=abc&X-Amz-Credential=def"
    image = f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/x"
    reason = f"CannotPullContainerError: {image}: arn:aws:iam::{ACCOUNT}:role/r {url} hunter2-and-more"
    reports = [scenes.report("a", "SUCCEEDED"), scenes.report("b", "FAILED", exit_code=1, reason=reason)]
    run, _stage = scenes.staged(flow, *reports, queue=queue)
    run.refresh()
    found = bundles.run_bundle(run, bundles.Ending("b", run.explain("b"), [f"token hunter2-and-more at {url}"], ""))
    text = json.dumps(found)
    assert ACCOUNT not in text
    assert "X-Amz" not in text
    assert "hunter2" not in text
    assert "https://bucket.s3.amazonaws.com/key?…" in found["text/plain"]


def test_the_log_of_one_child_is_not_taken_for_the_whole_arrays() -> None:
    run, _stage = scenes.staged(scenes.workflow({"each": []}, each=3), scenes.report("each", "SUCCEEDED"))
    run.refresh()
    found = bundles.run_bundle(run, bundles.Ending("each", None, ["first"], "", 0))
    for text in (found["text/html"], found["text/plain"]):
        assert "The end of the log of each:0; of another child: %ezbatch logs shape-abc234 each:NUMBER" in text


def test_a_repr_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(EZBatchWorkflow):
        def problems(self) -> list[Problem]:
            raise RuntimeError("broken")

        def __repr__(self) -> str:
            raise RuntimeError("broken too")

    with caplog.at_level(logging.ERROR):
        found = display.show_workflow(Broken("x", {"a": scenes.job()}))
    assert found["text/plain"].startswith("<")


def test_without_an_engine_the_html_holds_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    found = bundles.workflow_bundle(scenes.diamond())
    assert set(found) == {"text/html", "text/plain"}
    assert "← b, c" in found["text/html"]


def test_masks_and_cuts() -> None:
    assert masked(f"at 2026 {ACCOUNT}0 and {ACCOUNT}") == f"at 2026 {ACCOUNT}0 and {ACCOUNT}", (
        "any number is no account"
    )
    assert masked(f"arn:aws:s3:::{ACCOUNT}:x") == "arn:aws:s3:::************:x"
    assert shorten("a-very-long-name-of-a-sample_S12", 12) == "a-very…e_S12"
    assert shorten("短い名", 4) == "短…"
