from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import nbclient
import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

from ezbatch.errors import BackendError
from ezbatch_jupyter import _logs, run_view
from ezbatch_jupyter._poller import POLLER, Poller
from ezbatch_jupyter.run_view import RunView
from tests.jupyter import scenes

WIDGET = "application/vnd.jupyter.widget-view+json"
RUN = """
%load_ext ezbatch_jupyter
from ezbatch import EZBatchJob, EZBatchWorkflow
from ezbatch_jupyter import show, view
def sh(text, **fields): return EZBatchJob("image", ["sh", "-c", text], **fields)
def flow(**jobs): return EZBatchWorkflow("demo", {name: sh(text) for name, text in jobs.items()})
"""


class Page:
    """What a page would be sent, in place of a widget."""

    model_id = "page"

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.closed = False
        self.layout = self
        self.told: Callable[[object, dict[str, Any], object], None] = lambda *_: None

    def on_msg(self, callback: Callable[[object, dict[str, Any], object], None], *, remove: bool = False) -> None:
        self.told = (lambda *_: None) if remove else callback

    def send(self, message: dict[str, Any]) -> None:
        self.messages.append(message)

    def close(self) -> None:
        self.closed = True

    def say(self, kind: str, **more: object) -> None:
        self.told(self, {"t": kind, "client": "one", **more}, [])


@pytest.fixture(autouse=True)
def nothing_watches_afterwards() -> Iterator[None]:
    yield
    POLLER.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "ezbatch-views"]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    InteractiveShell.clear_instance()
    InteractiveShell.instance()
    made = Page()
    monkeypatch.setattr(run_view, "_widget", lambda: made)
    yield made
    InteractiveShell.clear_instance()


def until(true: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def patches(page: Page) -> list[dict[str, Any]]:
    return [message for message in page.messages if message["t"] == "patch"]


def test_only_changes_are_sent_and_each_is_numbered(page: Page) -> None:
    run, stage = scenes.staged(scenes.cohort(), *scenes.cohort_reports().values())
    shown = RunView(run)
    shown.show()
    page.say("hello")
    until(lambda: [message for message in page.messages if message["t"] == "snap"])
    snap = next(message for message in page.messages if message["t"] == "snap")
    assert snap["to"] == "one"
    assert len(snap["rows"]) == len(snap["facts"]["names"]) == 12
    assert len(snap["dag"]["nodes"]) == 12
    before = len(page.messages)
    stage.put(scenes.report("vep-cache", "RUNNING"))
    until(lambda: any("rows" in message for message in page.messages[before:]))
    rows = [row for message in page.messages[before:] for row in message.get("rows", [])]
    assert len(rows) == 1, "one job changed"
    assert rows[0][1][0] == "RUNNING"
    numbers = [message["seq"] for message in patches(page) if message["seq"] > snap["seq"]]
    assert numbers == list(range(snap["seq"] + 1, snap["seq"] + 1 + len(numbers)))
    quiet = len(page.messages)
    time.sleep(0.5)
    assert len(page.messages) == quiet, "nothing changed, nothing was sent"


def test_what_the_page_asks_for_is_done(page: Page) -> None:
    run, stage = scenes.staged(scenes.cohort(), *scenes.cohort_reports().values())
    stage.lines["fastqc"] = ["one", "two <b>three</b>"]
    shown = RunView(run)
    shown.show()
    page.say("hello")
    names = list(run.jobs)
    page.say("select", job=names.index("fastqc"))
    until(lambda: any((m.get("panel") or {}).get("job") == names.index("fastqc") for m in page.messages))
    lines = [line[1] for message in patches(page) for line in message.get("log", {}).get("lines", [])]
    assert lines[-2:] == ["one", "two <b>three</b>"]
    page.say("select", job=99)
    page.say("select", job="no number", child=[], attempt={})
    page.say("nonsense")
    page.told(page, "not even a dict", [])  # type: ignore[arg-type]
    page.say("cancel")
    until(lambda: not shown.live)
    assert stage.cancelled
    assert run.state == "CANCELLED", "the user's handle knows what its view saw"
    assert not page.closed, "the page has not said that it has what it needs"
    page.say("ended")
    assert page.closed
    assert POLLER.watches == []


def test_a_page_that_hears_nothing_gets_another_widget(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    run, stage = scenes.staged(scenes.diamond())
    shown = RunView(run)
    shown.show()
    page.say("hello")
    until(lambda: page.messages)
    second = Page()
    monkeypatch.setattr(run_view, "_widget", lambda: second)
    page.say("deaf")
    until(lambda: page.closed)
    second.say("hello")
    until(lambda: [message for message in second.messages if message["t"] == "snap"])
    stage.put(*(scenes.report(name, "SUCCEEDED") for name in "abcd"))
    until(lambda: not shown.live)


def test_detach_stops_watching_and_leaves_the_run_alone(page: Page) -> None:
    run, stage = scenes.staged(scenes.diamond())
    shown = RunView(run)
    shown.show()
    shown.detach()
    assert not shown.live
    assert page.closed, "no page ever came"
    assert stage.cancelled == []
    assert run.state == "RUNNING"


def test_one_thread_for_all_views_and_none_when_none_is_left(page: Page) -> None:
    runs = [scenes.staged(scenes.diamond()) for _ in range(20)]
    views = [RunView(run) for run, _stage in runs]
    for each in views:
        each.show()
    assert [thread.name for thread in threading.enumerate()].count("ezbatch-views") == 1
    for _run, stage in runs:
        stage.put(*(scenes.report(name, "SUCCEEDED") for name in "abcd"))
    until(lambda: not any(each.live for each in views))
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "ezbatch-views"])
    assert all(run.state == "SUCCEEDED" for run, _stage in runs)
    assert page.closed


