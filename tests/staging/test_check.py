"""`check()` asks S3, leaves nothing behind, and is asked for by nobody but the user."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from ezbatch.s3 import S3Mount, S3Mounts
from tests.staging.conftest import CREDENTIALS, Bucket

if TYPE_CHECKING:
    from tests.staging.proxy import Proxy


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, proxy: Proxy) -> None:
    for name, value in {**CREDENTIALS, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": proxy.url}.items():
        monkeypatch.setenv(name, value)


def test_what_is_there_and_can_be_written(bucket: Bucket) -> None:
    bucket.put("p/a")
    bucket.put("p/b/c")
    before = bucket.objects()
    mounts = S3Mounts(
        read=[S3Mount(bucket.uri("p/a"), "in"), S3Mount(bucket.uri("p"), "in"), S3Mount(bucket.uri(), "in")],
        write=[S3Mount("out", bucket.uri("q/")), S3Mount("out", bucket.uri("q"), sse="AES256")],
    )
    found = mounts.check()
    assert [each.state for each in found] == ["ok"] * 5
    assert [each.detail for each in found[:2]] == ["one object of 7 bytes", "2 objects"]
    assert [each.mount for each in found] == [*mounts.reads, *mounts.writes]
    assert all(found)
    assert bucket.objects() == before


def test_what_is_missing(bucket: Bucket) -> None:
    bucket.put("p/a")
    mounts = S3Mounts(
        read=[
            S3Mount(bucket.uri("none"), "in"),
            S3Mount(bucket.uri("none/"), "in"),
            S3Mount(bucket.uri("p"), "in", recursive=False),
            S3Mount("s3://no-such-bucket/x", "in"),
        ],
        write=[S3Mount("out", "s3://no-such-bucket/x")],
    )
    found = mounts.check()
    assert [each.state for each in found] == ["missing"] * 5
    assert not any(found)
    assert all(each.remedy for each in found)
    assert "recursive=True" in found[2].remedy
    assert str(found[3]).startswith("s3://no-such-bucket/x -> in: missing: there is no such bucket. ")


def test_what_is_denied(bucket: Bucket, proxy: Proxy) -> None:
    bucket.put("p/a")
    proxy.fault = lambda _request: "deny"
    read, write = S3Mount(bucket.uri("p/"), "in"), S3Mount("out", bucket.uri("q"))
    assert (read.check().state, write.check().state) == ("denied", "denied")
    assert "s3:GetObject and s3:ListBucket" in read.check().remedy
    proxy.fault = lambda request: "deny" if request.method == "HEAD" else ""
    found = write.check()
    assert (found.state, "cannot be looked at" in found.detail) == ("denied", True)
    proxy.fault = lambda request: "deny" if request.method == "DELETE" else ""
    found = write.check()
    assert (found.state, "could not be removed" in found.detail) == ("ok", True)
    assert found.remedy


def test_who_may_list_need_not_be_who_may_read(bucket: Bucket, proxy: Proxy) -> None:
    bucket.put("p/a")
    proxy.fault = lambda request: "deny" if request.method == "GET" and request.key else ""
    assert [S3Mount(bucket.uri(key), "in").check().state for key in ("p/", "p/a")] == ["denied", "denied"]


def test_a_probe_that_can_be_neither_looked_at_nor_removed_is_named(bucket: Bucket, proxy: Proxy) -> None:
    proxy.fault = lambda request: "deny" if request.method in ("HEAD", "DELETE") else ""
    found = S3Mount("out", bucket.uri("q/")).check()
    (probe,) = bucket.objects()
    assert (found.state, bucket.uri(probe) in found.detail) == ("denied", True)


def test_options_count_as_they_do_for_a_job(bucket: Bucket, proxy: Proxy) -> None:
    bucket.put("p/a.txt")
    none = S3Mount(bucket.uri("p/"), "in", options="--exclude '*.txt'").check()
    assert (none.state, none.detail) == ("missing", "there are no objects under this prefix that the options leave")
    options = "--recursive --exclude '*' --include '*.txt' --request-payer requester"
    assert S3Mount(bucket.uri("p"), "in", options=options).check().detail == "1 object"
    # As a file of ezbatch 0.1.0 has it.
    options = "--quiet --sse aws:kms --sse-kms-key-id key --request-payer requester"
    assert S3Mount("out", bucket.uri("q/"), options=options).check()
    headers = [{name.lower(): value for name, value in request.headers.items()} for request in proxy.seen]
    assert all(each.get("x-amz-request-payer") == "requester" for each in headers[1:])
    (put,) = [each for each, request in zip(headers, proxy.seen, strict=True) if request.method == "PUT"]
    assert put["x-amz-server-side-encryption"] == "aws:kms"
    assert put["x-amz-server-side-encryption-aws-kms-key-id"] == "key"


def test_the_first_page_may_hold_nothing_to_copy(bucket: Bucket) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: bucket.put(f"p/{n:04}.log", b""), range(1000)))
    bucket.put("p/z.txt")
    found = S3Mount(bucket.uri("p/"), "in", options="--exclude '*.log'").check()
    assert (found.state, found.detail) == ("ok", "1 object")


def test_nothing_is_left_where_versions_are_kept(bucket: Bucket) -> None:
    bucket.s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    assert S3Mount("out", bucket.uri("q/")).check()
    left = bucket.s3.list_object_versions(Bucket=bucket.name)
    assert (left.get("Versions", []), left.get("DeleteMarkers", [])) == ([], [])


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    found = S3Mount("s3://bucket/x", "in").check()
    assert found.state == "not checked"
    assert "cannot be reached" in found.detail


def test_nobody_else_asks(bucket: Bucket, proxy: Proxy) -> None:
    mounts = S3Mounts(read=[S3Mount(bucket.uri("x"), "in")], write=[S3Mount("out", bucket.uri("y"))])
    assert S3Mounts.from_dict(mounts.to_dict()) == copy.deepcopy(mounts)
    assert repr(mounts)
    assert str(mounts)
    assert mounts
    assert proxy.seen == []
