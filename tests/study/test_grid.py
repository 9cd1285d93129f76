"""Grids: products, sums, what is refused."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxft as ft


@dataclass(frozen=True)
class Config:
    method: str = "full"
    rank: int = 8
    lr: float = 1e-3
    deep: bool = False
    seed: int = 0


@dataclass
class Changing:
    lr: float = 1e-3


@given(
    rates=st.lists(st.floats(1e-6, 1, allow_nan=False), min_size=1, max_size=4, unique=True),
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
)
def test_a_grid_is_a_product_whose_last_axis_varies_fastest(rates, seeds):
    configs = ft.grid(lr=rates, seed=seeds).configs(Config(rank=3))
    assert [(c.lr, c.seed) for c in configs] == [(rate, seed) for rate in rates for seed in seeds]
    assert {c.rank for c in configs} == {3}


def test_grids_add_up_and_hold_each_run_once():
    both = ft.grid(method="lora", rank=(1, 2)) + ft.grid(method="full") + ft.grid(method=("full", "lora"), rank=2)
    configs = both.configs(Config(rank=2))
    assert [(c.method, c.rank) for c in configs] == [("lora", 1), ("lora", 2), ("full", 2)]
    assert both.axes == {"method": ["lora", "full"], "rank": [1, 2]}


def test_whole_numbers_of_a_float_become_floats():
    (config,) = ft.grid(lr=1).configs(Config())
    assert isinstance(config.lr, float)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"rnk": 1}, r"the axis 'rnk' is no field of Config.*rank"),
        ({"rank": 1.5}, r"rank is a int, but the grid has 1.5"),
        ({"rank": True}, r"rank is a int, but the grid has True"),
        ({"lr": "big"}, r"lr is a float, but the grid has 'big'"),
        ({"method": 3}, r"method is a str, but the grid has 3"),
    ],
)
def test_values_that_do_not_fit_are_refused(axes, message):
    with pytest.raises(ft.InputError, match=message):
        ft.grid(**axes).configs(Config())


def test_an_axis_without_values_is_refused():
    with pytest.raises(ft.InputError, match="the axis 'seed' has no value"):
        ft.grid(seed=())


def test_settings_that_may_change_are_refused():
    with pytest.raises(ft.InputError, match=r"Changing must be frozen.*@dataclass\(frozen=True\)"):
        ft.grid(lr=0.1).configs(Changing())


def test_settings_are_a_dataclass():
    with pytest.raises(ft.InputError, match="the settings of a study are a dataclass"):
        ft.grid(lr=0.1).configs({"lr": 0.1})


@pytest.mark.parametrize("ranks", [(), (0, 1), (1.5,), (True,)])
def test_masked_takes_ranks(ranks):
    with pytest.raises(ft.InputError, match="masked expects ranks"):
        ft.masked(*ranks)


def test_a_class_below_the_settings_that_is_no_dataclass_is_refused():
    @dataclass(frozen=True)
    class Whole:
        lr: float = 0.1

    class Below(Whole):
        rank: int = 2

    with pytest.raises(ft.InputError, match="Below is a class below a dataclass but none itself"):
        ft.grid(lr=0.1).configs(Below())


def test_a_seed_is_a_number():
    @dataclass(frozen=True)
    class Loose:
        seed: int | None = 0

    with pytest.raises(ft.InputError, match=r"a seed is a whole number from 0 to 2\*\*32 - 1, but is None"):
        ft.grid(seed=None).configs(Loose())
