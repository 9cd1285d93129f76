"""Every public adaptation, with the facts its paper states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

import jaxft as ft
from tests.laws.subjects import CLASSES, DIM, HIDDEN, Subject

HEAD = HIDDEN * CLASSES + CLASSES


class Method(NamedTuple):
    """How to build an adaptation for a subject, how many parameters learn, and which frozen weights get no gradient.

    Attributes:
        build: from the subject and a selector that stands for its main choice.
        choice: the selector of that choice in a subject.
        trained: number of parameters that learn.
        frozen_products: multiply-adds a row of the full-weight gradients that must not be computed.
    """

    build: Callable[[str, Subject], ft.Adaptation]
    choice: Callable[[Subject], str]
    trained: Callable[[Subject], int]
    frozen_products: int


def everything(subject: Subject) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(subject.params))


def low_rank(rank_up: int, rank_down: int) -> int:
    return rank_up * (DIM + HIDDEN) + rank_down * (HIDDEN + HIDDEN)


WEIGHTS = DIM * HIDDEN + HIDDEN * HIDDEN


def ranks(subject: Subject) -> dict[str, int]:
    return {subject.first: 2, "**": 4}


def weights(subject: Subject) -> str:
    return subject.weights


METHODS: dict[str, Method] = {
    "full": Method(lambda s, m: ft.full(), lambda m: "", everything, 0),
    "tune head": Method(lambda s, m: ft.tune(s), lambda m: m.head, lambda m: HEAD, WEIGHTS),
    "freeze encoder": Method(
        lambda s, m: ft.freeze(s),
        lambda m: m.encoder,
        lambda m: everything(m) - WEIGHTS - 2 * HIDDEN,
        WEIGHTS,
    ),
    "narrow to head": Method(lambda s, m: ft.narrow(ft.full(), s), lambda m: m.head, lambda m: HEAD, WEIGHTS),
    "lora": Method(lambda s, m: ft.lora(s, rank=4), weights, lambda m: low_rank(4, 4), WEIGHTS),
    "lora rank-stabilised": Method(
        lambda s, m: ft.lora(s, rank=4, rank_stabilized=True), weights, lambda m: low_rank(4, 4), WEIGHTS
    ),
    "lora dropout": Method(lambda s, m: ft.lora(s, rank=4, dropout=0.3), weights, lambda m: low_rank(4, 4), WEIGHTS),
    "lora per-path ranks": Method(lambda s, m: ft.lora(s, rank=ranks(m)), weights, lambda m: low_rank(2, 4), WEIGHTS),
    "lora + head": Method(
        lambda s, m: ft.chain(ft.lora(s, rank=4), ft.tune(m.head)), weights, lambda m: low_rank(4, 4) + HEAD, WEIGHTS
    ),
    "head + lora": Method(
        lambda s, m: ft.chain(ft.tune(m.head), ft.lora(s, rank=4)), weights, lambda m: low_rank(4, 4) + HEAD, WEIGHTS
    ),
}


def build(method: str, subject: Subject) -> Any:
    chosen = METHODS[method]
    return chosen.build(chosen.choice(subject), subject)
