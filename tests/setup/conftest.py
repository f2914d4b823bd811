"""An account as AWS hands it out: a default VPC whose subnets reach the internet, and nothing of Batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ezbatch.aws.clients import Clients
from ezbatch.settings import Settings
from tests.aws.fixtures import aws_env, aws_rig
from tests.aws.rig import Rig
from tests.setup import cloudformation

__all__ = ["aws_env", "aws_rig"]


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.during: list[Callable[[], None]] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for act in self.during:
            act()

    def __call__(self) -> float:
        return self.now


class Interrupted(Clients):
    """Clients whose person presses Ctrl-C at one of the calls, before it went out or after it was answered."""

    def __init__(self, settings: Settings, time: Time, at: int = -1, *, after: bool = False) -> None:
        super().__init__(settings, time.sleep, time)
        self._clients = _made
        self.at, self.after = at, after
        self.methods: list[str] = []

    def once(self, service: str, method: str, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401 - the calls' own
        number = len(self.methods)
        self.methods.append(method)
        if number == self.at and not self.after:
            raise KeyboardInterrupt
        try:
            return super().once(service, method, **parameters)
        finally:
            if number == self.at:
                raise KeyboardInterrupt


#: boto3's own clients take a second to make, and the rig's endpoint stays the same for the process.
_made: dict[str, Any] = {}


def clients_of(time: Time) -> Clients:
    clients = Clients(Settings.load(), time.sleep, time)
    clients._clients = _made
    return clients


def open_vpc(rig: Rig) -> str:
    """Give the default VPC what AWS gives it and moto does not: an internet gateway and a route to it."""
    ec2 = rig.client("ec2")
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"]
    ec2.create_route(RouteTableId=tables[0]["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    return str(vpc)


@pytest.fixture
def account(aws_env: Rig) -> Rig:
    """A new account whose default VPC reaches the internet."""
    cloudformation.fill()
    open_vpc(aws_env)
    aws_env.forget_calls()
    return aws_env


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def clients(account: Rig, time: Time) -> Clients:  # noqa: ARG001 - it has to be there
    return clients_of(time)


def belongings(rig: Rig) -> dict[str, list[str]]:
    """Everything that setup may make, by kind, as the account has it now."""
    batch, iam, ec2, logs, s3 = (rig.client(name) for name in ("batch", "iam", "ec2", "logs", "s3"))
    stacks = rig.client("cloudformation").describe_stacks()["Stacks"]
    found = {
        "stacks": [stack["StackName"] for stack in stacks],
        "queues": [queue["jobQueueName"] for queue in batch.describe_job_queues()["jobQueues"]],
        "environments": [
            environment["computeEnvironmentName"]
            for environment in batch.describe_compute_environments()["computeEnvironments"]
        ],
        # AWS Batch's service-linked role belongs to the account.
        "roles": [r["RoleName"] for r in iam.list_roles()["Roles"] if "aws-service-role" not in r["Path"]],
        "profiles": [profile["InstanceProfileName"] for profile in iam.list_instance_profiles()["InstanceProfiles"]],
        "groups": [
            group["GroupName"]
            for group in ec2.describe_security_groups()["SecurityGroups"]
            if group["GroupName"] != "default"
        ],
        "logs": [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]],
        "buckets": [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]],
    }
    return {kind: sorted(names) for kind, names in found.items()}


def nothing() -> dict[str, list[str]]:
    return {kind: [] for kind in ("stacks", "queues", "environments", "roles", "profiles", "groups", "logs", "buckets")}
