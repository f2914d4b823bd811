"""What the steps of the Keeling pipeline share: small tables, and the decomposition into trend and season.

Only the standard library, so that a job starts in a few hundredths of a second on any Python image. Sums are
``math.fsum``'s: from Python 3.12 on ``sum`` rounds in another way, and the same data should give the same table.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_left, bisect_right
from pathlib import Path

TYPE_CHECKING = False  # a name that type checkers know; importing it from typing would slow every job's start
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FIRST_FULL_YEAR, LAST_FULL_YEAR = 1959, 2001
DECADES = {"1960s": (1960, 1970), "1970s": (1970, 1980), "1980s": (1980, 1990), "1990s": (1990, 2000)}
PERIODS = {**DECADES, "1959-2001": (FIRST_FULL_YEAR, LAST_FULL_YEAR + 1)}

# Thoning, Tans and Komhyr (1989) describe a record by a low polynomial and four harmonics, then smooth what is left.
HARMONICS = 4
HALF_WIDTH = 1.2  # years on either side that the smoother looks at: keeps El Niño, drops single months
EPOCH = 1980.0  # the polynomial is in decades from here, which keeps its matrix well-conditioned
POLYNOMIAL = 4  # terms: a cubic


def read_table(path: str | Path) -> list[dict]:
    """Return the rows of a CSV file, numbers as floats."""
    with Path(path).open(newline="") as file:
        return [{name: _number(text) for name, text in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def write_table(path: str | Path, names: list[str], rows: Iterable[Sequence]) -> None:
    """Write rows of ready-made strings and numbers as a CSV file, its folder made if need be."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)


def least_squares(rows: list[list[float]], values: list[float], weights: list[float]) -> list[float]:
    """Return the coefficients that fit ``values`` best, by the normal equations and Cholesky."""
    size = len(rows[0])
    matrix = [[0.0] * size for _ in range(size)]
    right = [0.0] * size
    for row, value, weight in zip(rows, values, weights, strict=True):
        for i, left in enumerate(row):
            scaled = weight * left
            right[i] += scaled * value
            line = matrix[i]
            for j in range(i + 1):
                line[j] += scaled * row[j]
    for i in range(size):
        for j in range(i + 1):
            rest = matrix[i][j] - math.fsum(matrix[i][k] * matrix[j][k] for k in range(j))
            matrix[i][j] = math.sqrt(rest) if i == j else rest / matrix[j][j]
    for i in range(size):
        right[i] = (right[i] - math.fsum(matrix[i][k] * right[k] for k in range(i))) / matrix[i][i]
    for i in reversed(range(size)):
        right[i] = (right[i] - math.fsum(matrix[k][i] * right[k] for k in range(i + 1, size))) / matrix[i][i]
    return right


def dot(left: list[float], right: list[float]) -> float:
    """Return the sum of the products."""
    return math.fsum(a * b for a, b in zip(left, right, strict=True))


class Decomposition:
    """CO2 as a trend, a seasonal cycle whose amplitude may change linearly, and a residual.

    Parameters
    ----------
    times, values, weights : list of float
        Decimal years in order, ppm, and how much each value counts.
    harmonics : int
        Harmonics of the year in the seasonal cycle.
    half_width : float
        Half-width of the trend's smoother in years.
    """

    def __init__(
        self,
        times: list[float],
        values: list[float],
        weights: list[float],
        harmonics: int = HARMONICS,
        half_width: float = HALF_WIDTH,
    ) -> None:
        self.times, self.weights, self.half_width, self.harmonics = times, weights, half_width, harmonics
        rows = [self._terms(time) for time in times]
        self.coefficients = least_squares(rows, values, weights)
        self._left = [value - dot(self.coefficients, row) for value, row in zip(values, rows, strict=True)]

    def _terms(self, time: float) -> list[float]:
        decades = (time - EPOCH) / 10
        terms = [decades**power for power in range(POLYNOMIAL)]
        for k in range(1, self.harmonics + 1):
            sine, cosine = math.sin(2 * math.pi * k * time), math.cos(2 * math.pi * k * time)
            terms += [sine, cosine, decades * sine, decades * cosine]
        return terms

    def season(self, time: float) -> float:
        """Return the seasonal part at a time, in ppm."""
        return dot(self.coefficients[POLYNOMIAL:], self._terms(time)[POLYNOMIAL:])

    def trend(self, time: float) -> float:
        """Return the trend at a time, in ppm: the polynomial plus a local straight line through what it leaves."""
        first = bisect_left(self.times, time - self.half_width)
        last = bisect_right(self.times, time + self.half_width)
        s0 = s1 = s2 = t0 = t1 = 0.0
        for index in range(first, last):
            distance = self.times[index] - time
            weight = self.weights[index] * (1 - abs(distance / self.half_width) ** 3) ** 3
            s0 += weight
            s1 += weight * distance
            s2 += weight * distance * distance
            t0 += weight * self._left[index]
            t1 += weight * distance * self._left[index]
        smooth = (s2 * t0 - s1 * t1) / (s0 * s2 - s1 * s1)
        return dot(self.coefficients[:POLYNOMIAL], self._terms(time)[:POLYNOMIAL]) + smooth

    def growth(self) -> dict[str, float]:
        """Return the growth in ppm a year of each full year and of each period, by its name."""
        ends = {year: self.trend(year) for year in range(FIRST_FULL_YEAR, LAST_FULL_YEAR + 2)}
        rates = {str(year): ends[year + 1] - ends[year] for year in range(FIRST_FULL_YEAR, LAST_FULL_YEAR + 1)}
        for name, (start, end) in PERIODS.items():
            rates[name] = (ends[end] - ends[start]) / (end - start)
        return rates
