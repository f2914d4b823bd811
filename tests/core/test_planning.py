"""Plans: order, joins, arrays, shared definitions, and that no planned job breaks a rule."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ezbatch import EZBatchJob, EZBatchWorkflow, InvalidWorkflowError, Plan, S3Mount, S3Mounts, plan
from ezbatch.planning import PlannedJob

from .workflows import assert_keeps_rules, shown_parents, wide_workflows, workflows


def job(**changes: Any) -> EZBatchJob:  # noqa: ANN401 - fields of different types
    return EZBatchJob(**{"image": "i", "command": ["true"], **changes})


def fan_in(count: int, *children: str, **changes: Any) -> EZBatchWorkflow:  # noqa: ANN401 - as above
    parents = [f"p{i}" for i in range(count)]
    jobs = {name: job(**changes) for name in (*children, *parents)}
    return EZBatchWorkflow("fan", jobs, dict.fromkeys(children, parents))


def run_child(planned: PlannedJob, made: Plan, index: int | None) -> list[str]:
    """Run a planned job's command as AWS would, on this machine, and return the lines it prints."""
    definition = made.definition_of(planned)
    environment = {"PATH": "/usr/bin:/bin", **definition.environment, **planned.environment}
    if index is not None:
        environment["AWS_BATCH_JOB_ARRAY_INDEX"] = str(index)
        environment["AWS_BATCH_JOB_ARRAY_SIZE"] = str(planned.array_size)
    argv = planned.command or definition.command
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


# Order


@given(workflows())
def test_no_plan_breaks_a_rule(workflow: EZBatchWorkflow) -> None:
    made = plan(workflow, "queue")
    assert_keeps_rules(made)
    assert [planned.name for planned in made.jobs if not planned.join] == EZBatchWorkflow.job_submission_queue(
        workflow.jobs, workflow.dependencies
    )
    assert shown_parents(made) == {name: set(workflow.dependencies.get(name, ())) for name in workflow.jobs}
    assert Plan.from_json(made.to_json()) == made


@given(wide_workflows())
def test_joins_change_no_dependency(workflow: EZBatchWorkflow) -> None:
    made = plan(workflow, "queue")
    assert_keeps_rules(made)
    assert shown_parents(made) == {name: set(workflow.dependencies.get(name, ())) for name in workflow.jobs}
    assert Plan.from_json(made.to_json()) == made
    if all(len(set(parents)) <= 20 for parents in workflow.dependencies.values()):
        assert not any(planned.join for planned in made.jobs)
    stages = {planned.name: planned.stage for planned in made.jobs}
    for planned in made.jobs:
        assert planned.stage == 1 + max((stages[parent] for parent in planned.parents), default=0)


@given(wide_workflows(), st.data())
def test_a_part_of_a_workflow_keeps_the_dependencies_within_it(workflow: EZBatchWorkflow, data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.sampled_from(list(workflow.jobs)), min_size=1))
    made = plan(workflow, "queue", only=dict.fromkeys(chosen))
    assert_keeps_rules(made)
    assert shown_parents(made) == {name: set(workflow.dependencies.get(name, ())) & chosen for name in chosen}


@given(st.permutations(range(12)))
def test_jobs_that_could_go_together_stay_in_the_order_given(order: list[int]) -> None:
    names = [f"j{i}" for i in order]
    assert EZBatchWorkflow.job_submission_queue(names, {}) == names
    assert EZBatchWorkflow.job_submission_queue(names, {names[-1]: names[:-1]}) == names
    first = EZBatchWorkflow.job_submission_queue(names, {names[0]: [names[5]]})
    assert first.index(names[5]) < first.index(names[0])
    assert [name for name in first if name != names[0]] == names[1:]


@pytest.mark.parametrize("count", [150, 100_000])
def test_a_chain_declared_in_reverse_order(count: int) -> None:
    names = [f"job-{i}" for i in range(count)]
    one = job()
    workflow = EZBatchWorkflow(
        "chain",
        dict.fromkeys(reversed(names), one),
        {after: [before] for before, after in itertools.pairwise(names)},
    )
    made = plan(workflow, "queue")
    assert [planned.name for planned in made.jobs] == names
    assert made.stages == count
    assert len(made.definitions) == 1
    text = str(made)
    assert f"{count:,} jobs" in text
    assert len(text.splitlines()) < 80


