"""The texts that options take, and the job they make."""

from __future__ import annotations

import argparse

import pytest

from ezbatch import EZBatchJob, rules
from ezbatch.options import (
    add_job_options,
    job_from,
    parse_dollars,
    parse_duration,
    parse_memory,
    parse_storage,
    parse_vcpus,
)


@pytest.mark.parametrize(
    ("text", "mib"), [("8G", 8192), ("8GiB", 8192), ("8gb", 8192), ("512M", 512), ("2048", 2048), ("0.5G", 512)]
)
def test_memory(text: str, mib: int) -> None:
    assert parse_memory(text) == mib


@pytest.mark.parametrize("text", ["", "G", "8 potatoes", "-1G", "0.0001G", "1e3"])
def test_wrong_memory(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1h30m", 5400), ("1d", 86400)]
)
def test_duration(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "2 weeks", "-5m", "1.5h", "5m5"])
def test_wrong_duration(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        parse_duration(text)


def test_vcpus_and_storage() -> None:
    assert (parse_vcpus("4"), parse_vcpus("0.25"), parse_storage("50G"), parse_storage("50")) == (4, 0.25, 50, 50)
    for text in ("0", "-1", "nan", "inf", "many"):
        with pytest.raises(ValueError, match="write"):
            parse_vcpus(text)


@pytest.mark.parametrize(("text", "dollars"), [("5", 5), ("2.50", 2.5), ("$2.50", 2.5), ("0", 0), (".5", 0.5)])
def test_dollars(text: str, dollars: float) -> None:
    assert parse_dollars(text) == dollars


@pytest.mark.parametrize("text", ["", "$", ".", "-1", "nan", "inf", "1e3", "5 EUR", "$$5"])
def test_wrong_dollars(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        parse_dollars(text)


def _job(*words: str) -> EZBatchJob:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_job_options(parser)
    return job_from(parser.parse_args(words), "true")


@pytest.mark.parametrize("vcpus", rules.FARGATE_MEMORY)
def test_vcpus_alone_make_a_legal_size(vcpus: float) -> None:
    assert _job("-c", f"{vcpus:g}").problems() == []


@pytest.mark.parametrize("memory", sorted({m for sizes in rules.FARGATE_MEMORY.values() for m in sizes}))
def test_memory_alone_makes_a_legal_size(memory: int) -> None:
    assert _job("-m", f"{memory}M").problems() == []


def test_mounts_turn_the_preloader_on() -> None:
    job = _job("-r", "s3://b/in", "/in", "-w", "/out", "s3://b/out")
    assert job.preloader
    assert [(m.source, m.destination) for m in (*job.mounts.reads, *job.mounts.writes)] == [
        ("s3://b/in", "/in"),
        ("/out", "s3://b/out"),
    ]
    assert not _job().preloader


def test_values_keep_their_equals_signs() -> None:
    assert _job("-e", "A=b=c", "-e", "EMPTY=").environment == {"A": "b=c", "EMPTY": ""}
