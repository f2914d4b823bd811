// A table of queues with real radio buttons. What AWS says becomes text nodes, never markup.
const GLYPHS = { SUBMITTED: "○", SUCCEEDED: "✔", FAILED: "✖" };
let count = 0;

function render({ model, el }) {
  const name = `ez-queue-${count++}-${Math.random().toString(36).slice(2)}`;
  const table = document.createElement("div");
  table.className = "ez-queues";
  table.setAttribute("role", "radiogroup");
  table.setAttribute("aria-label", "Queue");
  el.append(table);
  const cell = (text, kind = "") => {
    const made = document.createElement("span");
    made.className = kind;
    made.textContent = text;
    return made;
  };
  const row = (queue) => {
    const line = document.createElement("label");
    line.className = `ez-queue${queue.off ? " ez-off" : ""}`;
    const input = document.createElement("input");
    input.type = "radio";
    input.name = name;
    input.value = queue.name;
    input.disabled = Boolean(queue.off);
    input.addEventListener("change", () => {
      model.set("value", queue.name);
      model.save_changes();
    });
    const state = cell(queue.state, `ez-st ez-st-${queue.badge in GLYPHS ? queue.badge : "SUBMITTED"}`);
    line.append(input, cell(queue.name, "ez-qname"), cell(queue.platform), state, cell(queue.detail, "ez-qdetail"));
    line.title = queue.off || "";
    return line;
  };
  const choose = () => {
    for (const input of table.querySelectorAll("input")) {
      input.checked = input.value === model.get("value");
      input.parentElement.classList.toggle("ez-picked", input.checked);
    }
  };
  const fill = () => {
    const at = table.contains(document.activeElement) ? document.activeElement.value : null;
    const head = document.createElement("div");
    head.className = "ez-queue ez-qhead";
    head.append(cell(""), cell("Name"), cell("Platform"), cell("State"), cell("Depth and room"));
    table.replaceChildren(head, ...model.get("rows").map(row));
    choose();
    if (at !== null) [...table.querySelectorAll("input")].find((input) => input.value === at)?.focus();
  };
  model.on("change:rows", fill);
  model.on("change:value", choose);
  fill();
  return () => {
    model.off("change:rows", fill);
    model.off("change:value", choose);
  };
}

export default { render };
