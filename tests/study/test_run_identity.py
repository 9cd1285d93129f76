"""What makes another run of it: every array, number and function that a run is built from, in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.study.experiment import structure_of
from jaxft.study.program import Program
from jaxft.study.row import bits
from jaxft.study.trace import Outcome, describe
from tests.study import every_float
from tests.study.every_float import Config


def made(base=1.0, hidden=1.0, target=1.0, frozen=1.0, data=1.0, **changes):
    """A build that closes over arrays in each of the places where a run may hold some."""
    first = np.full((64, 16), base, np.float32)
    shift, goal, kept = (np.full(10, value, np.float32) for value in (hidden, target, frozen))

    def apply(params, batch, *, train=False, key=None):
        return every_float.apply(params, batch) + jax.jit(lambda logits: logits * jnp.asarray(shift))(1.0)

    def init(key, context):
        return {"teacher": jnp.asarray(kept)}, (), ()

    def loss(frozen, weights, memory, context):
        error = context.forward().logits - goal - frozen["teacher"]
        return jnp.mean(error**2), ((), {})

    def build(c: Config) -> ft.Experiment:
        one = every_float.build(c)
        params = {**one.model.params, "first": first * c.scale}
        rows = {n: {**part, "pixels": part["pixels"] * data} for n, part in one.data.items()}
        experiment = one._replace(model=ft.Model(apply, params, None), objective=ft.Objective(init, loss), data=rows)
        return experiment._replace(**changes)

    return build


def run(build, directory, **options):
    return ft.run_study(build, Config(), ft.grid(scale=(0.1, 0.2)), directory=directory, **options)


def identity(build):
    facts = describe(build, Config(), ("scale", "seed"), {})
    return facts.base, str(facts.built), facts.data


@pytest.mark.parametrize("name", ["base", "hidden", "target", "frozen"])
def test_every_array_is_part_of_the_base(name):
    before, after = identity(made()), identity(made(**{name: 2.0}))
    assert before == identity(made())
    assert before[0] != after[0]
    assert before[2] == after[2]


def other_bias(c: Config) -> ft.Experiment:
    one = every_float.build(c)
    return one._replace(model=one.model._replace(params={**one.model.params, "bias": jnp.ones(10)}))


def test_params_that_no_setting_touches_are_part_of_the_base():
    assert identity(other_bias)[0] != identity(every_float.build)[0]


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_rows_of_every_part_count_by_their_content(part):
    def build(c: Config) -> ft.Experiment:
        one = every_float.build(c)
        moved = {**one.data[part], "pixels": one.data[part]["pixels"] + np.float32(1)}
        return one._replace(data={**one.data, part: moved})

    assert identity(build)[2] != identity(every_float.build)[2]


@pytest.mark.parametrize("part", Outcome._fields)
def test_bits_are_of_all_that_a_run_computed(part):
    whole = Outcome({"loss": np.ones(2)}, {"test": np.ones((1, 3, 2))}, np.ones((2, 2), np.uint32))
    assert bits(whole) == bits(jax.tree.map(np.copy, whole))
    assert bits(whole._replace(**{part: jax.tree.map(lambda a: a + 1, getattr(whole, part))})) != bits(whole)


def test_runs_of_one_call_share_its_seconds(tmp_path, monkeypatch):
    run = Program.run
    monkeypatch.setattr(Program, "run", lambda self, values: (run(self, values)[0], 12.0))
    rows = ft.run_study(every_float.build, Config(), ft.grid(seed=range(4)), directory=tmp_path, stack="vmap")
    assert [row["cost"]["seconds"] for row in rows] == [3.0] * 4


@pytest.mark.parametrize(
    "change",
    [{"steps": 25}, {"batch_size": 8}, {"rows": 20}, {"evaluate_every": 12}, {"max_length": 64}, {"seed": 3}],
    ids=str,
)
def test_the_structure_of_an_experiment_is_part_of_the_run(change):
    before = structure_of(every_float.build(Config()))
    assert structure_of(every_float.build(Config())._replace(**change)) != before


def test_a_function_made_with_other_numbers_is_another():
    def outer(decay):
        return lambda c: every_float.build(c)._replace(optimizer=optax.adamw(1e-3, weight_decay=decay))

    assert identity(outer(0.1)) == identity(outer(0.1))
    assert identity(outer(0.1)) != identity(outer(0.2))


def test_runs_of_other_lengths_from_one_function_are_other_runs(tmp_path, monkeypatch):
    def build(c: Config) -> ft.Experiment:
        return every_float.build(c)._replace(steps=int(os.environ["STEPS"]))

    rows = {}
    for steps in (4, 6):
        monkeypatch.setenv("STEPS", str(steps))
        (rows[steps],) = ft.run_study(build, Config(), ft.grid(lr=0.1), directory=tmp_path)
    assert rows[4]["key"] != rows[6]["key"]
    assert [rows[steps]["curve"][-1]["step"] for steps in rows] == [4, 6]


def test_rows_of_a_changed_base_are_not_taken_for_finished(tmp_path):
    before = run(made(), tmp_path)
    after = run(made(base=3.0), tmp_path)
    assert not {row["key"] for row in before} & {row["key"] for row in after}
    assert before[0]["provenance"]["bits"] != after[0]["provenance"]["bits"]
    assert {row["key"] for row in run(made(), tmp_path)} == {row["key"] for row in before}


def test_a_float_that_becomes_an_axis_leaves_finished_rows_as_they_are(tmp_path):
    one = ft.run_study(every_float.build, Config(), ft.grid(lr=(1e-2,)), directory=tmp_path)
    two = ft.run_study(every_float.build, Config(), ft.grid(lr=(1e-2, 1e-1)), directory=tmp_path)
    assert one[0] in two


PROGRAM = """
from tests.study.test_run_identity import identity, made
print(identity(made()))
"""


def test_other_processes_find_the_same_identity():
    found = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {str(identity(made()))}
