// One run in full: settings, results, costs, where it comes from, and the command that repeats it.

const quoted = (word) => (/^[\w./+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
const command = (run) => `jaxft study reproduce ${quoted(study.directory)} ${run.key}`;

/** A list of names and values; objects within are written one level down. */
function listing(heading, values, write, className = "") {
  const entries = Object.entries(values ?? {});
  if (!entries.length) return [];
  const terms = entries.flatMap(([name, value]) => {
    const text = value !== null && typeof value === "object" && !Array.isArray(value)
      ? Object.entries(value).map(([part, content]) => `${part} ${label(content)}`).join("\n")
      : write(name, value);
    return [make("dt", {}, name.replaceAll("_", " ")), make("dd", {className: /^[0-9a-f]{16,}$/.test(text) ? "hash" : ""}, text)];
  });
  return [make("section", {className}, make("h3", {}, heading), make("dl", {}, ...terms))];
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(byId("command"));
    button.textContent = "Selected";
  }
}

function commandOf(run) {
  const button = make("button", {type: "button", id: "copy"}, "Copy");
  button.onclick = () => copy(command(run), button);
  return make("section", {className: "wide"}, make("h3", {}, "To run it again"),
    make("div", {className: "command"}, make("code", {id: "command"}, command(run)), button));
}

const exact = (_, value) => (Array.isArray(value) ? value.map(label).join(", ") : label(value));
const result = (_, value) => (value === null ? "not finite" : String(value));
const cost = (name, value) => (typeof value === "number" && COSTS[name] ? COSTS[name](value) : label(value));

function showRun() {
  const dialog = byId("run");
  const run = runOf.get(state.run);
  if (!run) {
    if (dialog.open) dialog.close();
    return;
  }
  if (dialog.open && dialog.dataset.run === run.key) return;
  dialog.dataset.run = run.key;
  const close = make("button", {type: "button", id: "close", onclick: () => dialog.close(), "aria-label": "Close"}, "×");
  dialog.replaceChildren(
    make("header", {}, make("h2", {id: "run-title"}, "Run ", make("code", {}, run.key)), make("span", {className: `status ${run.status}`}, run.status), close),
    make("div", {className: "facts"},
      commandOf(run),
      ...listing("Settings", run.config, exact),
      ...listing("Test", run.metrics, result),
      ...listing("Validation", run.validation, result),
      ...listing("Cost", run.cost, cost),
      ...listing("Program", run.program, exact),
      ...listing("Provenance", {...study.shared, ...run.provenance}, exact, "wide")));
  if (!dialog.open) dialog.showModal();
}

/** Escape, the button and a click beside the dialog close it. */
function buildRun() {
  const dialog = byId("run");
  dialog.addEventListener("close", () => {
    const key = state.run;
    if (key) change({run: ""});
    byId(`open-${key}`)?.focus();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}
