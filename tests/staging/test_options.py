"""What a mount's options do, with every client; and those that no plan lets through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ezbatch import EZBatchJob
from ezbatch.preloader import options, wrap
from ezbatch.preloader.options import unpack
from ezbatch.s3 import S3Mount, S3Mounts
from tests.preloader.conftest import Ended
from tests.staging.conftest import CLIENTS, Bucket, Cell, make_cell

if TYPE_CHECKING:
    from pathlib import Path

    from tests.staging.proxy import Proxy

RAN = ["/bin/sh", "-c", "echo ran"]


@pytest.fixture(params=CLIENTS)
def each(request: pytest.FixtureRequest, top: Path, proxy: Proxy) -> Cell:
    """Each client in turn."""
    return make_cell(request, top, proxy.url, request.param)


def test_what_is_written_is_written_as_asked(each: Cell, bucket: Bucket, proxy: Proxy) -> None:
    each.file("out/a.txt")
    words = "--quiet --recursive --recursive --storage-class STANDARD_IA --acl private --content-type 'text/x y' "
    words += "--cache-control 'max-age=1, public'"
    write = [
        S3Mount("out", bucket.uri("many"), options=words, sse="aws:kms", sse_kms_key_id="a 'key'"),
        S3Mount("out/a.txt", bucket.uri("one"), options=f"{words} --sse"),
    ]
    assert each.run(RAN, [], write) == Ended(0, b"ran\n", b"")
    puts = {request.key: request.headers for request in proxy.seen if request.method == "PUT" and request.key}
    assert set(puts) == {"many/a.txt", "one"}
    for headers in puts.values():
        lower = {name.lower(): value for name, value in headers.items()}
        assert lower["x-amz-storage-class"] == "STANDARD_IA"
        assert lower["x-amz-acl"] == "private"
        assert lower["content-type"] == "text/x y"
        assert lower["cache-control"] == "max-age=1, public"
    kms = {name.lower(): value for name, value in puts["many/a.txt"].items()}
    assert kms["x-amz-server-side-encryption"] == "aws:kms"
    assert kms["x-amz-server-side-encryption-aws-kms-key-id"] == "a 'key'"
    aes = {name.lower(): value for name, value in puts["one"].items()}
    assert aes["x-amz-server-side-encryption"] == "AES256"


def test_include_and_exclude(each: Cell, bucket: Bucket) -> None:
    for key in ("a.txt", "b.log", "c/d.txt", "c/e.log"):
        bucket.put(f"p/{key}")
    some = "--exclude '*' --include '*.txt' --exclude 'a*'"
    read = [S3Mount(bucket.uri("p"), "in", recursive=True, options=some)]
    write = [S3Mount(".", bucket.uri("q"), recursive=True, options="--exclude 'in/*' --include '*d.txt'")]
    assert each.run(RAN, read, write) == Ended(0, b"ran\n", b"")
    assert set(each.files()) == {"in/c/d.txt"}
    assert set(bucket.objects("q/")) == {"q/in/c/d.txt"}


def test_flags_of_every_request(each: Cell, bucket: Bucket, proxy: Proxy) -> None:
    bucket.put("p/a")
    bucket.put("one")
    words = "--no-sign-request --request-payer requester"
    each.environment = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    read = [S3Mount(bucket.uri("p/"), "in", options=words), S3Mount(bucket.uri("one"), "one", options=words)]
    assert each.run(RAN, read) == Ended(0, b"ran\n", b"")
    for request in proxy.seen:
        lower = {name.lower(): value for name, value in request.headers.items()}
        assert "authorization" not in lower
        if request.method == "GET" and request.key:
            assert lower["x-amz-request-payer"] == "requester"


@pytest.mark.parametrize(
    ("text", "is_read", "what"),
    [
        ("--dryrun", False, "--dryrun cannot be honoured"),
        ("--metadata a=b", False, "--metadata cannot be honoured"),
        ("--endpoint-url=http://x", True, "--endpoint-url cannot be honoured"),
        ("--acl private", True, "--acl is about what is written"),
        ("--acl", False, "--acl needs a value"),
        ("--request-payer me", True, "--request-payer can only be requester"),
        ("--exclude '*'", True, "--include and --exclude choose among many"),
        ("--exclude '*", True, "cannot be split into words"),
        ("stray", True, "stray cannot be honoured"),
    ],
)
def test_what_no_client_could_honour_is_refused_in_the_plan(text: str, is_read: bool, what: str) -> None:
    mount = S3Mount("s3://bucket/p/", "in", options=text) if is_read else S3Mount("out", "s3://bucket/q", options=text)
    mounts = S3Mounts(read=[mount]) if is_read else S3Mounts(write=[mount])
    problems = EZBatchJob("image", "true", mounts=mounts, preloader=True).problems()
    assert [problem.where for problem in problems] == [f"mounts.{'read' if is_read else 'write'}[0].options"]
    assert problems[0].what.startswith(what)
    assert problems[0].remedy


def test_options_of_an_old_file_are_none() -> None:
    old = options.parse("--quiet --recursive --recursive --sse AES256", is_read=False)
    assert (old.recursive, old.sse, old.packed(), old.problems) == (True, "AES256", "", [])


def test_packed_options_can_be_read_again() -> None:
    text = "--no-sign-request --acl 'a b' --exclude \"it's\" --include '*'"
    packed = options.parse(text, is_read=False).packed()
    again = options.parse(unpack(packed), is_read=False)
    assert again == options.parse(text, is_read=False)
    assert unpack("") == "--quiet"
    environment = wrap(["true"], [], [S3Mount("a", "s3://b/k", options=text)]).environment
    assert "it'" in environment["EZBATCH_WRITE"]
