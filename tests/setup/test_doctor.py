"""Doctor: each thing that can be wrong, the line that says so and the command that mends it."""

from __future__ import annotations

import email.utils
import fnmatch
import json
import os
import re
import socket
import threading
import time as real
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

import ezbatch
from ezbatch.aws.checkup import ACTIONS, checkup
from ezbatch.aws.clients import Clients
from ezbatch.aws.setup import setup
from ezbatch.cli import main
from ezbatch.diagnosis import OK, SKIPPED, UNKNOWN, WRONG, Check, doctor
from ezbatch.images import ImageProblem, architectures, registry_of
from ezbatch.settings import Settings
from tests.aws.rig import Rig
from tests.setup.conftest import Time, clients_of, open_vpc


def found(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def aws(queue: str = "ezbatch") -> dict[str, Check]:
    # What moto lacks is asked for again and again; those seconds are the test's own.
    clients = clients_of(Time()) if "AWS_ENDPOINT_URL" in os.environ else None
    return found([Check(*finding) for finding in checkup(queue, Settings.load(), clients)])


def test_no_credentials_and_no_network_still_check_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    began = real.monotonic()
    checks = found(doctor())
    assert real.monotonic() - began < 30
    assert checks["settings"].state == OK
    assert checks["state directory"].state == OK
    assert checks["local jobs"].state == OK
    assert {"DAG engine", "widgets"} <= set(checks)
    # Nobody needs an account for this machine.
    assert checks["Region"].state == checks["credentials"].state == SKIPPED
    region = aws("ezbatch")["Region"]
    assert region.state == WRONG
    assert "AWS_REGION" in region.remedy


def test_a_runner_that_is_set_is_the_one_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "process")
    found = {check.name: check for check in doctor()}["local jobs"]
    assert found.state == OK
    assert "plain processes" in found.found
    assert "set to process by environment variable EZBATCH_LOCAL_RUNNER" in found.found
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "docker")
    monkeypatch.setenv("PATH", "/nowhere")
    assert {check.name: check for check in doctor()}["local jobs"].state == WRONG


def test_with_a_queue_missing_credentials_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    checks = aws("ezbatch")
    assert checks["Region"] == Check("Region", OK, "us-east-1 (from environment variable AWS_REGION)")
    assert checks["credentials"].state == WRONG
    assert "aws sso login" in checks["credentials"].remedy
    assert checks["AWS"].state == SKIPPED


def test_a_region_that_is_none_comes_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-centrl-1")
    region = aws("ezbatch")["Region"]
    assert region.state == UNKNOWN
    assert "'eu-centrl-1' (did you mean 'eu-central-1'?)" in region.found
    assert "AWS_REGION" in region.remedy


def test_who_cannot_reach_aws_is_not_told_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    time = Time()
    checks = found([Check(*one) for one in checkup("ezbatch", settings, Clients(settings, time.sleep, time))])
    assert checks["AWS"].state == WRONG
    assert "network" in checks["AWS"].remedy
    assert checks["credentials"].state == SKIPPED
    assert checks["credentials"].remedy == ""


@pytest.mark.usefixtures("account")
def test_each_thing_is_one_line() -> None:
    # moto answers a page in HTML where it should simulate a policy.
    checks = found(doctor("ezbatch"))
    assert checks["permissions"].state == UNKNOWN
    for check in checks.values():
        assert "\n" not in check.found + check.remedy
        assert len(check.found) <= 300


def test_settings_that_cannot_be_read_are_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "e.toml"
    path.write_text("queue = = x")
    monkeypatch.setenv("EZBATCH_CONFIG", str(path))
    checks = found(ezbatch.doctor())
    assert checks["settings"].state == WRONG
    assert str(path) in checks["settings"].found


def test_a_network_that_swallows_everything_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # Accepts and never answers: the worst that a proxy does.
    with socket.create_server(("127.0.0.1", 0)) as server:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.getsockname()[1]}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
        }.items():
            monkeypatch.setenv(name, value)
        began = real.monotonic()
        checks = found(doctor("ezbatch", limit=2))
        assert real.monotonic() - began < 10
    assert checks["AWS"].state == UNKNOWN
    assert "no answer within 2 s" in checks["AWS"].found
    assert checks["settings"].state == OK


@pytest.mark.usefixtures("account")
def test_after_setup_everything_is_well(clients: Clients) -> None:
    setup(clients=clients)
    checks = aws()
    for name in ("credentials", "clock", "queue", "compute environment", "way out", "execution role", "job role"):
        assert checks[name].state == OK, checks[name]
    assert "ezbatch-FargateEnvironment" in checks["compute environment"].found
    assert "by an internet gateway" in checks["way out"].found
    assert "kept 30 days" in checks["log group"].found
    # moto simulates no policy and knows no quota: what cannot be seen is not called well.
    assert checks["permissions"].state == UNKNOWN
    assert checks["vCPU quota"].state == UNKNOWN


