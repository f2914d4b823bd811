"""What works here and what does not: one line for each thing that a job needs, with the command that mends it.

Every check has a limit in time and runs in a thread of its own, so that none of them keeps the others from being told.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from ezbatch.errors import EZBatchError
from ezbatch.settings import Settings

__all__ = ["OK", "SKIPPED", "UNKNOWN", "WRONG", "Check", "doctor"]

OK, WRONG, UNKNOWN, SKIPPED = "ok", "wrong", "unknown", "skipped"
#: Seconds for all checks together.
LIMIT = 45.0
#: Characters of a finding.
LINE = 300


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Parameters
    ----------
    name : str
        What it is.
    state : str
        ``ok``, ``wrong``, ``unknown`` (it could not be looked at) or ``skipped`` (what it needs is wrong).
    found : str
        What was found.
    remedy : str
        The command or the step that mends it; nothing where it is ok.
    """

    name: str
    state: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        sign = {OK: "✔", WRONG: "✖", UNKNOWN: "?", SKIPPED: "-"}[self.state]
        line = f"{sign} {self.name:<20} {self.found}"
        return f"{line}\n  {'':<20} -> {self.remedy}" if self.remedy else line


def doctor(
    queue: str | None = None,
    *,
    image: str | None = None,
    architecture: str = "X86_64",
    settings: Settings | None = None,
    limit: float = LIMIT,
) -> list[Check]:
    """Look at everything that jobs need, on this machine and on AWS, without changing anything.

    Parameters
    ----------
    queue : str, optional
        The queue to look at; None takes the one of the settings.
    image : str, optional
        An image to look for in its registry.
    architecture : str
        The processor that the image is wanted for: ``X86_64`` or ``ARM64``.
    settings : Settings, optional
        Instead of those that are set.
    limit : float
        Seconds for all of it. What has not answered then is unknown.

    Returns
    -------
    list of Check
        One for each thing. Nothing raises: settings that cannot be read are a check, too.
    """
    try:
        settings = settings or Settings.load()
    except EZBatchError as error:
        return [Check("settings", WRONG, str(error), "Mend the file or the variable, then look again"), *_jupyter()]
    known = settings
    groups: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("settings", lambda: _settings(known)),
        ("state directory", lambda: _state(known)),
        ("local jobs", lambda: _runners(known)),
        ("notebook", lambda: iter(_jupyter())),
        ("AWS", lambda: _aws(queue or known.queue, known)),
    ]
    if image is not None:
        groups.append(("image", lambda: _image(image, architecture, known)))
    return _all(groups, limit)


def _all(groups: Sequence[tuple[str, Callable[[], Iterator[Check]]]], limit: float) -> list[Check]:
    found: dict[str, list[Check]] = {name: [] for name, _look in groups}

    def run(name: str, look: Callable[[], Iterator[Check]]) -> None:
        try:
            for check in look():
                found[name].append(check)
        except Exception as error:  # noqa: BLE001 - what a check stumbles over is a finding
            found[name].append(Check(name, UNKNOWN, f"the check itself failed: {type(error).__name__}: {error}"))

    threads = [(name, threading.Thread(target=run, args=(name, look), daemon=True)) for name, look in groups]
    for _name, thread in threads:
        thread.start()
    deadline = time.monotonic() + limit
    for name, thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            remedy = "Check the network and the proxy, then look again"
            found[name].append(Check(name, UNKNOWN, f"no answer within {limit:g} s", remedy))
    # Copied, since a thread that is still at it may add to its list.
    return [check for name, _look in groups for check in list(found[name])]


# This machine


def _settings(settings: Settings) -> Iterator[Check]:
    where = sorted(set(settings.sources.values()))
    yield Check("settings", OK, f"from {', '.join(where)}" if where else "none are set")


def _state(settings: Settings) -> Iterator[Check]:
    directory = settings.state_directory
    place = directory
    while not place.exists() and place != place.parent:
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        yield Check(
            "state directory", WRONG, f"{directory} cannot be written", "export EZBATCH_STATE_DIR=a directory that can"
        )
        return
    free = shutil.disk_usage(place).free
    if free < 100_000_000:  # noqa: PLR2004 - a ledger, some logs
        yield Check("state directory", WRONG, f"{directory} has {free / 1e6:.0f} MB left", "Free some space")
        return
    yield Check("state directory", OK, f"{directory}, {free / 1e9:.0f} GB free")


