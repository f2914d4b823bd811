// The live view of a run. The kernel sends one whole picture when a page connects, and then only what changed, each
// message numbered: a page that misses one asks for the whole again. What users wrote becomes text nodes, never markup.

const GLYPHS = { SUBMITTED: "○", PENDING: "◔", RUNNABLE: "◑", STARTING: "◕", RUNNING: "▶", SUCCEEDED: "✔", FAILED: "✖", BLOCKED: "⊘" };
const STATES = ["FAILED", "BLOCKED", "RUNNING", "STARTING", "RUNNABLE", "PENDING", "SUBMITTED", "SUCCEEDED"];
const RANK = Object.fromEntries(STATES.map((state, i) => [state, i]));
const RUN_SIGNS = { SUBMITTING: "SUBMITTED", INTERRUPTED: "RUNNABLE", CANCELLED: "BLOCKED" };
const ROWS = 100; // so many rows are in the table until all are asked for
const NONE = "–";
// The places of a row's fields in the messages.
const STATE = 0, ATTEMPT = 1, QUEUED = 2, STARTED = 3, STOPPED = 4, WHY = 5, BRIEF = 6, COUNTS = 7;

const sign = (state) => (GLYPHS[state] ?? "·") + "\uFE0E";
const word = (state) => state.charAt(0) + state.slice(1).toLowerCase();
const thousands = new Intl.NumberFormat("en-US");
const number = (value) => thousands.format(value);

function duration(seconds) {
  seconds = Math.max(seconds, 0);
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds), hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  const two = (value) => String(value).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  return hours ? `${hours} h ${two(minutes)} m` : `${minutes} m ${two(whole % 60)} s`;
}

