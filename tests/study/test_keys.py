"""Keys of runs: equal for equal runs, different for different ones, the same in every process."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxft.errors import InputError
from jaxft.study.keys import run_key

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0)
    | st.text()
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3).map(tuple)
CONFIGS = st.dictionaries(st.text(min_size=1, max_size=8), VALUES, max_size=5)


def key(config, code="c", base="b", built=None, data="d"):
    return run_key(config, code=code, base=base, built=built or {}, data=data)


@given(CONFIGS)
def test_the_order_of_fields_and_a_round_trip_through_json_change_nothing(config):
    first = key(config)
    assert key(dict(reversed(config.items()))) == first
    assert key(json.loads(json.dumps(config))) == first
    assert len(first) == 16
    assert int(first, 16) >= 0


@given(CONFIGS, st.text(min_size=1, max_size=8), VALUES, VALUES)
def test_another_value_is_another_run(config, name, one, two):
    same = json.dumps(one) == json.dumps(two)
    assert (key({**config, name: one}) == key({**config, name: two})) == same


def test_floats_ints_bools_and_texts_are_kept_apart():
    assert len({key({"x": value}) for value in (1, 1.0, True, "1", None, (1,), "1.0")}) == 7
    assert key({"x": 1e-3}) == key({"x": 0.001}) == key({"x": np.float64(0.001)})
    assert key({"x": -0.0}) == key({"x": 0.0})


@pytest.mark.parametrize("part", ["code", "base", "data"])
def test_code_base_and_data_are_part_of_the_run(part):
    assert key({"x": 1}, **{part: "other"}) != key({"x": 1})
    assert key({"x": 1}, built={"steps": 2}) != key({"x": 1}, built={"steps": 3})


def test_another_process_finds_the_same_key():
    program = (
        "from jaxft.study.keys import run_key; "
        "print(run_key({'b': 0.1, 'a': ('x', 2)}, code='', base='', built={'steps': 1}, data=''))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {run_key({"a": ("x", 2), "b": 0.1}, code="", base="", built={"steps": 1}, data="")}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model": object()}, "field 'model' of a run is a object: expected a string, int, float"),
        ({"layers": (0, {1})}, "field 'layers' of a run is a set"),
        ({"seed": np.int64(3)}, "field 'seed' of a run is a int64"),
        ({"lr": float("nan")}, "field 'lr' of a run is nan"),
        ({"lr": float("inf")}, "field 'lr' of a run is inf"),
        ({1: 2}, "named by strings, got 1"),
    ],
    ids=["object", "set", "numpy", "nan", "inf", "name"],
)
def test_what_json_cannot_hold_is_refused_by_name(config, said):
    with pytest.raises(InputError, match=said):
        key(config)