@pytest.mark.usefixtures("account")
def test_an_empty_account_is_told_to_set_up() -> None:
    checks = aws("local")
    assert checks["queue"].found == "local; on AWS there is none"
    assert "ezbatch setup" in checks["queue"].remedy
    checks = aws("ezbatch")
    assert checks["queue"].state == WRONG
    assert checks["queue"].remedy == "ezbatch setup"
    assert checks["compute environment"].state == SKIPPED
    assert checks["log group"].state == UNKNOWN


def test_each_thing_that_is_wrong_comes_with_what_mends_it(account: Rig) -> None:
    account.queue()
    account.set_environment("ezbatch", state="DISABLED")
    batch = account.client("batch")
    batch.update_job_queue(jobQueue="ezbatch", state="DISABLED")
    checks = aws()
    assert checks["queue"].found == "ezbatch is DISABLED"
    assert checks["queue"].remedy == "ezbatch queue enable ezbatch"
    assert checks["compute environment"].remedy == "ezbatch environment enable ezbatch-ce"
    assert checks["execution role"].state == WRONG
    assert "there is no role ecsTaskExecutionRole" in checks["execution role"].found
    assert "not even to S3" in checks["job role"].found
    # What the lines say mends it.
    assert main(["queue", "enable", "ezbatch"]) == 0
    assert main(["environment", "enable", "ezbatch-ce"]) == 0
    account.execution_role  # noqa: B018 - makes the role
    checks = aws()
    assert checks["queue"].state == checks["compute environment"].state == OK
    assert "ECS may not use role ecsTaskExecutionRole" in checks["execution role"].found
    account.set_environment("ezbatch", invalid="CLIENT_ERROR - no such subnet")
    assert "INVALID: CLIENT_ERROR - no such subnet" in aws()["compute environment"].found
    near = aws("ezbach")["queue"]
    assert "ezbatch" in near.found


def test_a_subnet_without_a_way_out(aws_env: Rig) -> None:
    aws_env.queue()
    checks = aws()
    assert checks["way out"].state == WRONG
    assert "images cannot be pulled" in checks["way out"].found
    assert "internet or NAT gateway" in checks["way out"].remedy
    open_vpc(aws_env)
    assert aws()["way out"].state == OK


@pytest.mark.usefixtures("account")
def test_a_wrong_clock_is_seen_by_the_answers_date() -> None:
    class Late(Clients):
        def once(self, service: str, method: str, **parameters: Any) -> Any:  # noqa: ANN401 - the calls' own
            answer = dict(super().once(service, method, **parameters))
            headers = {"date": email.utils.formatdate(real.time() - 120, usegmt=True)}
            return {**answer, "ResponseMetadata": {"HTTPHeaders": headers}}

    settings = Settings.load()
    checks = found([Check(*one) for one in checkup("local", settings, Late(settings))])
    assert checks["clock"].state == WRONG
    assert re.search(r"1[12]\d s ahead of", checks["clock"].found)
    assert "set-ntp" in checks["clock"].remedy


class Simulating(Clients):
    """Clients of an account whose IAM simulates, and whose quotas can be read: moto has neither."""

    #: Right -> the pattern of what it is given for; all others are given for everything.
    narrow: ClassVar[dict[str, str]] = {}
    quota: ClassVar[float] = 6.0

    def may(self, action: str, resource: str) -> bool:
        return action not in self.narrow or fnmatch.fnmatchcase(resource, self.narrow[action])

    def once(self, service: str, method: str, **parameters: Any) -> Any:  # noqa: ANN401 - the calls' own
        if method == "simulate_principal_policy":
            assert parameters["PolicySourceArn"].startswith("arn:aws:")
            (resource,) = parameters["ResourceArns"]
            return {
                "EvaluationResults": [
                    {"EvalActionName": one, "EvalDecision": "allowed" if self.may(one, resource) else "implicitDeny"}
                    for one in parameters["ActionNames"]
                ]
            }
        if method == "get_service_quota":
            return {"Quota": {"Value": self.quota}}
        return super().once(service, method, **parameters)


