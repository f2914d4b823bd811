"""The spec: jobs, and the workflow that orders them. Building, loading and saving one does no other I/O."""

from __future__ import annotations

import contextlib
import copy
import graphlib
import json
import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from dataclasses_json import DataClassJsonMixin

from ezbatch import names, preloader, spec
from ezbatch.errors import InvalidWorkflowError, Problem, SpecTypeError, WorkflowFileError
from ezbatch.s3 import S3Mounts

if TYPE_CHECKING:
    from ezbatch.run import EZBatchRun

__all__ = ["EZBatchJob", "EZBatchJobDefinition", "EZBatchWorkflow"]

#: A string that holds none of these means the same to ``shlex.split`` as to a shell.
_SHELL_SYNTAX = re.compile(r"[\n|&;<>()$`*?\[\]{}#~=%!]")
#: Words that a shell knows and that are no programs: ``exit 3`` can only be meant for a shell.
_SHELL_WORDS = frozenset(
    """
    . : alias bg break case cd command continue eval exec exit export fg for function hash if jobs local read readonly
    return select set shift source times trap type ulimit umask unset until wait while
    """.split()  # noqa: SIM905 - forty words read better without quotes
)


class _JobDefinitionRequired(TypedDict):
    job_name: str
    container_name: str
    command: list[str]
    image: str
    environment: dict[str, str]
    vcpus: int | float
    memory: int
    platform: str
    tags: dict[str, str]


class EZBatchJobDefinition(_JobDefinitionRequired, total=False):
    """What a job definition is made of, as :meth:`EZBatchJob.to_definition` gives it.

    ``storage_size`` (GiB) is there only when the job sets it. ``memory`` is in MiB.
    """

    storage_size: int


