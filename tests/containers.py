"""Container engines of the test session's own, and images made of this machine's files, with no registry."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ON_CI = os.environ.get("CI") == "true"
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

Kind = Literal["python", "busybox"]

# The Debian package of each tool, and the names under which other systems know the tool.
_PACKAGES = {
    "bwrap": "bubblewrap",
    "busybox": "busybox-static",
    "chromium": "chromium",
    "docker": "docker.io",
    "dockerd": "docker.io runc",
    "dot": "graphviz",
    "podman": "podman runc",
}
_OTHER_NAMES = {"chromium": ("chromium-browser", "google-chrome")}

# What an image like python:3.12-slim has on its PATH, Python aside.
_COMMANDS = """
    bash dash sh env awk basename cat chgrp chmod chown cmp comm cp cut date dd df diff dirname du expand expr false
    find fold getopt grep gzip head hostname id install join kill ln ls md5sum mkdir mkfifo mktemp mv nice nl nohup
    nproc od paste printenv printf pwd readlink realpath rm rmdir sed seq setsid sha256sum shuf sleep sort split
    stat stty sync tac tail tar tee test timeout touch tr true truncate tty uname uniq wc who whoami xargs yes zcat
""".split()  # noqa: SIM905 - sixty names read better without quotes
_UNUSED_STDLIB = {
    "__pycache__",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
}


def missing(what: str, remedy: str) -> NoReturn:
    """Fail on CI, which must have everything; skip elsewhere, saying what to do."""
    if ON_CI:
        pytest.fail(f"CI needs {what}: {remedy}")
    pytest.skip(f"needs {what}: {remedy}")


def require(tool: str) -> str:
    """Find a system tool, or end the test by `missing`.

    Parameters
    ----------
    tool : str
        Its command, such as "bwrap", "busybox", "dash", "chromium" or "dot".

    Returns
    -------
    str
        The tool's path.
    """
    for name in (tool, *_OTHER_NAMES.get(tool, ())):
        path: str | None = shutil.which(name, path=SEARCH_PATH)
        if path is not None:
            return path
    missing(tool, f"apt-get install {_PACKAGES.get(tool, tool)}")


@dataclass
class ContainerEngine:
    """A running engine: how to reach it, and how to give it images.

    Attributes
    ----------
    command : str
        The path of `docker` or `podman`.
    env : dict of str to str
        What a process adds to its environment so that `docker`, `podman` or an SDK reaches this engine and no other.
    root : Path
        The directory that holds everything of the engine.
    """

    command: str
    env: dict[str, str]
    root: Path
    _imported: dict[str, str] = field(default_factory=dict)

    def run(
        self, *args: str, check: bool = True, timeout: float = 120, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the engine's command line client; its output is text.

        Parameters
        ----------
        *args : str
            The arguments after `docker` or `podman`.
        check : bool
            Whether an exit code other than 0 is an error.
        timeout : float
            Seconds.
        stdin : bytes, optional
            What the client reads.
        """
        done = subprocess.run(
            [self.command, *args],
            env={**os.environ, **self.env},
            # With cgroups v1, a container out of memory leaves a file named oom in podman's working directory.
            cwd=self.root,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        text = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
        if check and done.returncode != 0:
            msg = f"{' '.join(text.args)} exited {text.returncode}:\n{text.stdout}{text.stderr}"
            raise AssertionError(msg)
        return text

    def inspect(self, container: str) -> dict[str, Any]:
        """Return what the engine knows of a container."""
        found: list[dict[str, Any]] = json.loads(self.run("container", "inspect", container).stdout)
        return found[0]

    def image(self, name: str, kind: Kind = "python", files: Mapping[str, Path] | None = None) -> str:
        """Make an image under any name, with no registry asked.

        Parameters
        ----------
        name : str
            Any reference, such as "python:3.12-slim" or "public.ecr.aws/ubuntu/ubuntu:22.04".
        kind : {"python", "busybox"}
            "python" has bash, coreutils and python3 like Debian's slim images; "busybox" has neither bash nor Python,
            like Alpine.
        files : mapping of str to Path, optional
            More programs: path in the image, without the leading slash, to the file here. The libraries come along.

        Returns
        -------
        str
            The name.
        """
        if files or kind not in self._imported:
            archive = image_archive(kind, files) if files else _plain_archive(kind)
            imported = self.run("import", "-", f"ezbatch-test/{kind}-{len(self._imported)}:made-here", stdin=archive)
            made = imported.stdout.split()[-1]
            self._imported[kind if not files else f"{kind} for {name}"] = made
        else:
            made = self._imported[kind]
        for reference in {name, self._local_name(name)}:
            self.run("tag", made, reference)
        return name

    def _local_name(self, name: str) -> str:
        # Podman takes a short name to be in localhost/, and a full name of Docker Hub literally: the image gets both.
        registry, slash, _ = name.partition("/")
        if not self.command.endswith("podman") or (slash and re.search(r"[.:]|^localhost$", registry)):
            return name
        return f"docker.io/{name if slash else 'library/' + name}"


@contextmanager
def docker_engine() -> Iterator[ContainerEngine]:
    """Start a Docker Engine by hand, with no network set up and nothing outside its own directory."""
    dockerd, docker = require("dockerd"), require("docker")
    if os.geteuid() != 0:
        missing("a Docker Engine of its own", "run the tests as root")
    root = _short_directory()
    log = root / "log"
    env = {"DOCKER_HOST": f"unix://{root}/sock", "DOCKER_CONFIG": f"{root}/config", "PATH": SEARCH_PATH}
    flags = [
        *("--host", env["DOCKER_HOST"], "--data-root", f"{root}/data", "--exec-root", f"{root}/exec"),
        *("--pidfile", f"{root}/pid", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
        *("--bridge=none", "--host-gateway-ip", "127.0.0.1"),
    ]
    try:
        for driver in ("overlay2", "vfs"):
            with log.open("w") as out:
                daemon = subprocess.Popen(
                    [*_dies_with_us(), dockerd, *flags, "--storage-driver", driver],
                    env={**os.environ, **env},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            engine = ContainerEngine(docker, env, root)
            if _answers(engine, daemon):
                break
            _stop(daemon)
        else:
            missing("Docker Engine", f"dockerd did not start:\n{log.read_text()[-2000:]}")
        try:
            yield engine
        finally:
            containers = engine.run("ps", "--all", "--quiet", check=False).stdout.split()
            if containers:
                engine.run("rm", "--force", *containers, check=False)
            _stop(daemon)
    finally:
        _remove(root)


@contextmanager
def podman_engine() -> Iterator[ContainerEngine]:
    """Configure a Podman whose images, containers and state are in a directory of its own."""
    podman = require("podman")
    # crun refuses hosts that have cgroups v1 and v2 side by side, runc takes all of them.
    runtime = Path(require("runc" if shutil.which("runc", path=SEARCH_PATH) else "crun")).name
    root = _short_directory()
    (root / "containers.conf").write_text(
        '[containers]\nnetns = "host"\nlog_driver = "k8s-file"\n'
        'default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n'
        '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        f'runtime = "{runtime}"\ntmp_dir = "{root}/tmp"\n'
    )
    env = {
        "CONTAINERS_CONF": f"{root}/containers.conf",
        "CONTAINERS_STORAGE_CONF": f"{root}/storage.conf",
        "PATH": SEARCH_PATH,
    }
    engine = ContainerEngine(podman, env, root)
    try:
        for driver in ("overlay", "vfs"):
            (root / "storage.conf").write_text(
                f'[storage]\ndriver = "{driver}"\ngraphroot = "{root}/data-{driver}"\nrunroot = "{root}/run-{driver}"\n'
            )
            info = engine.run("info", check=False)
            if info.returncode == 0:
                break
        else:
            missing("Podman", f"podman info said {info.stderr[-2000:]}")
        try:
            yield engine
        finally:
            engine.run("rm", "--all", "--force", "--time", "0", check=False)
            engine.run("rmi", "--all", "--force", check=False)
    finally:
        _remove(root)


def image_archive(kind: Kind, files: Mapping[str, Path] | None = None) -> bytes:
    """Return the root file system of an image as a tar, made of this machine's files.

    Parameters
    ----------
    kind : {"python", "busybox"}
        What is in it, as in `ContainerEngine.image`.
    files : mapping of str to Path, optional
        More programs: path in the image to the file here.
    """
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        root = _RootFileSystem(tar)
        if kind == "busybox":
            busybox = Path(require("busybox"))
            root.program("usr/bin/busybox", busybox)
            listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
            for applet in listed:
                root.link(f"usr/bin/{applet}", "busybox")
        else:
            for command in _COMMANDS:
                found = shutil.which(command, path=SEARCH_PATH)
                if found is not None:
                    root.program(f"usr/bin/{command}", Path(found))
            root.python()
        for path, source in (files or {}).items():
            root.program(path, source)
        root.libraries()
    return out.getvalue()


@functools.cache
def _plain_archive(kind: Kind) -> bytes:
    # Both engines import the same.
    return image_archive(kind)


class _RootFileSystem:
    """A tar that becomes an image: usr-merged, with an /etc that names root and nobody."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._names: set[str] = set()
        self._linked: list[Path] = []
        for folder in ("etc", "home", "proc", "root", "run", "sys", "usr/bin", "usr/lib", "usr/lib64", "usr/local/bin"):
            self._directory(folder)
        for folder in ("tmp", "var/tmp"):
            self._directory(folder, mode=0o1777)
        for folder in ("bin", "lib", "lib64"):
            self.link(folder, f"usr/{folder}")
        self.link("sbin", "usr/bin")
        self._text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        self._text("etc/group", "root:x:0:\nnogroup:x:65534:\n")
        self._text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")

    def program(self, path: str, source: Path) -> None:
        """Add an executable; `libraries` adds what it is linked to."""
        source = source.resolve()
        self._file(path, source, mode=0o755)
        self._linked.append(source)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link, unless something has that path already."""
        if path not in self._names:
            entry = self._entry(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            self._tar.addfile(entry)

    def python(self) -> None:
        """Add the running interpreter as /usr/local/bin/python3, with its standard library."""
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        self.program(f"usr/local/bin/{version}", Path(sys.executable))
        self.link("usr/local/bin/python3", version)
        self.link("usr/local/bin/python", version)
        stdlib = Path(sysconfig.get_path("stdlib"))
        for source in sorted(stdlib.rglob("*")):
            inside = source.relative_to(stdlib)
            if (
                _UNUSED_STDLIB.intersection(inside.parts)
                or inside.parts[0].startswith("config-")
                or not source.is_file()
            ):
                continue
            self._file(f"usr/local/lib/{version}/{inside}", source)
            if source.suffix == ".so":
                self._linked.append(source)

    def libraries(self) -> None:
        """Add the shared libraries of every program, where the dynamic linker looks for them."""
        said = subprocess.run(["ldd", *self._linked], capture_output=True, text=True, check=False).stdout
        for library in sorted(set(re.findall(r"^\s+(?:\S+ => )?(/\S+) \(0x", said, flags=re.MULTILINE))):
            path = library.lstrip("/")
            self._file(path if path.startswith(("usr/", "root/", "opt/")) else f"usr/{path}", Path(library).resolve())

    def _entry(self, path: str) -> tarfile.TarInfo:
        self._names.add(path)
        return tarfile.TarInfo(path)

    def _directory(self, path: str, mode: int = 0o755) -> None:
        entry = self._entry(path)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self._tar.addfile(entry)

    def _text(self, path: str, text: str) -> None:
        entry = self._entry(path)
        entry.size = len(text)
        self._tar.addfile(entry, BytesIO(text.encode()))

    def _file(self, path: str, source: Path, mode: int = 0o644) -> None:
        if path in self._names:
            return
        entry = self._entry(path)
        content = source.read_bytes()
        entry.size, entry.mode = len(content), mode if mode != 0o644 else source.stat().st_mode & 0o755 | 0o444
        self._tar.addfile(entry, BytesIO(content))


def _short_directory() -> Path:
    # The path of a Unix socket is limited to 107 bytes, which pytest's own temporary directories can exceed.
    return Path(tempfile.mkdtemp(prefix="ez-", dir="/tmp"))


def _dies_with_us() -> list[str]:
    # A test session that is killed runs no clean-up: the kernel then tells the daemon to stop.
    setpriv = shutil.which("setpriv", path=SEARCH_PATH)
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def _answers(engine: ContainerEngine, daemon: subprocess.Popen[bytes], timeout: float = 30) -> bool:
    deadline = time.monotonic() + timeout
    while daemon.poll() is None and time.monotonic() < deadline:
        if (engine.root / "sock").exists() and engine.run("version", check=False).returncode == 0:
            return True
        time.sleep(0.05)
    return False


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(timeout=30)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _remove(root: Path) -> None:
    # A stopped engine leaves mounts below its directory, a network namespace for one.
    for mounted in reversed(_mounts_below(root)):
        subprocess.run(["umount", "--lazy", mounted], check=False, capture_output=True)
    with suppress(OSError):
        shutil.rmtree(root)


def _mounts_below(root: Path) -> list[str]:
    with suppress(OSError):
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        return [path for path in mounted if path.startswith(f"{root}/")]
    return []
