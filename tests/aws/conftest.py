from __future__ import annotations

from tests.aws.fixtures import aws_env, aws_rig

__all__ = ["aws_env", "aws_rig"]
