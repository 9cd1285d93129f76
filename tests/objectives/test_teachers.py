"""Teachers: models with adaptations bound, several at once, one at a time, columns; what they must not touch."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.objectives import hinton, mean_logits
from jaxft.train.sharding import shardings

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(6, 5)), jnp.float32)
BATCH = {"features": X, "labels": jnp.arange(6) % 3}
TEACHER = ft.small_mlp(5, num_labels=3, hidden=(7,), seed=1)
OTHER = ft.small_mlp(5, num_labels=3, hidden=(4, 4), seed=2)
STUDENT = ft.small_mlp(5, num_labels=3, hidden=(3,), seed=3)


def trained(objective: ft.Objective, batch: Any = BATCH, steps: int = 1, student: ft.Model = STUDENT) -> Any:
    step = ft.make_step(student.apply, ft.full(), objective, optax.adam(1e-2))
    frozen, state = step.init(jax.random.key(0), student.params, batch)
    update = jax.jit(step.update)
    losses = []
    for _ in range(steps):
        state, metrics = update(frozen, state, batch)
        losses.append(float(metrics["loss"]))
    return losses, state


def logits(model: ft.Model) -> jax.Array:
    found: jax.Array = model.apply(model.params, {"features": X}).logits
    return found


def test_a_student_learns_from_a_teacher_without_labels() -> None:
    unlabelled = {"features": X}
    losses, _ = trained(ft.knowledge_distillation(TEACHER, temperature=2.0), unlabelled, steps=100)
    np.testing.assert_allclose(losses[0], hinton(logits(STUDENT), logits(TEACHER), temperature=2.0), rtol=1e-5)
    assert losses[-1] < 0.1 * losses[0]


def test_the_labels_of_the_view_do_not_matter_to_it() -> None:
    objective = ft.knowledge_distillation(TEACHER)
    _, one = trained(objective, BATCH)
    _, other = trained(objective, BATCH | {"labels": jnp.zeros(6, int)})
    jax.tree.map(np.testing.assert_array_equal, one.delta, other.delta)


def test_a_teacher_with_an_adaptation_bound_is_the_merged_one() -> None:
    adaptation = ft.lora("hidden_0/kernel", rank=2)
    frozen, delta = adaptation.init(jax.random.key(0), TEACHER.params)
    delta = jax.tree.map(lambda leaf: leaf + 0.3, delta)
    bound = TEACHER._replace(params=adaptation.bind(frozen, delta))
    merged = TEACHER._replace(params=ft.merge(adaptation, frozen, delta))
    found = [trained(ft.knowledge_distillation(teacher))[0][0] for teacher in (bound, merged)]
    np.testing.assert_allclose(*found, rtol=1e-5)
    assert abs(found[0] - trained(ft.knowledge_distillation(TEACHER))[0][0]) > 1e-4


def test_params_of_the_teacher_are_arguments_of_the_step() -> None:
    """No constant of the compiled program is as large as a weight of the teacher."""
    step = ft.make_step(STUDENT.apply, ft.full(), ft.knowledge_distillation(TEACHER), optax.sgd(0.1))
    frozen, state = step.init(jax.random.key(0), STUDENT.params, BATCH)
    constants = jax.make_jaxpr(step.update)(frozen, state, BATCH).consts
    assert max((np.size(constant) for constant in constants), default=0) < TEACHER.params["hidden_0"]["kernel"].size


def test_the_rules_that_place_a_student_place_its_teacher() -> None:
    step = ft.make_step(STUDENT.apply, ft.full(), ft.knowledge_distillation(TEACHER), optax.sgd(0.1))
    frozen, state = step.init(jax.random.key(0), STUDENT.params, BATCH)
    placement = ft.fully_sharded(devices=jax.devices()[:1])
    found = {path: leaf.spec for path, leaf in ft.leaf_paths(shardings((frozen, state), placement)).items()}
    teacher = [spec for path, spec in found.items() if "objective/params/hidden_0/kernel" in path]
    student = [spec for path, spec in found.items() if "delta/hidden_0/kernel" in path]
    assert [tuple(spec) for spec in teacher] == [(None, "fsdp")]
    assert [tuple(spec) for spec in student] == [("fsdp",)]


def test_an_ensemble_is_the_mean_of_probabilities() -> None:
    both = ft.ensemble([TEACHER, OTHER], weights=(1.0, 3.0))
    expected = mean_logits([logits(TEACHER), logits(OTHER)], jnp.array([0.25, 0.75]), 3.0)
    found = trained(ft.knowledge_distillation(both, temperature=3.0))[0][0]
    np.testing.assert_allclose(found, hinton(logits(STUDENT), expected, temperature=3.0), rtol=1e-4)


def test_terms_of_one_teacher_share_its_pass() -> None:
    """Compiled work: three terms cost little more than one, whichever they are."""
    large = ft.small_mlp(5, num_labels=3, hidden=(200, 200))
    soft, other, held = ft.knowledge_distillation(large), ft.correlation_distillation(large), ft.feature_distance(large)

    def flops(student: ft.Model, **terms: ft.Objective) -> float:
        step = ft.make_step(student.apply, ft.full(), ft.combine(**terms), optax.sgd(0.1))
        frozen, state = step.init(jax.random.key(0), student.params, BATCH)
        figures: Any = jax.jit(step.update).lower(frozen, state, BATCH).compile().cost_analysis()
        return float(figures["flops"])

    assert flops(STUDENT, soft=soft, other=other) < 1.1 * flops(STUDENT, soft=soft)
    assert flops(large, soft=soft, held=held) < 1.1 * flops(large, soft=soft)
    again = ft.knowledge_distillation(ft.ensemble([large, large]))
    assert flops(STUDENT, soft=soft, again=again) < 1.1 * flops(STUDENT, soft=soft)


def test_one_member_is_picked_at_each_step() -> None:
    picked = ft.ensemble([TEACHER, OTHER], pick=True)
    still = ft.make_step(STUDENT.apply, ft.full(), ft.knowledge_distillation(picked), optax.sgd(0.0))
    frozen, state = still.init(jax.random.key(0), STUDENT.params, BATCH)
    update, losses = jax.jit(still.update), []
    for _ in range(20):
        state, metrics = update(frozen, state, BATCH)
        losses.append(round(float(metrics["loss"]), 4))
    alone = {round(float(hinton(logits(STUDENT), logits(model))), 4) for model in (TEACHER, OTHER)}
    assert set(losses) == alone
    assert len(alone) == 2
    never = ft.ensemble([TEACHER, OTHER], pick=True, weights=(0.0, 1.0))
    losses, _ = trained(ft.knowledge_distillation(never))
    np.testing.assert_allclose(losses[0], hinton(logits(STUDENT), logits(OTHER)), rtol=1e-4)


def test_columns_take_the_place_of_the_teacher() -> None:
    told = BATCH | {"teacher/logits": logits(TEACHER)}
    _, with_columns = trained(ft.knowledge_distillation(None), told, steps=3)
    _, with_teacher = trained(ft.knowledge_distillation(TEACHER), steps=3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), with_columns.delta, with_teacher.delta)


def test_the_largest_logits_alone() -> None:
    """With all but one class kept nothing is lost; below, the other classes share what is left."""
    log_p = jax.nn.log_softmax(logits(TEACHER))
    top, classes = jax.lax.top_k(log_p, 2)
    told = BATCH | {"teacher/top": top, "teacher/classes": classes}
    found = trained(ft.knowledge_distillation(None), told)[0][0]
    np.testing.assert_allclose(found, trained(ft.knowledge_distillation(TEACHER))[0][0], rtol=1e-3)
    told = BATCH | {"teacher/top": top[:, :1], "teacher/classes": classes[:, :1]}
    p = jnp.exp(top[:, :1])
    shared = jnp.log(jnp.where(jax.nn.one_hot(classes[:, 0], 3) > 0, p, (1 - p) / 2))
    found = trained(ft.knowledge_distillation(None), told)[0][0]
    np.testing.assert_allclose(found, hinton(logits(STUDENT), shared), rtol=1e-3)


BAD: dict[str, tuple[Any, str]] = {
    "no teacher": (lambda: trained(ft.knowledge_distillation("minilm")), "but it is str"),  # type: ignore[arg-type]
    "classes": (
        lambda: trained(ft.knowledge_distillation(ft.small_mlp(5, num_labels=4))),
        r"logits are \[6, 3\] and the teacher's \[6, 4\]: give the student",
    ),
    "no columns": (lambda: trained(ft.knowledge_distillation(None)), "distil.remember"),
    "no labels": (
        lambda: trained(ft.decoupled_distillation(TEACHER), {"features": X}),
        "reads labels, but the view has none",
    ),
    "nobody": (lambda: ft.ensemble([]), "at least one, but got nothing"),
    "no models": (lambda: ft.ensemble([1]), "but got int"),  # type: ignore[list-item]
    "weights": (lambda: ft.ensemble([TEACHER], weights=(1, 2)), "as many weights"),
    "negative": (lambda: ft.ensemble([TEACHER, OTHER], weights=(1, -1)), "from 0 up"),
    "members": (
        lambda: trained(ft.knowledge_distillation(ft.ensemble([TEACHER, ft.small_mlp(5, num_labels=4)]))),
        r"but their logits are \[6, 3\] and \[6, 4\]",
    ),
    "features": (lambda: trained(ft.relational_distillation(ft.ensemble([TEACHER]))), "features name one model"),
    "view": (lambda: trained(ft.knowledge_distillation(TEACHER, "target")), "'target'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(ft.InputError, match=message):
        call()
