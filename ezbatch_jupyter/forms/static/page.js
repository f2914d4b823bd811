// What ipywidgets leave out: names and descriptions for screen readers, the clipboard, the focus, keys that are the form's.

function render({ model, el }) {
  el.classList.add("ez-page");
  let root = null, observer = null, gone = false, pending = false;
  const box = document.createElement("div");
  box.className = "ez-copied";
  box.hidden = true;
  const head = document.createElement("div");
  head.className = "ez-copyhead";
  const said = document.createElement("span");
  said.setAttribute("role", "status");
  const close = document.createElement("button");
  close.type = "button";
  close.className = "ez-plainbtn";
  close.textContent = "Close";
  close.addEventListener("click", () => { box.hidden = true; area.value = ""; });
  const area = document.createElement("textarea");
  area.readOnly = true;
  area.spellcheck = false;
  head.append(said, close);
  box.append(head, area);
  el.append(box);

  async function copy(text, what) {
    area.value = text;
    area.rows = Math.min(Math.max(text.split("\n").length, 3), 16);
    area.setAttribute("aria-label", `The code as ${what}`);
    box.hidden = false;
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      // Without a secure page or the right: select it, and try the older way.
      area.focus();
      area.select();
      try { done = document.execCommand("copy"); } catch { done = false; }
    }
    said.textContent = done ? `Copied as ${what}: paste it into a cell.` : "Press Ctrl+C, or ⌘C, to copy it.";
    if (!done) { area.focus(); area.select(); }
  }

  function focus(kind) {
    // The widget may be on its way: look for it a few times.
    let tries = 0;
    const look = () => {
      const place = root?.querySelector(`.${CSS.escape(kind)}`);
      const found = place?.matches("button, input") ? place : place?.querySelector(":is(input, textarea, select):enabled") ?? place?.querySelector("button:enabled");
      if (found && found.offsetParent !== null) found.focus();
      else if (tries++ < 40) setTimeout(look, 25);
    };
    look();
  }

  let ids = 0;
  function set(node, name, value) {
    if (value === null) { if (node.hasAttribute(name)) node.removeAttribute(name); }
    else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  }

  // ipywidgets know no descriptions: ties each input to the line below it, and says which folds are open.
  function tie() {
    pending = false;
    if (!root) return;
    for (const slot of root.querySelectorAll(".ez-slot")) {
      const group = slot.closest(".ez-group");
      if (!group) continue;
      if (!slot.id) slot.id = `ez-slot-${Math.random().toString(36).slice(2)}-${ids++}`;
      const filled = slot.textContent.trim() !== "";
      for (const input of group.querySelectorAll("input, select, textarea"))
        if (input.closest(".ez-group") === group) set(input, "aria-describedby", filled ? slot.id : null);
    }
    for (const input of root.querySelectorAll(".ez-entry input, .ez-entry textarea, .ez-choice select"))
      set(input, "aria-invalid", input.closest(".ez-bad") ? "true" : null);
    for (const fold of root.querySelectorAll("button.ez-fold, button.ez-more"))
      set(fold, "aria-expanded", String(fold.classList.contains("ez-open")));
    for (const sign of root.querySelectorAll("button.ez-plain, button.ez-tag")) if (sign.title) set(sign, "aria-label", sign.title);
    for (const radios of root.querySelectorAll(".ez-toggle")) {
      set(radios, "role", "radiogroup");
      set(radios, "aria-label", radios.querySelector(".widget-label")?.textContent ?? "");
    }
    for (const area of root.querySelectorAll(".ez-code :is(input, textarea)")) {
      set(area, "spellcheck", "false");
      set(area, "autocomplete", "off");
      set(area, "autocapitalize", "off");
    }
  }
  const later = () => { if (!pending) { pending = true; requestAnimationFrame(tie); } };

  const stop = (event) => event.stopPropagation();

  function begin() {
    if (gone) return;
    root = el.closest(".ez-form");
    if (!root) { requestAnimationFrame(begin); return; }
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", model.get("label"));
    root.setAttribute("data-lm-suppress-shortcuts", "true");
    // The notebook listens above, and would move the focus to its active cell: what is typed here is not its own.
    for (const kind of ["keydown", "keypress", "keyup"]) root.addEventListener(kind, stop);
    observer = new MutationObserver(later);
    observer.observe(root, { subtree: true, childList: true, attributes: true, attributeFilter: ["class"] });
    tie();
  }
  begin();

  const receive = (message) => {
    if (message.t === "copy") copy(message.text, message.what);
    else if (message.t === "focus") focus(message.kind);
    else if (message.t === "echo") model.send(message);
  };
  model.on("msg:custom", receive);
  return () => {
    gone = true;
    observer?.disconnect();
    for (const kind of ["keydown", "keypress", "keyup"]) root?.removeEventListener(kind, stop);
    model.off("msg:custom", receive);
  };
}

export default { render };
