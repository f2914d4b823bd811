"""What changes while it is copied, and keys that cannot be files: neither may pass for a success."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from ezbatch.preloader import EXIT_DOWNLOAD, EXIT_UPLOAD
from ezbatch.s3 import S3Mount
from tests.preloader.conftest import Ended
from tests.staging.conftest import CLIENTS, Bucket, Cell, make_cell

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.staging.proxy import Fault, Proxy, Request

RAN = ["/bin/sh", "-c", "echo ran"]
#: Enough for a client to fetch it in parts, if it wants.
SIZE = 1_500_000


@pytest.fixture(params=CLIENTS)
def each(request: pytest.FixtureRequest, top: Path, proxy: Proxy) -> Cell:
    """Each client in turn, in an image whose `sleep` does not wait."""
    cell = make_cell(request, top, proxy.url, request.param)
    (cell.top / "bin/sleep").unlink()
    (cell.top / "bin/sleep").symlink_to("true")
    return cell


def at(method: str, key: str, act: Callable[[int], None]) -> Fault:
    """Return what does something just before a request, told how many there were, and lets it pass."""
    count, lock = [0], threading.Lock()

    def fault(request: Request) -> str:
        with lock:
            if (request.method, request.key) == (method, key):
                act(count[0])
                count[0] += 1
        return ""

    return fault


def overwrite(file: Path, content: bytes) -> None:
    """Put other content of the same size in place, so that whoever is reading the file finds as much as before."""
    with file.open("r+b") as opened:
        opened.write(content)


def requests(proxy: Proxy, method: str, key: str) -> int:
    return sum((request.method, request.key) == (method, key) for request in proxy.seen)


@pytest.mark.parametrize("source", ["p/", "p/a"])
def test_an_object_that_is_replaced_meanwhile_is_copied_again(
    each: Cell, bucket: Bucket, proxy: Proxy, source: str
) -> None:
    bucket.put("p/a", b"a" * SIZE)
    # Of the same size: nothing but another look can tell.
    proxy.fault = at("GET", "p/a", lambda count: None if count else bucket.put("p/a", b"b" * SIZE))
    destination = "in/" if source == "p/a" else "in"
    assert each.run(RAN, [S3Mount(bucket.uri(source), destination)]) == Ended(0, b"ran\n", b"")
    assert requests(proxy, "GET", "p/a") == 2
    assert each.files() == {"in/a": b"b" * SIZE}


@pytest.mark.parametrize("source", ["p/", "p/a"])
def test_an_object_that_never_stays_the_same_is_no_input(each: Cell, bucket: Bucket, proxy: Proxy, source: str) -> None:
    bucket.put("p/a", b"a" * SIZE)
    proxy.fault = at("GET", "p/a", lambda count: bucket.put("p/a", b"%d" % count * SIZE))
    ended = each.run(RAN, [S3Mount(bucket.uri(source), "in")])
    assert (ended.code, ended.out) == (EXIT_DOWNLOAD, b"")
    assert ended.last.endswith(" changed while it was copied; the command was not run"), ended.err


def test_what_comes_and_changes_beside_the_input_is_no_matter(each: Cell, bucket: Bucket, proxy: Proxy) -> None:
    for key in ("p/a", "p/log", "q/a"):
        bucket.put(key, b"a" * SIZE)

    def meanwhile(count: int) -> None:
        for key in ("p/log", f"p/new-{count}", "q/a"):
            bucket.put(key, b"b" * SIZE)

    proxy.fault = at("GET", "p/a", meanwhile)
    read = [S3Mount(bucket.uri("p/"), "in", options="--exclude log")]
    assert each.run(RAN, read) == Ended(0, b"ran\n", b"")
    assert requests(proxy, "GET", "p/a") == 1
    assert each.files()["in/a"] == b"a" * SIZE


@pytest.mark.parametrize("source", ["out", "out/a"])
def test_a_file_that_is_written_meanwhile_is_uploaded_again(
    each: Cell, bucket: Bucket, proxy: Proxy, source: str
) -> None:
    file = each.file("out/a", b"older one")
    # What an earlier job left, of the same size.
    bucket.put("q/a", b"yesterday")

    def write(count: int) -> None:
        if count == 0:
            overwrite(file, b"newer one")

    proxy.fault = at("PUT", "q/a", write)
    destination = "q/a" if source == "out/a" else "q"
    assert each.run(RAN, [], [S3Mount(source, bucket.uri(destination))]) == Ended(0, b"ran\n", b"")
    assert requests(proxy, "PUT", "q/a") == 2
    assert bucket.objects() == {"q/a": b"newer one"}


@pytest.mark.parametrize("source", ["out", "out/a"])
def test_a_file_that_something_keeps_writing_is_no_output(
    each: Cell, bucket: Bucket, proxy: Proxy, source: str
) -> None:
    file = each.file("out/a", b"0")
    proxy.fault = at("PUT", "q/a", lambda count: overwrite(file, b"%d" % (count % 10)))
    destination = "q/a" if source == "out/a" else "q"
    ended = each.run(RAN, [], [S3Mount(source, bucket.uri(destination))])
    assert (ended.code, ended.out) == (EXIT_UPLOAD, b"ran\n")
    assert " changed while it was uploaded; " in ended.last, ended.err


def test_a_file_that_goes_away_is_not_taken_for_an_older_object(each: Cell, bucket: Bucket, proxy: Proxy) -> None:
    each.file("out/a")
    gone = each.file("out/b")
    for key in ("q/a", "q/b"):
        bucket.put(key, b"earlier")
    proxy.fault = at("PUT", "q/a", lambda _count: gone.unlink(missing_ok=True))
    assert each.run(RAN, [], [S3Mount("out", bucket.uri("q"))]).code == 0
    # What is uploaded is what is there when nothing changes any more.
    assert requests(proxy, "PUT", "q/a") == 2


def test_a_key_that_looks_like_a_folder_but_holds_something(each: Cell, bucket: Bucket) -> None:
    bucket.put("p/a")
    bucket.put("p/empty/", b"")
    bucket.put("p/it's full/", b"content")
    bucket.put("pq/full/", b"of another prefix")
    ended = each.run(RAN, [S3Mount(bucket.uri("p/"), "in")])
    assert (ended.code, ended.out) == (EXIT_DOWNLOAD, b"")
    assert ended.last == (
        f"ezbatch: download failed: {bucket.uri('p/')}: the key p/it's full/ ends with / but is not empty: it cannot "
        "be a file, and --exclude can leave it out; the command was not run"
    )
    assert each.files() == {}
    # The remedy works, and such a key is in nobody's way where something is written.
    read = [S3Mount(bucket.uri("p"), "in", options="--exclude '*full*/'")]
    assert each.run(RAN, read, [S3Mount("in", bucket.uri("p"))]) == Ended(0, b"ran\n", b"")
    assert each.files() == {"in/a": b"content"}


@pytest.mark.parametrize("slash", ["/", ":"])
def test_an_access_point_is_a_bucket(request: pytest.FixtureRequest, top: Path, proxy: Proxy, slash: str) -> None:
    cell = make_cell(request, top, proxy.url, "none")
    client = cell.top / "bin/s5cmd"
    client.write_text('#!/bin/sh\nprintf "AccessDenied %s" "$*" >&2\n[ "$2" = --help ]\n')
    client.chmod(0o755)
    point = "arn:aws:s3:us-east-1:123456789012:accesspoint"
    ended = cell.run(RAN, [S3Mount(f"s3://{point}{slash}name/p/a", "in")])
    assert ended.code == EXIT_DOWNLOAD
    assert f"head --raw s3://{point}:name/p/a)" in ended.last
