"""What AWS Batch accepts, as data and pure checks. botocore and AWS's simulators let most of this pass; AWS does not.

The numbers come from AWS's service models and documentation: the Batch API reference (RegisterJobDefinition, SubmitJob,
the data types they name) and the AWS Batch and Amazon ECS user guides (service quotas, Fargate task sizes).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence

from ezbatch import preloader, spec
from ezbatch.errors import Problem
from ezbatch.preloader import options
from ezbatch.s3 import S3Mount
from ezbatch.workflow import EZBatchJob, EZBatchWorkflow

__all__ = [
    "ARRAY_SIZES",
    "FARGATE_MEMORY",
    "MAX_DEFINITION_BYTES",
    "MAX_DEPENDENCIES",
    "MAX_OVERRIDES_LENGTH",
    "MAX_SUBMIT_BYTES",
    "OWN_TAGS",
    "check_job",
    "check_workflow",
    "nearest_fargate_sizes",
]

PLATFORMS = ("FARGATE", "EC2")
ARCHITECTURES = ("X86_64", "ARM64")
SSE = ("AES256", "aws:kms", "aws:kms:dsse")

#: vCPU -> the memory sizes that Fargate offers with it, in MiB.
FARGATE_MEMORY: dict[float, tuple[int, ...]] = {
    0.25: (512, 1024, 2048),
    0.5: tuple(range(1024, 4096 + 1, 1024)),
    1: tuple(range(2048, 8192 + 1, 1024)),
    2: tuple(range(4096, 16384 + 1, 1024)),
    4: tuple(range(8192, 30720 + 1, 1024)),
    8: tuple(range(16384, 61440 + 1, 4096)),
    16: tuple(range(32768, 122880 + 1, 8192)),
    32: (61440, 122880, 249856),
}

MAX_DEPENDENCIES = 20
ARRAY_SIZES = range(1, 10_000 + 1)  # AWS itself takes 2 and more; an array of 1 is planned as a plain job.
RETRIES = range(10)  # AWS counts attempts, 1 to 10.
MIN_TIMEOUT = 60
MAX_TIMEOUT = 2**31 - 1  # AWS's type is a 32-bit integer
STORAGE_SIZES = range(21, 200 + 1)
MAX_TAGS = 50
MAX_NAME = 128
MAX_IMAGE = 255
MIN_EC2_MEMORY = 4

#: ECS refuses container overrides over 8,192 characters, but only after the job was accepted; 7,680 were seen refused.
MAX_OVERRIDES_LENGTH = 7_000
MAX_DEFINITION_BYTES = 24 * 1024
MAX_SUBMIT_BYTES = 30 * 1024

#: The tags ezbatch puts on every job, by which a run is found again: run, workflow, job.
OWN_TAGS = ("ezbatch:run", "ezbatch:workflow", "ezbatch:job")
#: Variables by which ezbatch tells its script in the container what to do.
_OWN_VARIABLE = re.compile(r"EZBATCH_(COMMAND|READ|WRITE|ARRAY|S3)(_\d+)?")

_IMAGE = re.compile(r"[A-Za-z0-9_.:/@#-]+")
_QUEUE = re.compile(r"[A-Za-z0-9_-]{1,128}")
_QUEUE_ARN = re.compile(r"arn:aws[a-z-]*:batch:[a-z0-9-]+:\d{12}:job-queue/[A-Za-z0-9_-]{1,128}")
_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/.+")
_SECRET_ARN = re.compile(
    r"arn:aws[a-z-]*:(secretsmanager:[a-z0-9-]+:\d{12}:secret:|ssm:[a-z0-9-]+:\d{12}:parameter/).+"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]|arn:aws[a-z-]*:s3[a-z-]*:[^/]+")


def check_workflow(workflow: EZBatchWorkflow) -> Iterator[Problem]:
    """Yield what AWS Batch, or the plan, would refuse about the jobs, all but their order."""
    if not workflow.name.strip():
        yield Problem("name", "is empty", "Give the workflow a name")
    if _broken(workflow.name):
        yield Problem("name", *_BROKEN)
    if not workflow.jobs:
        yield Problem("jobs", "the workflow has no jobs", "Add a job")
    for name, job in workflow.jobs.items():
        where = spec.path("jobs", name)
        if not name.strip():
            yield Problem(where, "a job has an empty name", "Name it")
        if _broken(name):
            yield Problem(where, *_BROKEN)
        yield from check_job(job, where)


def check_job(job: EZBatchJob, where: str = "") -> Iterator[Problem]:
    """Yield what AWS Batch would refuse about one job; each problem's place begins with ``where``."""
    for problem in _check_job(job):
        yield Problem(spec.inside(where, problem.where), problem.what, problem.remedy)