function set(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function badge(node, state) {
  const name = "st st_" + (STATES.includes(state) ? state : "PENDING");
  if (node.className !== name) {
    node.className = name;
    node.dataset.g = sign(state);
  }
}

// What the children of an array, or the jobs of a group, make together; as the kernel sees it.
function together(counts) {
  for (const state of ["RUNNING", "STARTING", "RUNNABLE", "PENDING", "SUBMITTED", "FAILED", "BLOCKED"]) if (counts[state]) return state;
  return "SUCCEEDED";
}

// What the page knows; one for each model, whatever the number of its views.
class Store {
  constructor(model) {
    this.model = model;
    this.client = Math.random().toString(36).slice(2);
    this.seq = -1;
    this.rows = [];
    this.lines = [];
    this.views = new Set();
    this.skew = 0;
    this.asked = false;
  }

  send(message) {
    this.model.send({ ...message, client: this.client });
  }

  hello() {
    if (this.asked) return;
    this.asked = true;
    this.send({ t: "hello" });
    clearTimeout(this.patience);
    this.patience = setTimeout(() => { if (this.seq < 0 && !this.over) this.send({ t: "deaf" }); }, 4000);
  }

  now() {
    return Date.now() / 1000 + this.skew;
  }

  receive(message) {
    if (message.t === "snap") {
      if (message.to && message.to !== this.client) return;
      this.asked = false;
      if (this.seq === message.seq) return; // nothing was missed; to build it again would lose where people are
      this.seq = message.seq;
      Object.assign(this, { head: message.head, facts: message.facts, rows: message.rows, dag: message.dag, panel: message.panel, lines: message.lines, logged: message.logged });
      this.skew = message.now - Date.now() / 1000;
      for (const view of this.views) view.rebuild();
      return;
    }
    if (message.t === "end") {
      if (message.bundle) replaceOutputs(this.model, message.id, message.bundle);
      this.over = true;
      this.send({ t: "ended" });
      return;
    }
    if (this.seq < 0 || message.seq <= this.seq) return;
    if (message.seq !== this.seq + 1) {
      this.hello();
      return;
    }
    this.seq = message.seq;
    this.skew = message.now - Date.now() / 1000;
    const changed = { rows: [] };
    if (message.head) Object.assign(this.head, message.head);
    for (const [i, row] of message.rows ?? []) {
      changed.rows.push([i, this.rows[i][STATE]]);
      this.rows[i] = row;
    }
    if ("panel" in message) {
      this.panel = message.panel;
      changed.panel = true;
    }
    if (message.log) {
      if (message.log.fresh) this.lines = [];
      this.lines.push(...message.log.lines);
      const dropped = Math.max(this.lines.length - message.log.keep, 0);
      this.lines.splice(0, dropped);
      this.logged = message.log.logged;
      changed.log = { fresh: message.log.fresh, added: message.log.lines.length, dropped };
    }
    for (const view of this.views) view.update(changed);
  }
}

// After a reload the page no longer knows which output an update of the display is meant for, and after a restart the
// kernel cannot send one: then the page itself puts what is to be kept in the view's place. JupyterLab only; elsewhere
// there is no document to be found, and nothing happens.
function replaceOutputs(model, id, bundle) {
  try {
    const cells = model.widget_manager?.context?.model?.cells;
    for (let i = 0; i < (cells?.length ?? 0); i++) {
      const outputs = cells.get(i).outputs;
      for (let k = 0; k < (outputs?.length ?? 0); k++) {
        const view = outputs.get(k).toJSON().data?.["application/vnd.jupyter.widget-view+json"];
        if (view?.model_id === id) outputs.set(k, { output_type: "display_data", metadata: {}, data: bundle });
      }
    }
  } catch (error) {
    console.warn("ezbatch: the view could not be replaced in the notebook", error);
  }
}

function escaped(text) {
  const box = document.createElement("span");
  box.textContent = text;
  return box.innerHTML;
}

class View {
  constructor(store, el) {
    this.store = store;
    this.root = make("section", { class: "ez run" });
    el.append(this.root);
    this.all = false;
    this.only = null; // the jobs of a group, when one is selected
    this.rebuild();
    this.clock = setInterval(() => this.tick(), 1000);
  }

  close() {
    clearInterval(this.clock);
    clearTimeout(this.catching);
    this.watcher?.disconnect();
    this.root.remove();
  }

  rebuild() {
    const { store, root } = this;
    clearTimeout(this.catching);
    this.catching = 0;
    root.replaceChildren();
    if (!store.head) {
      root.append(make("p", { class: "note quiet" }, "Connecting to the kernel …"));
      return;
    }
    const { facts } = store;
    root.setAttribute("aria-label", `Run ${facts.name}`);
    this.buildHead();
    this.buildDag();
    this.buildTable();
    this.buildPanel();
    this.heard = make("div", { class: "hear", role: "status", "aria-live": "polite" });
    root.append(this.heard);
    this.updateHead();
    this.updatePanel();
    this.fillLog();
  }

  // The header

  buildHead() {
    const { store } = this, { facts } = store;
    this.state = make("b");
    this.stateBadge = make("span", { class: "st" }, this.state);
    this.elapsed = make("b");
    this.detach = make("button", { class: "btn", type: "button", title: "Stop watching. The run goes on; come back with EZBatchRun.attach.", onclick: () => store.send({ t: "detach" }) }, "Detach");
    this.cancel = make("button", { class: "btn", type: "button", title: "Asks first, then cancels every job that has not ended.", onclick: () => this.ask(true) }, "Cancel run…");
    this.cost = make("b");
    this.costBox = make("span", { hidden: true }, this.cost, make("span", { class: "quiet" }, " so far"));
    this.counts = make("ul", { class: "counts" });
    this.where = make("span", { class: "quiet small push" });
    this.bar = make("div", { class: "bar", role: "img" });
    this.askText = make("span");
    this.confirm = make("button", { class: "btn", type: "button", onclick: () => { this.ask(false); store.send({ t: "cancel" }); } }, "Cancel the run");
    this.askBox = make("div", { class: "row ask", role: "alertdialog", "aria-label": "Cancel the run?", hidden: true, onkeydown: (event) => { if (event.key === "Escape") this.ask(false); } },
      this.askText, make("span", { class: "row push" }, this.confirm, make("button", { class: "btn", type: "button", onclick: () => this.ask(false) }, "Let it run")));
    this.askBox.setAttribute("data-lm-suppress-shortcuts", "true");
    this.note = make("p", { class: "note", role: "alert", hidden: true });
    this.root.append(
      make("header", { class: "head" },
        make("div", { class: "row" },
          make("h2", { class: "title" }, facts.name), this.stateBadge, make("span", { class: "mono quiet", title: "the run's id" }, facts.id),
          make("span", { class: "acts push" }, make("span", {}, this.elapsed, make("span", { class: "quiet" }, " elapsed")), this.costBox, make("span", { class: "two" }, this.detach, this.cancel))),
        make("div", { class: "row" }, this.counts, this.where)),
      this.bar, this.askBox, this.note);
  }

  ask(open) {
    this.askBox.hidden = !open;
    if (!open) {
      this.cancel.focus();
      return;
    }
    const left = this.store.rows.filter((row) => !["SUCCEEDED", "FAILED", "BLOCKED"].includes(row[STATE])).length;
    set(this.askText, `Cancel ${left === 1 ? "the job that has" : `the ${number(left)} jobs that have`} not ended? What has succeeded is kept.`);
    this.confirm.focus();
  }

  updateHead() {
    const { head, rows, facts } = this.store;
    badge(this.stateBadge, RUN_SIGNS[head.state] ?? head.state);
    set(this.state, word(head.state));
    const counts = {}, units = {};
    rows.forEach((row, i) => {
      counts[row[STATE]] = (counts[row[STATE]] ?? 0) + 1;
      const size = facts.sizes[i] ?? 1, children = row[COUNTS];
      if (children && Object.keys(children).length) for (const [state, count] of Object.entries(children)) units[state] = (units[state] ?? 0) + count;
      else units[row[STATE]] = (units[row[STATE]] ?? 0) + size;
    });
    this.counts.replaceChildren(...STATES.filter((state) => counts[state]).map((state) => {
      const item = make("li", { class: "st" }, make("span", {}, make("b", {}, number(counts[state])), ` ${state.toLowerCase()}`));
      badge(item, state);
      return item;
    }));
    const order = ["SUCCEEDED", ...STATES.filter((state) => state !== "SUCCEEDED")].filter((state) => units[state]);
    this.bar.replaceChildren(...order.map((state) => make("i", { class: `st_${state}`, style: `flex: ${units[state]}` })));
    const all = Object.values(units).reduce((a, b) => a + b, 0), done = (units.SUCCEEDED ?? 0) + (units.FAILED ?? 0) + (units.BLOCKED ?? 0);
    const said = `${number(done)} of ${number(all)} done${facts.sizes.some((size) => size) ? ", array children counted one by one" : ""}`;
    this.bar.setAttribute("aria-label", said);
    this.bar.title = said;
    this.cancel.disabled = this.detach.disabled = !head.live;
    set(this.cost, head.cost ?? "");
    this.costBox.hidden = !head.cost;
    this.costBox.title = head.prices ?? "";
    set(this.note, head.note);
    this.note.hidden = !head.note;
    this.tick();
  }

  tick() {
    const { store } = this, { head } = store;
    if (!head) return;
    set(this.elapsed, duration((head.finished ?? store.now()) - head.created));
    const ago = Math.round(store.now() - head.looked);
    set(this.where, `${store.facts.where}${head.live ? `, updated ${ago < 2 ? "now" : `${duration(ago).replace(".0", "")} ago`}` : ""}`);
    store.rows.forEach((row, i) => {
      if (row[STATE] !== "RUNNING" || !row[STARTED]) return;
      const ran = duration(store.now() - row[STARTED]), cells = this.cells?.get(i);
      if (cells) set(cells.ran, ran);
      const node = this.nodes?.[this.nodeOf[i]];
      if (node && node.jobs.length === 1 && !row[BRIEF]) set(node.sub, ran);
    });
  }

  // The DAG

  buildDag() {
    const { dag, facts } = this.store;
    this.nodes = null;
    this.nodeOf = [];
    if (!dag) return;
    if (dag.text !== undefined) {
      if (dag.text) this.root.append(make("pre", { class: "dagtext", tabindex: "0", "aria-label": "DAG" }, dag.text));
      return;
    }
    const { width, height, box } = dag;
    const svg = draw("svg", { class: "dag", viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": `DAG of ${facts.name}`, "data-lm-suppress-shortcuts": "true" });
    svg.style.minWidth = `${Math.round(width * 0.88)}px`; // it shrinks to 88 %, then scrolls
    this.into = dag.nodes.map(() => []); // the edges into each node
    for (const [, head, path, tip] of dag.edges) {
      const edge = draw("g", { class: "edge" }, draw("path", { d: path }), draw("polygon", { points: tip }));
      svg.append(edge);
      this.into[head].push(edge);
    }
    this.ring = draw("rect", { class: "ring", width: box[0] + 6, height: box[1] + 6, rx: 9, visibility: "hidden" });
    svg.append(this.ring);
    this.nodes = dag.nodes.map(([short, label, size, x, y, jobs], place) => {
      const title = draw("title"), glyph = draw("text", { class: "glyph", x: x + 18, y: y + 15, dy: ".36em" });
      const name = draw("text", { class: "name", x: x + 34, y: y + 19.3 }, short), sub = draw("text", { class: "sub", x: x + 34, y: y + 34.5 });
      if (size !== null) name.append(draw("tspan", { class: "count" }, ` ×${number(size)}`));
      const bars = draw("g");
      const group = draw("g", { class: "node", tabindex: "-1", role: "button" }, title,
        draw("rect", { class: "box", x, y, width: box[0], height: box[1], rx: 6 }), draw("rect", { class: "badge", x: x + 10, y: y + 7, width: 16, height: 16, rx: 3 }), glyph, name, sub, bars);
      group.addEventListener("click", () => this.pickNode(place));
      group.addEventListener("keydown", (event) => this.nodeKey(event, place));
      svg.append(group);
      for (const job of jobs) this.nodeOf[job] = place;
      return { group, title, glyph, sub, bars, label, size, x, y, jobs, state: "" };
    });
    if (this.nodes.length) this.nodes[0].group.setAttribute("tabindex", "0");
    const frame = make("div", { class: "dagbox" }, svg);
    this.root.append(frame);
    this.nodes.forEach((_node, place) => this.updateNode(place));
    // Where the reader looks, noted when it changes: to ask for it later would make the browser lay out everything.
    this.later = new Set();
    this.sight = [0, 0, Infinity, Infinity];
    const look = () => {
      const scale = svg.clientWidth / width || 1, reach = [frame.scrollLeft, frame.scrollTop, frame.scrollLeft + frame.clientWidth, frame.scrollTop + frame.clientHeight];
      this.sight = reach.map((value) => value / scale);
      this.catchUp();
    };
    frame.addEventListener("scroll", look, { passive: true });
    this.watcher?.disconnect();
    this.watcher = new ResizeObserver(look);
    this.watcher.observe(frame);
  }

  inSight(node) {
    const [left, top, right, bottom] = this.sight, [width, height] = this.store.dag.box;
    return node.x < right && node.x + width > left && node.y < bottom && node.y + height > top;
  }

  // Nodes in sight change at once, the others a few at a time: a thousand texts take longer than a frame.
  updateNodes(places) {
    for (const place of places) this.later.add(place);
    this.catchUp();
  }

  catchUp(some = 0) {
    for (const place of this.later) {
      if (!this.inSight(this.nodes[place]) && some-- <= 0) continue;
      this.later.delete(place);
      this.updateNode(place);
    }
    if (this.later.size && !this.catching) this.catching = setTimeout(() => { this.catching = 0; this.catchUp(40); }, 20);
  }

  updateNode(place) {
    const { store } = this, node = this.nodes[place], box = store.dag.box;
    const single = node.jobs.length === 1, row = store.rows[node.jobs[0]];
    let counts = row[COUNTS] ?? {}, state = row[STATE], said = row[BRIEF];
    if (!single) {
      counts = {};
      for (const job of node.jobs) counts[store.rows[job][STATE]] = (counts[store.rows[job][STATE]] ?? 0) + 1;
      state = together(counts);
      said = `${number(counts.SUCCEEDED ?? 0)}/${number(node.jobs.length)}`;
    }
    if (state !== node.state) {
      node.state = state;
      node.group.setAttribute("class", `node st_${state}`);
      set(node.glyph, sign(state));
      for (const edge of this.into[place]) edge.setAttribute("class", state === "BLOCKED" ? "edge to_BLOCKED" : "edge");
    }
    if (!said && state === "RUNNING" && row[STARTED]) said = duration(store.now() - row[STARTED]);
    const room = Math.floor((box[0] - 40) / 5.6);
    set(node.sub, said.length > room ? `${said.slice(0, room - 1)}…` : said);
    const label = [node.label, state.toLowerCase(), said].filter(Boolean).join(", ");
    set(node.title, label);
    node.group.setAttribute("aria-label", label);
    const total = Object.values(counts).reduce((a, b) => a + b, 0), left = node.x + 42 + Math.round(6.2 * said.length), width = node.x + box[0] - 10 - left;
    if (!total || width < 16) {
      node.bars.replaceChildren();
      return;
    }
    const bars = [draw("rect", { class: "track", x: left, y: node.y + 28.5, width, height: 4, rx: 2 })];
    // As in svg.py: one failure among thousands is seen, too.
    const parts = ["SUCCEEDED", "FAILED", "BLOCKED", "RUNNING", "STARTING"].filter((kind) => counts[kind])
      .map((kind) => ({ kind, share: (width * counts[kind]) / total }));
    for (const part of parts) part.width = Math.max(part.share, 2);
    const widest = parts.reduce((a, b) => (b.width > a.width ? b : a), { width: 0 });
    widest.width -= parts.reduce((sum, part) => sum + part.width - part.share, 0);
    let x = left;
    for (const part of parts) {
      bars.push(draw("rect", { class: `f_${part.kind}`, x, y: node.y + 28.5, width: part.width, height: 4 }));
      x += part.width;
    }
    node.bars.replaceChildren(...bars);
  }

  pickNode(place) {
    const { jobs } = this.nodes[place];
    this.only = jobs.length > 1 ? new Set(jobs) : null;
    const first = [...jobs].sort((a, b) => RANK[this.store.rows[a][STATE]] - RANK[this.store.rows[b][STATE]] || a - b)[0];
    this.placeRows();
    this.pick(first);
  }

  nodeKey(event, place) {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.pickNode(place);
      return;
    }
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (!way) return;
    event.preventDefault();
    const from = this.nodes[place];
    let best = null, least = Infinity;
    for (const node of this.nodes) {
      const dx = node.x - from.x, dy = node.y - from.y, along = dx * way[0] + dy * way[1], aside = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
      if (along > 1 && along + 2 * aside < least) [best, least] = [node, along + 2 * aside];
    }
    if (!best) return;
    from.group.setAttribute("tabindex", "-1");
    best.group.setAttribute("tabindex", "0");
    best.group.focus();
  }

  pick(job) {
    this.store.send({ t: "select", job });
  }

  // The table

  buildTable() {
    const { store } = this;
    this.cells = new Map();
    const head = ["State", "Job", "Attempt", "Queued", "Ran", "Why"].map((name, i) => make("th", { scope: "col", class: i >= 2 && i <= 4 ? "num" : null }, name));
    this.body = make("tbody");
    this.body.setAttribute("data-lm-suppress-shortcuts", "true");
    const widths = ["128px", "24%", "72px", "88px", "96px", null].map((width) => make("col", { style: width && `width: ${width}` }));
    this.more = make("button", { class: "btn link", type: "button", onclick: () => { if (this.only) this.only = null; else this.all = true; this.placeRows(); } });
    this.moreBox = make("p", { class: "more" }, this.more);
    this.root.append(make("div", { class: "scroll", hidden: store.rows.length === 1 }, // of one job the panel below says all
      make("table", { class: "jobs", "aria-label": "Jobs" }, make("colgroup", {}, ...widths), make("thead", {}, make("tr", {}, ...head)), this.body), this.moreBox));
    this.order = "";
    this.placeRows();
  }

  rowFor(i) {
    let cells = this.cells.get(i);
    if (cells) return cells;
    const { facts } = this.store, size = facts.sizes[i];
    cells = { state: make("span", { class: "st" }), attempt: make("td", { class: "num" }), queued: make("td", { class: "num" }), ran: make("td", { class: "num" }), why: make("td") };
    const name = make("td", { class: "job", title: facts.names[i] }, facts.names[i]);
    if (size !== null) name.append(make("span", { class: "quiet" }, ` ×${number(size)}`));
    cells.tr = make("tr", { tabindex: "-1", onclick: () => this.pick(i), onkeydown: (event) => this.rowKey(event, i) }, make("td", {}, cells.state), name, cells.attempt, cells.queued, cells.ran, cells.why);
    this.cells.set(i, cells);
    this.updateRow(i);
    return cells;
  }

  updateRow(i) {
    const cells = this.cells.get(i);
    if (!cells) return;
    const { store } = this, row = store.rows[i], tries = store.facts.attempts[i];
    badge(cells.state, row[STATE]);
    set(cells.state, word(row[STATE]));
    const put = (cell, text) => { set(cell, text || NONE); cell.classList.toggle("quiet", !text); };
    put(cells.attempt, row[ATTEMPT] ? `${row[ATTEMPT]} of ${Math.max(tries, row[ATTEMPT])}` : "");
    put(cells.queued, row[QUEUED] && row[STARTED] ? duration(row[STARTED] - row[QUEUED]) : "");
    put(cells.ran, row[STARTED] && (row[STOPPED] || row[STATE] === "RUNNING") ? duration((row[STOPPED] ?? store.now()) - row[STARTED]) : "");
    set(cells.why, row[WHY]);
    cells.why.classList.toggle("quiet", ["PENDING", "SUBMITTED", "SUCCEEDED"].includes(row[STATE]));
  }

  placeRows() {
    const { rows } = this.store;
    const order = rows.map((_row, i) => i).filter((i) => !this.only || this.only.has(i)).sort((a, b) => (RANK[rows[a][STATE]] ?? 9) - (RANK[rows[b][STATE]] ?? 9) || a - b);
    const shown = this.all ? order : order.slice(0, ROWS), key = shown.join();
    if (key !== this.order) {
      this.order = key;
      const focused = this.body.contains(document.activeElement) ? document.activeElement : null;
      this.body.replaceChildren(...shown.map((i) => this.rowFor(i).tr));
      focused?.focus();
      if (!this.body.querySelector('[tabindex="0"]')) this.body.firstElementChild?.setAttribute("tabindex", "0");
    }
    this.moreBox.hidden = !this.only && shown.length === order.length;
    set(this.more, this.only ? `Show all ${number(rows.length)} jobs` : `Show ${number(order.length - shown.length)} more`);
  }

  rowKey(event, i) {
    const { tr } = this.cells.get(i);
    const to = { ArrowDown: tr.nextElementSibling, ArrowUp: tr.previousElementSibling, Home: this.body.firstElementChild, End: this.body.lastElementChild }[event.key];
    if (event.key === "Enter" || event.key === " ") this.pick(i);
    else if (!to) return;
    else {
      for (const row of this.body.querySelectorAll('[tabindex="0"]')) row.setAttribute("tabindex", "-1");
      to.setAttribute("tabindex", "0");
      to.focus();
    }
    event.preventDefault();
  }

  // The selected job

  buildPanel() {
    const { store } = this;
    this.jobName = make("b");
    this.jobBadge = make("span", { class: "st" }, this.jobName);
    this.child = make("input", { type: "number", min: "0", "aria-label": "Child of the array", onchange: () => store.send({ t: "select", job: store.panel.job, child: Number(this.child.value) }) });
    this.childOf = make("label", { class: "check" }, "Child ", this.child);
    this.attempt = make("select", { "aria-label": "Attempt", onchange: () => store.send({ t: "select", job: store.panel.job, child: store.panel.child, attempt: Number(this.attempt.value) }) });
    this.find = make("input", { type: "search", placeholder: "Find in this log", "aria-label": "Find in this log", oninput: () => this.fillLog() });
    this.follow = make("input", { type: "checkbox", onchange: () => this.toEnd() });
    this.follow.checked = true;
    this.whyList = make("dl", { class: "why" });
    this.log = make("div", { class: "log", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Log" });
    this.log.addEventListener("scroll", () => { if (!this.jumping) this.follow.checked = this.log.scrollTop + this.log.clientHeight >= this.log.scrollHeight - 4; this.jumping = false; });
    this.foot = make("p", { class: "logfoot quiet small" });
    const bar = make("div", { class: "row logbar" }, this.jobBadge, this.childOf, this.attempt, make("span", { class: "row push" }, this.find, make("label", { class: "check" }, this.follow, " Follow")));
    bar.setAttribute("data-lm-suppress-shortcuts", "true");
    this.panelBox = make("section", { hidden: true }, bar, this.whyList, this.log, this.foot);
    this.root.append(this.panelBox);
  }

  updatePanel() {
    const { store } = this, { panel, facts } = store;
    for (const tr of this.body.querySelectorAll(".selected")) {
      tr.classList.remove("selected");
      tr.removeAttribute("aria-selected");
    }
    this.ring?.setAttribute("visibility", "hidden");
    this.panelBox.hidden = !panel;
    if (!panel) return;
    const name = facts.names[panel.job], row = this.cells.get(panel.job)?.tr;
    row?.classList.add("selected");
    row?.setAttribute("aria-selected", "true");
    const node = this.nodes?.[this.nodeOf[panel.job]];
    if (node) {
      this.ring.setAttribute("x", node.x - 3);
      this.ring.setAttribute("y", node.y - 3);
      this.ring.setAttribute("visibility", "visible");
    }
    for (const other of this.nodes ?? []) other.group.setAttribute("aria-pressed", String(other === node));
    this.panelBox.setAttribute("aria-label", `Log of ${name}`);
    badge(this.jobBadge, panel.state);
    set(this.jobName, name);
    this.jobName.title = name;
    this.childOf.hidden = panel.child === null;
    if (panel.child !== null && document.activeElement !== this.child) {
      this.child.value = panel.child;
      this.child.max = panel.children - 1;
    }
    this.attempt.hidden = panel.attempts.length === 0;
    const of = Math.max(facts.attempts[panel.job], ...panel.attempts);
    const options = panel.attempts.map((attempt) => `Attempt ${attempt} of ${of}`).reverse();
    if (options.join() !== [...this.attempt.options].map((option) => option.textContent).join())
      this.attempt.replaceChildren(...panel.attempts.map((attempt) => make("option", { value: attempt }, `Attempt ${attempt} of ${of}`)).reverse());
    this.attempt.value = String(panel.attempt);
    // That a job runs or has succeeded is said by its badge.
    const plain = panel.state === "SUCCEEDED" || (panel.state === "RUNNING" && !panel.remedy);
    const parts = plain ? [] : [["Cause", panel.cause], ["Evidence", panel.evidence], ["Remedy", panel.remedy]].filter(([, text]) => text);
    this.whyList.hidden = !parts.length;
    this.whyList.className = ["FAILED", "BLOCKED"].includes(panel.state) ? "why bad" : "why";
    this.whyList.replaceChildren(...parts.flatMap(([head, text]) => [make("dt", {}, head), make("dd", {}, head === "Cause" ? make("b", {}, text) : text)]));
    this.updateFoot();
  }

  line([time, text]) {
    const when = new Date(time * 1000), two = (value) => String(value).padStart(2, "0");
    const shown = make("span"), wanted = this.find.value.toLowerCase();
    let rest = text;
    for (let at = wanted ? rest.toLowerCase().indexOf(wanted) : -1; at >= 0; at = rest.toLowerCase().indexOf(wanted)) {
      shown.append(rest.slice(0, at), make("mark", {}, rest.slice(at, at + wanted.length)));
      rest = rest.slice(at + wanted.length);
    }
    shown.append(rest);
    return make("div", {}, make("time", {}, `${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}`), shown);
  }

  wanted() {
    const text = this.find.value.toLowerCase();
    return (line) => !text || line[1].toLowerCase().includes(text);
  }

  fillLog() {
    this.log.replaceChildren(...this.store.lines.filter(this.wanted()).map((line) => this.line(line)));
    this.updateFoot();
    this.toEnd();
  }

  updateLog({ fresh, added, dropped }) {
    if (fresh || dropped || this.find.value) {
      this.fillLog();
      return;
    }
    this.log.append(...this.store.lines.slice(-added || this.store.lines.length).map((line) => this.line(line)));
    this.updateFoot();
    this.toEnd();
  }

  toEnd() {
    this.log.classList.toggle("few", this.log.childElementCount < 13);
    if (!this.follow.checked || this.find.value) return;
    // With the next frame, when the browser lays out anyway; a page that is not looked at has none.
    cancelAnimationFrame(this.jump);
    this.jump = requestAnimationFrame(() => {
      this.jumping = this.log.scrollTop + this.log.clientHeight < this.log.scrollHeight - 1;
      this.log.scrollTop = this.log.scrollHeight;
    });
  }

  updateFoot() {
    const { lines, logged, panel } = this.store;
    if (!panel || !logged) return;
    const parts = [];
    if (logged.complete && !logged.total) {
      set(this.foot, "It wrote nothing");
      return;
    }
    if (this.find.value) parts.push(`${number(this.log.childElementCount)} of ${number(lines.length)} lines`);
    else parts.push(lines.length === logged.total ? `${number(logged.total)} line${logged.total === 1 ? "" : "s"}` : `the last ${number(lines.length)} of ${number(logged.total)} lines`);
    parts.push(logged.note || (logged.complete ? "complete" : "as they come"));
    set(this.foot, parts.join(", "));
  }

  // What came

  update({ rows, panel, log }) {
    if (!this.body) return;
    const nodes = new Set();
    for (const [i] of rows) {
      this.updateRow(i);
      if (this.nodes) nodes.add(this.nodeOf[i]);
    }
    if (this.nodes) this.updateNodes(nodes);
    if (rows.length) this.placeRows();
    this.updateHead();
    if (panel || rows.length) this.updatePanel();
    if (log) this.updateLog(log);
    const { facts, rows: now, head } = this.store;
    const turned = rows.filter(([i, before]) => before !== now[i][STATE]);
    if (turned.length) {
      const said = turned.slice(0, 3).map(([i]) => `${facts.names[i]} ${now[i][STATE].toLowerCase()}`).join(", ");
      set(this.heard, turned.length > 3 ? `${turned.length} jobs changed: ${said} and more` : said);
    } else if (!head.live) set(this.heard, `Run ${facts.name} ${head.state.toLowerCase()}`);
  }
}

let store;

export default {
  initialize({ model }) {
    store = new Store(model);
    const receive = (message) => store.receive(message);
    model.on("msg:custom", receive);
    const died = () => {
      // The kernel was restarted or shut down: the view would stay in the notebook as one that cannot be shown.
      const { facts, head } = store;
      if (model.comm_live || store.over || !facts) return;
      const text = `Run ${facts.id} was ${head.state.toLowerCase()} when the kernel stopped. Come back to it: %ezbatch attach ${facts.id}, or EZBatchRun.attach("${facts.id}")`;
      replaceOutputs(model, facts.model, { "text/plain": text, "text/html": `<p>${escaped(text)}</p>` });
    };
    model.on("comm_live_update", died);
    store.hello();
    return () => {
      model.off("msg:custom", receive);
      model.off("comm_live_update", died);
    };
  },
  render({ el }) {
    const view = new View(store, el);
    store.views.add(view);
    return () => {
      store.views.delete(view);
      view.close();
    };
  },
};
