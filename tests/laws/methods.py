"""Every public adaptation, with the facts its paper states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
        effective_rank: of the branch that the model computes with, where it is not that of a `lora` of rank 4.
        start_error: how far the first logits may be from the base model's, for a method that moves a part of the
            weight into its branch: the same numbers are summed in another order.
        draws_frozen: whether a part of what is frozen is drawn for each run.
        exempt: laws that do not hold by the method's definition, by the name of their test, and why.
    """

    build: Callable[[str, Subject], ft.Adaptation]
    choice: Callable[[Subject], str]
    trained: Callable[[Subject], int]
    frozen_products: int
    effective_rank: int | None = None
    start_error: float = 0.0
    draws_frozen: bool = False
    exempt: Mapping[str, str] = {}


def everything(subject: Subject) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(subject.params))


def low_rank(rank_up: int, rank_down: int) -> int:
    return rank_up * (DIM + HIDDEN) + rank_down * (HIDDEN + HIDDEN)


WEIGHTS = DIM * HIDDEN + HIDDEN * HIDDEN


def kronecker(factor: tuple[int, int, int], rank: int) -> int:
    """Of two weights whose sizes DIM and HIDDEN (twice) are divided by factors."""
    dim, hidden, out = factor
    return dim * out + rank * (DIM // dim + HIDDEN // out) + hidden * out + rank * (HIDDEN // hidden + HIDDEN // out)


def ranks(subject: Subject) -> dict[str, int]:
    return {subject.first: 2, "**": 4}


def weights(subject: Subject) -> str:
    return subject.weights


ROUNDED = {"test_starts_as_the_base_model": "the base it starts as is the rounded one"}

METHODS: dict[str, Method] = {
    "adalora": Method(lambda s, m: ft.adalora(s, rank=4), weights, lambda m: low_rank(4, 4) + 2 * 4, WEIGHTS, 4),
    "adalora dropout": Method(
        lambda s, m: ft.adalora(s, rank=4, dropout=0.3), weights, lambda m: low_rank(4, 4) + 2 * 4, WEIGHTS, 4
    ),
    "bitfit + head": Method(
        lambda s, m: ft.chain(ft.bitfit(s), ft.tune(m.head)), lambda m: m.encoder, lambda m: 2 * HIDDEN + HEAD, WEIGHTS
    ),
    "dora": Method(lambda s, m: ft.dora(s, rank=4), weights, lambda m: low_rank(4, 4) + 2 * HIDDEN, WEIGHTS, 4),
    "dora dropout": Method(
        lambda s, m: ft.dora(s, rank=4, dropout=0.3), weights, lambda m: low_rank(4, 4) + 2 * HIDDEN, WEIGHTS, 4
    ),
    "dora + head": Method(
        lambda s, m: ft.chain(ft.dora(s, rank=4), ft.tune(m.head)),
        weights,
        lambda m: low_rank(4, 4) + 2 * HIDDEN + HEAD,
        WEIGHTS,
        4,
    ),
    "ia3 + head": Method(
        lambda s, m: ft.chain(ft.ia3(s), ft.tune(m.head)), weights, lambda m: 2 * HIDDEN + HEAD, WEIGHTS
    ),
    "ia3 outputs and inputs + head": Method(
        lambda s, m: ft.chain(ft.ia3(m.first, inputs=ft.glob(s) & ~ft.glob(m.first)), ft.tune(m.head)),
        weights,
        lambda m: 2 * HIDDEN + HEAD,
        WEIGHTS,
    ),
    "int8 + lora": Method(
        lambda s, m: ft.chain(ft.quantise(s), ft.lora(s, rank=4)),
        weights,
        lambda m: low_rank(4, 4),
        WEIGHTS,
        exempt=ROUNDED,
    ),
    "int8 + ia3 + head": Method(
        lambda s, m: ft.chain(ft.quantise(s), ft.ia3(s), ft.tune(m.head)),
        weights,
        lambda m: 2 * HIDDEN + HEAD,
        WEIGHTS,
        exempt=ROUNDED,
    ),
    "nf4 + lora + norms": Method(
        lambda s, m: ft.chain(ft.quantise(s, kind="nf4"), ft.lora(s, rank=4), ft.norms()),
        weights,
        lambda m: low_rank(4, 4) + 2 * HIDDEN,
        WEIGHTS,
        exempt=ROUNDED,
    ),
    "nf4 double + dora": Method(
        lambda s, m: ft.chain(ft.quantise(s, kind="nf4", double=True), ft.dora(s, rank=4)),
        weights,
        lambda m: low_rank(4, 4) + 2 * HIDDEN,
        WEIGHTS,
        4,
        exempt=ROUNDED,
    ),
    "nf4 + bitfit + head": Method(
        lambda s, m: ft.chain(ft.quantise(s, kind="nf4"), ft.bitfit(m.encoder), ft.tune(m.head)),
        weights,
        lambda m: 2 * HIDDEN + HEAD,
        WEIGHTS,
        exempt=ROUNDED,
    ),
    "norms + head": Method(
        lambda s, m: ft.chain(ft.norms(~ft.glob(s)), ft.tune(m.head)),
        lambda m: m.head,
        lambda m: 2 * HIDDEN + HEAD,
        WEIGHTS,
    ),
    "full": Method(lambda s, m: ft.full(), lambda m: "", everything, 0),
    "tune head": Method(lambda s, m: ft.tune(s), lambda m: m.head, lambda m: HEAD, WEIGHTS),
    "freeze encoder": Method(
        lambda s, m: ft.freeze(s),
        lambda m: m.encoder,
        lambda m: everything(m) - WEIGHTS - 2 * HIDDEN,
        WEIGHTS,
    ),
    "loha": Method(lambda s, m: ft.loha(s, rank=2), weights, lambda m: 2 * low_rank(2, 2), WEIGHTS, 4),
    "lokr": Method(lambda s, m: ft.lokr(s, rank=1, factor=4), weights, lambda m: kronecker((4, 4, 4), 1), WEIGHTS, 4),
    "lora": Method(lambda s, m: ft.lora(s, rank=4), weights, lambda m: low_rank(4, 4), WEIGHTS),
    "lora rank-stabilised": Method(
        lambda s, m: ft.lora(s, rank=4, rank_stabilized=True), weights, lambda m: low_rank(4, 4), WEIGHTS
    ),
    "lora dropout": Method(lambda s, m: ft.lora(s, rank=4, dropout=0.3), weights, lambda m: low_rank(4, 4), WEIGHTS),
    "lora per-path ranks": Method(lambda s, m: ft.lora(s, rank=ranks(m)), weights, lambda m: low_rank(2, 4), WEIGHTS),
    "lora_fa": Method(
        lambda s, m: ft.lora_fa(s, rank=4), weights, lambda m: 4 * 2 * HIDDEN, WEIGHTS, 4, draws_frozen=True
    ),
    "lora_fa + head": Method(
        lambda s, m: ft.chain(ft.tune(m.head), ft.lora_fa(s, rank=4)),
        weights,
        lambda m: 4 * 2 * HIDDEN + HEAD,
        WEIGHTS,
        4,
        draws_frozen=True,
    ),
    "olora": Method(lambda s, m: ft.olora(s, rank=4), weights, lambda m: low_rank(4, 4), WEIGHTS, 4, start_error=1e-5),
    "pissa": Method(lambda s, m: ft.pissa(s, rank=4), weights, lambda m: low_rank(4, 4), WEIGHTS, 4, start_error=1e-5),
    "pissa + head": Method(
        lambda s, m: ft.chain(ft.pissa(s, rank=4), ft.tune(m.head)),
        weights,
        lambda m: low_rank(4, 4) + HEAD,
        WEIGHTS,
        4,
        start_error=1e-5,
    ),
    "vera": Method(lambda s, m: ft.vera(s, rank=4), weights, lambda m: 2 * (4 + HIDDEN), WEIGHTS, 4, draws_frozen=True),
    "vera + head": Method(
        lambda s, m: ft.chain(ft.vera(s, rank=4), ft.tune(m.head)),
        weights,
        lambda m: 2 * (4 + HIDDEN) + HEAD,
        WEIGHTS,
        4,
        draws_frozen=True,
    ),
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