def _broken(*texts: str) -> bool:
    """Return whether a text cannot be sent, as one that was read from bytes that were no UTF-8."""
    return not all(map(str.isascii, texts)) and any(map(_SURROGATE.search, texts))


_BROKEN = ("holds half of a surrogate pair, which is no text", "Write it in UTF-8")


def _check_job(job: EZBatchJob) -> Iterator[Problem]:
    yield from _check_image(job.image)
    yield from _check_command(job)
    yield from _check_environment(job)
    if job.platform not in PLATFORMS:
        hint = "Set platform" + (
            f" to {job.platform.upper()}" if job.platform.upper() in PLATFORMS else " to FARGATE or EC2"
        )
        yield Problem("platform", f"{job.platform!r} is not a platform", hint)
    elif job.platform == "FARGATE":
        yield from _check_fargate(job)
    else:
        yield from _check_ec2(job)
    if job.retries not in RETRIES:
        yield Problem(
            "retries", f"{job.retries} is not 0 to 9", "AWS Batch makes at most 10 attempts: set retries to 9 or less"
        )
    if job.timeout is not None and job.timeout < MIN_TIMEOUT:
        yield Problem("timeout", f"{job.timeout} s is less than AWS Batch's 60 s", "Set timeout to 60 or more")
    elif job.timeout is not None and job.timeout > MAX_TIMEOUT:
        what = f"{job.timeout} s is more than the {MAX_TIMEOUT:,} s that AWS Batch can count to"
        yield Problem("timeout", what, "Leave it out for a job without a limit")
    if job.queue is not None and not valid_queue(job.queue):
        yield Problem(
            "queue", f"{job.queue!r} is neither a queue's name nor its ARN", "A name has letters, digits, - and _ only"
        )
    if job.job_role is not None and not _ROLE_ARN.fullmatch(job.job_role):
        yield Problem("job_role", f"{job.job_role!r} is not a role's ARN", "Write arn:aws:iam::ACCOUNT:role/NAME")
    yield from _check_array(job)
    yield from _check_tags(job.tags)
    if job.mounts.read or job.mounts.write:
        yield from _check_mounts(job)


def valid_queue(queue: str) -> bool:
    """Return whether the text can be a queue: ``local``, a name, or an ARN."""
    return bool(_QUEUE.fullmatch(queue) or _QUEUE_ARN.fullmatch(queue))


def _check_image(image: str) -> Iterator[Problem]:
    if not image:
        yield Problem("image", "is empty", "Name a container image, such as python:3.12-slim")
    elif len(image) > MAX_IMAGE:
        yield Problem(
            "image", f"is {len(image)} characters long; AWS Batch takes {MAX_IMAGE}", "Use a shorter name or a tag"
        )
    elif not _IMAGE.fullmatch(image):
        bad = sorted(set(re.sub(_IMAGE, "", image)))
        yield Problem(
            "image", f"{image!r} holds {_listed(bad)}", "An image's name has letters, digits and _ . : / @ # - only"
        )


