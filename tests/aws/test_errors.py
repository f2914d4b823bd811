"""What AWS and the SDK say when nothing works yet, in words a person can act on, within seconds."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time

import pytest

from ezbatch import Settings
from ezbatch.aws.backend import AWSBackend
from ezbatch.aws.clients import Clients
from ezbatch.errors import BackendError, EZBatchError, InvalidWorkflowError, UnreachableError

from .answers import answering, serving
from .product import QUEUE, Pace, backend_of, flow, start
from .rig import Rig

IN_SECONDS = 20.0


def refusal(queue: str = QUEUE, backend: AWSBackend | None = None) -> EZBatchError:
    """Return what submitting says, by the product as it is, at its own pace, unless a backend is given."""
    began = time.monotonic()
    with pytest.raises(EZBatchError) as caught:
        flow("a").submit(queue, backend=backend)
    assert time.monotonic() - began < IN_SECONDS
    return caught.value


@pytest.fixture(autouse=True)
def an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials and a Region, of which each test spoils one."""
    for name, value in (("ACCESS_KEY_ID", "testing"), ("SECRET_ACCESS_KEY", "testing"), ("REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")


def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    error = refusal()
    assert isinstance(error, BackendError)
    assert "no AWS credentials were found. Log in" in str(error)
    assert "queue='local'" in str(error)


def test_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    assert "no AWS Region is set. Set AWS_REGION" in str(refusal())


def test_the_region_may_stand_where_boto3_does_not_look(monkeypatch: pytest.MonkeyPatch, rig: Rig) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert [queue.name for queue in backend_of().queues()] == [QUEUE]
    assert rig.calls("DescribeJobQueues")


def test_a_profile_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "profile (nobody) could not be found. Name a profile" in str(refusal())


@pytest.mark.parametrize(
    ("status", "code", "message", "said"),
    [
        (403, "ExpiredTokenException", "The security token included in the request is expired", "login has expired"),
        (403, "UnrecognizedClientException", "The security token is invalid", "AWS does not know these credentials"),
        (403, "InvalidSignatureException", "Signature expired", "Check the secret key and this machine's clock"),
        (
            403,
            "AccessDeniedException",
            "User: arn:aws:iam::1:user/me is not authorized to perform: batch:DescribeJobQueues on resource: *",
            "the credentials lack the right to batch:DescribeJobQueues",
        ),
        (403, "AccessDeniedException", "No.", "the credentials lack the right to batch:DescribeJobQueues"),
        (400, "ClientException", "Bad thing", "AWS refused batch:DescribeJobQueues: Bad thing"),
    ],
)
def test_what_aws_refuses(monkeypatch: pytest.MonkeyPatch, status: int, code: str, message: str, said: str) -> None:
    with answering(status, code, message) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        assert said in str(refusal())


def test_a_new_login_is_noticed(rig: Rig) -> None:
    # The same clients, first refused for an expired login, then with the login that was written meanwhile.
    clients = Clients(Settings.load())
    with answering(403, "ExpiredTokenException", "expired") as url, pytest.MonkeyPatch.context() as changed:
        changed.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(BackendError, match="Log in again"):
            clients.call("batch", "describe_job_queues")
    assert len(clients.call("batch", "describe_job_queues")["jobQueues"]) == 1
    assert rig.calls("DescribeJobQueues")


@pytest.mark.parametrize("status", [500, 503])
def test_a_service_that_fails(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with answering(status, "ServerException", "we are down") as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        error = refusal(backend=backend_of())
    assert isinstance(error, UnreachableError)
    assert "AWS did not answer batch:DescribeJobQueues" in str(error)


@pytest.mark.parametrize(("status", "page"), [(404, b""), (302, b""), (403, b"<html>Forbidden by policy</html>")])
def test_an_answer_that_is_not_from_aws(monkeypatch: pytest.MonkeyPatch, status: int, page: bytes) -> None:
    with serving(status, page, {"Content-Type": "text/html"}) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        error = refusal(backend=backend_of())
    assert isinstance(error, UnreachableError)
    shown = f"HTTP {status}: {page.decode()}" if page else f"HTTP {status}"
    assert f"something else answered ({shown}). Check the network" in str(error)


def test_an_endpoint_that_refuses_connections() -> None:
    error = refusal()
    assert isinstance(error, UnreachableError)
    assert "AWS cannot be reached for batch:DescribeJobQueues" in str(error)
    assert "Check the network, the Region and the proxy" in str(error)


def test_an_endpoint_that_swallows_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its backlog is full, so that the kernel answers no SYN any more: what a firewall looks like.
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for other in (first, second):
            other.setblocking(False)  # noqa: FBT003 - its only parameter
            other.connect_ex(server.getsockname())
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert isinstance(refusal(), UnreachableError)


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://batch.nowhere.invalid")
    assert isinstance(refusal(backend=backend_of()), UnreachableError)


def test_an_unknown_queue_comes_with_the_nearest_known(rig: Rig) -> None:
    rig.queue("highmem")
    error = refusal(queue="hihmem")
    assert isinstance(error, InvalidWorkflowError)
    assert "there is no queue 'hihmem'" in str(error)
    assert "'highmem'" in str(error)
    assert "there are ezbatch, highmem" in str(error)
    assert rig.calls("SubmitJob") + rig.calls("Register*") == []


def test_throttling_is_waited_out_however_long_and_a_person_is_told(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.faults.script("*", *["throttle"] * 60)
    with caplog.at_level(logging.WARNING):
        run = start(flow("a"), backend_of(Pace(200)))
    assert run.accepted == 1
    assert len([kind for _action, kind in rig.faults.injected if kind == "throttle"]) == 60
    assert "AWS throttles DescribeJobQueues; this waits for as long as it lasts" in caplog.text


def test_other_clients_for_another_account(rig: Rig) -> None:
    # One set of clients for a process and account; another endpoint or login is another account.
    first = AWSBackend(Settings.load())
    assert AWSBackend(Settings.load()).clients is first.clients
    assert AWSBackend(Settings.load()).watcher is first.watcher
    with answering(403, "AccessDeniedException", "No.") as url, pytest.MonkeyPatch.context() as changed:
        changed.setenv("AWS_ENDPOINT_URL", url)
        other = AWSBackend(Settings.load())
        assert other.clients is not first.clients
        with pytest.raises(BackendError, match="lack the right"):
            other.queues()
    assert [queue.name for queue in first.queues()] == [QUEUE]
    assert rig.calls("DescribeJobQueues")


_FORKED = """
import os, threading
from ezbatch import Settings
from ezbatch.aws.backend import AWSBackend

backend = AWSBackend(Settings.load())
print([queue.name for queue in backend.queues()])
clients, watcher = backend.clients, backend.watcher
# As if another thread were calling at this very moment: its locks stay locked in the child.
held = [clients._lock, watcher._gate, watcher._turn, watcher._limiter._lock, clients.submits._lock]
for lock in held:
    lock.acquire()
if os.fork() == 0:
    assert backend.clients is not clients
    print([queue.name for queue in backend.queues()], backend.watcher.look(["no-such-job"]), flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_forked_process_has_clients_of_its_own(rig: Rig) -> None:
    done = subprocess.run([sys.executable, "-c", _FORKED], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.split("\n") == ["['ezbatch']", "['ezbatch'] {}", "0", ""], done.stderr
    assert len(rig.calls("DescribeJobQueues")) == 2
