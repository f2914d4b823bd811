"""From a workflow to what will be asked of a queue: order, joins, arrays, shared definitions, names.

A plan is plain frozen data: building one calls nothing, and its text is the dry run.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ezbatch import names, preloader, rules, spec
from ezbatch.errors import InvalidWorkflowError, Problem
from ezbatch.workflow import EZBatchJob, EZBatchWorkflow, submission_order

__all__ = [
    "HEADS",
    "JOIN_IMAGE",
    "LOCAL",
    "Plan",
    "PlanRow",
    "PlannedDefinition",
    "PlannedJob",
    "job_problems",
    "oversized",
    "plan",
    "workflow_problems",
]

#: The queue that is this machine.
LOCAL = "local"
#: What a join runs ``true`` in: small, public, without an ENTRYPOINT.
JOIN_IMAGE = "public.ecr.aws/docker/library/busybox:stable"


@dataclasses.dataclass(frozen=True)
class PlannedDefinition:
    """A job definition: what the jobs that use it have in common and SubmitJob cannot override.

    Parameters
    ----------
    name : str
        Unique within the plan, in AWS's pattern.
    command, environment
        What stands in the definition itself; a job that says nothing of its own runs this.
    vcpus, memory : int or float, int
        The first user's size (vCPUs and MiB), since AWS wants one; every job overrides it.
    storage_size : int, optional
        GiB.
    """

    name: str
    image: str
    platform: str
    command: tuple[str, ...]
    environment: dict[str, str]
    vcpus: int | float
    memory: int
    storage_size: int | None = None
    architecture: str | None = None
    job_role: str | None = None
    secrets: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class PlannedJob:
    """One SubmitJob to be.

    Parameters
    ----------
    name : str
        What the user called the job; a join has a name no job of the workflow has.
    slug : str
        The name in AWS's pattern, unique within the plan. The job's AWS name is the run's id, ``-``, and this.
    join : bool
        Whether this is a no-op that stands for more than 20 parents.
    definition : int
        Which of the plan's definitions it uses.
    stage : int
        1 for jobs without parents; otherwise one more than the highest of the parents'.
    parents : tuple of str
        At most 20 names, joins' among them.
    command, environment
        What overrides the definition's.
    array_size : int, optional
        The number of children of an AWS array job.
    indices : tuple of int, optional
        When only some children of an array run (a retry), which: the position here is AWS's index.
    attempts : int
        1 to 10.
    timeout : int, optional
        Seconds, for each attempt.
    summary : str
        The user's command on one line, for people.
    paths : tuple of str
        Where in the container ezbatch's script copies to and from; one that is known to be a directory ends in ``/``.
    """

    name: str
    slug: str
    join: bool
    definition: int
    stage: int
    parents: tuple[str, ...]
    queue: str
    command: tuple[str, ...]
    environment: dict[str, str]
    vcpus: int | float
    memory: int
    gpus: int | None = None
    array_size: int | None = None
    indices: tuple[int, ...] | None = None
    attempts: int = 1
    timeout: int | None = None
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    summary: str = ""
    paths: tuple[str, ...] = ()


class PlanRow(NamedTuple):
    """A line of a plan: a job, or several of one stage, of which nothing shown differs but names and parents.

    Parameters
    ----------
    jobs : tuple of str
        Their names.
    cells : tuple of str
        What stands below the `HEADS`.
    """

    jobs: tuple[str, ...]
    cells: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What submitting a workflow will do.

    Parameters
    ----------
    workflow : str
        The workflow's name.
    queue : str
        The queue of every job that names none.
    jobs : tuple of PlannedJob
        In an order that keeps every dependency; joins are among them.
    definitions : tuple of PlannedDefinition
        Each registered once.
    notes : tuple of str
        What a person should know before submitting.
    """

    workflow: str
    queue: str
    jobs: tuple[PlannedJob, ...]
    definitions: tuple[PlannedDefinition, ...]
    notes: tuple[str, ...] = ()

    @property
    def local(self) -> bool:
        """Whether the jobs run on this machine."""
        return self.queue == LOCAL

    @property
    def stages(self) -> int:
        """The number of jobs on the longest path, joins not counted as jobs but as steps."""
        return max((job.stage for job in self.jobs), default=0)

    @property
    def place(self) -> str:
        """Where the jobs run, in words."""
        queues = dict.fromkeys(job.queue for job in self.jobs)
        return "this machine (queue local)" if self.local else "queue " + ", ".join(queues or [self.queue])

    @property
    def summary(self) -> str:
        """How many jobs, arrays, joins, stages and definitions there are, in words."""
        own = [job for job in self.jobs if not job.join]
        joins = len(self.jobs) - len(own)
        parts = [count_text(len(own), "job")]
        arrays = [job for job in own if job.indices is not None or job.array_size]
        if arrays:
            children = sum(len(job.indices) if job.indices is not None else job.array_size or 0 for job in arrays)
            parts.append(f"{count_text(len(arrays), 'array')} of {children:,} children in all")
        if joins:
            parts.append(count_text(joins, "join"))
        parts += [count_text(self.stages, "stage"), count_text(len(self.definitions), "job definition")]
        return ", ".join(parts)

    def rows(self) -> list[PlanRow]:
        """Return the jobs in words, stage after stage, many alike on one line: all, or the first of each stage."""
        return _rows(self.jobs)

    def definition_of(self, job: PlannedJob) -> PlannedDefinition:
        """Return the definition that a job uses."""
        return self.definitions[job.definition]

    def to_json(self) -> str:
        """Return the plan as JSON, for the ledger."""
        return json.dumps(
            {
                "workflow": self.workflow,
                "queue": self.queue,
                "jobs": [_row(job, _JOB_FIELDS) for job in self.jobs],
                "definitions": [_row(definition, _DEFINITION_FIELDS) for definition in self.definitions],
                "notes": self.notes,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Rebuild a plan from the ledger's JSON."""
        data = json.loads(text)
        jobs = []
        for row in data["jobs"]:
            for field in ("parents", "command", "paths"):
                row[field] = tuple(row.get(field, ()))
            if row.get("indices") is not None:
                row["indices"] = tuple(row["indices"])
            jobs.append(PlannedJob(**row))
        for row in data["definitions"]:
            row["command"] = tuple(row.get("command", ()))
        definitions = tuple(PlannedDefinition(**row) for row in data["definitions"])
        return cls(data["workflow"], data["queue"], tuple(jobs), definitions, tuple(data["notes"]))

    def __str__(self) -> str:
        return "\n".join(_lines(self))


_JOB_FIELDS = tuple((field.name, field.default) for field in dataclasses.fields(PlannedJob))
_DEFINITION_FIELDS = tuple((field.name, field.default) for field in dataclasses.fields(PlannedDefinition))


def _row(item: object, names_and_defaults: Sequence[tuple[str, object]]) -> dict[str, Any]:
    values = ((name, getattr(item, name), default) for name, default in names_and_defaults)
    return {name: value for name, value, default in values if value != default}


def plan(
    workflow: EZBatchWorkflow,
    queue: str | None = None,
    *,
    only: Mapping[str, Sequence[int] | None] | None = None,
    join_image: str = JOIN_IMAGE,
) -> Plan:
    """Plan a workflow: what :meth:`EZBatchWorkflow.submit` will do, without doing it.

    Parameters
    ----------
    workflow : EZBatchWorkflow
        The workflow; it is not changed.
    queue : str, optional
        The queue of jobs that name none. None is ``"local"``, this machine.
    only : mapping of str to sequence of int or None, optional
        Plan these jobs alone: the indices of an array's children, or None for the whole job. Parents that are
        left out count as done. This is how a retry is planned.
    join_image : str
        The image of joins.

    Returns
    -------
    Plan
        Frozen data; ``print(plan)`` is the dry run.

    Raises
    ------
    InvalidWorkflowError
        With everything that AWS Batch would refuse.
    """
    made, problems = _Planner(workflow, queue, only, join_image).build()
    if problems:
        raise InvalidWorkflowError(workflow.name, problems)
    return made


def workflow_problems(workflow: EZBatchWorkflow) -> list[Problem]:
    """Return everything wrong with a workflow, whatever the queue."""
    return _Planner(workflow, None, None, JOIN_IMAGE, check_queues=False).build()[1]


def job_problems(job: EZBatchJob) -> list[Problem]:
    """Return everything wrong with one job; the places are its fields."""
    found = list(rules.check_job(job))
    if not found:
        sized = _Planner(EZBatchWorkflow("job", {"job": job}), None, None, JOIN_IMAGE, check_queues=False).build()[1]
        found = [Problem(p.where.removeprefix("jobs.job").lstrip("."), p.what, p.remedy) for p in sized]
    return found


def oversized(job: EZBatchJob) -> bool:
    """Return whether a job with which nothing else is wrong makes a definition bigger than AWS Batch takes."""
    made, _problems = _Planner(EZBatchWorkflow("job", {"job": job}), None, None, JOIN_IMAGE, check_queues=False).build()
    return any(_definition_length(definition) > rules.MAX_DEFINITION_BYTES for definition in made.definitions)


#: Characters of tags that never make a SubmitJob too big, and bytes of it that are not tags, command or environment:
#: 20 parents, names and ARNs, ezbatch's own tags, the job's size.
_SMALL_TAGS, _SUBMIT_REST = 1_500, 7 * 1024


#: Where ``s3://`` is on AWS. The directory store is left out there, since a definition has room for little.
AWS_STORES = ("s3",)


class _Planner:
    """The state of one planning; a plan of 100,000 jobs is built in one pass over them."""

    def __init__(
        self,
        workflow: EZBatchWorkflow,
        queue: str | None,
        only: Mapping[str, Sequence[int] | None] | None,
        join_image: str,
        *,
        check_queues: bool = True,
    ) -> None:
        self.workflow = workflow
        self.queue = LOCAL if queue is None else queue
        self.only = only
        self.join_image = join_image
        self.check_queues = check_queues
        self.stores = preloader.STORES if self.queue == LOCAL else AWS_STORES
        self.problems: list[Problem] = []
        self.jobs: list[PlannedJob] = []
        self.stages: dict[str, int] = {}
        self.definitions: list[PlannedDefinition] = []
        self.definition_numbers: dict[object, int] = {}
        self.definition_names: set[str] = set()
        self.definition_counts: dict[str, Iterator[int]] = {}
        self.joined: dict[object, tuple[str, ...]] = {}
        self.joins = 0

    def build(self) -> tuple[Plan, list[Problem]]:
        """Return the plan, which is whole only when there are no problems."""
        workflow = self.workflow
        self.problems.extend(rules.check_workflow(workflow))
        order, order_problems = submission_order(list(workflow.jobs), workflow.dependencies)
        self.problems.extend(order_problems)
        if self.check_queues:
            self._check_queues()
        if not self.problems:
            if self.only is not None:
                order = [name for name in order if name in self.only]
            self.slugs = names.unique_slugs(order)
            self.taken = {slug.lower() for slug in self.slugs.values()}
            for name in order:
                self._add(name, workflow.jobs[name])
        return Plan(
            workflow.name, self.queue, tuple(self.jobs), tuple(self.definitions), tuple(self._notes())
        ), self.problems

    def _check_queues(self) -> None:
        if not rules.valid_queue(self.queue):
            remedy = f"Name {LOCAL!r}, a queue, or a queue's ARN"
            self.problems.append(Problem("queue", f"{self.queue!r} is neither a queue's name nor its ARN", remedy))
        for name, job in self.workflow.jobs.items():
            if job.queue is not None and (job.queue == LOCAL) != (self.queue == LOCAL):
                what = f"is {job.queue!r}, but the workflow goes to {self.queue!r}: a run is on this machine or on AWS"
                self.problems.append(
                    Problem(spec.path("jobs", name, "queue"), what, "Use this machine for all jobs or for none")
                )

    def _add(self, name: str, job: EZBatchJob) -> None:
        parents = tuple(dict.fromkeys(self.workflow.dependencies.get(name, ())))
        if self.only is not None:
            parents = tuple(parent for parent in parents if parent in self.only)
        stage = 1
        for parent in parents:
            above = self.stages[parent]
            if above >= stage:
                stage = above + 1
        queue = job.queue or self.queue
        if len(parents) > rules.MAX_DEPENDENCIES:
            parents = self._join(name, parents, job, queue)
            stage = 1 + max(self.stages[parent] for parent in parents)
        self.stages[name] = stage
        size, indices, axes = _children(job, None if self.only is None else self.only[name])
        command, environment = tuple(job.argv), job.environment
        # AWS refuses an empty word in an overridden command, so the script has to hand it over.
        if job.preloader or axes or "" in command:
            mounts = job.mounts if job.preloader else None
            reads, writes = (mounts.reads, mounts.writes) if mounts else ((), ())
            wrapped = preloader.wrap(command, reads, writes, axes, self.stores)
            base, command, environment = wrapped.command, (), {**environment, **wrapped.environment}
        else:
            base = ()
        definition, command, environment = self._define(name, job, base, command, environment)
        self._check_tags(name, job, command, environment)
        self.jobs.append(
            PlannedJob(
                name=name,
                slug=self.slugs[name],
                join=False,
                definition=definition,
                stage=stage,
                parents=parents,
                queue=queue,
                command=command,
                environment=environment,
                vcpus=job.vcpus,
                memory=job.memory,
                gpus=job.gpus,
                array_size=size,
                indices=indices,
                attempts=job.retries + 1,
                timeout=job.timeout,
                tags=job.tags,
                summary=_summary(job),
                paths=_paths(job) if job.preloader else (),
            )
        )

    def _join(self, name: str, parents: tuple[str, ...], job: EZBatchJob, queue: str) -> tuple[str, ...]:
        """Put no-op jobs between a job and its parents until 20 are left; jobs with the same parents share them.

        Each join stands for as many parents as AWS allows, taken from the front of a queue to whose end it goes: the
        fewest joins, and the tree stays flat.
        """
        key = (parents, queue, job.platform, job.job_role, job.architecture)
        if key in self.joined:
            return self.joined[key]
        waiting = deque(parents)
        while len(waiting) > rules.MAX_DEPENDENCIES:
            # A join of n parents leaves n - 1 fewer; the last one takes no more than it must.
            count = min(rules.MAX_DEPENDENCIES, len(waiting) - rules.MAX_DEPENDENCIES + 1)
            waiting.append(self._add_join(name, tuple(waiting.popleft() for _ in range(count)), job, queue))
        self.joined[key] = tuple(waiting)
        return self.joined[key]

    def _add_join(self, child: str, parents: tuple[str, ...], job: EZBatchJob, queue: str) -> str:
        while True:
            self.joins += 1
            name, slug = f"join {self.joins} for {child}", f"join-{self.joins}"
            if name not in self.workflow.jobs and slug not in self.taken:
                break
        fargate = job.platform == "FARGATE"
        tiny = EZBatchJob(
            image=self.join_image,
            command=["true"],
            vcpus=0.25 if fargate else 1,
            memory=512 if fargate else 64,
            platform=job.platform,
            job_role=job.job_role,
            architecture=job.architecture,
        )
        definition, command, environment = self._define(name, tiny, ("true",), (), {}, label="join")
        stage = self.stages[name] = 1 + max(self.stages[parent] for parent in parents)
        self.jobs.append(
            PlannedJob(
                name=name,
                slug=slug,
                join=True,
                definition=definition,
                stage=stage,
                parents=parents,
                queue=queue,
                command=command,
                environment=environment,
                vcpus=tiny.vcpus,
                memory=tiny.memory,
                summary="(join: does nothing)",
            )
        )
        return name

    def _define(
        self,
        name: str,
        job: EZBatchJob,
        base: tuple[str, ...],
        command: tuple[str, ...],
        environment: Mapping[str, str],
        label: str | None = None,
    ) -> tuple[int, tuple[str, ...], dict[str, str]]:
        """Return the definition for a job and what is left to override."""
        override = overrides_length(command, environment, job)
        inside: Mapping[str, str] = {}
        if override > rules.MAX_OVERRIDES_LENGTH:
            # Too much to override: the job gets a definition of its own, which holds what is too much.
            base, command = command or base, ()
            inside, environment = _split(environment, job)
        secrets = tuple(sorted(job.secrets.items()))
        key = (job.image, job.platform, job.storage_size, job.architecture, job.job_role, secrets, base)
        number = None if inside else self.definition_numbers.get(key)
        if number is None:
            number = len(self.definitions)
            stem = names.slug(label or job.image.rsplit("/", 1)[-1], 60)
            made = stem
            if stem.lower() in self.definition_names:
                made = next(n for n in self._numbered(stem) if n.lower() not in self.definition_names)
            self.definition_names.add(made.lower())
            definition = PlannedDefinition(
                name=made,
                image=job.image,
                platform=job.platform,
                command=base,
                environment=dict(inside),
                vcpus=job.vcpus,
                memory=job.memory,
                storage_size=job.storage_size,
                architecture=job.architecture,
                job_role=job.job_role,
                secrets=dict(secrets),
            )
            wrapped = base == preloader.argv(self.stores)
            length = _definition_length(definition)
            if length > rules.MAX_DEFINITION_BYTES:
                own = f" with the {_bytes(preloader.argv(AWS_STORES)):,} of ezbatch's own script" if wrapped else ""
                what = (
                    f"its command, mounts, array entries and environment make {length:,} bytes{own}; "
                    f"AWS Batch takes {rules.MAX_DEFINITION_BYTES:,}"
                )
                remedy = (
                    "Put a long script into the image or on S3 (set staging to s3://BUCKET/PREFIX, and a cell's goes "
                    "there by itself), and write an array of many entries as a dict of lists"
                )
                self.problems.append(Problem(spec.path("jobs", name), what, remedy))
            if not inside:
                self.definition_numbers[key] = number
            self.definitions.append(definition)
        return number, command, dict(environment)

    def _numbered(self, stem: str) -> Iterator[str]:
        for count in self.definition_counts.setdefault(stem.lower(), itertools.count(2)):
            yield f"{stem}_{count}"

    def _check_tags(self, name: str, job: EZBatchJob, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """SubmitJob takes only so much, and most of it can be tags."""
        if sum(len(key) + len(value) for key, value in job.tags.items()) < _SMALL_TAGS:
            return
        pairs = [{"name": n, "value": v} for n, v in environment.items()]
        length = _bytes([job.tags, command, pairs]) + _SUBMIT_REST
        if length > rules.MAX_SUBMIT_BYTES:
            what = f"with its tags the job makes {length:,} bytes; AWS Batch takes {rules.MAX_SUBMIT_BYTES:,}"
            self.problems.append(Problem(spec.path("jobs", name, "tags"), what, "Shorten the tags"))

    def _notes(self) -> Iterator[str]:
        unmoved = [name for name, job in self.workflow.jobs.items() if job.mounts and not job.preloader]
        if unmoved:
            yield f"{_some(unmoved)}: preloader is off, so the command itself has to copy the mounts"
        if self.joins:
            yield (
                f"{self.joins} join{'s' if self.joins > 1 else ''}: AWS Batch lets a job wait for at most "
                f"{rules.MAX_DEPENDENCIES} others, so no-op jobs stand in between"
            )


def _definition_length(definition: PlannedDefinition) -> int:
    """Return how long what RegisterJobDefinition is asked for is, serialized, in bytes."""
    # What runs on this machine should run on AWS, too, where the preloader is shorter.
    base = definition.command
    command = preloader.argv(AWS_STORES) if base == preloader.argv() else base
    environment = [{"name": name, "value": value} for name, value in definition.environment.items()]
    return _bytes([command, environment, tuple(definition.secrets.items())]) + 1024


def overrides_length(command: Sequence[str], environment: Mapping[str, str], job: EZBatchJob) -> int:
    """Return how long SubmitJob's container overrides are, serialized, in characters."""
    # Escaping makes a character six at most; most jobs are known to be small without being serialized.
    rough = sum(map(len, command)) + sum(len(n) + len(v) for n, v in environment.items())
    count = len(command) + len(environment)
    if rough * 6 + count * 24 + 200 <= rules.MAX_OVERRIDES_LENGTH:
        return rough
    return _serialized_length(command, environment, job)


def _serialized_length(command: Sequence[str], environment: Mapping[str, str], job: EZBatchJob) -> int:
    resources = [("VCPU", f"{job.vcpus:g}"), ("MEMORY", str(job.memory)), ("GPU", str(job.gpus or ""))]
    return len(
        json.dumps(
            {
                "command": list(command),
                "environment": [{"name": n, "value": v} for n, v in environment.items()],
                "resourceRequirements": [{"type": kind, "value": value} for kind, value in resources],
            }
        )
    )


def _split(environment: Mapping[str, str], job: EZBatchJob) -> tuple[dict[str, str], dict[str, str]]:
    """Return the variables for a job's own definition, and the rest, which are overridden.

    As much is overridden as can be: a definition that holds the script, too, has room for little else.
    """
    room = rules.MAX_OVERRIDES_LENGTH - _serialized_length((), {}, job)
    # The variables to override are those whose lengths make the largest sum that fits. Bit k of sums[n] says whether
    # some of the first n make k together.
    lengths = [len(json.dumps({"name": name, "value": value})) + len(", ") for name, value in environment.items()]
    sums, fitting = [1], (1 << room + 1) - 1
    for length in lengths:
        sums.append(sums[-1] | (sums[-1] << length & fitting))
    left = sums[-1].bit_length() - 1
    overridden = set()
    for n, name in reversed(list(enumerate(environment))):
        if not sums[n] >> left & 1:
            overridden.add(name)
            left -= lengths[n]
    inside = {name: value for name, value in environment.items() if name not in overridden}
    return inside, {name: value for name, value in environment.items() if name in overridden}


def _bytes(value: object) -> int:
    return len(json.dumps(value).encode())


def _children(
    job: EZBatchJob, only: Sequence[int] | None
) -> tuple[int | None, tuple[int, ...] | None, list[list[dict[str, str]]]]:
    """Return the AWS array size, the indices chosen, and the axes from which a child takes its variables."""
    size = job.array_size
    if size is None:
        return None, None, []
    axes = entry_axes(job)
    if only is None and size > 1:
        return size, None, axes
    # AWS has no array of one and no array with gaps: each child is told by a variable which one it stands for.
    indices = tuple(range(size)) if only is None else tuple(only)
    chosen = []
    for index in indices:
        own = {"AWS_BATCH_JOB_ARRAY_INDEX": str(index), "AWS_BATCH_JOB_ARRAY_SIZE": str(size)}
        rest = index
        for axis in reversed(axes):
            rest, position = divmod(rest, len(axis))
            own.update(axis[position])
        chosen.append(own)
    return (len(indices) if len(indices) > 1 else None), indices, [chosen]


def entry_axes(job: EZBatchJob) -> list[list[dict[str, str]]]:
    """Return an array's variables as axes: one for a list of entries, one for each name of a grid."""
    if isinstance(job.array, list):
        return [[{name: str(value) for name, value in entry.items()} for entry in job.array]]
    if isinstance(job.array, dict):
        return [[{name: str(value)} for value in values] for name, values in job.array.items()]
    return []


# The dry run

_ROWS = 60
#: From how many on jobs of which nothing shown differs but names and parents share a line.
_ALIKE = 4


def size_text(vcpus: float, memory: int, gpus: int | None = None) -> str:
    """Return a job's size as people write it, such as ``4 vCPU, 16 GiB``."""
    gib = memory / 1024
    exact = gib * 4 == int(gib * 4)
    text = f"{vcpus:g} vCPU, " + (f"{gib:g} GiB" if exact else f"{gib:.1f} GiB" if gib > 4 else f"{memory} MiB")  # noqa: PLR2004
    return text + (f", {gpus} GPU" if gpus else "")


def duration_text(seconds: float) -> str:
    """Return a duration as people write it, such as ``2 h 05 m`` or ``0.8 s``."""
    if seconds < 10:  # noqa: PLR2004 - below it a tenth can be seen
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} m" if hours else f"{minutes} m {rest:02} s"


def count_text(count: int, noun: str) -> str:
    """Return ``1 job`` or ``2 jobs``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


#: What the columns of :meth:`Plan.rows` hold.
HEADS = ("stage", "job", "array", "size", "tries", "timeout", "after", "command")


def _lines(made: Plan) -> Iterator[str]:
    yield f"Plan of {made.workflow!r} on {made.place}"
    yield f"  {made.summary}"
    yield ""
    shown = made.rows()
    rows = [HEADS, *(row.cells for row in shown)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        yield (
            "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        )
    left = len(made.jobs) - sum(len(row.jobs) for row in shown)
    if left:
        yield f"  ... and {left:,} more jobs, like these: all are in plan.jobs"
    for note in made.notes:
        yield ""
        yield f"  Note: {note}."


def _rows(jobs: Iterable[PlannedJob]) -> list[PlanRow]:
    """Return a row for each job, one for many that are alike; of a large plan the first of each stage."""
    alike: dict[tuple[object, ...], list[PlannedJob]] = {}
    for job in jobs:
        size = (job.vcpus, job.memory, job.gpus, job.array_size, job.indices and len(job.indices))
        key = (job.stage, job.definition, job.queue, size, job.attempts, job.timeout, job.summary)
        alike.setdefault(key, []).append(job)
    stages: dict[int, list[list[PlannedJob]]] = {}
    for group in alike.values():
        together = [group] if len(group) >= _ALIKE else [[job] for job in group]
        stages.setdefault(group[0].stage, []).extend(together)
    turns = itertools.zip_longest(*(stages[stage] for stage in sorted(stages)))
    chosen = itertools.islice((group for turn in turns for group in turn if group is not None), _ROWS)
    return [
        PlanRow(tuple(job.name for job in group), _cells(group))
        for group in sorted(chosen, key=lambda group: group[0].stage)
    ]


def _cells(group: Sequence[PlannedJob]) -> tuple[str, ...]:
    job = group[0]
    count = len(job.indices) if job.indices is not None else job.array_size
    if all(other.parents == job.parents for other in group):
        after = _some(job.parents, 2) if job.parents else "-"
    else:
        after = _ends(list(dict.fromkeys(parent for other in group for parent in other.parents)))
    return (
        str(job.stage),
        _ends([other.name for other in group]) if len(group) > 1 else _short(job.name, 40),
        f"x{count:,}" if count else "-",
        size_text(job.vcpus, job.memory, job.gpus),
        str(job.attempts),
        duration_text(job.timeout) if job.timeout else "-",
        after,
        job.summary,
    )


def _ends(items: Sequence[str]) -> str:
    return f"{_short(items[0], 24)} … {_short(items[-1], 24)} ({len(items):,})"


def _paths(job: EZBatchJob) -> tuple[str, ...]:
    local = [(mount.destination, mount.recursive) for mount in job.mounts.reads]
    local += [(mount.source, mount.recursive) for mount in job.mounts.writes]
    return tuple(f"{path.rstrip('/')}/" if recursive else path for path, recursive in local)


def _summary(job: EZBatchJob) -> str:
    """Return a job's command on one line, with what is copied around it."""
    text = job.command if isinstance(job.command, str) else " ".join(job.command)
    reads, writes = len(job.mounts.read), len(job.mounts.write)
    copied = [f"{count} {what}" for count, what in ((reads, "in"), (writes, "out")) if count and job.preloader]
    return _short(text, 60) + (f"   [copies {', '.join(copied)}]" if copied else "")


def _short(text: str, length: int) -> str:
    text = " ".join(text[:1000].split())
    return text if len(text) <= length else f"{text[: length * 2 // 3 - 1]}…{text[-(length // 3) :]}"


def _some(items: Sequence[str], count: int = 3) -> str:
    shown = ", ".join(_short(item, 24) for item in items[:count])
    return shown if len(items) <= count else f"{shown} and {len(items) - count:,} more"
