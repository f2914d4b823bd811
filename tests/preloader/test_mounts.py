"""What is copied where, and how it fails."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from ezbatch.preloader import EXIT_DOWNLOAD, EXIT_INTERNAL, EXIT_NO_CLIENT, EXIT_UPLOAD, wrap
from ezbatch.s3 import S3Mount
from tests.containers import require
from tests.preloader.conftest import SHELLS, Bench, below, finish, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RAN = ["/bin/sh", "-c", "echo ran"]
ODD = [
    "a b",
    "  ",
    "it's",
    'say "x"',
    "*",
    "[ab]",
    "?",
    "new\nline",
    "end\n",
    "-rf",
    "--",
    "-",
    "μ 中文 🧬",
    "$HOME",
    "`id`",
    "\\",
    "back\\slash",
    "#x",
    "~",
    "a;b&c|d",
    ".hidden",
    "..two",
    "...",
    "%s",
    "a=b",
    "{a,b}",
    "!",
    "\x01\x7f",
    "\udcff\udc81",
]


def get(source: str, destination: str, recursive: bool | None = None) -> S3Mount:
    return S3Mount(source, destination, recursive)


put = get


def downloads(bench: Bench, *mounts: S3Mount) -> dict[str, bytes]:
    ended = bench.run(RAN, mounts)
    assert (ended.code, ended.out, ended.err) == (0, b"ran\n", b"")
    return bench.files()


def uploads(bench: Bench, *mounts: S3Mount) -> dict[str, bytes]:
    ended = bench.run(RAN, (), mounts)
    assert (ended.code, ended.out, ended.err) == (0, b"ran\n", b"")
    assert not list(bench.store.glob(".ezbatch-partial*"))
    return bench.objects()


def no_download(bench: Bench, mount: S3Mount, why: str, *, nobody: bool = False) -> None:
    ended = bench.run(RAN, [mount], [S3Mount("x", "s3://bucket/x")], nobody=nobody)
    assert (ended.code, ended.out) == (EXIT_DOWNLOAD, b"")
    assert ended.last.startswith(f"ezbatch: download failed: {mount.source}: "), ended.last
    assert ended.last.endswith("; the command was not run")
    assert why in ended.last
    assert ended.err.count(b"\n") == 1


def no_upload(bench: Bench, mount: S3Mount, why: str, *, nobody: bool = False) -> None:
    for code in (0, 3):
        ended = bench.run(["/bin/sh", "-c", f"echo ran; exit {code}"], (), [mount], nobody=nobody)
        assert (ended.code, ended.out) == (code or EXIT_UPLOAD, b"ran\n")
        assert ended.last.startswith(f"ezbatch: upload failed: {mount.source} to {mount.destination}: "), ended.last
        assert ended.last.endswith(f"; the command itself ended with exit code {code}")
        assert why in ended.last
        assert ended.err.count(b"\n") == 1
    assert not list(bench.store.glob(".ezbatch-partial*"))


# --- what goes where


@pytest.mark.parametrize(
    ("source", "destination", "recursive", "expected"),
    [
        ("p/a", "x", None, "x"),
        ("p/a", "x", False, "x"),
        ("p/a", "d/", None, "d/a"),
        ("p/a", "d/e/", False, "d/e/a"),
        ("p/a", "deep/er/x", None, "deep/er/x"),
        ("p/a", "there", None, "there/a"),
        ("p/a", ".", None, "a"),
        ("p/a", "./-x", None, "-x"),
        ("p/a", "-x", None, "-x"),
        ("p/a", "../work/y", None, "y"),
    ],
)
def test_one_object(bench: Bench, source: str, destination: str, recursive: bool | None, expected: str) -> None:
    bench.put(f"bucket/{source}", b"A")
    (bench.work / "there").mkdir()
    assert downloads(bench, get(f"s3://bucket/{source}", destination, recursive)) == {expected: b"A"}


@pytest.mark.parametrize("destination", ["d", "d/", "d/e/f", ".", "/absolute"])
@pytest.mark.parametrize(("source", "recursive"), [("p/", None), ("p", None), ("p", True), ("p/", True)])
def test_everything_below_a_prefix(bench: Bench, source: str, recursive: bool | None, destination: str) -> None:
    for key in ("a", "b/c", "b/.d", ".e/f"):
        bench.put(f"bucket/p/{key}", key.encode())
    bench.put("bucket/pq")
    (bench.store / "bucket/p/empty").mkdir()
    if destination == "/absolute":
        destination = str(bench.work / "absolute")
    files = downloads(bench, get(f"s3://bucket/{source}", destination, recursive))
    below = (bench.work / destination).resolve().relative_to(bench.work.resolve())
    assert files == {os.path.normpath(below / key): key.encode() for key in ("a", "b/c", "b/.d", ".e/f")}


@pytest.mark.parametrize("source", ["s3://bucket", "s3://bucket/"])
def test_a_whole_bucket(bench: Bench, source: str) -> None:
    bench.put("bucket/a", b"A")
    bench.put("bucket/b/c", b"C")
    assert downloads(bench, get(source, "d")) == {"d/a": b"A", "d/b/c": b"C"}


def test_several_at_once_and_over_what_is_there(bench: Bench) -> None:
    for number in range(10):
        bench.put(f"bucket/{number}/x", str(number).encode())
        bench.file(f"{number}/x", b"older and longer").chmod(0o444)
    files = downloads(bench, *(get(f"s3://bucket/{number}/", str(number)) for number in range(10)))
    assert files == {f"{number}/x": str(number).encode() for number in range(10)}


@pytest.mark.parametrize(
    ("source", "destination", "recursive", "expected"),
    [
        ("out", "s3://bucket/r", None, {"r/a": b"A", "r/b/.c": b"C"}),
        ("out/", "s3://bucket/r/", None, {"r/a": b"A", "r/b/.c": b"C"}),
        ("./out", "s3://bucket/r/s", True, {"r/s/a": b"A", "r/s/b/.c": b"C"}),
        ("out", "s3://bucket", None, {"a": b"A", "b/.c": b"C"}),
        ("out/a", "s3://bucket/r", None, {"r": b"A"}),
        ("out/a", "s3://bucket/r", False, {"r": b"A"}),
        ("out/a", "s3://bucket/r", True, {"r": b"A"}),
        ("out/a", "s3://bucket/r/", None, {"r/a": b"A"}),
        ("out/a", "s3://bucket/", None, {"a": b"A"}),
        ("out/a", "s3://bucket", None, {"a": b"A"}),
        ("-dash", "s3://bucket/-x", None, {"-x": b"D"}),
    ],
)
def test_outputs(
    bench: Bench, source: str, destination: str, recursive: bool | None, expected: dict[str, bytes]
) -> None:
    bench.file("out/a", b"A")
    bench.file("out/b/.c", b"C")
    bench.file("-dash", b"D")
    (bench.work / "out/empty").mkdir()
    objects = uploads(bench, put(source, destination, recursive))
    assert objects == {f"bucket/{key}": content for key, content in expected.items()}


def test_what_was_in_the_store_stays(bench: Bench) -> None:
    bench.put("bucket/r/old", b"old")
    bench.put("bucket/r/a", b"replaced")
    bench.file("out/a", b"A")
    assert uploads(bench, put("out", "s3://bucket/r"), put("out/a", "s3://new-bucket/k")) == {
        "bucket/r/old": b"old",
        "bucket/r/a": b"A",
        "new-bucket/k": b"A",
    }


def test_odd_names_in_trees(bench: Bench) -> None:
    keys = [key for name in ODD for key in (f"flat/{name}", f"{name}/{name}-file")]
    expected = {key: os.fsencode(key) for key in keys}
    for key, content in expected.items():
        bench.put(f"bucket/p/{key}", content)
    ended = bench.run(RAN, [get("s3://bucket/p/", "in")], [put("in", "s3://bucket/q")])
    assert (ended.code, ended.err) == (0, b"")
    assert bench.files() == {f"in/{key}": content for key, content in expected.items()}
    for top in ("p", "q"):
        prefix = f"bucket/{top}/"
        objects = {key.removeprefix(prefix): value for key, value in bench.objects().items() if key.startswith(prefix)}
        assert objects == expected


@pytest.mark.parametrize("name", ODD)
def test_odd_names_of_one_file(bench: Bench, name: str) -> None:
    bench.put(f"bucket/{name}/{name}", b"x")
    ended = bench.run(RAN, [get(f"s3://bucket/{name}/{name}", name)], [put(name, f"s3://bucket/out/{name}/")])
    assert (ended.code, ended.err) == (0, b"")
    assert bench.files() == {name: b"x"}
    assert bench.objects()[f"bucket/out/{name}/{name}"] == b"x"


def test_many_files_in_one_directory(bench: Bench) -> None:
    for number in range(350):
        bench.put(f"bucket/p/{number}", str(number).encode())
    ended = bench.run(RAN, [get("s3://bucket/p/", "in")], [put("in", "s3://bucket/q/")])
    assert (ended.code, ended.err) == (0, b"")
    assert len(bench.files()) == 350
    assert bench.objects()["bucket/q/349"] == b"349"


def test_links_are_followed(bench: Bench) -> None:
    bench.file("real/file", b"F")
    (bench.work / "out").mkdir()
    (bench.work / "out/file").symlink_to("../real/file")
    (bench.work / "out/directory").symlink_to("../real")
    (bench.work / "link").symlink_to("out")
    assert uploads(bench, put("link", "s3://bucket/r"), put("out/file", "s3://bucket/one")) == {
        "bucket/r/file": b"F",
        "bucket/r/directory/file": b"F",
        "bucket/one": b"F",
    }


def test_modes_are_not_kept_and_the_umask_holds(bench: Bench) -> None:
    bench.put("bucket/in", b"x").chmod(0o555)
    bench.put("bucket/p/in", b"x").chmod(0o444)
    shell = ["sh", "-c", 'umask 027; exec "$@"', "sh"]
    mounts = [get("s3://bucket/in", "in"), get("s3://bucket/p/", "p")]
    ended = bench.run(["/bin/sh", "-c", "umask"], mounts, [put("in", "s3://bucket/out")], before=shell)
    assert (ended.code, ended.out, ended.err) == (0, b"0027\n", b"")
    for path in (bench.work / "in", bench.work / "p/in", bench.store / "bucket/out"):
        assert path.stat().st_mode & 0o777 == 0o640


def test_readers_of_a_store_never_see_half_an_object(bench: Bench) -> None:
    for number in range(40):
        bench.file(f"out/{number}", b"x" * 1_000_000)
    process = bench.start(["true"], [], [put("out", "s3://bucket/r")])
    seen = set()
    while process.poll() is None:
        for path in (bench.store / "bucket").rglob("*"):
            if path.is_file():
                seen.add((path.parent.name, path.stat().st_size))
    assert finish(process).code == 0
    assert seen <= {("r", 1_000_000)}
    assert len(bench.objects()) == 40


def test_jobs_that_upload_at_the_same_time(dash: Bench) -> None:
    dash.file("out/a", b"A")
    processes = [dash.start(["true"], [], [put("out", f"s3://bucket/{job}/{n}") for n in range(4)]) for job in range(8)]
    assert [finish(process).code for process in processes] == [0] * 8
    assert dash.objects() == {f"bucket/{job}/{n}/a": b"A" for job in range(8) for n in range(4)}


# --- downloads that fail


@pytest.mark.parametrize(
    ("source", "recursive", "why"),
    [
        ("s3://bucket/none", None, "no such object"),
        ("s3://bucket/none", False, "no such object"),
        ("s3://bucket/none", True, "no objects under this prefix"),
        ("s3://bucket/none/", None, "no objects under this prefix"),
        ("s3://bucket/empty/", None, "no objects under this prefix"),
        ("s3://bucket/empty", True, "no objects under this prefix"),
        ("s3://bucket/a", True, "no objects under this prefix"),
        ("s3://bucket/a/", None, "no objects under this prefix"),
        ("s3://bucket/a/b", None, "no such object"),
        ("s3://bucket/p", False, "no such object, but objects below it: recursive=True copies those"),
        ("s3://bucket/p/", False, "not the name of one object"),
        ("s3://bucket", False, "not the name of one object"),
        ("s3://nowhere/a", None, "no such bucket"),
        ("s3://nowhere/", None, "no such bucket"),
        ("s3://bucket/../bucket/a", None, "would leave the store"),
        ("s3://../a", None, "would leave the store"),
        ("s3://./bucket/a", None, "would leave the store"),
        ("s3://bucket/p/..", True, "would leave the store"),
        ("s3://", None, "not an s3:// address"),
        ("/bucket/a", None, "not an s3:// address"),
        ("https://bucket/a", None, "not an s3:// address"),
    ],
)
def test_a_missing_input(bench: Bench, source: str, recursive: bool | None, why: str) -> None:
    bench.put("bucket/a")
    bench.put("bucket/p/b")
    (bench.store / "bucket/empty/below").mkdir(parents=True)
    no_download(bench, get(source, "in", recursive), why)


def test_every_missing_input_is_named(bench: Bench) -> None:
    bench.put("bucket/a")
    ended = bench.run(RAN, [get(f"s3://bucket/{key}", "in") for key in ("x", "a", "y\nz")])
    assert (ended.code, ended.out) == (EXIT_DOWNLOAD, b"")
    assert sorted(ended.err.decode().splitlines()) == [
        "ezbatch: download failed: s3://bucket/x: no such object; the command was not run",
        "ezbatch: download failed: s3://bucket/y z: no such object; the command was not run",
    ]


def test_an_input_that_may_not_be_read(bench: Bench) -> None:
    bench.put("bucket/a").chmod(0)
    bench.put("bucket/p/b").chmod(0)
    bench.put("bucket/q/r/c")
    (bench.store / "bucket/q/r").chmod(0)
    for source in ("s3://bucket/a", "s3://bucket/p/", "s3://bucket/q/", "s3://bucket/q/r/c", "s3://bucket/q/r/"):
        no_download(bench, get(source, "in"), "ermission denied", nobody=True)


def test_a_destination_that_may_not_be_written(bench: Bench) -> None:
    bench.put("bucket/p/a")
    bench.file("file")
    (bench.work / "shut").mkdir()
    (bench.work / "shut").chmod(0o555)
    for source in ("s3://bucket/p/", "s3://bucket/p/a"):
        no_download(bench, get(source, "shut/in"), "ermission denied", nobody=True)
        no_download(bench, get(source, "shut/in/deep/er"), "ermission denied", nobody=True)
        no_download(bench, get(source, "file/in"), "irectory")
    no_download(bench, get("s3://bucket/p/", "file"), "directory")


def test_a_directory_in_the_way_of_an_input(bench: Bench) -> None:
    bench.put("bucket/p/a")
    (bench.work / "in/a").mkdir(parents=True)
    no_download(bench, get("s3://bucket/p/a", "in"), "is a directory")
    no_download(bench, get("s3://bucket/p/", "in"), "directory")


def test_a_full_device(bench: Bench) -> None:
    bench.put("bucket/p/full")
    (bench.work / "full").symlink_to("/dev/full")
    no_download(bench, get("s3://bucket/p/full", "full"), "No space left on device")
    no_download(bench, get("s3://bucket/p/", "."), "No space left on device")


@pytest.fixture
def small_disk(bench: Bench) -> Iterator[Path]:
    """A file system of 64 KiB at work/disk."""
    disk = bench.work / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0777", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a tmpfs: run as root")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk(bench: Bench, small_disk: Path) -> None:
    for number in range(20):
        bench.put(f"bucket/p/{number}", b"x" * 8_000)
        bench.file(f"out/{number}", b"x" * 8_000)
    bench.put("bucket/big", b"x" * 100_000)
    no_download(bench, get("s3://bucket/p/", "disk/in"), "No space left on device")
    no_download(bench, get("s3://bucket/big", "disk/big"), "No space left on device")
    (small_disk / "store").mkdir()
    for file in (small_disk / "in").iterdir():
        file.unlink()
    (small_disk / "big").unlink()
    store = {"EZBATCH_S3": f"directory:{small_disk}/store"}
    for source in ("out", "../store/bucket/big"):
        ended = bench.run(RAN, [], [put(source, "s3://bucket/r")], env=store)
        assert ended.code == EXIT_UPLOAD
        assert "No space left on device" in ended.last
        # Nothing half-written, and the space is free again.
        assert not [path for path in (small_disk / "store").rglob("*") if path.is_file()]


# --- uploads that fail


@pytest.mark.parametrize(
    ("source", "destination", "recursive", "why"),
    [
        ("none", "s3://bucket/r", None, "nothing was produced"),
        ("none/", "s3://bucket/r", True, "nothing was produced"),
        ("file/below", "s3://bucket/r", None, "nothing was produced"),
        ("empty", "s3://bucket/r", None, "nothing was produced: the directory is empty"),
        ("dangling", "s3://bucket/r", None, "nothing was produced"),
        ("broken", "s3://bucket/r", None, "link is a link to nothing"),
        ("looping", "s3://bucket/r", None, "again is a link to a directory above itself"),
        ("special", "s3://bucket/r", None, "socket is neither a file nor a directory"),
        ("empty", "s3://bucket/r", False, "recursive is False and the source is a directory"),
        ("file", "s3://bucket/p", None, "is a directory"),
        ("file", "s3://bucket/a/b", None, "irectory"),
        ("full", "s3://bucket/a/b", None, "irectory"),
        ("full", "s3://bucket/q", None, "directory"),
        ("file", "/bucket/p", None, "not an s3:// address"),
        ("file", "s3://bucket/../../x", None, "would leave the store"),
        ("file", "s3://..", None, "would leave the store"),
    ],
)
def test_an_output_that_cannot_be_uploaded(
    bench: Bench, source: str, destination: str, recursive: bool | None, why: str
) -> None:
    bench.put("bucket/a")
    bench.put("bucket/p/b")
    bench.put("bucket/q/x/b")
    bench.file("file")
    for name in ("empty/below", "broken", "looping/a", "special"):
        (bench.work / name).mkdir(parents=True)
    bench.file("full/x")
    bench.file("looping/file")
    (bench.work / "looping/a/again").symlink_to("..")
    (bench.work / "broken/link").symlink_to("nowhere")
    (bench.work / "dangling").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as listening:
        # Bound by a short name: a socket's path has 107 bytes at most.
        here = os.open(bench.work / "special", os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    no_upload(bench, put(source, destination, recursive), why)


def test_what_can_be_uploaded_is_uploaded_all_the_same(bench: Bench) -> None:
    bench.file("out/a", b"A")
    (bench.work / "out/link").symlink_to("nowhere")
    ended = bench.run(
        RAN, [], [put("out", "s3://bucket/r"), put("none", "s3://bucket/n"), put("out/a", "s3://bucket/k")]
    )
    assert ended.code == EXIT_UPLOAD
    assert ended.err.count(b"\n") == 2
    assert bench.objects() == {"bucket/r/a": b"A", "bucket/k": b"A"}


def test_a_store_that_may_not_be_written(bench: Bench) -> None:
    bench.file("out/a")
    (bench.store / "bucket").chmod(0o555)
    no_upload(bench, put("out", "s3://bucket/r"), "ermission denied", nobody=True)
    no_upload(bench, put("out/a", "s3://bucket/r"), "ermission denied", nobody=True)
    bench.store.chmod(0o555)
    no_upload(bench, put("out", "s3://bucket/r"), "ermission denied", nobody=True)


def test_an_output_that_may_not_be_read(bench: Bench) -> None:
    bench.file("out/a").chmod(0)
    bench.file("shut/a")
    (bench.work / "shut").chmod(0)
    no_upload(bench, put("out", "s3://bucket/r"), "ermission denied", nobody=True)
    no_upload(bench, put("out/a", "s3://bucket/r"), "ermission denied", nobody=True)
    no_upload(bench, put("shut", "s3://bucket/r"), "permission denied", nobody=True)


def test_a_store_that_is_not_there(bench: Bench) -> None:
    bench.file("out")
    ended = bench.run(RAN, [], [put("out", "s3://bucket/r")], env={"EZBATCH_S3": f"directory:{bench.top}/none"})
    assert (ended.code, ended.out) == (EXIT_NO_CLIENT, b"")
    assert ended.last == f"ezbatch: no client: there is no directory {bench.top}/none; the command was not run"


def test_a_store_that_goes_away_during_the_command(bench: Bench) -> None:
    ended = bench.run(["/bin/sh", "-c", "echo x >out; mv ../store ../away; : >../store"], [], [put("out", "s3://b/r")])
    assert ended.code == EXIT_UPLOAD
    assert "Not a directory" in ended.last


@pytest.mark.parametrize("code", ["exit 3", "kill -9 $$", "kill -TERM $$", "exec /no/such/program"])
def test_outputs_of_a_command_that_fails_are_kept_with_its_code(bench: Bench, code: str) -> None:
    expected = {"exit 3": 3, "kill -9 $$": 137, "kill -TERM $$": 143}.get(code, 127)
    ended = bench.run(["/bin/sh", "-c", f"echo partial >out; {code}"], [], [put("out", "s3://bucket/out")])
    assert ended.code == expected
    assert bench.objects() == {"bucket/out": b"partial\n"}


# --- retries


def worker_sleeps(pid: int) -> bool:
    """Say whether a worker waits before its next try, which is the only thing here that lasts."""
    first = [each for child in below(pid)[:1] for each in below(child)]
    threading.Event().wait(0.1)
    return bool(first) and [each for child in below(pid)[:1] for each in below(child)] == first


@pytest.mark.parametrize("way", ["get", "put"])
def test_a_copy_that_fails_is_tried_again(bench: Bench, way: str) -> None:
    # Reading this file fails with an input/output error, as a bad disk does.
    broken = (bench.store / "bucket/in") if way == "get" else (bench.work / "in")
    broken.symlink_to("/proc/self/mem")
    process = (
        bench.start(RAN, [get("s3://bucket/in", "in")])
        if way == "get"
        else bench.start(RAN, [], [put("in", "s3://bucket/in")])
    )
    until(lambda: worker_sleeps(process.pid), "the pause before the second try")
    broken.unlink()
    broken.write_bytes(b"mended")
    ended = finish(process)
    assert (ended.code, ended.out, ended.err) == (0, b"ran\n", b"")
    assert (bench.work / "in").read_bytes() == (bench.store / "bucket/in").read_bytes() == b"mended"


@pytest.mark.parametrize("shell", ["dash", "bash"])  # busybox does not look for `sleep` on PATH
def test_it_is_tried_four_times(dash: Bench, shell: str) -> None:
    bench = Bench(SHELLS[shell], dash.top)
    (bench.store / "bucket/in").symlink_to("/proc/self/mem")
    (bench.work / "sleep").write_text(f'#!/bin/sh\necho "$1" >>{bench.top}/slept\n')
    (bench.work / "sleep").chmod(0o755)
    ended = bench.run(RAN, [get("s3://bucket/in", "in")], env={"PATH": f"{bench.work}:{os.environ['PATH']}"})
    assert ended.code == EXIT_DOWNLOAD
    assert "Input/output error" in ended.last
    assert (bench.top / "slept").read_text().split() == ["1", "2", "4"]


# --- variables and images that are not right


@pytest.mark.parametrize(
    "environment",
    [
        {"EZBATCH_COMMAND": None},
        {"EZBATCH_COMMAND": ""},
        {"EZBATCH_COMMAND": "echo 'unterminated"},
        {"EZBATCH_COMMAND": "echo )"},
        {"EZBATCH_READ": "'"},
        {"EZBATCH_READ": "s3://b/k k"},
        {"EZBATCH_READ": "s3://b/k k maybe '' '' ''"},
        {"EZBATCH_READ": "'' k auto '' '' ''"},
        {"EZBATCH_READ": "s3://b/k '' auto '' '' ''"},
        {"EZBATCH_WRITE": "k s3://b/k auto '' '' '' k"},
        {"EZBATCH_WRITE": "("},
        {"EZBATCH_ARRAY": "2"},
        {"EZBATCH_ARRAY": "2 1 A 1"},
        {"EZBATCH_ARRAY": "0 1 A"},
        {"EZBATCH_ARRAY": "x 1 A 1"},
        {"EZBATCH_ARRAY": "1 1 A 1 more"},
        {"EZBATCH_ARRAY": "1 0 '\"'"},
        {"EZBATCH_ARRAY": "'"},
    ],
)
def test_malformed_variables(bench: Bench, environment: dict[str, str | None]) -> None:
    ended = bench.run(RAN, env={"AWS_BATCH_JOB_ARRAY_INDEX": "0"} | environment)
    assert (ended.code, ended.out) == (EXIT_INTERNAL, b"")
    assert ended.last == "ezbatch: malformed EZBATCH_* variables or array index; the command was not run"


@pytest.mark.parametrize("store", ["directory", "directory:", "directory:relative", "elsewhere:/x"])
def test_an_unknown_store(bench: Bench, store: str) -> None:
    ended = bench.run(RAN, [get("s3://bucket/a", "a")], env={"EZBATCH_S3": store})
    assert (ended.code, ended.out) == (EXIT_INTERNAL, b"")


def test_a_script_without_the_store_it_is_asked_for(bench: Bench) -> None:
    wrapped = wrap(RAN, [get("s3://bucket/a", "a")], stores=("s3",))
    environment = {"PATH": os.environ["PATH"], **wrapped.environment, "EZBATCH_S3": f"directory:{bench.store}"}
    words = [*bench.shell, *wrapped.command[1:]]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (EXIT_INTERNAL, "")
    assert done.stderr.endswith("cannot copy with EZBATCH_S3=directory; the command was not run\n")


@pytest.mark.parametrize("shell", ["dash", "bash"])  # busybox brings its own
def test_an_image_without_the_tools(dash: Bench, shell: str) -> None:
    bench = Bench([require(shell)], dash.top)
    ended = bench.run(RAN, [], [put("a", "s3://bucket/a")], env={"PATH": "/nonexistent"})
    assert (ended.code, ended.out) == (EXIT_NO_CLIENT, b"")
    assert ended.last.startswith("ezbatch: no client: the image has no cp; add it")


# --- containers that allow little


def test_a_read_only_root_and_no_privileges(bench: Bench) -> None:
    bwrap = require("bwrap")
    bench.put("bucket/in", b"in")
    sandbox = [
        bwrap,
        "--ro-bind",
        "/",
        "/",
        "--bind",
        str(bench.top),
        str(bench.top),
        "--dev",
        "/dev",
        "--proc",
        "/proc",
    ]
    sandbox += ["--unshare-pid", "--unshare-user", "--uid", "1000", "--gid", "1000", "--as-pid-1"]
    command = ["/bin/sh", "-c", "id -u; touch /ezbatch-was-here 2>/dev/null || echo read-only; cat in >out"]
    ended = bench.run(command, [get("s3://bucket/in", "in")], [put("out", "s3://bucket/out")], before=sandbox)
    assert (ended.code, ended.out, ended.err) == (0, b"1000\nread-only\n", b"")
    assert bench.objects()["bucket/out"] == b"in"


def test_nothing_is_left_but_the_mounts(bench: Bench) -> None:
    bench.put("bucket/in", b"in")
    bench.run([sys.executable, "-c", "pass"], [get("s3://bucket/in", "in")], [put("in", "s3://bucket/out")])
    assert sorted(path.name for path in bench.work.iterdir()) == ["in"]
    assert sorted(path.name for path in bench.store.iterdir()) == ["bucket"]