def test_a_look_that_fails_is_told_and_tried_again(page: Page) -> None:
    run, stage = scenes.staged(scenes.diamond())
    healthy = stage.describe

    def broken(*_: object) -> NoReturn:
        raise BackendError("the network is gone")

    stage.describe = broken  # type: ignore[assignment, method-assign]
    shown = RunView(run)
    shown.show()
    page.say("hello")
    until(lambda: any("network is gone" in m.get("head", {}).get("note", "") for m in page.messages))
    stage.describe = healthy  # type: ignore[method-assign]
    stage.put(*(scenes.report(name, "SUCCEEDED") for name in "abcd"))
    until(lambda: not shown.live)
    assert run.state == "SUCCEEDED"


def test_nobody_waits_for_a_view_that_has_stopped(caplog: pytest.LogCaptureFixture, page: Page) -> None:
    run, stage = scenes.staged(scenes.diamond())

    def broken(*_: object) -> NoReturn:
        raise RuntimeError("nobody expected this")

    stage.describe = broken  # type: ignore[assignment, method-assign]
    assert page.messages == []
    assert not run_view.show(run).live
    assert "nobody expected this" in caplog.text


def test_without_a_kernel_there_is_a_line_for_each_change(capsys: pytest.CaptureFixture[str], page: Page) -> None:
    assert page.messages == []
    run, stage = scenes.staged(scenes.diamond())

    def play() -> None:
        for name in "abcd":
            stage.put(scenes.report(name, "RUNNING"))
            time.sleep(0.4)
            stage.put(scenes.report(name, "SUCCEEDED"))
            time.sleep(0.4)

    player = threading.Thread(target=play)
    player.start()
    run_view.show(run)
    player.join()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["▶ a running", "✔ a succeeded: ran 1 m 00 s", "▶ b running", "✔ b succeeded: ran 1 m 00 s"]
    assert any(line.startswith("✔ diamond succeeded") for line in lines)


def test_a_poller_outlives_the_mistakes_of_a_view(caplog: pytest.LogCaptureFixture) -> None:
    poller = Poller()

    class Broken:
        def tick(self) -> float | None:
            raise RuntimeError("oh")

    class Good:
        calls = 0

        def tick(self) -> float | None:
            self.calls += 1
            return 0.01 if self.calls < 5 else None

    good = Good()
    poller.add(Broken())
    poller.add(good)
    until(lambda: good.calls == 5)
    until(lambda: poller.watches == [])
    poller.stop()
    assert "a live view stopped" in caplog.text


def test_log_lines_are_plain_and_bounded() -> None:
    assert _logs.plain("\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07") == "red link"
    assert _logs.plain("10 %\r50 %\r100 %\r") == "100 %"
    assert _logs.plain("a\x00b\u202ec\ud800") == "a\ufffdb\ufffdc\ufffd"
    long = _logs.plain("x" * 1_000_000)
    assert len(long) < 2100
    assert long.endswith("998,000 more characters")


def test_a_long_log_keeps_its_end() -> None:
    run, stage = scenes.staged(scenes.diamond(), scenes.report("a", "RUNNING"))
    stage.lines["a"] = [f"line {i} {'x' * 100}" for i in range(12_000)]
    run.refresh()
    feed = _logs.LogFeed(run, 1)
    first = feed.read(run.jobs["a"])
    assert len(first) == len(feed.kept) == _logs.LINES
    assert feed.total == 12_000
    assert feed.kept[-1][1].startswith("line 11999 ")
    assert feed.read(run.jobs["a"]) == []
    stage.lines["a"].append("more")
    assert [text for _time, text in feed.read(run.jobs["a"])] == ["more"]


# In a kernel


def executed(*cells: str) -> Any:  # noqa: ANN401 - nbformat ships no annotations
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (RUN, *cells)])  # type: ignore[no-untyped-call]
    return nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3", allow_errors=True).execute()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "process")
    monkeypatch.setenv("EZBATCH_LOCAL_VCPUS", "20")
    monkeypatch.setenv("EZBATCH_LOCAL_MEMORY", "100000")


