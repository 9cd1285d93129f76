// Which runs are shown: chosen values of the axes, and words.

/** What the search looks in: settings as they are shown and as they are usually typed (1e-3 and 0.001). */
const words = remembered((run) => {
  const plain = Object.entries(run.config).map(([name, value]) => `${name}=${value}`).join(" ");
  return `${describe(run)} ${plain} ${run.status} ${run.key}`.toLowerCase();
});

/** The runs that have a chosen value on every axis with a choice, and every word of the search. */
function filtered() {
  const choices = Object.entries(state.filters).map(([path, values]) => [path, new Set(values)]);
  const sought = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  return runs.filter((run) =>
    choices.every(([path, values]) => values.has(label(read(run, path)))) &&
    sought.every((word) => words(run).includes(word)));
}

function choose(path, value, chosen) {
  const rest = (state.filters[path] ?? []).filter((other) => other !== value);
  const values = chosen ? [...rest, value] : rest;
  const {[path]: _, ...others} = state.filters;
  change({filters: values.length ? {...others, [path]: values} : others});
}

/** A checkbox that looks like a small label. */
function chip(id, text, onchange) {
  return make("label", {className: "chip"}, make("input", {type: "checkbox", id, onchange}), make("span", {}, text));
}

const CHIPS = 60;

/** An axis of more values than can be looked through is left to the search. */
const hasChips = (path) => valuesOf(path).length <= CHIPS;

function choicesOf(path) {
  const chips = valuesOf(path).map((value) => {
    const text = label(value);
    return chip(`choose-${path}-${text}`, text, (event) => choose(path, text, event.target.checked));
  });
  return make("fieldset", {}, make("legend", {}, nameOf(path)), make("div", {className: "chips"}, ...chips));
}

function buildFilters() {
  byId("choices").append(...dimensions.filter(hasChips).map(choicesOf));
  byId("text").oninput = (event) => change({text: event.target.value});
  byId("clear").onclick = () => change({filters: {}, text: ""});
  byId("filters").open = matchMedia("(min-width: 60rem)").matches;
}

function showFilters(shown) {
  for (const path of dimensions.filter(hasChips)) {
    for (const value of valuesOf(path)) {
      byId(`choose-${path}-${label(value)}`).checked = state.filters[path]?.includes(label(value)) ?? false;
    }
  }
  if (byId("text").value !== state.text) byId("text").value = state.text;
  const active = Object.keys(state.filters).length + (state.text.trim() ? 1 : 0);
  byId("active").textContent = active ? `(${active})` : "";
  byId("clear").hidden = !active;
  const diverged = shown.filter((run) => run.status === "diverged").length;
  const number = active ? `${shown.length.toLocaleString("en")} of ${plural(runs.length, "run")}` : plural(runs.length, "run");
  byId("summary").textContent = diverged ? `${number}, ${diverged.toLocaleString("en")} diverged` : number;
}
