"""The machine of `machine.py`, and the rig of the contract suite for engines that are processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.conftest import local_rig
from tests.contract.rig import LocalRig

from .machine import Machine


@pytest.fixture
def new_machine(state_directory: Path) -> Iterator[Callable[..., Machine]]:
    """Make a machine of a given size."""
    made: list[Machine] = []

    def make(**size: float) -> Machine:
        made.append(Machine(state_directory, **size))  # type: ignore[arg-type] # a size is a whole number too
        return made[-1]

    yield make
    for machine in made:
        machine.close()


@pytest.fixture
def machine(new_machine: Callable[..., Machine]) -> Machine:
    """A machine on which no job waits for room."""
    return new_machine()


@pytest.fixture
def rig(state_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalRig]:
    """This machine, jobs as plain processes, the engine a process of its own."""
    made = local_rig(state_directory, monkeypatch)
    try:
        yield made
    finally:
        made.finish()