def _runners(settings: Settings) -> Iterator[Check]:
    from ezbatch.local import runners

    if settings.local_runner != "auto":
        yield _chosen_runner(settings)
        return
    why = {name: runners.available(name) for name in ("docker", "podman", "bwrap")}
    works = [name for name, problem in why.items() if not problem]
    if "docker" in works or "podman" in works:
        yield Check("local jobs", OK, f"in {works[0]}" + (f"; also {', '.join(works[1:])}" if works[1:] else ""))
        return
    shown = "; ".join(f"{name}: {problem}" for name, problem in why.items() if problem)
    if works:
        found = f"in bubblewrap, or as plain processes: images are ignored ({shown})"
    else:
        found = f"as plain processes: images are ignored, and mounts at absolute paths do not work ({shown})"
    yield Check("local jobs", OK, found, "Install Docker or Podman to run jobs in their images")


def _chosen_runner(settings: Settings) -> Check:
    from ezbatch.local import runners

    chosen = settings.local_runner
    how = f"local-runner is set to {chosen} by {settings.sources.get('local_runner', 'the settings')}"
    problem = runners.available(chosen)
    if problem:
        return Check("local jobs", WRONG, f"{problem}; {how}", "Mend it, or take the setting back")
    found = "as plain processes: images are ignored" if chosen == "process" else f"in {chosen}"
    return Check("local jobs", OK, f"{found}; {how}")


def _jupyter() -> list[Check]:
    install = "pip install 'ezbatch[jupyter]'"
    made = []
    if shutil.which("dot"):
        made.append(Check("DAG engine", OK, f"dot ({shutil.which('dot')})"))
    elif importlib.util.find_spec("pygraphviz"):
        made.append(Check("DAG engine", OK, "pygraphviz"))
    else:
        made.append(Check("DAG engine", WRONG, "no Graphviz: DAGs are drawn as text", install))
    missing = [name for name in ("IPython", "ipywidgets", "anywidget") if importlib.util.find_spec(name) is None]
    if missing:
        made.append(Check("widgets", WRONG, f"no {', '.join(missing)}: no live view and no forms", install))
    elif importlib.util.find_spec("jupyterlab_widgets") is None:
        made.append(
            Check(
                "widgets",
                WRONG,
                "ipywidgets is here, JupyterLab's widget manager is not",
                "pip install jupyterlab_widgets, in the environment that JupyterLab runs in; then reload the page",
            )
        )
    else:
        made.append(Check("widgets", OK, "ipywidgets, anywidget and JupyterLab's widget manager"))
    return made


# AWS


def _aws(queue: str, settings: Settings) -> Iterator[Check]:
    from ezbatch.aws.checkup import checkup

    for name, state, found, remedy in checkup(queue, settings):
        yield Check(name, state, _line(found), remedy)


def _line(text: str) -> str:
    """Return a finding on one line: what a proxy answers in AWS's place is a page."""
    line = " ".join(text.split())
    return line if len(line) <= LINE else f"{line[: LINE - 1]}…"


def _image(image: str, architecture: str, settings: Settings) -> Iterator[Check]:
    from ezbatch.images import ImageProblem, architectures

    authorization = None
    if ".dkr.ecr." in image:
        from ezbatch.aws.checkup import ecr_authorization

        try:
            authorization = ecr_authorization(image, settings)
        except EZBatchError as error:
            yield Check("image", UNKNOWN, f"{image}: its registry's password cannot be had: {error}")
            return
    try:
        found = architectures(image, authorization=authorization)
    except ImageProblem as problem:
        state = UNKNOWN if "cannot be asked" in str(problem) or "less often" in str(problem) else WRONG
        yield Check("image", state, str(problem), "Check the image's name and tag, and who may pull it")
        return
    have = ", ".join(found) or "a processor it does not name"
    if found and architecture not in found:
        remedy = f"Build it for {architecture} (docker buildx build --platform), or set architecture={found[0]!r}"
        yield Check("image", WRONG, f"{image} is there for {have} only", remedy)
        return
    yield Check("image", OK, f"{image} is there for {have}")
