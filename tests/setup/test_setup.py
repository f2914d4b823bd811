"""From an empty account to a queue and back: what is shown, what is made, what is left."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from ezbatch import EZBatchJob, EZBatchWorkflow
from ezbatch.aws import setup as stack
from ezbatch.aws.clients import Clients
from ezbatch.aws.setup import plan_setup, plan_teardown, setup, teardown
from ezbatch.errors import BackendError
from ezbatch.settings import Settings
from tests.aws.rig import Rig
from tests.containers import require
from tests.setup.conftest import Interrupted, Time, belongings, clients_of, nothing


def batch(rig: Rig) -> Any:  # noqa: ANN401 - boto3 makes its clients' classes as it goes
    return rig.client("batch")


# The template


class _Loader(yaml.SafeLoader):  # type: ignore[misc] # yaml has no types
    """Reads CloudFormation's short forms as what they stand for."""


_Loader.add_multi_constructor(
    "!",
    lambda loader, suffix, node: {
        f"Fn::{suffix}": loader.construct_scalar(node)
        if isinstance(node, yaml.ScalarNode)
        else loader.construct_sequence(node, deep=True)
    },
)


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    made: dict[str, Any] = yaml.load(stack.template(), _Loader)  # noqa: S506 - a safe loader
    return made


def test_what_is_shown_is_what_the_template_makes(template: dict[str, Any]) -> None:
    assert set(stack._RESOURCES) == set(template["Resources"])
    for name, (parameter, _kind, _what) in stack._RESOURCES.items():
        assert bool(parameter) == ("Condition" in template["Resources"][name]), name
    given = set(template["Parameters"])
    assert given == set(stack._DEFAULTS) | {"VpcId", "SubnetIds"} == set(stack._CHANGED)
    for key, value in stack._DEFAULTS.items():
        assert str(template["Parameters"][key]["Default"]) == value
    assert template["Description"].startswith(stack.OURS)
    assert tuple(template["Parameters"]["LogRetentionDays"]["AllowedValues"]) == stack.LOG_DAYS


def test_no_role_may_more_than_it_needs(template: dict[str, Any]) -> None:
    roles = {name: one for name, one in template["Resources"].items() if one["Type"] == "AWS::IAM::Role"}
    assert set(roles) == {"ExecutionRole", "JobRole", "InstanceRole"}
    for name, one in roles.items():
        assert "ManagedPolicyArns" not in one["Properties"]
        for policy in one["Properties"].get("Policies", ()):
            for statement in policy["PolicyDocument"]["Statement"]:
                actions = statement["Action"]
                actions = [actions] if isinstance(actions, str) else actions
                assert not [action for action in actions if "*" in action], name
                if statement["Resource"] == "*":
                    # What has no resource in IAM: the token of ECR, and the agent's own calls.
                    assert actions == ["ecr:GetAuthorizationToken"] or name == "InstanceRole"
    # Jobs may nothing until they are given data.
    assert "Policies" not in roles["JobRole"]["Properties"]


