"""What else an image and a job's environment may hold or lack."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ezbatch.preloader import EXIT_DOWNLOAD, EXIT_NO_CLIENT, wrap
from ezbatch.s3 import S3Mount
from tests.preloader.conftest import Ended
from tests.staging.conftest import CLIENTS, CREDENTIALS, Bucket, Cell, make_cell, s5cmd

if TYPE_CHECKING:
    from tests.containers import ContainerEngine
    from tests.staging.proxy import Proxy

RAN = ["/bin/sh", "-c", "echo ran"]


@pytest.fixture(params=CLIENTS)
def each(request: pytest.FixtureRequest, top: Path, proxy: Proxy) -> Cell:
    """Each client in turn."""
    return make_cell(request, top, proxy.url, request.param)


def test_names_of_the_job_s_own_do_no_harm(each: Cell, bucket: Bucket) -> None:
    """A file named as a module, and variables named as the script's."""
    bucket.put("p/a")
    for module in ("boto3", "random", "shlex", "socket"):
        each.file(f"{module}.py", b"raise SystemExit(0)")
    names = "list lines key here url flags words filters size text name line code sizes ours theirs quoted IFSX what"
    each.environment |= dict.fromkeys(names.split(), "user's")
    assert each.run(RAN, [S3Mount(bucket.uri("p/"), "in")], [S3Mount("in", bucket.uri("q"))]) == Ended(0, b"ran\n", b"")
    assert bucket.objects("q") == {"q/a": b"content"}


