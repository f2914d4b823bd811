from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.jupyter.lab import Lab, command, run_cell

pytestmark = pytest.mark.browser
# A machine that builds other things meanwhile answers late.
expect.set_options(timeout=20_000)

PUT = """
from pathlib import Path
import ezbatch
from ezbatch import EZBatchJob, EZBatchWorkflow
from ezbatch.settings import Settings
from ezbatch_jupyter import form
store = Settings.load().s3_directory / "lab"
(store / "in").mkdir(parents=True, exist_ok=True)
(store / "in" / "words.txt").write_text("one\\ntwo\\n")
"""
FORM = PUT + 'shown = form(EZBatchWorkflow("empty", {}))\nshown'
TELL = """
import json
found = [run for run in ezbatch.runs() if run.name == "{name}"]
runs = [[run.refresh().state, {{name: list(above) for name, above in run.parents.items()}}] for run in found]
made = {{str(path.relative_to(store)): path.read_text() for path in store.rglob("*") if path.is_file()}}
print(json.dumps([runs, made]))
"""
_TEN_CLICKS = """(button) => {
  const begun = performance.now();
  for (let i = 0; i < 10; i++) button.click();
  return performance.now() - begun;
}"""
_ALL_THE_WIDTH = "() => { const s = window.jupyterapp.shell; if (!s.leftCollapsed) s.collapseLeft(); }"
#: What a screen reader calls the element that has the focus.
_FOCUSED = """() => {
  const at = document.activeElement;
  const label = at.labels?.length ? at.labels[0].textContent : "";
  return [at.tagName, at.getAttribute("aria-label") || label.trim() || at.textContent.trim() || at.title];
}"""


def open_form(browser: Browser, server: Lab, name: str, *cells: str, width: int = 1280) -> Page:
    server.write(name, [FORM, *cells])
    page = server.open(browser, name, width=width)
    page.evaluate(_ALL_THE_WIDTH)
    run_cell(page, 0)
    page.locator(".ez-form .ez-foot").wait_for(timeout=60_000)
    return page


def printed(page: Page, index: int) -> Any:  # noqa: ANN401 - whatever the cell prints
    """Run a cell, and return what it printed as JSON."""
    run_cell(page, index)
    text: str = page.evaluate(
        """(index) => {
          const panel = [...window.jupyterapp.shell.widgets("main")].find((widget) => widget.sessionContext);
          const outputs = panel.content.widgets[index].model.outputs.toJSON();
          return outputs.map((output) => output.text ?? output.evalue ?? "").join("");
        }""",
        index,
    )
    assert text.startswith("["), text
    return json.loads(text)


def saved_output(page: Page) -> dict[str, Any]:
    data: dict[str, Any] = page.evaluate(
        """() => {
          const panel = [...window.jupyterapp.shell.widgets("main")].find((widget) => widget.sessionContext);
          return panel.content.widgets[0].model.outputs.toJSON().at(-1).data;
        }"""
    )
    return data


def wait_for_success(page: Page) -> dict[str, Any]:
    """Wait until the form has become what a notebook keeps of its run."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        data = saved_output(page)
        if "application/vnd.jupyter.widget-view+json" not in data and "✔" in str(data.get("text/plain")):
            return data
        time.sleep(0.2)
    raise AssertionError(f"it never succeeded: {saved_output(page)}")


class Keys:
    """A person with a keyboard alone."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @property
    def at(self) -> str:
        name: str = self.page.evaluate(_FOCUSED)[1]
        return name

    def go(self, name: str, key: str = "Tab") -> None:
        """Move the focus on until it is there."""
        passed = []
        for _ in range(120):
            if self.at.startswith(name):
                return
            passed.append(self.at)
            self.page.keyboard.press(key)
        raise AssertionError(f"{name} is not reached by {key}: {passed}")

    def type(self, name: str, text: str, key: str = "Tab") -> None:
        self.go(name, key)
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.type(text)

    def press(self, name: str, key: str = "Tab") -> None:
        self.go(name, key)
        self.page.keyboard.press("Enter")

    def arrived(self, name: str) -> None:
        """Wait until the form has moved the focus itself."""
        deadline = time.monotonic() + 20
        while not self.at.startswith(name):
            assert time.monotonic() < deadline, f"the focus is at {self.at!r}, not at {name!r}"
            time.sleep(0.05)