@dataclass(repr=False)
class EZBatchJob(DataClassJsonMixin):
    """One job: an image, a command, and what they need.

    Parameters
    ----------
    image : str
        The container image.
    command : str or list of str
        A list is run as it stands (exec form). A string without shell syntax is split into words like a shell would
        and run likewise, so that images with an ENTRYPOINT work; any other string, and one that begins with a word only
        a shell knows (``exit 3``), is run by ``/bin/sh -c``.
    environment : dict of str to str
        Environment variables. Their values never appear in reprs.
    mounts : S3Mounts
        What the job reads from S3 and writes to S3.
    vcpus : int or float
        The number of vCPUs; on Fargate one of 0.25, 0.5, 1, 2, 4, 8, 16, 32.
    memory : int
        Memory in MiB.
    storage_size : int, optional
        Ephemeral storage in GiB, 21 to 200, Fargate only. None is Fargate's own 20 GiB.
    platform : str
        ``FARGATE`` or ``EC2``.
    tags : dict of str to str
        AWS tags of the job.
    queue : str, optional
        The queue of this job, which wins over the workflow's.
    preloader : bool
        Whether ezbatch's script copies ``mounts`` around the command. If False the command moves the data itself.
    array : int, or list of dict, or dict of lists, optional
        Run the job many times: so many children; one child for each entry, the entry's variables in its environment;
        or one for each point of a grid, the last name varying fastest. At most 10,000 children.
    retries : int
        How often a failed attempt is repeated, 0 to 9.
    timeout : int, optional
        Seconds after which an attempt is ended, 60 or more.
    gpus : int, optional
        The number of GPUs (EC2 only).
    secrets : dict of str to str
        Environment variables by the ARN of a Secrets Manager secret or SSM parameter.
    job_role : str, optional
        The ARN of the IAM role that the command has.
    architecture : str, optional
        ``X86_64`` or ``ARM64``.

    Raises
    ------
    SpecTypeError
        If a value has the wrong type. What AWS Batch would refuse is told by :meth:`problems`.
    """

    image: str
    command: str | list[str]
    environment: dict[str, str] = field(default_factory=dict)
    mounts: S3Mounts = field(default_factory=S3Mounts)
    vcpus: int | float = 1
    memory: int = 2048
    storage_size: int | None = None
    platform: str = "FARGATE"
    tags: dict[str, str] = field(default_factory=dict)
    queue: str | None = None
    preloader: bool = False
    _: KW_ONLY
    array: int | list[dict[str, spec.Scalar]] | dict[str, list[spec.Scalar]] | None = None
    retries: int = 0
    timeout: int | None = None
    gpus: int | None = None
    secrets: dict[str, str] = field(default_factory=dict)
    job_role: str | None = None
    architecture: str | None = None

    def __post_init__(self) -> None:
        self.image = spec.text(self.image, "image")
        self.command = spec.argv(self.command, "command")
        self.environment = spec.texts(self.environment, "environment")
        if isinstance(self.mounts, Mapping):
            self.mounts = spec.within("mounts", S3Mounts.from_dict, self.mounts)
        if not isinstance(self.mounts, S3Mounts):
            raise spec.wrong("mounts", "S3Mounts", self.mounts)
        self.vcpus = spec.number(self.vcpus, "vcpus")
        self.memory = spec.whole(self.memory, "memory")
        self.storage_size = spec.optional(spec.whole, self.storage_size, "storage_size")
        self.platform = spec.text(self.platform, "platform")
        self.tags = spec.texts(self.tags, "tags")
        self.queue = spec.optional(spec.text, self.queue, "queue")
        self.preloader = spec.flag(self.preloader, "preloader")
        self.array = spec.optional(spec.array, self.array, "array")
        self.retries = spec.whole(self.retries, "retries")
        self.timeout = spec.optional(spec.whole, self.timeout, "timeout")
        self.gpus = spec.optional(spec.whole, self.gpus, "gpus")
        self.secrets = spec.texts(self.secrets, "secrets")
        self.job_role = spec.optional(spec.text, self.job_role, "job_role")
        self.architecture = spec.optional(spec.text, self.architecture, "architecture")

    @classmethod
    def from_dict(cls, kvs: Any, *, infer_missing: bool = False) -> EZBatchJob:  # noqa: ANN401, ARG003 - the mixin's signature
        """Build a job from a dict.

        Raises
        ------
        SpecTypeError
            If a field is unknown, missing or of the wrong type.
        """
        given = spec.table(kvs, "the job")
        spec.known_fields(given, JOB_FIELDS, ("image", "command"), "the job")
        return cls(**cast("dict[str, Any]", dict(given)))

    def to_dict(self, encode_json: bool = False) -> dict[str, Any]:  # noqa: ARG002 - the mixin's signature
        """Return the fields as JSON's types; a field that ezbatch 0.1.0 does not know is left out while it is off."""
        values = {name: getattr(self, name) for name in JOB_FIELDS}
        made = {name: value for name, value in values.items() if name in _DOCUMENTED or value != _DEFAULTS[name]}
        made["mounts"] = self.mounts.to_dict()
        for name in ("environment", "tags"):
            made[name] = dict(made[name])
        return copy.deepcopy(made) if "array" in made else made

    def __repr__(self) -> str:
        shown = []
        for name in JOB_FIELDS:
            value = getattr(self, name)
            if name in ("image", "command") or value != _DEFAULTS[name]:
                # Environment values may be secret; names are not.
                hidden = ", ".join(f"{key!r}: ..." for key in value) if name == "environment" else ""
                text = f"{{{hidden}}}" if name == "environment" else repr(value)
                shown.append(f"{name}={text}")
        return f"EZBatchJob({', '.join(shown)})"

    @property
    def argv(self) -> list[str]:
        """The command as a list of words, by the rule given for ``command``."""
        if not isinstance(self.command, str):
            return list(self.command)
        if not _SHELL_SYNTAX.search(self.command):
            # An unmatched quote is for the shell to complain about, as the user would expect.
            with contextlib.suppress(ValueError):
                words = shlex.split(self.command)
                if not words or words[0] not in _SHELL_WORDS:
                    return words
        return ["/bin/sh", "-c", self.command]

    @property
    def uses_shell(self) -> bool:
        """Whether the command is run by ``/bin/sh -c``."""
        return isinstance(self.command, str) and self.argv[:2] == ["/bin/sh", "-c"] and self.argv[-1] == self.command

    @property
    def array_size(self) -> int | None:
        """The number of children, or None for a job that is no array."""
        if self.array is None or isinstance(self.array, int):
            return self.array
        if isinstance(self.array, list):
            return len(self.array)
        size = 1
        for values in self.array.values():
            size *= len(values)
        return size

    def to_definition(self) -> EZBatchJobDefinition:
        """Return what a job definition for this job alone holds.

        Returns
        -------
        EZBatchJobDefinition
            With the preloader's script and variables when ``preloader`` is on. The job itself is not changed.
        """
        command, environment = self.argv, dict(self.environment)
        if self.preloader:
            wrapped = preloader.wrap(command, self.mounts.reads, self.mounts.writes)
            command, environment = list(wrapped.command), {**environment, **wrapped.environment}
        base = names.slug(self.image.rsplit("/", 1)[-1], 100)
        definition: EZBatchJobDefinition = {
            "job_name": f"{base}-job",
            "container_name": base,
            "command": command,
            "image": self.image,
            "environment": environment,
            "vcpus": self.vcpus,
            "memory": self.memory,
            "platform": self.platform,
            "tags": dict(self.tags),
        }
        if self.storage_size is not None:
            definition["storage_size"] = self.storage_size
        return definition

    def problems(self) -> list[Problem]:
        """Return everything AWS Batch would refuse about this job, without asking AWS."""
        from ezbatch.planning import job_problems

        return job_problems(self)


