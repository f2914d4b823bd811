"""Jobs run, in the right order, and tell how they ended."""

from __future__ import annotations

import itertools
from datetime import datetime, timezone

import pytest

from ezbatch import EZBatchJob, EZBatchRun, JobState

from .rig import PATIENCE, Rig, until

SUCCEEDED, FAILED, BLOCKED = JobState.SUCCEEDED, JobState.FAILED, JobState.BLOCKED


def states(run: EZBatchRun) -> dict[str, JobState]:
    return {name: report.state for name, report in run.jobs.items()}


def test_every_job_runs_after_those_it_depends_on(rig: Rig) -> None:
    dependencies = {"b": ["a"], "c": ["a"], "d": ["b", "c"], "f": ["d", "e"]}
    note = f'echo "$NAME" >>{rig.path("order")}'
    jobs = {name: rig.job(note, environment={"NAME": name}) for name in "fedcba"}
    run = rig.submit(rig.workflow(jobs, dependencies)).wait(PATIENCE)
    assert run.state == "SUCCEEDED"
    order = rig.lines("order")
    assert sorted(order) == list("abcdef")
    for child, parents in dependencies.items():
        assert all(order.index(parent) < order.index(child) for parent in parents)
    assert run.raise_for_status() is run


def test_what_is_known_of_a_job_that_succeeded(rig: Rig) -> None:
    before = datetime.now(timezone.utc)
    run = rig.run({"a": "exit 0"})
    after = datetime.now(timezone.utc)
    report = run.jobs["a"]
    assert (report.name, report.state, report.exit_code, report.reason) == ("a", SUCCEEDED, 0, "")
    assert report.job_id
    assert report.children is None
    assert not report.cancelled
    (attempt,) = report.attempts
    assert (attempt.number, attempt.exit_code) == (1, 0)
    times = [report.created, report.started, report.stopped]
    assert all(time is not None and time.tzinfo is not None for time in times)
    known = [time for time in times if time is not None]
    assert known == sorted(known)
    # Places tell times as roughly as whole seconds.
    assert before.replace(microsecond=0) <= known[0]
    assert known[-1] <= after
    assert run.finished == report.stopped
    assert run.counts == {SUCCEEDED: 1}
    assert str(run.explain("a")) == "It succeeded."


def test_states_while_jobs_run(rig: Rig) -> None:
    gate = rig.gate()
    run = rig.submit(rig.workflow({"a": gate.wait, "b": "true", "c": "true"}, {"b": ["a"], "c": ["b"]}))
    gate.reached()
    until(lambda: run.refresh().jobs["a"].state is JobState.RUNNING)
    assert run.state == "RUNNING"
    assert states(run) == {"a": JobState.RUNNING, "b": JobState.PENDING, "c": JobState.PENDING}
    report = run.jobs["a"]
    assert (report.exit_code, report.stopped, report.attempt) == (None, None, 1)
    assert report.started is not None
    assert "waits for other jobs (a (running))" in str(run.explain("b"))
    assert "runs" in str(run.explain("a"))
    assert str(run.explain()).startswith("a: ")
    assert run.raise_for_status() is run, "nothing has failed yet"
    gate.open()
    run.wait(PATIENCE)
    assert set(states(run).values()) == {SUCCEEDED}


CODES = [1, 2, 3, 64, 125, 126, 127, 128, 190, 191, 192, 193, 255]


def test_exit_codes_are_the_programs_own(rig: Rig) -> None:
    run = rig.run({f"exit {code}": f"exit {code}" for code in CODES})
    assert run.state == "FAILED"
    for code in CODES:
        report = run.jobs[f"exit {code}"]
        assert (report.state, report.exit_code) == (FAILED, code)
        assert (report.attempts[0].exit_code, len(report.attempts)) == (code, 1)
        explained = str(run.explain(report.name))
        assert str(code) in explained
        # These are the preloader's, and here there is none.
        assert not any(word in explained for word in ("input", "output", "copy", "signal")), explained


@pytest.mark.parametrize(("name", "code"), [("KILL", 137), ("TERM", 143), ("SEGV", 139)])
def test_a_signal_is_128_and_its_number(rig: Rig, name: str, code: int) -> None:
    report = rig.run({"a": f"kill -{name} $$; sleep 60"}).jobs["a"]
    assert (report.state, report.exit_code) == (FAILED, code)


def test_a_program_that_is_not_there_says_so(rig: Rig) -> None:
    run = rig.run({"a": EZBatchJob("busybox:stable", ["no-such-program", "x"])})
    assert run.jobs["a"].state is FAILED
    assert "was not found" in str(run.explain("a"))
    if rig.starts_what_is_missing:
        assert run.jobs["a"].exit_code == 127
        assert any("no-such-program" in event.message for event in run.logs("a"))
    else:
        assert "no-such-program" in run.jobs["a"].reason


def test_words_reach_the_program_as_they_were_given(rig: Rig) -> None:
    words = ["", "two words", "'", '"', "$HOME", "`x`", "*", "\\", "new\nline", "ünï", "-n", "", "#"]
    script = f'for word; do printf "<%s>" "$word"; done >{rig.path("words")}'
    run = rig.run({"a": EZBatchJob("busybox:stable", ["/bin/sh", "-c", script, "sh", *words])})
    assert run.state == "SUCCEEDED"
    assert (rig.directory / "words").read_text() == "".join(f"<{word}>" for word in words)


def test_variables_reach_the_program_as_they_were_given(rig: Rig) -> None:
    environment = {"A": "two\nlines", "B": "", "C": "ünï 名", "D": "'\"$HOME`*\\", "_E": " x ", "PATH": "/usr/bin:/bin"}
    script = f'printf "%s|" "$A" "${{B-unset}}" "$C" "$D" "$_E" "$PATH" >{rig.path("variables")}'
    assert rig.run({"a": rig.job(script, environment=environment)}).state == "SUCCEEDED"
    assert (rig.directory / "variables").read_text() == "".join(f"{value}|" for value in environment.values())