def _check_command(job: EZBatchJob) -> Iterator[Problem]:
    words = job.argv
    if not words or not words[0]:
        yield Problem("command", "is empty", "Say what the job runs; true does nothing and succeeds")
    elif any("\0" in word for word in words):
        yield Problem("command", "holds a NUL character, which no program can be given", "Remove it")
    if _broken(*words):
        yield Problem("command", *_BROKEN)


def _check_environment(job: EZBatchJob) -> Iterator[Problem]:
    for field, names in (("environment", job.environment), ("secrets", job.secrets)):
        for name in names:
            where = spec.path(field, name)
            if not name or "=" in name or "\0" in name:
                yield Problem(where, f"{name!r} cannot name an environment variable", "Use letters, digits and _")
            elif name.startswith("AWS_BATCH"):
                yield Problem(where, "names that begin AWS_BATCH belong to AWS Batch", "Choose another name")
            elif _OWN_VARIABLE.fullmatch(name):
                yield Problem(where, "is a name that ezbatch uses itself", "Choose another name")
    for name, value in job.environment.items():
        if "\0" in value:
            yield Problem(spec.path("environment", name), "the value holds a NUL character", "Remove it")
        if _broken(name, value):
            yield Problem(spec.path("environment", name), *_BROKEN)
    if job.preloader and "noexec" in job.environment.get("SHELLOPTS", ""):
        what = "noexec makes bash, which is sh in some images, run nothing and call it a success"
        yield Problem("environment.SHELLOPTS", what, "Leave it out")
    for name, arn in job.secrets.items():
        if not _SECRET_ARN.fullmatch(arn):
            what = "is not the ARN of a Secrets Manager secret or SSM parameter"
            yield Problem(
                spec.path("secrets", name), what, "Copy the ARN from the AWS console; never put the secret itself here"
            )
        if name in job.environment:
            yield Problem(spec.path("secrets", name), "stands in environment too", "Keep it in one of the two")


def nearest_fargate_sizes(vcpus: float, memory: int) -> list[tuple[float, int]]:
    """Return the Fargate sizes (vCPU, MiB) nearest to what was asked for, best first.

    First the least size that gives at least both, then the nearest memory with the same vCPUs.
    """
    sizes = [(v, m) for v, options in FARGATE_MEMORY.items() for m in options]
    enough = [size for size in sizes if size[0] >= vcpus and size[1] >= memory][:1]
    at = min(FARGATE_MEMORY, key=lambda v: (abs(v - vcpus), v))
    near = min(FARGATE_MEMORY[at], key=lambda m: (abs(m - memory), -m))
    return list(dict.fromkeys([*enough, (at, near)])) or [sizes[-1]]


def _check_fargate(job: EZBatchJob) -> Iterator[Problem]:
    if job.memory not in FARGATE_MEMORY.get(job.vcpus, ()):
        sizes = " or ".join(f"vcpus={v:g}, memory={m}" for v, m in nearest_fargate_sizes(job.vcpus, job.memory))
        field = "memory" if job.vcpus in FARGATE_MEMORY else "vcpus"
        yield Problem(
            field, f"Fargate has no size of {job.vcpus:g} vCPU with {job.memory} MiB", f"The nearest: {sizes}"
        )
    if job.storage_size is not None and job.storage_size not in STORAGE_SIZES:
        remedy = "Leave it out: 20 GiB is what Fargate gives" if job.storage_size in range(1, 21) else "Set 21 to 200"
        yield Problem("storage_size", f"{job.storage_size} GiB is not 21 to 200", remedy)
    if job.gpus:
        yield Problem("gpus", "Fargate has no GPUs", 'Set platform="EC2" and name a queue with GPU instances')
    if job.architecture is not None and job.architecture not in ARCHITECTURES:
        yield Problem("architecture", f"{job.architecture!r} is not an architecture", "Set X86_64 or ARM64")


