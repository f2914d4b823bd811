from __future__ import annotations

import json
import time
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from ezbatch.backend import JobState
from ezbatch.run import EZBatchRun
from ezbatch.workflow import EZBatchJob, EZBatchWorkflow
from ezbatch_jupyter import bundles
from ezbatch_jupyter._logs import plain
from ezbatch_jupyter.run_view import RunView
from tests.containers import require
from tests.jupyter import scenes, stub
from tests.jupyter.corpus import CORPUS
from tests.jupyter.lab import Lab, cells_done, command, outputs, run_cell, saved
from tests.jupyter.test_run_view import WIDGET
from tests.jupyter.test_run_view import Page as Recorder

pytestmark = pytest.mark.browser

#: Half a surrogate pair is refused as a name.
NAMES = tuple(text for text in CORPUS if text.encode("utf-8", "ignore").decode() == text)
BENIGN = tuple(f"name {chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(len(NAMES)))
_TAGS = "() => [...document.querySelectorAll('body *')].map((node) => node.tagName.toLowerCase())"
_ADD = """(parts) => {
  const range = document.createRange();
  document.body.append(...parts.map((part) => range.createContextualFragment(part)));
}"""


def told(names: tuple[str, ...], selected: int) -> list[dict[str, Any]]:
    """What the kernel tells a page of a run in which every text is one of these names."""
    flow = EZBatchWorkflow(
        names[0],
        {name: EZBatchJob("image", "true", tags={"key": "value"}) for name in names},
        {b: [a] for a, b in zip(names[0::2], names[1::2], strict=False)},
    )
    reports = [
        scenes.report(name, "FAILED" if i % 2 == 0 else "BLOCKED", exit_code=1, reason=f"Dependent Job failed: {name}")
        for i, name in enumerate(names)
    ]
    run, stage = scenes.staged(flow, *reports)
    stage.lines = {name: [name, *names] for name in names}
    recorder = Recorder()
    view = RunView(run, limit=1000)
    view._own.refresh()
    view._widget = recorder  # type: ignore[assignment] # it records what a widget would send
    view._begin()
    view._note = f"The run could not be looked at: {names[selected]}"
    recorder.say("hello")
    recorder.say("select", job=selected)
    for message in list(view._asked()):
        view._answer(message)
    view._panel_messages()
    view._send_snapshot("one")
    for message in recorder.messages:
        message["to"] = None
    return json.loads(json.dumps(recorder.messages))  # type: ignore[no-any-return] # as a page gets them


def shown(browser: Browser, run: EZBatchRun) -> tuple[Page, RunView, dict[str, Any]]:
    """Return a page that has the whole of a run, the view it is of, and what it was sent."""
    recorder = Recorder()
    view = RunView(run.refresh())
    view._widget = recorder  # type: ignore[assignment] # it records what a widget would send
    view._begin()
    view._send_snapshot(None)
    page = stub.page(browser)
    stub.play(page)
    stub.receive(page, recorder.messages[0])
    return page, view, recorder.messages[0]


def ran(page: Page) -> bool:
    page.wait_for_timeout(50)
    return bool(page.evaluate("() => window.__hit !== undefined"))


def test_what_users_write_is_text_in_the_live_view(browser: Browser) -> None:
    require("dot")
    tags = []
    for names in (BENIGN, NAMES):
        page = stub.page(browser)
        page.on("dialog", lambda _dialog: pytest.fail("a script ran"))
        stub.play(page)
        for message in told(names, 0):
            stub.receive(page, message)
        page.get_by_role("button", name="more").click()
        expect(page.locator("tbody tr")).to_have_count(len(NAMES))
        expect(page.locator(".log div")).to_have_count(len(NAMES) + 1)
        page.get_by_label("Find in this log").fill(plain(names[0])[:20])
        page.get_by_label("Find in this log").fill("")
        page.locator("tbody tr").first.click()
        page.locator("svg .node").first.press("Enter")
        assert not ran(page)
        tags.append(page.evaluate(_TAGS))
        page.context.close()
    assert tags[0] == tags[1], "what users wrote made an element"


def test_what_users_write_is_text_in_what_is_kept(browser: Browser) -> None:
    require("dot")
    tags = []
    for names in (BENIGN, NAMES):
        flow = EZBatchWorkflow(names[0], {name: EZBatchJob("image", "true") for name in names[:60]})
        reports = [scenes.report(name, "FAILED", exit_code=1, reason=name) for name in names[:60]]
        run, _stage = scenes.staged(flow, *reports)
        run.refresh()
        ending = bundles.Ending(names[1], run.explain(names[1]), list(names), names[2])
        found = [bundles.workflow_bundle(flow), bundles.plan_bundle(run.plan), bundles.run_bundle(run, ending)]
        page = stub.page(browser)
        page.on("dialog", lambda _dialog: pytest.fail("a script ran"))
        # As markup of the page itself, in which a script would run.
        page.evaluate(
            _ADD,
            [bundle[kind] for bundle in found for kind in ("text/html", "image/svg+xml")],
        )
        assert not ran(page)
        tags.append(page.evaluate(_TAGS))
        page.context.close()
    assert tags[0] == tags[1], "what users wrote made an element"


def test_a_saved_table_is_read_with_long_names_in_a_narrow_page(browser: Browser) -> None:
    long = "a name " * 20
    flow = scenes.workflow({"short": [], long: ["short"]})
    reports = [scenes.report("short", "SUCCEEDED"), scenes.report(long, "FAILED", exit_code=1, reason="why " * 20)]
    run, _stage = scenes.staged(flow, *reports)
    # JupyterLab's own rule for pictures in a notebook's output.
    page = stub.page(browser, width=640, body="<style>img { max-width: 100% }</style>")
    page.evaluate(_ADD, [bundles.run_bundle(run.refresh())["text/html"]])
    cells = page.evaluate(
        "() => [...document.querySelectorAll('td')].map((cell) => [cell.scrollWidth, cell.clientWidth])"
    )
    assert all(needed <= had for needed, had in cells), cells
    assert page.locator("td:nth-child(6)").first.evaluate("(cell) => cell.clientWidth") >= 200
    expect(page.get_by_title(long.strip())).to_have_count(1)
    page.context.close()


def test_the_view_is_used_by_keyboard(browser: Browser) -> None:
    require("dot")
    run, _stage = scenes.staged(scenes.cohort(), *scenes.cohort_reports().values())
    page, view, _snapshot = shown(browser, run)
    names = view._names
    first = page.locator("tbody tr[tabindex='0']")
    expect(first).to_have_count(1)
    first.focus()
    first.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.evaluate("() => window.sent.at(-1)") | {"client": ""} == {
        "t": "select", "job": names.index("taxa-report"), "client": "",
    }  # fmt: skip
    node = page.locator("svg .node[tabindex='0']")
    expect(node).to_have_attribute("aria-label", "fetch-reference, succeeded, 1 m 00 s")
    node.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.evaluate("() => window.sent.at(-1).job") == names.index("fetch-reads")
    page.get_by_role("button", name="Cancel run").press("Enter")
    expect(page.get_by_role("alertdialog")).to_contain_text("Cancel the 5 jobs that have not ended?")
    page.keyboard.press("Escape")
    expect(page.get_by_role("alertdialog")).to_be_hidden()
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, [role]")]
          .filter((node) => node.checkVisibility() && !node.textContent && !node.ariaLabel && !node.labels?.length)
          .map((node) => node.outerHTML)"""
    )
    assert [each for each in unnamed if 'role="status"' not in each] == []
    page.context.close()


def test_a_bar_shows_its_only_failure_and_a_running_job_needs_no_cause(browser: Browser) -> None:
    require("dot")
    counts = {JobState.SUCCEEDED: 9_997, JobState.FAILED: 1, JobState.RUNNING: 1, JobState.RUNNABLE: 1}
    reports = scenes.cohort_reports() | {"align": scenes.report("align", "RUNNING", children=counts)}
    run, _stage = scenes.staged(scenes.cohort(), *reports.values())
    page, view, _snapshot = shown(browser, run)
    node = page.locator("svg .node").filter(has_text="align")
    widths = {
        kind: float(node.locator(f".{kind}").get_attribute("width") or 0)
        for kind in ("track", "f_SUCCEEDED", "f_FAILED", "f_RUNNING")
    }
    assert min(widths.values()) >= 2, widths
    assert sum(widths.values()) <= 2 * widths["track"]
    panel = {"job": view._names.index("align"), "child": 0, "children": 2, "attempts": [1], "attempt": 1}
    told = {"cause": "It runs", "evidence": "attempt 1", "remedy": ""}
    for seq, (state, visible) in enumerate([("RUNNING", False), ("FAILED", True)], start=1):
        stub.receive(page, {"t": "patch", "seq": seq, "now": time.time(), "panel": {**panel, **told, "state": state}})
        expect(page.locator(".why")).to_be_visible(visible=visible)
    page.context.close()


def test_a_page_that_has_missed_nothing_keeps_what_it_shows(browser: Browser) -> None:
    page, _view, snapshot = shown(browser, scenes.staged(scenes.diamond())[0])
    page.locator("tbody tr").first.evaluate("(row) => { row.dataset.mark = 'same'; }")
    stub.receive(page, snapshot)
    expect(page.locator("tbody tr[data-mark=same]")).to_have_count(1)
    stub.receive(page, {**snapshot, "seq": 4})
    expect(page.locator("tbody tr[data-mark=same]")).to_have_count(0)
    page.context.close()


def test_a_page_that_missed_a_message_asks_for_the_whole(browser: Browser) -> None:
    page, _view, _snapshot = shown(browser, scenes.staged(scenes.diamond())[0])
    row = ["RUNNING", 1, None, time.time(), None, "", "", None]
    stub.receive(page, {"t": "patch", "seq": 1, "now": time.time(), "rows": [[0, row]]})
    expect(page.locator("tbody tr").first).to_contain_text("Running")
    expect(page.get_by_role("status")).to_have_text("a running")
    assert page.evaluate("() => window.sent.length") == 1
    stub.receive(page, {"t": "patch", "seq": 3, "now": time.time(), "rows": [[1, row]]})
    assert page.evaluate("() => window.sent.at(-1).t") == "hello"
    expect(page.locator("tbody .st_RUNNING")).to_have_count(1)
    page.context.close()


# In JupyterLab

#: Milliseconds; a busy machine takes its time, an idle one a tenth of it.
SLOW = 60_000

FLOW = """
%load_ext ezbatch_jupyter
import os
from ezbatch import EZBatchJob, EZBatchRun, EZBatchWorkflow
from ezbatch_jupyter import show
def sh(text, **fields): return EZBatchJob("image", ["sh", "-c", text], **fields)
flow = EZBatchWorkflow("night", {
    "fetch": sh(f"until [ -e {os.path.abspath('go')} ]; do sleep 0.1; done"),
    "align": sh("sleep 0.1", array=4),
    "report": sh("true"),
    "classify": sh("echo reading; echo '<b>Killed</b>'; sleep 0.5; exit 3"),
    "endless": sh("while :; do echo tick; sleep 0.2; done"),
}, {"align": ["fetch"], "classify": ["fetch"], "report": ["classify"]})
"""


def test_a_page_that_the_kernel_does_not_hear_is_told_what_goes_on(browser: Browser, server: Lab) -> None:
    """As in Run All: the page's first word waits behind the cells, which wait for the run."""
    require("dot")
    for name in ("go", "enough"):
        (server.root / name).unlink(missing_ok=True)
    busy = "import time\nwhile not os.path.exists('enough'): time.sleep(0.1)"
    server.write("all.ipynb", [FLOW, 'run = flow.submit("local")\nrun', busy, "run.cancel(); run.wait(); run.state"])
    page = server.open(browser, "all.ipynb")
    command(page, "notebook:run-all-cells", wait=False)
    view = page.locator(".ez.run")
    expect(view.locator("svg .node.st_RUNNING").filter(has_text="fetch")).to_be_visible(timeout=SLOW)
    (server.root / "go").touch()
    expect(view.locator("svg .node.st_FAILED").filter(has_text="classify")).to_be_visible(timeout=SLOW)
    expect(view.locator(".log")).to_contain_text("<b>Killed</b>", timeout=SLOW)
    (server.root / "enough").touch()
    cells_done(page, 4)
    expect(page.locator(".jp-OutputArea-output img").first).to_be_visible(timeout=SLOW)
    expect(view).to_have_count(0)
    (server.root / "go").unlink()
    page.context.close()


def test_a_notebook_as_a_person_uses_it(browser: Browser, server: Lab) -> None:
    require("dot")
    path = server.write(
        "night.ipynb",
        [FLOW, "flow", 'run = flow.submit("local"); show(run); run.state', 'EZBatchRun.attach("@last")'],
    )
    page = server.open(browser, "night.ipynb")
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    run_cell(page, 0)
    run_cell(page, 1)
    run_cell(page, 2, wait=False)
    view = page.locator(".ez.run")
    # Nodes change colour, and what failed is selected by itself, while the cell waits.
    expect(view.locator("svg .node.st_RUNNING").filter(has_text="fetch")).to_be_visible(timeout=SLOW)
    (server.root / "go").touch()
    expect(view.locator("svg .node.st_SUCCEEDED").filter(has_text="fetch")).to_be_visible(timeout=SLOW)
    expect(view.locator("svg .node.st_FAILED").filter(has_text="classify")).to_be_visible(timeout=SLOW)
    expect(view.locator(".log")).to_contain_text("<b>Killed</b>", timeout=SLOW)
    expect(view.locator(".why")).to_contain_text("exit code 3", timeout=SLOW)
    # A click is answered while the cell waits.
    view.locator("svg .node").filter(has_text="endless").click()
    expect(view.locator(".log")).to_contain_text("tick", timeout=SLOW)
    view.get_by_role("button", name="classify, failed").click()
    expect(view.locator(".log")).to_contain_text("reading", timeout=SLOW)
    # A page that is loaded again shows the run as it is now.
    command(page, "docmanager:save")
    server.reload(page)
    view = page.locator(".ez.run")
    expect(view.locator("svg .node.st_FAILED").filter(has_text="classify")).to_be_visible(timeout=SLOW)
    expect(view.locator(".log")).to_contain_text("reading", timeout=SLOW)
    view.get_by_role("button", name="Cancel run").click()
    view.get_by_role("button", name="Cancel the run").click()
    expect(page.locator(".ez.run")).to_have_count(0, timeout=SLOW)
    kept = outputs(saved(page, path), 2)[0]
    assert WIDGET not in kept
    assert {"text/html", "image/svg+xml", "text/plain"} <= set(kept)
    assert "night cancelled" in "".join(kept["text/plain"])
    assert errors == []
    page.context.close()


def test_a_run_outlives_the_kernel(browser: Browser, server: Lab) -> None:
    require("dot")
    path = server.write("restart.ipynb", [FLOW, 'run = flow.submit("local"); run', 'EZBatchRun.attach("@last")'])
    page = server.open(browser, "restart.ipynb")
    (server.root / "go").touch()
    run_cell(page, 0)
    run_cell(page, 1)
    expect(page.locator(".ez svg .node.st_RUNNING").first).to_be_visible(timeout=SLOW)
    page.evaluate(
        """async () => {
          const panel = [...window.jupyterapp.shell.widgets("main")].find((widget) => widget.sessionContext);
          await panel.sessionContext.restartKernel();
          await panel.sessionContext.session.kernel.info;
        }"""
    )
    # The view of the old kernel has left a word in its place.
    expect(page.get_by_text("when the kernel stopped")).to_be_visible(timeout=SLOW)
    run_cell(page, 0)
    run_cell(page, 2)
    view = page.locator(".ez.run")
    expect(view.locator("svg .node.st_FAILED").filter(has_text="classify")).to_be_visible(timeout=SLOW)
    view.get_by_role("button", name="Cancel run").click()
    view.get_by_role("button", name="Cancel the run").click()
    expect(page.locator(".ez.run")).to_have_count(0, timeout=SLOW)
    notebook = saved(page, path)
    assert WIDGET not in json.dumps(notebook)
    assert "night cancelled" in "".join(outputs(notebook, 2)[0]["text/plain"])
    page.context.close()


def test_a_cell_of_the_magic_and_its_failed_job(browser: Browser, server: Lab) -> None:
    path = server.write(
        "magic.ipynb",
        ["%load_ext ezbatch_jupyter", "%%ezbatch --name unlucky --image busybox\necho before\nsleep 1\nexit 7"],
    )
    page = server.open(browser, "magic.ipynb")
    run_cell(page, 0)
    run_cell(page, 1, wait=False)
    expect(page.locator(".ez.run .log")).to_contain_text("before", timeout=SLOW)
    cells_done(page, 2, 60)
    expect(page.locator(".ez.run")).to_have_count(0, timeout=SLOW)
    notebook = saved(page, path)
    assert WIDGET not in json.dumps(notebook)
    kinds = [output["output_type"] for output in notebook["cells"][1]["outputs"]]
    assert "error" in kinds
    assert any("unlucky failed" in "".join(data.get("text/plain", "")) for data in outputs(notebook, 1))
    page.context.close()
