// The study, and how a part of a run is read.

const study = JSON.parse(document.getElementById("study").textContent);
const runs = study.rows.map((row, index) => ({...row, index, status: row.status ?? "finished"}));
const runOf = new Map(runs.map((run) => [run.key, run]));

const byId = (id) => document.getElementById(id);

/** An element with properties, attributes (names with a dash) and children; text is never read as HTML. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "colspan") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** Names in one section of the runs ("metrics", "cost", ...), in order of appearance. */
function namesIn(section) {
  return [...new Set(runs.flatMap((run) => Object.keys(run[section] ?? {})))];
}

/** "metrics.accuracy" of a run; null where there is none. */
function read(run, path) {
  const dot = path.indexOf(".");
  if (dot < 0) return run[path] ?? null;
  return run[path.slice(0, dot)]?.[path.slice(dot + 1)] ?? null;
}

/** Nulls last whatever the direction, numbers as numbers, anything else as text. */
function compare(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number" && typeof b === "number") return direction * (a - b);
  return direction * String(a).localeCompare(String(b), "en", {numeric: true});
}

/** The values an axis takes, sorted. */
const valuesOf = remembered((path) => {
  const values = new Map(runs.map((run) => [label(read(run, path)), read(run, path)]));
  return [...values.values()].sort((a, b) => compare(a, b, 1));
});

function remembered(compute) {
  const known = new Map();
  return (argument) => {
    if (!known.has(argument)) known.set(argument, compute(argument));
    return known.get(argument);
  };
}

/** What can be filtered and coloured by: the axes with more than one value, and the status where it differs. */
const dimensions = [...study.axes.map((name) => `config.${name}`), "status"]
  .filter((path) => valuesOf(path).length > 1);
const groupable = study.axes.filter((name) => valuesOf(`config.${name}`).length > 1);

const nameOf = (path) => path.slice(path.indexOf(".") + 1);

/** "method=lora lr=0.001 seed=0": a run in the words of its axes. */
const describe = (run) => study.axes.map((name) => `${name}=${label(read(run, `config.${name}`))}`).join(" ");