def test_the_bucket_is_closed(template: dict[str, Any]) -> None:
    bucket = template["Resources"]["DataBucket"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["BucketEncryption"]
    (statement,) = template["Resources"]["DataBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_what_people_had_before_no_job_may_delete(template: dict[str, Any]) -> None:
    text = json.dumps(template["Resources"]["JobsUseOtherBuckets"])
    assert "s3:PutObject" in text
    assert "Delete" not in text


# What is shown


def test_the_plan_shows_all_and_changes_nothing(account: Rig, clients: Clients) -> None:
    before = belongings(account)
    account.forget_calls()
    plan = plan_setup(clients=clients)
    assert not [call.action for call in account.calls() if not call.action.startswith(("Describe", "Get", "List"))]
    assert belongings(account) == before == nothing()
    text = str(plan)
    for words in ("ezbatch: Fargate", "ezbatch-spot", "/aws/batch/job, kept 30 days", "0 USD a month", "123456789012"):
        assert words in text
    assert "by an internet gateway" in text
    assert "EC2" not in text


@pytest.mark.usefixtures("account")
def test_options_show_in_the_plan(clients: Clients) -> None:
    plan = plan_setup(
        name="lab",
        max_vcpus=64,
        ec2=True,
        instance_types=["g5"],
        log_days=7,
        bucket=True,
        data=["s3://raw/x/"],
        clients=clients,
    )
    assert plan.queues == ("lab", "lab-spot", "lab-ec2", "lab-ec2-spot")
    text = str(plan)
    for words in ("EC2 (g5), 0 to 64 vCPU", "kept 7 days", "private, encrypted", "s3://raw/x/*"):
        assert words in text
    assert plan.parameters["DataBuckets"] == "arn:aws:s3:::raw"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_vcpus": 0}, "max_vcpus is 0. Give at least 1"),
        ({"log_days": 10}, "cannot keep logs for 10 days. Take 14, or another of 1, 3"),
        ({"log_days": 9999}, "Take 3653"),
        ({"ec2": False, "instance_types": ["g5"]}, "Leave one of the two out"),
        ({"instance_types": ["g5 large"]}, "'g5 large' is no instance type"),
        ({"data": [""]}, "'' names no data"),
        ({"data": ["ok-bucket", "Not A Bucket"]}, "'Not A Bucket' names no data"),
        ({"data": ["s3://raw/*"]}, "without wildcards"),
        ({"data": ["raw/a,b"]}, "commas"),
    ],
)
def test_what_aws_would_refuse_after_the_question_is_refused_before_it(
    account: Rig, clients: Clients, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(BackendError) as refused:
        plan_setup(**options, clients=clients)
    assert said in str(refused.value)
    assert account.calls() == []


def test_data_can_be_taken_back(account: Rig, clients: Clients) -> None:
    setup(data=["raw/x"], clients=clients)
    assert plan_setup(max_vcpus=9, clients=clients).parameters["DataObjects"] == "arn:aws:s3:::raw/x/*"
    assert plan_setup(data=[], clients=clients).changes == (
        "buckets that jobs may use: arn:aws:s3:::raw -> none",
        "data that jobs may use: arn:aws:s3:::raw/x/* -> none",
    )
    setup(data=[], clients=clients)
    assert plan_setup(clients=clients).parameters["DataObjects"] == "none"
    teardown(clients=clients)
    assert belongings(account) == nothing()


def test_no_is_an_answer(account: Rig, clients: Clients) -> None:
    assert setup(confirm=lambda _plan: False, clients=clients) == {}
    assert belongings(account) == nothing()


# The whole way


def test_setup_a_workflow_and_teardown_twice(account: Rig, clients: Clients) -> None:
    for _round in range(2):
        outputs = setup(clients=clients)
        assert outputs["Queue"] == "ezbatch"
        queues = {one["jobQueueName"]: one for one in batch(account).describe_job_queues()["jobQueues"]}
        assert {(name, one["status"], one["state"]) for name, one in queues.items()} == {
            ("ezbatch", "VALID", "ENABLED"),
            ("ezbatch-spot", "VALID", "ENABLED"),
        }
        # A second time finds everything there.
        made = belongings(account)
        assert setup(clients=clients) == outputs
        assert belongings(account) == made
        assert len(account.calls("CreateStack")) == 1
        assert not account.calls("UpdateStack")
        # No setting names a role: the queue does.
        run = EZBatchWorkflow("w", {"a": EZBatchJob("busybox", "echo hello")}).submit("ezbatch")
        run.wait(60, progress=False).raise_for_status()
        assert [event.message for event in run.logs("a")] == ["hello"]
        registered = account.calls("RegisterJobDefinition")[-1].body["containerProperties"]
        assert registered["executionRoleArn"] == outputs["ExecutionRole"]
        assert registered["jobRoleArn"] == outputs["JobRole"]
        assert "ecsTaskExecutionRole" not in " ".join(run.notes)
        assert teardown(clients=clients)
        assert belongings(account) == nothing()
        assert account.definitions("ACTIVE") == []
        assert teardown(clients=clients)
        account.forget_calls()


def test_everything_that_can_be_asked_for_goes_again(account: Rig, clients: Clients) -> None:
    outputs = setup(name="lab", ec2=True, bucket=True, data=["raw"], clients=clients)
    made = belongings(account)
    assert len(made["queues"]) == len(made["environments"]) == 4
    assert len(made["roles"]) == 3
    assert len(made["profiles"]) == 1
    assert made["buckets"] == [outputs["Bucket"]]
    account.client("s3").put_object(Bucket=outputs["Bucket"], Key="result", Body=b"weeks of work")
    with pytest.raises(BackendError, match="holds data"):
        teardown(name="lab", clients=clients)
    assert belongings(account) == made
    assert "data in bucket" in str(plan_teardown(name="lab", clients=clients))
    assert teardown(name="lab", delete_data=True, clients=clients)
    assert belongings(account) == nothing()


def test_an_update_changes_what_was_asked_and_keeps_the_rest(account: Rig, clients: Clients) -> None:
    setup(log_days=7, clients=clients)
    plan = plan_setup(max_vcpus=16, clients=clients)
    assert plan.action == "update"
    assert plan.changes == ("vCPUs at most: 256 -> 16",)
    setup(max_vcpus=16, clients=clients)
    found = batch(account).describe_compute_environments()["computeEnvironments"]
    assert {one["computeResources"]["maxvCpus"] for one in found} == {16}
    assert plan_setup(clients=clients).action == "nothing"
    assert plan_setup(clients=clients).parameters["LogRetentionDays"] == "7"
    setup(ec2=True, clients=clients)
    assert len(belongings(account)["queues"]) == 4
    setup(ec2=False, clients=clients)
    assert len(belongings(account)["queues"]) == 2
    teardown(clients=clients)
    assert belongings(account) == nothing()


def test_live_jobs_stop_a_teardown(account: Rig, clients: Clients) -> None:
    setup(clients=clients)
    account.virtual("manual")
    run = EZBatchWorkflow("w", {"a": EZBatchJob("busybox", "true")}).submit("ezbatch")
    with pytest.raises(BackendError, match="1 of queue ezbatch"):
        teardown(clients=clients)
    assert belongings(account)["queues"] == ["ezbatch", "ezbatch-spot"]
    run.cancel()
    run.wait(30, progress=False)
    assert teardown(clients=clients)


# Interrupted


def steps(act: Callable[[Clients], object]) -> list[int]:
    """Return the numbers of an act's calls, several of one kind in a row as the first of them."""
    clients = Interrupted(Settings.load(), Time())
    act(clients)
    methods = clients.methods
    return [number for number, method in enumerate(methods) if number == 0 or methods[number - 1] != method]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_interrupted_at_every_call_setup_and_teardown_leave_nothing_and_make_nothing_twice(
    account: Rig, *, after: bool
) -> None:
    def there(clients: Clients) -> object:
        return setup(clients=clients)

    def back(clients: Clients) -> object:
        return teardown(clients=clients)

    forth, home = steps(there), steps(back)
    assert len(forth) > 8
    assert belongings(account) == nothing()
    whole = Interrupted(Settings.load(), Time())
    for count, act in [*((n, there) for n in forth), *((n, back) for n in home)]:
        if act is back:
            there(whole)
        broken = Interrupted(Settings.load(), Time(), count, after=after)
        with pytest.raises(KeyboardInterrupt):
            act(broken)
        if act is there:
            assert there(whole)
            made = {kind: len(names) for kind, names in belongings(account).items()}
            assert made == {
                **dict.fromkeys(made, 0),
                "stacks": 1,
                "queues": 2,
                "environments": 2,
                "roles": 2,
                "groups": 1,
                "logs": 1,
            }
        assert back(whole)
        assert belongings(account) == nothing()


@pytest.mark.parametrize("kind", ["reset", "drop", "lost", "throttle", "error", "truncate"])
def test_answers_that_are_lost_make_nothing_twice(account: Rig, clients: Clients, kind: str) -> None:
    for action in ("CreateStack", "DescribeStacks", "DeleteStack"):
        account.faults.script(action, kind, service="cloudformation")
    assert setup(clients=clients)["Queue"] == "ezbatch"
    assert len(belongings(account)["queues"]) == 2
    assert teardown(clients=clients)
    assert belongings(account) == nothing()


def state(rig: Rig, status: str) -> None:
    """Put the stack into a state that moto never reaches."""
    from moto.cloudformation.models import cloudformation_backends

    for one in cloudformation_backends["123456789012"][rig.region].stacks.values():
        one.status = status


@pytest.mark.parametrize("status", ["CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"])
def test_what_is_under_way_is_waited_for(account: Rig, clients: Clients, time: Time, status: str) -> None:
    setup(clients=clients)
    state(account, status)
    time.during.append(lambda: state(account, "CREATE_COMPLETE"))
    began = time.now
    assert setup(clients=clients)["Queue"] == "ezbatch"
    assert time.now > began
    assert len(account.calls("CreateStack")) == 1


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "CREATE_FAILED", "DELETE_FAILED", "REVIEW_IN_PROGRESS"])
def test_what_a_failed_attempt_left_is_removed_first(account: Rig, clients: Clients, status: str) -> None:
    setup(clients=clients)
    state(account, status)
    plans: list[object] = []
    assert setup(confirm=lambda plan: plans.append(plan) or True, clients=clients)  # type: ignore[func-returns-value]
    assert "failed attempt left is removed first" in str(plans[0])
    assert len(belongings(account)["queues"]) == 2
    teardown(clients=clients)
    assert belongings(account) == nothing()


