"""Every client in every shell in every place: what goes well, and the table of what does not.

`make test` runs each row with s5cmd and with one more client, the shells and places taking turns; `make soak` runs all.
"""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from ezbatch.preloader import EXIT_DOWNLOAD, EXIT_NO_CLIENT, EXIT_UPLOAD
from ezbatch.s3 import S3Mount
from tests.preloader.conftest import Ended, finish
from tests.preloader.test_commands import COMMANDS
from tests.staging.conftest import CLIENTS, Bucket, Cell, cells
from tests.staging.proxy import first, some

if TYPE_CHECKING:
    import subprocess

    from tests.staging.proxy import Proxy, Request

RAN = ["/bin/sh", "-c", "echo ran"]
#: Names that one or another client is known to read more into than stands there.
ODD = [
    "a b",
    "  ",
    "it's",
    'say "x"',
    "*",
    "[ab]",
    "?",
    "-rf",
    "--",
    "μ 中文 🧬",
    "$HOME",
    "`id`",
    "\\",
    "#x",
    ".hidden",
]
ODD += ["..two", "%41", "a+b", "a&b=c", "{a,b}", "~"]


def no_downloads(cell: Cell, why: dict[tuple[str, bool | None], str]) -> None:
    """Each of these reads fails for its reason, and the command does not run."""
    mounts = [S3Mount(source, f"in{number}", recursive) for number, (source, recursive) in enumerate(why)]
    ended = cell.run(RAN, mounts, [S3Mount("in0", "s3://nowhere/x")])
    assert (ended.code, ended.out) == (EXIT_DOWNLOAD, b""), ended.err
    begins = [f"ezbatch: download failed: {source}: {what}" for (source, _), what in why.items()]
    check_lines(ended, begins, "; the command was not run")


def no_uploads(cell: Cell, why: dict[tuple[str, str], str], code: int = 0) -> None:
    """Each of these writes fails for its reason, and the command's own failure stays what it was."""
    mounts = [S3Mount(source, destination) for source, destination in why]
    ended = cell.run(["/bin/sh", "-c", f"echo ran; exit {code}"], [], mounts)
    assert (ended.code, ended.out) == (code or EXIT_UPLOAD, b"ran\n"), ended.err
    begins = [f"ezbatch: upload failed: {source} to {uri}: {what}" for (source, uri), what in why.items()]
    check_lines(ended, begins, f"; the command itself ended with exit code {code}")


def check_lines(ended: Ended, begins: list[str], end: str) -> None:
    lines = sorted(ended.err.decode().splitlines())
    for line, begin in zip(lines, sorted(begins), strict=True):
        assert line.startswith(begin), line
        assert line.endswith(end), line


@pytest.mark.parametrize("cell", cells(0), indirect=True)
def test_inputs_and_outputs(cell: Cell, bucket: Bucket) -> None:
    keys = [f"flat/{name}" for name in ODD] + [f"{name}.d/{name}" for name in ODD]
    for key in keys:
        bucket.put(f"p/{key}", key.encode())
    bucket.put("p/folder/", b"")
    bucket.put("pq/other")
    bucket.put("one ?* [x]", b"")
    read = [S3Mount(bucket.uri("p"), "in"), S3Mount(bucket.uri("one ?* [x]"), "deep/er/")]
    write = [
        S3Mount("in", bucket.uri("we*ird? [x]/"), sse="AES256"),
        S3Mount("deep/er/one ?* [x]", bucket.uri("-copy")),
        S3Mount("in", bucket.uri("plain")),
    ]
    ended = cell.run(RAN, read, write)
    assert ended == Ended(0, b"ran\n", b"")
    expected = {f"in/{key}": key.encode() for key in keys}
    assert cell.files() == {**expected, "deep/er/one ?* [x]": b""}
    assert bucket.objects("we*ird? [x]/") == {f"we*ird? [x]/{key}": key.encode() for key in keys}
    assert bucket.objects("plain/") == {f"plain/{key}": key.encode() for key in keys}
    assert bucket.objects("-copy") == {"-copy": b""}


@pytest.mark.soak
@pytest.mark.parametrize("cell", [(client, "dash", "process") for client in CLIENTS], ids=CLIENTS, indirect=True)
def test_a_prefix_of_100_000_keys(cell: Cell, bucket: Bucket, server: str) -> None:
    cell.url = server  # the way that can go wrong is slow
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: bucket.put(f"p/{n % 317}/{n}", b"%d" % n), range(100_000)))
    read, write = [S3Mount(bucket.uri("p/"), "in")], [S3Mount("in", bucket.uri("q/"))]
    ended = finish(cell.start(RAN, read, write), timeout=3000)
    assert ended == Ended(0, b"ran\n", b"")
    assert len(cell.files()) == 100_000
    pages = bucket.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix="q/")
    sizes = {item["Key"]: item["Size"] for page in pages for item in page["Contents"]}
    assert sizes == {f"q/{n % 317}/{n}": len(b"%d" % n) for n in range(100_000)}


