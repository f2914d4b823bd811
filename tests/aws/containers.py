"""A substitute for the docker client: what it runs are real subprocesses, each in its own session and directory.

The part of docker's interface that a job engine needs, with docker's meaning:

- ``containers.run`` starts the command in exec form, with nothing but the given environment;
- ``stop`` sends SIGTERM to the first process alone, as docker and ECS do, so that a wrapper that does not pass the
  signal on is caught; ``kill`` ends the whole process group;
- when the first process ends, whatever it left behind is killed: a container does not outlive its PID 1;
- ``wait`` gives 128 + n for a process that signal n ended: 137 after ``kill``, 143 after an unhandled ``stop``.

One thread reads the output of all containers, so a running container costs one pipe and the thread that waits for it.
A descendant that makes a session of its own is found by its environment when its job is ended; left behind by a job
that ends by itself, it escapes: only a real container could hold it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

LogLines = list[tuple[int, str]]
"""Lines as CloudWatch takes them: milliseconds since the epoch, text."""


_OWN = ("AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ATTEMPT")
"""Variables that no two containers share."""


class StartError(Exception):
    """The command could not be started: docker's APIError, with the words that ECS makes of it."""


class _Output:
    """One container's pipe: bytes in, whole lines out."""

    def __init__(self, fd: int, on_lines: Callable[[LogLines], None]) -> None:
        self.fd = fd
        self.drained = threading.Event()
        self.finishing = False
        self._on_lines = on_lines
        self._partial = b""

    def take(self) -> bool:
        """Read what is there; False at the end of the stream, or when it is empty and the container has ended."""
        while True:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                return not self.finishing
            if not data:
                return False
            *lines, self._partial = (self._partial + data).split(b"\n")
            self._emit(lines)
            if not self.finishing:
                return True

    def close(self) -> None:
        self._emit([self._partial])
        os.close(self.fd)
        self.drained.set()

    def _emit(self, lines: list[bytes]) -> None:
        now = int(time.time() * 1000)
        # CloudWatch refuses empty messages; the awslogs driver leaves such lines out.
        events = [(now, line.decode("utf-8", "replace")) for line in lines if line]
        if not events:
            return
        try:
            self._on_lines(events)
        except Exception:
            logger.exception("a container's log lines were lost")


