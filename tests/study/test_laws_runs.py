"""Laws of every way to run a study: what is stacked, masked, chunked or kept equals the runs made one by one."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.study.prepare import prepare
from jaxft.study.trace import digest
from tests.study import every_float
from tests.study.every_float import Config, build


def rows_of(directory, grid, *, build=build, **options):
    return ft.run_study(build, Config(), grid, directory=directory, **options)


HELD_OUT = 100
"""The rows of the smaller part that is measured: float error may tip one of them."""


def check_equal(found, expected, *, trained=True):
    """The same runs with the same figures within float error."""
    assert [row["config"] for row in found] == [row["config"] for row in expected]
    for one, other in zip(found, expected, strict=True):
        assert one["status"] == other["status"]
        for part in ("metrics", "validation"):
            check_figures(one[part], other[part])
        if trained:
            assert one["cost"]["trained_parameters"] == other["cost"]["trained_parameters"]
        for left, right in zip(one["curve"], other["curve"], strict=True):
            check_figures(left, right)


def check_figures(left, right):
    assert left.keys() == right.keys()
    for name in left:
        counted = not name.endswith("loss") and name != "step"
        tolerance = {"atol": 2.5 / HELD_OUT, "rtol": 0.0} if counted else {"rtol": 2e-4}
        np.testing.assert_allclose(left[name], right[name], err_msg=name, **tolerance)


@pytest.mark.parametrize("name", ["loss", "test/loss", "accuracy", "macro_f1", "step"])
def test_the_law_tells_every_figure_apart(name):
    with pytest.raises(AssertionError):
        check_figures({name: 0.5}, {name: 0.55})


GRIDS = {
    "learning rate and seed": ft.grid(lr=(1e-3, 3e-2), seed=(0, 3)),
    "weight decay": ft.grid(decay=(0.0, 0.5)),
    "weight of a term": ft.grid(weight=(0.5, 2.0)),
    "alpha": ft.grid(method="lora", alpha=(1.0, 16.0)),
    "dropout rate": ft.grid(method="lora", dropout=(0.1, 0.5)),
    "scale of what starts": ft.grid(scale=(0.1, 0.5)),
    "masked rank": ft.grid(method="lora", rank=ft.masked(1, 4)),
    "rows drawn by the seed": ft.grid(rows=20, seed=(0, 1, 2)),
    "kept activations": ft.grid(method="head", lr=(1e-3, 1e-2), seed=(0, 1)),
}


QUICK = ("learning rate and seed",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in GRIDS]
)
def test_runs_side_by_side_and_in_turn_equal_loops_of_steps(name, tmp_path):
    one_by_one = rows_of(tmp_path / "loop", GRIDS[name], stack="loop")
    assert {row["program"]["stack"] for row in one_by_one} == {"loop"}
    assert len({row["metrics"]["loss"] for row in one_by_one}) == len(one_by_one), "the axis must make a difference"
    for stack in ("vmap", "map"):
        found = rows_of(tmp_path / stack, GRIDS[name], stack=stack)
        assert {row["program"]["stack"] for row in found} == {stack}
        check_equal(found, one_by_one)


def test_a_masked_rank_equals_the_rank_itself(tmp_path):
    ranks = (1, 5)
    found = rows_of(tmp_path / "masked", ft.grid(method="lora", rank=ft.masked(*ranks)))
    plain = rows_of(tmp_path / "plain", ft.grid(method="lora", rank=ranks))
    check_equal(found, plain)


def test_one_program_serves_all_runs_of_a_structure(tmp_path):
    every_float.CALLS.clear()
    grid = ft.grid(method="lora", lr=(1e-3, 1e-2, 1e-1), rank=ft.masked(2, 4), seed=range(3))
    found = rows_of(tmp_path, grid)
    assert len(found) == 18
    assert len({row["program"]["compile_seconds"] for row in found}) == 1
    assert len(every_float.CALLS) == 3, "once a rank to describe it, and once to trace the program"
    assert found[0]["program"]["traced"] == ["lr", "rank", "seed"]


def test_runs_that_do_not_fit_side_by_side_come_in_turns(tmp_path):
    from jaxft.study.program import compile_program
    from jaxft.study.trace import trace

    grid = ft.grid(seed=range(6))
    together = rows_of(tmp_path / "together", grid, stack="vmap")
    assert together[0]["program"]["lanes"] == 6
    limit = int(0.8 * compile_program(trace(build, Config(), ["seed"], {}), lanes=6, stack="vmap").bytes)
    chunked = rows_of(tmp_path / "chunked", grid, stack="vmap", memory_limit=limit)
    assert 1 < chunked[0]["program"]["lanes"] < 6
    assert chunked[0]["cost"]["bytes"] <= limit
    check_equal(chunked, together)


def test_a_run_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ft.InputError, match=r"MiB there are.*smaller batches"):
        rows_of(tmp_path, ft.grid(seed=range(2)), stack="map", memory_limit=1000)


def test_data_that_does_not_fit_stays_on_the_host(tmp_path):
    found = rows_of(tmp_path / "loop", ft.grid(seed=range(2)), memory_limit=20_000)
    assert {row["program"]["stack"] for row in found} == {"loop"}
    whole = rows_of(tmp_path / "whole", ft.grid(seed=range(2)))
    assert [row["cost"]["flops"] for row in found] == [row["cost"]["flops"] for row in whole]
    assert found[0]["cost"]["flops"] > 2 * 16 * (64 * 16 + 16 * 10)


@pytest.mark.parametrize("stack", ["auto", "loop"])
def test_the_rows_of_a_structure_are_prepared_once(stack, tmp_path, monkeypatch):
    from jaxft.study import program, trace

    prepared = []

    def counted(experiment):
        prepared.append(experiment)
        return prepare(experiment)

    for module in (program, trace):
        monkeypatch.setattr(module, "prepare", counted)
    grid = ft.grid(method=("full", "lora"), rank=ft.masked(2, 4), lr=(1e-3, 1e-2))
    assert len(rows_of(tmp_path, grid, stack=stack)) == 8
    assert len(prepared) == 2, "once for each method"


def test_params_and_data_are_arguments_of_the_program(tmp_path):
    from jaxft.study.program import compile_program
    from jaxft.study.trace import trace

    traced = trace(build, Config(), ["lr", "seed"], {})
    shapes = {tuple(np.shape(constant)) for constant in traced.constants}
    assert {(64, 16), (150, 64), (297, 64)} <= shapes
    text = compile_program(traced, lanes=1, stack="map").call.as_text()
    large = [line for line in text.splitlines() if " constant({" in line and line.count(",") > 500]
    assert not large


def test_activations_below_what_learns_are_kept_and_said_so(tmp_path):
    (kept,) = rows_of(tmp_path / "head", ft.grid(method="head"))
    (none,) = rows_of(tmp_path / "full", ft.grid(method="full"))
    assert kept["program"]["prefix"] == pytest.approx(64 * 16 / (64 * 16 + 16 * 10))
    assert none["program"]["prefix"] == 0
    assert kept["cost"]["flops"] == 2 * 16 * (2 * 16 * 10), "the head, forward and for its own gradient"


def test_the_same_runs_have_the_same_bits(tmp_path):
    grid = ft.grid(lr=(1e-3, 1e-2), seed=range(2))
    first, second = (rows_of(tmp_path / name, grid) for name in ("first", "second"))
    assert [row["provenance"]["bits"] for row in first] == [row["provenance"]["bits"] for row in second]
    assert len({row["provenance"]["bits"] for row in first}) == 4


def test_the_bits_of_a_lane_do_not_depend_on_its_company(tmp_path):
    grid = ft.grid(lr=(1e-3, 1e-2), seed=range(2))
    whole = {row["key"]: row for row in rows_of(tmp_path, grid, stack="vmap")}
    gone = sorted(whole)[1]
    (tmp_path / "rows" / f"{gone}.json").unlink()
    again = {row["key"]: row for row in rows_of(tmp_path, grid, stack="vmap")}
    assert again[gone]["provenance"]["bits"] == whole[gone]["provenance"]["bits"]


def test_a_finished_study_runs_nothing(tmp_path, monkeypatch):
    first = rows_of(tmp_path, ft.grid(seed=range(2)))
    monkeypatch.setattr("jaxft.study.runner.make_program", None)
    assert rows_of(tmp_path, ft.grid(seed=range(2))) == first


def test_a_diverged_run_is_a_row(tmp_path):
    found = rows_of(tmp_path, ft.grid(lr=(1e-2, 1e38)))
    assert [row["status"] for row in found] == ["finished", "diverged"]
    assert found[1]["metrics"]["accuracy"] is None
    assert found[0]["metrics"]["accuracy"] is not None


def test_a_float_can_be_made_structure(tmp_path):
    grid = ft.grid(decay=(0.01, 0.02), lr=(1e-3, 1e-2))
    found = rows_of(tmp_path, grid, build=every_float.value_of_a_float, structure=["decay"])
    assert {tuple(row["program"]["traced"]) for row in found} == {("lr", "seed")}
    assert len(found) == 4


def test_the_value_of_a_traced_setting_cannot_be_asked_for(tmp_path):
    with pytest.raises(ft.InputError, match=r"uses the value of one of the settings decay, seed.*structure="):
        rows_of(tmp_path, ft.grid(decay=(0.01, 0.02)), build=every_float.value_of_a_float)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (every_float.no_experiment, "build must return a jaxft.Experiment, but returned a Config"),
        (every_float.too_many_steps, "steps of an Experiment is structure, a Python whole number from 1 up"),
    ],
)
def test_what_is_no_experiment_is_refused(wrong, message, tmp_path):
    with pytest.raises(ft.InputError, match=message):
        rows_of(tmp_path, ft.grid(lr=(0.1, 0.2)), build=wrong)


def test_an_unknown_stack_is_refused(tmp_path):
    with pytest.raises(ft.InputError, match="stack is one of 'auto'"):
        rows_of(tmp_path, ft.grid(seed=0), stack="pile")


def test_a_part_of_a_grid_keeps_a_rank_beyond_the_masked_ones(tmp_path):
    grid = ft.grid(method="lora", rank=ft.masked(1, 4)) + ft.grid(method="lora", rank=8, alpha=4.0)
    found = {row["config"]["rank"]: row for row in rows_of(tmp_path / "both", grid)}
    (alone,) = rows_of(tmp_path / "alone", ft.grid(method="lora", rank=8, alpha=4.0))
    check_equal([found[8]], [alone])


def test_a_float_that_is_written_as_an_int_stays_a_float(tmp_path):
    grid = ft.grid(seed=0) + ft.grid(whole=(0.25, 0.5))
    found = {row["config"]["whole"]: row for row in rows_of(tmp_path / "both", grid)}
    (alone,) = rows_of(tmp_path / "alone", ft.grid(whole=0.5))
    check_equal([found[0.5]], [alone])
    assert found[0.25]["metrics"]["loss"] != found[0.5]["metrics"]["loss"]


def test_views_have_the_same_order_in_every_way_to_run(tmp_path):
    one_by_one = rows_of(tmp_path / "loop", ft.grid(seed=(0, 1)), build=every_float.views, stack="loop")
    check_equal(rows_of(tmp_path / "map", ft.grid(seed=(0, 1)), build=every_float.views), one_by_one)


def test_running_statistics_are_those_of_training_when_rows_are_measured(tmp_path):
    one_by_one = rows_of(tmp_path / "loop", ft.grid(seed=(0, 1)), build=every_float.with_statistics, stack="loop")
    found = rows_of(tmp_path / "map", ft.grid(seed=(0, 1)), build=every_float.with_statistics)
    check_equal(found, one_by_one)
    assert {row["cost"]["trained_parameters"] for row in found} == {16 * 10}


def test_another_teacher_is_another_run(tmp_path):
    first = rows_of(tmp_path / "first", ft.grid(seed=0), build=every_float.taught)
    every_float.TEACHER += 1
    second = rows_of(tmp_path / "second", ft.grid(seed=0), build=every_float.taught)
    assert first[0]["key"] != second[0]["key"]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_are_what_a_program_can_hold(seed, tmp_path):
    with pytest.raises(ft.InputError, match=r"a seed is a whole number from 0 to 2\*\*32 - 1"):
        rows_of(tmp_path, ft.grid(seed=seed))


@pytest.mark.parametrize("build", [every_float.numbers_by_seed, every_float.rows_by_seed])
def test_a_seed_cannot_be_a_python_number(build, tmp_path):
    with pytest.raises(ft.InputError, match="uses the value of one of the settings"):
        rows_of(tmp_path, ft.grid(seed=(0, 1)), build=build)


def test_a_digest_tells_signs_and_places():
    from jaxft.study.trace import digest

    x = np.arange(1, 9, dtype=np.float32)
    same = np.asarray(digest({"x": x}))
    assert np.array_equal(same, np.asarray(digest({"x": x.copy()})))
    for other in (-x, x[::-1].copy(), np.where(x < 3, -x, x)):
        assert not np.array_equal(same, np.asarray(digest({"x": other})))


def test_a_digest_of_float64_tells_every_bit():
    with jax.enable_x64(True):
        one = jnp.asarray([1.0, 2.0], jnp.float64)
        found = digest({"w": one})
        assert (found.dtype, found.shape) == (jnp.uint32, (1, 2))
        assert (digest({"w": one + 1e-15}) != found).all()


def test_a_float_that_may_be_none_is_traced_where_it_is_a_number(tmp_path):
    @dataclass(frozen=True)
    class Loose:
        decay: float | None = None
        seed: int = 0

    def loose(c: Loose) -> ft.Experiment:
        one = build(Config(seed=c.seed))
        return one._replace(optimizer=optax.adamw(1e-2, weight_decay=0.0 if c.decay is None else c.decay))

    grid = ft.grid(decay=(None, 0.0, 0.5))
    rows = {row["config"]["decay"]: row for row in ft.run_study(loose, Loose(), grid, directory=tmp_path)}
    assert [rows[decay]["program"]["traced"] for decay in (None, 0.0, 0.5)] == [["seed"], *[["decay", "seed"]] * 2]
    check_equal([rows[0.0] | {"config": {}}], [rows[None] | {"config": {}}])
