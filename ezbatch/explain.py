"""Why a job is where it is: cause, evidence, remedy. Pure, by tables: from reports and a look at the queue.

It never guesses. What is not known is said to be unknown, with what was looked at.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from ezbatch import preloader
from ezbatch.backend import EnvironmentFacts, JobReport, JobState, QueueFacts

__all__ = ["Explanation", "Needs", "explain"]

#: Seconds that AWS may well take to start the job at the head of a queue (a few minutes, with new EC2 instances).
PATIENCE = 300.0
#: So many names fit a line.
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Why a job is where it is.

    Parameters
    ----------
    cause : str
        In a few words.
    evidence : str
        What was seen that says so.
    remedy : str
        What to do, or nothing where there is nothing to do.
    stuck : bool
        Whether the job waits for something that comes only when a person acts.
    """

    cause: str
    evidence: str = ""
    remedy: str = ""
    stuck: bool = False

    def __str__(self) -> str:
        parts = [self.cause]
        if self.evidence:
            parts.append(f"({self.evidence})")
        return " ".join(parts) + (f". {self.remedy}." if self.remedy else ".")


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a job asks for.

    Parameters
    ----------
    vcpus : float
        Of each child, if it is an array.
    memory : int
        MiB.
    platform : str
        ``FARGATE`` or ``EC2``.
    image : str
        The container image.
    timeout : int, optional
        Seconds.
    local : bool
        Whether it runs on this machine.
    """

    vcpus: float
    memory: int
    platform: str = "FARGATE"
    image: str = ""
    timeout: int | None = None
    local: bool = False


_Row = tuple[str, str, str]

#: What stands in the reason of a job that failed -> the cause and the remedy. The first that fits counts: a timeout,
#: too, ends with 137; a pull that times out says both.
_FAILED: tuple[_Row, ...] = (
    (r"attempt duration exceeded timeout", "It took longer than its timeout", "Raise timeout, or make the job smaller"),
    (r"^cancelled|^Terminated|^Cancelled", "It was cancelled", "Run it again by retry, if that was not meant"),
    (r"OutOfMemory", "It ran out of memory", "Raise memory"),
    (
        r"Host EC2|Spot Task was interrupted",
        "AWS took its machine back (a Spot instance, or one that broke)",
        "Give the job retries, which AWS then uses for it; or use a queue that is not Spot",
    ),
    (
        r"(?i)CannotPullContainer.*(no matching manifest|no match for platform|does not match the specified platform)",
        "Its image is not there for the processor it was to run on",
        "Set architecture to ARM64 or X86_64 as the image has it, or build the image for both",
    ),
    (
        r"(?i)CannotPullContainer.*(toomanyrequests|rate limit)",
        "The registry lets nobody pull that often",
        "Use a copy of the image in ECR (public.ecr.aws has many of Docker Hub's), then retry",
    ),
    (
        r"(?i)CannotPullContainer.*(i/o timeout|dial tcp|context deadline|connection refused|Client\.Timeout|no route)",
        "Its image cannot be pulled: the registry cannot be reached",
        (
            "Give the compute environment's subnets a way out: an internet gateway with a public IP, a NAT gateway, or"
            " endpoints for ECR and S3. `ezbatch doctor` looks at them"
        ),
    ),
    (
        r"(?i)(CannotPullContainer.*(denied|unauthorized|authorization|\b403\b|no basic auth))|pull access denied",
        "Its image cannot be pulled: the registry refuses",
        (
            "Check the image's name, and that the execution role may pull it (ecr:BatchGetImage; for another account's"
            " repository its policy, too)"
        ),
    ),
    (
        r"CannotPullContainer|Unable to find image|manifest unknown",
        "Its image cannot be pulled",
        "Check the image's name and tag, the right to pull it, the way to its registry, and its processor architecture",
    ),
    (
        r"(?i)ResourceInitializationError.*(log group|log stream|logger|awslogs|CloudWatch)",
        "Its container could not be prepared: its log cannot be written",
        (
            "Let the execution role write logs (logs:CreateLogStream, logs:PutLogEvents), and check that the log"
            " group is there. `ezbatch doctor` looks at both"
        ),
    ),
    (
        r"ResourceInitializationError",
        "Its container could not be prepared",
        (
            "Check the execution role (to pull images and read the job's secrets), that the secrets exist, and the"
            " subnets' way out. `ezbatch doctor` looks at role and subnets"
        ),
    ),
    (
        r"(?i)Container Overrides length must be at most",
        "Its command and environment are too long for ECS",
        "Put them into a file that the job reads, or into the image",
    ),
    (
        r"(?i)CannotStartContainer.*(executable file not found|no such file or directory)",
        "Its command was not found",
        "Check the command's spelling, and that the image has it",
    ),
    (
        r"CannotStartContainer",
        "Its container could not be started",
        "Read the message; the image, its command or the container runtime is at fault",
    ),
    (r"could not be started.*No space left", "The disk is full", "Free some space, then retry"),
    (
        r"(?i)no space left on device",
        "Its disk is full",
        "Raise storage_size (GiB, Fargate has 20), or write less",
    ),
    (r"could not be started", "It could not be started", "Mend what the message says, then retry"),
    (
        r"Task failed to start",
        "Its container never started",
        (
            "AWS says no more in the job itself: look at the stopped task in the ECS console, then check the image, the"
            " execution role and the subnets' way out with `ezbatch doctor`"
        ),
    ),
)

#: What stands in the statusReason of a job that waits at the head of its queue -> cause, remedy, whether waiting is in
#: vain. AWS's words after the prefix change, so only the prefix is read.
_WAITING: tuple[tuple[str, str, str, bool], ...] = (
    (
        r"^MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
        "It asks for more than any compute environment of its queue may have",
        "Ask for fewer vCPUs, or raise maxvCpus: `ezbatch environment update NAME --max-vcpus N`",
        True,
    ),
    (
        r"^MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
        "No instance type of its queue is large enough for it",
        "Ask for less memory or fewer vCPUs (each instance keeps some for itself), or allow larger instance types",
        True,
    ),
    (
        r"^MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED",
        "Its compute environment asks for instances that do not exist there",
        "Mend its instance types, zones (subnets) or launch template",
        True,
    ),
    (
        r"^MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS",
        "AWS Batch's own role lacks rights",
        "Make the compute environment anew without a service role: AWS then uses its service-linked role",
        True,
    ),
    (
        r"^CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
        "AWS has no machines of that kind free",
        "Wait, or allow more instance types and zones (subnets), or use a queue that is not Spot",
        False,
    ),
    (
        r"^ACTION_REQUIRED\b.*invalid",
        "A compute environment of its queue is invalid",
        "Read why: `ezbatch environment list`; mend that or make it anew",
        True,
    ),
    (
        r"^MISCONFIGURATION|^ACTION_REQUIRED",
        "Its queue or compute environment is set up wrong",
        "Mend what the message says; `ezbatch doctor` looks at both",
        True,
    ),
    (
        r"^UNDETERMINED",
        "AWS itself does not know why it waits",
        "Check the subnets' way out, the quotas and, on EC2, the instances' agent and log driver: `ezbatch doctor`",
        False,
    ),
)


def _by_script(report: JobReport, needs: Needs | None) -> tuple[str, str] | None:
    """Return what the code of ezbatch's script means; the command may end with the same code, which then is its own."""
    code = report.exit_code
    if code not in preloader.EXIT_CODES:
        return None
    # On this machine the reason is the log's last line. AWS tells nothing of the log, so the person has to look.
    local = needs is not None and needs.local
    # The words of preloader.sh, which also speaks when a command fails and leaves nothing to upload.
    own = not report.reason.startswith("ezbatch: ") or f"command itself ended with exit code {code}" in report.reason
    if local and own:
        return None
    cause, _colon, remedy = preloader.EXIT_CODES[code].rstrip(".").partition(": ")
    remedy = remedy[:1].upper() + remedy[1:]
    if not local:
        remedy += f"; where the log's last line does not say so, the command itself ended with {code}"
    return cause, remedy


