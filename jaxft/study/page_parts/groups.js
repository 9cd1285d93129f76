// Runs that differ in nothing but what is averaged over, usually the seed.

/** Mean and sample standard deviation of the numbers among the values; null where there are too few. */
function spread(values) {
  const numbers = values.filter((value) => typeof value === "number");
  const count = numbers.length;
  if (!count) return {count, mean: null, deviation: null};
  const mean = numbers.reduce((sum, value) => sum + value, 0) / count;
  const squares = numbers.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return {count, mean, deviation: count > 1 ? Math.sqrt(squares / (count - 1)) : null};
}

/** The shown runs gathered by their values of the fields the page groups by. */
function grouped(shown) {
  const groups = new Map();
  for (const run of shown) {
    const key = state.by.map((name) => label(read(run, `config.${name}`))).join("\u0000");
    if (!groups.has(key)) groups.set(key, {key, config: run.config, runs: []});
    groups.get(key).runs.push(run);
  }
  return [...groups.values()].map((group) => ({...group, finished: group.runs.filter((run) => run.status !== "diverged")}));
}

function meanColumn(path, section) {
  const write = writer(path);
  const of = (group) => spread(group.finished.map((run) => read(run, path)));
  return {
    id: path,
    name: nameOf(path),
    section,
    numeric: true,
    value: (group) => of(group).mean,
    text: (group) => {
      const {mean, deviation} = of(group);
      return deviation === null ? write(mean) : `${write(mean)} ± ${write(deviation)}`;
    },
  };
}

function groupColumns() {
  const fields = state.by.map((name) => valueColumn(`config.${name}`, "settings"));
  const counts = [
    {id: "runs", name: "runs", section: "", numeric: true, value: (group) => group.runs.length},
    {id: "diverged", name: "diverged", section: "", numeric: true, value: (group) => group.runs.length - group.finished.length},
  ].map((column) => ({...column, text: (group) => label(column.value(group))}));
  const means = [
    ...metricPaths("metrics").map((path) => meanColumn(path, "test")),
    ...metricPaths("validation").map((path) => meanColumn(path, "validation")),
    ...["trained_parameters", "seconds"].filter((name) => namesIn("cost").includes(name))
      .map((name) => meanColumn(`cost.${name}`, "cost")),
  ];
  return [...fields, ...(runs.some((run) => run.status === "diverged") ? counts : counts.slice(0, 1)), ...means];
}