def test_by_keyboard(browser: Browser, server: Lab) -> None:
    page = open_form(browser, server, "keyboard.ipynb", TELL.format(name="by keyboard"))
    page.locator(".ez-form input").first.focus()
    keys = Keys(page)
    keys.type("Workflow", "by keyboard")
    keys.press("Add job")
    keys.arrived("Name")
    keys.type("Name", "sort words")
    keys.type("Image", "busybox")
    keys.type("Command", "mkdir -p out\nsort -r in/words.txt >out/sorted.txt")
    keys.press("S3")
    keys.press("Add read")
    keys.arrived("S3 source")
    page.keyboard.type("s3://lab/in/words.txt")
    keys.type("Path in the container", "in/words.txt")
    keys.press("Add write")
    keys.arrived("S3 destination")
    page.keyboard.type("s3://lab/mid/sorted.txt")
    keys.type("Path in the container", "out/sorted.txt")
    expect(page.get_by_role("button", name="Submit to this machine")).to_be_enabled()
    keys.press("Add job", "Shift+Tab")
    keys.arrived("Name")
    keys.type("Name", "count")
    keys.type("Image", "busybox")
    keys.type("Command", "mkdir -p out\nhead -n 1 in/sorted.txt >out/count.txt")
    keys.go("Job to wait for")
    page.keyboard.press("ArrowDown")
    keys.press("Add")
    expect(page.get_by_role("button", name="Remove sort words")).to_be_visible()
    keys.arrived("Remove sort words")
    keys.press("Add read")  # what was opened for one job stays open for the next
    keys.arrived("S3 source")
    page.keyboard.type("s3://lab/mid/sorted.txt")
    keys.type("Path in the container", "in/sorted.txt")
    keys.press("Add write")
    keys.arrived("S3 destination")
    page.keyboard.type("s3://lab/out/count.txt")
    keys.type("Path in the container", "out/count.txt")
    expect(page.get_by_role("button", name="Submit 2 jobs to this machine")).to_be_enabled()
    keys.press("Submit 2 jobs")
    kept = wait_for_success(page)
    assert "by keyboard" in kept["text/plain"]
    runs, made = printed(page, 1)
    assert runs == [["SUCCEEDED", {"sort words": [], "count": ["sort words"]}]]
    assert made.get("out/count.txt") == "two\n", made
    page.context.close()


def test_by_mouse_and_ten_clicks_are_one_run(browser: Browser, server: Lab) -> None:
    page = open_form(browser, server, "mouse.ipynb", TELL.format(name="by mouse"))
    shown = page.locator(".ez-form")

    def fill(name: str, script: str, read: tuple[str, str], write: tuple[str, str]) -> None:
        shown.get_by_role("button", name="Add job", exact=True).click()
        expect(shown.get_by_label("Name", exact=True)).to_have_value("job")
        shown.get_by_label("Name", exact=True).fill(name)
        shown.get_by_label("Image", exact=True).fill("busybox")
        shown.get_by_label("Command", exact=True).fill(script)
        files = shown.get_by_role("button", name="S3", exact=True)
        if files.get_attribute("aria-expanded") == "false":  # what was opened for one job stays open for the next
            files.click()
        shown.get_by_role("button", name="Add read").click()
        shown.get_by_label("S3 source").fill(read[0])
        shown.get_by_label("Path in the container").fill(read[1])
        shown.get_by_role("button", name="Add write").click()
        shown.get_by_label("S3 destination").fill(write[0])
        shown.get_by_label("Path in the container").last.fill(write[1])

    shown.get_by_label("Workflow", exact=True).fill("by mouse")
    fill("copy", "mkdir -p out\ncp in/words.txt out/words.txt", ("s3://lab/in/words.txt", "in/words.txt"),
         ("s3://lab/mid/words.txt", "out/words.txt"))  # fmt: skip
    fill("upper", "mkdir -p out\ntr a-z A-Z <in/words.txt >out/upper.txt", ("s3://lab/mid/words.txt", "in/words.txt"),
         ("s3://lab/out/upper.txt", "out/upper.txt"))  # fmt: skip
    shown.get_by_label("Job to wait for").select_option("copy")
    shown.get_by_role("button", name="Add", exact=True).click()
    # The drawing chooses: back to the first job, whose fields are as they were left.
    expect(shown.locator(".ez-node")).to_have_count(2)
    shown.locator(".ez-node").filter(has_text="copy").click()
    expect(shown.get_by_label("Name", exact=True)).to_have_value("copy")
    submit = shown.get_by_role("button", name="Submit 2 jobs to this machine")
    expect(submit).to_be_enabled()
    took = submit.evaluate(_TEN_CLICKS)
    assert took < 100
    wait_for_success(page)
    runs, made = printed(page, 1)
    assert runs == [["SUCCEEDED", {"copy": [], "upper": ["copy"]}]], "one run"
    assert made.get("out/upper.txt") == "ONE\nTWO\n", made
    page.context.close()


