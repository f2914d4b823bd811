"""What a job runs in on this machine: a container, a bubblewrap sandbox, or a plain process."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ezbatch.local.files import AttemptFiles

__all__ = [
    "CONTAINERS",
    "Host",
    "available",
    "choose",
    "command",
    "host_environment",
    "opens_output",
    "start_failure",
    "stop_command",
]

CONTAINERS = ("docker", "podman")

#: What a plain process keeps of the environment it was submitted from. A container keeps nothing, and a job that works
#: here only because of some variable at hand would fail there, so this is what finding programs and printing needs.
_KEPT = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
)
#: Codes of `docker run` and `podman run` for what they could not start: their own failure, a command that cannot be
#: invoked (podman: also a failure of its OCI runtime), a command that is not there.
START_FAILURES = frozenset({125, 126, 127})
#: How a process calls what it writes to.
_OUTPUT = ("/dev/std", "/dev/fd/", "/proc/self/fd/")
#: What the docker and podman commands themselves look at.
_CLIENT = (
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "CONTAINERS_CONF",
    "CONTAINER_HOST",
    "XDG_RUNTIME_DIR",
    "CONTAINERS_STORAGE_CONF",
)

#: What S3's clients look at, and what works inside a container as well.
_S3 = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
)

#: Seconds that a container runtime has to say whether it is there.
_PROBE_TIMEOUT = 10

# Every attempt runs under this shell, which outlives the engine: the exit code is on disk whatever happens to that.
# The shell itself ignores the signals of a cancellation, its command gets them. Its variables begin with ez_ because
# one that the job's environment has, too, would reach the command changed.
_SUPERVISOR = """trap : TERM INT HUP
ez_status=$1 ez_name=$2; shift 2
echo "$ez_name $$" >>"$ez_status"
"$@" </dev/null
ez_code=$?
echo "$ez_name $$ $ez_code" >>"$ez_status"
exit "$ez_code"
"""

# A container is kept until it was asked how it ended (out of memory looks like any other kill from outside).
_CONTAINER_SUPERVISOR = """trap : TERM INT HUP
ez_status=$1 ez_name=$2 ez_ended=$3 ez_runtime=$4 ez_container=$5; shift 5
echo "$ez_name $$" >>"$ez_status"
"$ez_runtime" run --name "$ez_container" "$@" </dev/null
ez_code=$?
"$ez_runtime" inspect --format '{{.State.OOMKilled}} {{.State.ExitCode}}' "$ez_container" >"$ez_ended" 2>/dev/null
# Podman does not see it under cgroups v1, but leaves this file.
[ "$ez_runtime" != podman ] || [ ! -e oom ] || echo "true $ez_code" >"$ez_ended"
"$ez_runtime" rm --force --volumes "$ez_container" >/dev/null 2>&1
echo "$ez_name $$ $ez_code" >>"$ez_status"
exit "$ez_code"
"""


@dataclasses.dataclass(frozen=True)
class Host:
    """What a run brings along from where it was submitted.

    Parameters
    ----------
    environment : dict of str to str
        Of plain processes.
    client : dict of str to str
        Of the container runtime's own command.
    s3_directory : str
        The root of the directory store; nothing where ``s3://`` is S3 itself.
    vcpus, memory : float, int
        What jobs may use of the machine, in vCPUs and MiB.
    container_args : tuple of str
        Put into every ``docker run``.
    s3_environment : dict of str to str
        What jobs with mounts need for S3 itself: the submitter's own credentials, Region and endpoint.
    """

    environment: dict[str, str]
    client: dict[str, str]
    s3_directory: str
    vcpus: float
    memory: int
    container_args: tuple[str, ...] = ()
    s3_environment: dict[str, str] = dataclasses.field(default_factory=dict)


def host_environment(source: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return what plain processes and what container runtimes get of an environment.

    The directory of this Python stands first in PATH, so that ``python3`` has the packages the notebook has.
    """
    kept = {name: source[name] for name in _KEPT if name in source}
    kept.update({name: value for name, value in source.items() if name.startswith("LC_")})
    own = str(Path(sys.executable).parent)
    path = kept.get("PATH", os.defpath)
    kept["PATH"] = path if path.split(os.pathsep)[0] == own else f"{own}{os.pathsep}{path}"
    return kept, {name: source[name] for name in _CLIENT if name in source}


def s3_environment(source: Mapping[str, str]) -> dict[str, str]:
    """Return what jobs get of an environment to reach S3 itself."""
    return {name: source[name] for name in _S3 if source.get(name)}


