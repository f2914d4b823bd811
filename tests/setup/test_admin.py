"""Queues and compute environments by hand: paging, waiting, and states as AWS tells them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ezbatch import EZBatchJob, EZBatchWorkflow
from ezbatch.aws import admin
from ezbatch.aws.clients import Clients
from ezbatch.cli import main
from ezbatch.errors import BackendError
from ezbatch.settings import Settings
from tests.aws.rig import Rig
from tests.setup.conftest import Time, clients_of


def test_from_nothing_to_a_job_and_back(account: Rig, clients: Clients) -> None:
    environment = admin.create_environment("room", max_vcpus=16, clients=clients)
    assert (environment.platform, environment.state, environment.status) == ("FARGATE", "ENABLED", "VALID")
    assert environment.max_vcpus == 16
    assert environment.subnets
    role = account.execution_role
    queue = admin.create_queue("q", ["room"], tags={"ezbatch:execution-role": role}, clients=clients)
    assert (queue.state, queue.status, queue.environments) == ("ENABLED", "VALID", ("room",))
    run = EZBatchWorkflow("w", {"a": EZBatchJob("busybox", "true")}).submit("q")
    run.wait(60, progress=False).raise_for_status()
    with pytest.raises(BackendError, match="used by queue q"):
        admin.delete_environment("room", clients=clients)
    admin.delete_queue("q", clients=clients)
    admin.delete_environment("room", clients=clients)
    assert admin.list_queues(clients=clients) == []
    assert admin.list_environments(clients=clients) == []


def test_turned_off_and_on(account: Rig, clients: Clients) -> None:
    account.queue("q")
    assert admin.disable_queue("q", clients=clients).state == "DISABLED"
    assert admin.enable_queue("q", clients=clients).state == "ENABLED"
    assert admin.disable_environment("q-ce", clients=clients).state == "DISABLED"
    assert admin.enable_environment("q-ce", clients=clients).state == "ENABLED"
    assert admin.update_environment("q-ce", max_vcpus=7, clients=clients).max_vcpus == 7
    assert admin.list_environments(clients=clients)[0].max_vcpus == 7


def test_every_page_is_read(account: Rig, clients: Clients) -> None:
    for number in range(7):
        account.queue(f"q{number}")
    account.options.page_size = 3
    assert [one.name for one in admin.list_queues(clients=clients)] == [f"q{n}" for n in range(7)]
    assert [one.name for one in admin.list_environments(clients=clients)] == [f"q{n}-ce" for n in range(7)]
    assert len(account.calls("DescribeJobQueues")) == 3


class Slow(Clients):
    """Clients of an AWS that takes its time: what is described is CREATING at the first looks."""

    def __init__(self, time: Time, looks: int, status: str = "VALID") -> None:
        super().__init__(Settings.load(), time.sleep, time)
        self._clients = clients_of(time)._clients
        self.looks, self.status = looks, status

    def once(self, service: str, method: str, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401 - the calls' own
        answer = super().once(service, method, **parameters)
        for item in (*answer.get("jobQueues", ()), *answer.get("computeEnvironments", ())):
            self.looks -= 1
            item["status"] = "CREATING" if self.looks >= 0 else self.status
            item["statusReason"] = "" if self.looks >= 0 else "CLIENT_ERROR - no such role"
        return answer


@pytest.mark.parametrize(
    "act",
    [
        lambda clients: admin.create_environment("room", clients=clients),
        lambda clients: admin.enable_queue("q", clients=clients),
        lambda clients: admin.update_environment("q-ce", max_vcpus=3, clients=clients),
    ],
    ids=["create", "enable", "update"],
)
def test_a_state_is_waited_for_and_told_true(account: Rig, time: Time, act: Callable[[Clients], Any]) -> None:
    account.queue("q")
    assert act(Slow(time, 5)).status == "VALID"
    assert time.now > 0
    if account.client("batch").describe_compute_environments(computeEnvironments=["room"])["computeEnvironments"]:
        account.client("batch").delete_compute_environment(computeEnvironment="room")
    with pytest.raises(BackendError, match="INVALID: CLIENT_ERROR - no such role"):
        act(Slow(time, 3, "INVALID"))
    if account.client("batch").describe_compute_environments(computeEnvironments=["room"])["computeEnvironments"]:
        account.client("batch").delete_compute_environment(computeEnvironment="room")
    with pytest.raises(BackendError, match="still CREATING after 10 minutes"):
        act(Slow(time, 10_000))


def test_what_cannot_be_is_refused_before_any_change(account: Rig, clients: Clients) -> None:
    account.queue("f")
    account.queue("e", platform="EC2")
    account.forget_calls()
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: admin.create_environment("a b", clients=clients), "cannot name a compute environment"),
        (lambda: admin.create_environment("room", platform="FARGAT", clients=clients), "no platform 'FARGAT'"),
        (lambda: admin.create_environment("room", max_vcpus=0, clients=clients), "at least 1"),
        (lambda: admin.create_environment("f-ce", clients=clients), "already"),
        (lambda: admin.create_queue("q", [], clients=clients), "1 to 3"),
        (lambda: admin.create_queue("q", ["x"], clients=clients), "no compute environment 'x'"),
        (lambda: admin.create_queue("q", ["f-ce", "e-ce"], clients=clients), "Fargate and EC2 at once"),
        (lambda: admin.create_queue("f", ["f-ce"], clients=clients), "already"),
        (lambda: admin.enable_queue("ff", clients=clients), "no queue 'ff'"),
        (lambda: admin.update_environment("f-ce", max_vcpus=0, clients=clients), "at least 1"),
        (lambda: admin.delete_environment("nope", clients=clients), "no compute environment 'nope'"),
    ]
    for act, words in refused:
        with pytest.raises(BackendError, match=words):
            act()
    assert not [call.action for call in account.calls(service="batch") if not call.action.startswith("Describe")]


def test_a_lost_answer_makes_nothing_twice(account: Rig, clients: Clients) -> None:
    account.faults.script("CreateComputeEnvironment", "drop")
    account.faults.script("CreateJobQueue", "lost")
    admin.create_environment("room", clients=clients)
    admin.create_queue("q", ["room"], clients=clients)
    assert [one.name for one in admin.list_environments(clients=clients)] == ["room"]
    assert [one.name for one in admin.list_queues(clients=clients)] == ["q"]


def test_a_queue_with_live_jobs_is_kept(account: Rig, clients: Clients) -> None:
    account.queue("q")
    account.execution_role  # noqa: B018 - makes the role
    account.virtual("manual")
    EZBatchWorkflow("w", {"a": EZBatchJob("busybox", "true")}).submit("q")
    with pytest.raises(BackendError, match="1 jobs of queue q have not ended"):
        admin.delete_queue("q", clients=clients)
    assert admin.list_queues(clients=clients)[0].state == "ENABLED"


def test_the_commands(account: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["environment", "create", "room", "-p", "fargate_spot", "--max-vcpus", "8"]) == 0
    assert capsys.readouterr().out == "room: ENABLED, VALID\n"
    assert main(["queue", "create", "q", "room", "--priority", "5"]) == 0
    assert main(["environment", "list"]) == 0
    assert "FARGATE_SPOT" in capsys.readouterr().out
    assert main(["queue", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert (listed[0]["name"], listed[0]["priority"], listed[0]["environments"]) == ("q", 5, ["room"])
    assert main(["environment", "update", "room", "--max-vcpus", "9", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["max_vcpus"] == 9
    assert main(["environment", "disable", "room"]) == 0
    assert main(["queue", "disable", "q"]) == 0
    assert main(["environment", "delete", "room"]) == 4
    assert "ezbatch queue delete q" in capsys.readouterr().err
    assert main(["queue", "delete", "q"]) == 0
    assert capsys.readouterr().out == "q: deleted\n"
    assert main(["environment", "delete", "room", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "room", "gone": True}
    assert admin.list_environments() == []
    assert account.violations == []
