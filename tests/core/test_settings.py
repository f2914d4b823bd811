"""Settings: where they come from, which wins, and what a wrong one says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ezbatch import Settings, SettingsError

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load from files with these texts and an environment of these variables alone."""

    def load(user: str = "", project: str = "", **environment: str) -> Settings:
        (tmp_path / "below").mkdir(exist_ok=True)
        env: Mapping[str, str] = {"EZBATCH_CONFIG": str(tmp_path / "user.toml"), **environment}
        if user:
            (tmp_path / "user.toml").write_text(user)
        if project:
            (tmp_path / "pyproject.toml").write_text(project)
        return Settings.load(env, tmp_path / "below")

    return load


def test_with_nothing_set_everything_is_this_machine(load: Load) -> None:
    settings = load()
    assert settings.queue == "local"
    assert settings.local_runner == "auto"
    assert settings.state_directory.is_absolute()
    assert settings.s3_directory == settings.state_directory / "s3"
    assert settings.sources == {}


def test_the_environment_wins_over_the_project_and_that_over_the_user(load: Load) -> None:
    user, project = '[ezbatch]\nqueue = "user"\nregion = "r"', '[tool.ezbatch]\nqueue = "project"\nprofile = "p"'
    assert load(user).queue == "user"
    both = load(user, project)
    assert (both.queue, both.region, both.profile) == ("project", "r", "p")
    everything = load(user, project, EZBATCH_QUEUE="variable")
    assert (everything.queue, everything.region, everything.profile) == ("variable", "r", "p")
    assert everything.sources["queue"] == "environment variable EZBATCH_QUEUE"
    assert everything.sources["region"].endswith("user.toml")
    assert everything.sources["profile"].endswith("pyproject.toml")
    assert load(user, project, EZBATCH_QUEUE="").queue == "project"


def test_the_file_of_the_old_version_is_read(load: Load) -> None:
    old = """
    [Settings]
    executionRoleArn = "arn:aws:iam::123456789012:role/e"
    taskRoleArn = ""
    sse = "aws:kms"
    sseKmsKeyId = "key"
    subnets = ["subnet-1"]
    anythingElse = 5
    """
    settings = load(old)
    assert settings.execution_role == "arn:aws:iam::123456789012:role/e"
    assert settings.task_role is None
    assert (settings.sse, settings.sse_kms_key_id) == ("aws:kms", "key")
    assert load(old + '\n[ezbatch]\nsse = "AES256"').sse == "AES256"


def test_every_setting_can_be_set_in_a_file(load: Load, tmp_path: Path) -> None:
    settings = load(
        f"""
        [ezbatch]
        queue = "q"
        profile = "p"
        region = "r"
        execution-role = "e"
        task-role = "t"
        sse = "AES256"
        sse-kms-key-id = "k"
        staging = "s3://bucket/some/prefix/"
        state-directory = "{tmp_path}/state"
        local-runner = "process"
        local-s3 = "~/s3"
        local-s3-store = "aws"
        local-vcpus = 1.5
        local-memory = 1000
        local-container-args = ["--network", "host"]
        """
    )
    fields = {field.name for field in dataclasses.fields(Settings)} - {"sources"}
    assert set(settings.sources) == fields
    assert settings.local_vcpus == 1.5
    assert settings.local_container_args == ("--network", "host")
    assert settings.local_s3 is not None
    assert settings.local_s3.is_absolute()
    assert settings.staging == "s3://bucket/some/prefix"
    assert settings.s3_directory == settings.local_s3