def test_missing_rights_are_named(account: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    account.queue()
    settings = Settings.load()

    def look() -> dict[str, Check]:
        return found([Check(*one) for one in checkup("ezbatch", settings, Simulating(settings))])

    checks = look()
    assert checks["permissions"].found.startswith(f"all {len(ACTIONS)}")
    assert checks["vCPU quota"].found == "6 vCPU at once on Fargate"
    assert "Service Quotas" in checks["vCPU quota"].remedy
    monkeypatch.setattr(Simulating, "narrow", {"batch:SubmitJob": "", "iam:PassRole": ""})
    checks = look()
    assert checks["permissions"].state == WRONG
    assert "may not batch:SubmitJob, iam:PassRole" in checks["permissions"].found


def test_rights_for_the_queues_own_things_alone_are_enough(account: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    account.queue()
    settings = Settings.load()

    def look(queue: str) -> Check:
        return found([Check(*one) for one in checkup(queue, settings, Simulating(settings))])["permissions"]

    # What a careful administrator gives.
    careful = {
        "iam:PassRole": "arn:aws:iam::123456789012:role/ecsTaskExecutionRole",
        "batch:SubmitJob": "arn:aws:batch:us-east-1:123456789012:job-*/*",
        "batch:TerminateJob": "arn:aws:batch:us-east-1:123456789012:job/*",
        "logs:GetLogEvents": "arn:aws:logs:*:123456789012:log-group:/aws/batch/job:*",
    }
    monkeypatch.setattr(Simulating, "narrow", careful)
    assert look("ezbatch").state == OK
    # Without a queue it is not known for which.
    assert look("local").state == UNKNOWN
    assert "iam:PassRole" in look("local").found
    monkeypatch.setattr(Simulating, "narrow", {**careful, "iam:PassRole": "arn:aws:iam::123456789012:role/other"})
    assert look("ezbatch").found == "these credentials may not iam:PassRole"


@pytest.mark.usefixtures("account")
def test_the_command_says_it_with_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "-q", "ezbatch"]) == 4
    out = capsys.readouterr().out
    assert "✖ queue" in out
    assert "-> ezbatch setup" in out
    assert main(["doctor", "-q", "ezbatch", "--json"]) == 4
    assert {"name", "state", "found", "remedy"} == set(json.loads(capsys.readouterr().out)[0])


# Images


class Registry(BaseHTTPRequestHandler):
    """A registry that wants a token, as Docker Hub does."""

    manifests: ClassVar[dict[str, Any]] = {}
    delay: ClassVar[float] = 0.0

    def do_GET(self) -> None:
        real.sleep(self.delay)
        if self.path.startswith("/token"):
            return self._answer(200, {"token": "t"})
        if self.headers.get("Authorization") != "Bearer t":
            host = self.headers["Host"]
            return self._answer(401, {}, f'Bearer realm="http://{host}/token",service="r",scope="pull"')
        found = self.manifests.get(self.path)
        return self._answer(404 if found is None else 200, found or {})

    def _answer(self, code: int, body: Any, challenge: str = "") -> None:  # noqa: ANN401 - JSON
        raw = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(raw)))
        if challenge:
            self.send_header("WWW-Authenticate", challenge)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        Registry.manifests = {
            "/v2/lab/both/manifests/1": {
                "manifests": [
                    {"platform": {"architecture": "amd64"}},
                    {"platform": {"architecture": "arm64"}},
                    {"platform": {"architecture": "unknown"}},
                ]
            },
            "/v2/lab/one/manifests/latest": {"config": {"digest": "sha256:c"}},
            "/v2/lab/one/blobs/sha256:c": {"architecture": "arm64"},
        }
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_registry_is_asked_for_processors(registry: str) -> None:
    assert architectures(f"{registry}/lab/both:1") == ("X86_64", "ARM64")
    assert architectures(f"{registry}/lab/one") == ("ARM64",)
    with pytest.raises(ImageProblem, match="has no lab/one with the tag or digest 9"):
        architectures(f"{registry}/lab/one:9")
    with pytest.raises(ImageProblem, match="cannot be asked"):
        architectures("127.0.0.1:1/x")
    checks = found(doctor(image=f"{registry}/lab/one"))
    assert checks["image"].state == WRONG
    assert "for ARM64 only" in checks["image"].found
    assert "architecture='ARM64'" in checks["image"].remedy
    assert found(doctor(image=f"{registry}/lab/one", architecture="ARM64"))["image"].state == OK
    assert found(doctor(image="127.0.0.1:1/x"))["image"].state == UNKNOWN


@pytest.mark.parametrize(
    ("image", "registry", "name", "reference"),
    [
        ("busybox", "registry-1.docker.io", "library/busybox", "latest"),
        ("lab/tool:2.1", "registry-1.docker.io", "lab/tool", "2.1"),
        ("docker.io/lab/tool", "registry-1.docker.io", "lab/tool", "latest"),
        ("public.ecr.aws/docker/library/python:3.12", "public.ecr.aws", "docker/library/python", "3.12"),
        ("localhost:5000/x@sha256:ab", "localhost:5000", "x", "sha256:ab"),
        ("ghcr.io/o/x:1@sha256:ab", "ghcr.io", "o/x", "sha256:ab"),
    ],
)
def test_an_images_name_tells_its_registry(image: str, registry: str, name: str, reference: str) -> None:
    assert registry_of(image) == (registry, name, reference)
