"""pytest fixtures of the AWS rig. Other folders' conftest.py may import them from here."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from functools import cache

import pytest

from .rig import Rig


@cache
def shared_rig() -> Rig:
    """One server for the process: moto's import and the sockets are paid once, and its backends are global anyway."""
    rig = Rig()
    atexit.register(rig.close)
    return rig


@pytest.fixture
def aws_rig() -> Iterator[Rig]:
    """A new, empty account. Fails the test that broke a rule of AWS Batch, unless it took the violations."""
    rig = shared_rig()
    rig.reset()
    yield rig
    violations = rig.take_violations()
    rig.engine.reset()
    assert not violations, "requests that AWS Batch refuses or regrets:\n" + "\n".join(violations)


@pytest.fixture
def aws_env(aws_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """The rig, with this process's environment pointing at it."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in aws_rig.env.items():
        monkeypatch.setenv(name, value)
    return aws_rig
