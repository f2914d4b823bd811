"""What a form becomes when it is submitted: the live view of its run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets

from ezbatch.run import EZBatchRun
from ezbatch_jupyter import run_view
from ezbatch_jupyter._poller import POLLER
from ezbatch_jupyter.forms._parts import discard
from ezbatch_jupyter.run_view import RunView

__all__ = ["FormRunView", "begin"]

_WIDGET = "application/vnd.jupyter.widget-view+json"


class FormRunView(RunView):
    """A live view in the place of a form.

    Parameters
    ----------
    run : EZBatchRun
        The run.
    root
        The form's widget. It shows the view too, where the form was put into another widget, or the page was loaded
        again, and the display cannot be replaced.
    """

    def __init__(self, run: EZBatchRun, root: Any) -> None:  # noqa: ANN401 - a widget
        super().__init__(run)
        self._root = root

    def _update_displays(self, bundle: dict[str, Any]) -> None:
        super()._update_displays(bundle)
        if _WIDGET not in bundle:
            text = bundle.get("text/html") or f"<pre>{bundle.get('text/plain', '')}</pre>"
            self._root.children = [ipywidgets.HTML(text)]


def begin(run: EZBatchRun, root: Any, displays: Sequence[str]) -> FormRunView:  # noqa: ANN401 - a widget
    """Show a run's live view instead of a form.

    Parameters
    ----------
    run : EZBatchRun
        The run, its handle made in this thread.
    root
        The form's widget.
    displays : sequence of str
        The ids of the displays that show the form.
    """
    view = FormRunView(run, root)
    made = run_view._widget()  # noqa: SLF001 - RunView.show() displays; here the display is there already
    view._widget = made  # noqa: SLF001 - as above
    view._displays += displays  # noqa: SLF001 - as above
    view._begin()  # noqa: SLF001 - as above
    for kind in list(root._dom_classes):  # noqa: SLF001 - the form's stylesheet is not the view's
        root.remove_class(kind)
    before = root.children
    root.children = [made] if made is not None else []
    for child in before:
        discard(child)
    view._update_displays(view._live_bundle())  # noqa: SLF001 - as above
    POLLER.add(view)
    return view
