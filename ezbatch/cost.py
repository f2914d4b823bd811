"""What jobs cost on Fargate, before and after, by a dated price table. Pure; all amounts in US dollars.

Fargate bills by the second from the image's pull to the container's stop, one minute at least. What a report knows
begins when the container runs, so a sum of the past is a little less than the bill.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime

from ezbatch.backend import JobReport
from ezbatch.planning import Plan, PlannedDefinition, PlannedJob, count_text, duration_text, size_text

__all__ = ["PRICES", "Estimate", "EstimateRow", "Hourly", "Prices", "Spent", "SpentRow", "estimate", "hourly", "spent"]

#: What every Fargate task has without paying for it, in GiB.
FREE_STORAGE = 20
#: The least that is billed, in seconds.
MINIMUM = 60


@dataclasses.dataclass(frozen=True)
class Prices:
    """Fargate's prices in a Region, an hour.

    Parameters
    ----------
    date : str
        When they were looked up.
    region : str
        Where they hold.
    vcpu, memory : mapping of str to float
        By architecture: of a vCPU, and of a GiB of memory.
    storage : float
        Of a GiB of storage above 20.
    """

    date: str
    region: str
    vcpu: Mapping[str, float]
    memory: Mapping[str, float]
    storage: float


#: Linux, On-Demand.
PRICES = Prices(
    date="2026-03",
    region="us-east-1",
    vcpu={"X86_64": 0.04048, "ARM64": 0.03238},
    memory={"X86_64": 0.004445, "ARM64": 0.00356},
    storage=0.000111,
)


@dataclasses.dataclass(frozen=True)
class Hourly:
    """What an hour of a job costs, by what it pays for."""

    vcpu: float
    memory: float
    storage: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.vcpu + self.memory + self.storage

    def of(self, seconds: float) -> float:
        """Return what so many seconds cost, a minute at least."""
        return self.total * max(seconds, MINIMUM) / 3600


def hourly(
    vcpus: float,
    memory: int,
    storage_size: int | None = None,
    architecture: str | None = None,
    prices: Prices = PRICES,
) -> Hourly:
    """Return what an hour of a job of a size costs.

    Parameters
    ----------
    vcpus : float
        Number of vCPUs.
    memory : int
        MiB.
    storage_size : int, optional
        GiB; the first 20 are free.
    architecture : str, optional
        ``X86_64`` (the default) or ``ARM64``.
    prices : Prices
        The table.
    """
    kind = architecture or "X86_64"
    extra = max(0, (storage_size or 0) - FREE_STORAGE)
    return Hourly(vcpus * prices.vcpu[kind], memory / 1024 * prices.memory[kind], extra * prices.storage)


def _hourly_of(job: PlannedJob, definition: PlannedDefinition, prices: Prices) -> Hourly:
    return hourly(job.vcpus, job.memory, definition.storage_size, definition.architecture, prices)


def _children(job: PlannedJob) -> int:
    return len(job.indices) if job.indices is not None else job.array_size or 1


@dataclasses.dataclass(frozen=True)
class EstimateRow:
    """What one job of a plan may cost.

    Parameters
    ----------
    name : str
        The job, or ``joins`` for all of them together.
    count : int
        How many times it runs: an array's children.
    size : str
        Its size in words.
    hourly : Hourly
        Of one.
    at_least : float
        If every child succeeds at once, or by what was observed before.
    at_most : float, optional
        If every attempt runs until its timeout, or by what was observed before; None where nothing ends it.
    observed : bool
        Whether earlier runs stand behind the numbers.
    """

    name: str
    count: int
    size: str
    hourly: Hourly
    at_least: float
    at_most: float | None
    observed: bool = False


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a plan may cost.

    Parameters
    ----------
    rows : tuple of EstimateRow
        The jobs in the plan's order, joins in one row at the end.
    date, region : str
        Of the price table.
    notes : tuple of str
        What is left out or approximate.
    """

    rows: tuple[EstimateRow, ...]
    date: str
    region: str
    notes: tuple[str, ...] = ()

    @property
    def at_least(self) -> float:
        """The sum of the rows."""
        return sum(row.at_least for row in self.rows)

    @property
    def at_most(self) -> float | None:
        """The sum of the rows, or None where one has no end."""
        found = [row.at_most for row in self.rows if row.at_most is not None]
        return sum(found) if len(found) == len(self.rows) else None

    @property
    def endless(self) -> tuple[str, ...]:
        """The jobs that nothing ends: no timeout, and no earlier run to go by."""
        return tuple(row.name for row in self.rows if row.at_most is None)

    @property
    def summary(self) -> str:
        """What it may cost in a line, with the date of the prices."""
        if self.at_most is None:
            endless = f"{self.endless[0]} has" if len(self.endless) == 1 else f"{len(self.endless):,} jobs have"
            text = f"{dollars(self.at_least)} or more, without a limit: {endless} no timeout"
        else:
            text = f"{dollars(self.at_least)} to {dollars(self.at_most)}"
        return f"{text} (Fargate On-Demand, {self.region}, {self.date})"

    def __str__(self) -> str:
        table = [("job", "times", "size", "an hour, each", "at least", "at most")]
        for row in self.rows:
            most = limit(row.at_most)
            table.append((row.name, str(row.count), row.size, dollars(row.hourly.total), dollars(row.at_least), most))
        table.append(("all", "", "", "", dollars(self.at_least), limit(self.at_most)))
        notes = [f"Prices: Fargate On-Demand, {self.region}, {self.date}", *self.notes]
        return "\n".join([*_table(table, words=(0, 2)), "", *(f"{note}." for note in notes)])


