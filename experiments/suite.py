"""The methods that `adaptation_suite.py` compares, each with the learning rates it chooses among."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import optax

import jaxft as ft

Optimizer = Callable[[optax.GradientTransformation, int], optax.GradientTransformation]
WEIGHTS = "**/attention/{query,value}/kernel"


def _as_it_is(optimizer: optax.GradientTransformation, steps: int) -> optax.GradientTransformation:
    return optimizer


class Method(NamedTuple):
    """A method.

    Attributes:
        name: in the table.
        adaptation: what learns.
        rates: candidates for the learning rate, a factor of about three apart.
        optimizer: ``optimizer(inner, steps)``, for methods that change it.
        objective: what is minimised.
    """

    name: str
    adaptation: ft.Adaptation
    rates: Sequence[float]
    optimizer: Optimizer = _as_it_is
    objective: ft.Objective = ft.cross_entropy()


def _with_head(*links: ft.Adaptation) -> ft.Adaptation:
    return ft.chain(*links, ft.tune("head/**"))


def _budget(optimizer: optax.GradientTransformation, steps: int) -> optax.GradientTransformation:
    return ft.rank_budget(optimizer, steps=steps, warmup=steps // 8, final=steps // 3, rank=8, interval=8)


def _plus(optimizer: optax.GradientTransformation, steps: int) -> optax.GradientTransformation:
    return ft.lora_plus(optimizer, ratio=16.0)


SMALL, MIDDLE, LARGE = (1e-5, 3e-5, 1e-4, 3e-4), (3e-4, 1e-3, 3e-3, 1e-2), (3e-3, 1e-2, 3e-2, 1e-1)
LORA = ft.lora(WEIGHTS, rank=8, alpha=16)

METHODS: dict[str, Method] = {
    "full": Method("full fine-tuning", ft.full(), SMALL),
    "top": Method("top two layers", ft.tune(["encoder/layer_{4,5}/**", "head/**"]), SMALL),
    "head": Method("head only", ft.tune("head/**"), LARGE),
    "lora": Method("LoRA", _with_head(LORA), MIDDLE),
    "rslora": Method("rsLoRA", _with_head(ft.lora(WEIGHTS, rank=8, alpha=16, rank_stabilized=True)), MIDDLE),
    "lora_plus": Method("LoRA+", _with_head(LORA), (1e-4, 3e-4, 1e-3, 3e-3), _plus),
    "lora_fa": Method("LoRA-FA", _with_head(ft.lora_fa(WEIGHTS, rank=8, alpha=16)), MIDDLE),
    "pissa": Method("PiSSA", _with_head(ft.pissa(WEIGHTS, rank=8)), (1e-4, 3e-4, 1e-3, 3e-3)),
    "olora": Method("OLoRA", _with_head(ft.olora(WEIGHTS, rank=8)), (1e-4, 3e-4, 1e-3, 3e-3)),
    "dora": Method("DoRA", _with_head(ft.dora(WEIGHTS, rank=8, alpha=16)), MIDDLE),
    "vera": Method("VeRA, rank 256", _with_head(ft.vera(WEIGHTS, rank=256)), LARGE),
    "loha": Method("LoHa", _with_head(ft.loha(WEIGHTS, rank=8, alpha=16)), MIDDLE),
    "lokr": Method("LoKr", _with_head(ft.lokr(WEIGHTS, rank=8, alpha=16)), MIDDLE),
    "adalora": Method(
        "AdaLoRA, rank 12 to 8",
        _with_head(ft.adalora(WEIGHTS, rank=12, alpha=16)),
        MIDDLE,
        _budget,
        ft.combine(task=ft.cross_entropy(), orthogonal=(ft.orthogonality(), 0.1)),
    ),
    "ia3": Method(
        "IA3", _with_head(ft.ia3("**/attention/{key,value}/kernel", inputs="**/feed_forward/down/kernel")), LARGE
    ),
    "bitfit": Method("BitFit", _with_head(ft.bitfit(~ft.glob("head/**"))), MIDDLE),
    "norms": Method("norms", _with_head(ft.norms()), MIDDLE),
    "houlsby": Method("Houlsby adapters, 16", _with_head(ft.houlsby(size=16)), MIDDLE),
    "pfeiffer": Method("Pfeiffer adapters, 16", _with_head(ft.pfeiffer(size=16)), MIDDLE),
    "parallel": Method("parallel adapters, 16", _with_head(ft.parallel_adapter(size=16)), MIDDLE),
    "prompt": Method("prompt of 10", _with_head(ft.prompt(length=10)), LARGE),
    "prefix": Method("prefix of 10", _with_head(ft.prefix(length=10)), LARGE),
    "int8": Method("LoRA on int8", _with_head(ft.quantise("encoder/**/kernel", kind="int8"), LORA), MIDDLE),
    "nf4": Method("LoRA on NF4", _with_head(ft.quantise("encoder/**/kernel", kind="nf4"), LORA), MIDDLE),
}


@functools.cache
def base(seed: int = 0) -> ft.Model:
    """MiniLM with a head drawn by the seed."""
    return ft.load_model("minilm", task="classify", labels=["negative", "positive"], seed=seed)
