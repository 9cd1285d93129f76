// Learning curves: which lines are drawn, in which colour, and what the pointer is on.

const LINES = 300;
const LEGEND = 14;
const HUES = 7;
const DASHES = ["", "6 3", "2 3", "9 3 2 3"];

/** Step and value of a run where it has one; a logarithm has no place for zero. */
function pointsOf(run) {
  const steps = run.curve.step ?? [];
  const values = run.curve[state.curve] ?? [];
  return steps.map((step, index) => [step, values[index]])
    .filter(([, value]) => typeof value === "number" && (!state.log || value > 0));
}

/** The place of every value among those of its axis, and whether they are an ordered scale. */
const rankOf = remembered((path) => {
  const values = valuesOf(path);
  const ordered = values.length > 2 && values.every((value) => typeof value === "number");
  return {ordered, places: new Map(values.map((value, index) => [label(value), index]))};
});

/** Words are told apart by hue and dashes, numbers by their place on a scale of colours. */
function ink(value) {
  const {ordered, places} = rankOf(state.colour);
  const index = places.get(label(value));
  if (ordered) {
    const place = (3 * index) / (places.size - 1);
    const stop = Math.min(2, Math.floor(place));
    const share = Math.round(100 * (place - stop));
    return {hue: `color-mix(in oklab, var(--scale-${stop}) ${100 - share}%, var(--scale-${stop + 1}))`, dashes: ""};
  }
  return {hue: `var(--hue-${index % HUES})`, dashes: DASHES[Math.floor(index / HUES) % DASHES.length]};
}

const inkOf = (run) => (state.colour ? ink(read(run, state.colour)) : {hue: "var(--hue-0)", dashes: ""});

const runLine = (run) => (
  {id: run.key, name: describe(run), run, points: pointsOf(run), diverged: run.status === "diverged", ...inkOf(run)});

/** The mean of a group's finished runs at every step, with a standard deviation to both sides. */
function groupLine(group, number) {
  const at = new Map();
  for (const run of group.finished) {
    for (const [step, value] of pointsOf(run)) at.set(step, [...(at.get(step) ?? []), value]);
  }
  const spreads = [...at].sort(([a], [b]) => a - b).map(([step, values]) => [step, spread(values)]);
  const band = spreads.filter(([, {deviation}]) => deviation !== null)
    .map(([step, {mean, deviation}]) => [step, mean - deviation, mean + deviation])
    .filter(([, low]) => !state.log || low > 0);
  const shared = state.by.includes(nameOf(state.colour)) || state.colour === "status";
  return {
    id: `group-${number}`,
    name: state.by.map((name) => `${name}=${label(read(group, `config.${name}`))}`).join(" "),
    points: spreads.map(([step, {mean}]) => [step, mean]),
    band,
    ...(shared ? inkOf(group.runs[0]) : {hue: "var(--muted)", dashes: ""}),
  };
}

function linesOf(shown) {
  if (state.view === "groups") return sorted(grouped(shown)).map(groupLine);
  const picked = shown.filter((run) => state.pick.includes(run.key));
  return sorted(picked.length ? picked : shown).map(runLine);
}

function showCurves(shown) {
  byId("curves").hidden = !QUANTITIES.length;
  if (!QUANTITIES.length) return;
  byId("quantity").value = state.curve;
  byId("colour").value = state.colour;
  byId("log").checked = Boolean(state.log);
  const all = linesOf(shown).filter((line) => line.points.length);
  const lines = all.slice(0, LINES);
  const width = Math.max(260, byId("plot").clientWidth);
  const height = width < 500 ? 240 : 320;
  const title = `${state.curve} against step, ${plural(lines.length, "line")}`;
  const {element, x, y} = chart(lines, {width, height, logarithmic: Boolean(state.log), title});
  element.classList.toggle("many", lines.length > 12);
  const hint = make("p", {id: "hint", hidden: true});
  byId("plot").replaceChildren(element, hint);
  follow(element, hint, lines, x, y);
  showLegend(lines);
  const cut = all.length > LINES ? `The first ${LINES} of ${all.length.toLocaleString("en")} curves in the order of the table. ` : "";
  const marks = lines.some((line) => line.diverged) ? "A cross ends the curve of a run that diverged." : "";
  byId("drawn").textContent = all.length ? cut + marks : `No shown run has a curve of ${state.curve}.`;
}