@pytest.mark.usefixtures("machine")
def test_a_notebook_that_no_page_shows_keeps_the_end_of_its_run() -> None:
    done = executed(
        'show(flow(first="echo hello; sleep 3", second="echo oh no; exit 3").submit("local"));',
        "import threading; print([thread.name for thread in threading.enumerate()])",
        "from ipywidgets import Widget; from ipywidgets.widgets.widget import _instances; print(len(_instances))",
    )
    data = done.cells[1].outputs[0].data
    assert len(done.cells[1].outputs) == 1
    assert WIDGET not in data
    assert {"text/html", "text/plain"} <= set(data)
    assert "✖ demo failed" in data["text/plain"]
    assert "oh no" in data["text/plain"]
    assert "ezbatch-views" not in done.cells[2].outputs[0].text
    assert done.cells[3].outputs[0].text.strip() == "0", "every widget is closed"


class Kernel:
    """A kernel, spoken to as a page speaks to it."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self.client = client

    def execute(self, code: str) -> str:
        """Ask for code to be run, and return the request's id."""
        return str(self.client.execute(code))

    def wait_for(self, true: Callable[[dict[str, Any]], object], seconds: float = 20) -> dict[str, Any]:
        """Read what the kernel publishes until a message fits."""
        deadline = time.monotonic() + seconds
        while True:
            message: dict[str, Any] = self.client.get_iopub_msg(timeout=max(deadline - time.monotonic(), 0.1))
            if true(message):
                return message

    def say(self, comm: str, content: dict[str, Any]) -> None:
        """Send what a page sends when something is clicked."""
        data = {"comm_id": comm, "data": {"method": "custom", "content": content}}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", data))


@pytest.fixture
def kernel(machine: None) -> Iterator[tuple[Kernel, Any]]:  # noqa: ARG001 - the kernel inherits its environment
    manager, client = start_new_kernel()
    made = Kernel(client)
    made.execute(RUN)
    client.get_shell_msg(timeout=30)
    yield made, manager
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.context.term()


def is_widget(message: dict[str, Any]) -> bool:
    return bool(WIDGET in message["content"].get("data", {}))


def custom(message: dict[str, Any]) -> dict[str, Any]:
    data = message["content"].get("data", {}) if message["msg_type"] == "comm_msg" else {}
    found: dict[str, Any] = data.get("content", {}) if data.get("method") == "custom" else {}
    return found


def test_a_page_is_answered_while_its_cell_waits(kernel: tuple[Kernel, Any]) -> None:
    spoken, _manager = kernel
    cell = spoken.execute(
        'run = flow(endless="while :; do echo tick; sleep 0.2; done").submit("local"); show(run); run.state'
    )
    later = spoken.execute("'after ' + run.state")
    comm = spoken.wait_for(is_widget)["content"]["data"][WIDGET]["model_id"]
    spoken.say(comm, {"t": "hello", "client": "page"})
    spoken.wait_for(lambda message: custom(message).get("t") == "snap")
    spoken.wait_for(lambda message: any(line[1] == "tick" for line in custom(message).get("log", {}).get("lines", [])))
    # What a page asks while it is loaded is answered, too; code waits for its turn.
    asked = spoken.client.comm_info()
    reply = spoken.client.get_shell_msg(timeout=10)
    while reply["parent_header"]["msg_id"] != asked:
        reply = spoken.client.get_shell_msg(timeout=10)
    assert comm in reply["content"]["comms"]
    spoken.say(comm, {"t": "cancel", "client": "page"})
    spoken.wait_for(lambda message: custom(message).get("t") == "end")
    spoken.say(comm, {"t": "ended", "client": "page"})
    result = spoken.wait_for(lambda message: message["msg_type"] == "execute_result")
    assert result["parent_header"]["msg_id"] == cell
    assert result["content"]["data"]["text/plain"] == "'CANCELLED'"
    result = spoken.wait_for(lambda message: message["msg_type"] == "execute_result")
    assert result["parent_header"]["msg_id"] == later
    assert result["content"]["data"]["text/plain"] == "'after CANCELLED'"


def test_an_interrupt_ends_the_waiting_and_neither_the_view_nor_the_run(kernel: tuple[Kernel, Any]) -> None:
    spoken, manager = kernel
    spoken.execute('run = flow(slow="sleep 3").submit("local"); show(run)')
    comm = spoken.wait_for(is_widget)["content"]["data"][WIDGET]["model_id"]
    spoken.say(comm, {"t": "hello", "client": "page"})
    spoken.wait_for(lambda message: custom(message).get("t") == "snap")
    manager.interrupt_kernel()
    error = spoken.wait_for(lambda message: message["msg_type"] == "error")
    assert error["content"]["ename"] == "KeyboardInterrupt"
    final = spoken.wait_for(lambda message: message["msg_type"] == "update_display_data")
    assert "✔ demo succeeded" in final["content"]["data"]["text/plain"]
    assert WIDGET not in final["content"]["data"]