def test_a_job_knows_what_batch_tells_it(rig: Rig) -> None:
    script = f'echo "$AWS_BATCH_JOB_ID $AWS_BATCH_JOB_ATTEMPT ${{AWS_BATCH_JOB_ARRAY_INDEX-none}}" >>{rig.path("out")}'
    run = rig.run({"a": script})
    assert rig.lines("out") == [f"{run.jobs['a'].job_id} 1 none"]


def test_a_string_with_shell_syntax_goes_to_a_shell(rig: Rig) -> None:
    out = rig.path("out")
    command = f"# first a comment\ncat <<EOF | sort >{out}\nb  $(echo x)\na\nEOF\nexit 0\necho never >>{out}"
    assert rig.run({"a": EZBatchJob("busybox:stable", command)}).state == "SUCCEEDED"
    assert rig.lines("out") == ["a", "b  x"]


NAMES = [
    "a:3",
    "a/b",
    "../../etc",
    "with space",
    "quote'\"",
    "new\nline",
    "名前 ✔",
    "x" * 300,
    "X" * 300,
    "join 1 for z",
    "-dash",
    "_under",
    "a",
    "A",
    "%s{}",
    ".",
    "@last",
]


def test_names_of_any_kind(rig: Rig) -> None:
    dependencies = {after: [before] for before, after in itertools.pairwise(NAMES)}
    jobs = {name: rig.job("echo $I", environment={"I": str(i)}) for i, name in enumerate(NAMES)}
    run = rig.submit(rig.workflow(jobs, dependencies, name="wörk/flow: 'x'\n" * 20)).wait(PATIENCE)
    assert run.state == "SUCCEEDED"
    assert list(run.jobs) == NAMES
    for i, name in enumerate(NAMES):
        assert [event.message for event in run.logs(name)] == [str(i)]
        assert run.report(name).name == name
        assert str(run.explain(name)) == "It succeeded."


def test_a_failed_job_blocks_what_depends_on_it_and_nothing_else(rig: Rig) -> None:
    dependencies = {"b": ["a"], "c": ["b", "fine"], "d": ["c"], "after": ["fine"]}
    run = rig.run({"d": "true", "c": "true", "b": "true", "a": "exit 4", "fine": "true", "after": "true"}, dependencies)
    assert run.state == "FAILED"
    expected = dict.fromkeys("bcd", BLOCKED) | {"a": FAILED, "fine": SUCCEEDED, "after": SUCCEEDED}
    assert states(run) == expected
    for name in "bcd":
        assert run.jobs[name].attempts == ()
        assert "job failed: a" in run.jobs[name].reason.lower()
        assert "a did not succeed" in str(run.explain(name))


def test_joins_keep_the_order_and_are_not_shown(rig: Rig) -> None:
    parents = [f"p{i}" for i in range(45)]
    note = f"echo x >>{rig.path('done')}"
    jobs = {"end": f"wc -l <{rig.path('done')}", "too": "true", **dict.fromkeys(parents, note)}
    run = rig.run(jobs, {"end": parents, "too": parents})
    assert run.state == "SUCCEEDED"
    assert set(run.jobs) == {"end", "too", *parents}
    assert [event.message.strip() for event in run.logs("end")] == ["45"]
    assert set(run.parents["end"]) == set(parents)


def test_a_failure_is_seen_through_joins(rig: Rig) -> None:
    parents = [f"p{i}" for i in range(45)]
    jobs = {"end": "true", "beyond": "true", **dict.fromkeys(parents, "true"), "p17": "exit 1"}
    run = rig.run(jobs, {"end": parents, "beyond": ["end"]})
    assert states(run)["end"] is BLOCKED
    assert states(run)["beyond"] is BLOCKED
    assert "p17" in run.jobs["end"].reason
    assert "p17" in run.jobs["beyond"].reason


def test_an_attempt_that_fails_is_repeated(rig: Rig) -> None:
    script = 'echo "attempt $AWS_BATCH_JOB_ATTEMPT"; test "$AWS_BATCH_JOB_ATTEMPT" = 3'
    run = rig.run({"a": rig.job(script, retries=5), "b": "true"}, {"b": ["a"]})
    assert run.state == "SUCCEEDED"
    report = run.jobs["a"]
    assert [(a.number, a.exit_code) for a in report.attempts] == [(1, 1), (2, 1), (3, 0)]
    assert (report.exit_code, report.attempt) == (0, 3)
    assert [(e.attempt, e.message) for e in run.logs("a")] == [(i, f"attempt {i}") for i in (1, 2, 3)]


def test_attempts_come_to_an_end(rig: Rig) -> None:
    run = rig.run({"a": rig.job("echo again; exit 7", retries=2), "b": "true"}, {"b": ["a"]})
    report = run.jobs["a"]
    assert (report.state, report.exit_code, len(report.attempts)) == (FAILED, 7, 3)
    assert run.jobs["b"].state is BLOCKED
    assert len(list(run.logs("a"))) == 3


def test_the_same_workflow_can_be_submitted_again(rig: Rig) -> None:
    workflow = rig.workflow({"a": f"echo x >>{rig.path('out')}"})
    before = workflow.to_json()
    one, other = rig.submit(workflow), rig.submit(workflow)
    assert one.id != other.id
    assert one.wait(PATIENCE).state == other.wait(PATIENCE).state == "SUCCEEDED"
    assert one.jobs["a"].job_id != other.jobs["a"].job_id
    assert rig.lines("out") == ["x", "x"]
    assert workflow.to_json() == before