def _exit(code: int) -> tuple[str, str] | None:
    known = {
        126: (
            "Its command is not executable",
            "Check the command's permissions, and that it fits the machine's architecture",
        ),
        127: ("Its command was not found", "Check the command's spelling, and that the image has it"),
        137: ("It was killed (signal 9)", "Most often memory ran out: raise memory, and look at the log's end"),
        143: ("It was asked to end (signal 15)", "Something outside the job ended it"),
    }
    return known.get(code)


def explain(
    report: JobReport,
    reports: Mapping[str, JobReport],
    parents: Mapping[str, tuple[str, ...]],
    facts: QueueFacts | None = None,
    *,
    needs: Needs | None = None,
    copies: bool = True,
) -> Explanation:
    """Say why a job is where it is.

    Parameters
    ----------
    report : JobReport
        The job.
    reports : mapping of str to JobReport
        All jobs of its run.
    parents : mapping of str to tuple of str
        What each job depends on.
    facts : QueueFacts, optional
        What a look at its queue found. Without it a job that waits for room is told by its own reason alone.
    needs : Needs, optional
        What the job asks for.
    copies : bool
        Whether ezbatch's script copies data around the job's command. Only then its exit codes mean what it says.

    Returns
    -------
    Explanation
        It never guesses: what is not known is said to be unknown.
    """
    state = report.state
    if report.forgotten:
        return Explanation(
            "How it ended is not known", report.reason, "Look at what it should have written; a retry runs it again"
        )
    if state is JobState.SUCCEEDED:
        return Explanation("It succeeded")
    if state is JobState.BLOCKED:
        return _blocked(report, reports, parents)
    if state is JobState.FAILED:
        return _failed(report, needs, copies=copies)
    if state in (JobState.PENDING, JobState.SUBMITTED):
        return _pending(report, reports, parents)
    if state is JobState.RUNNABLE:
        return _runnable(report, _named(facts, reports), needs)
    if report.children:
        shown = ", ".join(f"{count:,} {child.value.lower()}" for child, count in report.children.items() if count)
        return Explanation("Its children run", shown)
    return Explanation(
        "It runs" if state is JobState.RUNNING else "It is starting", f"attempt {max(report.attempt, 1)}"
    )


