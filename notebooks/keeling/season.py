"""The mean seasonal cycle of one decade: ``season.py TREND SEASON DECADE``."""

from __future__ import annotations

import math
import sys

from common import DECADES, read_table, write_table


def main(trend: str, season: str, decade: str) -> None:
    """Average what is measured minus the trend, by calendar month."""
    start, end = DECADES[decade]
    months = {number: [] for number in range(1, 13)}
    for month in read_table(trend):
        if start <= int(month["month"][:4]) < end:
            months[int(month["month"][5:])].append(month["co2"] - month["trend"])
    means = {number: math.fsum(values) / len(values) for number, values in months.items()}
    write_table(season, ["month", "anomaly"], [(number, f"{mean:.4f}") for number, mean in means.items()])
    print(f"{decade}: {max(means.values()) - min(means.values()):.2f} ppm from trough to peak")


if __name__ == "__main__":
    main(*sys.argv[1:])
