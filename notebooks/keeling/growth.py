"""Collect the arrays into the tables of growth rates: ``growth.py RECORD BOOTSTRAP SENSITIVITY FOLDER``."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from common import PERIODS, Decomposition, read_table, write_table

NORMAL = 1.96  # standard errors to either side hold 95 %


def gather(folder: str) -> dict[str, list[float]]:
    """Return each period's growth rates over all files of a folder, in order of size."""
    found = {}
    for file in sorted(Path(folder).glob("*.csv")):
        for row in read_table(file):
            # read_table makes a number of a year; a period's name stays text.
            name = row["period"] if isinstance(row["period"], str) else str(int(row["period"]))
            found.setdefault(name, []).append(row["growth"])
    return {name: sorted(rates) for name, rates in found.items()}


def standard_error(draws: list[float]) -> float:
    """Return the standard deviation of the replicates, which is the bootstrap's standard error."""
    mean = math.fsum(draws) / len(draws)
    return (math.fsum((draw - mean) ** 2 for draw in draws) / (len(draws) - 1)) ** 0.5


def main(record: str, bootstrap: str, sensitivity: str, folder: str) -> None:
    """Write the rate of every year and of every period with its 95 % interval, and print the latter."""
    months = read_table(record)
    rates = Decomposition(*([month[name] for month in months] for name in ("time", "co2", "days"))).growth()
    draws, methods = gather(bootstrap), gather(sensitivity)
    rows = []
    for name, rate in rates.items():
        half = NORMAL * standard_error(draws[name])
        rows.append((name, f"{rate:.3f}", f"{rate - half:.3f}", f"{rate + half:.3f}"))
    names = ["period", "growth", "low", "high"]
    write_table(Path(folder) / "growth-by-year.csv", names, [row for row in rows if row[0] not in PERIODS])
    decades = [(*row, f"{methods[row[0]][0]:.3f}", f"{methods[row[0]][-1]:.3f}") for row in rows if row[0] in PERIODS]
    write_table(Path(folder) / "growth-by-decade.csv", [*names, "lowest_method", "highest_method"], decades)
    replicates, choices = (len(found["1959-2001"]) for found in (draws, methods))
    lines = [
        "Growth rate of atmospheric CO2 at Mauna Loa, ppm a year",
        "",
        "| period    | growth | 95 % interval  | other methods  |",
        "|-----------|-------:|:--------------:|:--------------:|",
    ]
    for name, rate, low, high, lowest, highest in decades:
        lines.append(f"| {name:<9} | {rate:>6} | {low} to {high} | {lowest} to {highest} |")
    lines += [
        "",
        f"95 % interval: 1.96 standard errors to either side, from {replicates} block bootstrap replicates.",
        f"Other methods: lowest and highest of {choices} choices of smoother width and harmonics.",
    ]
    text = "\n".join(lines) + "\n"
    (Path(folder) / "growth-by-decade.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main(*sys.argv[1:])
