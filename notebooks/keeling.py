"""The Keeling curve as a workflow: 55 jobs, two of them arrays, from an archive's file to a figure and a table.

    python notebooks/keeling.py                          writes keeling.json beside this file
    python notebooks/keeling.py --bucket my-bucket       the same for your own bucket on AWS

Every job reads its scripts and its data from S3 and writes its results there (``preloader=True``), so that nothing
depends on where it runs. On this machine ``s3://keeling/`` is a folder; ``run_demo.py`` fills it and runs the workflow.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ezbatch import EZBatchJob, EZBatchWorkflow, S3Mount, S3Mounts

HERE = Path(__file__).resolve().parent
YEARS = range(1958, 2002)
DECADES = ["1960s", "1970s", "1980s", "1990s"]
REPLICATES = 100

PYTHON = "python:3.12-slim"
PYTHON_WITH_MATPLOTLIB = "quay.io/jupyter/scipy-notebook:2025-03-14"


def step(
    command: str,
    read: dict[str, str],
    write: dict[str, str],
    *,
    image: str = PYTHON,
    vcpus: float = 0.25,
    memory: int = 512,
    array: int | dict[str, list[str]] | None = None,
) -> EZBatchJob:
    """Return a job that reads and writes S3, each given as ``{source: destination}``; memory in MiB."""
    # A source that ends with a slash is a folder, copied with everything in it.
    mounts = S3Mounts(
        read=[S3Mount(source, path, recursive=source.endswith("/")) for source, path in read.items()],
        write=[S3Mount(path, target, recursive=path.endswith("/")) for path, target in write.items()],
    )
    return EZBatchJob(image, command, mounts=mounts, vcpus=vcpus, memory=memory, preloader=True, array=array)


def build(bucket: str = "keeling") -> EZBatchWorkflow:
    """Return the workflow, its data below ``s3://bucket/``."""
    s3 = f"s3://{bucket}"
    code = {f"{s3}/code/": "code/"}  # every job's scripts, from notebooks/keeling/
    record = {f"{s3}/record/monthly.csv": "in/monthly.csv"}
    trend = {f"{s3}/record/trend.csv": "in/trend.csv"}
    jobs, after = {}, {}

    # One file with 44 years of weekly averages becomes one table a year.
    jobs["ingest"] = step(
        "python3 code/ingest.py in/maunaloa_c.dat out",
        read={**code, f"{s3}/raw/maunaloa_c.dat": "in/maunaloa_c.dat"},
        write={"out/": f"{s3}/weekly/"},
    )

    # Fan out: every year is checked and averaged by month on its own.
    for year in YEARS:
        jobs[f"year-{year}"] = step(
            "python3 code/monthly.py in/weekly.csv out/monthly.csv",
            read={**code, f"{s3}/weekly/{year}.csv": "in/weekly.csv"},
            write={"out/monthly.csv": f"{s3}/monthly/{year}.csv"},
        )
        after[f"year-{year}"] = ["ingest"]

    # Fan in: 44 parents. AWS Batch allows 20; the plan puts joins between.
    jobs["merge"] = step(
        f"python3 code/merge.py in/monthly out/monthly.csv {len(YEARS)}",
        read={**code, f"{s3}/monthly/": "in/monthly/"},
        write={"out/monthly.csv": f"{s3}/record/monthly.csv"},
    )
    after["merge"] = [f"year-{year}" for year in YEARS]

    jobs["trend"] = step(
        "python3 code/trend.py in/monthly.csv out/trend.csv",
        read={**code, **record},
        write={"out/trend.csv": f"{s3}/record/trend.csv"},
    )
    after["trend"] = ["merge"]

    for decade in DECADES:
        jobs[f"season-{decade}"] = step(
            f"python3 code/season.py in/trend.csv out/season.csv {decade}",
            read={**code, **trend},
            write={"out/season.csv": f"{s3}/season/{decade}.csv"},
        )
        after[f"season-{decade}"] = ["trend"]

    # An array: one job, many children, each seeded by its index.
    jobs["bootstrap"] = step(
        "python3 code/bootstrap.py in/trend.csv out",
        read={**code, **trend},
        write={"out/": f"{s3}/bootstrap/"},
        array=REPLICATES,
    )
    after["bootstrap"] = ["trend"]

    # An array over a grid: every combination is a child, its values in the environment.
    jobs["sensitivity"] = step(
        "python3 code/sensitivity.py in/monthly.csv out",
        read={**code, **record},
        write={"out/": f"{s3}/sensitivity/"},
        array={"HALF_WIDTH": ["1.0", "1.5", "2.0", "3.0"], "HARMONICS": ["2", "3", "4"]},
    )
    after["sensitivity"] = ["merge"]

    jobs["growth"] = step(
        "python3 code/growth.py in/monthly.csv in/bootstrap in/sensitivity out",
        read={
            **code,
            **record,
            f"{s3}/bootstrap/": "in/bootstrap/",
            f"{s3}/sensitivity/": "in/sensitivity/",
        },
        write={"out/": f"{s3}/results/"},
    )
    after["growth"] = ["bootstrap", "sensitivity"]

    jobs["figure"] = step(
        "python3 code/figure.py in/trend.csv in/season in/results out/keeling.png",
        read={**code, **trend, f"{s3}/season/": "in/season/", f"{s3}/results/": "in/results/"},
        write={"out/keeling.png": f"{s3}/results/keeling.png"},
        image=PYTHON_WITH_MATPLOTLIB,
        vcpus=1,
        memory=2048,
    )
    after["figure"] = ["growth", *(f"season-{decade}" for decade in DECADES)]

    return EZBatchWorkflow("keeling", jobs, after)


def main() -> None:
    """Save the workflow."""
    parser = argparse.ArgumentParser(description="Save the Keeling workflow as JSON.")
    parser.add_argument("--bucket", default="keeling", help="the S3 bucket of code, data and results (keeling)")
    parser.add_argument("-o", "--output", default=HERE / "keeling.json", help="the file (keeling.json beside this one)")
    arguments = parser.parse_args()
    workflow = build(arguments.bucket)
    workflow.save(arguments.output)
    print(f"saved {len(workflow.jobs)} jobs in {arguments.output}")


if __name__ == "__main__":
    main()
