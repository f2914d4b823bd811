"""The places that run jobs: each has to pass every test here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ezbatch import Settings

from .rig import LocalRig, Rig


def local_rig(state_directory: Path, monkeypatch: pytest.MonkeyPatch) -> LocalRig:
    """Set up this machine, big enough that no test waits for room."""
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "process")
    monkeypatch.setenv("EZBATCH_LOCAL_VCPUS", "64")
    monkeypatch.setenv("EZBATCH_LOCAL_MEMORY", "1000000")
    directory = state_directory.parent / "files"
    directory.mkdir()
    return LocalRig(Settings.load(), "local", directory)


def aws_rig(state_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Set up an account of AWS Batch, as `tests.aws` has it."""
    from tests.aws.contract import AWSRig, account
    from tests.aws.product import QUEUE

    made = account(monkeypatch)
    directory = state_directory.parent / "files"
    directory.mkdir()
    rig = AWSRig(Settings.load(), QUEUE, directory)
    rig.account = made
    return rig


@pytest.fixture(params=["local", "aws"])
def rig(request: pytest.FixtureRequest, state_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """Each place in turn."""
    made = {"local": local_rig, "aws": aws_rig}[request.param](state_directory, monkeypatch)
    try:
        yield made
    finally:
        made.finish()
