"""JupyterLab in headless Chromium: notebooks run, clicked and read as a person does."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]

#: Awaits the promises on which a notebook's readiness hangs; wait_for_function would take a promise itself for true.
_READY = """async () => {
  const deadline = Date.now() + 60000;
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  while (!window.jupyterapp) await pause(50);
  const app = window.jupyterapp;
  await app.restored;
  let panel = null;
  while (!panel && Date.now() < deadline) {
    panel = [...app.shell.widgets("main")].find((widget) => widget.sessionContext);
    if (!panel) await pause(50);
  }
  await panel.context.ready;
  await panel.sessionContext.ready;
  let kernel = panel.sessionContext.session?.kernel;
  while (kernel?.connectionStatus !== "connected" && Date.now() < deadline) {
    await pause(50);
    kernel = panel.sessionContext.session?.kernel;
  }
  app.shell.activateById(panel.id);
}"""
_IDLE = """async () => {
  const panel = [...window.jupyterapp.shell.widgets("main")].find((widget) => widget.sessionContext);
  const kernel = panel.sessionContext.session.kernel;
  await kernel.info;
  while (kernel.status !== "idle") await new Promise((resolve) => setTimeout(resolve, 50));
}"""


@contextlib.contextmanager
def chromium(executable: str) -> Iterator[Browser]:
    """A browser that downloads nothing and needs no sandbox of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


class Lab:
    """A JupyterLab server of this session's own."""

    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        self.port = port

    def write(self, name: str, cells: Sequence[str]) -> Path:
        """Write a notebook of code cells, and return its file."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])  # type: ignore[no-untyped-call]
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = self.root / name
        path.write_text(nbformat.writes(notebook), encoding="utf-8")  # type: ignore[no-untyped-call]
        return path

    def open(self, browser: Browser, name: str, *, width: int = 1280, height: int = 1400) -> Page:
        """Open a notebook in a window of its own, and return when its kernel can be used."""
        page = browser.new_context(viewport={"width": width, "height": height}).new_page()
        page.goto(f"http://127.0.0.1:{self.port}/lab/tree/{name}?token=tok&reset")
        _promised(page, _READY)
        _promised(page, _IDLE)
        return page

    def reload(self, page: Page) -> None:
        """Load the page again; the kernel may be busy."""
        page.reload()
        _promised(page, _READY)


def _promised(page: Page, script: str, argument: object = None, seconds: int = 90) -> None:
    """Await what the page promises, but not for ever, as Playwright would."""
    late = f"setTimeout(() => fail(new Error('JupyterLab did not do it within {seconds} s')), {1000 * seconds})"
    page.evaluate(f"(x) => Promise.race([({script})(x), new Promise((_done, fail) => {late})])", argument)


def command(page: Page, name: str, arguments: Mapping[str, Any] | None = None, *, wait: bool = True) -> None:
    """Execute one of JupyterLab's commands, such as ``docmanager:save``."""
    call = "([name, args]) => window.jupyterapp.commands.execute(name, args)"
    if not wait:
        call = "([name, args]) => { void window.jupyterapp.commands.execute(name, args); }"
    _promised(page, call, [name, dict(arguments or {})])


def run_cell(page: Page, index: int, *, wait: bool = True) -> None:
    """Run one cell."""
    page.evaluate(
        """(index) => {
          const panel = [...window.jupyterapp.shell.widgets("main")].find((widget) => widget.sessionContext);
          panel.content.activeCellIndex = index;
          panel.content.deselectAll();
        }""",
        index,
    )
    command(page, "notebook:run-cell", wait=wait)


def cells_done(page: Page, count: int, timeout: float = 30) -> None:
    """Wait until so many cells have an execution count."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done = page.evaluate(
            """() => {
              const panel = [...window.jupyterapp.shell.widgets("main")].find((widget) => widget.sessionContext);
              return panel.content.widgets.filter((cell) => cell.model.executionCount !== null).length;
            }"""
        )
        if done >= count:
            return
        time.sleep(0.1)
    raise TimeoutError(f"{count} cells were not done within {timeout:g} s")


def saved(page: Page, path: Path) -> dict[str, Any]:
    """Save the notebook, and return its file's content."""
    command(page, "docmanager:save")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def outputs(notebook: Mapping[str, Any], index: int) -> list[dict[str, Any]]:
    """Return the rich outputs of a cell, as a file holds them."""
    return [output.get("data", {}) for output in notebook["cells"][index]["outputs"]]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def lab(root: Path, environment: Mapping[str, str]) -> Iterator[Lab]:
    """Start JupyterLab over a directory, reachable from this machine only, without the user's settings."""
    port = _free_port()
    home = root / "home"
    home.mkdir(parents=True, exist_ok=True)
    env = {
        **os.environ,
        **environment,
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    notebooks = root / "notebooks"
    notebooks.mkdir()
    # Else a question about news lies over the notebook.
    asked = home / "settings" / "@jupyterlab" / "apputils-extension"
    asked.mkdir(parents=True)
    (asked / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    arguments = [
        *([] if os.getuid() else ["--allow-root"]),
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=tok",
        f"--ServerApp.root_dir={notebooks}",
        "--expose-app-in-browser",
    ]
    with (root / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *arguments],
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=notebooks,
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=tok", timeout=2).close()
                break
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"JupyterLab did not start:\n{(root / 'lab.log').read_text(errors='replace')}")
            time.sleep(0.1)
        yield Lab(notebooks, port)
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(root, ignore_errors=True)
