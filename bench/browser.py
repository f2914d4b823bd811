"""The live view in Chromium: how soon a thousand nodes are there, how soon their changes are on screen, what is sent.

The page is a bare one with the view's own script in it, so that what is measured is ours and not JupyterLab's.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from typing import Any

from bench.row import Row
from ezbatch_jupyter import svg
from ezbatch_jupyter.run_view import RunView
from tests.jupyter import lab, scenes, stub
from tests.jupyter.test_run_view import Page as Recorder

NODES = 1_000
#: From a message's arrival to the frame after next, when what it changed has been painted.
_ARRIVE = """(text) => new Promise((resolve) => {
  const begun = performance.now();
  window.receive(JSON.parse(text));
  document.body.getBoundingClientRect();
  requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - begun)));
})"""


class _Bench:
    """A view of a thousand jobs, and the page that shows it."""

    def __init__(self, page: Any, limit: int) -> None:  # noqa: ANN401 - playwright's, which only this module needs
        self.page = page
        run, self.stage = scenes.staged(scenes.layers(25, 40))
        self.recorder = Recorder()
        self.view = RunView(run, limit=limit)
        self.view._own.refresh()  # noqa: SLF001 - the poller's part is played here, as all below
        self.view._widget = self.recorder  # type: ignore[assignment] # noqa: SLF001 - it records what would be sent
        self.view._begin()  # noqa: SLF001
        self.view._clients.append("one")  # noqa: SLF001
        self.names = list(run.jobs)

    def arrive(self, message: Mapping[str, Any]) -> float:
        """Give the page a message; return the seconds until it is on screen."""
        return float(self.page.evaluate(_ARRIVE, json.dumps(message))) / 1000

    def appear(self) -> float:
        """Return the seconds from asking for the view until its picture is on screen, layout and all."""
        begun = time.perf_counter()
        self.view._send_snapshot(None)  # noqa: SLF001
        made = time.perf_counter() - begun
        stub.play(self.page)
        return made + self.arrive(self.recorder.messages[-1])

    def change(self, count: int, state: str) -> tuple[float, int]:
        """Change so many jobs; return the seconds until that is on screen, and the bytes that were sent."""
        before = len(self.recorder.messages)
        self.stage.put(*(scenes.report(name, state) for name in self.names[:count]))
        self.view.tick()
        sent = self.recorder.messages[before:]
        size = sum(len(json.dumps(message).encode()) for message in sent)
        return max(self.arrive(message) for message in sent), size


def rows() -> Iterator[Row]:
    """Yield the rows."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None or shutil.which("dot") is None:
        return
    with lab.chromium(executable) as browser:
        for title, limit in (("each its own node", NODES), ("in groups", 150)):
            # The best of some: what other processes take meanwhile is not ours.
            taken = []
            for _time in range(3):
                svg._placed.cache_clear()  # noqa: SLF001 - the layout is part of it
                bench = _Bench(stub.page(browser), limit)
                taken.append(bench.appear())
            yield Row(f"{NODES:,} jobs appear, {title} / what is allowed", min(taken), 2, 1)
            changes = []
            for state in ("RUNNABLE", "STARTING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"):
                changes.append(bench.change(NODES, state)[0])
                time.sleep(1)  # until what is out of sight has changed, too
            yield Row(f"{NODES:,} changes are on screen, {title} / allowed", min(changes), 0.1, 1)
        for count in (1, 10, 100, NODES):
            bench = _Bench(stub.page(browser), NODES)
            bench.appear()
            whole = len(json.dumps(bench.recorder.messages[-1]).encode())
            _seconds, sent = bench.change(count, "RUNNING")
            yield Row(f"bytes for {count:,} changes of {NODES:,} / for the whole picture", sent, whole, unit="")


def main() -> None:
    """Print the rows."""
    for row in rows():
        print(row, flush=True)


if __name__ == "__main__":
    main()
