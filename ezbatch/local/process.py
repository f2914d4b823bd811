"""The engine's process: there is one for each state directory, in the background, for as long as it has work.

``python -m ezbatch.local.process DIRECTORY`` becomes the engine of that directory unless it has one, and ends by itself
when there has been nothing to do for a while.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from ezbatch.local import store
from ezbatch.local.engine import Engine
from ezbatch.local.files import last_line

__all__ = ["alive", "problem", "start"]

log = logging.getLogger(__name__)

#: Seconds without work after which the engine ends.
LINGER = 3.0
#: Seconds between two looks for new work.
POLL = 0.02

_LOCK = "engine.lock"


class _Lock:
    """The engine's lock file: who holds it is the engine. It also says what is wrong, in space taken beforehand.

    A full disk must not keep the engine from saying that the disk is full.
    """

    size = 1024

    def __init__(self, directory: Path) -> None:
        self.path = directory / _LOCK
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)

    @property
    def in_place(self) -> bool:
        """Whether the file still stands where others look for it: the directory may have been removed and made anew."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), self.path.stat())
        except OSError:
            return False

    def take(self) -> bool:
        # Whoever asks whether there is an engine holds the lock for a moment, which must not pass for one.
        for _ in range(20):
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.01)
            else:
                if not self.in_place:
                    return False
                self.say("")
                return True
        return False

    def say(self, text: str) -> None:
        os.pwrite(self.descriptor, text.encode()[: self.size].ljust(self.size), 0)

    def release(self) -> None:
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)


def alive(directory: Path) -> bool:
    """Return whether the directory has an engine."""
    try:
        descriptor = os.open(directory / _LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def problem(directory: Path) -> str:
    """Return what the engine says is wrong, or nothing."""
    with contextlib.suppress(OSError):
        return (directory / _LOCK).read_bytes()[: _Lock.size].decode(errors="replace").strip()
    return ""


def start(directory: Path) -> str:
    """Start the directory's engine unless it has one; return nothing, or why it could not be started."""
    argv = [sys.executable, "-m", "ezbatch.local.process", str(directory)]
    try:
        with (directory / "engine.log").open("ab") as output:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                check=False,
                cwd="/",
                # A job may submit jobs: the engine that this starts is no part of it, and is not cancelled with it.
                env={name: value for name, value in os.environ.items() if not name.startswith("AWS_BATCH_")},
            )
    except OSError as error:
        return f"{error.strerror}: {error.filename}"
    return "" if done.returncode == 0 else (last_line(directory / "engine.log") or f"exit code {done.returncode}")


def main(directory: Path) -> int:
    """Become the engine of a directory, in the background."""
    lock = _Lock(directory)
    if not lock.take():
        return 0
    engine = Engine(directory)
    engine.close()  # SQLite's connections do not survive a fork
    # The one that started this need not wait any longer, and has no child to look after.
    if os.fork():
        os._exit(0)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    try:
        while lock.take():
            engine = Engine(directory)
            engine.on_problem = lock.say
            engine.recover()
            _loop(engine)
            # Whoever submits adds its work first and looks for an engine then. So: give up the lock, then look once
            # more; one of the two sees the other.
            engine.close()
            lock.release()
            if not lock.in_place or not _work(directory):
                break
    except BaseException as error:
        log.exception("the engine stops")
        with contextlib.suppress(OSError):
            lock.say(f"the local engine stopped: {error}")
        raise
    return 0


def _work(directory: Path) -> bool:
    if not store.path(directory).exists():  # removed meanwhile: to look into it would make it again
        return False
    connection = store.connect(directory)
    try:
        query = (
            "SELECT EXISTS(SELECT 1 FROM jobs JOIN runs ON runs.id = jobs.run WHERE NOT held"
            " AND state NOT IN ('SUCCEEDED', 'FAILED', 'BLOCKED')) OR EXISTS(SELECT 1 FROM requests)"
        )
        return bool(connection.execute(query).fetchone()[0])
    finally:
        connection.close()


def _loop(engine: Engine) -> None:
    """Run until there has been nothing to do for a while; wake up for children that end and for new work."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_args: None)
    last_work = time.monotonic()
    while True:
        engine.step()
        if not engine.idle:
            last_work = time.monotonic()
        elif time.monotonic() - last_work > LINGER:
            break
        if select.select([reader], [], [], POLL)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(reader, 4096)
    signal.set_wakeup_fd(-1)
    os.close(reader)
    os.close(writer)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
