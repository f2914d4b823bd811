"""Random misfortune over whole lives of runs, each from one seed; what must hold afterwards, whatever happened.

A schedule draws a workflow, faults of the network, what the jobs make of themselves, and what people do: who submits,
resumes, watches, cancels and retries, in this process or in one that is interrupted or killed at some request.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import threading
from collections import Counter, defaultdict
from typing import Any

from ezbatch import EZBatchRun, EZBatchWorkflow
from ezbatch.aws import requests
from ezbatch.errors import EZBatchError
from ezbatch.run import TERMINAL, runs

from .engine import Job, Outcome
from .product import Pace, backend_of, end, handle, job, start
from .rig import JobView, Rig
from .submitter import Order, Submitter

TIMES, SETTLE = 20.0, 8.0
LATE = 0.05
"""Seconds by which a request is late at most: far within the 0.4 real seconds that ``SETTLE`` is at that pace."""

TWICE = "submitted twice"


@dataclasses.dataclass
class Tally:
    """What a campaign has seen."""

    schedules: int = 0
    faults: Counter[str] = dataclasses.field(default_factory=Counter)
    ends: Counter[str] = dataclasses.field(default_factory=Counter)
    struck: Counter[str] = dataclasses.field(default_factory=Counter)
    doubles: int = 0
    stragglers: int = 0

    def __str__(self) -> str:
        return (
            f"{self.schedules} schedules; ends {dict(self.ends)}; faults {dict(self.faults)}; "
            f"processes struck {dict(self.struck)}; doubles ended {self.doubles}; stragglers refused {self.stragglers}"
        )


class Schedule:
    """One life of a run, and of those that retry it."""

    def __init__(self, seed: int, rig: Rig, submitter: Submitter, tally: Tally) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.rig = rig
        self.submitter = submitter
        self.tally = tally
        self.struck = False

    def play(self) -> None:
        """Let it happen, recover, and assert."""
        self._set_the_scene()
        self._act("submit", json.dumps(self.workflow.to_dict()))
        for _retry in range(2):
            for run in runs():
                self._live(run.id)
            failed = [run for run in runs() if run.state in ("FAILED", "CANCELLED")]
            if not failed or self.rng.random() < 0.5:
                break
            self._act("retry", failed[0].id)
        self._recover()
        self._judge()

    # What happens

    def _set_the_scene(self) -> None:
        rng = self.rng
        count = rng.choice([1, 2, 3, 5, 8, 8, 12]) if rng.random() < 0.97 else 30
        names = [f"j{number}" for number in range(count)]
        jobs = {name: job(array=rng.randint(2, 4) if rng.random() < 0.15 else None) for name in names}
        chance = rng.choice([0.0, 0.2, 0.5])
        after = {name: [p for p in names[:n] if rng.random() < chance] for n, name in enumerate(names)}
        if count == 30:
            after = {names[-1]: names[:-1]}
        self.workflow = EZBatchWorkflow(
            f"s{self.seed}", jobs, {name: parents for name, parents in after.items() if parents}
        )
        failing = rng.choice([0.0, 0.0, 0.15, 0.5])
        seconds = rng.choice([0.0, 0.02, 0.1])

        def outcome(one: Job) -> Outcome:
            # Not the run's id, which no seed gives.
            fate = random.Random(f"{self.seed} {one.name.rpartition('-')[2]} {one.index} {one.attempt}")
            return Outcome(fate.random() * seconds, int(fate.random() < failing))

        self.rig.virtual(outcome)
        few = [0.0, 0.0, 0.05, 0.15]
        chances: dict[str, Any] = {
            kind: rng.choice(few) for kind in ("error", "reset", "drop", "lost", "late", "truncate", "delay")
        }
        self.rig.faults.random(
            self.seed,
            max_faults=rng.choice([0, 5, 20, 60]),
            max_delay=LATE,
            burst=rng.choice([1, 1, 3]),
            throttle=rng.choice([0.0, 0.1, 0.5]),
            **chances,
        )

    def _act(self, act: str, subject: str) -> None:
        """Do something here or in a process that may be struck."""
        rng = self.rng
        if rng.random() < 0.4:
            self._here(act, subject)
            return
        order = Order(act, subject, {"EZBATCH_STATE_DIR": os.environ["EZBATCH_STATE_DIR"]}, TIMES, SETTLE)
        how = rng.choice(["", "INT", "INT", "KILL", "KILL", "KILL"])
        pid = self.submitter.start(order)
        if how:
            action = rng.choice(
                ["SubmitJob"] * 4 + ["RegisterJobDefinition", "ListJobs", "DescribeJobs", "TerminateJobs"]
            )
            nth = len(self.rig.calls(action)) + rng.randint(
                1, 2 + len(self.workflow.jobs) if action == "SubmitJob" else 2
            )
            later = rng.choice([0.0, 0.0, rng.random() * 0.02])
            twice = how == "INT" and rng.random() < 0.3
            self.rig.faults.when(action, nth, lambda: self._strike(pid, how, later, twice=twice))
        code = self.submitter.ended()
        assert code != 70, f"{act} raised what is no error of ezbatch"
        if how and code != 0:
            self.struck = True
            self.tally.struck[f"{act} {how}"] += 1

    def _strike(self, pid: int, how: str, later: float, *, twice: bool) -> None:
        def strike() -> None:
            try:
                os.kill(pid, signal.Signals[f"SIG{how}"])
            except ProcessLookupError:
                return

        if later:
            threading.Timer(later, strike).start()
        else:
            strike()
        if twice:
            threading.Timer(later + 0.03, strike).start()

    def _here(self, act: str, subject: str) -> None:
        backend = backend_of(Pace(TIMES), settle=SETTLE)
        try:
            if act == "submit":
                start(EZBatchWorkflow.from_dict(json.loads(subject)), backend)
                return
            run = handle(subject, backend)
            {"resume": run.resume, "cancel": run.cancel, "retry": run.retry, "wait": lambda: end(run)}[act]()  # type: ignore[operator] # of different kinds
        except EZBatchError:
            pass  # said in words; what it left is what recovery is for

    def _live(self, run_id: str) -> None:
        """Do with a run what people do."""
        rng = self.rng
        run = handle(run_id, backend_of(Pace(TIMES), settle=SETTLE))
        for _step in range(rng.randint(0, 2)):
            if run._record.state in TERMINAL:
                return
            broken = run._record.state == "SUBMITTING"
            self._act(rng.choice(["resume", "resume", "cancel"] if broken else ["wait", "wait", "cancel"]), run_id)
            run = handle(run_id, run._backend)  # type: ignore[arg-type] # the same place

    def _recover(self) -> None:
        """What a person does in the end: with the network whole again, take up what broke off, and wait."""
        injected = Counter(kind for _action, kind in self.rig.faults.injected)
        self.tally.faults.update(injected)
        self.rig.faults.clear()
        for known in runs():
            run = handle(known.id, backend_of(Pace(TIMES), settle=SETTLE))
            run.refresh()
            if run.state == "INTERRUPTED":
                if self.rng.random() < 0.5:
                    run.resume()
                else:
                    run.cancel()
            end(run)

    # What must hold

    def _judge(self) -> None:
        rig = self.rig
        rig.wait_idle()
        known = runs()
        by_run: dict[str, dict[str, list[JobView]]] = {run.id: defaultdict(list) for run in known}
        for view in rig.jobs():
            by_run[view.tags[requests.RUN]][view.name].append(view)
        for run in known:
            self._judge_run(run, by_run[run.id])
            self.tally.ends[run.state] += 1
        assert rig.definitions("ACTIVE") == [], "a definition stayed ACTIVE"
        # A killed process's request that a busy machine hands on after all was settled: refused, so nothing came of it.
        stragglers = [line for line in rig.violations if self.struck and "is not ACTIVE" in line]
        self.tally.stragglers += len(stragglers)
        assert rig.violations == stragglers, rig.violations
        rig.take_violations()
        self.tally.schedules += 1

    def _judge_run(self, run: EZBatchRun, views: dict[str, list[JobView]]) -> None:
        names = {requests.job_name(run.id, planned): planned.name for planned in run.plan.jobs}
        assert set(views) <= set(names)
        reports = run._reports()
        states = {}
        for name, planned in names.items():
            found = views.get(name, [])
            kept = [view for view in found if view.id == reports[planned].job_id]
            doubles = [view for view in found if view.id != reports[planned].job_id]
            assert bool(kept) == bool(found), f"{planned} is on AWS and the ledger does not know it"
            for view in doubles:
                assert TWICE in (view.status_reason or ""), f"{planned} was submitted twice and ran"
            self.tally.doubles += len(doubles)
            states[planned] = kept[0].state if kept else "MISSING"
            if kept:
                mine = "FAILED" if reports[planned].state.value == "BLOCKED" else reports[planned].state.value
                assert mine == kept[0].state, f"{planned} is {kept[0].state}, the run says {mine}"
        cancelled = run._record.cancelled is not None
        if not cancelled:
            assert "MISSING" not in states.values(), f"missing: {states}"
        expected = "CANCELLED" if cancelled else "FAILED"
        if set(states.values()) == {"SUCCEEDED"}:
            expected = "SUCCEEDED"
        assert run.state == expected, f"{run} with {states}"
