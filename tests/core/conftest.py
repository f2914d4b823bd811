"""Hypothesis, told to try the same examples every time: a red build is then about the change, not about luck."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "ezbatch",
    derandomize=True,
    max_examples=60,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("ezbatch")
