"""One bootstrap replicate of the growth rates: ``bootstrap.py TREND FOLDER``, one child of an array job."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from common import Decomposition, read_table, write_table

BLOCK = 12  # months drawn together: the residuals of neighbouring months are correlated


def main(trend: str, folder: str) -> None:
    """Add residuals in another order to the fitted record, take that apart again, and write its growth rates."""
    index = int(os.environ["AWS_BATCH_JOB_ARRAY_INDEX"])
    months = read_table(trend)
    draw = random.Random(index)  # noqa: S311 - a resampling seeded by the child's index, so that each run gives the same
    left = []
    while len(left) < len(months):
        start = draw.randrange(len(months) - BLOCK + 1)
        left += [month["residual"] for month in months[start : start + BLOCK]]
    # Whole blocks are a few months too many: zip drops those.
    values = [month["trend"] + month["season"] + value for month, value in zip(months, left, strict=False)]
    rates = Decomposition([month["time"] for month in months], values, [month["days"] for month in months]).growth()
    write_table(
        Path(folder) / f"replicate-{index:03d}.csv",
        ["period", "growth"],
        [(name, f"{rate:.5f}") for name, rate in rates.items()],
    )
    print(f"replicate {index}: {rates['1959-2001']:.3f} ppm a year over the whole record")


if __name__ == "__main__":
    main(*sys.argv[1:])
