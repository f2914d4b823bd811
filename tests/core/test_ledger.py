"""The ledger: runs and jobs as they were last seen, for several processes at once."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ezbatch import JobReport, JobState, RunNotFoundError, StateDirectoryError
from ezbatch.backend import Attempt
from ezbatch.ledger import Ledger, RunRecord

FORK = multiprocessing.get_context("fork")


def record(run_id: str, created: float = 1.0, state: str = "RUNNING") -> RunRecord:
    return RunRecord(run_id, "name", "local", state, created, None, None, None)


def together(count: int, act: Callable[[int], None]) -> None:
    """Do something in several processes at the same time; all must succeed."""
    gate = FORK.Event()

    def wait_and_act(number: int) -> None:
        gate.wait()
        act(number)

    processes = [FORK.Process(target=wait_and_act, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    gate.set()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count


def test_what_is_written_is_read(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "state")
    assert ledger.runs() == []
    assert not (tmp_path / "state").exists(), "reading makes nothing"
    assert ledger.add(record("a-111111"), "workflow", "plan")
    assert not ledger.add(record("a-111111"), "other", "other")
    assert (ledger.workflow("a-111111"), ledger.plan("a-111111")) == ("workflow", "plan")
    now = datetime.now(timezone.utc)
    reports = [
        JobReport("x", "id-x", JobState.RUNNING, (Attempt(1, now, now, 1, "why"), Attempt(2, now)), created=now),
        JobReport("y", "id-y", JobState.FAILED, exit_code=3, reason="ü", children={JobState.FAILED: 2}, cancelled=True),
    ]
    ledger.accepted("a-111111", {"x": "id-x", "y": "id-y", "z": "id-z"})
    ledger.seen("a-111111", reports)
    again = Ledger(tmp_path / "state").jobs("a-111111")
    assert again == {"x": ("id-x", reports[0]), "y": ("id-y", reports[1]), "z": ("id-z", None)}
    ledger.update("a-111111", state="FAILED", finished=5.0)
    ledger.update("a-111111", cancelled="because")
    assert ledger.find("a-111111") == record("a-111111")._replace(state="FAILED", finished=5.0, cancelled="because")


def test_it_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    Ledger(tmp_path / "state").add(record("a-111111"), "secret", "plan")
    for path in (tmp_path / "state").rglob("*"):
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path
    assert not (tmp_path / "state").stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def test_runs_are_found_by_id_prefix_and_last(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with pytest.raises(RunNotFoundError, match="there is no run yet"):
        ledger.find("@last")
    with pytest.raises(RunNotFoundError, match="no run has an id"):
        ledger.find("x")
    ledger.add(record("only-111111"), "", "")
    with pytest.raises(RunNotFoundError):
        ledger.find("")
    for number, run_id in enumerate(["demo-aaaaaa", "demo-abbbbb", "demo-a", "de_o-cccccc", "older-dddddd"]):
        ledger.add(record(run_id, created=10.0 - (number == 4) * 5 + number), "", "")
    assert ledger.find("@last").id == "de_o-cccccc"
    assert ledger.find("demo-aa").id == "demo-aaaaaa"
    assert ledger.find("demo-a").id == "demo-a", "a whole id wins over what begins with it"
    assert ledger.find("de_").id == "de_o-cccccc", "_ is no wildcard"
    for text in ("%", "x", "demo-aaaaaaa", "-", "\\", "'"):
        with pytest.raises(RunNotFoundError, match="ezbatch ls"):
            ledger.find(text)
    with pytest.raises(RunNotFoundError, match=r"3 runs .* demo-a.*Write more of it"):
        ledger.find("dem")
    assert [run.id for run in ledger.runs()] == [
        "de_o-cccccc",
        "demo-a",
        "demo-abbbbb",
        "demo-aaaaaa",
        "older-dddddd",
        "only-111111",
    ]
    assert [run.id for run in ledger.runs(2)] == ["de_o-cccccc", "demo-a"]


def test_several_processes_make_the_ledger_at_once(tmp_path: Path) -> None:
    for turn in range(10):
        state = tmp_path / str(turn)

        def add(number: int, state: Path = state) -> None:
            assert Ledger(state).add(record(f"run-{number}"), "", "")

        together(8, add)
        assert len(Ledger(state).runs()) == 8


def test_several_processes_write_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    def write(number: int) -> None:
        ledger = Ledger(tmp_path)
        for turn in range(20):
            run_id = f"run-{number}-{turn}"
            assert ledger.add(record(run_id), "", "")
            ledger.accepted(run_id, {f"j{i}": str(i) for i in range(20)})
            ledger.seen(run_id, [JobReport(f"j{i}", str(i), JobState.SUCCEEDED) for i in range(20)])
            ledger.update(run_id, state="SUCCEEDED")

    together(4, write)
    ledger = Ledger(tmp_path)
    runs = ledger.runs()
    assert len(runs) == 80
    assert {run.state for run in runs} == {"SUCCEEDED"}
    for run in runs:
        assert len([report for _id, report in ledger.jobs(run.id).values() if report]) == 20


def test_one_id_is_given_once(tmp_path: Path) -> None:
    def claim(number: int) -> None:
        ledger = Ledger(tmp_path)
        won = sum(ledger.add(record(f"run-{turn}"), "", "") for turn in range(50))
        (tmp_path / f"won-{number}").write_text(str(won))

    together(4, claim)
    assert sum(int((tmp_path / f"won-{number}").read_text()) for number in range(4)) == 50


def test_a_forked_process_has_a_connection_of_its_own(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add(record("before"), "", "")

    def use(number: int) -> None:
        assert ledger.add(record(f"forked-{number}"), "", "")

    together(3, use)
    ledger.add(record("after"), "", "")
    assert len(ledger.runs()) == 5


def test_a_killed_process_leaves_what_it_had_written(tmp_path: Path) -> None:
    script = """if True:
        import sys
        from pathlib import Path
        from ezbatch.ledger import Ledger, RunRecord
        ledger = Ledger(Path(sys.argv[1]))
        number = 0
        while True:
            ledger.add(RunRecord(f"run-{number}", "", "local", "RUNNING", number, None, None, None), "", "")
            print(number, flush=True)
            number += 1
    """
    argv = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.kill()
        said = [int(line) for line in process.stdout]
    assert len(Ledger(tmp_path).runs()) >= (said[-1] if said else 19) + 1


def test_who_submits_is_seen_by_others_until_it_dies(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert not ledger.is_submitting("run")
    script = """if True:
        import sys, time
        from pathlib import Path
        from ezbatch.ledger import Ledger
        with Ledger(Path(sys.argv[1])).submitting("run"):
            print("there", flush=True)
            time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert ledger.is_submitting("run")
        assert not ledger.is_submitting("other")
        process.kill()
    assert not ledger.is_submitting("run")
    with ledger.submitting("run"):
        assert Ledger(tmp_path).is_submitting("run")
    assert not ledger.is_submitting("run")


