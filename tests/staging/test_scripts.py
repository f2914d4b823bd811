"""Cells' scripts that go to S3 itself."""

from __future__ import annotations

import dataclasses

import pytest

from ezbatch import EZBatchWorkflow, Settings
from ezbatch.errors import BackendError
from ezbatch_jupyter import staging
from ezbatch_jupyter.cell import build, read_cell
from tests.staging.conftest import CREDENTIALS, Bucket

BODY = "echo ran\n: " + "\u00e9" * 20_000


@pytest.fixture
def settings(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, server: str) -> Settings:
    """Settings that name a place in the bucket."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": server}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EZBATCH_STAGING", bucket.uri("place"))
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "process")
    return Settings.load()


def test_a_script_goes_to_s3_for_a_queue_of_aws(bucket: Bucket, settings: Settings) -> None:
    cell = read_cell("-q my-queue", BODY)
    job, script = staging.staged(cell, build(cell, {}), dataclasses.replace(settings, queue="my-queue"))
    assert script is not None
    assert bucket.objects() == {}
    for _ in range(2):
        staging.put(script, "my-queue", settings)
    assert bucket.objects() == {script.uri.removeprefix(bucket.uri()): f"\n{BODY}".encode()}
    assert script.uri.startswith(bucket.uri("place/scripts/"))
    assert job.command == ["/bin/sh", script.path]
    assert script.path.startswith("/tmp/")
    assert not settings.s3_directory.exists()


def test_the_settings_name_its_encryption(bucket: Bucket, settings: Settings) -> None:
    cell = read_cell("", BODY)
    settings = dataclasses.replace(settings, sse="AES256")
    _job, script = staging.staged(cell, build(cell, {}), settings)
    assert script is not None
    staging.put(script, "my-queue", settings)
    head = bucket.s3.head_object(Bucket=bucket.name, Key=script.uri.removeprefix(bucket.uri()))
    assert head["ServerSideEncryption"] == "AES256"


def test_a_job_here_runs_it_from_s3_where_that_is_the_store(bucket: Bucket, settings: Settings) -> None:
    settings = dataclasses.replace(settings, local_s3_store="aws")
    cell = read_cell("", BODY)
    job, script = staging.staged(cell, build(cell, {}), settings)
    assert script is not None
    staging.put(script, "local", settings)
    assert list(bucket.objects().values()) == [script.content]
    run = EZBatchWorkflow("cell", {"cell": job}).submit(settings=settings).wait(timeout=120, progress=False)
    assert [event.message for event in run.logs("cell")] == ["ran"]
    assert run.state == "SUCCEEDED"


def test_a_bucket_that_is_not_there_is_told(settings: Settings) -> None:
    settings = dataclasses.replace(settings, staging="s3://no-such-bucket/place")
    cell = read_cell("", BODY)
    _job, script = staging.staged(cell, build(cell, {}), settings)
    assert script is not None
    with pytest.raises(BackendError) as told:
        staging.put(script, "my-queue", settings)
    assert str(told.value) == (
        f"the script cannot be put at {script.uri}, so nothing was submitted: "
        "AWS refused s3:PutObject: The specified bucket does not exist."
    )