@pytest.mark.parametrize("cell", cells(1), indirect=True)
def test_a_prefix_with_wildcards_gives_what_it_names_and_no_more(cell: Cell, bucket: Bucket) -> None:
    bucket.put("a*b/x?/f", b"literal")
    bucket.put("aXb/xY/f", b"fits the wildcards")
    ended = cell.run(RAN, [S3Mount(bucket.uri("a*b/x?/"), "in")])
    assert ended == Ended(0, b"ran\n", b"")
    assert cell.files() == {"in/f": b"literal"}


@pytest.mark.parametrize("cell", cells(2), indirect=True)
def test_missing(cell: Cell, bucket: Bucket) -> None:
    bucket.put("p/x")
    why: dict[tuple[str, bool | None], str] = {
        (bucket.uri("none"), None): "no such object",
        (bucket.uri("none/"), None): "no objects under this prefix",
        (bucket.uri("p"), False): "no such object, but objects below it: recursive=True copies those",
        (bucket.uri("p/none"), True): "no objects under this prefix",
        ("s3://no-such-bucket/x", None): "no such bucket",
    }
    no_downloads(cell, why)


@pytest.mark.parametrize("cell", cells(3), indirect=True)
def test_denied(cell: Cell, bucket: Bucket, proxy: Proxy) -> None:
    bucket.put("in")
    bucket.put("p/a")
    cell.file("out/a")
    bucket.put("unlisted/a")
    # The keys exist: only the rights are missing, to get objects, or to list them.
    proxy.fault = lambda request: "deny" if request.key or "unlisted" in request.query else ""
    no_downloads(cell, {(bucket.uri(key), None): "access denied" for key in ("in", "p/", "unlisted/")})
    no_uploads(cell, {("out", bucket.uri("q")): "access denied", ("out/a", bucket.uri("q")): "access denied"}, code=3)


@pytest.mark.parametrize("cell", cells(4), indirect=True)
def test_an_upload_that_may_not_be_looked_at_is_no_success(cell: Cell, bucket: Bucket, proxy: Proxy) -> None:
    cell.file("out/a")
    proxy.fault = lambda request: "deny" if request.method in ("GET", "HEAD") else ""
    no_uploads(cell, {("out", bucket.uri("out")): "uploaded, but it cannot be verified: access denied"})
    assert bucket.objects() == {"out/a": b"content"}


@pytest.mark.parametrize("cell", cells(5), indirect=True)
def test_throttled_at_30_percent(cell: Cell, bucket: Bucket, proxy: Proxy) -> None:
    for number in range(30):
        bucket.put(f"p/{number}", str(number).encode())
    proxy.fault = some(0.3, "throttle")
    ended = cell.run(RAN, [S3Mount(bucket.uri("p/"), "in")], [S3Mount("in", bucket.uri("q/"))])
    assert ended == Ended(0, b"ran\n", b"")
    assert bucket.objects("q/") == {f"q/{number}": str(number).encode() for number in range(30)}


@pytest.mark.parametrize("cell", cells(6), indirect=True)
@pytest.mark.parametrize("way", ["GET", "PUT"])
def test_reset_midway(cell: Cell, bucket: Bucket, proxy: Proxy, way: str) -> None:
    content = os.urandom(300_000)
    bucket.put("p/a", content)
    proxy.fault = first(2, "reset", way)
    ended = cell.run(RAN, [S3Mount(bucket.uri("p/"), "in")], [S3Mount("in/a", bucket.uri("q"))])
    assert ended == Ended(0, b"ran\n", b"")
    assert cell.files() == {"in/a": content}
    assert bucket.objects("q") == {"q": content}


@pytest.mark.parametrize("cell", cells(7), indirect=True)
def test_a_full_disk(cell: Cell, bucket: Bucket) -> None:
    bucket.put("p/a", b"x" * 3_000_000)
    cell.disk = 1_000_000
    ended = cell.run(RAN, [S3Mount(bucket.uri("p/"), "in")])
    assert (ended.code, ended.out) == (EXIT_DOWNLOAD, b""), ended.err
    assert "o space left" in ended.last


@pytest.mark.parametrize("cell", cells(8), indirect=True)
def test_what_cannot_be_uploaded(cell: Cell, bucket: Bucket) -> None:
    cell.file("out/a")
    (cell.work / "empty").mkdir()
    cell.file("odd/link").unlink()
    (cell.work / "odd/link").symlink_to("nowhere")
    why = {
        ("out", "s3://no-such-bucket/x"): "no such bucket",
        ("out/a", "s3://no-such-bucket/x"): "no such bucket",
        ("none", bucket.uri("x")): "nothing was produced: there is no such file or directory",
        ("empty", bucket.uri("x")): "nothing was produced: the directory is empty",
        ("odd", bucket.uri("x")): f"{cell.work}/odd/link is a link to nothing",
    }
    no_uploads(cell, why)
    assert bucket.objects() == {}


