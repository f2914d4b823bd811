"""The local engine with S3 itself in place of the directory that stands for it."""

from __future__ import annotations

import pytest

from ezbatch import EZBatchJob, EZBatchWorkflow, Settings, plan
from ezbatch.errors import SettingsError
from ezbatch.local.backend import LocalBackend
from ezbatch.preloader import EXIT_CODES, EXIT_DOWNLOAD
from ezbatch.s3 import S3Mount, S3Mounts
from tests.containers import require
from tests.staging.conftest import CREDENTIALS, Bucket


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, server: str) -> Settings:
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": server}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EZBATCH_LOCAL_S3_STORE", "aws")
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "process")
    return Settings.load()


def job(bucket: Bucket, key: str, runner: str = "process") -> EZBatchJob:
    folder = "/data" if runner == "bwrap" else "data"
    return EZBatchJob(
        "python:3.12-slim",
        f"cat {folder}/in > {folder}/out",
        mounts=S3Mounts(
            read=[S3Mount(bucket.uri(key), f"{folder}/in")], write=[S3Mount(f"{folder}/out", bucket.uri("out"))]
        ),
        preloader=True,
    )


@pytest.mark.parametrize("runner", ["process", "bwrap"])
def test_a_job_copies_from_and_to_s3(
    bucket: Bucket, settings: Settings, monkeypatch: pytest.MonkeyPatch, runner: str
) -> None:
    if runner == "bwrap":
        require("bwrap")
        monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", runner)
        settings = Settings.load()
    bucket.put("in", b"from S3")
    workflow = EZBatchWorkflow("copy", {"copy": job(bucket, "in", runner)})
    run = workflow.submit("local", settings=settings).wait(timeout=120, progress=False)
    assert run.state == "SUCCEEDED", list(run.logs("copy"))
    assert bucket.objects("out") == {"out": b"from S3"}
    assert not settings.s3_directory.exists()


def test_a_missing_input_is_explained(bucket: Bucket, settings: Settings) -> None:
    workflow = EZBatchWorkflow("copy", {"copy": job(bucket, "none")})
    run = workflow.submit("local", settings=settings).wait(timeout=120, progress=False)
    assert (run.state, run.jobs["copy"].exit_code) == ("FAILED", EXIT_DOWNLOAD)
    assert run.jobs["copy"].reason == (
        f"ezbatch: download failed: {bucket.uri('none')}: no such object; the command was not run"
    )
    assert EXIT_CODES[EXIT_DOWNLOAD].split(":")[0] in str(run.explain("copy"))


def test_the_plan_says_whose_credentials_jobs_get(bucket: Bucket, settings: Settings) -> None:
    made = plan(EZBatchWorkflow("copy", {"copy": job(bucket, "in")}))
    note = next(note for note in LocalBackend(settings).notes(made) if "local-s3-store is aws" in note)
    assert note.endswith("AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL")
    assert not [note for note in LocalBackend(Settings()).notes(made) if "local-s3-store" in note]


def test_a_store_is_one_of_two() -> None:
    with pytest.raises(SettingsError, match="Set one of directory, aws"):
        Settings.load({"EZBATCH_LOCAL_S3_STORE": "s3"})
