"""The README's examples are run, in their order, as a reader would type them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def _blocks() -> list[tuple[str, str]]:
    """Return the Python blocks, and the indented blocks of commands, in order."""
    text = README.read_text(encoding="utf-8")
    found = re.finditer(r"```python\n(.*?)```|((?:^    [^\n]+\n)+)", text, re.DOTALL | re.MULTILINE)
    return [("python", match[1]) if match[1] else ("shell", match[2]) for match in found]


def test_the_readmes_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "process")
    monkeypatch.setenv("PATH", os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    names: dict[str, object] = {}
    commands = 0
    for kind, text in _blocks():
        if kind == "python":
            exec(compile(text, str(README), "exec"), names)  # noqa: S102 - running it is the test
            continue
        for line in text.splitlines():
            if line.strip().startswith("ezbatch "):
                commands += 1
                done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
                # A retry or a cancellation of what has succeeded is refused, in words.
                refused = "nothing to retry" in done.stderr or "ended already" in done.stderr
                assert done.returncode == 0 or refused, line + "\n" + done.stdout + done.stderr
    assert commands > 5


def test_make_knows_the_targets_that_the_readme_names() -> None:
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([a-z]+)", README.read_text(encoding="utf-8")):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
