// A line chart in SVG: scales, ticks, lines and bands.

const MARGIN = {top: 12, right: 14, bottom: 34, left: 52};

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Round numbers within the limits: 1, 2 or 5 times a power of ten apart. */
function ticks([low, high], count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({length: last - first + 1}, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

/** Powers of ten between the limits, with their doubles and fives where there are few. */
function logarithmicTicks([low, high]) {
  const decades = Math.log10(high / low);
  const factors = decades > 3 ? [1] : [1, 2, 5];
  const powers = Array.from({length: Math.ceil(decades) + 2}, (_, index) => Math.floor(Math.log10(low)) + index);
  const marks = powers.flatMap((power) => factors.map((factor) => Number((factor * 10 ** power).toPrecision(6))));
  const within = marks.filter((mark) => mark >= low && mark <= high);
  return within.length > 1 ? within : ticks([low, high], 4);
}

/** From the limits of the data to pixels. */
function scale([low, high], [from, to], logarithmic) {
  const shape = logarithmic ? Math.log10 : (value) => value;
  const start = shape(low);
  const size = shape(high) - start || 1;
  return (value) => from + ((shape(value) - start) / size) * (to - from);
}

/** Smallest and largest of the numbers, with a little room; never of no extent. */
function limits(values, room, logarithmic) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return logarithmic ? [0.1, 1] : [0, 1];
  if (logarithmic) return low === high ? [low / 2, high * 2] : [low * (low / high) ** room, high * (high / low) ** room];
  const extra = (high - low) * room || (room && (Math.abs(high) * 0.1 || 1));
  return low === high && !room ? [low - 1, high + 1] : [low - extra, high + extra];
}

function path(points, x, y) {
  return points.map(([step, value], index) => `${index ? "L" : "M"}${x(step).toFixed(1)},${y(value).toFixed(1)}`).join("");
}

function axesOf(x, y, xMarks, yMarks, {width, height}) {
  const bottom = height - MARGIN.bottom;
  const across = yMarks.map((mark) => svg("g", {transform: `translate(0,${y(mark).toFixed(1)})`},
    svg("line", {x1: MARGIN.left, x2: width - MARGIN.right}), svg("text", {x: MARGIN.left - 8, dy: "0.32em", "text-anchor": "end"}, label(mark))));
  const below = xMarks.map((mark) => svg("text", {x: x(mark).toFixed(1), y: bottom + 16, "text-anchor": "middle"}, mark.toLocaleString("en")));
  const name = svg("text", {x: width - MARGIN.right, y: height - 2, "text-anchor": "end"}, "step");
  return svg("g", {class: "axes"}, ...across, ...below, name);
}

/** A line with its band, and a cross where a run diverged. */
function drawnLine(line, x, y) {
  const style = `--hue:${line.hue}`;
  const parts = [];
  if (line.band?.length > 1) {
    const edge = [...line.band.map(([step, low]) => [step, low]), ...line.band.map(([step, , high]) => [step, high]).reverse()];
    parts.push(svg("path", {class: "band", d: `${path(edge, x, y)}Z`}));
  }
  parts.push(svg("path", {class: "line", d: path(line.points, x, y), ...(line.dashes && {"stroke-dasharray": line.dashes})}));
  const [step, value] = line.points.at(-1);
  if (line.points.length === 1) parts.push(svg("circle", {class: "dot", cx: x(step), cy: y(value), r: 3}));
  if (line.diverged) {
    const top = Math.max(y(value), MARGIN.top + 5);
    parts.push(svg("path", {class: "cross", d: `M${x(step) - 4},${top - 4}l8,8m0,-8l-8,8`}));
  }
  return svg("g", {class: "curve", style, id: `curve-${line.id}`}, ...parts);
}

/** The chart of some lines, and the scales it was drawn with. Diverged lines may leave the frame. */
function chart(lines, {width, height, logarithmic, title}) {
  const steady = lines.some((line) => !line.diverged) ? lines.filter((line) => !line.diverged) : lines;
  const values = steady.flatMap((line) => [...line.points.map((point) => point[1]), ...(line.band ?? []).flatMap(([, low, high]) => [low, high])]);
  const xLimits = limits(lines.flatMap((line) => line.points.map((point) => point[0])), 0, false);
  const yLimits = limits(logarithmic ? values.filter((value) => value > 0) : values, 0.04, logarithmic);
  const x = scale(xLimits, [MARGIN.left, width - MARGIN.right], false);
  const y = scale(yLimits, [height - MARGIN.bottom, MARGIN.top], logarithmic);
  const yMarks = logarithmic ? logarithmicTicks(yLimits) : ticks(yLimits, Math.max(2, height / 60));
  const frame = svg("clipPath", {id: "frame"}, svg("rect", {
    x: MARGIN.left - 4, y: MARGIN.top - 4, width: width - MARGIN.left - MARGIN.right + 8, height: height - MARGIN.top - MARGIN.bottom + 8}));
  const element = svg("svg", {width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title},
    frame, axesOf(x, y, ticks(xLimits, Math.max(3, width / 90)), yMarks, {width, height}),
    svg("g", {"clip-path": "url(#frame)"}, ...lines.map((line) => drawnLine(line, x, y))));
  return {element, x, y};
}
