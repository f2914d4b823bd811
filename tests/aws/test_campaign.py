"""Schedules of misfortune: a hundred in ``make test``, a thousand in ``make soak``.

``EZBATCH_CAMPAIGN_SEED=123`` plays one again, ``EZBATCH_CAMPAIGN_SEED=1000:2000`` a range.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from .campaign import Schedule, Tally
from .product import QUEUE
from .rig import Rig
from .submitter import Submitter

#: Read before the fixtures hide the environment from the tests.
_CHOSEN = os.environ.get("EZBATCH_CAMPAIGN_SEED", "")


@pytest.fixture
def submitter(rig: Rig) -> Iterator[Submitter]:
    made = Submitter(rig.env)
    yield made
    made.close()


def seeds(default: range) -> range:
    first, _colon, last = _CHOSEN.partition(":")
    return range(int(first), int(last or int(first) + 1)) if _CHOSEN else default


def play(chosen: range, rig: Rig, submitter: Submitter, monkeypatch: pytest.MonkeyPatch, state: str) -> Tally:
    tally = Tally()
    for seed in chosen:
        rig.reset()
        rig.queue(QUEUE, max_vcpus=10_000)
        monkeypatch.setenv("EZBATCH_STATE_DIR", f"{state}/{seed}")
        try:
            Schedule(seed, rig, submitter, tally).play()
        except BaseException:
            print(f"\nplay it again: EZBATCH_CAMPAIGN_SEED={seed} pytest {__file__}")  # noqa: T201 - how to go on
            raise
    return tally


@pytest.mark.parametrize("first", range(0, 100, 25))
def test_a_hundred_schedules(
    rig: Rig, submitter: Submitter, monkeypatch: pytest.MonkeyPatch, state_directory: object, first: int
) -> None:
    began = time.monotonic()
    tally = play(seeds(range(first, first + 25)), rig, submitter, monkeypatch, str(state_directory))
    print(f"\n{tally} in {time.monotonic() - began:.0f} s")  # noqa: T201 - shown by -s and on failure
    assert tally.doubles == 0


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1_000, 2_000, 100))
def test_a_thousand_schedules(
    rig: Rig, submitter: Submitter, monkeypatch: pytest.MonkeyPatch, state_directory: object, first: int
) -> None:
    began = time.monotonic()
    tally = play(seeds(range(first, first + 100)), rig, submitter, monkeypatch, str(state_directory))
    print(f"\n{tally} in {time.monotonic() - began:.0f} s")  # noqa: T201 - likewise
    assert tally.doubles == 0