def test_a_dependency_named_twice_counts_once() -> None:
    made = plan(EZBatchWorkflow("w", {"a": job(), "b": job()}, {"b": ["a"] * 30}), "queue")
    assert [planned.parents for planned in made.jobs] == [(), ("a",)]


def test_submission_order_is_a_value_error_where_there_is_none() -> None:
    with pytest.raises(ValueError, match="cycle"):
        EZBatchWorkflow.job_submission_queue(["a", "b"], {"a": ["b"], "b": ["a"]})
    with pytest.raises(InvalidWorkflowError, match="no job of the workflow"):
        EZBatchWorkflow.job_submission_queue(["a"], {"a": ["b"]})


# Joins


@pytest.mark.parametrize("count", [20, 21, 39, 40, 400, 401, 1_000, 8_000, 10_000])
def test_never_more_than_twenty_parents(count: int) -> None:
    workflow = fan_in(count, "end")
    made = plan(workflow, "queue")
    assert_keeps_rules(made)
    assert shown_parents(made)["end"] == set(workflow.dependencies["end"])
    joins = [planned for planned in made.jobs if planned.join]
    # The fewest there can be: each join takes at most 20 and gives 1.
    assert len(joins) == -(-(count - 20) // 19)
    assert made.stages <= 2 + len(str(count))
    if joins:
        assert f"{len(joins):,} join" in str(made)
        assert {(planned.vcpus, planned.memory) for planned in joins} == {(0.25, 512)}


def test_jobs_with_the_same_parents_share_their_joins() -> None:
    alone = plan(fan_in(1_000, "a"), "queue")
    together = plan(fan_in(1_000, "a", "b", "c"), "queue")
    assert sum(planned.join for planned in alone.jobs) == sum(planned.join for planned in together.jobs)
    assert {planned.parents for planned in together.jobs if planned.name in "abc"} == {alone.jobs[-1].parents}


def test_joins_run_where_their_job_runs() -> None:
    workflow = fan_in(30, "a", platform="EC2", queue="big", job_role="arn:aws:iam::123456789012:role/r")
    (join,) = (planned for planned in plan(workflow, "queue").jobs if planned.join)
    assert (join.queue, join.vcpus, join.memory) == ("big", 1, 64)
    made = plan(workflow, "queue")
    assert made.definition_of(join).platform == "EC2"
    assert made.definition_of(join).job_role == "arn:aws:iam::123456789012:role/r"


def test_no_join_takes_a_name_that_is_taken() -> None:
    parents = [f"p{i}" for i in range(50)]
    own = ["join 1 for end", "join-1", "JOIN 2", "join 3"]
    jobs = dict.fromkeys([*own, *parents, "end"], job())
    made = plan(EZBatchWorkflow("w", jobs, {"end": parents}), "queue")
    assert_keeps_rules(made)
    assert [planned.name for planned in made.jobs if not planned.join] == list(jobs)
    assert sum(planned.join for planned in made.jobs) == 2


def test_parents_that_form_one_array_count_once() -> None:
    jobs = {"many": job(array=5_000), "end": job()}
    made = plan(EZBatchWorkflow("w", jobs, {"end": ["many"]}), "queue")
    assert [planned.name for planned in made.jobs] == ["many", "end"]


# Definitions


def test_jobs_share_a_definition_where_submitjob_can_tell_them_apart() -> None:
    jobs = {
        f"j{i}": job(
            command=["echo", str(i)],
            environment={"I": str(i)},
            vcpus=4,
            memory=8192 + 1024 * i,
            tags={"i": str(i)},
            retries=i,
            timeout=60 + i,
            queue=f"q{i}",
        )
        for i in range(9)
    }
    made = plan(EZBatchWorkflow("w", jobs), "queue")
    assert len(made.definitions) == 1
    assert [planned.command for planned in made.jobs] == [("echo", str(i)) for i in range(9)]
    assert [planned.environment for planned in made.jobs] == [{"I": str(i)} for i in range(9)]
    assert [planned.attempts for planned in made.jobs] == list(range(1, 10))


@pytest.mark.parametrize(
    "change",
    [
        {"image": "other"},
        {"platform": "EC2"},
        {"storage_size": 30},
        {"architecture": "ARM64"},
        {"job_role": "arn:aws:iam::123456789012:role/r"},
        {"secrets": {"A": "arn:aws:ssm:eu-west-1:123456789012:parameter/p"}},
    ],
)
def test_what_submitjob_cannot_override_makes_a_definition(change: dict[str, Any]) -> None:
    made = plan(EZBatchWorkflow("w", {"a": job(), "b": job(**change), "c": job(**change)}), "queue")
    assert len(made.definitions) == 2
    assert made.jobs[1].definition == made.jobs[2].definition


def test_the_preloader_is_in_one_definition_however_many_jobs_use_it() -> None:
    jobs = {
        f"j{i}": job(mounts=S3Mounts([S3Mount(f"s3://bucket/{i}", "in")]), preloader=True, command=f"echo {i} | cat")
        for i in range(20)
    }
    made = plan(EZBatchWorkflow("w", jobs), "queue")
    assert len(made.definitions) == 1
    assert all(not planned.command for planned in made.jobs)
    assert len({planned.environment["EZBATCH_READ"] for planned in made.jobs}) == 20


@pytest.mark.parametrize("size", [1_000, 6_500, 7_001, 8_192, 20_000])
@pytest.mark.parametrize("where", ["command", "environment"])
def test_what_is_too_long_to_override_goes_into_a_definition(size: int, where: str) -> None:
    text = "ü" * (size // 6)
    change: dict[str, Any] = {"command": ["echo", text]} if where == "command" else {"environment": {"A": text}}
    made = plan(EZBatchWorkflow("w", {"a": job(**change), "b": job()}), "queue")
    assert_keeps_rules(made)
    planned = made.jobs[0]
    seen = planned.command or made.definition_of(planned).command
    assert seen == tuple(change.get("command", ["true"]))
    assert {**made.definition_of(planned).environment, **planned.environment} == change.get("environment", {})
    assert not made.definition_of(made.jobs[1]).environment


@pytest.mark.parametrize("preloader", [False, True])
@pytest.mark.parametrize(
    "environment",
    [
        {"A": "a" * 6000, **{f"B{n}": "b" * 400 for n in range(5)}},
        {"A": "a" * 3000, "B": "b" * 2900, "C": "c" * 1500},
        {f"N{n}": "n" * (n % 7) for n in range(250)},
    ],
)
def test_as_little_as_can_be_goes_into_a_definition_of_its_own(environment: dict[str, str], *, preloader: bool) -> None:
    made = plan(
        EZBatchWorkflow("w", {"a": job(command="true; true", environment=environment, preloader=preloader)}), "queue"
    )
    assert_keeps_rules(made)
    (planned,) = made.jobs
    inside = made.definition_of(planned).environment
    assert not set(inside) & set(planned.environment)
    assert {name: value for name, value in {**inside, **planned.environment}.items() if name in environment} == (
        environment
    )
    assert sum(map(len, inside.values())) < 4000


def test_what_is_too_long_for_a_definition_says_how_much_of_it_is_ours() -> None:
    problems = EZBatchWorkflow(
        "w", {"a": job(environment={"A": "a" * 9000}, preloader=True), "b": job(environment={"A": "a" * 25_000})}
    ).problems()
    with_script, without = [problem.what for problem in problems]
    found = re.search(
        r"make ([\d,]+) bytes with the ([\d,]+) of ezbatch's own script; AWS Batch takes 24,576", with_script
    )
    assert found is not None
    total, own = (int(number.replace(",", "")) for number in found.groups())
    assert 9000 < total - own < 11_000
    assert "ezbatch" not in without


# Arrays


def children(array: Any, names: str, *, preloader: bool = False) -> list[str]:  # noqa: ANN401 - any form of array
    """What each child of an array sees, by running it."""
    script = f'printf "%s\\n" "$AWS_BATCH_JOB_ARRAY_INDEX/$AWS_BATCH_JOB_ARRAY_SIZE {names}"'
    made = plan(EZBatchWorkflow("w", {"a": job(command=script, array=array, preloader=preloader)}), "queue")
    assert_keeps_rules(made)
    (planned,) = made.jobs
    indices = [None] if planned.array_size is None else range(planned.array_size)
    return [line for index in indices for line in run_child(planned, made, index)]


def test_a_count_gives_each_child_its_index() -> None:
    assert children(3, "") == ["0/3 ", "1/3 ", "2/3 "]


def test_a_list_gives_each_child_its_entry() -> None:
    entries = [{"A": "x y", "B": 1}, {"A": "'\"$", "B": 2.5}, {"A": "ü", "B": True}]
    assert children(entries, "$A $B") == ["0/3 x y 1", "1/3 '\"$ 2.5", "2/3 ü True"]


def test_entries_need_not_have_the_same_names() -> None:
    assert children([{"A": "x"}, {"B": "y"}, {}], "${A-none} ${B-none}") == [
        "0/3 x none",
        "1/3 none y",
        "2/3 none none",
    ]


def test_a_grid_is_in_the_order_of_itertools_product() -> None:
    grid: dict[str, list[Any]] = {"A": ["x", "y"], "B": [1, 2, 3], "C": ["p", "q"]}
    expected = [f"{i}/12 {a} {b} {c}" for i, (a, b, c) in enumerate(itertools.product(grid["A"], grid["B"], grid["C"]))]
    assert children(grid, "$A $B $C") == expected


@pytest.mark.parametrize("array", [1, [{"A": "x"}], {"A": ["x"]}])
def test_an_array_of_one_is_a_plain_job_that_knows_no_better(array: Any) -> None:  # noqa: ANN401 - any form of array
    made = plan(EZBatchWorkflow("w", {"a": job(array=array)}), "queue")
    assert made.jobs[0].array_size is None
    assert children(array, "${A-}") == [f"0/1 {'x' if array != 1 else ''}"]


def test_ten_thousand_children_of_a_grid_fit_in_one_job() -> None:
    grid = {"A": list(range(100)), "B": [f"value {i}" for i in range(100)]}
    made = plan(EZBatchWorkflow("w", {"a": job(array=grid, command='echo "$A $B"')}), "queue")
    assert_keeps_rules(made)
    (planned,) = made.jobs
    assert planned.array_size == 10_000
    for index in (0, 1, 99, 100, 4_321, 9_999):
        assert run_child(planned, made, index) == [f"{index // 100} value {index % 100}"]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True).map(sorted))
