"""Run the Keeling workflow on this machine by the command line: what ``make demo`` calls.

The notebook beside it, ``keeling.ipynb``, does the same from Python.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUTPUT = HERE / "demo-output"
STORE = OUTPUT / "s3"  # stands for S3: s3://keeling/... is keeling/... in it
BUCKET = STORE / "keeling"
WORKFLOW = HERE / "keeling.json"
DETACHED = 130  # ezbatch's exit code after Ctrl-C: the run goes on


def environment() -> dict[str, str]:
    """Return the settings that keep the demo in its own folder."""
    commands = str(Path(sys.executable).parent)
    return {
        "EZBATCH_LOCAL_S3": str(STORE),
        "EZBATCH_STATE_DIR": str(OUTPUT / "state"),
        # Containers would first download a gigabyte of images; EZBATCH_LOCAL_RUNNER=docker runs the jobs in them.
        "EZBATCH_LOCAL_RUNNER": os.environ.get("EZBATCH_LOCAL_RUNNER", "process"),
        # The jobs' python3 is the one that runs this, for the figure needs its matplotlib.
        "PATH": os.pathsep.join([commands, os.environ.get("PATH", os.defpath)]),
    }


def prepare() -> None:
    """Put the data and the jobs' scripts where ``s3://keeling/`` is, with no results of an earlier run."""
    shutil.rmtree(BUCKET, ignore_errors=True)
    for source, target in ((HERE / "data", BUCKET / "raw"), (HERE / "keeling", BUCKET / "code")):
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "README.md"))


def near(path: Path) -> str:
    """Return a path as a person would type it from here."""
    return os.path.relpath(path)


def command(*words: str) -> list[str]:
    """Return an ``ezbatch`` command; the program lies beside the Python that runs this."""
    return [str(Path(sys.executable).parent / "ezbatch"), *words]


def run(*words: str) -> int:
    """Show an ``ezbatch`` command, run it and return its exit code."""
    print(f"\n$ ezbatch {shlex.join(words)}\n", flush=True)
    with subprocess.Popen(command(*words), env={**os.environ, **environment()}) as process:
        # Ctrl-C is for ezbatch, which says how to come back to the run; this waits for its answer.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return process.wait()
        finally:
            signal.signal(signal.SIGINT, before)


def going_on() -> list[str]:
    """Return the demo's runs that have not ended."""
    listed = subprocess.run(
        command("ls", "--json"), env={**os.environ, **environment()}, check=True, capture_output=True, text=True
    )
    return [entry["run"] for entry in json.loads(listed.stdout) if not entry["finished"] and not entry["interruption"]]


def again(*words: str) -> str:
    """Return the line that runs an ``ezbatch`` command on the demo's runs from a person's shell."""
    state, program = near(OUTPUT / "state"), near(Path(command()[0]))
    return f"EZBATCH_STATE_DIR={shlex.quote(state)} {shlex.quote(program)} {shlex.join(words)}"


def show_results() -> None:
    """Print the table, and where everything is."""
    results = BUCKET / "results"
    print("\n" + (results / "growth-by-decade.md").read_text())
    print(f"figure      {near(results / 'keeling.png')}")
    print(f"tables      {near(results)}")
    print(f"all of S3   {near(STORE)}")
    print(f"logs        {again('logs', '@last', 'growth')}")
    print(f"runs        {again('ls')}")
    print(f"notebook    make lab, then open keeling.ipynb: the same from Python ({near(HERE / 'keeling.py')})")


def main() -> int:
    """Run the demo and return its exit code: 0 when every job succeeded."""
    if not Path(command()[0]).exists():
        print("The ezbatch command is not beside this Python. `make demo` sets everything up.", file=sys.stderr)
        return 1
    print("The Keeling curve: CO2 at Mauna Loa, from 2,225 weekly averages to a figure and a table of growth rates.")
    print("55 jobs, two of them arrays with 112 children, run on this machine; no AWS account is used.")
    if runs := going_on():
        print(f"\n{runs[0]} is still going on, and its data would be taken from under it. Either", file=sys.stderr)
        print(f"    {again('wait', runs[0])}\n    {again('cancel', runs[0])}", file=sys.stderr)
        return 1
    prepare()
    print(f"\ns3://keeling/ is {near(BUCKET)}; the data and the jobs' scripts are there now.")
    if code := run("dag", near(WORKFLOW)):
        return code
    code = run("run", near(WORKFLOW), "-q", "local", "--wait")
    if code == DETACHED:
        print(f"\nThe demo's runs are in a folder of its own: {again('wait', '@last')}", file=sys.stderr)
        return code
    if code:
        print("\nThe demo's run did not succeed. Which job failed, why, and its log:", file=sys.stderr)
        print(f"    {again('status', '@last')}\n    {again('logs', '@last', 'JOB')}", file=sys.stderr)
        print("When the cause is gone, `make demo` starts afresh.", file=sys.stderr)
        return 1
    show_results()
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # in step with what ezbatch writes, also into a file
    sys.exit(main())
