"""What jobs cost on Fargate, before and after, by a dated price table. Pure; all amounts in US dollars.

Fargate bills by the second from the image's pull to the container's stop, one minute at least. What a report knows
begins when the container runs, so a sum of the past is a little less than the bill.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ezbatch.backend import JobReport
from ezbatch.errors import BackendError, Problem
from ezbatch.planning import Plan, PlannedDefinition, PlannedJob, count_text, duration_text, size_text

__all__ = [
    "PRICES",
    "Estimate",
    "EstimateRow",
    "Hourly",
    "Prices",
    "Spent",
    "SpentRow",
    "about",
    "estimate",
    "hourly",
    "over_limit",
    "prices_from",
    "spent",
]

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


#: How AWS's price list calls what is billed, at the end of a name that begins with the Region's.
_USAGE = {
    "Fargate-vCPU-Hours:perCPU": ("vcpu", "X86_64"),
    "Fargate-ARM-vCPU-Hours:perCPU": ("vcpu", "ARM64"),
    "Fargate-GB-Hours": ("memory", "X86_64"),
    "Fargate-ARM-GB-Hours": ("memory", "ARM64"),
    "Fargate-EphemeralStorage-GB-Hours": ("storage", ""),
}


def prices_from(listed: Iterable[str], region: str) -> Prices:
    """Return Fargate's prices by what AWS's price list says.

    Parameters
    ----------
    listed : iterable of str
        The products of the service AmazonECS in a Region, each as the JSON in which the list has it.
    region : str
        The Region.

    Raises
    ------
    BackendError
        If a price is missing.
    """
    found: dict[tuple[str, str], float] = {}
    dates = []
    for text in listed:
        item: dict[str, Any] = json.loads(text)
        usage = str(item["product"]["attributes"].get("usagetype", ""))
        key = next((key for end, key in _USAGE.items() if usage.endswith(end)), None)
        if key is None or "SpotUsage:" in usage:
            continue
        for term in item.get("terms", {}).get("OnDemand", {}).values():
            for dimension in term["priceDimensions"].values():
                found[key] = float(dimension["pricePerUnit"]["USD"])
                dates.append(str(item.get("publicationDate", ""))[:10])
    missing = [end for end, key in _USAGE.items() if key not in found]
    if missing:
        raise BackendError(
            f"AWS's price list has no {', '.join(missing)} for {region}. Go by the table: leave out what asks AWS."
        )
    vcpu = {kind: amount for (what, kind), amount in found.items() if what == "vcpu"}
    memory = {kind: amount for (what, kind), amount in found.items() if what == "memory"}
    return Prices(max(dates), region, vcpu, memory, found["storage", ""])


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
    approximate : bool
        Whether it is an EC2 job, priced like a Fargate one of its size.
    """

    name: str
    count: int
    size: str
    hourly: Hourly
    at_least: float
    at_most: float | None
    observed: bool = False
    approximate: bool = False


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
    def approximate(self) -> bool:
        """Whether EC2 jobs are among them."""
        return any(row.approximate for row in self.rows)

    @property
    def endless(self) -> tuple[str, ...]:
        """The jobs that nothing ends: no timeout, and no earlier run to go by."""
        return tuple(row.name for row in self.rows if row.at_most is None)

    @property
    def summary(self) -> str:
        """What it may cost in a line, with the date of the prices."""
        least, most = (about(amount, self.approximate) for amount in (self.at_least, self.at_most))
        if self.at_most is None:
            endless = f"{self.endless[0]} has" if len(self.endless) == 1 else f"{len(self.endless):,} jobs have"
            text = f"{least} or more, without a limit: {endless} no timeout"
        else:
            text = f"{least} to {most}"
        return f"{text} (Fargate On-Demand, {self.region}, {self.date})"

    def __str__(self) -> str:
        table: list[tuple[str, ...]] = [("job", "times", "size", "an hour, each", "at least", "at most")]
        for row in self.rows:
            amounts = [about(amount, row.approximate) for amount in (row.hourly.total, row.at_least, row.at_most)]
            table.append((row.name, str(row.count), row.size, *amounts))
        sums = [about(amount, self.approximate) for amount in (self.at_least, self.at_most)]
        table.append(("all", "", "", "", *sums))
        notes = [_label(self.date, self.region), *self.notes]
        return "\n".join([*_table(table, words=(0, 2)), "", *(f"{note}." for note in notes)])

    def to_dict(self) -> dict[str, Any]:
        """Return it as data, sums included."""
        return {**dataclasses.asdict(self), "at_least": self.at_least, "at_most": self.at_most}


def about(amount: float | None, approximate: bool) -> str:
    """Return an amount in words: no amount has no limit, and one that is approximate says so."""
    return "no limit" if amount is None else f"{'~' if approximate else ''}{dollars(amount)}"