function showLegend(lines) {
  byId("legend").replaceChildren();
  if (!state.colour) return;
  const drawn = new Set(lines.map((line) => line.hue + line.dashes));
  const entries = valuesOf(state.colour).map((value) => [value, ink(value)]).filter(([, {hue, dashes}]) => drawn.has(hue + dashes));
  const every = Math.ceil(entries.length / LEGEND);
  for (const [value, {hue, dashes}] of entries.filter((_, index) => index % every === 0)) {
    const sample = svg("svg", {width: 22, height: 8, style: `--hue:${hue}`, "aria-hidden": "true"},
      svg("line", {class: "line", x1: 0, x2: 22, y1: 4, y2: 4, "stroke-dasharray": dashes}));
    byId("legend").append(make("li", {}, sample, `${nameOf(state.colour)} ${label(value)}`));
  }
  if (every > 1) byId("legend").append(make("li", {}, `and ${entries.length - Math.ceil(entries.length / every)} between them`));
}

/** The point of the lines nearest to a place in the chart; null when none is near. */
function nearestPoint(lines, x, y, left, top) {
  let best = {distance: 40, line: null, point: null};
  for (const line of lines) {
    for (const point of line.points) {
      const distance = Math.hypot(x(point[0]) - left, y(point[1]) - top);
      if (distance < best.distance) best = {distance, line, point};
    }
  }
  return best.line && best;
}

/** Names the run under the pointer; a click opens it. */
function follow(element, hint, lines, x, y) {
  const find = (event) => {
    const box = element.getBoundingClientRect();
    return nearestPoint(lines, x, y, event.clientX - box.left, event.clientY - box.top);
  };
  const leave = () => {
    hint.hidden = true;
    element.querySelector(".near")?.classList.remove("near");
  };
  element.onpointermove = (event) => {
    leave();
    const found = find(event);
    element.style.cursor = found?.line.run ? "pointer" : "";
    if (!found) return;
    const {line, point} = found;
    byId(`curve-${line.id}`).classList.add("near");
    hint.replaceChildren(make("b", {}, `${state.curve} ${measured(point[1])}`), ` at step ${point[0].toLocaleString("en")}`, make("br"), line.name);
    hint.hidden = false;
    hint.style.left = `${Math.max(4, Math.min(x(point[0]) + 10, element.clientWidth - hint.offsetWidth - 4))}px`;
    hint.style.top = `${Math.max(4, y(point[1]) - hint.offsetHeight - 10)}px`;
  };
  element.onpointerleave = leave;
  element.onclick = (event) => {
    const found = find(event);
    if (found?.line.run) change({run: found.line.run.key});
  };
}

function buildCurves() {
  byId("quantity").append(...QUANTITIES.map((name) => make("option", {value: name}, name)));
  byId("colour").append(...dimensions.map((path) => make("option", {value: path}, nameOf(path))));
  byId("colour").parentElement.hidden = !dimensions.length;
  byId("quantity").onchange = (event) => change({curve: event.target.value});
  byId("colour").onchange = (event) => change({colour: event.target.value});
  byId("log").onchange = (event) => change({log: event.target.checked ? "1" : ""});
  let width = byId("plot").clientWidth;
  new ResizeObserver(() => {
    if (byId("plot").clientWidth === width) return;
    width = byId("plot").clientWidth;
    showCurves(filtered());
  }).observe(byId("plot"));
}