def test_an_endpoint_that_hangs_holds_nothing_up(browser: Browser, server: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections, and answers none
        account = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{deaf.getsockname()[1]}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        }
        job = 'form(EZBatchJob("busybox", "true"), name="alone")'
        server.write("deaf.ipynb", [f"import os\nos.environ.update({account!r})\n{PUT}\n{job}"])
        page = server.open(browser, "deaf.ipynb")
        run_cell(page, 0)
        shown = page.locator(".ez-form")
        shown.locator(".ez-foot").wait_for(timeout=60_000)
        shown.get_by_role("button", name="List queues").click()
        expect(shown.get_by_role("button", name="List queues")).to_be_disabled()
        # It hangs, and the rest of the form answers.
        submit = shown.get_by_role("button", name="Submit to this machine")
        image = shown.get_by_label("Image", exact=True)
        image.fill("busy box")
        expect(submit).to_be_disabled()
        image.fill("busybox:stable")
        expect(submit).to_be_enabled()
        expect(shown.get_by_role("button", name="List queues")).to_be_disabled()
        expect(shown).to_contain_text("The rest of the form works", timeout=60_000)
        expect(shown.get_by_role("button", name="Refresh")).to_be_enabled()
        page.context.close()


def test_a_click_does_not_overtake_what_was_typed(browser: Browser, server: Lab) -> None:
    # A kernel that is slow or far: each change takes it a while, and the page holds back what is typed meanwhile.
    slow = "import time\nshown.on_change(lambda: time.sleep(0.4))"
    tell = "print(json.dumps([[name, job.image] for name, job in shown.value.jobs.items()]))"
    page = open_form(browser, server, "slow.ipynb", slow, f"import json\n{tell}")
    run_cell(page, 1)
    shown = page.locator(".ez-form")
    for name in ("first", "second"):
        shown.get_by_role("button", name="Add job").click()
        expect(shown.get_by_label("Name", exact=True)).not_to_have_value("first")
        shown.get_by_label("Image", exact=True).fill("busybox")
        shown.get_by_label("Name", exact=True).click()
        page.keyboard.press("ControlOrMeta+a")
        page.keyboard.type(name)
    shown.get_by_role("button", name="Duplicate").click()
    expect(shown.get_by_label("Name", exact=True)).to_have_value("second 2")
    expect(shown.get_by_label("Name", exact=True)).to_be_focused()
    shown.get_by_label("Image", exact=True).click()
    page.keyboard.type(":stable")
    shown.locator(".ez-node").first.click()
    expect(shown.get_by_label("Name", exact=True)).to_have_value("first")
    assert printed(page, 2) == [["first", "busybox"], ["second", "busybox"], ["second 2", "busybox:stable"]]
    page.context.close()


def names_of_inputs(shown: Locator) -> list[str]:
    found: list[str] = shown.evaluate(
        """(root) => [...root.querySelectorAll("input, select, textarea, button")]
          .filter((node) => node.offsetParent !== null)
          .map((node) => node.getAttribute("aria-label") || (node.labels?.[0] ?? node).textContent.trim())"""
    )
    return found


def place_of(part: Locator) -> float:
    """How far below the form's upper edge something is."""
    place: float = part.evaluate(
        "(node) => node.getBoundingClientRect().top - node.closest('.ez-form').getBoundingClientRect().top"
    )
    return place


def several_problems_move_nothing(shown: Locator, height: float) -> None:
    """Besides the problem of the image, which is there already, make two, and mend them again."""
    submit, foot = shown.get_by_role("button", name="Submit"), shown.get_by_role("button", name="Check", exact=True)
    high = place_of(submit)
    shown.get_by_label("Timeout").fill("soon")
    shown.get_by_label("Storage, GiB").fill("400")
    expect(shown).to_contain_text("3 problems to fix: Timeout, Image, Storage")
    assert (place_of(submit), place_of(foot)) == (high, height), "Submit does not jump"
    shown.get_by_label("Timeout").fill("")
    shown.get_by_label("Storage, GiB").fill("")


