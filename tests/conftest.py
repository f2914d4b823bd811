"""What every test gets (a state directory of its own, no AWS account, no user settings), engines, a browser."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import containers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from tests.containers import ContainerEngine
    from tests.jupyter.lab import Lab


# A signal that was ignored where the tests were started (nohup) would be ignored in every process they start.
for _number in (signal.SIGHUP, signal.SIGTERM):
    signal.signal(_number, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say what stays together when several processes share the tests.

    A file does, so that it starts its engine once; and everything that needs a browser, since JupyterLabs side by side
    are more than two cores can serve.
    """
    for item in items:
        group = "browser" if "browser" in getattr(item, "fixturenames", ()) else item.location[0]
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def state_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Cut the test off from the user's runs, settings and AWS account."""
    # Short, for the sockets in it: pytest's own temporary directories can exceed the 107 bytes of a socket's path.
    directory = Path(tempfile.mkdtemp(prefix="ez-", dir="/tmp"))
    for name in os.environ:
        if name.startswith(("AWS_", "EZBATCH_")) and name != "EZBATCH_LIVE_QUEUE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("EZBATCH_STATE_DIR", str(directory / "state"))
    monkeypatch.setenv("EZBATCH_CONFIG", str(directory / "no-user-settings.toml"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(directory / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(directory / "no-aws-credentials"))
    yield directory / "state"
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[ContainerEngine]:
    """A Docker Engine of this session's own."""
    with containers.docker_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def podman_engine() -> Iterator[ContainerEngine]:
    """A Podman of this session's own."""
    with containers.podman_engine() as engine:
        yield engine


@pytest.fixture(params=["docker", "podman"], scope="session")
def container_engine(request: pytest.FixtureRequest) -> ContainerEngine:
    """Each engine in turn."""
    engine: ContainerEngine = request.getfixturevalue(f"{request.param}_engine")
    return engine


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, without a window; one for all tests, since a thread can have one Playwright alone."""
    from tests.jupyter.lab import chromium

    with chromium(containers.require("chromium")) as started:
        yield started


@pytest.fixture(scope="session")
def server() -> Iterator[Lab]:
    """JupyterLab with a state directory of its own: its kernels outlive a test, and with them their runs."""
    from tests.jupyter.lab import lab

    state = Path(tempfile.mkdtemp(prefix="ez-", dir="/tmp"))
    environment = {
        "EZBATCH_STATE_DIR": str(state),
        "EZBATCH_CONFIG": str(state / "no-user-settings.toml"),
        "EZBATCH_LOCAL_RUNNER": "process",
        "EZBATCH_LOCAL_VCPUS": "20",
        "EZBATCH_LOCAL_MEMORY": "100000",
    }
    with lab(Path(tempfile.mkdtemp(prefix="ez-lab-", dir="/tmp")), environment) as started:
        yield started
    shutil.rmtree(state, ignore_errors=True)