class LogPump:
    """One thread that reads the output of every container as it comes."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_out, self._wake_in = os.pipe()
        os.set_blocking(self._wake_out, False)
        self._selector.register(self._wake_out, selectors.EVENT_READ, None)
        self._lock = threading.Lock()
        self._new: list[_Output] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="rig-log-pump", daemon=True)
        self._thread.start()

    def add(self, fd: int, on_lines: Callable[[LogLines], None]) -> _Output:
        os.set_blocking(fd, False)
        output = _Output(fd, on_lines)
        with self._lock:
            self._new.append(output)
        self._wake()
        return output

    def finish(self, output: _Output) -> None:
        """Read what is left in the pipe of a container that has ended, then close it."""
        output.finishing = True
        self._wake()
        output.drained.wait(5)

    def close(self) -> None:
        self._closing = True
        self._wake()
        self._thread.join()
        self._selector.close()
        os.close(self._wake_in)
        os.close(self._wake_out)

    def _wake(self) -> None:
        os.write(self._wake_in, b".")

    def _run(self) -> None:
        open_outputs: dict[int, _Output] = {}
        while not self._closing:
            ready = self._selector.select()
            # Before the look at what is new: a wake that came after it must not be taken for one that was answered.
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_out, 4096)
            with self._lock:
                new, self._new = self._new, []
            for output in new:
                open_outputs[output.fd] = output
                self._selector.register(output.fd, selectors.EVENT_READ, output)
            turn = {key.data.fd: key.data for key, _ in ready if key.data is not None}
            turn.update({fd: output for fd, output in open_outputs.items() if output.finishing})
            for fd, output in turn.items():
                if not output.take():
                    self._selector.unregister(fd)
                    del open_outputs[fd]
                    output.close()
        for output in open_outputs.values():
            output.close()


class ProcessContainer:
    """One running command, with the words of docker's Container."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        directory: str,
        output: _Output,
        pump: LogPump,
        environment: Mapping[str, str],
    ) -> None:
        self.attrs = {"State": {"Pid": process.pid}, "NetworkSettings": {"Networks": {}}}
        self.id = f"{process.pid}"
        self.directory = directory
        self._process = process
        self._output = output
        self._pump = pump
        self._lock = threading.Lock()
        self._reaped = False
        # A container's processes end with it, whatever session they are in; here they are told by their environment.
        self._marks = {f"{key}={environment[key]}".encode() for key in _OWN if key in environment}
        self._ended = False

    @property
    def status(self) -> str:
        return "exited" if self._reaped else "running"

    def reload(self) -> None:
        """Nothing to fetch: `status` is always fresh."""

    def stop(self) -> None:
        """SIGTERM to the first process only; the caller kills what is left when its patience ends."""
        with self._lock:
            self._ended = True
            if not self._reaped:
                os.kill(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the whole process group."""
        with self._lock:
            self._ended = True
            if not self._reaped:
                self._kill_group()

    def wait(self) -> dict[str, int]:
        """Block until the first process has ended, its descendants are gone and its output is read."""
        # WNOWAIT leaves a zombie, so that the group's number cannot be anyone else's while the rest is killed.
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            self._kill_group()
            if self._ended:
                self._kill_strays()
            code = self._process.wait()
            self._reaped = True
        self._pump.finish(self._output)
        return {"StatusCode": 128 - code if code < 0 else code}

    def remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _kill_strays(self) -> None:
        """Kill what went into another session. Only for a job that was ended: looking at every process takes time."""
        found = bool(self._marks)
        while found:
            # One that is just being made has its parent's name or none: the next round finds it.
            found = False
            for path in Path("/proc").glob("[0-9]*/environ"):
                with contextlib.suppress(OSError):
                    if self._marks <= set(path.read_bytes().split(b"\0")):
                        os.kill(int(path.parent.name), signal.SIGKILL)
                        found = True


class Containers:
    """The ``containers`` attribute of a docker client."""

    def __init__(self, pump: LogPump) -> None:
        self._pump = pump

    def run(
        self,
        image: str,  # noqa: ARG002  # docker's signature: a process runs in no image
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        name: str,
        on_lines: Callable[[LogLines], None],
    ) -> ProcessContainer:
        """Start a command and return at once (docker's ``detach=True``).

        Parameters
        ----------
        image
            Ignored.
        command
            The command in exec form.
        environment
            The whole environment of the process.
        name
            Prefix of the private working directory.
        on_lines
            Called with standard output and error, line by line, from the log pump's thread.

        Raises
        ------
        StartError
            When there is no such program.
        """
        directory = tempfile.mkdtemp(prefix=f"rig-{name[:40]}-")
        read_end, write_end = os.pipe()
        try:
            process = subprocess.Popen(
                list(command),
                cwd=directory,
                env={"HOME": directory, **environment},
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
            )
        except (OSError, ValueError) as exc:
            os.close(read_end)
            shutil.rmtree(directory, ignore_errors=True)
            raise StartError(
                "CannotStartContainerError: Error response from daemon: failed to create task for container: "
                f'exec: "{command[0]}": {exc.strerror if isinstance(exc, OSError) else exc}: unknown'
            ) from exc
        finally:
            os.close(write_end)
        return ProcessContainer(process, directory, self._pump.add(read_end, on_lines), self._pump, environment)


class SubprocessDocker:
    """What stands in for ``docker.from_env()``."""

    def __init__(self) -> None:
        self._pump = LogPump()
        self.containers = Containers(self._pump)

    def close(self) -> None:
        self._pump.close()