def test_only_one_submits_at_a_time(tmp_path: Path) -> None:
    # The lock's file goes away with its holder: whoever had waited for it must not believe that it still holds.
    def submit(number: int) -> None:
        ledger = Ledger(tmp_path)
        for turn in range(60):
            with ledger.submitting("run"):
                inside = os.open(tmp_path / "inside", os.O_CREAT | os.O_EXCL)
                os.close(inside)
                if (number + turn) % 7 == 0:
                    time.sleep(0.001)
                (tmp_path / "inside").unlink()

    together(4, submit)
    assert list((tmp_path / "submitting").iterdir()) == []


def test_a_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirectoryError, match="EZBATCH_STATE_DIR") as caught:
        Ledger(tmp_path / "file" / "state").add(record("a"), "", "")
    assert isinstance(caught.value, OSError)
    with (
        pytest.raises(StateDirectoryError, match="EZBATCH_STATE_DIR"),
        Ledger(tmp_path / "file" / "state").submitting("a"),
    ):
        pass


@pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_ledger_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ledger.db").write_bytes(content)
    with pytest.raises(StateDirectoryError, match=r"damaged.*Move it away"):
        Ledger(tmp_path).runs()
    with pytest.raises(StateDirectoryError, match=r"damaged.*Move it away"):
        Ledger(tmp_path).add(record("a"), "", "")


def test_a_ledger_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "ledger.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StateDirectoryError, match=r"another version.*format 99"):
        Ledger(tmp_path).runs()