def test_every_variable_is_read(load: Load, tmp_path: Path) -> None:
    settings = load(
        EZBATCH_QUEUE="q",
        EZBATCH_EXECUTION_ROLE="e",
        EZBATCH_TASK_ROLE="t",
        EZBATCH_STAGING="s3://bucket",
        EZBATCH_STATE_DIR=str(tmp_path),
        EZBATCH_LOCAL_RUNNER="bwrap",
        EZBATCH_LOCAL_S3="relative",
        EZBATCH_LOCAL_VCPUS="2",
        EZBATCH_LOCAL_MEMORY="512",
        EZBATCH_LOCAL_CONTAINER_ARGS="--network host --label 'a b'",
    )
    assert (settings.queue, settings.execution_role, settings.task_role) == ("q", "e", "t")
    assert settings.staging == "s3://bucket"
    assert (settings.local_runner, settings.local_vcpus, settings.local_memory) == ("bwrap", 2.0, 512)
    assert settings.local_s3 == Path.cwd() / "relative"
    assert settings.local_container_args == ("--network", "host", "--label", "a b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[ezbatch", "not valid TOML"),
        ("[ezbatch]\nque = 'x'", "mean 'queue'"),
        ("[ezbatch]\nlocal_runner = 'x'", "mean 'local-runner'"),
        ("[ezbatch]\nqueue = 5", "queue must be a string, not 5"),
        ("[ezbatch]\nlocal-runner = 'dokcer'", "mean 'docker'"),
        ("[ezbatch]\nlocal-s3-store = 'dir'", "Set one of directory, aws"),
        ("[ezbatch]\nstaging = 'bucket/prefix'", "Write s3://BUCKET/PREFIX"),
        ("[ezbatch]\nstaging = 's3://Bucket_/prefix'", "Write s3://BUCKET/PREFIX"),
        ("[ezbatch]\nstaging = 's3://bucket/a/../b'", "Write s3://BUCKET/PREFIX"),
        ("[ezbatch]\nstaging = 's3://bucket//b'", "Write s3://BUCKET/PREFIX"),
        ("[ezbatch]\nstaging = 5", "staging must be a string"),
        ("[ezbatch]\nlocal-vcpus = 0", "must be a number above 0"),
        ("[ezbatch]\nlocal-vcpus = nan", "must be a number above 0"),
        ("[ezbatch]\nlocal-memory = -5", "must be a number above 0"),
        ("[ezbatch]\nlocal-memory = inf", "must be a number above 0"),
        ("[ezbatch]\nlocal-memory = true", "must be a number above 0"),
        ("[ezbatch]\nlocal-memory = 'much'", "must be a number above 0"),
        ("[ezbatch]\nlocal-memory = []", "must be a number above 0"),
        ("[ezbatch]\nlocal-container-args = [1]", "must be a list of strings"),
        ('[ezbatch]\nlocal-container-args = "a \'b"', "local-container-args"),
        ("[ezbatch]\nlocal-s3 = '~nobody-has-this-name/x'", "local-s3"),
        ("[ezbatch]\nstate-directory = 5", "must be a string"),
        ("ezbatch = 5", "must be a table"),
        ("Settings = 5", "must be a table"),
        ("[Settings]\nsse = 5", "sse must be a string"),
    ],
)
def test_a_wrong_setting_says_where_and_what(load: Load, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(text)
    assert words in str(caught.value)
    assert "user.toml" in str(caught.value)


@pytest.mark.parametrize("text", ["[tool.ezbatch]\nque = 'x'", "[tool.ezbatch]\nqueue = 5", "tool = 5", "[tool"])
def test_a_wrong_project_says_so_too(load: Load, text: str) -> None:
    with pytest.raises(SettingsError, match="pyproject"):
        load(project=text)


@pytest.mark.parametrize(
    ("name", "value"),
    [("EZBATCH_LOCAL_VCPUS", "many"), ("EZBATCH_LOCAL_MEMORY", "1e400"), ("EZBATCH_LOCAL_RUNNER", "x")],
)
def test_a_wrong_variable_says_which(load: Load, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load(**{name: value})


def test_a_project_that_says_nothing_of_ezbatch_is_no_trouble(load: Load) -> None:
    assert load(project="[tool.other]\nx = 1\n[project]\nname = 'x'").queue == "local"


def test_a_file_that_cannot_be_read_as_text(load: Load, tmp_path: Path) -> None:
    (tmp_path / "user.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not valid TOML"):
        load()


def test_loading_writes_nothing(load: Load, tmp_path: Path) -> None:
    load()
    assert [path.name for path in tmp_path.rglob("*")] == ["below"]