def _label(date: str, region: str) -> str:
    # Which of the two a queue gives is its compute environments' matter, and Spot's price changes from day to day.
    return f"Prices: Fargate On-Demand, {region}, {date}; on Fargate Spot up to 70 % less"


def _ec2_notes(definitions: Iterable[PlannedDefinition], jobs: Iterable[PlannedJob]) -> list[str]:
    """Return what has to be said where jobs are EC2's, which bills instances and not jobs."""
    notes = []
    if any(definition.platform != "FARGATE" for definition in definitions):
        notes.append("EC2 jobs are priced like Fargate ones of their size: approximate (~)")
    if any(job.gpus for job in jobs):
        notes.append("GPUs are left out, and are most of what such a job costs")
    return notes


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
    for job in plan.jobs:
        definition = plan.definition_of(job)
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
        approximate = definition.platform != "FARGATE"
        rows.append(EstimateRow(job.name, count, size, each, least, most, bool(observed), approximate))
    if joins:
        # A join does nothing, so it is billed for the least there is.
        total = sum(each.of(0) for _job, each in joins)
        first, each = joins[0]
        rows.append(EstimateRow("joins", len(joins), size_text(first.vcpus, first.memory), each, total, total))
    notes = ["Left out: data transfer, S3, logs, taxes; the image's pull is billed too"]
    notes += _ec2_notes(plan.definitions, plan.jobs)
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


def over_limit(plan: Plan, max_cost: float | None, prices: Prices = PRICES) -> list[Problem]:
    """Return why a plan may cost more than a person wants to spend; nothing where it cannot.

    Parameters
    ----------
    plan : Plan
        The plan. One for this machine costs nothing.
    max_cost : float, optional
        US dollars; None is no limit.
    prices : Prices
        The table.
    """
    if max_cost is None:
        return []
    if math.isnan(max_cost) or max_cost < 0:
        return [Problem("max_cost", f"{max_cost:g} is no amount to spend", "Give US dollars, 0 or more")]
    if plan.local:
        return []
    gpus = [job.name for job in plan.jobs if job.gpus]
    if gpus:
        what = f"what the GPUs of {', '.join(gpus[:5])} cost is not known here"
        return [Problem("max_cost", what, "Leave max_cost out for them, and look at EC2's price list")]
    # Only timeouts are a promise; what was observed before may be exceeded.
    found = estimate(plan, prices=prices)
    if found.at_most is None:
        what = f"nothing limits the cost of {', '.join(found.endless[:5])}"
        return [Problem("max_cost", what, "Set a timeout for them")]
    if found.at_most > max_cost:
        what = f"up to {dollars(found.at_most)} if every attempt ran until its timeout, more than {dollars(max_cost)}"
        return [Problem("max_cost", what, "Lower timeouts, retries or sizes, or raise max_cost")]
    return []


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
    approximate : bool
        Whether it is an EC2 job, priced like a Fargate one of its size.
    """

    name: str
    seconds: float
    amount: float
    tags: Mapping[str, str]
    approximate: bool = False


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
    missing : tuple of str
        Arrays that are left out because the times of their children could not be looked up.
    unreachable : bool
        Whether that was because AWS did not answer.
    """

    rows: tuple[SpentRow, ...]
    date: str
    region: str
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unreachable: bool = False

    @property
    def total(self) -> float:
        """The sum of the rows."""
        return sum(row.amount for row in self.rows)

    def __str__(self) -> str:
        table = [("job", "ran", "cost")]
        table += [(r.name, duration_text(r.seconds), about(r.amount, r.approximate)) for r in self.rows]
        total = about(self.total, any(row.approximate for row in self.rows))
        table.append(("all", duration_text(sum(row.seconds for row in self.rows)), total))
        notes = [_label(self.date, self.region), *self.notes]
        return "\n".join([*_table(table), "", *(f"{note}." for note in notes)])

    def to_dict(self) -> dict[str, Any]:
        """Return it as data, the sum included."""
        return {**dataclasses.asdict(self), "total": self.total}


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
        each = _hourly_of(job, definition, prices)
        took = [((stop or now) - start).total_seconds() for start, stop in spans]
        amount = sum(each.of(seconds) for seconds in took)
        rows.append(SpentRow(job.name, sum(took), amount, job.tags, definition.platform != "FARGATE"))
    notes = [
        "A little less than the bill: the image's pull counts there too",
        "Left out: data transfer, S3, logs, taxes",
    ]
    notes += _ec2_notes(plan.definitions, plan.jobs)
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


def _table(rows: Sequence[tuple[str, ...]], words: Sequence[int] = (0,)) -> list[str]:
    """Return a table's lines; the columns that hold words are aligned on the left, numbers on the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    aligned = (
        (c.ljust(w) if at in words else c.rjust(w) for at, (c, w) in enumerate(zip(r, widths, strict=True)))
        for r in rows
    )
    return ["  ".join(cells).rstrip() for cells in aligned]
