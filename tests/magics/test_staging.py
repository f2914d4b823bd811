"""Scripts too big to be a part of their job, run by a real shell on this machine."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ezbatch import EZBatchRun, EZBatchWorkflow, Settings
from tests.magics.conftest import Shell

if TYPE_CHECKING:
    from collections.abc import Sequence

PLACE = "s3://bucket/own place"
#: 40 KiB, with what a shell or a careless writer would change.
TEXT = "".join(f"{number:05} \\t $x {{y}} \u00e9\u2713 ''\n" for number in range(1500))
SCRIPTS = {
    "sh": f"cat <<'END'\n{TEXT}END",
    "bash": f"[[ a == a ]] && cat <<'END'\n{TEXT}END",
    "python": f'print(r"""{TEXT}""", end=\'\')',
}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that stands for the bucket, where scripts are staged."""
    monkeypatch.setenv("EZBATCH_STAGING", PLACE)
    return Settings.load().s3_directory / "bucket"


def scripts(place: Path) -> Sequence[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file())


def output(run: object, job: str = "cell") -> str:
    assert isinstance(run, EZBatchRun)
    return "".join(f"{event.message}\n" for event in run.logs(job))


@pytest.mark.parametrize("lang", SCRIPTS)
def test_a_script_too_big_for_its_job_runs_from_the_place(shell: Shell, place: Path, lang: str) -> None:
    shell.good(f"%%ezbatch -Q -o run --lang {lang}\n{SCRIPTS[lang]}")
    assert output(shell.variables["run"]) == TEXT
    (path,) = scripts(place)
    content = path.read_bytes()
    # IPython ends a cell's body with a newline; the blank line stands for the magic line.
    assert content == f"\n{SCRIPTS[lang]}\n".encode()
    assert path == place / "own place/scripts" / hashlib.sha256(content).hexdigest()[:32]


def test_a_shebang_wins_there_too(shell: Shell, place: Path) -> None:
    script = f"#!/usr/bin/env -S python3 -u\nimport sys; print(len(sys.argv))\n{SCRIPTS['python']}"
    shell.good(f"%%ezbatch -Q -o run\n{script}")
    assert output(shell.variables["run"]) == f"1\n{TEXT}"
    assert scripts(place)[0].read_bytes() == f"{script}\n".encode()


@pytest.mark.parametrize(("lang", "line"), [("python", "line 1503, in <module>"), ("sh", "1503")])
def test_errors_tell_the_lines_of_the_cell(shell: Shell, place: Path, lang: str, line: str) -> None:
    ran = shell.run(f"%%ezbatch -Q -o run --lang {lang}\n" + "# line of a comment\n" * 1501 + "nosuchcommand")
    assert type(ran.error).__name__ == "JobFailedError"
    assert line in output(shell.variables["run"])
    assert len(scripts(place)) == 1


def test_python_finds_the_modules_of_the_working_directory(shell: Shell, place: Path) -> None:
    small = "import sys; print(sys.argv, sys.path[0] == '', __name__, '__file__' in globals())"
    shell.good(f"%%ezbatch -Q -o small --lang python\n{small}")
    shell.good(f"%%ezbatch -Q -o big --lang python\n{small}\n{'#' * 40_000}")
    assert output(shell.variables["big"]) == output(shell.variables["small"])
    assert len(scripts(place)) == 1


def test_the_same_script_is_one_object(shell: Shell, place: Path) -> None:
    for _ in range(2):
        shell.good(f"%%ezbatch -Q\n{SCRIPTS['sh']}")
    assert len(scripts(place)) == 1
    shell.good(f"%%ezbatch -Q\n{SCRIPTS['sh']}\ntrue")
    assert len(scripts(place)) == 2


def test_a_script_that_fits_stays_in_its_job(shell: Shell, place: Path) -> None:
    shell.good("%%ezbatch -Q\ntrue")
    assert not place.exists()


