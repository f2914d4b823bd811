"""What is done on S3 before a job runs, by whoever holds these credentials.

Looking whether its inputs are there and its outputs could be written, and putting its script there.
"""

from __future__ import annotations

import fnmatch
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ezbatch.aws.clients import Clients
from ezbatch.errors import BackendError, UnreachableError
from ezbatch.preloader import options
from ezbatch.s3 import MountCheck, S3Mount
from ezbatch.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check", "put"]


def check(reads: Sequence[S3Mount], writes: Sequence[S3Mount], clients: Clients | None = None) -> list[MountCheck]:
    """Look whether each read exists, and whether each write's bucket takes an object.

    Parameters
    ----------
    reads, writes
        The mounts.
    clients
        Instead of those that the settings give.

    Returns
    -------
    list of MountCheck
        One for each mount, reads first, in their order.
    """
    clients = clients or Clients(Settings.load())
    found = [_checked(mount, _check_read, clients) for mount in reads]
    return [*found, *(_checked(mount, _check_write, clients) for mount in writes)]


def put(uri: str, content: bytes, settings: Settings, clients: Clients | None = None) -> None:
    """Write an object, with the encryption that the settings name.

    Parameters
    ----------
    uri
        The ``s3://bucket/key``.
    content
        Its bytes.
    settings
        Hold the profile, the Region and the encryption.
    clients
        Instead of those that the settings give.

    Raises
    ------
    BackendError
        If it was not written.
    """
    clients = clients or Clients(settings)
    bucket, key = _split(uri)
    encryption = _encryption(settings.sse, settings.sse_kms_key_id)
    clients.call("s3", "put_object", Bucket=bucket, Key=key, Body=content, **encryption)


def _encryption(sse: str | None, kms_key: str | None) -> dict[str, Any]:
    pairs = (("ServerSideEncryption", sse), ("SSEKMSKeyId", kms_key))
    return {name: value for name, value in pairs if value}


def _checked(mount: S3Mount, look: Callable[[S3Mount, Clients], MountCheck], clients: Clients) -> MountCheck:
    try:
        return look(mount, clients)
    except UnreachableError as error:
        return MountCheck(mount, "not checked", str(error), "Check the network, or do without this check")
    except BackendError as error:
        return _refused(mount, error)