def test_a_stack_that_could_not_go_back_comes_with_what_helps(account: Rig, clients: Clients) -> None:
    setup(clients=clients)
    state(account, "UPDATE_ROLLBACK_FAILED")
    with pytest.raises(BackendError, match=r"continue-update-rollback --stack-name ezbatch.*ezbatch teardown"):
        setup(max_vcpus=9, clients=clients)
    assert not account.calls("UpdateStack")
    assert teardown(clients=clients)
    assert belongings(account) == nothing()


def test_two_at_once_make_one_and_leave_none(account: Rig) -> None:
    def both(act: Callable[[Clients], object]) -> list[object]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(act, [clients_of(Time()), clients_of(Time())]))

    first, second = both(lambda clients: setup(clients=clients))
    assert first == second
    assert len(belongings(account)["queues"]) == 2
    assert len(belongings(account)["roles"]) == 2
    assert both(lambda clients: teardown(clients=clients)) == [True, True]
    assert belongings(account) == nothing()


def test_a_stack_that_never_ends_is_given_up_with_words(account: Rig, clients: Clients) -> None:
    setup(clients=clients)
    state(account, "UPDATE_IN_PROGRESS")
    with pytest.raises(BackendError, match="still UPDATE_IN_PROGRESS after 30 minutes"):
        setup(clients=clients)