def _check_ec2(job: EZBatchJob) -> Iterator[Problem]:
    if job.vcpus < 1 or job.vcpus != int(job.vcpus):
        yield Problem(
            "vcpus",
            f"on EC2 {job.vcpus:g} vCPU cannot be had",
            f"Set a whole number, such as {max(1, round(job.vcpus))}",
        )
    if job.memory < MIN_EC2_MEMORY:
        yield Problem("memory", f"{job.memory} MiB is less than the 4 MiB that AWS Batch asks for", "Set memory in MiB")
    if job.storage_size is not None:
        yield Problem(
            "storage_size",
            "is Fargate's only",
            "On EC2 the compute environment's launch template sets the disk: leave it out",
        )
    if job.gpus is not None and job.gpus < 1:
        yield Problem("gpus", f"{job.gpus} GPUs cannot be asked for", "Set 1 or more, or leave it out")
    if job.architecture is not None:
        what = "is Fargate's only: on EC2 the compute environment's instance types decide"
        yield Problem("architecture", what, "Leave it out, and name a queue with such instances")


def _check_array(job: EZBatchJob) -> Iterator[Problem]:
    if job.array is None:
        return
    if job.array == {}:
        # The product of no lists has one point, which nobody means.
        yield Problem("array", "the grid names no variable", "Leave array out, or give it names and their values")
        return
    size = job.array_size
    if size not in ARRAY_SIZES:
        remedy = (
            "Leave array out, or give it entries"
            if size == 0
            else "Make it several jobs, or let a child do several entries"
        )
        yield Problem("array", f"{size} children is not 1 to 10,000", remedy)
        return
    entries = [("array", job.array)] if isinstance(job.array, dict) else []
    if isinstance(job.array, list):
        entries = [(spec.path("array", i), entry) for i, entry in enumerate(job.array)]  # type: ignore[misc]
    for where, entry in entries:
        for name in entry:
            place = spec.path(where, name)
            problem = preloader.name_problem(name)
            if problem:
                yield Problem(place, f"{name!r} {problem}", "Choose another name")
            else:
                values = entry[name]
                texts = [str(value) for value in (values if isinstance(values, list) else [values])]
                if any("\0" in text for text in texts):
                    yield Problem(place, "a value holds a NUL character", "Remove it")
                if _broken(*texts):
                    yield Problem(place, *_BROKEN)


def _check_tags(tags: Mapping[str, str]) -> Iterator[Problem]:
    if len(tags) > MAX_TAGS - len(OWN_TAGS):
        what = f"{len(tags)} tags; AWS takes {MAX_TAGS}, of which ezbatch uses {len(OWN_TAGS)}"
        yield Problem("tags", what, f"Keep {MAX_TAGS - len(OWN_TAGS)}")
    for key, value in tags.items():
        where = spec.path("tags", key)
        if not 1 <= len(key) <= 128:  # noqa: PLR2004 - AWS's limit
            yield Problem(where, f"a tag's key has 1 to 128 characters, this one {len(key)}", "Shorten it")
        if key.lower().startswith("aws:"):
            yield Problem(where, "keys that begin aws: belong to AWS", "Choose another key")
        if key in OWN_TAGS:
            yield Problem(where, "is a tag that ezbatch sets itself", "Choose another key")
        if _broken(key, value):
            yield Problem(where, *_BROKEN)
        if len(value) > 256:  # noqa: PLR2004 - AWS's limit
            yield Problem(where, f"a tag's value has at most 256 characters, this one {len(value)}", "Shorten it")


def _check_mounts(job: EZBatchJob) -> Iterator[Problem]:
    for field, mounts in (("read", job.mounts.reads), ("write", job.mounts.writes)):
        for index, mount in enumerate(mounts):
            for problem in _check_mount(mount, is_read=field == "read"):
                where = spec.path("mounts", field, index, problem.where)
                yield Problem(where, problem.what, problem.remedy)
        yield from _check_places(field, mounts)


