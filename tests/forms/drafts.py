"""Jobs of any kind, legal or not, and what tests do to forms."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from ezbatch import EZBatchJob, S3Mount, S3Mounts
from ezbatch_jupyter.cell import command
from tests.core import workflows

anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
pairs = st.dictionaries(anything, anything, max_size=3)
scripts = st.tuples(anything.filter(str.strip), st.sampled_from(["sh", "bash", "python"])).map(
    lambda pair: command(f"{pair[0].removeprefix('#!')}\n", pair[1])
)
shebangs = anything.map(lambda text: command(f"#!/usr/bin/env Rscript --vanilla\n{text}\n", None))


@st.composite
def mounts(draw: st.DrawFn) -> S3Mounts:
    """Mounts of which nothing need be right."""
    one = st.builds(
        S3Mount,
        anything,
        anything,
        recursive=st.sampled_from([None, True, False]),
        sse=st.sampled_from([None, "AES256", "aws:kms", "rot13"]),
        sse_kms_key_id=st.sampled_from([None, "", "key"]),
        options=st.sampled_from(["--quiet", "", "--quiet --recursive --recursive", '"']),
    )
    return S3Mounts(read=draw(st.lists(one, max_size=2)), write=draw(st.lists(one, max_size=2)))


@st.composite
def odd_jobs(draw: st.DrawFn) -> EZBatchJob:
    """A job that a constructor takes, whatever AWS would say."""
    numbers = st.one_of(st.integers(-5, 10**6), st.sampled_from([0.25, 0.3, 1.5, 16, 512, 2048]))
    return EZBatchJob(
        draw(anything),
        draw(st.one_of(anything, st.lists(anything, max_size=4), scripts, shebangs)),
        environment=draw(pairs),
        mounts=draw(mounts()),
        vcpus=draw(numbers),
        memory=int(draw(numbers)),
        storage_size=draw(st.one_of(st.none(), st.integers(-1, 300))),
        platform=draw(st.sampled_from(["FARGATE", "EC2", "fargate", ""])),
        tags=draw(pairs),
        queue=draw(st.one_of(st.none(), st.sampled_from(["local", "big", "a b", ""]), anything)),
        preloader=draw(st.booleans()),
        array=draw(
            st.one_of(
                st.none(),
                st.integers(-2, 20_000),
                st.lists(st.dictionaries(anything, workflows.scalars, max_size=2), max_size=3),
                st.dictionaries(anything, st.lists(workflows.scalars, max_size=3), max_size=2),
            )
        ),
        retries=draw(st.integers(-1, 12)),
        timeout=draw(st.one_of(st.none(), st.integers(-1, 10**6))),
        gpus=draw(st.one_of(st.none(), st.integers(-1, 9))),
        secrets=draw(pairs),
        job_role=draw(st.one_of(st.none(), st.just(""), anything)),
        architecture=draw(st.one_of(st.none(), st.sampled_from(["ARM64", "X86_64", "arm64", ""]))),
    )


@st.composite
def cell_jobs(draw: st.DrawFn) -> EZBatchJob:
    """A job that a cell can express."""
    fargate = draw(st.booleans())
    vcpus, memory = draw(st.sampled_from(workflows.SIZES)) if fargate else (draw(st.integers(1, 96)), 9999)
    keys = st.text("abcXYZ019/._ -$'\"#%{}", min_size=1, max_size=20)
    values = st.dictionaries(workflows.variables, keys, max_size=3)
    reads = [S3Mount(f"s3://bucket/{key}", f"in/{key}") for key in draw(st.lists(keys, max_size=2))]
    writes = [S3Mount(f"out/{key}", f"s3://bucket/{key}") for key in draw(st.lists(keys, max_size=2))]
    lines = st.text("abc $'\"\\{}%!?#\t", max_size=20)
    script = "\n".join(draw(st.lists(lines, min_size=1, max_size=4)))
    # IPython takes the blanks from a cell whose last line holds nothing else; to_cell refuses such a script in words.
    assume(script.rpartition("\n")[2].strip() or not script.rpartition("\n")[2])
    lang = draw(st.sampled_from(["sh", "bash", "python"]))
    return EZBatchJob(
        draw(st.sampled_from(["python:3.12", "x", "-odd"])),
        command(f"echo {script}\n", lang),
        environment=draw(values),
        mounts=S3Mounts(reads, writes),
        vcpus=vcpus,
        memory=memory,
        storage_size=draw(st.sampled_from([None, 21, 200])) if fargate else None,
        platform="FARGATE" if fargate else "EC2",
        tags=draw(st.dictionaries(keys.filter(lambda key: "=" not in key), keys, max_size=2)),
        queue=draw(st.sampled_from([None, "local", "big", "arn:aws:batch:eu-west-1:123456789012:job-queue/q"])),
        preloader=bool(reads or writes),
        array=draw(st.one_of(st.none(), st.integers(1, 10_000))),
        retries=draw(st.integers(0, 9)),
        timeout=draw(st.one_of(st.none(), st.integers(60, 10**6))),
        gpus=None if fargate else draw(st.one_of(st.none(), st.integers(1, 8))),
        secrets=draw(values),
        job_role=draw(st.sampled_from([None, "arn:aws:iam::123456789012:role/r"])),
        architecture=draw(st.sampled_from([None, "ARM64"])) if fargate else None,
    )


def until(true: Callable[[], Any], seconds: float = 30) -> Any:  # noqa: ANN401 - what it returns
    """Wait for something that a thread does."""
    deadline = time.monotonic() + seconds
    while True:
        found = true()
        if found:
            return found
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)
