"""The rows of a study sorted into groups: one row a seed, everything else of the configuration held fixed."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxft.errors import InputError, nearest
from jaxft.study.statistics import mean

Row = Mapping[str, Any]

_SMALLER_IS_BETTER = frozenset(
    (
        *("loss", "losses", "perplexity", "ppl", "error", "errors", "mse", "mae", "rmse", "entropy"),
        *("divergence", "distance", "nll", "ece", "brier", "wer", "cer", "bits", "bpb", "bpc", "cost"),
        *("costs", "seconds", "time", "latency", "bytes", "memory", "flops", "parameters", "risk", "regret"),
    )
)
_LARGER_IS_BETTER = frozenset(
    (
        *("accuracy", "acc", "f1", "precision", "recall", "pearson", "spearman", "correlation", "matthews"),
        *("mcc", "exact", "match", "em", "rouge", "rouge1", "rouge2", "rougel", "bleu", "auc", "auroc", "r2"),
        *("kappa", "iou", "likelihood", "reward"),
    )
)


class Group(NamedTuple):
    """Runs that differ in their seed only.

    Attributes:
        by: value of each field that sets the groups apart.
        rows: the row of each seed, seeds in ascending order.
        chosen: the settings picked on validation data, when some were equalised.
        edges: the equalised fields whose pick is the smallest or largest value that was tried.
        tried: how many settings the pick was made from.
        mixed: fields that differ from seed to seed.
        diverged: how many of the runs of all settings tried diverged.
        runs: how many there are of all settings tried.
        shared: the seeds that every setting tried has a run of.
    """

    by: dict[str, Any]
    rows: dict[Any, Row]
    chosen: dict[str, Any]
    edges: tuple[str, ...]
    tried: int
    mixed: tuple[str, ...]
    diverged: int
    runs: int
    shared: tuple[Any, ...]

    @property
    def name(self) -> str:
        """What a table or picture calls the group, such as "lora, rank 8"."""
        return ", ".join(phrase(field, value) for field, value in self.by.items())


def phrase(field: str, value: Any) -> str:
    """A field's value in words: strings speak for themselves, all else is named.

    Example:
        >>> phrase("method", "lora"), phrase("rank", 8), phrase("lr", 3e-4)
        ('lora', 'rank 8', 'lr 0.0003')
    """
    return value if isinstance(value, str) else f"{field} {show(value)}"


def show(value: Any) -> str:
    """A setting as it is printed: six digits of a float, yes and no, a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def grouped(
    rows: Sequence[Row],
    *,
    by: Sequence[str],
    metric: str,
    over: str = "seed",
    maximise: bool = True,
    equalise: Sequence[str] = (),
) -> list[Group]:
    """Sorts rows into groups of one row a seed.

    The order is that of the fields in ``by``: numbers ascending, everything else as it first appears. With
    ``equalise``, every group tries all its settings of those fields and keeps the one with the best mean *validation*
    metric over the seeds that its settings share; the test metric plays no part. Settings of which a smaller share of
    the runs diverged are preferred to any validation figure; where the runs of settings with equal shares diverged at
    different seeds, so that no seed is left to all, each setting's mean is over its own. A group whose runs all
    diverged is kept, with its first setting.

    Args:
        rows: of a study.
        by: configuration fields that set groups apart.
        metric: that must be known.
        over: the field that repeats a run.
        maximise: whether a larger validation metric is better.
        equalise: fields chosen for each group on validation data.

    Raises:
        InputError: no rows, unknown or doubly used fields, an unknown metric, several rows for one seed, or nothing
            to choose by.
    """
    check_rows(rows, metric=metric, fields=(*by, *equalise, over))
    if twice := sorted({field for field in (*by, *equalise, over) if [*by, *equalise, over].count(field) > 1}):
        raise InputError(f"{twice[0]!r} is used twice among by, equalise and over: each field has one part to play")
    groups = []
    for values, members in _split(rows, by):
        name = ", ".join(phrase(*pair) for pair in values.items()) or "all rows"
        settings = [
            (setting, _one_a_seed(part, over, name, [*by, *equalise])) for setting, part in _split(members, equalise)
        ]
        chosen, kept = settings[0] if not equalise else _choose(settings, name, metric, maximise)
        mixed = tuple(field for field in _differing(list(kept.values())) if field != over)
        tried = [row for _, runs in settings for row in runs.values()]
        lost = sum(_diverged(row, metric, bool(equalise)) for row in tried)
        listed = [setting for setting, _ in settings]
        edges = tuple(field for field in equalise if lost < len(tried) and _at_edge(field, chosen, listed))
        shared = tuple(seed for seed in settings[0][1] if all(seed in runs for _, runs in settings))
        groups.append(Group(values, kept, chosen, edges, len(settings), mixed, lost, len(tried), shared))
    return groups


