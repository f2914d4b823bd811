from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def settled(state_directory: Path) -> Iterator[None]:  # noqa: ARG001 - which goes when this has ended
    """Let what a form does in the background end while its runs are still there."""
    yield
    for thread in threading.enumerate():
        if thread.name == "ezbatch-form":
            thread.join(20)