def test_a_retry_runs_the_chosen_children_as_they_were(chosen: list[int]) -> None:
    grid: dict[str, list[Any]] = {"A": ["x", "y", "z"], "B": [1, 2, 3, 4]}
    script = 'echo "$AWS_BATCH_JOB_ARRAY_INDEX/$AWS_BATCH_JOB_ARRAY_SIZE $A $B"'
    made = plan(EZBatchWorkflow("w", {"a": job(array=grid, command=script)}), "queue", only={"a": chosen})
    assert_keeps_rules(made)
    (planned,) = made.jobs
    assert planned.indices == tuple(chosen)
    assert planned.array_size == (len(chosen) if len(chosen) > 1 else None)
    everything = list(itertools.product(grid["A"], grid["B"]))
    positions = range(len(chosen)) if len(chosen) > 1 else [None]
    lines = [line for position in positions for line in run_child(planned, made, position)]
    assert lines == [f"{index}/12 {everything[index][0]} {everything[index][1]}" for index in chosen]


# The dry run


def test_a_person_can_read_the_plan() -> None:
    mounts = S3Mounts([S3Mount("s3://bucket/in", "in")], [S3Mount("out", "s3://bucket/out")])
    jobs = {
        "fetch": job(command="curl -O https://example.org/data", mounts=mounts, preloader=True),
        "align": job(array={"SAMPLE": ["a", "b", "c"]}, vcpus=4, memory=8192, retries=2, timeout=7200),
        "report": job(mounts=mounts),
    }
    workflow = EZBatchWorkflow("reads", jobs, {"align": ["fetch"], "report": ["align"]})
    text = str(plan(workflow, "queue"))
    assert "Plan of 'reads' on queue queue" in text
    assert "3 jobs, 1 array of 3 children in all, 3 stages" in text
    lines = {line.split()[1]: line for line in text.splitlines() if line[:5].strip().isdigit()}
    assert "copies 1 in, 1 out" in lines["fetch"]
    assert all(part in lines["align"] for part in ("x3", "4 vCPU, 8 GiB", "2 h 00 m", "fetch"))
    assert "report: preloader is off" in text
    assert "this machine" in str(plan(workflow, "local"))
    assert max(map(len, text.splitlines())) < 200


