"""The view's own script in a bare page, its model played by the page: what it draws, without a notebook around it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

import ezbatch_jupyter

STATIC = Path(ezbatch_jupyter.__file__).parent / "static"

_PLAY = """async (source) => {
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const { default: widget } = await import(url);
  window.sent = [];
  let receive = () => {};
  const model = {
    comm_live: true,
    on: (name, callback) => { if (name === "msg:custom") receive = callback; },
    off: () => {},
    send: (message) => window.sent.push(message),
  };
  widget.initialize({ model });
  window.receive = (message) => receive(message);
  widget.render({ model, el: document.getElementById("view") });
}"""


def page(browser: Browser, *, width: int = 900, body: str = "") -> Page:
    """A page that notes every script it runs which is not ours."""
    opened = browser.new_context(viewport={"width": width, "height": 1200}).new_page()
    css = (STATIC / "run_view.css").read_text(encoding="utf-8")
    opened.set_content(f"<!doctype html><meta charset=utf-8><style>{css}</style><div id=view></div>{body}")
    return opened


def play(opened: Page) -> None:
    """Load the view."""
    opened.evaluate(_PLAY, (STATIC / "run_view.js").read_text(encoding="utf-8"))


def receive(opened: Page, message: Mapping[str, Any]) -> None:
    """Let the view have a message of the kernel, as JSON brings it."""
    opened.evaluate("(text) => window.receive(JSON.parse(text))", json.dumps(message))
