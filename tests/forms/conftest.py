"""The browser and the JupyterLab of the views' tests."""

from tests.jupyter.conftest import browser, server

__all__ = ["browser", "server"]