def test_a_plan_of_names_nobody_expects_keeps_its_lines() -> None:
    names = ["a\nb", "x" * 300, "tab\there", "名前", "quote'\"", "join 1 for x", "a:3"]
    jobs = {name: job(command=f"echo '{name}'\n# more\necho") for name in names}
    made = plan(EZBatchWorkflow("w\nw", jobs, {names[0]: names[1:]}), "queue")
    assert_keeps_rules(made)
    assert len(str(made).splitlines()) == 4 + len(names)


def test_the_plan_of_a_big_workflow_is_short() -> None:
    count = 100_000
    names = [f"j{i}" for i in range(count)]
    dependencies = {names[i]: [names[i // 10]] for i in range(10, count)}
    workflow = EZBatchWorkflow("tree", dict.fromkeys(names, job()), dependencies)
    made = plan(workflow, "queue")
    text = str(made)
    assert len(text.splitlines()) == 4 + made.stages
    assert "j10000 … j99999 (90,000)" in text
    assert "j1000 … j9999 (9,000)" in text
    shown = {line.split()[0] for line in text.splitlines() if line.startswith("  ") and line.split()[0].isdigit()}
    assert shown == {str(stage) for stage in range(1, made.stages + 1)}


def test_the_plan_of_many_jobs_that_differ_shows_the_first_of_each_stage() -> None:
    jobs = {f"j{i}": job(command=f"echo {i}") for i in range(1000)}
    made = plan(EZBatchWorkflow("w", jobs, {f"j{i}": [f"j{i - 500}"] for i in range(500, 1000)}), "queue")
    text = str(made)
    assert "940 more jobs" in text
    assert [line.split()[:2] for line in text.splitlines()[4:64]] == [
        [str(stage), f"j{500 * (stage - 1) + i}"] for stage in (1, 2) for i in range(30)
    ]


def test_jobs_that_are_alike_share_a_line() -> None:
    names = [f"fit {i}" for i in range(5)]
    jobs = {
        "start": job(),
        **{name: job(command="fit") for name in names},
        "odd": job(command="fit", vcpus=2, memory=4096),
    }
    jobs |= {"a": job(command="x"), "b": job(command="x"), "c": job(command="x")}
    made = plan(EZBatchWorkflow("w", jobs, {name: ["start"] for name in [*names, "odd", *"abc"]}), "queue")
    assert [(row.jobs, row.cells[1], row.cells[6]) for row in made.rows()] == [
        (("start",), "start", "-"),
        (tuple(names), "fit 0 … fit 4 (5)", "start"),
        (("odd",), "odd", "start"),
        *[((name,), name, "start") for name in "abc"],
    ]


def test_a_plan_is_json_and_back() -> None:
    made = plan(fan_in(50, "end", environment={"A": "ü\n"}, array={"X": [1, 2]}, tags={"t": "v"}), "queue")
    data = json.loads(made.to_json())
    assert Plan.from_json(json.dumps(data)) == made
    assert Plan.from_json(made.to_json()).to_json() == made.to_json()
    partial = plan(fan_in(3, "end", array=5), "queue", only={"end": [1, 3]})
    assert Plan.from_json(partial.to_json()) == partial


def test_planning_twice_gives_the_same_plan_and_changes_nothing() -> None:
    workflow = fan_in(50, "end", array={"X": [1, 2]}, preloader=True)
    before = workflow.to_json()
    assert plan(workflow, "queue") == plan(workflow, "queue")
    assert workflow.to_json() == before