def _check_places(field: str, mounts: Sequence[S3Mount]) -> Iterator[Problem]:
    """Find what would be copied to one file or object: the last to arrive would stay, and the job succeed."""
    places: dict[str, tuple[int, bool]] = {}
    for index, mount in enumerate(mounts):
        place, many = _place(mount, is_read=field == "read")
        first, all_many = places.setdefault(place, (index, many))
        if first == index:
            continue
        places[place] = (first, all_many and many)
        if not (all_many and many):
            what = f"{place!r} is where {spec.path('mounts', field, first)} goes, too: one would replace the other"
            remedy = "Give each a place of its own, and let what is a directory or a prefix end with /"
            yield Problem(spec.path("mounts", field, index, "destination"), what, remedy)


def _place(mount: S3Mount, *, is_read: bool) -> tuple[str, bool]:
    """Return the file or object that a mount makes; or the directory or prefix, if it may make many."""
    source, place = mount.source, mount.destination
    if mount.recursive or options.parse(mount.options, is_read=is_read).recursive:
        many = True
    elif mount.recursive is None:
        many = source.endswith("/") or (is_read and "/" not in source.removeprefix("s3://"))
    else:
        many = False
    bucket_alone = not is_read and "/" not in place.removeprefix("s3://")
    if not many and (place.endswith("/") or bucket_alone):
        place = f"{place.rstrip('/')}/{source.rstrip('/').rpartition('/')[2]}"
    return (posixpath.normpath(place) if is_read else place.rstrip("/")), many


def _check_mount(mount: S3Mount, *, is_read: bool) -> Iterator[Problem]:
    sides = [("source", mount.source), ("destination", mount.destination)]
    (remote_field, remote), (local_field, local) = sides if is_read else reversed(sides)
    if not remote.startswith("s3://"):
        what = f"{remote!r} is not on S3"
        swapped = " (source and destination seem swapped)" if local.startswith("s3://") else ""
        yield Problem(remote_field, what + swapped, "Write s3://BUCKET/KEY")
    else:
        bucket, _slash, key = remote.removeprefix("s3://").partition("/")
        if not _BUCKET.fullmatch(bucket):
            yield Problem(remote_field, f"{bucket!r} is not a bucket's name", "It has 3 to 63 of a-z, 0-9, . and -")
        if any(part == ".." for part in key.split("/")):
            yield Problem(remote_field, "the key has .. for one of its parts", "Write the key itself")
        if is_read and not key and mount.recursive is False:
            yield Problem(remote_field, "names a bucket, but recursive is off", "Name an object, or set recursive=True")
    if not local:
        yield Problem(local_field, "is empty", "Name a path in the container")
    elif local.startswith("s3://") and remote.startswith("s3://"):
        yield Problem(local_field, "is on S3 too", "Name a path in the container")
    if any("\0" in text for text in (mount.source, mount.destination)):
        yield Problem("source", "a path holds a NUL character", "Remove it")
    if _broken(mount.source, mount.destination):
        yield Problem("source", *_BROKEN)
    if mount.sse is not None and mount.sse not in SSE:
        yield Problem("sse", f"{mount.sse!r} is not a kind of encryption", f"Set one of {', '.join(SSE)}")
    if mount.sse_kms_key_id is not None and mount.sse not in ("aws:kms", "aws:kms:dsse"):
        yield Problem("sse_kms_key_id", "a KMS key needs sse to be aws:kms", 'Set sse="aws:kms"')
    said = options.parse(mount.options, is_read=is_read)
    for what, remedy in said.problems:
        yield Problem("options", what, remedy)
    if said.filters and not (mount.recursive or said.recursive):
        yield Problem(
            "options", "--include and --exclude choose among many, and recursive is off", "Set recursive=True"
        )


def _listed(characters: list[str]) -> str:
    return ", ".join("a space" if c == " " else repr(c) for c in characters)
