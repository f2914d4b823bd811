"""Loading the extension, and taking everything back."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.magics.conftest import Shell


def traces(shell: Shell) -> dict[str, Any]:
    """Return everything of the shell that an extension could have changed."""
    ip: Any = shell.ip
    formatters = [ip.display_formatter.mimebundle_formatter, ip.display_formatter.ipython_display_formatter]
    # IPython registers some of its own magics only when they are used, so of those only ours count.
    return {
        "magics": {kind: set(found) for kind, found in ip.magics_manager.magics.items()},
        "registry": [name for name in ip.magics_manager.registry if "EZBatch" in name],
        "configurables": [type(item).__name__ for item in ip.configurables if "EZBatch" in type(item).__name__],
        "matchers": list(ip.Completer.custom_matchers),
        "transformers": list(ip.input_transformers_cleanup),
        "callbacks": {event: list(found) for event, found in ip.events.callbacks.items()},
        "formatters": [(set(f.type_printers), set(f.deferred_printers)) for f in formatters],
        "variables": set(ip.user_ns),
    }


def test_unload_takes_everything_back(bare: Shell) -> None:
    before = traces(bare)
    threads = set(threading.enumerate())
    bare.good("%load_ext ezbatch_jupyter")
    during = traces(bare)
    assert during["registry"]
    assert during["configurables"]
    assert during["magics"]["cell"] - before["magics"]["cell"] == {"ezbatch"}
    assert during["magics"]["line"] - before["magics"]["line"] == {"ezbatch"}
    bare.good("%%ezbatch -n x\necho hi")
    bare.good("%ezbatch ls")
    bare.good("%unload_ext ezbatch_jupyter")
    after = traces(bare)
    for kind, found in before.items():
        if kind not in ("variables", "formatters"):
            assert after[kind] == found, kind
    # Those of other tests' servers may end meanwhile.
    assert not set(threading.enumerate()) - threads
    # A printer that was looked up by name is now known by type; both must be gone.
    names = {
        f"{key[0]}.{key[1]}" if isinstance(key, tuple) else key.__name__
        for f in after["formatters"]
        for part in f
        for key in part
    }
    assert not {name for name in names if "EZBatch" in name or name.endswith("Plan")}
    assert "not found" in bare.run("%%ezbatch\ntrue").text


def test_reload_is_safe(shell: Shell) -> None:
    before = traces(shell)
    shell.good("%config EZBatch.lang = 'bash'")
    for _ in range(3):
        shell.good("%reload_ext ezbatch_jupyter")
    after = traces(shell)
    for kind in ("magics", "registry", "configurables", "transformers"):
        assert after[kind] == before[kind], kind
    assert len(after["matchers"]) == len(before["matchers"]) == 1
    shell.good("%%ezbatch -n x -Q -o run\n[[ a == a ]]")
    assert shell.variables["run"].workflow.jobs["x"].command[0] == "bash"


def test_loading_twice_is_safe(shell: Shell) -> None:
    before = traces(shell)
    shell.good("%load_ext ezbatch_jupyter")
    assert traces(shell) == before


LOADING = """
    import socket, sys, threading
    from pathlib import Path
    import IPython, ipywidgets
    from IPython.core.interactiveshell import InteractiveShell

    ip = InteractiveShell.instance()
    threads = threading.active_count()
    modules = set(sys.modules)

    def refused(*arguments, **settings):
        raise AssertionError("a socket was opened")

    socket.socket = refused
    ip.run_line_magic("load_ext", "ezbatch_jupyter")
    new = set(sys.modules) - modules
    heavy = {"boto3", "botocore", "graphviz", "anywidget", "sqlite3", "rich", "dataclasses_json", "numpy"} & new
    assert not heavy, heavy
    assert threading.active_count() == threads
    assert not Path("state").exists()
"""


def test_loading_is_light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("EZBATCH_STATE_DIR", str(tmp_path / "state"))
    code = textwrap.dedent(LOADING)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "state").exists()


def test_hints_are_shown_once_a_session(shell: Shell) -> None:
    assert "These four lines are shown once" in shell.good("%%ezbatch\ntrue").text
    assert "shown once" not in shell.good("%%ezbatch\ntrue").text


def test_hints_can_be_turned_off(shell: Shell) -> None:
    shell.good("%config EZBatch.hints = False")
    assert "shown once" not in shell.good("%%ezbatch\ntrue").text


def test_config_shows_and_refuses(shell: Shell) -> None:
    assert "EZBatch" in shell.good("%config").text
    assert "queue" in shell.good("%config EZBatch").text
    shell.run('%config EZBatch.on_interrupt = "stop"')  # IPython logs what is wrong with it
    assert shell.good("%config EZBatch.on_interrupt").result is None
