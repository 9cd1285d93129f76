// How values are written.

/** A setting, as short as it can be told from its neighbours. */
function label(value) {
  if (value === null || value === undefined) return "none";
  if (typeof value !== "number") return typeof value === "object" ? JSON.stringify(value) : String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-2 || size >= 1e7)) return Number(value.toPrecision(6)).toExponential().replace("e+", "e");
  return String(Number(value.toPrecision(10)));
}

/** A measured number, in a fixed number of decimals so that a column can be read downwards. */
function measured(value) {
  if (typeof value !== "number") return value === null ? "–" : String(value);
  const size = Math.abs(value);
  if (Number.isInteger(value) && size >= 100) return value.toLocaleString("en");
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2).replace("e+", "e");
  return size >= 100 ? value.toFixed(1) : value.toFixed(4);
}

/** 1,234,000,000 as "1.23 G". */
function scaled(value, unit = "") {
  if (value === null) return "–";
  const power = Math.min(4, Math.max(0, Math.floor(Math.log10(Math.abs(value) || 1) / 3)));
  const number = value / 1000 ** power;
  const digits = power === 0 && Number.isInteger(value) ? 0 : Math.abs(number) < 10 ? 2 : Math.abs(number) < 100 ? 1 : 0;
  return `${number.toFixed(digits)} ${["", "k", "M", "G", "T"][power]}${unit}`.trim();
}

const COSTS = {
  trained_parameters: (value) => scaled(value),
  flops: (value) => scaled(value),
  bytes: (value) => scaled(value, "B"),
  seconds: (value) => (value === null ? "–" : `${value.toFixed(value < 10 ? 2 : 1)} s`),
};

/** The way to write the values of a column. */
function writer(path) {
  if (path.startsWith("config.")) return label;
  if (path.startsWith("cost.")) return COSTS[nameOf(path)] ?? measured;
  return measured;
}

const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
