"""Cost as far as the ledger knows it: of a workflow before it runs, by earlier runs; of all runs, by tag."""

from __future__ import annotations

import logging

from ezbatch.cost import PRICES, Estimate, Prices, estimate, prices_from
from ezbatch.ledger import Ledger
from ezbatch.planning import LOCAL, plan
from ezbatch.run import runs
from ezbatch.settings import Settings
from ezbatch.workflow import EZBatchWorkflow

__all__ = ["current_prices", "estimated", "spent_by_tag"]

log = logging.getLogger(__name__)


def current_prices(*, settings: Settings | None = None) -> Prices:
    """Ask AWS's price list what Fargate costs today in the Region of the settings.

    Parameters
    ----------
    settings : Settings, optional
        Instead of those that are set.

    Raises
    ------
    BackendError
        If AWS cannot be asked, or does not list what Fargate bills.
    """
    from ezbatch.aws.prices import listed_prices

    region, listed = listed_prices(settings or Settings.load())
    return prices_from(listed, region)


def estimated(
    workflow: EZBatchWorkflow,
    queue: str | None = None,
    *,
    prices: Prices = PRICES,
    settings: Settings | None = None,
) -> Estimate:
    """Return what a workflow may cost, by the times that its jobs took in earlier runs where there are some.

    Parameters
    ----------
    workflow : EZBatchWorkflow
        The workflow.
    queue : str, optional
        As for :func:`submit`.
    prices : Prices
        The table.
    settings : Settings, optional
        Instead of those that are set.
    """
    settings = settings or Settings.load()
    made = plan(workflow, queue or settings.queue)
    return estimate(made, Ledger(settings.state_directory).history(workflow.name), prices)


def spent_by_tag(key: str, *, prices: Prices = PRICES, settings: Settings | None = None) -> dict[str, float]:
    """Return what the runs in the ledger that went to AWS have cost, by the value of a tag, in US dollars.

    Parameters
    ----------
    key : str
        The tag's key. Jobs without it are counted under an empty value. Arrays are left out, with a warning in the log,
        where AWS cannot be asked: it alone knows when their children ran.
    prices : Prices
        The table.
    settings : Settings, optional
        Instead of those that are set.
    """
    totals: dict[str, float] = {}
    incomplete: dict[str, str] = {}
    reachable = True
    for run in runs(settings=settings):
        if run.queue == LOCAL:
            continue
        found = run.cost(prices, look=reachable)
        reachable = reachable and not found.unreachable
        if found.missing:
            incomplete[run.id] = found.notes[-1]
        for row in found.rows:
            value = row.tags.get(key, "")
            totals[value] = totals.get(value, 0.0) + row.amount
    if incomplete:
        first, note = next(iter(incomplete.items()))
        more = f" and {len(incomplete) - 1} more runs" if len(incomplete) > 1 else ""
        log.warning("the sums lack arrays of %s%s. %s.", first, more, note)
    return totals