def test_the_cells_own_mounts_are_copied_as_before(shell: Shell, place: Path) -> None:
    place.mkdir(parents=True)
    (place / "in").write_text("from S3")
    shell.good(f"%%ezbatch -Q -r s3://bucket/in in -w out s3://bucket/out\ncat in > out\n{'#' * 40_000}")
    assert (place / "out").read_text() == "from S3"


def test_the_children_of_an_array_read_it(shell: Shell, place: Path) -> None:
    shell.variables["items"] = ["a", "b c"]
    shell.good(f'%%ezbatch -Q -o run --map items\necho "$ITEM"\n{"#" * 40_000}')
    assert sorted(output(shell.variables["run"]).splitlines()) == ["a", "b c"]
    assert len(scripts(place)) == 1


def test_a_dry_run_shows_the_place_and_writes_nothing(shell: Shell, place: Path) -> None:
    text = shell.good(f"%%ezbatch --dry-run\n{SCRIPTS['sh']}").text
    assert f"{PLACE}/scripts/" in text
    assert "staging: the script is too big for the job" in text
    assert "environment variable EZBATCH_STAGING" in text
    assert "copies 1 in" in text
    assert not place.exists()


def test_a_workflow_takes_the_staged_job(shell: Shell, place: Path) -> None:
    shell.good(f"%%ezbatch -Q --workflow wf -n big\n{SCRIPTS['sh']}")
    assert len(scripts(place)) == 1
    assert isinstance(shell.variables["wf"], EZBatchWorkflow)
    # As if it went elsewhere than was known when the job was added.
    scripts(place)[0].unlink()
    shell.good("%ezbatch submit wf -Q -o run")
    assert output(shell.variables["run"], "big") == TEXT


def test_a_form_writes_the_script_when_it_is_submitted(shell: Shell, place: Path) -> None:
    shown: Any = shell.good(f"%%ezbatch --form\n{SCRIPTS['sh']}").result
    assert shown.value.mounts.reads[0].source.startswith(f"{PLACE}/scripts/")
    assert not place.exists()
    shown.outlet.submit()
    deadline = time.monotonic() + 60
    while shown.run is None:
        assert time.monotonic() < deadline, shown.outlet.message.value
        time.sleep(0.05)
    assert shown.run.wait(60, progress=False).state == "SUCCEEDED"
    assert output(shown.run) == TEXT


def test_what_is_too_big_for_other_reasons_is_refused_as_before(shell: Shell, place: Path) -> None:
    shell.variables["items"] = [f"{number:0100}" for number in range(1000)]
    ran = shell.run(f"%%ezbatch --map items\n{SCRIPTS['sh']}")
    assert type(ran.error).__name__ == "InvalidWorkflowError"
    assert "AWS Batch takes 24,576" in ran.stdout
    assert not place.exists()


def test_a_place_that_cannot_be_written_is_told_and_nothing_submitted(shell: Shell, place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.write_text("a file in the way")
    for options in ("-o run", "--workflow wf -n big"):
        ran = shell.run(f"%%ezbatch {options}\n{SCRIPTS['sh']}")
        assert type(ran.error).__name__ == "BackendError"
        assert "so nothing was submitted" in str(ran.error)
        assert "Make it writable, or set EZBATCH_LOCAL_S3" in str(ran.error)
        assert "Traceback" not in ran.text
    assert not {"run", "wf"} & shell.variables.keys()
    assert "There are no runs yet" in str(shell.good("%ezbatch ls").result)


def test_config_tells_the_setting_and_a_wrong_one_is_refused(
    shell: Shell, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not place.exists()
    assert PLACE in str(shell.good("%ezbatch config").result)
    monkeypatch.setenv("EZBATCH_STAGING", "bucket/prefix")
    ran = shell.run(f"%%ezbatch\n{SCRIPTS['sh']}")
    assert type(ran.error).__name__ == "SettingsError"
    assert "EZBATCH_STAGING is 'bucket/prefix', which is no place on S3. Write s3://BUCKET/PREFIX" in str(ran.error)
