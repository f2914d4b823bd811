"""The growth rates under another choice of method: ``sensitivity.py RECORD FOLDER``, one child of an array job.

``HALF_WIDTH`` (years) and ``HARMONICS`` come from the entry of the array.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from common import Decomposition, read_table, write_table


def main(record: str, folder: str) -> None:
    """Take the record apart with this child's parameters and write its growth rates."""
    half_width, harmonics = float(os.environ["HALF_WIDTH"]), int(os.environ["HARMONICS"])
    months = read_table(record)
    times, values, days = ([month[name] for month in months] for name in ("time", "co2", "days"))
    rates = Decomposition(times, values, days, harmonics, half_width).growth()
    write_table(
        Path(folder) / f"width-{half_width}-harmonics-{harmonics}.csv",
        ["period", "growth"],
        [(name, f"{rate:.5f}") for name, rate in rates.items()],
    )
    print(f"{half_width} years, {harmonics} harmonics: {rates['1959-2001']:.3f} ppm a year over the whole record")


if __name__ == "__main__":
    main(*sys.argv[1:])
