"""The engines that other tests rely on really run containers, really limit and really kill them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import containers

if TYPE_CHECKING:
    from tests.containers import ContainerEngine

pytestmark = pytest.mark.containers

EAT_256_MIB = "dd if=/dev/zero of=/dev/null bs=268435456 count=1"


def test_exit_code_is_the_commands(container_engine: ContainerEngine) -> None:
    image = container_engine.image("ezbatch-test:busybox", "busybox")
    assert container_engine.run("run", "--rm", image, "sh", "-c", "exit 3", check=False).returncode == 3


def test_python_image_has_bash_and_python_with_their_libraries(container_engine: ContainerEngine) -> None:
    image = container_engine.image("python:3.12-slim", "python")
    script = "import ssl, sqlite3, ctypes, json, zlib; print(json.dumps([6 * 7]))"
    done = container_engine.run("run", "--rm", image, "bash", "-c", 'sort <<<"$(python3 -c "$0")"', script)
    assert done.stdout == "[42]\n"


def test_busybox_image_has_no_bash_and_no_python(container_engine: ContainerEngine) -> None:
    image = container_engine.image("alpine:3", "busybox")
    looked = container_engine.run("run", "--rm", image, "sh", "-c", "command -v sh bash python3", check=False)
    assert looked.stdout.split() == ["sh"]


@pytest.mark.parametrize(
    "name",
    ["python:3.12-slim", "docker.io/library/python:3.12-slim", "public.ecr.aws/ubuntu/ubuntu:22.04", "someone/tool:1"],
)
def test_image_under_any_name_is_never_pulled(container_engine: ContainerEngine, name: str) -> None:
    container_engine.image(name, "busybox")
    assert container_engine.run("run", "--rm", "--pull=never", name, "echo", "here").stdout == "here\n"


def test_image_takes_more_programs(container_engine: ContainerEngine) -> None:
    image = container_engine.image("with-sort:1", "busybox", {"opt/tools/factor": Path(containers.require("factor"))})
    assert container_engine.run("run", "--rm", image, "/opt/tools/factor", "42").stdout == "42: 2 3 7\n"


def test_kill_gives_137(container_engine: ContainerEngine) -> None:
    image = container_engine.image("ezbatch-test:busybox", "busybox")
    container = container_engine.run("run", "--detach", image, "sleep", "600").stdout.strip()
    started = time.monotonic()
    container_engine.run("kill", container)
    assert container_engine.run("wait", container).stdout.strip() == "137"
    assert time.monotonic() - started < 30
    container_engine.run("rm", container)


def test_memory_limit_kills(container_engine: ContainerEngine) -> None:
    image = container_engine.image("ezbatch-test:busybox", "busybox")
    limits = ["--memory", "64m", "--memory-swap", "64m"]
    container = container_engine.run("run", "--detach", *limits, image, *EAT_256_MIB.split()).stdout.strip()
    container_engine.run("wait", container)
    state = container_engine.inspect(container)["State"]
    assert state["OOMKilled"] or state["ExitCode"] == 137
    container_engine.run("rm", container)


def test_volume_is_seen_from_both_sides(container_engine: ContainerEngine, tmp_path: Path) -> None:
    image = container_engine.image("ezbatch-test:busybox", "busybox")
    (tmp_path / "in").write_text("hello\n")
    container_engine.run(
        "run", "--rm", "--volume", f"{tmp_path}:/data", image, "sh", "-c", "tr a-z A-Z </data/in >/data/out"
    )
    assert (tmp_path / "out").read_text() == "HELLO\n"


def test_log_holds_both_streams_after_the_end(container_engine: ContainerEngine) -> None:
    image = container_engine.image("ezbatch-test:busybox", "busybox")
    container = container_engine.run("run", "--detach", image, "sh", "-c", "echo out; echo err >&2").stdout.strip()
    container_engine.run("wait", container)
    log = container_engine.run("logs", container)
    assert (log.stdout, log.stderr) == ("out\n", "err\n")
    container_engine.run("rm", container)


def test_network_is_the_hosts_when_asked(container_engine: ContainerEngine) -> None:
    image = container_engine.image("python:3.12-slim", "python")
    script = "import socket; print(socket.socket().bind(('127.0.0.1', 0)))"
    assert container_engine.run("run", "--rm", "--network", "host", image, "python3", "-c", script).stdout == "None\n"


def test_session_directory_disappears_with_the_engine() -> None:
    with containers.docker_engine() as engine:
        image = engine.image("ezbatch-test:busybox", "busybox")
        engine.run("run", "--detach", image, "sleep", "600")
        root = engine.root
    assert not root.exists()
    assert str(root) not in Path("/proc/mounts").read_text()


def test_missing_tool_fails_on_ci_and_skips_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "ON_CI", True)
    with pytest.raises(pytest.fail.Exception, match="apt-get install no-such-tool"):
        containers.require("no-such-tool")
    monkeypatch.setattr(containers, "ON_CI", False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install no-such-tool"):
        containers.require("no-such-tool")