# Jobs that wait for others


def _pending(
    report: JobReport, reports: Mapping[str, JobReport], parents: Mapping[str, tuple[str, ...]]
) -> Explanation:
    waits = [name for name in parents.get(report.name, ()) if name in reports and not reports[name].state.terminal]
    if not waits:
        return Explanation("It was accepted and is about to be looked at", report.reason)
    shown = ", ".join(_standing(reports[name]) for name in waits[:_SHOWN])
    more = f" and {len(waits) - _SHOWN} more" if len(waits) > _SHOWN else ""
    # The one to look at is not the next above but the one that waits for nobody.
    blocking = _first(waits, parents, lambda name: name in reports and not reports[name].state.terminal)
    if blocking not in waits:
        more += f"; those wait for {_standing(reports[blocking])}"
    remedy = "" if reports[blocking].state is JobState.RUNNING else f"Ask why of that one: explain {blocking}"
    return Explanation("It waits for other jobs", shown + more, remedy)


def _standing(report: JobReport) -> str:
    attempt = f", attempt {report.attempt}" if report.attempt > 1 else ""
    return f"{report.name} ({report.state.value.lower()}{attempt})"


def _first(names: Sequence[str], parents: Mapping[str, tuple[str, ...]], counts: Callable[[str], bool]) -> str:
    """Return the job, among these and those above them that count, above which none counts."""
    name = names[0]
    seen = {name}
    while above := [parent for parent in parents.get(name, ()) if counts(parent) and parent not in seen]:
        name = above[0]
        seen.add(name)
    return name


def _blocked(
    report: JobReport, reports: Mapping[str, JobReport], parents: Mapping[str, tuple[str, ...]]
) -> Explanation:
    def unlucky(name: str) -> bool:
        return name in reports and reports[name].state in (JobState.FAILED, JobState.BLOCKED)

    above = [name for name in parents.get(report.name, ()) if unlucky(name)]
    match = re.search(r"Dependent Job failed: (.+)", report.reason)
    if above:
        culprit = _first(above, parents, unlucky)
        failed = reports[culprit]
        reason = _with_code(failed)
        evidence = f"{culprit}: {reason}" if reason else f"{culprit} is {failed.state.value.lower()}"
        if culprit not in above:
            evidence = f"by way of {', '.join(above[:_SHOWN])}; {evidence}"
    else:
        culprit = match[1] if match else "a job it depends on"
        evidence = report.reason
    return Explanation(
        f"It cannot start: {culprit} did not succeed",
        evidence,
        f"Mend {culprit}, then retry: both run again. Why it failed: explain {culprit}",
    )