# The matrix of accounts


def test_without_a_default_vpc_the_person_is_asked(account: Rig, clients: Clients) -> None:
    from moto.ec2.models import ec2_backends

    for vpc in ec2_backends["123456789012"][account.region].vpcs.values():
        vpc.is_default = False
    own = next(iter(account.client("ec2").describe_vpcs()["Vpcs"]))["VpcId"]
    with pytest.raises(BackendError, match=f"no default VPC. Name one by --vpc .*{own}"):
        plan_setup(clients=clients)
    assert plan_setup(vpc=own, clients=clients).parameters["VpcId"] == own
    with pytest.raises(BackendError, match="there is no VPC 'vpc-x'"):
        plan_setup(vpc="vpc-x", clients=clients)


def closed_vpc(rig: Rig) -> tuple[str, str]:
    ec2 = rig.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.1.0/24")["Subnet"]["SubnetId"]
    return vpc, subnet


def test_subnets_without_a_way_out_are_refused_with_the_remedy(account: Rig, clients: Clients) -> None:
    vpc, subnet = closed_vpc(account)
    with pytest.raises(BackendError, match=f"no way out of {subnet}. Add a default route"):
        plan_setup(vpc=vpc, clients=clients)
    ec2 = account.client("ec2")
    gateway = ec2.create_nat_gateway(SubnetId=subnet, ConnectivityType="private")["NatGateway"]["NatGatewayId"]
    table = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"][0]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=gateway)
    plan = plan_setup(vpc=vpc, clients=clients)
    assert plan.parameters["SubnetIds"] == subnet
    assert "a NAT gateway" in str(plan)


def test_endpoints_are_a_way_out(account: Rig, clients: Clients) -> None:
    vpc, subnet = closed_vpc(account)
    for service in ("ecr.api", "ecr.dkr", "s3", "logs"):
        account.client("ec2").create_vpc_endpoint(
            VpcId=vpc, ServiceName=f"com.amazonaws.us-east-1.{service}", VpcEndpointType="Interface", SubnetIds=[subnet]
        )
    assert "VPC endpoints" in str(plan_setup(subnets=[subnet], clients=clients))


def test_what_has_the_names_already_is_left_alone(account: Rig, clients: Clients) -> None:
    account.queue("ezbatch-spot")
    with pytest.raises(BackendError, match="queues already that no stack made: ezbatch-spot"):
        setup(clients=clients)
    assert setup(name="lab", clients=clients)["Queue"] == "lab"
    account.client("cloudformation").create_stack(
        StackName="theirs",
        TemplateBody=json.dumps({"Description": "shop", "Resources": {"T": {"Type": "AWS::SNS::Topic"}}}),
    )
    for act in (setup, teardown):
        with pytest.raises(BackendError, match="stack theirs is not ezbatch's"):
            act(name="theirs", clients=clients)
    for name in ("", "1st", "two words", "a_b", "x" * 101):
        with pytest.raises(BackendError, match="cannot name a stack"):
            plan_setup(name=name, clients=clients)


def test_a_log_group_that_is_there_stays(account: Rig, clients: Clients) -> None:
    account.client("logs").create_log_group(logGroupName="/aws/batch/job")
    assert "there already, and keeps its logs for ever" in str(plan_setup(clients=clients))
    plan = plan_setup(log_days=7, clients=clients)
    assert "put-retention-policy --log-group-name /aws/batch/job --retention-in-days 7" in str(plan)
    setup(clients=clients)
    # Nothing would come of it, so it is no change either.
    assert plan_setup(log_days=7, clients=clients).action == "nothing"
    teardown(clients=clients)
    assert belongings(account)["logs"] == ["/aws/batch/job"]


