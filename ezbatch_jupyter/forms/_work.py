"""Work that may take long, done in a thread so that the form answers meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ezbatch_jupyter.run_view import in_kernel

__all__ = ["TooLongError", "in_background", "in_turn"]

P = ParamSpec("P")
T = TypeVar("T")


class TooLongError(TimeoutError):
    """The work had not ended within its time; what comes later is dropped."""


#: Held by whoever changes a form: JupyterLab's messages come in two threads, those of some widgets in the kernel's
#: main thread, those of others in a subshell's.
_TURN = threading.RLock()


def in_turn(act: Callable[P, T]) -> Callable[P, T]:
    """Return the same function, done by one thread after the other."""

    @functools.wraps(act)
    def alone(*arguments: P.args, **named: P.kwargs) -> T:
        with _TURN:
            return act(*arguments, **named)

    return alone


def in_background(task: Callable[[], T], done: Callable[[T | BaseException], None], timeout: float) -> None:
    """Do something in a thread, and hand over once what it returned or raised.

    Parameters
    ----------
    task : callable
        What may take long. It touches no widget.
    done : callable
        Called where this was called, by the event loop of a kernel; where there is none, in the thread itself.
    timeout : float
        Seconds after which ``done`` gets a :class:`TooLongError`, whatever becomes of the task.
    """
    loop: asyncio.AbstractEventLoop | None = None
    if in_kernel():  # elsewhere a loop may be another's, that does not turn before this returns to it
        with contextlib.suppress(RuntimeError):
            loop = asyncio.get_running_loop()
    lock = threading.Lock()
    over = False

    def settle(outcome: T | BaseException) -> None:
        nonlocal over
        with lock:
            if over:
                return
            over = True
        clock.cancel()
        if loop is None:
            in_turn(done)(outcome)
        else:
            with contextlib.suppress(RuntimeError):  # the kernel is being shut down
                loop.call_soon_threadsafe(in_turn(done), outcome)

    def run() -> None:
        try:
            outcome: T | BaseException = task()
        except BaseException as error:  # noqa: BLE001 - whoever asked shows it
            outcome = error
        settle(outcome)

    clock = threading.Timer(timeout, lambda: settle(TooLongError(f"no answer within {timeout:g} s")))
    clock.daemon = True
    clock.start()
    threading.Thread(target=run, name="ezbatch-form", daemon=True).start()
