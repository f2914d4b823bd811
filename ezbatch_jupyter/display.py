"""Workflows, plans and runs show themselves: their bundles, registered with IPython's formatters.

Kept light, since ``%load_ext`` imports it; the core knows nothing of this.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ezbatch.planning import Plan
    from ezbatch.run import EZBatchRun
    from ezbatch.workflow import EZBatchWorkflow

__all__ = ["register", "show_plan", "show_run", "show_workflow", "unregister"]

log = logging.getLogger(__name__)

Bundle = dict[str, Any]


def _guarded(kind: str, shown: object) -> Bundle:
    """Return a bundle; a repr never raises, so what goes wrong is logged, and the plain repr shown."""
    try:
        from ezbatch_jupyter import bundles

        made: Bundle = getattr(bundles, f"{kind}_bundle")(shown)
    except Exception:
        log.warning("a %s could not be shown", kind, exc_info=True)
        try:
            return {"text/plain": repr(shown)}
        except Exception:  # noqa: BLE001 - as above
            return {"text/plain": object.__repr__(shown)}
    return made


def show_workflow(workflow: EZBatchWorkflow, include: object = None, exclude: object = None) -> Bundle:  # noqa: ARG001 - IPython's call
    """Return how a workflow shows itself, whatever happens."""
    return _guarded("workflow", workflow)


def show_plan(plan: Plan, include: object = None, exclude: object = None) -> Bundle:  # noqa: ARG001 - IPython's call
    """Return how a plan shows itself, whatever happens."""
    return _guarded("plan", plan)


def show_run(run: EZBatchRun, include: object = None, exclude: object = None) -> Bundle:  # noqa: ARG001 - IPython's call
    """Return what a notebook keeps of a run as it was last seen, whatever happens."""
    return _guarded("run", run)


def display_run(run: EZBatchRun) -> None:
    """Show a run that goes on as a live view, and any other as what a notebook keeps."""
    from IPython.display import display

    try:
        from ezbatch_jupyter import run_view

        if run_view.in_kernel() and not run_view.ended(run):
            run_view.view(run).show()
            return
    except Exception:  # a repr never raises
        log.warning("the live view of a run could not be shown", exc_info=True)
    display(show_run(run), raw=True)  # type: ignore[no-untyped-call] # IPython's display has no annotations


def register(ip: InteractiveShell) -> None:
    """Let IPython show workflows, plans and runs; their modules are loaded by whoever makes one."""
    formatter = ip.display_formatter
    if formatter is None:
        return
    formatter.mimebundle_formatter.for_type_by_name("ezbatch.workflow", "EZBatchWorkflow", show_workflow)
    formatter.mimebundle_formatter.for_type_by_name("ezbatch.planning", "Plan", show_plan)
    formatter.ipython_display_formatter.for_type_by_name("ezbatch.run", "EZBatchRun", display_run)


def unregister(ip: InteractiveShell) -> None:
    """Take back what :func:`register` did, and stop watching: what is shown stays as it was last seen."""
    poller: Any = sys.modules.get("ezbatch_jupyter._poller")
    if poller is not None:
        for watch in poller.POLLER.watches:
            watch.detach()
        poller.POLLER.stop()
    formatter = ip.display_formatter
    if formatter is None:
        return
    formatter.mimebundle_formatter.pop("ezbatch.workflow.EZBatchWorkflow", None)
    formatter.mimebundle_formatter.pop("ezbatch.planning.Plan", None)
    formatter.ipython_display_formatter.pop("ezbatch.run.EZBatchRun", None)
