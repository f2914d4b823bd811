"""ezbatch in Jupyter: ``%load_ext ezbatch_jupyter``.

Loading the extension calls nothing and writes nothing; each public name is fetched when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ezbatch_jupyter.forms import form
    from ezbatch_jupyter.run_view import RunView, show, view

_HOME_OF = {**dict.fromkeys(("RunView", "show", "view"), "ezbatch_jupyter.run_view"), "form": "ezbatch_jupyter.forms"}

__all__ = ["RunView", "form", "load_ipython_extension", "show", "unload_ipython_extension", "view"]


def load_ipython_extension(ip: InteractiveShell) -> None:
    """Give a shell the magics, their completion, and workflows, plans and runs that show themselves."""
    from ezbatch_jupyter import completion, display, magics

    display.register(ip)
    completion.register(ip, magics.register(ip))


def unload_ipython_extension(ip: InteractiveShell) -> None:
    """Take back what :func:`load_ipython_extension` did, and stop watching."""
    from ezbatch_jupyter import completion, display, magics

    completion.unregister(ip)
    magics.unregister(ip)
    display.unregister(ip)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the type is that of the name, given above for type checkers
    if name not in _HOME_OF:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