def check_rows(rows: Sequence[Row], *, metric: str | None = None, fields: Sequence[str] = ()) -> None:
    """Raises InputError unless there are rows, with these fields in their configurations and this metric measured."""
    if not rows:
        raise InputError("there are no rows to compare: run the study first, or look at how the rows were filtered")
    for place, row in enumerate(rows):
        if not (isinstance(row.get("config"), Mapping) and isinstance(row.get("metrics"), Mapping)):
            raise InputError(
                f'row {place} (key {row.get("key", "unknown")}) is incomplete: a row has the "config" and the '
                '"metrics" of its run; leave it out or run it again'
            )
    known = {field for row in rows for field in row["config"]}
    for field in fields:
        if field not in known:
            raise InputError(f"no run has a field {field!r} in its configuration ({nearest(field, known)})")
    if metric is None:
        return
    names = {name for row in rows for name in row["metrics"]}
    if metric not in names:
        raise InputError(f"no run has a metric {metric!r} ({nearest(metric, names)})")
    lacking = [row for row in rows if metric not in row["metrics"] and row.get("status") != "diverged"]
    if lacking:
        raise InputError(
            f"{len(lacking)} of {len(rows)} runs finished without a metric {metric!r}, such as that with "
            f"{', '.join(phrase(*pair) for pair in lacking[0]['config'].items())}: leave them out or run them again"
        )


def larger_is_better(metric: str) -> bool:
    """Whether a metric of this name is one to maximise; of several words that say so the last one decides.

    Raises:
        InputError: the name has no word that says so.

    Example:
        >>> larger_is_better("accuracy"), larger_is_better("target/loss"), larger_is_better("bits_per_byte")
        (True, False, False)
    """
    words = re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", metric).lower())
    known = [word for word in words if word in _SMALLER_IS_BETTER | _LARGER_IS_BETTER]
    if not known:
        raise InputError(
            f"the metric {metric!r} does not say by its name whether larger is better: check its spelling, or "
            "give maximise=True or maximise=False"
        )
    return known[-1] in _LARGER_IS_BETTER


def direction(rows: Sequence[Row], metric: str, maximise: bool | None) -> bool:
    """Whether a metric of these rows is one to maximise: as said, or by its name.

    Raises:
        InputError: no row has the metric, or its name does not say.
    """
    check_rows(rows, metric=metric)
    return larger_is_better(metric) if maximise is None else maximise


def value_of(row: Row, metric: str, part: str = "metrics") -> float | None:
    """The metric of a run; None if the run diverged, or the metric is missing or not finite."""
    value = (row.get(part) or {}).get(metric)
    if row.get("status") == "diverged" or value is None or not math.isfinite(value):
        return None
    return float(value)


