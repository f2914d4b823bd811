"""Take the record apart into trend, season and residual: ``trend.py RECORD TREND``."""

from __future__ import annotations

import math
import sys
from itertools import pairwise

from common import Decomposition, read_table, write_table


def main(record: str, path: str) -> None:
    """Write, for each month, what was measured and its parts."""
    months = read_table(record)
    times, values, days = ([month[name] for month in months] for name in ("time", "co2", "days"))
    parts = Decomposition(times, values, days)
    trend, season = ([part(time) for time in times] for part in (parts.trend, parts.season))
    left = [value - a - b for value, a, b in zip(values, trend, season, strict=True)]
    names = ["month", "time", "co2", "days", "trend", "season", "residual"]
    rows = zip((month["month"] for month in months), times, values, days, trend, season, left, strict=True)
    write_table(path, names, [(row[0], f"{row[1]:.5f}", *(f"{value:.4f}" for value in row[2:])) for row in rows])
    spread = (math.fsum(value * value for value in left) / len(left)) ** 0.5
    lag = math.fsum(a * b for a, b in pairwise(left)) / math.fsum(value * value for value in left)
    print(f"trend from {trend[0]:.2f} ppm ({months[0]['month']}) to {trend[-1]:.2f} ppm ({months[-1]['month']})")
    print(f"residuals: standard deviation {spread:.3f} ppm, correlation from month to month {lag:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
