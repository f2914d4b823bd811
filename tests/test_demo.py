"""The demo: its workflow, its jobs' scripts run one after the other, and the whole of it by the engine."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ezbatch import EZBatchJob, EZBatchWorkflow, plan

if TYPE_CHECKING:
    from types import ModuleType

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
SCRIPTS = NOTEBOOKS / "keeling"
S3 = "s3://keeling/"

pytestmark = pytest.mark.skipif(not NOTEBOOKS.is_dir(), reason="the demo is in the repository, not in the package")


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, NOTEBOOKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def build() -> EZBatchWorkflow:
    workflow = module("keeling").build()
    assert isinstance(workflow, EZBatchWorkflow)
    return workflow


def children(job: EZBatchJob) -> list[dict[str, str]]:
    """The variables of each run of a job: one run, or one for each child of the array."""
    if job.array is None:
        return [{}]
    if isinstance(job.array, int):
        entries: list[dict[str, Any]] = [{} for _ in range(job.array)]
    elif isinstance(job.array, list):
        entries = list(job.array)
    else:
        entries = [dict(zip(job.array, point, strict=True)) for point in itertools.product(*job.array.values())]
    return [
        {**{name: str(value) for name, value in entry.items()}, "AWS_BATCH_JOB_ARRAY_INDEX": str(index)}
        for index, entry in enumerate(entries)
    ]


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def run_job(job: EZBatchJob, variables: dict[str, str], store: Path, folder: Path) -> str:
    """Do by hand what an engine does: the reads, the command in a folder of its own, the writes."""
    folder.mkdir(parents=True)
    for mount in job.mounts.reads:
        copy(store / mount.source.removeprefix(S3), folder / mount.destination)
    program, *words = job.argv
    assert program == "python3"
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, **variables, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for mount in job.mounts.writes:
        copy(folder / mount.source, store / mount.destination.removeprefix(S3))
    shutil.rmtree(folder)
    return done.stdout


def run_all(root: Path) -> Path:
    """Run every job of the workflow, stage by stage, and return the folder that stands for the bucket."""
    workflow, store = build(), root / "s3"
    copy(NOTEBOOKS / "data" / "maunaloa_c.dat", store / "raw" / "maunaloa_c.dat")
    copy(SCRIPTS, store / "code")
    waiting, done = dict(workflow.jobs), set[str]()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while waiting:
            ready = [name for name in waiting if done.issuperset(workflow.dependencies.get(name, []))]
            assert ready, "a cycle"
            runs = [(name, index, child) for name in ready for index, child in enumerate(children(waiting[name]))]
            list(pool.map(lambda run: run_job(workflow.jobs[run[0]], run[2], store, root / f"{run[0]}-{run[1]}"), runs))
            done.update(ready)
            for name in ready:
                del waiting[name]
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_all(tmp_path_factory.mktemp("chain"))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_saved_workflow_is_what_the_script_builds(tmp_path: Path) -> None:
    workflow = build()
    assert EZBatchWorkflow.load(NOTEBOOKS / "keeling.json") == workflow
    workflow.save(tmp_path / "keeling.json")
    assert (tmp_path / "keeling.json").read_bytes() == (NOTEBOOKS / "keeling.json").read_bytes()


def test_script_saves_a_workflow_for_another_bucket(tmp_path: Path) -> None:
    target = tmp_path / "mine.json"
    words = [str(NOTEBOOKS / "keeling.py"), "--bucket", "my-bucket", "-o", str(target)]
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    assert "s3://my-bucket/raw/" in target.read_text()
    assert "s3://keeling/" not in target.read_text()


def test_workflow_shows_what_workflows_can_do() -> None:
    workflow = build()
    assert workflow.problems() == []
    assert len(workflow.jobs) > 12
    assert max(map(len, workflow.dependencies.values())) > 20  # so that AWS Batch needs joins
    assert sum(parents == ["ingest"] for parents in workflow.dependencies.values()) > 40
    assert sorted(job.array_size for job in workflow.jobs.values() if job.array_size) == [12, 100]
    assert all(job.preloader and job.mounts.read and job.mounts.write for job in workflow.jobs.values())
    assert "join" in str(plan(workflow, queue="local"))


def test_data_are_the_ones_described() -> None:
    data = (NOTEBOOKS / "data" / "maunaloa_c.dat").read_bytes()
    assert hashlib.sha256(data).hexdigest() in (NOTEBOOKS / "data" / "README.md").read_text()
    assert len(data) < 300 * 1024


def test_growth_rates_are_the_known_ones(store: Path) -> None:
    rows = {row["period"]: row for row in table(store / "results" / "growth-by-decade.csv")}
    # As published for Mauna Loa: about 0.9 ppm a year in the 1960s, 1.3 in the 1970s, 1.6 and 1.5 after.
    known = {"1960s": (0.8, 1.0), "1970s": (1.15, 1.4), "1980s": (1.45, 1.7), "1990s": (1.4, 1.65)}
    for decade, (low, high) in known.items():
        assert low < float(rows[decade]["growth"]) < high, decade
    for row in rows.values():
        assert float(row["low"]) < float(row["growth"]) < float(row["high"])
        assert float(row["high"]) - float(row["low"]) < 0.1
        assert float(row["lowest_method"]) <= float(row["highest_method"])
    years = {row["period"]: float(row["growth"]) for row in table(store / "results" / "growth-by-year.csv")}
    assert len(years) == 43
    assert max(years, key=years.__getitem__) == "1998"  # El Niño
    assert years["1992"] < 0.8  # after Pinatubo


def test_record_and_season_are_the_known_ones(store: Path) -> None:
    months = table(store / "record" / "trend.csv")
    assert len(months) == 516
    assert 314 < float(months[0]["trend"]) < 316
    assert 371 < float(months[-1]["trend"]) < 373
    for decade in ("1960s", "1970s", "1980s", "1990s"):
        cycle = [float(row["anomaly"]) for row in table(store / "season" / f"{decade}.csv")]
        assert cycle.index(max(cycle)) + 1 == 5
        assert cycle.index(min(cycle)) + 1 in (9, 10)
        assert 5 < max(cycle) - min(cycle) < 7


def test_figure_is_a_picture(store: Path) -> None:
    picture = (store / "results" / "keeling.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n")
    assert int.from_bytes(picture[16:20], "big") > 800  # pixels across
    assert len(picture) > 50_000  # an empty one is smaller


def script(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run one of the jobs' scripts."""
    return subprocess.run(
        [sys.executable, "-B", str(SCRIPTS / f"{name}.py"), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_lines_that_cannot_be_right_are_named(tmp_path: Path) -> None:
    archive = tmp_path / "archive.dat"
    archive.write_text("a header\nMLO  580329 4 0 316.10\nMLO  581329 4 0 316.10\nMLO  580405 4 0 -99.9\nMLO  5804\n")
    done = script("ingest", archive, tmp_path / "weekly")
    assert done.returncode == 0
    assert "1 weekly averages of 1 years" in done.stdout
    assert all(f"line {number}:" in done.stdout for number in (3, 4, 5))


def test_another_file_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "archive.dat"
    archive.write_text("year,co2\n1958,316.1\n")
    done = script("ingest", archive, tmp_path / "weekly")
    assert done.returncode == 1
    assert "is this the archive's file?" in done.stderr


def test_a_week_off_the_cycle_is_left_out(store: Path, tmp_path: Path) -> None:
    lines = (store / "weekly" / "1990.csv").read_text().splitlines()
    day, time, days, _ = lines[20].split(",")
    lines[20] = f"{day},{time},{days},362.00"
    (tmp_path / "1990.csv").write_text("\n".join(lines) + "\n")
    done = script("monthly", tmp_path / "1990.csv", tmp_path / "monthly.csv")
    assert f"{day}: 362.0 ppm" in done.stdout
    assert len(table(tmp_path / "monthly.csv")) == 12


def test_a_missing_year_is_an_error(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store / "monthly", tmp_path / "monthly")
    (tmp_path / "monthly" / "1970.csv").unlink()
    done = script("merge", tmp_path / "monthly", tmp_path / "record.csv", 44)
    assert done.returncode == 1
    assert "expected 44 years, found 43" in done.stderr


@pytest.fixture
def demo(state_directory: Path) -> Path:
    """A copy of notebooks/, so that a test leaves alone what a person's own demo wrote."""
    folder = state_directory.parent / "notebooks"
    shutil.copytree(
        NOTEBOOKS, folder, ignore=shutil.ignore_patterns("demo-output", "__pycache__", ".ipynb_checkpoints")
    )
    return folder


def run_demo(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(folder / "run_demo.py")],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_the_demo_runs_twice_and_gives_the_same_bytes(demo: Path, store: Path) -> None:
    made_by_hand = {path.relative_to(store): path.read_bytes() for path in store.rglob("*.*") if path.is_file()}
    assert len(made_by_hand) > 200
    for _ in range(2):
        done = run_demo(demo)
        assert done.returncode == 0, done.stdout + done.stderr
        bucket = demo / "demo-output" / "s3" / "keeling"
        assert [path for path, data in made_by_hand.items() if (bucket / path).read_bytes() != data] == []
        assert made_by_hand[Path("results/growth-by-decade.md")].decode() in done.stdout
        assert "bootstrap" in done.stdout  # in the DAG
        assert "keeling.ipynb" in done.stdout


def test_a_demo_that_fails_says_so(demo: Path) -> None:
    (demo / "keeling" / "merge.py").write_text("raise SystemExit('no monthly means today')\n")
    done = run_demo(demo)
    assert done.returncode == 1
    assert "logs @last" in done.stderr


def test_a_demo_waits_for_the_one_before(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EZBATCH_STATE_DIR", str(demo / "demo-output" / "state"))
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "process")
    run = EZBatchWorkflow("before", {"nap": EZBatchJob("any", "sleep 600")}).submit(queue="local")
    try:
        done = run_demo(demo)
    finally:
        run.cancel()
        run.wait(timeout=60)
    assert done.returncode == 1
    assert f"{run.id} is still going on" in done.stderr
    assert not (demo / "demo-output" / "s3").exists()


def test_the_notebook_holds_no_output() -> None:
    notebook = json.loads((NOTEBOOKS / "keeling.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)


def test_the_notebook_runs(demo: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", "execute", "--inplace", str(demo / "keeling.ipynb")],
        cwd=demo,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    notebook = json.loads((demo / "keeling.ipynb").read_text())
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert any("| 1960s " in "".join(output.get("data", {}).get("text/markdown", "")) for output in outputs)
