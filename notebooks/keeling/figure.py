"""Draw the Keeling curve with its season and its growth: ``figure.py TREND SEASON RESULTS PICTURE``."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from common import DECADES, PERIODS, read_table

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#767676"
GAP = 0.15  # years, between one and two months
CO2 = r"CO$_2$"
SOURCE = (
    "Data: C. D. Keeling and T. P. Whorf, Scripps Institution of Oceanography, weekly averages of continuous samples\n"
    "(CDIAC, September 2004). Band: 95 % interval from block bootstrap replicates, each a child of an array job."
)
STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


def with_gaps(months: list[dict]) -> tuple[list[float], list[float]]:
    """Return times and values, with a NaN where months are missing, so that no line bridges a gap."""
    times, values = [], []
    for month in months:
        if times and month["time"] - times[-1] > GAP:
            times.append(month["time"])
            values.append(math.nan)
        times.append(month["time"])
        values.append(month["co2"])
    return times, values


def draw_record(axes: plt.Axes, months: list[dict]) -> None:
    """Draw the monthly means and the trend."""
    axes.plot(*with_gaps(months), color=BLUE, linewidth=0.8, marker=".", markersize=2, label="monthly mean")
    times, trend = ([month[name] for month in months] for name in ("time", "trend"))
    axes.plot(times, trend, color=ORANGE, linewidth=1.6, label="trend, season removed")
    axes.set_ylabel(f"{CO2} (ppm)")
    axes.set_ylim(308, 378)
    axes.set_title(f"Atmospheric {CO2} at Mauna Loa Observatory, Hawaii", loc="left", fontweight="bold", pad=10)
    axes.legend(loc="upper left", borderaxespad=0.2)


def draw_season(axes: plt.Axes, folder: str) -> None:
    """Draw the mean seasonal cycle of the first and the last decade."""
    first, *_, last = DECADES
    for decade, colour, dashes in ((first, GREY, "--"), (last, GREEN, "-")):
        cycle = read_table(Path(folder) / f"{decade}.csv")
        numbers, anomalies = ([month[name] for month in cycle] for name in ("month", "anomaly"))
        swing = max(anomalies) - min(anomalies)
        axes.plot(numbers, anomalies, dashes, color=colour, linewidth=1.4, label=f"{decade}: {swing:.1f} ppm swing")
    axes.axhline(0, color="#BBBBBB", linewidth=0.6, zorder=0)
    axes.set_xticks(range(1, 13), "JFMAMJJASOND")
    axes.set_ylim(-4.2, 6.2)
    axes.set_yticks([-3, 0, 3])
    axes.grid(visible=False)
    axes.tick_params(labelsize=8)
    axes.set_title("Seasonal cycle (ppm)", fontsize=9, loc="left")
    axes.legend(fontsize=8, loc="upper right", borderaxespad=0.1, handlelength=1.6)


def draw_growth(axes: plt.Axes, folder: str) -> None:
    """Draw the growth of every year with its interval, and each decade's mean."""
    years = read_table(Path(folder) / "growth-by-year.csv")
    middles = [year["period"] + 0.5 for year in years]
    low, high, growth = ([year[name] for year in years] for name in ("low", "high", "growth"))
    axes.fill_between(middles, low, high, color=BLUE, alpha=0.25, linewidth=0, label="95 % interval")
    axes.plot(middles, growth, color=BLUE, linewidth=1.2, marker="o", markersize=3, label="1 January to 1 January")
    label = "mean of a decade"
    for row in read_table(Path(folder) / "growth-by-decade.csv"):
        if row["period"] not in DECADES:
            continue
        start, end = PERIODS[row["period"]]
        axes.plot([start, end], [row["growth"]] * 2, color=ORANGE, linewidth=2, label=label)
        axes.text((start + end) / 2, 0.08, f"{row['growth']:.2f}", color=ORANGE, ha="center", fontweight="bold")
        label = None
    axes.set_ylabel(f"{CO2} growth\n(ppm per year)")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("Year")
    axes.legend(loc="upper left", ncols=3, fontsize=8.5, borderaxespad=0.2, bbox_to_anchor=(0, 1.12))


def main(trend: str, season: str, results: str, picture: str) -> None:
    """Draw the record above its growth, the season as an inset."""
    with plt.rc_context(STYLE):
        figure, (record, growth) = plt.subplots(
            2, 1, sharex=True, figsize=(8, 7.6), height_ratios=[2, 1], layout="constrained"
        )
        draw_record(record, read_table(trend))
        draw_season(record.inset_axes([0.62, 0.08, 0.36, 0.36]), season)
        draw_growth(growth, results)
        growth.set_xlim(1957.5, 2003)
        figure.supxlabel(SOURCE, fontsize=7.5, color=GREY, x=0.01, ha="left")
        Path(picture).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(picture, dpi=150)
    print(f"drew {Path(picture).name}, {Path(picture).stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
