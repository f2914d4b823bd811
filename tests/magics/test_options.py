"""Every option of a cell, each by what it does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ezbatch import EZBatchJob, EZBatchRun, EZBatchWorkflow
from ezbatch.workflow import JOB_FIELDS
from ezbatch_jupyter.cell import CELL_OPTIONS, cell_parser
from tests.magics.conftest import Shell

ARN = "arn:aws:iam::123456789012:role/x"
SECRET = "arn:aws:ssm:eu-west-1:123456789012:parameter/x"

#: An option as it is typed, the field of the job that it sets, and the value there.
FIELDS: list[tuple[str, str, object]] = [
    ("-i busybox:1", "image", "busybox:1"),
    ("--image busybox:1", "image", "busybox:1"),
    ("-c 0.5", "vcpus", 0.5),
    ("--vcpus 4", "vcpus", 4),
    ("--vcpus 4", "memory", 8192),
    ("-m 8G", "memory", 8192),
    ("--memory 3072", "memory", 3072),
    ("-s 50G", "storage_size", 50),
    ("--storage 21", "storage_size", 21),
    ("-p ec2", "platform", "EC2"),
    ("--platform Fargate", "platform", "FARGATE"),
    ("-e A=1 B=x=y -e 'C=a b'", "environment", {"A": "1", "B": "x=y", "C": "a b"}),
    ("--env A=", "environment", {"A": ""}),
    ("-t a=b c=d", "tags", {"a": "b", "c": "d"}),
    ("--tag a=b", "tags", {"a": "b"}),
    ("--array 3", "array", 3),
    ("--retries 2", "retries", 2),
    ("--timeout 2h", "timeout", 7200),
    ("--gpus 1 -p ec2", "gpus", 1),
    (f"--secret T={SECRET}", "secrets", {"T": SECRET}),
    (f"--job-role {ARN}", "job_role", ARN),
    ("--architecture arm64", "architecture", "ARM64"),
    ("-q other", "queue", "other"),
    ("--queue other", "queue", "other"),
    ("-r s3://bkt/x in/x s3://bkt/y in/y", "preloader", True),
    ("--lang python", "command", ["python3", "-u", "-c", "\ntrue\n"]),
    ("--lang bash", "command", ["bash", "-c", "\ntrue\n"]),
    ("--lang sh", "command", ["/bin/sh", "-c", "\ntrue\n"]),
    ("", "command", ["/bin/sh", "-c", "\ntrue\n"]),
]

#: Options that say what becomes of the job. A test of their own, or of another file, uses each.
OTHERS = {
    "--name", "--read", "--write", "--var", "--map", "--workflow", "--after", "--out", "--bg", "--wait", "--dry-run",
    "--form", "--quiet", "--on-interrupt", "--max-cost", "--profile", "--region",
}  # fmt: skip


def job_of(shell: Shell, options: str, body: str = "true") -> EZBatchJob:
    shell.good(f"%%ezbatch --workflow wf -n x -Q {options}\n{body}")
    job: EZBatchJob = shell.variables["wf"].jobs["x"]
    return job


def test_every_option_is_tested() -> None:
    here = {word for options, _field, _value in FIELDS for word in options.split()}
    for option in CELL_OPTIONS:
        assert OTHERS & set(option.flags) or set(option.flags) & here, option.flags


@pytest.mark.parametrize(("options", "field", "value"), FIELDS, ids=lambda value: str(value)[:30])
def test_an_option_sets_its_field(shell: Shell, options: str, field: str, value: object) -> None:
    assert getattr(job_of(shell, options), field) == value


@pytest.mark.parametrize("options", ["-r s3://bkt/x in/x s3://bkt/y in/y", "-r s3://bkt/x in/x --read s3://bkt/y in/y"])
def test_reads_are_pairs(shell: Shell, options: str) -> None:
    job = job_of(shell, options)
    assert [(m.source, m.destination) for m in job.mounts.reads] == [("s3://bkt/x", "in/x"), ("s3://bkt/y", "in/y")]
    assert job.preloader


@pytest.mark.parametrize("flag", ["-w", "--write"])
def test_writes_are_pairs(shell: Shell, flag: str) -> None:
    job = job_of(shell, f"{flag} out/x s3://bkt/x")
    assert [(m.source, m.destination) for m in job.mounts.writes] == [("out/x", "s3://bkt/x")]
    assert job.preloader


def test_mounts_move_data(shell: Shell, state_directory: Path) -> None:
    source = state_directory / "s3" / "data" / "in.txt"
    source.parent.mkdir(parents=True)
    source.write_text("abc")
    shell.good("%%ezbatch -r s3://data/in.txt in.txt -w out.txt s3://data/out.txt\ntr a-z A-Z <in.txt >out.txt")
    assert (source.parent / "out.txt").read_text() == "ABC"


def test_ez_lines_set_what_the_magic_line_leaves_out(shell: Shell) -> None:
    job = job_of(shell, "-c 2 -e A=line", "\n# a comment\n#EZ --vcpus 4 --retries 1\n#EZ -e A=ez B=ez\n#EZ\necho hi")
    assert (job.vcpus, job.retries) == (2, 1)
    assert job.environment == {"A": "line", "B": "ez"}
    assert job.command[-1] == "\n\n# a comment\n\n\n\necho hi\n"


def test_of_rivals_the_nearer_wins(shell: Shell) -> None:
    assert job_of(shell, "--array 5", "#EZ --map nothing\ntrue").array == 5


def test_an_ez_line_below_the_head_is_told(shell: Shell) -> None:
    ran = shell.good("%%ezbatch --workflow wf -n x -Q\ntrue\n#EZ -c 4")
    assert "#EZ, line 3 of the cell: not read" in ran.stderr
    assert shell.variables["wf"].jobs["x"].vcpus == 1


def test_config_stands_behind_the_cell(shell: Shell) -> None:
    shell.good('%config EZBatch.image = "busybox:1"')
    shell.good('%config EZBatch.platform = "ec2"')
    shell.good('%config EZBatch.lang = "bash"')
    job = job_of(shell, "")
    assert (job.image, job.platform, job.command[0]) == ("busybox:1", "EC2", "bash")
    assert job_of(shell, "-i busybox:2", "#EZ --lang sh\ntrue").command[0] == "/bin/sh"
    assert "EZBatch.image" in shell.good("%ezbatch config").text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("'a b'", "a b"),
        ("3", "3"),
        ("0.1", "0.1"),
        ("True", "true"),
        ("None", "null"),
        ("[1, 'ü']", '[1, "ü"]'),
        ("{'a': [1.5]}", '{"a": [1.5]}'),
        ("__import__('pathlib').Path('/data')", "/data"),
        ("__import__('numpy').float64(0.5)", "0.5"),
        ("__import__('numpy').int64(7)", "7"),
        ("__import__('numpy').arange(3)", "[0, 1, 2]"),
        ("{'a': __import__('numpy').int64(7)}", '{"a": 7}'),
        ("range(2)", "[0, 1]"),
    ],
)
def test_a_variable_reaches_the_job(shell: Shell, value: str, text: str) -> None:
    shell.variables["value"] = eval(value)  # noqa: S307 - of our own texts
    assert job_of(shell, "-v value").environment == {"value": text}


def test_variables_are_written_as_they_are_now(shell: Shell, tmp_path: Path) -> None:
    shell.good("a, b = 1, ['x']")
    shell.good(f'%%ezbatch -v a b\necho "$a $b" >{tmp_path}/said')
    assert (tmp_path / "said").read_text() == '1 ["x"]\n'


@pytest.mark.parametrize(
    ("value", "entries"),
    [
        ("['a', 2]", [{"ITEM": "a"}, {"ITEM": 2}]),
        ("('a',)", [{"ITEM": "a"}]),
        ("range(2)", [{"ITEM": 0}, {"ITEM": 1}]),
        ("[{'A': 1}, {'A': 2, 'B': 'x'}]", [{"A": 1}, {"A": 2, "B": "x"}]),
        ("{'A': [1, 2], 'B': ['x']}", {"A": [1, 2], "B": ["x"]}),
        ("__import__('numpy').array([1.5, 2.5])", [{"ITEM": 1.5}, {"ITEM": 2.5}]),
        ("[__import__('pathlib').Path('a/b')]", [{"ITEM": "a/b"}]),
    ],
)
def test_a_variable_makes_an_array(shell: Shell, value: str, entries: object) -> None:
    shell.variables["value"] = eval(value)  # noqa: S307 - of our own texts
    assert job_of(shell, "--map value").array == entries


def test_a_data_frame_makes_a_child_of_each_row(shell: Shell) -> None:
    class Frame:
        """What of a pandas data frame counts here: pandas itself is not needed."""

        columns = ("A", "B")

        def to_dict(self, orient: str) -> list[dict[str, object]]:
            assert orient == "records"
            return [{"A": 1, "B": "x"}, {"A": 2, "B": "y"}]

    shell.variables["frame"] = Frame()
    assert job_of(shell, "--map frame").array == [{"A": 1, "B": "x"}, {"A": 2, "B": "y"}]


def test_an_array_runs_its_children(shell: Shell, tmp_path: Path) -> None:
    shell.good("samples = ['a b', '$x']")
    shell.good(f'%%ezbatch -n each --map samples -o run\necho "$ITEM" >{tmp_path}/$AWS_BATCH_JOB_ARRAY_INDEX')
    assert [(tmp_path / name).read_text() for name in "01"] == ["a b\n", "$x\n"]
    assert shell.variables["run"].state == "SUCCEEDED"


def test_out_holds_the_run(shell: Shell) -> None:
    shell.good("%%ezbatch -n fine --out run\necho hi")
    run: EZBatchRun = shell.variables["run"]
    assert (run.name, run.state) == ("fine", "SUCCEEDED")
    assert [event.message for event in run.logs()] == ["hi"]


def test_out_holds_a_run_that_failed(shell: Shell) -> None:
    ran = shell.run("%%ezbatch -n broken -o run\necho reading\nls /no/such\nexit 7")
    assert type(ran.error).__name__ == "JobFailedError"
    assert shell.variables["run"].state == "FAILED"
    assert shell.variables["run"].jobs["broken"].exit_code == 7
    assert "reading" in ran.text
    (line,) = [line for line in ran.stdout.splitlines() if "JobFailedError" in line]
    assert "exit code 7" in line
    assert "%ezbatch logs" in line
    assert 'File "' not in ran.stdout  # no traceback of the magics


@pytest.mark.parametrize("flag", ["-b", "--bg"])
def test_bg_returns_the_run_at_once(shell: Shell, flag: str) -> None:
    ran = shell.good(f"%%ezbatch -n slow {flag} -o run\nsleep 300")
    assert isinstance(ran.result, EZBatchRun)
    assert ran.result is shell.variables["run"]
    assert ran.result.state == "RUNNING"
    ran.result.cancel().wait(progress=False)


def test_config_wait_is_the_default_of_bg(shell: Shell) -> None:
    shell.good("%config EZBatch.wait = False")
    ran = shell.good("%%ezbatch -n slow\nsleep 300")
    assert isinstance(ran.result, EZBatchRun)
    ran.result.cancel().wait(progress=False)
    assert shell.good("%%ezbatch --wait -Q -o run\ntrue").result is None
    assert shell.variables["run"].state == "SUCCEEDED"


@pytest.mark.parametrize("flag", ["-Q", "--quiet"])
def test_quiet_shows_nothing_but_errors(shell: Shell, flag: str) -> None:
    assert shell.good(f"%%ezbatch {flag}\necho hi").text.strip() == ""
    ran = shell.run(f"%%ezbatch {flag}\necho the reason\nexit 3")
    assert type(ran.error).__name__ == "JobFailedError"
    assert "the reason" in ran.text


def test_dry_run_shows_the_plan_and_where_every_setting_came_from(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import ezbatch

    (tmp_path / "pyproject.toml").write_text('[tool.ezbatch]\nregion = "eu-west-1"\nsse = "AES256"\n')
    user = tmp_path / "user.toml"
    user.write_text('[ezbatch]\nsse-kms-key-id = "k"\nprofile = "lab"\n')
    monkeypatch.setenv("EZBATCH_CONFIG", str(user))
    monkeypatch.setenv("EZBATCH_QUEUE", "local")
    shell.good('%config EZBatch.image = "busybox:1"')
    shell.good("secret = 'do not tell'")
    text = shell.good(
        "%%ezbatch -n x --dry-run -v secret --profile me\n#EZ --memory 30G --timeout 2h -e A=hidden\necho hi"
    ).text
    rows = {line.split()[0]: line for line in text.splitlines() if line.split()}
    assert "1 job, 1 stage" in text
    for label, value, origin in [
        ("name", "x", "magic line"),
        ("image", "busybox:1", "%config EZBatch.image"),
        ("memory", "30720 MiB", "#EZ, line 2 of the cell"),
        ("vcpus", "4", "the least for the memory given"),
        ("timeout", "7200 s", "#EZ, line 2 of the cell"),
        ("lang", "sh", "default"),
        ("queue", "local", "environment variable EZBATCH_QUEUE"),
        ("profile", "me", "magic line"),
        ("region", "eu-west-1", "pyproject.toml"),
        ("sse-kms-key-id", "k", "user.toml"),
    ]:
        assert value in rows[label]
        assert rows[label].rstrip().endswith(origin), rows[label]
    assert "env secret" in text
    assert "env A" in text
    assert "do not tell" not in text
    assert "hidden" not in text
    assert ezbatch.runs() == []


@pytest.mark.parametrize("more", ["", "--dry-run"])
@pytest.mark.parametrize(
    ("timeout", "words"),
    [("", "nothing limits the cost of x"), ("--timeout 10h", "up to $0.494 if every attempt ran until its timeout")],
)
def test_max_cost_refuses_before_anything_is_submitted(shell: Shell, more: str, timeout: str, words: str) -> None:
    import ezbatch

    ran = shell.run(f"%%ezbatch -n x -q big --max-cost 0.40 {timeout} {more}\ntrue")
    assert type(ran.error).__name__ == "InvalidWorkflowError", ran.text
    assert words in str(ran.error)
    assert ezbatch.runs() == []


def test_max_cost_lets_through_what_costs_nothing(shell: Shell) -> None:
    shell.good("%%ezbatch -o run -Q\n#EZ --max-cost $0.01\ntrue")
    assert shell.variables["run"].state == "SUCCEEDED"
    text = shell.good("%%ezbatch --dry-run --max-cost 2.50\ntrue").text
    assert any(line.split() == ["max-cost", "2.5", "magic", "line"] for line in text.splitlines())


def test_dry_run_of_a_workflow_leaves_it_alone(shell: Shell) -> None:
    shell.good("%%ezbatch --workflow wf -n a -Q\ntrue")
    assert "2 jobs, 2 stages" in shell.good("%%ezbatch --workflow wf -n b --after a --dry-run\ntrue").text
    assert list(shell.variables["wf"].jobs) == ["a"]


def test_profile_and_region_reach_the_settings(shell: Shell) -> None:
    text = shell.good("%%ezbatch --dry-run --region eu-central-1 --profile p\ntrue").text
    assert "eu-central-1" in text
    shell.good('%config EZBatch.region = "us-east-1"')
    assert "%config EZBatch.region" in shell.good("%%ezbatch --dry-run\ntrue").text


def test_form_opens_the_job_and_submits_nothing(shell: Shell) -> None:
    import ezbatch

    ran = shell.good("%%ezbatch --form -n x -c 2\necho hi")
    assert type(ran.result).__module__.startswith("ezbatch_jupyter.forms")
    assert ezbatch.runs() == []


def test_help_is_shown_and_runs_nothing(shell: Shell) -> None:
    for cell in ("%%ezbatch --help", "%%ezbatch --help\necho hi", "%%ezbatch -h\n"):
        text = shell.good(cell).stdout
        for option in CELL_OPTIONS:
            assert option.flags[-1] in text


REFUSED: list[tuple[str, str]] = [
    ("%%ezbatch --vcpus\ntrue", "expected one argument"),
    ("%%ezbatch --vcp 4\ntrue", "there is no option --vcp (did you mean '--vcpus'?)"),
    ("%%ezbatch --vcpus four\ntrue", "'four' is no number of vCPUs"),
    ("%%ezbatch -m 8X\ntrue", "'8X' is no size"),
    ("%%ezbatch --retries x\ntrue", "'x' is no whole number"),
    ("%%ezbatch -e A\ntrue", "'A' has no ="),
    ("%%ezbatch -r s3://bkt/x\ntrue", "is 1 word: write S3URI PATH"),
    ("%%ezbatch --lang R\ntrue", "invalid choice: 'R'"),
    ("%%ezbatch --on-interrupt stop\ntrue", "invalid choice: 'stop'"),
    ("%%ezbatch stray\ntrue", "unrecognized arguments: stray"),
    ("%%ezbatch -n 'x\ntrue", "no closing quotation"),
    ("%%ezbatch\n#EZ --vcpu 4\ntrue", "#EZ, line 2 of the cell: there is no option --vcpu"),
    ("%%ezbatch\n\n   \n", "the cell has no body"),
    ("%%ezbatch -n x", "the cell has no body"),
    ("%%ezbatch\n#EZ -c 4\n", "the cell has no body"),
    ("%%ezbatch\n#!\ntrue", "names no interpreter"),
    ("%%ezbatch -v nowhere\ntrue", "-v nowhere: there is no such variable"),
    ("%%ezbatch -v numbrs\ntrue", "did you mean 'numbers'?"),
    ("%%ezbatch -v thing\ntrue", "-v thing: a object that cannot be written as JSON"),
    ("%%ezbatch -v nan\ntrue", "-v nan: a list that cannot be written as JSON"),
    ("%%ezbatch -v huge\ntrue", "-v huge: 100,000 bytes"),
    ("%%ezbatch -v a-b\ntrue", "'a-b' cannot name a Python variable"),
    ("%%ezbatch -e numbers=1 -v numbers\ntrue", "numbers is given by both -e and -v"),
    ("%%ezbatch --map nowhere\ntrue", "--map nowhere: there is no such variable"),
    ("%%ezbatch --map thing\ntrue", "--map thing is a object"),
    ("%%ezbatch --map word\ntrue", "--map word is a str"),
    ("%%ezbatch --map empty\ntrue", "--map empty is empty"),
    ("%%ezbatch --map mixed\ntrue", "1 of 2 entries are dicts"),
    ("%%ezbatch --map nested\ntrue", "--map nested: array[0].ITEM must be a string or a finite number, not list"),
    ("%%ezbatch --map badkey\ntrue", "'a b'"),
    ("%%ezbatch --map numbers --array 3\ntrue", "--array and --map contradict each other"),
    ("%%ezbatch --bg --wait\ntrue", "--bg and --wait contradict each other"),
    ("%%ezbatch --after a\ntrue", "name the workflow too"),
    ("%%ezbatch --workflow wf\ntrue", "a job of a workflow needs a name"),
    ("%%ezbatch --workflow numbers -n x\ntrue", "holds a list, not an EZBatchWorkflow"),
    ("%%ezbatch --workflow wf -n x --after nowhere\ntrue", "workflow wf has no such job"),
    ("%%ezbatch --workflow wf -n x --out run\ntrue", "--out is about a run"),
    ("%%ezbatch --workflow wf -n x --region r\ntrue", "use it with %ezbatch submit"),
    ("%%ezbatch --workflow wf -n x --max-cost 5\ntrue", "--max-cost is about a run, and --workflow submits nothing"),
    ("%%ezbatch --form --max-cost 5\ntrue", "--max-cost is about a run, and --form submits nothing"),
    ("%%ezbatch --form -o run\ntrue", "--out is about a run, and --form submits nothing"),
    ("%%ezbatch --max-cost much\ntrue", "'much' is no amount in US dollars: write 5 or 2.50"),
    ("%%ezbatch --max-cost nan\ntrue", "'nan' is no amount in US dollars"),
    ("%%ezbatch -o 1x\ntrue", "'1x' cannot name a Python variable"),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "words"), REFUSED, ids=lambda text: text.split("\n")[0][9:40])
def test_a_mistake_is_a_usage_error(shell: Shell, cell: str, words: str) -> None:
    import ezbatch

    nan = float("nan")
    shell.variables.update(numbers=[1], thing=object(), huge="x" * 100_000, word="abc", empty=[], mixed=[1, {}])
    shell.variables.update(nan=[nan], nested=[[1]], badkey=[{"a b": 1}])
    assert words in shell.refused(cell)
    assert ezbatch.runs() == []
    assert "wf" not in shell.variables


def test_what_aws_would_refuse_is_told_with_its_remedy(shell: Shell) -> None:
    ran = shell.run("%%ezbatch -c 3 --timeout 5\ntrue")
    assert type(ran.error).__name__ == "InvalidWorkflowError"
    assert "The nearest: vcpus=4" in ran.stdout
    assert "60 or more" in ran.stdout
    assert 'File "' not in ran.stdout


def test_a_body_too_big_is_refused_with_its_size(shell: Shell) -> None:
    ran = shell.run("%%ezbatch\n: " + "x" * 40_000)
    assert type(ran.error).__name__ == "InvalidWorkflowError"
    assert "bytes; AWS Batch takes 24,576" in ran.stdout
    assert "Put a long script into the image or on S3 (set staging to s3://BUCKET/PREFIX" in ran.stdout


def test_the_fields_of_a_job_are_all_options() -> None:
    fields = {option.field for option in CELL_OPTIONS}
    assert set(JOB_FIELDS) - fields == {"command", "mounts", "preloader"}


def test_no_option_can_be_abbreviated() -> None:
    assert not cell_parser().allow_abbrev


CELLS: list[Callable[[str], str]] = [
    lambda text: f"cat <<'END'\n{text}\nEND",
    lambda text: f"#EZ --lang python\nprint({text!r})",
    lambda text: f"#!/usr/bin/env python3\nprint({text!r})",
]


@pytest.mark.parametrize("write", CELLS, ids=["sh", "python", "shebang"])
@pytest.mark.parametrize("text", ["$HOME ${x} {x} {{x}} $x", "a\\nb 'q' \"d\" `id` %d %s !ls", "ü ☃ \t end"])
def test_the_body_is_handed_over_as_it_is(shell: Shell, write: Callable[[str], str], text: str) -> None:
    shell.variables["x"] = "WRONG"
    shell.good(f"%%ezbatch -o run\n{write(text)}")
    assert [event.message for event in shell.variables["run"].logs()] == [text]


def test_the_line_is_not_interpolated_either(shell: Shell) -> None:
    shell.variables["x"] = "WRONG"
    assert job_of(shell, "-e A={x} 'B=$x'").environment == {"A": "{x}", "B": "$x"}


def test_a_saved_workflow_is_the_one_of_the_cells(shell: Shell, tmp_path: Path) -> None:
    job_of(shell, "-e A=1 --map xs" if shell.variables.setdefault("xs", [1, 2]) else "")
    shell.variables["wf"].save(tmp_path / "wf.json")
    assert EZBatchWorkflow.load(tmp_path / "wf.json") == shell.variables["wf"]
    found: dict[str, Any] = json.loads((tmp_path / "wf.json").read_text())
    assert found["jobs"]["x"]["array"] == [{"ITEM": 1}, {"ITEM": 2}]