def is_number(value: Any) -> bool:
    """Whether a setting is a number that can be put on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _split(rows: Sequence[Row], fields: Sequence[str]) -> list[tuple[dict[str, Any], list[Row]]]:
    """Rows by the values of the fields: numbers ascending, everything else as it first appears."""
    parts: dict[tuple[Hashable, ...], list[Row]] = {}
    for row in rows:
        parts.setdefault(tuple(row["config"].get(field) for field in fields), []).append(row)
    ranks: list[dict[Any, float]] = []
    for column in zip(*parts, strict=True):
        seen = list(dict.fromkeys(column))
        ranks.append({value: place for place, value in enumerate(sorted(seen) if all(map(is_number, seen)) else seen)})
    ordered = sorted(parts, key=lambda values: [rank[value] for rank, value in zip(ranks, values, strict=True)])
    return [(dict(zip(fields, values, strict=True)), parts[values]) for values in ordered]


def _one_a_seed(rows: Sequence[Row], over: str, name: str, held: Sequence[str]) -> dict[Any, Row]:
    by_seed: dict[Any, list[Row]] = {}
    for row in rows:
        by_seed.setdefault(row["config"].get(over), []).append(row)
    for seed, same in by_seed.items():
        if len(same) == 1:
            continue
        fields = _differing(same)
        where = f"{name!r} has {len(same)} rows with {over} {show(seed)}"
        if not fields:
            keys = ", ".join(str(row.get("key", "?")) for row in same[:4])
            raise InputError(
                f"{where} and one and the same configuration (keys {keys}), made by different code, base or data: "
                "keep the rows of one of them"
            )
        shown = {field: sorted({show(row["config"].get(field)) for row in same}) for field in fields}
        listed = "; ".join(f"{field}: {', '.join(values[:6])}" for field, values in shown.items())
        raise InputError(
            f"{where} that differ in {' and '.join(fields)} ({listed}): put {fields[0]!r} in by=({_quoted(held)}, "
            f"{fields[0]!r}) to compare its values, or use equalise=({', '.join(map(repr, fields))},) to choose one "
            "for each group on validation data"
        )
    numbers = all(is_number(seed) for seed in by_seed)
    return {seed: by_seed[seed][0] for seed in (sorted(by_seed) if numbers else sorted(by_seed, key=str))}


def _quoted(fields: Sequence[str]) -> str:
    return ", ".join(map(repr, fields))


def _differing(rows: Sequence[Row]) -> list[str]:
    fields = list(dict.fromkeys(field for row in rows for field in row["config"]))
    return [field for field in fields if len({row["config"].get(field) for row in rows}) > 1]


def _choose(
    settings: Sequence[tuple[dict[str, Any], dict[Any, Row]]], name: str, metric: str, maximise: bool
) -> tuple[dict[str, Any], dict[Any, Row]]:
    """The setting with the smallest share of diverged runs and, of those, the best mean validation metric."""
    lost = [mean([_diverged(row, metric, True) for row in runs.values()]) for _, runs in settings]
    candidates = [pair for pair, share in zip(settings, lost, strict=True) if share == min(lost)]
    if len(candidates) == 1 or min(lost) == 1:
        return candidates[0]
    usable: list[dict[Any, float]] = []
    for setting, runs in candidates:
        if any(metric not in (row.get("validation") or {}) for row in runs.values() if row.get("status") != "diverged"):
            which = ", ".join(phrase(*pair) for pair in setting.items())
            raise InputError(
                f"{name!r} with {which} has no validation {metric!r}, and settings are never chosen on test data: "
                "give the experiment validation rows"
            )
        values = {seed: value_of(row, metric, "validation") for seed, row in runs.items()}
        usable.append({seed: value for seed, value in values.items() if value is not None})
    shared = set.intersection(*map(set, usable))
    if not set.intersection(*(set(runs) for _, runs in candidates)):
        raise InputError(f"the settings of {name!r} have no seed in common, so that none can be chosen: run the rest")
    means = [mean([values[seed] for seed in sorted(shared or values, key=str)]) for values in usable]
    return candidates[means.index(max(means) if maximise else min(means))]


def _diverged(row: Row, metric: str, chosen: bool) -> bool:
    """Whether a run diverged: its status says so or, where settings are chosen, its validation figure is none."""
    validation = row.get("validation") or {}
    undefined = chosen and metric in validation and value_of(row, metric, "validation") is None
    return row.get("status") == "diverged" or undefined


def _at_edge(field: str, chosen: dict[str, Any], settings: Sequence[dict[str, Any]]) -> bool:
    tried = {setting[field] for setting in settings}
    return len(tried) > 1 and all(map(is_number, tried)) and chosen[field] in (min(tried), max(tried))
