// What the page shows. All of it is in the hash of the address, so that a view can be linked.

const DEFAULT_SORT = study.metric ? `${study.maximise ? "-" : ""}metrics.${study.metric}` : "key";
const QUANTITIES = namesIn("curve").filter((name) => name !== "step");
const SINGLE = {
  sort: DEFAULT_SORT,
  text: "",
  view: "runs",
  curve: QUANTITIES.includes("loss") ? "loss" : QUANTITIES[0] ?? "",
  colour: dimensions.find((path) => path !== "config.seed") ?? dimensions[0] ?? "",
  log: "",
  page: "1",
  run: "",
};

let state = readAddress();

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const single = Object.fromEntries(Object.entries(SINGLE).map(([name, usual]) => [name, given.get(name) ?? usual]));
  const by = given.getAll("by").filter((name) => groupable.includes(name));
  const filters = dimensions.map((path) => [path, given.getAll(path)]).filter(([, values]) => values.length);
  return {
    ...single,
    curve: QUANTITIES.includes(single.curve) ? single.curve : SINGLE.curve,
    colour: dimensions.includes(single.colour) ? single.colour : SINGLE.colour,
    by: by.length ? by : groupable.filter((name) => name !== "seed"),
    pick: given.getAll("pick").filter((key) => runOf.has(key)),
    filters: Object.fromEntries(filters),
  };
}

/** The hash of the address: only what differs from the usual view. */
function address() {
  const parts = new URLSearchParams();
  for (const [name, usual] of Object.entries(SINGLE)) if (state[name] !== usual) parts.set(name, state[name]);
  if (state.view === "groups") for (const name of state.by) parts.append("by", name);
  for (const key of state.pick) parts.append("pick", key);
  for (const [path, values] of Object.entries(state.filters)) for (const value of values) parts.append(path, value);
  return `#${parts}`;
}

/** Changes what is shown; a page number holds only until something else changes. */
function change(parts) {
  state = {...state, page: "run" in parts || "pick" in parts ? state.page : "1", ...parts};
  history.replaceState(null, "", address());
  render();
}

/** Draws everything anew, and gives the focus back to the element that had it. */
function render() {
  const focused = document.activeElement?.id;
  const shown = filtered();
  showFilters(shown);
  showTable(shown);
  showCurves(shown);
  showRun();
  const again = focused && byId(focused);
  if (again && document.activeElement !== again && !byId("run").open) again.focus({preventScroll: true});
}

function start() {
  buildFilters();
  buildTable();
  buildCurves();
  buildRun();
  addEventListener("hashchange", () => {
    state = readAddress();
    render();
  });
  render();
}