def test_ec2_instances_without_a_public_ip_are_noted(account: Rig, clients: Clients) -> None:
    ec2 = account.client("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    ec2.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": False})
    assert f"EC2 instances in {subnet} get no public IP" in str(plan_setup(ec2=True, clients=clients))
    assert "public IP" not in str(plan_setup(clients=clients))


# Settings, and the command


def test_the_users_file_keeps_all_else(tmp_path: Path) -> None:
    from ezbatch.settings import remember

    path = tmp_path / "deep" / "ezbatch.toml"
    env = {"EZBATCH_CONFIG": str(path)}
    assert remember({"queue": "lab"}, env) == path
    assert path.read_text() == '[ezbatch]\nqueue = "lab"\n'
    path.write_text(
        '# mine\n[Settings]\nsse = "aws:kms"\n\n[ezbatch]\nqueue = "old" \nregion = "eu-west-1"\n\n[other]\nx = 1\n'
    )
    path.chmod(0o600)
    remember({"queue": 'a"b', "profile": "p"}, env)
    assert path.read_text() == (
        '# mine\n[Settings]\nsse = "aws:kms"\n\n[ezbatch]\nqueue = "a\\"b"\nregion = "eu-west-1"\nprofile = "p"\n\n'
        "[other]\nx = 1\n"
    )
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text('ezbatch = { queue = "x" }\n')
    from ezbatch.errors import SettingsError

    with pytest.raises(SettingsError, match="cannot be changed line by line"):
        remember({"queue": "lab"}, env)
    assert path.read_text() == 'ezbatch = { queue = "x" }\n'


def test_the_command(
    account: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ezbatch.cli import main

    config = tmp_path / "ezbatch.toml"
    monkeypatch.setenv("EZBATCH_CONFIG", str(config))
    assert main(["setup", "--print-template"]) == 0
    assert capsys.readouterr().out.startswith("AWSTemplateFormatVersion")
    assert main(["setup", "--dry-run"]) == 0
    assert "0 USD a month" in capsys.readouterr().out
    # Nobody to ask, and nobody said yes.
    assert main(["setup"]) == 4
    assert "--yes" in capsys.readouterr().err
    assert belongings(account) == nothing()
    assert not config.exists()
    assert main(["setup", "--yes", "--save"]) == 0
    assert "ezbatch submit -q ezbatch" in capsys.readouterr().err
    assert config.read_text() == '[ezbatch]\nqueue = "ezbatch"\n'
    assert main(["setup", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["Queue"] == "ezbatch"
    assert main(["doctor", "--json"]) in (0, 4)
    assert {one["name"]: one["state"] for one in json.loads(capsys.readouterr().out)}["queue"] == "ok"
    assert main(["teardown", "--dry-run"]) == 0
    assert f"the settings name queue ezbatch ({config})" in capsys.readouterr().out
    assert main(["teardown", "--yes"]) == 0
    assert belongings(account) == nothing()


def answered(answer: str, *words: str) -> tuple[str, str]:
    """Run the command in a terminal of its own, type an answer at its question, and return stdout and the terminal."""
    controller, terminal = pty.openpty()
    try:
        # In a session of its own what is typed reaches it as from a keyboard, Ctrl-C included.
        own_session = [require("setsid"), "--ctty"]
        command = subprocess.Popen(
            [*own_session, sys.executable, "-m", "ezbatch.cli", *words],
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=terminal,
        )
    finally:
        os.close(terminal)
    with os.fdopen(controller, "rb+", buffering=0) as screen:
        shown = b""
        while b"[y/N]" not in shown:
            shown += screen.read(4096)
        screen.write(answer.encode())
        assert command.stdout is not None
        said = command.stdout.read().decode()
        command.stdout.close()
        assert command.wait(60) == 1
        # The terminal's other end is closed now: what is left there is read until the system says so.
        with contextlib.suppress(OSError):
            while more := screen.read(4096):
                shown += more
    return said, shown.decode()


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04", "\x03"], ids=["no", "return", "Ctrl-D", "Ctrl-C"])
def test_every_answer_but_yes_is_a_no(account: Rig, answer: str) -> None:
    said, shown = answered(answer, "setup", "--json")
    # With --json a program reads stdout, and only that.
    assert json.loads(said) == {}
    assert "nothing was made" in shown
    assert "Traceback" not in shown
    assert "goes on" not in shown
    assert belongings(account) == nothing()
