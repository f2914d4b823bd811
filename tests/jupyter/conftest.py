from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.containers import require
from tests.jupyter.lab import Lab, chromium, lab


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, without a window."""
    with chromium(require("chromium")) as started:
        yield started


@pytest.fixture(scope="session")
def server() -> Iterator[Lab]:
    """JupyterLab with a state directory of its own: its kernels outlive a test, and with them their runs."""
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