JOB_FIELDS = tuple(item.name for item in fields(EZBatchJob))
_DOCUMENTED = frozenset(item.name for item in fields(EZBatchJob) if not item.kw_only)
_DEFAULTS = {name: getattr(EZBatchJob("", ""), name) for name in JOB_FIELDS}


@dataclass
class EZBatchWorkflow(DataClassJsonMixin):
    """Jobs, and which of them must succeed before which.

    Parameters
    ----------
    name : str
        The name of the workflow; anything a person would call it.
    jobs : dict of str to EZBatchJob
        The jobs by name.
    dependencies : dict of str to list of str
        For a job's name, the names of the jobs that must succeed before it starts.

    Raises
    ------
    SpecTypeError
        If a value has the wrong type. Cycles, unknown names and what AWS Batch would refuse is told by
        :meth:`problems`.
    """

    name: str
    jobs: dict[str, EZBatchJob]
    dependencies: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = spec.text(self.name, "name")
        self.jobs = cast("dict[str, EZBatchJob]", dict(spec.table(self.jobs, "jobs", "a dict of EZBatchJob")))
        for name, job in self.jobs.items():
            if not isinstance(job, EZBatchJob):
                raise spec.wrong(spec.path("jobs", name), "an EZBatchJob", job)
        self.dependencies = {
            name: _parents(parents, spec.path("dependencies", name))
            for name, parents in spec.table(self.dependencies, "dependencies").items()
        }

    @classmethod
    def from_dict(cls, kvs: Any, *, infer_missing: bool = False) -> EZBatchWorkflow:  # noqa: ANN401, ARG003 - the mixin's signature
        """Build a workflow from a dict with ``name``, ``jobs`` and ``dependencies``.

        Raises
        ------
        SpecTypeError
            If a field is unknown, missing or of the wrong type: the message names its place.
        """
        given = spec.table(kvs, "the workflow")
        spec.known_fields(given, ("name", "jobs", "dependencies"), ("name", "jobs"), "the workflow")
        jobs = {
            name: job
            if isinstance(job, EZBatchJob)
            else spec.within(spec.path("jobs", name), EZBatchJob.from_dict, job)
            for name, job in spec.table(given["jobs"], "jobs").items()
        }
        return cls(cast("str", given["name"]), jobs, cast("dict[str, list[str]]", given.get("dependencies", {})))

    def to_dict(self, encode_json: bool = False) -> dict[str, Any]:  # noqa: ARG002 - the mixin's signature
        """Return the workflow as JSON's types, in the shape that ezbatch 0.1.0 saved."""
        return {
            "name": self.name,
            "jobs": {name: job.to_dict() for name, job in self.jobs.items()},
            "dependencies": {name: list(parents) for name, parents in self.dependencies.items()},
        }

    @staticmethod
    def job_submission_queue(jobs: Iterable[str], dependency_map: Mapping[str, Sequence[str]]) -> list[str]:
        """Order jobs so that each comes after those it depends on.

        Parameters
        ----------
        jobs : iterable of str
            The names of the jobs.
        dependency_map : mapping of str to sequence of str
            For a job's name, the names of the jobs it depends on.

        Returns
        -------
        list of str
            Every job once; jobs that could go at the same time stay in the order given.

        Raises
        ------
        InvalidWorkflowError
            If a name is unknown or the dependencies form a cycle. It is a ``ValueError``.
        """
        order, problems = submission_order(list(jobs), dependency_map)
        if problems:
            raise InvalidWorkflowError("", problems)
        return order

    def problems(self) -> list[Problem]:
        """Return everything AWS Batch would refuse about this workflow, without asking AWS."""
        from ezbatch.planning import workflow_problems

        return workflow_problems(self)

    def submit(self, queue: str | None = None, **options: Any) -> EZBatchRun:  # noqa: ANN401 - see run.submit
        """Submit the workflow and return once every job is accepted; see :func:`ezbatch.run.submit`."""
        from ezbatch.run import submit

        return submit(self, queue, **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the workflow as JSON, which ezbatch 0.1.0 reads too. The file is replaced whole or not at all.

        Parameters
        ----------
        path : str or path
            The file.

        Raises
        ------
        OSError
            If the file cannot be written; what was there before is still there.
        """
        target = Path(path)
        if target.is_symlink():
            target = target.resolve()
        text = json.dumps(self.to_dict(), indent=4) + "\n"
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
            Path(temporary).chmod(mode)
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EZBatchWorkflow:
        """Load a workflow that was saved here or by ezbatch 0.1.0.

        Parameters
        ----------
        path : str or path
            The file.

        Returns
        -------
        EZBatchWorkflow
            Equal to the one saved.

        Raises
        ------
        WorkflowFileError
            If the file is no workflow: the message says the file, the place in it and what to do.
        OSError
            If the file cannot be read.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")  # some editors put a mark in front
            return cls.from_dict(_parse(text))
        except UnicodeDecodeError as error:
            message = f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8 text."
        except json.JSONDecodeError as error:
            message = f"{path}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}. Mend it there."
        except RecursionError:
            message = f"{path}: nested too deeply to be a workflow. Save it again from EZBatchWorkflow.save()."
        except SpecTypeError as error:
            message = f"{path}: {error}. Mend it there, or save the file again from EZBatchWorkflow.save()."
        except ValueError as error:  # a number of more digits than Python reads
            message = f"{path}: holds a number that cannot be read: {error}. Write a smaller number."
        raise WorkflowFileError(message)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _parents(value: object, where: str) -> list[str]:
    if isinstance(value, str):
        message = f"{where} must be a list of job names, not a string: write [{value!r}]"
        raise SpecTypeError(message)
    return [
        spec.text(item, spec.path(where, i)) for i, item in enumerate(spec.row(value, where, "a list of job names"))
    ]


class _Repeated(dict[str, object]):
    """A JSON object in which a key stood twice."""

    key = ""


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    repeated = _Repeated(made)
    seen: set[str] = set()
    for key, _value in pairs:
        if key in seen:
            repeated.key = key
        seen.add(key)
    return repeated


def _parse(text: str) -> object:
    repeats = 0

    def hook(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal repeats
        made = _object(pairs)
        repeats += isinstance(made, _Repeated)
        return made

    def constant(name: str) -> object:
        message = f"{name} is no JSON number; write a finite number"
        raise SpecTypeError(message)

    value = json.loads(text, object_pairs_hook=hook, parse_constant=constant)
    if repeats:
        _refuse_repeats(value, ())
    return value


def _refuse_repeats(value: object, where: tuple[str | int, ...]) -> None:
    if isinstance(value, _Repeated):
        message = f"{spec.path('', *where, value.key)} stands there twice; keep one of the two"
        raise SpecTypeError(message)
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_repeats(item, (*where, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_repeats(item, (*where, index))


def submission_order(
    jobs: Sequence[str], dependency_map: Mapping[str, Sequence[str]]
) -> tuple[list[str], list[Problem]]:
    """Return the jobs in an order that keeps every dependency, or the problems that leave none.

    Linear in jobs and dependencies, for any depth; jobs that could go at the same time stay in the order given.
    """
    problems = []
    graph: dict[str, Sequence[str]] = dict.fromkeys(jobs, ())
    for name, parents in dependency_map.items():
        if name not in graph:
            what = f"{name!r} is no job of the workflow{spec.nearest(name, jobs)}"
            problems.append(Problem(spec.path("dependencies", name), what, "Name a job, or remove the entry"))
            continue
        unknown = [parent for parent in dict.fromkeys(parents) if parent not in graph]
        for parent in unknown:
            what = f"depends on {parent!r}, which is no job of the workflow{spec.nearest(parent, jobs)}"
            problems.append(Problem(spec.path("dependencies", name), what, "Name a job, or remove the dependency"))
        graph[name] = [parent for parent in parents if parent not in unknown] if unknown else parents
    # All jobs first, then their dependencies: otherwise a parent would move up to the first job that names it.
    sorter = graphlib.TopologicalSorter(dict.fromkeys(graph, ()))
    for name, parents in graph.items():
        if parents:
            sorter.add(name, *parents)
    try:
        order = list(sorter.static_order())
    except graphlib.CycleError as error:
        cycle = " -> ".join(map(repr, error.args[1]))
        problems.append(
            Problem(
                "dependencies", f"a cycle: {cycle} (each waits for the one before)", "Remove one of its dependencies"
            )
        )
        order = []
    return order, problems
