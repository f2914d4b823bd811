"""Split the archive's file into one table per year: ``ingest.py ARCHIVE FOLDER``."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

from common import write_table

CENTURY = 50  # the archive writes two digits; its record begins in 1958
PLAUSIBLE = (280.0, 450.0)  # ppm


def week(line: str) -> tuple[date, int, int, float]:
    """Return one weekly average: its date, how many days it rests on, its flag and its ppm."""
    _station, stamp, days, flag, co2 = line.split()
    year = int(stamp[:2])
    day = date(year + (1900 if year >= CENTURY else 2000), int(stamp[2:4]), int(stamp[4:]))
    if not PLAUSIBLE[0] < float(co2) < PLAUSIBLE[1]:
        raise ValueError(f"{co2} ppm is not plausible")
    return day, int(days), int(flag), float(co2)


def main(archive: str, folder: str) -> None:
    """Read every line that begins with the station's code; refuse the ones that cannot be right, and say so."""
    years, flagged, refused = {}, 0, []
    for number, line in enumerate(Path(archive).read_text().splitlines(), 1):
        if not line.startswith("MLO "):
            continue
        try:
            day, days, flag, co2 = week(line)
        except ValueError as error:
            refused.append(f"line {number}: {error}")
            continue
        if flag:
            flagged += 1
            continue
        start = date(day.year, 1, 1)
        decimal = day.year + ((day - start).days + 0.5) / (date(day.year + 1, 1, 1) - start).days
        years.setdefault(day.year, []).append((day.isoformat(), f"{decimal:.5f}", days, f"{co2:.2f}"))
    if not years:
        sys.exit(f"{archive}: no line begins with 'MLO '; is this the archive's file?")
    for year, weeks in sorted(years.items()):
        write_table(Path(folder) / f"{year}.csv", ["date", "time", "days", "co2"], weeks)
    print(f"{sum(map(len, years.values()))} weekly averages of {len(years)} years, {min(years)} to {max(years)}")
    print(f"left out: {flagged} flagged by the archive, {len(refused)} unreadable")
    for reason in refused:
        print(" ", reason)


if __name__ == "__main__":
    main(*sys.argv[1:])