def test_labels_places_and_themes(browser: Browser, server: Lab) -> None:
    job = 'form(EZBatchJob("busybox", "true", environment={"TOKEN": "hunter" + "2"}), name="labels")'
    server.write("labels.ipynb", [f"{PUT}\n{job}"])
    page = server.open(browser, "labels.ipynb", width=1280)
    page.evaluate(_ALL_THE_WIDTH)
    run_cell(page, 0)
    shown = page.locator(".ez-form")
    shown.locator(".ez-foot").wait_for(timeout=60_000)
    for fold in shown.locator(".ez-fold").all():
        expect(fold).to_have_attribute("aria-expanded", "false")
        fold.click()
        expect(fold).to_have_attribute("aria-expanded", "true")
    shown.get_by_role("button", name="Add read").click()
    expect(shown.get_by_label("S3 source")).to_be_focused()
    assert all(names_of_inputs(shown)), "every input has a name"

    # Nothing moves while a problem comes and goes beside its field, and the field says where its problem stands.
    image, foot = shown.get_by_label("Image", exact=True), shown.get_by_role("button", name="Check", exact=True)
    shown.get_by_label("S3 source").fill("s3://lab/in/words.txt")
    shown.get_by_label("Path in the container").fill("in/words.txt")
    expect(shown.get_by_role("button", name="Submit to this machine")).to_be_enabled()
    before = place_of(foot)
    image.fill("busy box")
    expect(shown.get_by_role("button", name="Submit to this machine")).to_be_disabled()
    expect(shown).to_contain_text("holds a space")
    expect(image).to_have_attribute("aria-invalid", "true")
    slot = image.get_attribute("aria-describedby")
    assert slot
    expect(page.locator(f"#{slot}")).to_contain_text("holds a space")
    assert place_of(foot) == before, "nothing jumps"
    several_problems_move_nothing(shown, before)
    image.fill("busybox")
    expect(shown.get_by_role("button", name="Submit to this machine")).to_be_enabled()
    assert place_of(foot) == before

    # What is typed is the form's, not the notebook's: in command mode "dd" would remove the cell.
    shown.get_by_label("Platform").get_by_text("EC2").click()
    page.keyboard.type("dd")
    expect(shown.get_by_label("GPUs")).to_be_visible()
    assert "hunter2" not in page.content()

    for theme, is_light in (("JupyterLab Light", "true"), ("JupyterLab Dark", "false")):
        command(page, "apputils:change-theme", {"theme": theme})
        expect(page.locator("body")).to_have_attribute("data-jp-theme-light", is_light)
        for width in (1280, 720):
            page.set_viewport_size({"width": width, "height": 1400})
            wide = shown.evaluate("(root) => [root.scrollWidth, root.clientWidth]")
            assert wide[0] <= wide[1], f"at {width} px nothing is cut off"
            low = shown.evaluate(_CONTRAST)
            assert not low, f"{theme}: text of too little contrast: {low}"
    shown.get_by_role("button", name="Copy as Python").click()
    expect(shown.locator(".ez-copied textarea")).to_have_value(_has("hunter2"))
    page.context.close()


def _has(text: str) -> Any:  # noqa: ANN401 - a compiled pattern
    import re

    return re.compile(re.escape(text))


#: The texts whose contrast with what is behind them is below 4.5 : 1.
_CONTRAST = """(root) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour, under) => {
    canvas.clearRect(0, 0, 1, 1);
    if (under) { canvas.fillStyle = `rgb(${under.join()})`; canvas.fillRect(0, 0, 1, 1); }
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (c) => {
    const [r, g, b] = c.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    const stack = [];
    for (let at = node; at; at = at.parentElement) stack.unshift(getComputedStyle(at).backgroundColor);
    return stack.reduce((under, colour) => rgb(colour, under), [255, 255, 255]);
  };
  const found = [];
  for (const node of root.querySelectorAll("*")) {
    if (node.offsetParent === null || node.disabled) continue;
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || node.tagName === "OPTION") continue;
    const back = behind(node), fore = rgb(getComputedStyle(node).color, back);
    const [a, b] = [light(fore), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push([node.textContent.trim().slice(0, 40), ratio.toFixed(2)]);
  }
  return found;
}"""
