// The table: of runs, or of groups of runs. A column says how its cells are sorted and written.

const PAGE = 50;

/** The metrics of a section, the study's own metric first. */
const metricPaths = remembered((section) => namesIn(section)
  .sort((a, b) => (b === study.metric) - (a === study.metric)).map((name) => `${section}.${name}`));

function valueColumn(path, section) {
  const numeric = runs.every((run) => ["number", "object"].includes(typeof read(run, path)));
  return {id: path, name: nameOf(path), section, numeric, value: (run) => read(run, path), text: (run) => writer(path)(read(run, path))};
}

const runColumns = remembered(() => [
  {id: "key", name: "run", section: "", numeric: false, value: (run) => run.key, text: (run) => run.key.slice(0, 8)},
  ...study.axes.map((name) => valueColumn(`config.${name}`, "settings")),
  valueColumn("status", ""),
  ...metricPaths("metrics").map((path) => valueColumn(path, "test")),
  ...metricPaths("validation").map((path) => valueColumn(path, "validation")),
  ...namesIn("cost").map((name) => valueColumn(`cost.${name}`, "cost")),
]);

const columns = () => (state.view === "groups" ? groupColumns() : runColumns());

/** The column sorted by and the direction: 1 upwards, -1 downwards. */
function order() {
  const direction = state.sort.startsWith("-") ? -1 : 1;
  const id = direction < 0 ? state.sort.slice(1) : state.sort;
  return {id, direction, column: columns().find((column) => column.id === id)};
}

function sorted(items) {
  const {column, direction} = order();
  if (!column) return items;
  const values = new Map(items.map((item) => [item, column.value(item)]));
  return [...items].sort((a, b) => compare(values.get(a), values.get(b), direction));
}

function heading(column) {
  const {id, direction} = order();
  const sort = id !== column.id ? "none" : direction > 0 ? "ascending" : "descending";
  const onclick = () => change({sort: sort === "ascending" ? `-${column.id}` : column.id});
  const button = make("button", {type: "button", id: `sort-${column.id}`, onclick}, column.name.replaceAll("_", " "));
  return make("th", {scope: "col", "aria-sort": sort, className: column.numeric ? "number" : ""}, button);
}

/** One row of section names above the columns they span. */
function sections(shown) {
  const spans = [];
  for (const {section} of shown) {
    if (spans.at(-1)?.section === section) spans.at(-1).count += 1;
    else spans.push({section, count: 1});
  }
  return make("tr", {className: "sections"}, ...spans.map(({section, count}) =>
    make(section ? "th" : "td", {colspan: count, ...(section && {scope: "colgroup"})}, section)));
}

/** The first cell of a run: a box that selects it for the curves, and a button that opens it. */
function runCell(run) {
  const toggle = (event) => change({pick: event.target.checked ? [...state.pick, run.key] : state.pick.filter((key) => key !== run.key)});
  const box = make("input", {type: "checkbox", id: `pick-${run.key}`, checked: state.pick.includes(run.key), onchange: toggle, "aria-label": `Select run ${run.key}`});
  const open = make("button", {type: "button", id: `open-${run.key}`, className: "key"}, run.key.slice(0, 8));
  return make("td", {}, make("div", {className: "run"}, box, open));
}

function bodyRow(item) {
  const cells = columns().map((column) => column.id === "key"
    ? runCell(item)
    : make("td", {className: column.numeric ? "number" : column.id === "status" ? "status" : ""}, column.text(item)));
  if (state.view === "groups") return make("tr", {}, ...cells);
  const onclick = (event) => event.target.type === "checkbox" || change({run: item.key});
  return make("tr", {className: item.status, id: `row-${item.key}`, onclick}, ...cells);
}

function buildTable() {
  byId("by").append(...groupable.map((name) => chip(`by-${name}`, name, () => {
    const by = groupable.filter((field) => byId(`by-${field}`).checked);
    change({by: by.length ? by : [name]});
  })));
  for (const view of ["runs", "groups"]) byId(`view-${view}`).onclick = () => change({view});
  byId("unpick").onclick = () => change({pick: []});
  byId("previous").onclick = () => change({page: String(Number(state.page) - 1)});
  byId("next").onclick = () => change({page: String(Number(state.page) + 1)});
}

function showTable(shown) {
  const grouping = state.view === "groups";
  const items = sorted(grouping ? grouped(shown) : shown);
  const pages = Math.max(1, Math.ceil(items.length / PAGE));
  const page = Math.min(pages, Math.max(1, Math.trunc(Number(state.page)) || 1));
  const first = (page - 1) * PAGE;
  const part = items.slice(first, first + PAGE);
  byId("head").replaceChildren(sections(columns()), make("tr", {}, ...columns().map(heading)));
  byId("body").replaceChildren(...part.map(bodyRow));
  if (!part.length) byId("body").append(make("tr", {}, make("td", {colspan: columns().length}, "No run has all of this.")));
  const noun = grouping ? "group" : "run";
  byId("place").textContent = pages > 1
    ? `${(first + 1).toLocaleString("en")}–${(first + part.length).toLocaleString("en")} of ${plural(items.length, noun)}`
    : plural(items.length, noun);
  byId("previous").disabled = page === 1;
  byId("next").disabled = page === pages;
  byId("previous").hidden = byId("next").hidden = pages === 1;
  for (const view of ["runs", "groups"]) byId(`view-${view}`).setAttribute("aria-pressed", String(view === state.view));
  for (const name of groupable) byId(`by-${name}`).checked = state.by.includes(name);
  byId("view-groups").parentElement.hidden = !groupable.length;
  byId("by").hidden = byId("meaning").hidden = !grouping;
  byId("unpick").hidden = !state.pick.length;
}