def _refused(mount: S3Mount, error: BackendError) -> MountCheck:
    text = str(error)
    response: Any = getattr(error.__cause__, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchBucket":
        return MountCheck(mount, "missing", "there is no such bucket", "Check the bucket's name, or make it")
    if status == 403:  # noqa: PLR2004 - HTTP's own number
        what = "s3:GetObject and s3:ListBucket" if mount.source.startswith("s3://") else "s3:PutObject and s3:GetObject"
        return MountCheck(mount, "denied", text, f"Ask for {what} there; without s3:ListBucket a missing key is denied")
    return MountCheck(mount, "not checked", text, "Mend what the message says, and check again")


def _split(uri: str) -> tuple[str, str]:
    bucket, _slash, key = uri.removeprefix("s3://").partition("/")
    # An access point's ARN may have a slash; S3 takes a colon as well.
    if bucket.startswith("arn:") and bucket.endswith(":accesspoint"):
        name, _slash, key = key.partition("/")
        bucket = f"{bucket}:{name}"
    return bucket, key


def _payer(said: options.Options) -> dict[str, Any]:
    return {"RequestPayer": "requester"} if "--request-payer" in said.flags else {}


def _check_read(mount: S3Mount, clients: Clients) -> MountCheck:
    bucket, key = _split(mount.source)
    said = options.parse(mount.options, is_read=True)
    payer = _payer(said)
    recursive = True if mount.recursive is None and said.recursive else mount.recursive
    whole = recursive or (recursive is None and (not key or key.endswith("/")))
    if not whole:
        size = _size(clients, Bucket=bucket, Key=key, **payer)
        if size is not None:
            _try_reading(clients, size, Bucket=bucket, Key=key, **payer)
            return MountCheck(mount, "ok", f"one object of {size:,} bytes")
    prefix = key if not key or key.endswith("/") else f"{key}/"
    found, more = _first_page(clients, said.filters, Bucket=bucket, Prefix=prefix, **payer)
    if not found:
        what = "there are no objects under this prefix" if whole else "there is no such object"
        if said.filters:
            what += " that the options leave"
        return MountCheck(mount, "missing", what, "Check the key, or copy the data there")
    if recursive is False:
        what = "there is no such object, but there are objects below it"
        return MountCheck(mount, "missing", what, "Set recursive=True to copy those")
    # Whoever may list need not be one who may read.
    first, size = next(iter(found.items()))
    _try_reading(clients, size, Bucket=bucket, Key=first, **payer)
    return MountCheck(
        mount, "ok", f"{len(found):,}{' or more' if more else ''} object{'' if len(found) == 1 and not more else 's'}"
    )


def _first_page(clients: Clients, filters: list[str], **where: Any) -> tuple[dict[str, int], bool]:  # noqa: ANN401 - S3's own
    """Return the keys to copy, with their sizes, of the first page that has any, and whether more may follow."""
    token: dict[str, Any] = {}
    while True:
        answer = clients.call("s3", "list_objects_v2", MaxKeys=1000, **where, **token)
        # As when it is copied: a key that ends with / is what consoles make for an empty folder.
        found = {
            item["Key"]: int(item["Size"])
            for item in answer.get("Contents", ())
            if not item["Key"].endswith("/") and _kept(item["Key"].removeprefix(where["Prefix"]), filters)
        }
        more = bool(answer.get("IsTruncated"))
        if found or not more:
            return found, more
        token = {"ContinuationToken": answer["NextContinuationToken"]}


def _kept(name: str, filters: list[str]) -> bool:
    """Return whether ``--include`` and ``--exclude``, of which the last that fits counts, leave a name."""
    keep = True
    for flag, pattern in zip(filters[::2], filters[1::2], strict=True):
        if fnmatch.fnmatchcase(name, pattern):
            keep = flag == "--include"
    return keep


def _try_reading(clients: Clients, size: int, **what: Any) -> None:  # noqa: ANN401 - S3's own
    """Read one byte: HEAD asks neither for the key that decrypts an object nor whether it is archived."""
    if size:
        clients.call("s3", "get_object", Range="bytes=0-0", **what)["Body"].close()


def _size(clients: Clients, **what: Any) -> int | None:  # noqa: ANN401 - S3's own
    try:
        return int(clients.call("s3", "head_object", **what)["ContentLength"])
    except BackendError as error:
        response: Any = getattr(error.__cause__, "response", None) or {}
        if response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:  # noqa: PLR2004 - HTTP's own number
            return None
        raise


def _check_write(mount: S3Mount, clients: Clients) -> MountCheck:
    """Write an object of no bytes beside what will be written, with its encryption, and remove it again."""
    bucket, key = _split(mount.destination)
    said = options.parse(mount.options, is_read=False)
    payer = _payer(said)
    folder = key if not key or key.endswith("/") else f"{key}/" if mount.recursive else key.rpartition("/")[0] + "/"
    probe = f"{folder.lstrip('/')}.ezbatch-check-{secrets.token_hex(8)}"
    # Files of ezbatch 0.1.0 keep these in the options as well, or only there.
    encryption = _encryption(mount.sse or said.sse, mount.sse_kms_key_id or said.kms)
    written = clients.call("s3", "put_object", Bucket=bucket, Key=probe, Body=b"", **encryption, **payer)
    # With a version named, nothing is left behind in a bucket that keeps versions either.
    version: dict[str, Any] = {"VersionId": written["VersionId"]} if written.get("VersionId") else {}
    unread: BackendError | None = None
    unremoved: BackendError | None = None
    try:
        clients.call("s3", "head_object", Bucket=bucket, Key=probe, **version, **payer)
    except BackendError as error:
        unread = error
    finally:
        # Also when the user interrupts.
        try:
            clients.call("s3", "delete_object", Bucket=bucket, Key=probe, **version, **payer)
        except BackendError as error:
            unremoved = error
    if unremoved is not None and unread is None:
        what = f"it can be written, but the probe s3://{bucket}/{probe} could not be removed: {unremoved}"
        return MountCheck(mount, "ok", what, "Remove that object; a job needs no right to delete")
    if unread is not None:
        what = f"it can be written, but what was written cannot be looked at: {unread}"
        if unremoved is not None:
            what += f"; and the probe s3://{bucket}/{probe} could not be removed: {unremoved}"
        return MountCheck(mount, "denied", what, "Ask for s3:GetObject there: a job looks whether its outputs arrived")
    return MountCheck(mount, "ok", "an object was written there and removed again")