def estimate(plan: Plan, history: Mapping[str, Sequence[float]] | None = None, prices: Prices = PRICES) -> Estimate:
    """Return what a plan may cost on Fargate.

    Parameters
    ----------
    plan : Plan
        The plan, joins included.
    history : mapping of str to sequence of float, optional
        For a job's name, how many seconds it took in earlier runs.
    prices : Prices
        The table.
    """
    rows = []
    joins: list[tuple[PlannedJob, Hourly]] = []
    approximate = False
    for job in plan.jobs:
        definition = plan.definition_of(job)
        approximate = approximate or definition.platform != "FARGATE"
        each = _hourly_of(job, definition, prices)
        if job.join:
            joins.append((job, each))
            continue
        count = _children(job)
        observed = (history or {}).get(job.name, ())
        least = each.of(min(observed, default=0)) * count
        if observed:
            most: float | None = each.of(max(observed)) * count
        else:
            most = None if job.timeout is None else each.of(job.timeout) * job.attempts * count
        size = size_text(job.vcpus, job.memory, job.gpus)
        rows.append(EstimateRow(job.name, count, size, each, least, most, bool(observed)))
    if joins:
        # A join does nothing, so it is billed for the least there is.
        total = sum(each.of(0) for _job, each in joins)
        first, each = joins[0]
        rows.append(EstimateRow("joins", len(joins), size_text(first.vcpus, first.memory), each, total, total))
    notes = ["Left out: data transfer, S3, logs, taxes; the image's pull is billed too"]
    if approximate:
        notes.append("EC2 jobs are priced like Fargate ones of their size: approximate")
    if any(row.observed for row in rows):
        notes.append(
            "Where a job has succeeded before, by what it took then; otherwise a minute to every attempt's timeout"
        )
    endless = [row.name for row in rows if row.at_most is None]
    if endless:
        more = f" and {len(endless) - 3} more" if len(endless) > 3 else ""  # noqa: PLR2004 - what fits a line
        notes.append(f"No limit for {', '.join(endless[:3])}{more}: set a timeout")
    if plan.local:
        notes.append("On this machine nothing is billed; this is what the same costs on AWS")
    return Estimate(tuple(rows), prices.date, prices.region, tuple(notes))


