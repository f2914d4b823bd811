"""What ``%config EZBatch`` shows and sets: what the magics use where neither the cell nor its line says otherwise."""

from __future__ import annotations

from typing import Any

from traitlets import Bool, Enum, Unicode
from traitlets.config import Configurable

__all__ = ["EZBatch"]


class EZBatch(Configurable):
    """The magics' own settings. None leaves a setting to the environment, pyproject.toml and the user's file.

    Named for what a person types: ``%config EZBatch.queue = "my-queue"``; ``c.EZBatch.queue`` in IPython's files.
    """

    queue = Unicode(None, allow_none=True, help="queue of jobs and workflows; local is this machine").tag(config=True)
    image = Unicode(None, allow_none=True, help="container image of a cell that names none").tag(config=True)
    platform = Unicode(None, allow_none=True, help="fargate or ec2").tag(config=True)
    lang = Enum(("sh", "bash", "python"), None, allow_none=True, help="language of a cell").tag(config=True)
    profile = Unicode(None, allow_none=True, help="AWS profile").tag(config=True)
    region = Unicode(None, allow_none=True, help="AWS region").tag(config=True)
    on_interrupt = Enum(
        ("detach", "cancel"), None, allow_none=True, help="what an interrupt does to a run that is waited for"
    ).tag(config=True)
    wait = Bool(default_value=True, help="whether a cell waits for its run; --bg and --wait win").tag(config=True)
    quiet = Bool(default_value=False, help="whether a cell shows nothing but errors").tag(config=True)
    hints = Bool(default_value=True, help="whether the first run of a session shows what to do next").tag(config=True)

    def given(self) -> dict[str, Any]:
        """Return the settings that differ from their defaults."""
        traits = self.traits(config=True)
        values = {name: getattr(self, name) for name in traits}
        return {name: value for name, value in values.items() if value != traits[name].default_value}
