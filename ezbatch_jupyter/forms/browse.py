"""What is on S3, or in the directory that stands for it on this machine, a page at a time. Called in the background."""

from __future__ import annotations

import dataclasses
import heapq
import os
from pathlib import Path
from typing import Any

from ezbatch.errors import BackendError
from ezbatch.settings import Settings

__all__ = ["PAGE", "Item", "Listing", "list_page", "parent_of"]

#: Entries of one page: what a person reads before narrowing it down.
PAGE = 200


@dataclasses.dataclass(frozen=True)
class Item:
    """A bucket, a prefix or an object.

    Parameters
    ----------
    uri : str
        Where it is; of a bucket or prefix it ends in ``/``.
    name : str
        Its last part.
    size : int, optional
        Bytes, of an object.
    """

    uri: str
    name: str
    size: int | None = None


@dataclasses.dataclass(frozen=True)
class Listing:
    """One page.

    Parameters
    ----------
    items : tuple of Item
        In the order of their names.
    following : str
        What the next page is asked with; empty after the last one.
    """

    items: tuple[Item, ...]
    following: str = ""


def parent_of(location: str) -> str:
    """Return the prefix above; nothing above a bucket but the list of buckets."""
    inner = location.removeprefix("s3://").rstrip("/")
    head, slash, _name = inner.rpartition("/")
    return f"s3://{head}/" if slash else ""


def list_page(location: str, settings: Settings, *, local: bool, following: str = "") -> Listing:
    """Return a page of what is at a place.

    Parameters
    ----------
    location : str
        ``s3://BUCKET/PREFIX``; what does not end in ``/`` narrows down the names there. Empty lists the buckets.
    settings : Settings
        Profile and Region, or the directory that stands for S3.
    local : bool
        Whether to look into that directory.
    following : str
        What an earlier page gave.

    Raises
    ------
    BackendError
        If it cannot be listed: says why and what to do.
    """
    bucket, _slash, prefix = location.removeprefix("s3://").partition("/")
    if local:
        return _directory(settings.s3_directory, bucket, prefix, following)
    return _bucket(settings, bucket, prefix, following)


def _directory(root: Path, bucket: str, prefix: str, following: str) -> Listing:
    if any(part == ".." for part in (bucket, *prefix.split("/"))):
        raise BackendError("a key with .. in it leads nowhere. Choose another prefix.")
    folder, _slash, start = prefix.rpartition("/")
    directory = root / bucket / folder if bucket else root
    base = f"s3://{bucket}/{folder}/" if folder else f"s3://{bucket}/" if bucket else "s3://"
    try:
        with os.scandir(directory) as entries:
            # Only as many names are kept as a page has, however many there are.
            found = heapq.nsmallest(
                PAGE + 1,
                (
                    (entry.name, entry.is_dir(), None if entry.is_dir() else entry.stat().st_size)
                    for entry in entries
                    if entry.name.startswith(start) and entry.name > following
                ),
            )
    except FileNotFoundError:
        raise BackendError(
            f"{base} is not in {root}, which stands for S3 on this machine. Put the files there."
        ) from None
    except OSError as error:
        raise BackendError(f"{directory} cannot be read: {error.strerror}.") from None
    items = [
        Item(f"{base}{name}/" if is_dir else f"{base}{name}", name, size)
        for name, is_dir, size in found[:PAGE]
        if bucket or is_dir
    ]
    return Listing(tuple(items), found[PAGE - 1][0] if len(found) > PAGE else "")


def _bucket(settings: Settings, bucket: str, prefix: str, following: str) -> Listing:
    from ezbatch.aws.clients import Clients

    clients = Clients(settings)
    if not bucket:
        answer: Any = clients.call("s3", "list_buckets", patience=1)
        return Listing(tuple(Item(f"s3://{item['Name']}/", item["Name"]) for item in answer.get("Buckets", ())))
    query: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/", "MaxKeys": PAGE}
    if following:
        query["ContinuationToken"] = following
    answer = clients.call("s3", "list_objects_v2", patience=1, **query)
    folder = prefix.rpartition("/")[0]
    skip = len(folder) + 1 if folder else 0
    prefixes = [
        Item(f"s3://{bucket}/{p['Prefix']}", p["Prefix"][skip:].rstrip("/")) for p in answer.get("CommonPrefixes", ())
    ]
    objects = [
        Item(f"s3://{bucket}/{o['Key']}", o["Key"][skip:], int(o["Size"]))
        for o in answer.get("Contents", ())
        if o["Key"] != prefix
    ]
    return Listing((*prefixes, *objects), str(answer.get("NextContinuationToken", "")))
