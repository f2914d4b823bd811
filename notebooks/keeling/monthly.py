"""Check one year's weekly averages and make monthly means of them: ``monthly.py WEEKLY MONTHLY``."""

from __future__ import annotations

import math
import sys

from common import dot, least_squares, read_table, write_table

OUTLIER = 4.0  # robust standard deviations from the year's own cycle
NEVER_LESS = 1.0  # ppm; a year with few weeks is fitted too well for its scatter to be the measure
ROUNDS = 3
FEWEST_DAYS = 8  # of air samples in a month, for its mean to count


def expected(weeks: list[dict]) -> list[float]:
    """Fit a straight line and two harmonics to a year, and return what they say for each week."""
    terms = []
    for week in weeks:
        angle = 2 * math.pi * week["time"]
        part = week["time"] % 1 - 0.5
        terms.append([1.0, part, math.sin(angle), math.cos(angle), math.sin(2 * angle), math.cos(2 * angle)])
    fit = least_squares(terms, [week["co2"] for week in weeks], [week["days"] for week in weeks])
    return [dot(fit, row) for row in terms]


def screen(weeks: list[dict]) -> tuple[list[dict], list[dict]]:
    """Return the weeks that agree with the year's cycle, and those that do not."""
    out = []
    for _ in range(ROUNDS):
        away = [abs(week["co2"] - value) for week, value in zip(weeks, expected(weeks), strict=True)]
        # The median is not moved by the outliers that are looked for; 1.4826 makes it a standard deviation.
        limit = max(OUTLIER * 1.4826 * sorted(away)[len(away) // 2], NEVER_LESS)
        bad = [week for week, distance in zip(weeks, away, strict=True) if distance > limit]
        if not bad:
            break
        out += bad
        weeks = [week for week, distance in zip(weeks, away, strict=True) if distance <= limit]
    return weeks, out


def main(weekly: str, monthly: str) -> None:
    """Screen the weeks, then average by month, a week counting by the days it rests on."""
    weeks, out = screen(read_table(weekly))
    months = {}
    for week in weeks:
        months.setdefault(week["date"][:7], []).append(week)
    rows = []
    for month, members in sorted(months.items()):
        days = math.fsum(week["days"] for week in members)
        if days < FEWEST_DAYS:
            print(f"{month}: no mean, only {days:.0f} days of samples")
            continue
        time, co2 = (math.fsum(week[name] * week["days"] for week in members) / days for name in ("time", "co2"))
        rows.append((month, f"{time:.5f}", f"{co2:.3f}", len(members), int(days)))
    write_table(monthly, ["month", "time", "co2", "weeks", "days"], rows)
    for week in out:
        print(f"{week['date']}: {week['co2']} ppm is off the year's cycle, left out")
    print(f"{len(rows)} monthly means from {len(weeks)} weeks, {len(out)} left out")


if __name__ == "__main__":
    main(*sys.argv[1:])
