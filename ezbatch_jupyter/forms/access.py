"""Whether mounts are there and may be used: asked for by a button, in the background."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from ezbatch.s3 import S3Mount
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

    Raises
    ------
    BackendError
        If nothing can be asked at all, such as without credentials.
    """
    return [
        _stored(mount, settings, is_read=is_read) if local else Finding("PENDING", "not known")
        for mount, is_read in mounts
    ]


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
        return Finding("FAILED", "denied", f"{nearest} cannot be written")
    if not path.exists():
        return Finding("FAILED", "missing", f"{path} is not there: it stands for S3 on this machine")
    if not os.access(path, os.R_OK):
        return Finding("FAILED", "denied", f"{path} cannot be read")
    return Finding("SUCCEEDED", "readable")
