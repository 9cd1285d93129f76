"""Importance weights, transforms and diagnostics against brute force and on shifts that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import jaxft as ft
from jaxft.objectives import proxy_a_distance
from jaxft.shift import Labelled

DRAW = np.random.default_rng(1)
S = DRAW.normal(size=(60, 3)) @ np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 0.5]])
T = 2 * DRAW.normal(size=(50, 3)) + np.array([1.0, 0.0, -1.0])
LINE = np.linspace(-3, 3, 120)[:, None]
RIGHT_HALF = LINE[LINE[:, 0] > 0.3]
WEIGHTS = {"density_ratio": ft.shift.density_ratio, "kliep": ft.shift.kliep, "kmm": ft.shift.kmm}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_move_the_source_to_the_target(name: str) -> None:
    w = WEIGHTS[name](LINE, RIGHT_HALF)
    assert w.shape == (120,)
    assert np.all(w >= 0)
    moved = float((w * LINE[:, 0]).sum() / w.sum())
    assert abs(moved - RIGHT_HALF.mean()) < 0.15 * RIGHT_HALF.mean()


@pytest.mark.parametrize("name", WEIGHTS)
def test_domains_that_are_one_weigh_all_rows_alike(name: str) -> None:
    w = WEIGHTS[name](S, S)
    assert np.abs(w.mean() - 1) < 0.1
    assert w.std() < 0.35


def test_kliep_is_the_best_of_its_kind() -> None:
    """Against a general solver on the same centres."""
    s, t = S[:20], T[:8]
    sigma = 1.5

    def kernel(x: Any, y: Any) -> Any:
        return np.exp(-((x[:, None] - y[None]) ** 2).sum(-1) / (2 * sigma**2))

    on_t, on_s = kernel(t, t), kernel(s, t).mean(0)
    best = minimize(
        lambda a: -np.log(on_t @ a).mean(),
        np.ones(8) / on_s.sum(),
        bounds=[(0, None)] * 8,
        constraints={"type": "eq", "fun": lambda a: on_s @ a - 1},
    )
    w, on_target = (ft.shift.kliep(s, t, width=sigma, steps=5000, rows=rows) for rows in (None, t))
    assert w.mean() == pytest.approx(1, abs=1e-9)
    assert np.log(on_target).mean() >= -best.fun - 1e-4
    flat = ft.shift.kliep(s, t, width=sigma, steps=0, rows=t)
    assert np.log(on_target).mean() > np.log(flat).mean() + 0.01


def test_kmm_is_the_best_within_its_bounds() -> None:
    s, t = S[:15], T[:10]

    def kernel(x: Any, y: Any) -> Any:
        return np.exp(-((x[:, None] - y[None]) ** 2).sum(-1) / (2 * 1.2**2))

    k, kappa = kernel(s, s), 15 * kernel(s, t).mean(1)

    def value(w: Any) -> float:
        return float(0.5 * w @ k @ w - kappa @ w)

    w = ft.shift.kmm(s, t, width=1.2, bound=5.0, slack=0.3)
    assert np.all((w >= 0) & (w <= 5))
    assert abs(w.mean() - 1) <= 0.3 + 1e-6
    for _ in range(300):
        other = np.clip(w + DRAW.normal(scale=0.05, size=15), 0, 5)
        if abs(other.mean() - 1) <= 0.3:
            assert value(w) <= value(other) + 1e-4


def test_coral_gives_the_source_the_covariance_of_the_target() -> None:
    moved = ft.shift.coral_transform(S, T, regularisation=1e-9)
    np.testing.assert_allclose(np.cov(moved.T), np.cov(T.T), rtol=1e-5, atol=1e-6)
    values, vectors = np.linalg.eigh(np.cov(S.T) + np.eye(3))
    other, theirs = np.linalg.eigh(np.cov(T.T) + np.eye(3))
    expected = S @ (vectors / np.sqrt(values)) @ vectors.T @ (theirs * np.sqrt(other)) @ theirs.T
    np.testing.assert_allclose(ft.shift.coral_transform(S, T), expected, atol=1e-8)


def test_subspace_alignment_is_its_equation() -> None:
    s, t = ((x - x.mean(0)) / x.std(0) for x in (S, T))
    p_s, p_t = (np.linalg.eigh(x.T @ x)[1][:, ::-1][:, :2] for x in (s, t))
    found = ft.shift.subspace_alignment(S, T, dim=2)
    np.testing.assert_allclose(np.abs(found.target), np.abs(t @ p_t), atol=1e-8)
    np.testing.assert_allclose(np.abs(found.source), np.abs(s @ p_s @ p_s.T @ p_t), atol=1e-8)


def test_transfer_components_solve_their_eigenproblem() -> None:
    x = np.concatenate([S, T])
    k, n, m = x @ x.T, len(S), len(T)
    e = np.concatenate([np.full(n, 1 / n), np.full(m, -1 / m)])
    h = np.eye(n + m) - 1 / (n + m)
    matrix = np.linalg.solve(k @ np.outer(e, e) @ k + np.eye(n + m), k @ h @ k)
    values, vectors = np.linalg.eig(matrix)
    w = np.real(vectors[:, np.argsort(-np.real(values))[:2]])
    expected = k @ w
    found = ft.shift.transfer_components(S, T, dim=2, linear=True)
    together = np.concatenate([found.source, found.target])
    for column in range(2):
        assert abs(np.corrcoef(together[:, column], expected[:, column])[0, 1]) > 1 - 1e-6
    gap = abs(ft.shift.transfer_components(S, T, dim=1, mu=1e-3).source.mean(0))
    assert np.isfinite(gap)


def test_the_proxy_a_distance_of_one_domain_and_of_two() -> None:
    same = DRAW.normal(size=(800, 3))
    assert abs(proxy_a_distance(same[:400], same[400:])) < 0.35
    assert proxy_a_distance(same, same + 20) == 2.0
    assert proxy_a_distance(S, T, seed=3) == proxy_a_distance(S, T, seed=3)
    rows = [np.concatenate([same[:6], same[:2] + 50])] * 2
    assert -2 <= proxy_a_distance(*rows) <= 2


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 10), st.floats(-5, 5))
def test_the_proxy_a_distance_knows_no_units(scale: float, offset: float) -> None:
    assert proxy_a_distance(scale * S + offset, scale * T + offset) == proxy_a_distance(S, T)


def test_domain_confusion() -> None:
    same = DRAW.normal(size=(600, 2))
    assert ft.shift.domain_confusion(same[:300], same[300:]) == pytest.approx(1, abs=0.12)
    assert ft.shift.domain_confusion(same, same + 100) == 0


def test_per_class_recall() -> None:
    found = ft.shift.per_class_recall(np.eye(3)[[0, 1, 1, 1]], np.array([0, 0, 1, 1]))
    np.testing.assert_array_equal(found, [0.5, 1.0, np.nan])


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    rows = [Labelled(x, None, np.arange(len(x)) % 4) for x in (S, T)]
    ft.shift.feature_picture((rows[0], rows[1]), (rows[0], rows[0]), tmp_path / "features.png")
    assert (tmp_path / "features.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ft.shift.kliep(S, T[:, :2]), "3 features and the target 2; .*heterogeneous"),
        (lambda: ft.shift.density_ratio(S, T[:1]), "of 2 rows or more"),
        (lambda: ft.shift.kmm(S * np.nan, T), "not finite"),
        (lambda: ft.shift.kliep(S, np.ones((5, 3))), "above zero"),
        (lambda: ft.shift.coral_transform(S, T, regularisation=-1.0), "from 0 up"),
        (lambda: ft.shift.coral_transform(np.ones((9, 3)), T, regularisation=0.0), "singular"),
        (lambda: ft.shift.subspace_alignment(S, T, dim=4), "from 1 to 3"),
        (lambda: ft.shift.transfer_components(S, T, dim=2, mu=0.0), "above zero"),
        (lambda: proxy_a_distance(S, T[:3]), "four rows"),
        (lambda: proxy_a_distance(S, T[:, :1]), "3 and the target 1"),
        (lambda: ft.shift.domain_confusion(S, T, neighbours=110), "from 1 to 109"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ft.InputError, match=message):
        call()