@dataclasses.dataclass(frozen=True)
class SpentRow:
    """What one job has cost so far.

    Parameters
    ----------
    name : str
        The job.
    seconds : float
        How long its attempts ran, together.
    amount : float
        US dollars.
    tags : mapping of str to str
        The job's.
    """

    name: str
    seconds: float
    amount: float
    tags: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Spent:
    """What a run has cost so far.

    Parameters
    ----------
    rows : tuple of SpentRow
        The jobs that have run.
    date, region : str
        Of the price table.
    notes : tuple of str
        What is left out or approximate.
    """

    rows: tuple[SpentRow, ...]
    date: str
    region: str
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        """The sum of the rows."""
        return sum(row.amount for row in self.rows)

    def __str__(self) -> str:
        table = [("job", "ran", "cost")]
        table += [(row.name, duration_text(row.seconds), dollars(row.amount)) for row in self.rows]
        table.append(("all", duration_text(sum(row.seconds for row in self.rows)), dollars(self.total)))
        notes = [f"Prices: Fargate On-Demand, {self.region}, {self.date}", *self.notes]
        return "\n".join([*_table(table), "", *(f"{note}." for note in notes)])


#: When an attempt of a job, or a child of an array, began and ended.
Span = tuple[datetime, datetime | None]


def spent(
    plan: Plan,
    reports: Mapping[str, JobReport],
    now: datetime,
    children: Mapping[str, Sequence[Span]] | None = None,
    prices: Prices = PRICES,
) -> Spent:
    """Return what a run has cost so far, from when its attempts began and ended.

    Parameters
    ----------
    plan : Plan
        The run's plan.
    reports : mapping of str to JobReport
        By name, joins included.
    now : datetime
        The end of what still runs.
    children : mapping of str to sequence of spans, optional
        For an array's name, its children's times; an array without them is left out, and the notes say so.
    prices : Prices
        The table.
    """
    rows = []
    unknown = []
    approximate = False
    for job in plan.jobs:
        report = reports.get(job.name)
        if report is None:
            continue
        spans: list[Span] = [(a.started, a.stopped) for a in report.attempts if a.started is not None]
        if report.children is not None:
            spans = list((children or {}).get(job.name, ()))
            if not spans and report.state.terminal:
                unknown.append(job.name)
        if not spans:
            continue
        definition = plan.definition_of(job)
        approximate = approximate or definition.platform != "FARGATE"
        each = _hourly_of(job, definition, prices)
        took = [((stop or now) - start).total_seconds() for start, stop in spans]
        rows.append(SpentRow(job.name, sum(took), sum(each.of(seconds) for seconds in took), job.tags))
    notes = [
        "A little less than the bill: the image's pull counts there too",
        "Left out: data transfer, S3, logs, taxes",
    ]
    if approximate:
        notes.append("EC2 jobs are priced like Fargate ones of their size: approximate")
    if unknown:
        notes.append(f"Left out, since their children's times are not known any more: {', '.join(unknown)}")
    if plan.local:
        notes.append(f"On this machine nothing was billed; on AWS {count_text(len(rows), 'job')} would have cost this")
    return Spent(tuple(rows), prices.date, prices.region, tuple(notes))


def dollars(amount: float) -> str:
    """Return an amount as people read it: cents where there are some, more digits where there are none."""
    if amount >= 0.995 or amount == 0:  # noqa: PLR2004 - from here on a cent is a small part
        return f"${amount:,.2f}"
    return f"${amount:.3f}" if amount >= 0.0095 else f"${amount:.2g}"  # noqa: PLR2004 - about a cent


def limit(amount: float | None) -> str:
    """Return what something costs at most in words; None has no limit."""
    return "no limit" if amount is None else dollars(amount)


def _table(rows: Sequence[tuple[str, ...]], words: Sequence[int] = (0,)) -> list[str]:
    """Return a table's lines; the columns that hold words are aligned on the left, numbers on the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    aligned = (
        (c.ljust(w) if at in words else c.rjust(w) for at, (c, w) in enumerate(zip(r, widths, strict=True)))
        for r in rows
    )
    return ["  ".join(cells).rstrip() for cells in aligned]
