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
from jaxft.study.trace import describe
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


def test_rows_count_by_their_content():
    before, after = identity(made()), identity(made(data=2.0))
    assert before[2] != after[2]


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
