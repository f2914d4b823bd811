"""A place to run wrapped commands in, under each shell, against a directory store."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ezbatch import preloader
from tests.containers import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ezbatch.s3 import S3Mount

# Where /bin/sh is bash, as on Amazon Linux, it runs in its POSIX mode.
SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash"], "bash-posix": ["bash", "--posix"]}

# Who writes and reads where root could do anything.
NOBODY = 65534


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    out: bytes
    err: bytes

    @property
    def last(self) -> str:
        """The last line of stderr."""
        return self.err.decode(errors="replace").rstrip("\n").rpartition("\n")[2]


def exit_code(returncode: int) -> int:
    """Return what a container runtime reports for a process: 128 + n for a signal."""
    return 128 - returncode if returncode < 0 else returncode


@dataclass(frozen=True)
class Bench:
    """A store, a working directory, and a shell to run the preloader's script.

    Parameters
    ----------
    shell
        The words that replace ``/bin/sh``.
    top
        The directory that holds ``store`` and ``work``; everyone may enter it.
    """

    shell: Sequence[str]
    top: Path

    @property
    def store(self) -> Path:
        return self.top / "store"

    @property
    def work(self) -> Path:
        return self.top / "work"

    def put(self, key: str, content: bytes = b"content") -> Path:
        """Make an object."""
        return _write(self.store / key, content)

    def file(self, path: str, content: bytes = b"content") -> Path:
        """Make a file in the working directory."""
        return _write(self.work / path, content)

    def objects(self) -> dict[str, bytes]:
        """Everything in the store, as a reader would list it."""
        return tree(self.store)

    def files(self) -> dict[str, bytes]:
        """Everything in the working directory."""
        return tree(self.work)

    def start(
        self,
        command: Sequence[str],
        read: Sequence[S3Mount] = (),
        write: Sequence[S3Mount] = (),
        axes: Sequence[Sequence[Mapping[str, str]]] = (),
        *,
        env: Mapping[str, str | None] | None = None,
        before: Sequence[str] = (),
        nobody: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start a wrapped command; variables in ``env`` that are None are left out."""
        wrapped = preloader.wrap(command, read, write, axes)
        store = {"EZBATCH_S3": f"directory:{self.store}"} if read or write else {}
        variables = plain_environment() | store | wrapped.environment | dict(env or {})
        nobody = nobody and os.geteuid() == 0
        return subprocess.Popen(
            [*before, *self.shell, *wrapped.command[1:]],
            env={name: value for name, value in variables.items() if value is not None},
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            user=NOBODY if nobody else None,
            group=NOBODY if nobody else None,
            extra_groups=[] if nobody else None,
            # So that whatever it leaves behind can be told from everything else, and a terminal stays out of it.
            start_new_session=True,
        )

    def run(
        self,
        command: Sequence[str],
        read: Sequence[S3Mount] = (),
        write: Sequence[S3Mount] = (),
        axes: Sequence[Sequence[Mapping[str, str]]] = (),
        *,
        env: Mapping[str, str | None] | None = None,
        before: Sequence[str] = (),
        nobody: bool = False,
    ) -> Ended:
        """Run a wrapped command to its end."""
        return finish(self.start(command, read, write, axes, env=env, before=before, nobody=nobody))


def finish(process: subprocess.Popen[bytes], timeout: float = 60) -> Ended:
    """Wait for a process and everything that holds its output."""
    out, err = process.communicate(timeout=timeout)
    return Ended(exit_code(process.returncode), out, err)


def plain_environment() -> dict[str, str | None]:
    """Return the variables of a small container."""
    return {"PATH": os.environ["PATH"], "HOME": "/", "LANG": "C.UTF-8"}


def tree(top: Path) -> dict[str, bytes]:
    """Return the files below a directory, by their relative names."""
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, f"waited 30 s for {what}"
        time.sleep(0.01)


def below(pid: int) -> list[int]:
    """Return the descendants of a process."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    children = [int(word) for word in text.split()]
    return [*children, *(each for child in children for each in below(child))]


def session(pid: int) -> list[int]:
    """Return the processes of the session that a process began: its descendants, orphaned or not."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if not entry.name.isdecimal():
                continue
            # pid (name) state ppid pgrp session: the name may hold anything. A zombie has ended.
            state, _, _, leader = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(leader) == pid and state != "Z":
                found.append(int(entry.name))
    return found


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _bench(shell: Sequence[str]) -> Iterator[Bench]:
    require(shell[0])
    # Not pytest's tmp_path, which only its owner may enter.
    top = Path(tempfile.mkdtemp(prefix="ezbatch-preloader-"))
    top.chmod(0o755)
    for name in ("store", "store/bucket", "work"):
        (top / name).mkdir()
        (top / name).chmod(0o777)
    yield Bench(shell, top)
    shutil.rmtree(top)


@pytest.fixture(params=SHELLS)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Each shell in turn."""
    yield from _bench(SHELLS[request.param])


@pytest.fixture
def dash() -> Iterator[Bench]:
    """One shell, for what does not depend on it."""
    yield from _bench(SHELLS["dash"])
