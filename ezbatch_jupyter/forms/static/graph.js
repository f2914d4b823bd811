// The workflow as a graph to choose a job from. Names become text nodes, never markup.
function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "ez-graph";
  el.append(root);
  let groups = [], ring = null;
  const pick = (at) => model.send({ t: "select", node: at });

  function key(event, at) {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      pick(at);
    } else if (event.key in steps) {
      event.preventDefault();
      const to = Math.min(Math.max(at + steps[event.key], 0), groups.length - 1);
      groups.forEach((group, i) => group.setAttribute("tabindex", i === to ? "0" : "-1"));
      groups[to].focus();
    }
  }

  function select() {
    const { nodes = [], box } = model.get("dag"), at = model.get("selected");
    groups.forEach((group, i) => {
      group.setAttribute("tabindex", i === at || (at < 0 && i === 0) ? "0" : "-1");
      group.setAttribute("aria-pressed", String(i === at));
    });
    if (!ring) return;
    const node = nodes[at];
    ring.setAttribute("visibility", node ? "visible" : "hidden");
    if (!node) return;
    ring.setAttribute("x", node.x - 3);
    ring.setAttribute("y", node.y - 3);
    ring.setAttribute("width", box[0] + 6);
    requestAnimationFrame(() => show(root.firstElementChild, groups[at]));
  }

  // Within the drawing alone: the page stays where it is.
  function show(place, node) {
    if (!node?.isConnected) return;
    const outer = place.getBoundingClientRect(), inner = node.getBoundingClientRect(), edge = 16;
    place.scrollLeft += Math.min(0, inner.left - edge - outer.left) || Math.max(0, inner.right + edge - outer.right);
    place.scrollTop += Math.min(0, inner.top - edge - outer.top) || Math.max(0, inner.bottom + edge - outer.bottom);
  }

  function list(nodes) {
    const place = document.createElement("div");
    place.className = "ez-joblist";
    groups = nodes.map((node, i) => {
      const made = document.createElement("button");
      made.type = "button";
      made.className = "ez-plainbtn";
      made.textContent = node.bad ? `✖\uFE0E ${node.label}` : node.label;
      made.addEventListener("click", () => pick(i));
      return made;
    });
    place.append(...groups);
    return place;
  }

  function picture({ width, height, box, nodes, edges, name }) {
    const svg = draw("svg", { class: "ez-dag", viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": `DAG of ${name}` });
    svg.style.minWidth = `${Math.round(width * 0.88)}px`; // it shrinks to 88 %, then scrolls
    for (const [path, tip] of edges) svg.append(draw("g", { class: "ez-edge" }, draw("path", { d: path }), draw("polygon", { points: tip })));
    ring = draw("rect", { class: "ez-ring", width: box[0] + 6, height: box[1] + 6, rx: 9, visibility: "hidden" });
    svg.append(ring);
    groups = nodes.map(({ short, label, size, x, y, sub, bad }, i) => {
      const title = draw("title"), text = draw("text", { class: "ez-name", x: x + 10, y: y + 19.3 }), below = draw("text", { class: "ez-sub", x: x + 10, y: y + 34.5 });
      title.textContent = label;
      text.textContent = short;
      below.textContent = sub;
      if (size !== null) {
        const count = draw("tspan", { class: "ez-count" });
        count.textContent = ` ×${size.toLocaleString("en-US")}`;
        text.append(count);
      }
      const group = draw("g", { class: bad ? "ez-node ez-wrong" : "ez-node", role: "button", tabindex: "-1", "aria-label": bad ? `${label}, has problems` : label }, title,
        draw("rect", { class: "ez-nodebox", x, y, width: box[0], height: box[1], rx: 6 }), text, below);
      if (bad) {
        const sign = draw("text", { class: "ez-marksign", x: x + box[0] - 14, y: y + 14, dy: ".36em" });
        sign.textContent = "✖\uFE0E";
        group.append(draw("rect", { class: "ez-mark", x: x + box[0] - 22, y: y + 6, width: 16, height: 16, rx: 3 }), sign);
      }
      group.addEventListener("click", () => pick(i));
      group.addEventListener("keydown", (event) => key(event, i));
      svg.append(group);
      return group;
    });
    const place = document.createElement("div");
    place.className = "ez-dagbox";
    place.append(svg);
    return place;
  }

  function fill() {
    const dag = model.get("dag"), at = groups.indexOf(document.activeElement);
    const before = root.firstElementChild, scroll = before ? [before.scrollLeft, before.scrollTop] : [0, 0];
    ring = null;
    groups = [];
    root.replaceChildren(dag.box ? picture(dag) : list(dag.nodes ?? []));
    [root.firstElementChild.scrollLeft, root.firstElementChild.scrollTop] = scroll;
    select();
    if (at >= 0) groups[Math.min(at, groups.length - 1)]?.focus();
  }
  model.on("change:dag", fill);
  model.on("change:selected", select);
  fill();
  return () => {
    model.off("change:dag", fill);
    model.off("change:selected", select);
  };
}

export default { render };