def available(runner: str) -> str:
    """Return nothing when a runner works here, or why it does not."""
    if runner == "process":
        return ""
    # What decides is part of the key, so that a long-lived kernel notices when a person starts Docker elsewhere.
    settings = tuple(os.environ.get(name, "") for name in (*_CLIENT, "PATH"))
    return _probe(runner, settings)


@functools.lru_cache(maxsize=16)
def _probe(runner: str, _settings: tuple[str, ...]) -> str:
    program = "bwrap" if runner == "bwrap" else runner
    if shutil.which(program) is None:
        return f"{program} is not installed"
    if runner == "bwrap":
        argv = ["bwrap", *_NAMESPACE, "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "true"]
    else:
        argv = [runner, "info", "--format", "{{.Host.Arch}}" if runner == "podman" else "{{.ServerVersion}}"]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=_PROBE_TIMEOUT, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return f"{program} did not answer within {_PROBE_TIMEOUT} s"
    except OSError as error:
        return f"{program} cannot be run: {error.strerror}"
    if done.returncode == 0 and (runner == "bwrap" or done.stdout.strip()):
        return ""
    said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
    # Docker's question at the end ("Is the docker daemon running?") is no part of the cause.
    return f"{program} does not work here: {re.sub(r'[.;]?[^.;]*[?]$', '', said) or said}"


def forget_probes() -> None:
    """Look again at what is installed."""
    _probe.cache_clear()


def choose(preference: str, paths: Sequence[str]) -> tuple[str, str]:
    """Return the runner for a job, and why there is none.

    Parameters
    ----------
    preference : str
        The setting ``local-runner``.
    paths : sequence of str
        Where the job's mounts are in the container.

    Returns
    -------
    tuple of str
        The runner and an empty reason, or an empty runner and the reason.
    """
    absolute = [path for path in paths if path.startswith("/")]
    if preference != "auto":
        why = available(preference)
        if not why and preference == "process" and absolute:
            why = f"a plain process cannot have a mount at {absolute[0]}"
        return ("", why) if why else (preference, "")
    for runner in CONTAINERS:
        if not available(runner):
            return runner, ""
    if not absolute:
        return "process", ""
    why = available("bwrap")
    return ("", f"a mount at {absolute[0]} needs Docker, Podman or bubblewrap, and {why}") if why else ("bwrap", "")


def container_name(job_id: str, attempt: int) -> str:
    """Return the name of an attempt's container; an array child's ``:`` is not allowed in one."""
    return f"ezbatch-{job_id.replace(':', '.')}-{attempt}"


def command(
    runner: str,
    host: Host,
    job: Mapping[str, object],
    definition: Mapping[str, object],
    environment: Mapping[str, str],
    files: AttemptFiles,
    status_file: Path,
    work: str,
    attempt: int,
) -> tuple[list[str], dict[str, str]]:
    """Return what to execute for one attempt, and the environment to execute it in.

    Parameters
    ----------
    runner : str
        As :func:`choose` gave it.
    host : Host
        What the run brought along.
    job, definition : mapping
        The planned job and its definition, as stored.
    environment : mapping of str to str
        The job's variables, those that Batch injects included.
    files : AttemptFiles
        The attempt's own.
    status_file : Path
        Where its supervisor writes.
    work : str
        The working directory of what is no container.
    attempt : int
        From 1.
    """
    argv = [str(word) for word in (job["command"] or definition["command"])]  # type: ignore[attr-defined]
    status = (str(status_file), files.name)
    if runner in CONTAINERS:
        name = container_name(str(job["id"]), attempt)
        options = [f"--cpus={job['vcpus']:g}", f"--memory={job['memory']}m"]
        if job.get("gpus"):
            options += ["--device", "nvidia.com/gpu=all"] if runner == "podman" else ["--gpus", str(job["gpus"])]
        if "EZBATCH_S3" in environment:
            options += ["--volume", f"{host.s3_directory}:{host.s3_directory}"]
        # Values go by the client's environment: on the command line every user of the machine could read them.
        options += [word for variable in environment for word in ("--env", variable)]
        words = [*options, *host.container_args, str(definition["image"]), *argv]
        client = {**host.environment, **host.client}
        clash = {variable for variable in environment if variable in client}
        for variable in clash:
            # The client needs its own PATH or HOME, so the job's has to be told by value.
            position = words.index(variable)
            words[position] = f"{variable}={environment[variable]}"
        supervised = [
            "/bin/sh",
            "-c",
            _CONTAINER_SUPERVISOR,
            "ezbatch",
            *status,
            str(files.ended),
            runner,
            name,
            *words,
        ]
        return supervised, {**environment, **client}
    if runner == "bwrap":
        argv = [*_sandbox(job["paths"], files, work, host.s3_directory or work), *argv]  # type: ignore[arg-type]
    return ["/bin/sh", "-c", _SUPERVISOR, "ezbatch", *status, *argv], {**host.environment, **environment}


def opens_output(words: Iterable[str]) -> bool:
    """Return whether a command, by what it says, opens its own output by name, as ``echo >/dev/stderr`` does."""
    return any(name in word for word in words for name in _OUTPUT)


def stop_command(runner: str, job_id: str, attempt: int, grace: int) -> list[str]:
    """Return what ends an attempt's container: by SIGTERM, and SIGKILL after so many seconds; or at once with none."""
    name = container_name(job_id, attempt)
    return [runner, "stop", "--time", str(grace), name] if grace else [runner, "rm", "--force", "--volumes", name]


def start_failure(image: str, said: Sequence[str]) -> str:
    """Return why a container could not be started, in AWS's words and the runtime's own, from the end of the log."""
    pulled = any("Unable to find image" in line or "Trying to pull" in line for line in said)
    # After what was wrong, docker says how to get help.
    told = [line for line in said if "--help" not in line and "Unable to find image" not in line]
    why = (told or [""])[-1].removeprefix("docker: ").removeprefix("Error: ")
    return f"CannotPullContainerError: {image}: {why}" if pulled else f"CannotStartContainerError: {why}"


# bubblewrap

_NAMESPACE = ("--unshare-pid", "--unshare-ipc")


#: Directories without which no program runs. A mount into one adds to what this machine has there.
_SYSTEM = frozenset(map(Path, "/ /bin /etc /lib /lib32 /lib64 /opt /sbin /usr".split()))  # noqa: SIM905 - reads better without quotes


def _private(paths: Sequence[str]) -> tuple[set[Path], set[Path], set[Path]]:
    """Return which directories have to be rebuilt for mounts at these paths, which made, and what is hidden."""
    rebuilt: set[Path] = set()
    made: set[Path] = set()
    hidden: set[Path] = set()

    def is_there(folder: Path) -> bool:
        return folder.is_dir() and hidden.isdisjoint((folder, *folder.parents))

    for text in sorted((text for text in paths if text.startswith("/")), key=len):
        path = Path(os.path.normpath(text))
        path = path.parent.resolve() / path.name
        if path in _SYSTEM or Path("/usr") in path.parents:
            wanted = path if is_there(path) else path.parent
        else:
            hidden.add(path)
            # What may be a single file needs only the directory it stands in.
            wanted = path if text.endswith("/") else path.parent
        while not is_there(wanted):
            made.add(wanted)
            wanted = wanted.parent
        rebuilt.add(wanted)
    return rebuilt - {Path("/")}, made, hidden


def _sandbox(paths: Sequence[str], files: AttemptFiles, work: str, store: str) -> list[str]:
    """Return bubblewrap's words: this machine's files as they are, but where mounts are private and writable.

    What stands where a mount goes is not there, as it would not be in a container. The directory around it is private
    too, its other entries shown read-only: nothing but the attempt's own files is ever written by a mount.
    """
    rebuilt, made, hidden = _private(paths)
    words = ["bwrap", *_NAMESPACE]
    for entry in sorted(os.scandir("/"), key=lambda item: item.name):
        if Path(entry.path) in hidden:
            continue
        if entry.is_symlink():
            words += ["--symlink", str(Path(entry.path).readlink()), entry.path]
        elif entry.name == "dev":
            words += ["--dev-bind", "/dev", "/dev"]
        elif entry.name == "proc":
            words += ["--proc", "/proc"]
        else:
            words += ["--bind", entry.path, entry.path]
    for folder in sorted(rebuilt, key=lambda item: len(item.parts)):
        private = files.root / folder.relative_to("/")
        private.mkdir(parents=True, exist_ok=True)
        words += ["--bind", str(private), str(folder)]
        if folder == Path("/tmp"):  # noqa: S108 - a private /tmp hides nothing that a job has a right to
            continue
        for entry in sorted(os.scandir(folder), key=lambda item: item.name):
            if Path(entry.path) not in hidden:
                words += ["--ro-bind-try", entry.path, entry.path]
    for folder in sorted(made, key=lambda item: len(item.parts)):
        private = files.root / folder.relative_to("/")
        private.mkdir(parents=True, exist_ok=True)
        if folder.parent == Path("/"):
            words += ["--bind", str(private), str(folder)]
    # Whatever was hidden above, the store and the job's own directory are there.
    words += ["--bind", work, work, "--bind-try", store, store]
    return [*words, "--chdir", work, "--"]
