"""Cost as far as the ledger knows it: of a workflow before it runs, by earlier runs; of all runs, by tag."""

from __future__ import annotations

from ezbatch.cost import Estimate, estimate
from ezbatch.ledger import Ledger
from ezbatch.planning import LOCAL, plan
from ezbatch.run import runs
from ezbatch.settings import Settings
from ezbatch.workflow import EZBatchWorkflow

__all__ = ["estimated", "spent_by_tag"]


def estimated(workflow: EZBatchWorkflow, queue: str | None = None, *, settings: Settings | None = None) -> Estimate:
    """Return what a workflow may cost, by the times that its jobs took in earlier runs where there are some.

    Parameters
    ----------
    workflow : EZBatchWorkflow
        The workflow.
    queue : str, optional
        As for :func:`submit`.
    settings : Settings, optional
        Instead of those that are set.
    """
    settings = settings or Settings.load()
    made = plan(workflow, queue or settings.queue)
    return estimate(made, Ledger(settings.state_directory).history(workflow.name))


def spent_by_tag(key: str, *, settings: Settings | None = None) -> dict[str, float]:
    """Return what the runs in the ledger that went to AWS have cost, by the value of a tag, in US dollars.

    Parameters
    ----------
    key : str
        The tag's key. Jobs without it are counted under an empty value.
    settings : Settings, optional
        Instead of those that are set.
    """
    totals: dict[str, float] = {}
    for run in runs(settings=settings):
        if run.queue == LOCAL:
            continue
        for row in run.cost().rows:
            value = row.tags.get(key, "")
            totals[value] = totals.get(value, 0.0) + row.amount
    return totals