def _with_code(report: JobReport) -> str:
    """Return a job's reason with its exit code, of which AWS's words alone often say nothing."""
    code = "" if report.exit_code is None else f"exit code {report.exit_code}"
    return report.reason if code in report.reason else f"{report.reason}, {code}" if report.reason else code


# Jobs that failed


def _failed(report: JobReport, needs: Needs | None, *, copies: bool) -> Explanation:
    rows: tuple[Callable[[], Explanation | None], ...] = (
        lambda: _cancelled(report),
        lambda: _by_reason(report, needs),
        lambda: _by_children(report),
        lambda: _by_code(report, needs, copies=copies),
    )
    for row in rows:
        found = row()
        if found is not None:
            return found
    return Explanation(
        "It failed for a reason that is not known",
        f"reason {report.reason!r}, exit code {report.exit_code}",
        "Read its log",
    )


def _cancelled(report: JobReport) -> Explanation | None:
    if not report.cancelled or report.children is not None:
        return None
    return Explanation("It was cancelled", report.reason, "Run it again by retry, if that was not meant")


#: The remedy for an image that this machine could not pull, whatever the reason.
_PULL_HERE = (
    "Check its name, and that this machine reaches its registry: `docker pull {image}` or `podman pull {image}` says"
    " more. EZBATCH_LOCAL_RUNNER=process runs jobs without images"
)


def _by_reason(report: JobReport, needs: Needs | None) -> Explanation | None:
    if report.children is not None:
        return None
    for pattern, cause, remedy in _FAILED:
        if re.search(pattern, report.reason):
            evidence = _with_code(report)
            asked = _asked(pattern, needs)
            if needs is not None and needs.local and "CannotPullContainer" in pattern:
                remedy = _PULL_HERE.format(image=needs.image)  # noqa: PLW2901 - no role and no subnet is to blame here
            return Explanation(cause, f"{evidence}; {asked}" if asked else evidence, remedy)
    for pattern, cause, remedy, _stuck in _WAITING:
        # A queue can be told to end jobs that block its head; they keep the reason.
        if re.search(pattern, report.reason):
            return Explanation(cause, report.reason, remedy)
    return None


def _asked(pattern: str, needs: Needs | None) -> str:
    """Return what the job asked for, where that is what the cause is about."""
    if needs is None:
        return ""
    if pattern == "OutOfMemory":
        return f"it had {needs.memory:,} MiB"
    if "timeout" in pattern and needs.timeout is not None and pattern.startswith("attempt"):
        return f"it had {needs.timeout:,} s"
    return ""


def _by_children(report: JobReport) -> Explanation | None:
    if report.children is None:
        return None
    cause = "It was cancelled" if report.cancelled else "Some of its children failed"
    return Explanation(
        cause,
        report.reason,
        f"Read the log of one: {report.name}:NUMBER in place of the job's name; a retry runs only those that failed",
    )


def _by_code(report: JobReport, needs: Needs | None, *, copies: bool) -> Explanation | None:
    code = report.exit_code
    if not code:
        return None
    known = (_by_script(report, needs) if copies else None) or _exit(code)
    if known is not None:
        said = report.reason or f"exit code {code}"
        return Explanation(known[0], said if str(code) in said else f"{said}, exit code {code}", known[1])
    return Explanation(
        "Its command failed", f"exit code {code}", "Read its log; the program itself says what was wrong"
    )


# Jobs that wait for room


def _named(facts: QueueFacts | None, reports: Mapping[str, JobReport]) -> QueueFacts | None:
    """Return the facts with a head of this run called as the run calls it, not as AWS does."""
    if facts is None or not facts.front or not facts.head_reason:
        return facts  # only a head that cannot start is named
    head = next(iter(facts.front)).partition(":")[0]
    own = next((report.name for report in reports.values() if report.job_id == head), None)
    return facts if own is None else dataclasses.replace(facts, head_name=own)


