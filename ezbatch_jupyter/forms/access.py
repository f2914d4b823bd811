"""Whether mounts are there and may be used: asked for by a button, in the background."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from ezbatch.s3 import MountCheck, S3Mount
from ezbatch.settings import Settings

__all__ = ["Finding", "look"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is known of a mount.

    Parameters
    ----------
    state : str
        The job state whose badge it wears.
    word : str
        The word beside the badge.
    text : str
        What else there is to say.
    """

    state: str
    word: str
    text: str = ""


def look(mounts: Sequence[tuple[S3Mount, bool]], settings: Settings, *, local: bool) -> list[Finding]:
    """Return what is found of each mount.

    Parameters
    ----------
    mounts : sequence of (S3Mount, bool)
        Each with whether it is read.
    settings : Settings
        Profile and Region, or the directory that stands for S3.
    local : bool
        Whether to look into that directory.

    Returns
    -------
    list of Finding
        One for each; a refusal is a finding, and so is that nothing could be asked.
    """
    if local:
        return [_stored(mount, settings, is_read=is_read) for mount, is_read in mounts]
    from ezbatch.aws import staging
    from ezbatch.aws.clients import Clients

    reads = [mount for mount, is_read in mounts if is_read]
    writes = [mount for mount, is_read in mounts if not is_read]
    found = [_told(check) for check in staging.check(reads, writes, Clients(settings))]
    # The findings come reads first, as they were asked for; the rows may stand otherwise.
    of_reads, of_writes = iter(found[: len(reads)]), iter(found[len(reads) :])
    return [next(of_reads if is_read else of_writes) for _mount, is_read in mounts]


def _told(check: MountCheck) -> Finding:
    text = f"{check.detail[:1].upper()}{check.detail[1:]}."
    if check.state == "ok":
        return Finding("SUCCEEDED", "found" if "object" in check.detail else "ok", text)
    if check.remedy:
        text = f"{text.rstrip('.')}. {check.remedy}."
    if check.state == "denied":
        text += " The job uses its own role, which may be allowed it, so this does not stop Submit."
    return Finding("PENDING" if check.state == "not checked" else "FAILED", check.state, text)


def _stored(mount: S3Mount, settings: Settings, *, is_read: bool) -> Finding:
    """Return what the directory that stands for S3 has of a mount."""
    root = settings.s3_directory
    path = root / (mount.source if is_read else mount.destination).removeprefix("s3://")
    if not is_read:
        nearest = path
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        if os.access(nearest, os.W_OK):
            return Finding("SUCCEEDED", "writable")
        return Finding("FAILED", "denied", f"{nearest} cannot be written.")
    if not path.exists():
        return Finding("FAILED", "missing", f"{path} is not there: it stands for S3 on this machine.")
    if not os.access(path, os.R_OK):
        return Finding("FAILED", "denied", f"{path} cannot be read.")
    return Finding("SUCCEEDED", "readable")
