"""Messages from the page, taken while a cell waits.

A kernel reads its shell channel only between cells, so that a click would wait for the cell that waits for the run.
While one waits, :func:`pumping` reads that channel itself: it hands messages of widgets, and the questions a page asks
when it is loaded, to the kernel's own handlers, and keeps everything else, in its order, for when the cell has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["pumping"]

log = logging.getLogger(__name__)

#: Neither runs code of the user's cells nor answers from their state.
_SAFE = frozenset({"comm_open", "comm_msg", "comm_close", "comm_info_request", "kernel_info_request"})


def _kernel() -> Any:  # noqa: ANN401 - ipykernel is not a dependency
    import sys

    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None)


def _streams(kernel: Any) -> tuple[Any, Any]:  # noqa: ANN401 - as above
    """Return the stream from which this thread's messages come, and where their answers go."""
    thread = getattr(kernel, "shell_channel_thread", None)
    if thread is not None:  # ipykernel 7: another thread reads the channel and hands on
        pair = thread.manager.get_shell_channel_to_subshell_pair(None)
        return pair.to_stream, thread.manager.get_subshell_to_shell_channel_socket(None)
    return kernel.shell_stream, kernel.shell_stream


@contextlib.contextmanager
def pumping() -> Iterator[Callable[[float], None]]:
    """Yield what waits for so many seconds and, in a kernel's main thread, answers the page meanwhile."""
    kernel = _kernel()
    stream = answers = None
    if kernel is not None and threading.current_thread() is threading.main_thread():
        try:
            stream, answers = _streams(kernel)
            assert callable(stream._recv_callback)  # noqa: S101, SLF001 - pyzmq has no public name for it
        except Exception:  # another kernel than ipykernel: the page then waits for the end of the cell
            log.debug("messages of the page wait for the cell's end", exc_info=True)
            stream = None
    if stream is None:
        yield time.sleep
        return
    pump = _Pump(kernel, stream, answers)
    try:
        yield pump.wait
    finally:
        pump.give_back()


class _Pump:
    def __init__(self, kernel: Any, stream: Any, answers: Any) -> None:  # noqa: ANN401 - as above
        self.kernel = kernel
        self.stream = stream
        self.answers = answers
        self.kept: list[Any] = []

    def wait(self, seconds: float) -> None:
        """Wait, or answer what comes first."""
        import zmq

        socket = self.stream.socket
        if not socket.poll(round(seconds * 1000)):
            return
        while True:
            try:
                frames = socket.recv_multipart(flags=zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            if not self._answered(frames):
                self.kept.append(frames)

    def _answered(self, frames: Any) -> bool:  # noqa: ANN401 - as above
        kernel = self.kernel
        try:
            idents, rest = kernel.session.feed_identities(frames, copy=False)
            # Only looked at: what takes a message apart also remembers its signature, and refuses to see it again.
            kind = kernel.session.unpack(rest[1].bytes)["msg_type"]
        except Exception:  # noqa: BLE001 - not a request, such as the kernel's own note to stop aborting
            return False
        handler = kernel.shell_handlers.get(kind) if kind in _SAFE else None
        if handler is None:
            return False
        message = kernel.session.deserialize(rest, content=True, copy=False)
        before, before_ident = kernel.get_parent("shell"), self._ident()
        kernel.set_parent(idents, message, channel="shell")
        kernel._publish_status("busy", "shell")  # noqa: SLF001 - a page waits for the two words around an answer
        try:
            self._run(handler(self.answers, idents, message))
            if hasattr(self.answers, "flush"):  # ipykernel 6: a stream sends only when its loop runs
                self.answers.flush()
        except Exception:
            log.exception("a message from the page could not be answered")
        finally:
            kernel._publish_status("idle", "shell")  # noqa: SLF001 - as above
            kernel.set_parent(before_ident, before, channel="shell")
            kernel._publish_status("busy", "shell")  # noqa: SLF001 - the cell still runs
        return True

    def _ident(self) -> Any:  # noqa: ANN401 - as above
        idents: Any = getattr(self.kernel, "_parent_ident", {})
        try:
            return idents["shell"]
        except KeyError:
            return []

    @staticmethod
    def _run(result: Any) -> None:  # noqa: ANN401 - as above
        """Drive a handler that is a coroutine: these do not wait for anything."""
        if not inspect.iscoroutine(result):
            return
        try:
            result.send(None)
        except StopIteration:
            return
        result.close()

    def give_back(self) -> None:
        """Let the kernel have what was kept, as though it came now."""
        for frames in self.kept:
            result = self.stream._recv_callback(frames)  # noqa: SLF001 - as above
            if inspect.isawaitable(result):
                task = asyncio.ensure_future(result)
                _TASKS.add(task)
                task.add_done_callback(_TASKS.discard)
        self.kept.clear()


#: asyncio itself holds its tasks weakly.
_TASKS: set[asyncio.Future[Any]] = set()