def _runnable(report: JobReport, facts: QueueFacts | None, needs: Needs | None) -> Explanation:
    own = _by_waiting(report.reason, facts)
    if own is not None:
        return own
    if facts is None:
        return Explanation("It waits for room", report.reason or "every job it depends on has succeeded")
    for row in (_by_queue, _by_environments, _by_size, _by_quota_alone, _by_head, _by_place, _by_disabled_queue):
        found = row(report, facts, needs)
        if found is not None:
            return found
    return _unknown(facts)


def _by_waiting(reason: str, facts: QueueFacts | None) -> Explanation | None:
    for pattern, cause, remedy, stuck in _WAITING:
        if re.search(pattern, reason):
            more = "; ".join(_described(e) for e in facts.environments if not e.usable) if facts is not None else ""
            return Explanation(cause, f"{reason.rstrip('.')}; {more}" if more else reason.rstrip("."), remedy, stuck)
    return None


def _described(environment: EnvironmentFacts) -> str:
    why = f" ({environment.reason.rstrip('.')})" if environment.reason else ""
    return f"compute environment {environment.name} is {environment.state} and {environment.status}{why}"


def _by_queue(_report: JobReport, facts: QueueFacts, _needs: Needs | None) -> Explanation | None:
    if facts.status not in ("VALID", "UPDATING"):
        why = f": {facts.reason}" if facts.reason else ""
        return Explanation(
            "Its queue is not valid",
            f"queue {facts.queue} is {facts.status}{why}",
            "Mend or replace the queue",
            stuck=True,
        )
    return None


def _by_disabled_queue(_report: JobReport, facts: QueueFacts, _needs: Needs | None) -> Explanation | None:
    """Blame a disabled queue, the last of all: it takes no new jobs but, by AWS's word, starts those that it has."""
    if facts.state == "ENABLED":
        return None
    return Explanation(
        "Its queue is disabled",
        f"queue {facts.queue} is {facts.state}; looked at {', '.join(facts.looked)}, and nothing else explains it",
        f"Enable it: `ezbatch queue enable {facts.queue}`",
    )


def _by_environments(_report: JobReport, facts: QueueFacts, _needs: Needs | None) -> Explanation | None:
    environments = facts.environments
    if not environments or any(environment.usable for environment in environments):
        return None
    evidence = "; ".join(_described(environment) for environment in environments)
    disabled = [e.name for e in environments if e.state != "ENABLED" and e.status in ("VALID", "UPDATING")]
    if disabled:
        return Explanation(
            "The compute environment of its queue is disabled",
            evidence,
            f"Enable it: `ezbatch environment enable {disabled[0]}`",
            stuck=True,
        )
    settling = [e.name for e in environments if e.status == "CREATING"]
    if settling:
        return Explanation("The compute environment of its queue is still being made", evidence, "Wait")
    return Explanation(
        "The compute environment of its queue is invalid", evidence, "Mend what it says, or make it anew", stuck=True
    )


def _room(facts: QueueFacts) -> float | None:
    """Return how many vCPUs the queue can give at once; None where it has no limit or it is not known."""
    usable = [environment for environment in facts.environments if environment.usable]
    sizes = [environment.max_vcpus for environment in usable if environment.max_vcpus is not None]
    return sum(sizes) if sizes and len(sizes) == len(usable) else None


def _by_size(_report: JobReport, facts: QueueFacts, needs: Needs | None) -> Explanation | None:
    usable = [environment for environment in facts.environments if environment.usable]
    if needs is None or not usable or any(e.max_vcpus is None or e.max_vcpus >= needs.vcpus for e in usable):
        return None
    largest = max(usable, key=lambda environment: environment.max_vcpus or 0)
    return Explanation(
        "It asks for more than any compute environment of its queue may have",
        f"{needs.vcpus:g} vCPU; maxvCpus of {largest.name} is {largest.max_vcpus:g}",
        f"Ask for fewer vCPUs, or raise it: `ezbatch environment update {largest.name} --max-vcpus {needs.vcpus:g}`",
        stuck=True,
    )


