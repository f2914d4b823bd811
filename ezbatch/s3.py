"""S3 mounts: what is copied from S3 before a job's command runs, and to S3 after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast

from dataclasses_json import DataClassJsonMixin

from ezbatch import spec

__all__ = ["MountCheck", "S3Mount", "S3Mounts"]


@dataclass(repr=False)
class S3Mount(DataClassJsonMixin):
    """One thing to copy between S3 and the container.

    Parameters
    ----------
    source : str
        What is copied: an ``s3://bucket/key`` for a read, a path in the container for a write. A relative path
        begins in the command's working directory.
    destination : str
        Where it goes: a path in the container for a read, an ``s3://bucket/key`` for a write.
    recursive : bool, optional
        Whether the source is a prefix (or directory) copied with everything below it. None decides by what is
        there: a source that ends with ``/`` or is no single object is copied with everything below it.
    sse : str, optional
        Server-side encryption of what is written: ``AES256``, ``aws:kms`` or ``aws:kms:dsse``.
    sse_kms_key_id : str, optional
        The KMS key for ``aws:kms`` and ``aws:kms:dsse``.
    options : str
        Options in the words of ``aws s3 cp``, kept as they are given.

    Raises
    ------
    SpecTypeError
        If a value has the wrong type. Nothing is looked up: whether the source exists is not asked here.
    """

    source: str
    destination: str
    recursive: bool | None = None
    sse: str | None = None
    sse_kms_key_id: str | None = None
    options: str = "--quiet"

    def __post_init__(self) -> None:
        self.source = spec.text(self.source, "source")
        self.destination = spec.text(self.destination, "destination")
        self.recursive = spec.optional(spec.flag, self.recursive, "recursive")
        self.sse = spec.optional(spec.text, self.sse, "sse")
        self.sse_kms_key_id = spec.optional(spec.text, self.sse_kms_key_id, "sse_kms_key_id")
        self.options = spec.text(self.options, "options")

    def __repr__(self) -> str:
        shown = [repr(self.source), repr(self.destination)]
        shown += [
            f"{item.name}={getattr(self, item.name)!r}"
            for item in fields(self)[2:]
            if getattr(self, item.name) != item.default
        ]
        return f"S3Mount({', '.join(shown)})"

    @classmethod
    def from_dict(cls, kvs: Any, *, infer_missing: bool = False) -> S3Mount:  # noqa: ANN401, ARG003 - the mixin's signature
        """Build a mount from a dict.

        Raises
        ------
        SpecTypeError
            If a field is unknown, missing or of the wrong type.
        """
        given = spec.table(kvs, "the mount")
        spec.known_fields(given, MOUNT_FIELDS, ("source", "destination"), "the mount")
        return cls(**cast("dict[str, Any]", dict(given)))

    def check(self) -> MountCheck:
        """Ask S3 whether a read is there, or a write could be written. Nothing does this by itself.

        It asks with the credentials at hand, which need not be those of the job. A write is tried by an object of no
        bytes, which is removed again.

        Returns
        -------
        MountCheck
            What was found; a refusal is an answer, not an error.
        """
        return (S3Mounts(read=[self]) if self.source.startswith("s3://") else S3Mounts(write=[self])).check()[0]


@dataclass(frozen=True)
class MountCheck:
    """What :meth:`S3Mounts.check` found about one mount.

    Parameters
    ----------
    mount : S3Mount
        The mount.
    state : str
        ``ok``, ``denied``, ``missing`` or ``not checked``.
    detail : str
        What was seen.
    remedy : str
        What to do, or nothing.
    """

    mount: S3Mount
    state: str
    detail: str
    remedy: str = ""

    def __bool__(self) -> bool:
        return self.state == "ok"

    def __str__(self) -> str:
        text = f"{self.mount.source} -> {self.mount.destination}: {self.state}: {self.detail}"
        return f"{text}. {self.remedy}." if self.remedy else text


MOUNT_FIELDS = tuple(item.name for item in fields(S3Mount))


def _mounts(value: object, where: str) -> list[S3Mount]:
    mounts = []
    for index, item in enumerate(spec.row(value, where, "a list of S3Mount or dict")):
        if isinstance(item, S3Mount):
            mounts.append(item)
        elif isinstance(item, Mapping):
            mounts.append(spec.within(spec.path(where, index), S3Mount.from_dict, item))
        else:
            raise spec.wrong(spec.path(where, index), "an S3Mount or a dict", item)
    return mounts


@dataclass
class S3Mounts(DataClassJsonMixin):
    """What a job reads from S3 and writes to S3.

    Parameters
    ----------
    read : sequence of S3Mount or dict
        Copied from S3 before the command runs.
    write : sequence of S3Mount or dict
        Copied to S3 after the command has run.

    Raises
    ------
    SpecTypeError
        If an entry is neither a mount nor a dict that describes one.
    """

    read: Sequence[S3Mount | dict[str, Any]] = field(default_factory=list)
    write: Sequence[S3Mount | dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.read = _mounts(self.read, "read")
        self.write = _mounts(self.write, "write")

    @classmethod
    def from_dict(cls, kvs: Any, *, infer_missing: bool = False) -> S3Mounts:  # noqa: ANN401, ARG003 - the mixin's signature
        """Build mounts from a dict with ``read`` and ``write``.

        Raises
        ------
        SpecTypeError
            If a field is unknown or of the wrong type.
        """
        given = spec.table(kvs, "the mounts")
        spec.known_fields(given, ("read", "write"), (), "the mounts")
        return cls(**cast("dict[str, Any]", dict(given)))

    def to_dict(self, encode_json: bool = False) -> dict[str, Any]:  # noqa: ARG002 - the mixin's signature
        """Return the mounts as JSON's types."""
        return {
            "read": [{name: getattr(mount, name) for name in MOUNT_FIELDS} for mount in self.reads],
            "write": [{name: getattr(mount, name) for name in MOUNT_FIELDS} for mount in self.writes],
        }

    @property
    def reads(self) -> list[S3Mount]:
        """The reads, every entry an :class:`S3Mount`."""
        return cast("list[S3Mount]", list(self.read))

    @property
    def writes(self) -> list[S3Mount]:
        """The writes, every entry an :class:`S3Mount`."""
        return cast("list[S3Mount]", list(self.write))

    def check(self) -> list[MountCheck]:
        """Ask S3 whether the reads are there and the writes could be written. Nothing does this by itself.

        It asks with the credentials at hand, which need not be those of the job. A write is tried by an object of no
        bytes, which is removed again.

        Returns
        -------
        list of MountCheck
            One for each mount, reads first; a refusal is an answer, not an error.
        """
        from ezbatch.aws import staging

        return staging.check(self.reads, self.writes)

    def __bool__(self) -> bool:
        return bool(self.read or self.write)
