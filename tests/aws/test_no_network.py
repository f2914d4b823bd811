"""Constructing, loading, planning and showing call nobody: every socket of a process is heard by its audit hook."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import sys, tempfile, pathlib
heard = []
sys.addaudithook(lambda event, arguments: heard.append((event, arguments)) if event.startswith("socket.") else None)

import ezbatch
from ezbatch import EZBatchJob, EZBatchRun, EZBatchWorkflow, S3Mount, S3Mounts, plan, runs
from ezbatch.run import backend_for
from ezbatch.settings import Settings

mounts = S3Mounts(read=[S3Mount("s3://bucket/in", "/in")], write=[S3Mount("/out", "s3://bucket/out")])
job = EZBatchJob("image:1", "echo $X | wc", environment={"X": "1"}, mounts=mounts, preloader=True, array={"A": [1, 2]})
bad = EZBatchJob("image:1", "true", vcpus=3, queue="elsewhere", secrets={"S": "arn:aws:secretsmanager:x:1:secret:s"})
workflow = EZBatchWorkflow("w", {"a": job, "b": EZBatchJob("image:2", "true"), "bad": bad}, {"b": ["a"]})
bad.problems(), workflow.problems()
workflow.jobs.pop("bad")
path = pathlib.Path(tempfile.mkdtemp()) / "w.json"
workflow.save(path)
loaded = EZBatchWorkflow.load(path)
assert loaded == workflow
made = plan(loaded, "some-queue")
str(made), repr(made), repr(job), repr(workflow), job.to_definition()
backend = backend_for("some-queue", Settings.load())
backend.notes(made)

# A run that the ledger knows, and that AWS would have to be asked about: its properties are what was last seen.
import json
from ezbatch.ledger import Ledger, RunRecord
ledger = Ledger(Settings.load().state_directory)
ledger.add(RunRecord("w-abcdef", "w", "some-queue", "RUNNING", 1.0, None, None, None),
           json.dumps(workflow.to_dict()), made.to_json())
ledger.accepted("w-abcdef", {planned.name: "id" for planned in made.jobs})
(run,) = runs()
run.state, run.jobs, run.counts, run.notes, run.parents, run.workflow, str(run.plan), repr(run), run.explain(), run.id

import ezbatch_jupyter
from ezbatch_jupyter import dag
for shown in (loaded, run, made):
    dag.to_text(shown), dag.to_dot(shown)
from IPython.core.formatters import DisplayFormatter
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "ezbatch_jupyter")
for shown in (job, loaded, made):
    shell.display_formatter.format(shown)

assert not heard, heard
print("silent", "boto3" in sys.modules)
"""


def test_constructing_loading_planning_and_showing_are_silent() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "silent False\n", done.stdout + done.stderr