def _by_quota_alone(_report: JobReport, facts: QueueFacts, needs: Needs | None) -> Explanation | None:
    """Look for a job that is larger than the account's quota: it waits for ever."""
    if facts.quota is None or needs is None or needs.platform != "FARGATE" or needs.vcpus <= facts.quota:
        return None
    return Explanation(
        "It asks for more vCPUs than the account may have",
        f"{needs.vcpus:g} vCPU; the quota for Fargate is {facts.quota:g}",
        "Have the quota raised (Service Quotas, AWS Fargate, vCPU resource count), or ask for fewer",
        stuck=True,
    )


def _by_head(report: JobReport, facts: QueueFacts, _needs: Needs | None) -> Explanation | None:
    """Look at what holds the head: it holds everybody behind it, and AWS tells the reason there alone."""
    if not facts.head_reason or (facts.front is not None and next(iter(facts.front), "") == report.job_id):
        return None
    found = _by_waiting(facts.head_reason, facts)
    if found is None:
        return None
    place = _place(report, facts)
    return dataclasses.replace(
        found,
        cause=f"It is queued behind {facts.head_name}, which cannot start",
        evidence=f"{place}; {facts.head_name}: {found.evidence}" if place else f"{facts.head_name}: {found.evidence}",
        remedy=f"Mend or cancel that one. {found.remedy}",
        stuck=False,  # it is not this job that has to go
    )


def _position(report: JobReport, facts: QueueFacts) -> int | None:
    """Return a job's place from 1; of an array its first child's."""
    for place, job_id in enumerate(facts.front or (), 1):
        if job_id == report.job_id or (report.children is not None and job_id.rpartition(":")[0] == report.job_id):
            return place
    return None


def _place(report: JobReport, facts: QueueFacts) -> str:
    position = _position(report, facts)
    total = facts.runnable if facts.runnable is not None else None
    if position is not None:
        return f"position {position:,}" + (f" of {max(total, position):,}" if total is not None else "")
    if facts.front and total is not None and total > len(facts.front):
        return f"behind the first {len(facts.front):,} of {total:,}"
    return ""


def _use(facts: QueueFacts) -> Iterator[str]:
    if facts.running is not None:
        yield f"{facts.running:,} running or starting"
    room = _room(facts)
    if facts.vcpus is not None and room is not None:
        yield f"{facts.vcpus:g} of {room:g} vCPU in use"


def _by_place(report: JobReport, facts: QueueFacts, needs: Needs | None) -> Explanation | None:
    position, place = _position(report, facts), _place(report, facts)
    if not place:
        return None
    evidence = ", ".join([place, *_use(facts)])
    room = _room(facts)
    asks = needs.vcpus if needs is not None else 0.0
    if facts.vcpus is not None and room is not None and facts.vcpus + asks > room:
        return Explanation("It is queued: all vCPUs of its queue are in use", evidence, "Wait, or raise maxvCpus")
    if (
        facts.quota is not None
        and facts.vcpus is not None
        and needs is not None
        and needs.platform == "FARGATE"
        and facts.vcpus + asks > facts.quota
    ):
        return Explanation(
            "It waits for the account's vCPU quota",
            f"{evidence}; this queue has {facts.vcpus:g} of the {facts.quota:g} vCPU that the account may have on"
            f" Fargate, and the job asks for {asks:g}",
            "Wait, or have the quota raised (Service Quotas, AWS Fargate, vCPU resource count)",
        )
    head_since = next(iter((facts.front or {}).values()), None)
    waited = (facts.seen - head_since).total_seconds() if head_since is not None else 0.0
    if waited < PATIENCE:
        what = "It is next in its queue" if position == 1 else "It is just queued"
        return Explanation(what, evidence, "Wait: starting takes a minute or two, new EC2 instances some more")
    return None


def _unknown(facts: QueueFacts) -> Explanation:
    looked = ", ".join(facts.looked) or "nothing"
    unseen = f"; not seen: {', '.join(facts.unseen)}" if facts.unseen else ""
    fargate = any(environment.platform.startswith("FARGATE") for environment in facts.environments)
    quota = (
        "the account's vCPU quota (on Fargate 6, unless it was raised)" if fargate else "the account's instance quotas"
    )
    return Explanation(
        "Why it waits is not known",
        f"looked at {looked}{unseen}; nothing there explains it",
        f"Check {quota}, the subnets' way out and their free addresses; `ezbatch doctor` looks at them",
    )
