"""One thread a process that watches for every live view; it ends when no view is left."""

from __future__ import annotations

import logging
import threading
import time
from typing import Protocol

__all__ = ["POLLER", "Poller", "Watch"]

log = logging.getLogger(__name__)


class Watch(Protocol):
    """What the poller calls."""

    def tick(self) -> float | None:
        """Look once; return the seconds until the next look, or None when there is nothing more to see."""
        ...


class Poller:
    """Calls the ticks of its watches, each as often as it asks for, all in one daemon thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._due: dict[Watch, float] = {}
        self._thread: threading.Thread | None = None

    def add(self, watch: Watch) -> None:
        """Begin to call a watch, at once, from a thread that is started where there is none."""
        with self._lock:
            self._due[watch] = 0.0
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ezbatch-views", daemon=True)
                self._thread.start()
        self._wake.set()

    def hurry(self, watch: Watch) -> None:
        """Call a watch now: something came from the page."""
        with self._lock:
            if watch in self._due:
                self._due[watch] = 0.0
        self._wake.set()

    def remove(self, watch: Watch) -> None:
        """Call a watch no more."""
        with self._lock:
            self._due.pop(watch, None)
        self._wake.set()

    def stop(self, timeout: float = 5) -> None:
        """Call nothing more, and wait for the thread to end."""
        with self._lock:
            self._due.clear()
            thread = self._thread
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    @property
    def watches(self) -> list[Watch]:
        """Those that are called."""
        with self._lock:
            return list(self._due)

    def _run(self) -> None:
        while True:
            self._wake.clear()
            with self._lock:
                if not self._due:
                    self._thread = None
                    return
                now = time.monotonic()
                due = [watch for watch, when in self._due.items() if when <= now]
                for watch in due:
                    # Whoever hurries it while it is being called wants another call after this one.
                    self._due[watch] = float("inf")
            for watch in due:
                self._call(watch)
            with self._lock:
                pause = min(self._due.values(), default=0.0) - time.monotonic()
            if pause > 0:
                self._wake.wait(min(pause, 3600))

    def _call(self, watch: Watch) -> None:
        try:
            pause = watch.tick()
        except Exception:  # one view's mistake must not blind the others
            log.exception("a live view stopped")
            pause = None
        with self._lock:
            if pause is None:
                self._due.pop(watch, None)
            elif watch in self._due:
                self._due[watch] = min(self._due[watch], time.monotonic() + pause)


#: That of this process.
POLLER = Poller()