@pytest.mark.parametrize("cell", cells(9), indirect=True)
def test_killed_during_the_download(cell: Cell, bucket: Bucket, proxy: Proxy) -> None:
    bucket.put("p/a")
    proxy.fault = lambda request: "stall" if request.key and request.method == "GET" else ""
    process = cell.start(RAN, [S3Mount(bucket.uri("p/"), "in")])
    ended, seconds = killed(cell, process, proxy)
    assert (ended.code, ended.out) == (143, b""), ended.err
    assert ended.last == "ezbatch: stopped by SIGTERM; the command was not run"
    assert seconds < 30


@pytest.mark.parametrize("cell", cells(10), indirect=True)
def test_killed_during_the_command(cell: Cell, bucket: Bucket) -> None:
    script = "trap 'echo partial >out; exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    process = cell.start(["/bin/sh", "-c", script], [], [S3Mount("out", bucket.uri("out"))])
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    cell.signal(process, signal.SIGTERM)
    ended = finish(process, timeout=120)
    assert (ended.code, ended.err) == (7, b"")
    assert bucket.objects() == {"out": b"partial\n"}


@pytest.mark.parametrize("cell", cells(11), indirect=True)
def test_killed_during_an_upload_that_can_still_end(cell: Cell, bucket: Bucket, proxy: Proxy) -> None:
    cell.file("out/a", b"in time")
    proxy.fault = lambda request: "stall" if request.key and request.method == "PUT" else ""
    process = cell.start(["true"], [], [S3Mount("out", bucket.uri("out"))])
    assert proxy.stalled.wait(120)
    cell.signal(process, signal.SIGTERM)
    proxy.fault = lambda _request: ""
    proxy.go_on.set()
    ended = finish(process, timeout=120)
    assert (ended.code, ended.err) == (0, b"")
    assert bucket.objects() == {"out/a": b"in time"}


@pytest.mark.parametrize("cell", cells(12), indirect=True)
def test_an_upload_that_does_not_end_in_the_time_that_sigterm_left(cell: Cell, bucket: Bucket, proxy: Proxy) -> None:
    cell.file("out/a")
    proxy.fault = lambda request: "stall" if request.key and request.method == "PUT" else ""
    process = cell.start(["true"], [], [S3Mount("out", bucket.uri("out"))])
    assert proxy.stalled.wait(120)
    # What the script sends itself 25 s after SIGTERM. Of two signals at one moment, bash can lose one.
    cell.signal(process, signal.SIGALRM)
    ended = finish(process, timeout=120)
    assert ended.code == EXIT_UPLOAD, ended.err
    assert ended.last == (
        "ezbatch: upload failed: stopped by a signal before it was complete; the command itself ended with exit code 0"
    )
    assert bucket.objects() == {}


def killed(cell: Cell, process: subprocess.Popen[bytes], proxy: Proxy) -> tuple[Ended, float]:
    """End a job that waits for S3; return how it ended, and the seconds that took."""
    assert proxy.stalled.wait(120)
    began = time.monotonic()
    cell.signal(process, signal.SIGTERM)
    return finish(process, timeout=120), time.monotonic() - began


@pytest.mark.parametrize("cell", cells(0, ["none"]), indirect=True)
def test_an_image_without_a_client(cell: Cell, bucket: Bucket) -> None:
    bucket.put("in")
    ended = cell.run(RAN, [S3Mount(bucket.uri("in"), "in")])
    assert (ended.code, ended.out) == (EXIT_NO_CLIENT, b""), ended.err
    assert ended.last == (
        "ezbatch: no client: the image has none of s5cmd 2.3, aws and python3 with boto3; add one of them; "
        "the command was not run"
    )


def listing(request: Request) -> bool:
    return "list-type" in request.query


# s5cmd tries ten times, with pauses of its own: minutes.
@pytest.mark.parametrize("cell", cells(1, ["aws", "boto3"]), indirect=True)
def test_a_listing_that_stays_away_is_no_success(cell: Cell, bucket: Bucket, proxy: Proxy) -> None:
    cell.environment["AWS_MAX_ATTEMPTS"] = "2"
    for number in range(30):
        cell.file(f"out/{number}")
    proxy.fault = lambda request: "throttle" if listing(request) and request.method == "GET" else ""
    ended = cell.run(["true"], [], [S3Mount("out", bucket.uri("out"))])
    assert ended.code == EXIT_UPLOAD
    assert "SlowDown" in ended.last


@pytest.mark.parametrize("cell", cells(2), indirect=True)
@pytest.mark.parametrize("name", ["a comment first", "heredoc", "exec", "set -eu", "trap TERM"])
def test_commands_behave_as_without_it(cell: Cell, bucket: Bucket, name: str) -> None:
    cell.file("out", b"x")
    command = ["/bin/sh", "-c", COMMANDS[name]]
    alone = cell.run(command)
    assert cell.run(command, [], [S3Mount("out", bucket.uri("out"))]) == alone
    assert bucket.objects() == {"out": b"x"}
