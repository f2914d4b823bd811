"""Job definitions that nobody deregistered, because nobody was there when the last job of their run ended."""

from __future__ import annotations

from ezbatch.ledger import Ledger
from ezbatch.settings import Settings

__all__ = ["collect_garbage"]


def collect_garbage(queue: str | None = None, *, settings: Settings | None = None) -> tuple[list[str], dict[str, str]]:
    """Deregister the job definitions of runs of which no job is left to run.

    Parameters
    ----------
    queue : str, optional
        Where runs that the ledger does not know may have jobs; those are left alone without it.
    settings : Settings, optional
        Instead of those that are set.

    Returns
    -------
    tuple of list and dict
        The ARNs that were deregistered, and for each run whose definitions were kept, why.
    """
    from ezbatch.aws.backend import AWSBackend

    settings = settings or Settings.load()
    ledger = Ledger(settings.state_directory)
    backend = AWSBackend(settings)
    known = {record.id: record for record in ledger.runs()}
    gone: list[str] = []
    kept: dict[str, str] = {}
    for run_id, definitions in backend.leftovers().items():
        record = known.get(run_id)
        place = record.queue if record is not None else queue
        if ledger.is_submitting(run_id):
            kept[run_id] = "it is being submitted"
        elif place is None:
            kept[run_id] = "this machine did not submit it; name its queue with -q to look for its jobs"
        else:
            counts = backend.live(run_id, [place])
            live = sum(count for state, count in counts.items() if not state.terminal)
            if live:
                kept[run_id] = f"{live} of its jobs have not ended"
            elif record is None and not counts:
                kept[run_id] = "no job of it is known: another machine may just be submitting it"
            else:
                arns = [str(definition["jobDefinitionArn"]) for definition in definitions]
                for arn in arns:
                    backend.deregister(arn)
                gone += arns
    return gone, kept