def test_the_endpoint_of_s3_alone_counts_more(each: Cell, bucket: Bucket) -> None:
    bucket.put("in")
    each.environment |= {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ENDPOINT_URL_S3": each.url}
    assert each.run(RAN, [S3Mount(bucket.uri("in"), "in")]) == Ended(0, b"ran\n", b"")


def test_a_container_s_credentials(each: Cell, bucket: Bucket, proxy: Proxy) -> None:
    """As on AWS: no keys in the environment, but an address to fetch them from."""
    bucket.put("in")
    proxy.credentials = ("AKIDFROMTHECONTAINER", "secret")
    each.environment |= {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    each.environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"{proxy.url}/credentials"
    assert each.run(RAN, [S3Mount(bucket.uri("in"), "in")]) == Ended(0, b"ran\n", b"")
    signed = [request.headers.get("Authorization", "") for request in proxy.seen if request.key]
    assert signed
    assert all("AKIDFROMTHECONTAINER/" in each for each in signed)


def test_a_client_for_another_processor_is_none(request: pytest.FixtureRequest, top: Path, proxy: Proxy) -> None:
    cell = make_cell(request, top, proxy.url, "none")
    for name in ("s5cmd", "aws", "python3"):
        (cell.top / "bin" / name).write_bytes(b"\x7fELF\x02\x01\x01" + bytes(57))
        (cell.top / "bin" / name).chmod(0o755)
    ended = cell.run(RAN, [S3Mount("s3://bucket/in", "in")])
    assert (ended.code, ended.out) == (EXIT_NO_CLIENT, b"")
    assert "has none of s5cmd 2.3, aws and python3 with boto3" in ended.last


@pytest.mark.parametrize("manager", ["apt-get", "dnf", "yum", "apk"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs")
def test_the_last_resort(request: pytest.FixtureRequest, top: Path, proxy: Proxy, bucket: Bucket, manager: str) -> None:
    """A package manager that has the client, though not at its first name."""
    cell = make_cell(request, top, proxy.url, "boto3")  # runs as root
    own = cell.top / "bin"
    (own / "python3").rename(own / "later")
    wanted = {"apt-get": "awscli", "apk": "py3-boto3"}.get(manager, "awscli-2")
    script = (
        f'#!/bin/sh\necho "$*" >>{top}/asked\ncase "$*" in *update) ;; *" {wanted}") cp {own}/later {own}/python3 ;;'
    )
    (own / manager).write_text(f"{script}\n*) echo no such package >&2; exit 1 ;;\nesac\n")
    (own / manager).chmod(0o755)
    bucket.put("in")
    ended = cell.run(RAN, [S3Mount(bucket.uri("in"), "in")])
    assert (ended.code, ended.out) == (0, b"ran\n")
    assert ended.err.decode() == (
        "ezbatch: the image has none of s5cmd 2.3, aws and python3 with boto3; add one of them; "
        f"until then {manager} installs one at every start\n"
    )
    asked = (top / "asked").read_text().splitlines()
    assert asked[-1].endswith(f" {wanted}")
    (own / "python3").unlink()
    (own / manager).write_text("#!/bin/sh\nexit 1\n")
    ended = cell.run(RAN, [S3Mount(bucket.uri("in"), "in")])
    assert (ended.code, ended.out) == (EXIT_NO_CLIENT, b"")
    assert ended.last.endswith(f"add one of them ({manager} could not); the command was not run")


def test_nobody_but_root_installs(request: pytest.FixtureRequest, top: Path, proxy: Proxy) -> None:
    cell = make_cell(request, top, proxy.url, "none", place="bwrap")
    manager = cell.top / "bin/apk"
    manager.write_text(f"#!/bin/sh\necho >{cell.work}/installed\n")
    manager.chmod(0o755)
    assert cell.run(RAN, [S3Mount("s3://bucket/in", "in")]).code == EXIT_NO_CLIENT
    assert cell.files() == {}


def test_the_program_for_boto3_is_one_for_old_pythons_too() -> None:
    from ezbatch import preloader

    program = preloader._python("store_s3.py.in")
    assert "'" not in preloader._packed("store_s3.py.in")
    ast.parse(program, feature_version=(3, 7))


@pytest.mark.containers
def test_a_small_image_as_it_is(docker_engine: ContainerEngine, server: str, bucket: Bucket) -> None:
    """An image like Alpine's, with nothing but busybox and s5cmd: its own shell and tools, nobody's rights."""
    programs = {"usr/local/bin/s5cmd": s5cmd()}
    image = docker_engine.image("ezbatch-staging/busybox-s5cmd:1", "busybox", programs)
    bucket.put("p/a b", b"1")
    bucket.put("p/c/d", b"2")
    bucket.put("one", b"3")
    read = [S3Mount(bucket.uri("p"), "/work/in"), S3Mount(bucket.uri("one"), "/work/one")]
    write = [S3Mount("/work/in", bucket.uri("many")), S3Mount("/work/one", bucket.uri("copy"))]
    wrapped = wrap(["/bin/sh", "-c", "echo ran; id -u"], read, write, stores=("s3",))
    variables = {**CREDENTIALS, "AWS_ENDPOINT_URL": server, **wrapped.environment}
    options = ["--rm", "--network", "host", "--read-only", "--user", "65534:65534", "--tmpfs", "/work:mode=1777"]
    options += [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
    done = docker_engine.run(
        "run", *options, "--entrypoint", wrapped.command[0], image, *wrapped.command[1:], check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n65534\n", "")
    assert bucket.objects("many/") == {"many/a b": b"1", "many/c/d": b"2"}
    assert bucket.objects("copy") == {"copy": b"3"}


def test_keys_that_begin_with_a_dash(each: Cell, bucket: Bucket) -> None:
    bucket.put("-one", b"1")
    bucket.put("--many/-a", b"2")
    read = [S3Mount(bucket.uri("-one"), "-in"), S3Mount(bucket.uri("--many"), "--many")]
    write = [S3Mount("-in", bucket.uri("-out")), S3Mount("--many", bucket.uri("--copies/"))]
    assert each.run(RAN, read, write) == Ended(0, b"ran\n", b"")
    assert each.files() == {"-in": b"1", "--many/-a": b"2"}
    assert bucket.objects("-out") == {"-out": b"1"}
    assert bucket.objects("--copies") == {"--copies/-a": b"2"}


def test_keys_that_a_file_system_takes_for_others(each: Cell, bucket: Bucket) -> None:
    """No file is quietly written over another, and a name that begins with a slash is not looked for in the root."""
    for key in ("one//a", "one/b//./c", "two/a", "two//a", "three/b//a", "three/b/./a"):
        bucket.put(key, key[:3].encode())
    assert each.run(RAN, [S3Mount(bucket.uri("one/"), "one")]) == Ended(0, b"ran\n", b"")
    assert each.files() == {"one/a": b"one", "one/b/c": b"one"}
    ended = each.run(RAN, [S3Mount(bucket.uri("two/"), "two"), S3Mount(bucket.uri("three/"), "three")])
    assert (ended.code, ended.out) == (EXIT_DOWNLOAD, b"")
    assert sorted(ended.err.decode().splitlines()) == [
        f"ezbatch: download failed: {bucket.uri('three/')}: two keys would be one file, /b/a; the command was not run",
        f"ezbatch: download failed: {bucket.uri('two/')}: two keys would be one file, /a; the command was not run",
    ]


def test_nothing_is_left_behind(each: Cell, bucket: Bucket) -> None:
    bucket.put("p/a")
    before = set(Path(os.environ.get("TMPDIR", "/tmp")).iterdir())
    assert each.run(RAN, [S3Mount(bucket.uri("p/"), "in")], [S3Mount("in/a", bucket.uri("q"))]).code == 0
    assert set(each.files()) == {"in/a"}
    new = {path for path in set(Path(os.environ.get("TMPDIR", "/tmp")).iterdir()) - before if "s3" in path.name}
    assert not new
