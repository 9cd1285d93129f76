"""Distillation of predictions and features: values by hand, agreement, gradients, and what does not count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.objectives import crd, dist, dkd, generalised_jsd, hinton, mean_logits, rkd

RNG = np.random.default_rng(0)
S, T, U = (RNG.normal(size=(5, 4)) * 2 for _ in range(3))
LABELS = np.array([0, 3, 2, 2, 1])


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float(np.mean(np.sum(p * np.log(p / q), axis=-1)))


def dkd_by_hand(s: np.ndarray, t: np.ndarray, alpha: float, beta: float, temperature: float) -> float:
    rows = []
    for z_s, z_t, y in zip(s / temperature, t / temperature, LABELS, strict=True):
        p, q = softmax(z_t), softmax(z_s)
        others = np.arange(4) != y
        binary = kl(np.array([[p[y], 1 - p[y]]]), np.array([[q[y], 1 - q[y]]]))
        rest = kl(p[others][None] / p[others].sum(), q[others][None] / q[others].sum())
        rows.append(alpha * binary + beta * rest)
    return temperature**2 * float(np.mean(rows))


def dist_by_hand(s: np.ndarray, t: np.ndarray, beta: float, gamma: float, temperature: float) -> float:
    p, q = softmax(s / temperature), softmax(t / temperature)
    rows = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    classes = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    return float(temperature**2 * (beta * rows + gamma * classes))


def huber(x: float) -> float:
    return 0.5 * x**2 if abs(x) < 1 else abs(x) - 0.5


def rkd_by_hand(s: np.ndarray, t: np.ndarray, distance: float, angle: float) -> float:
    n = len(s)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]

    def distances(f: np.ndarray) -> dict[Any, float]:
        found = {(i, j): float(np.linalg.norm(f[i] - f[j])) for i, j in pairs}
        mean = np.mean(list(found.values()))
        return {pair: value / mean for pair, value in found.items()}

    def cosine(f: np.ndarray, i: int, j: int, k: int) -> float:
        a, b = f[i] - f[j], f[k] - f[j]
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    d_s, d_t = distances(s), distances(t)
    first = np.mean([huber(d_s[pair] - d_t[pair]) for pair in pairs])
    triples = [(i, j, k) for i, j in pairs for k in range(n) if k not in (i, j)]
    second = np.mean([huber(cosine(s, *triple) - cosine(t, *triple)) for triple in triples])
    return float(distance * first + angle * second)


def crd_by_hand(s: np.ndarray, t: np.ndarray, temperature: float, rows: int) -> float:
    s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (s, t))
    negatives = len(s) - 1
    odds = np.exp(s @ t.T / temperature)
    h = odds / (odds + negatives / rows)
    inner = [np.log(h[i, i]) + sum(np.log(1 - h[i, j]) for j in range(len(s)) if j != i) for i in range(len(s))]
    return float(-np.mean(inner))


def jsd_by_hand(s: np.ndarray, t: np.ndarray, beta: float, temperature: float) -> float:
    p, q = softmax(t / temperature), softmax(s / temperature)
    m = beta * p + (1 - beta) * q
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


Loss = Callable[..., Any]
LOSSES: dict[str, tuple[Loss, float]] = {
    "hinton": (lambda s, t, **o: hinton(s, t, temperature=3.0, **o), 9 * kl(softmax(T / 3), softmax(S / 3))),
    "dkd": (lambda s, t, **o: dkd(s, t, jnp.asarray(LABELS)[: len(s)], **o), dkd_by_hand(S, T, 1.0, 8.0, 4.0)),
    "dist": (
        lambda s, t, **o: dist(s, t, beta=2.0, gamma=0.5, temperature=1.5, **o),
        dist_by_hand(S, T, 2.0, 0.5, 1.5),
    ),
    "jsd": (lambda s, t, **o: generalised_jsd(s, t, beta=0.3, temperature=2.0, **o), jsd_by_hand(S, T, 0.3, 2.0)),
    "jsd forward": (lambda s, t, **o: generalised_jsd(s, t, beta=0, **o), kl(softmax(T), softmax(S))),
    "jsd reverse": (lambda s, t, **o: generalised_jsd(s, t, beta=1.0, **o), kl(softmax(S), softmax(T))),
    "rkd": (lambda s, t, **o: rkd(s, t, **o), rkd_by_hand(S, T, 25.0, 50.0)),
    "crd": (lambda s, t, **o: crd(s, t, temperature=0.5, rows=20, **o), crd_by_hand(S, T, 0.5, 20)),
}
AGREE = [name for name in LOSSES if name != "crd"]
every = pytest.mark.parametrize("name", LOSSES)


def arrays(*parts: np.ndarray) -> list[jax.Array]:
    return [jnp.asarray(part, jnp.float32) for part in parts]


@every
def test_by_hand(name: str) -> None:
    loss, expected = LOSSES[name]
    found = jax.jit(loss)(*arrays(S, T))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.dtype == jnp.float32
    assert loss(*(x.astype(jnp.bfloat16) for x in arrays(S, T))).dtype == jnp.float32


@pytest.mark.parametrize("name", AGREE)
def test_agreement_is_the_minimum(name: str) -> None:
    loss, _ = LOSSES[name]
    (z,) = arrays(T)
    value, slope = jax.value_and_grad(loss)(z, z)
    np.testing.assert_allclose(value, 0, atol=1e-5)
    np.testing.assert_allclose(slope, 0, atol=1e-4)


@every
def test_gradients(name: str) -> None:
    loss, _ = LOSSES[name]
    s, t = arrays(S, T)
    check_grads(lambda s: loss(s, t), (s,), order=1, modes=["rev"], rtol=2e-2, atol=1e-3, eps=1e-2)
    if name != "crd":
        np.testing.assert_array_equal(jax.grad(loss, argnums=1)(s, t), 0)


@every
def test_rows_that_do_not_count(name: str) -> None:
    loss, expected = LOSSES[name]
    longer = [jnp.concatenate([x, jnp.full((2, 4), jnp.nan)]) for x in arrays(S, T)]
    mask = jnp.arange(7) < 5

    def padded(s: jax.Array, t: jax.Array) -> Any:
        if name == "dkd":
            return dkd(s, t, jnp.pad(jnp.asarray(LABELS), (0, 2)), mask=mask)
        return loss(s, t, mask=mask)

    value, slope = jax.value_and_grad(padded)(*longer)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_array_equal(slope[5:], 0)
    assert jnp.isfinite(slope).all()


@every
def test_degenerate_inputs_stay_finite(name: str) -> None:
    loss, _ = LOSSES[name]
    same = jnp.ones((5, 4))
    for pair in ((same, same), (jnp.zeros((5, 4)), same), (1e4 * same.at[:, 0].set(-1), arrays(T)[0])):
        value, slope = jax.value_and_grad(loss)(*pair)
        assert jnp.isfinite(value)
        assert jnp.isfinite(slope).all()


def test_dkd_with_the_papers_weights_is_hinton() -> None:
    """KL(T ‖ S) = TCKD + (1 − p_y) NCKD, row by row."""
    for row in range(5):
        s, t = arrays(S[row : row + 1], T[row : row + 1])
        label = jnp.asarray(LABELS[row : row + 1])
        rest = 1 - jax.nn.softmax(t / 4)[0, LABELS[row]]
        np.testing.assert_allclose(dkd(s, t, label, beta=rest), hinton(s, t, temperature=4.0), rtol=1e-4)


def test_dkd_rows_without_labels_and_wrong_ones() -> None:
    s, t = arrays(S, T)
    unlabelled = jnp.asarray(LABELS).at[0].set(-100)
    rest = [dkd(s[i : i + 1], t[i : i + 1], unlabelled[i : i + 1]) for i in range(1, 5)]
    np.testing.assert_allclose(dkd(s, t, unlabelled), np.mean(rest), rtol=1e-5)
    assert jnp.isnan(dkd(s, t, jnp.asarray(LABELS).at[0].set(4)))


def test_a_traced_beta_is_the_same_divergence() -> None:
    s, t = arrays(S, T)
    traced = jax.jit(lambda beta: generalised_jsd(s, t, beta=beta))
    for beta in (0.0, 0.1, 0.5, 1.0):
        np.testing.assert_allclose(traced(beta), generalised_jsd(s, t, beta=beta), rtol=1e-5)
        slope = jax.jit(jax.grad(lambda s, beta=beta: generalised_jsd(s, t, beta=jnp.float32(beta))))(s)
        np.testing.assert_allclose(slope, jax.grad(lambda s, b=beta: generalised_jsd(s, t, beta=b))(s), atol=1e-5)
    assert jnp.isnan(traced(1.5))


def test_relations_do_not_see_moves_turns_and_sizes() -> None:
    t = jnp.asarray(T, jnp.float32)
    turned = jnp.asarray(np.linalg.qr(RNG.normal(size=(4, 4)))[0], jnp.float32)
    np.testing.assert_allclose(rkd(3 * t @ turned + 2, t), 0, atol=1e-4)
    wider = jnp.pad(t, ((0, 0), (0, 3)))
    np.testing.assert_allclose(rkd(wider, t), 0, atol=1e-4)
    assert rkd(t[:1], t[:1]) == 0


def test_mean_of_probabilities_at_a_temperature() -> None:
    weights = jnp.array([0.2, 0.8])
    for temperature in (1.0, 3.0):
        z = mean_logits(arrays(S, T), weights, temperature)
        expected = 0.2 * softmax(S / temperature) + 0.8 * softmax(T / temperature)
        np.testing.assert_allclose(jax.nn.softmax(z / temperature), expected, rtol=1e-5)
    alone = mean_logits(arrays(S, T), jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(jax.nn.softmax(alone), softmax(T), rtol=1e-5)


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "temperature": (lambda: hinton(*arrays(S, T), temperature=0.0), "above 0, but is 0"),
    "temperature of dkd": (lambda: dkd(*arrays(S, T), jnp.asarray(LABELS), temperature=-1), "above 0, but is -1"),
    "temperature of a term": (lambda: ft.knowledge_distillation(None, temperature=0), "above 0, but is 0"),
    "temperature that is no number": (lambda: dist(*arrays(S, T), temperature=float("nan")), "above 0, but is nan"),
    "classes": (lambda: hinton(*arrays(S, T[:, :3])), r"\[5, 4\] and the teacher's \[5, 3\]"),
    "classes of dist": (lambda: dist(*arrays(S, T[:, :3])), r"\[5, 4\] and \[5, 3\]"),
    "classes of jsd": (lambda: generalised_jsd(*arrays(S, T[:, :3])), r"\[5, 4\] and \[5, 3\]"),
    "labels": (lambda: dkd(*arrays(S, T), jnp.zeros(4, int)), r"and \[4\]"),
    "beta": (lambda: generalised_jsd(*arrays(S, T), beta=1.1), "between 0 and 1, but is 1.1"),
    "rows": (lambda: rkd(*arrays(S, T[:3])), r"\[5, 4\] and \[3, 4\]"),
    "sizes": (lambda: crd(*arrays(S, T[:, :3])), "project them"),
    "dim": (lambda: ft.contrastive_distillation(None, dim=0), "from 1 up, but is 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(ft.InputError, match=message):
        call()
