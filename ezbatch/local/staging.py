"""Putting a job's script into the directory that stands for S3 on this machine."""

from __future__ import annotations

import os

from ezbatch.errors import BackendError
from ezbatch.settings import Settings

__all__ = ["put"]


def put(uri: str, content: bytes, settings: Settings) -> None:
    """Write a file where jobs on this machine find an ``s3://bucket/key``.

    Parameters
    ----------
    uri : str
        The ``s3://bucket/key``.
    content : bytes
        Its bytes.
    settings : Settings
        Name the directory.

    Raises
    ------
    BackendError
        If it was not written.
    """
    path = settings.s3_directory / uri.removeprefix("s3://")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A job that starts meanwhile finds all of it or nothing.
        draft = path.with_name(f".{path.name}.{os.getpid()}.new")
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}. Make it writable, or set EZBATCH_LOCAL_S3."
        raise BackendError(message) from error
