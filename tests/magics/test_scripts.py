"""From a body to a command, which runs in any POSIX shell."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ezbatch_jupyter.cell import command

SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"]]


@pytest.fixture(params=SHELLS, ids=lambda words: words[0])
def posix(request: pytest.FixtureRequest) -> list[str]:
    """The words of a shell."""
    words: list[str] = request.param
    if shutil.which(words[0]) is None:
        pytest.skip(f"no {words[0]} here")
    return words


def run(posix: list[str], script: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    words = command(script, None)
    assert words[0] == "/bin/sh"
    return subprocess.run(
        [*posix, *words[1:]], capture_output=True, text=True, check=False, env={**os.environ, "TMPDIR": str(tmp_path)}
    )


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("#!/usr/bin/env python3\nimport sys\nprint('hi', '$x', sys.argv[1:])", "hi $x []\n"),
        ("#! /usr/bin/env -S python3 -u\nprint('hi')", "hi\n"),
        ("#!/bin/sh -e\nfalse || printf '%s|' 'a  b' \"c\\\\n\"", "a  b|c\\n|"),
        ("#!/usr/bin/awk -f\nBEGIN { print 6 * 7 }", "42\n"),
        ("\n\n#!/usr/bin/env python3\nprint('below #EZ lines')", "below #EZ lines\n"),
    ],
)
def test_a_shebang_is_honoured(posix: list[str], script: str, said: str, tmp_path: Path) -> None:
    done = run(posix, script, tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == (said, "", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_shebang_keeps_the_exit_code_and_the_lines(posix: list[str], tmp_path: Path) -> None:
    done = run(posix, "#!/usr/bin/env python3\n\n1/0", tmp_path)
    assert done.returncode == 1
    assert "line 3, in <module>\n    1/0\n" in done.stderr
    assert run(posix, "#!/bin/sh\nexit 42", tmp_path).returncode == 42
    assert run(posix, "#!/no/such/interpreter\nx", tmp_path).returncode == 127
    assert list(tmp_path.iterdir()) == []


def test_a_shebangs_script_gets_the_signal_that_ends_the_job(posix: list[str], tmp_path: Path) -> None:
    script = (
        "#!/usr/bin/env python3\nimport signal, sys, time\n"
        "def end(*_):\n    print('ending', flush=True)\n    sys.exit(9)\n"
        "signal.signal(signal.SIGTERM, end)\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen(
        [*posix, *command(script, None)[1:]],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        # The first process alone, as a container's runtime signals it.
        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        assert process.stdout.read() == "ending\n"
        assert process.wait(timeout=30) == 9
        assert time.monotonic() - begun < 20
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("lang", "script", "line"),
    [
        ("python", "x = 1\n\nraise ValueError", "line 4"),
        ("sh", "true\nnosuchcommand", "3"),
        ("bash", "true\nnosuchcommand", "line 3"),
    ],
)
def test_errors_tell_the_lines_of_the_cell(lang: str, script: str, line: str) -> None:
    done = subprocess.run(command(script, lang), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert line in done.stderr
