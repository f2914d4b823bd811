"""Join the years' monthly means into one record: ``merge.py FOLDER RECORD YEARS``."""

from __future__ import annotations

import sys
from pathlib import Path

from common import read_table, write_table


def main(folder: str, record: str, years: str) -> None:
    """Join the files in order of time; a missing year is an error, for a record with a hole looks like one without."""
    files = sorted(Path(folder).glob("*.csv"))
    if len(files) != int(years):
        sys.exit(f"expected {years} years, found {len(files)} in {folder}")
    months = [month for file in files for month in read_table(file)]
    rows = [
        (month["month"], f"{month['time']:.5f}", f"{month['co2']:.3f}", int(month["weeks"]), int(month["days"]))
        for month in months
    ]
    write_table(record, ["month", "time", "co2", "weeks", "days"], rows)
    print(f"{len(rows)} monthly means, {rows[0][0]} to {rows[-1][0]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
