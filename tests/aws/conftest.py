from __future__ import annotations

import pytest

from tests.aws.fixtures import aws_env, aws_rig

from .product import QUEUE
from .rig import Rig

__all__ = ["aws_env", "aws_rig", "rig"]


@pytest.fixture
def rig(aws_env: Rig) -> Rig:
    """The rig with a queue, in this process's environment."""
    aws_env.queue(QUEUE, max_vcpus=100_000)
    return aws_env
