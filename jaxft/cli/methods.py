"""The methods of the command line: their settings, their learning rates, and the adaptation each stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from jaxft.trees import Selection
    from jaxft.types import Adaptation

Setting = Mapping[str, Any]
Build = Callable[["Selection", Setting], "Adaptation"]
Name = Literal[
    "full",
    "top",
    "head",
    "lora",
    "rslora",
    "lora-fa",
    "dora",
    "pissa",
    "olora",
    "vera",
    "loha",
    "lokr",
    "ia3",
    "bitfit",
    "norms",
    "houlsby",
    "pfeiffer",
    "parallel",
    "prompt",
    "prefix",
]


class Method(NamedTuple):
    """A method.

    Attributes:
        title: what it is, with places for its settings.
        says: what learns, for ``--help`` and tables.
        rate: the default learning rate.
        settings: its own settings with their defaults; a target of None is filled in by the kind of model.
        build: ``build(chosen, setting) -> adaptation`` of all but the head, where chosen are the weights of the target,
            or all but the head; None where what learns depends on the layers of the model, or is the head alone.
        keeps_base: whether the weights of the base stay as they are, so that they may be quantised.
    """

    title: str
    says: str
    rate: float
    settings: Setting = MappingProxyType({})
    build: Build | None = None
    keeps_base: bool = True


def _adapt(name: str, *options: str, **fixed: Any) -> Build:
    """Calls a function of `jaxft.adapt` on the chosen weights."""

    def build(chosen: Selection, setting: Setting) -> Adaptation:
        import jaxft.adapt

        function: Callable[..., Adaptation] = getattr(jaxft.adapt, name)
        return function(chosen, **{option: setting[option] for option in options}, **fixed)

    return build


def _insert(name: str, *options: str) -> Build:
    """Calls a function of `jaxft.adapt` that finds its own places."""

    def build(chosen: Selection, setting: Setting) -> Adaptation:
        import jaxft.adapt

        del chosen
        function: Callable[..., Adaptation] = getattr(jaxft.adapt, name)
        return function(**{option: setting[option] for option in options})

    return build


def _ia3(chosen: Selection, setting: Setting) -> Adaptation:
    from jaxft.adapt import ia3

    del chosen, setting
    return ia3("**/attention/{key,value}/kernel", inputs="**/feed_forward/down/kernel")


_LORA: dict[str, Any] = {"rank": 8, "alpha": 16.0, "dropout": 0.0, "target": None}
_PRODUCTS: dict[str, Any] = {"rank": 8, "alpha": 8.0, "target": None}
_LORA_OPTIONS = ("rank", "alpha", "dropout")

METHODS: dict[Name, Method] = {
    "full": Method("full fine-tuning", "everything", 5e-5, keeps_base=False),
    "top": Method("top {layers} layers", "the last --layers layers", 1e-4, {"layers": 2}, keeps_base=False),
    "head": Method("head only", "the head alone", 1e-2),
    "lora": Method("LoRA of rank {rank}", "low-rank updates of --target", 1e-3, _LORA, _adapt("lora", *_LORA_OPTIONS)),
    "rslora": Method(
        "rsLoRA of rank {rank}",
        "the same, scaled by alpha / √rank",
        5e-4,
        _LORA,
        _adapt("lora", *_LORA_OPTIONS, rank_stabilized=True),
    ),
    "lora-fa": Method(
        "LoRA-FA of rank {rank}", "the same with A frozen", 1e-3, _LORA, _adapt("lora_fa", *_LORA_OPTIONS)
    ),
    "dora": Method(
        "DoRA of rank {rank}", "the same and the length of each column", 1e-3, _LORA, _adapt("dora", *_LORA_OPTIONS)
    ),
    "pissa": Method(
        "PiSSA of rank {rank}",
        "the largest singular directions of --target",
        5e-4,
        {"rank": 8, "target": None},
        _adapt("pissa", "rank"),
        keeps_base=False,
    ),
    "olora": Method(
        "OLoRA of rank {rank}",
        "orthonormal directions of --target",
        5e-4,
        {"rank": 8, "target": None},
        _adapt("olora", "rank"),
        keeps_base=False,
    ),
    "vera": Method(
        "VeRA of rank {rank}",
        "vectors that scale random low-rank updates",
        1e-2,
        {"rank": 256, "dropout": 0.0, "target": None},
        _adapt("vera", "rank", "dropout"),
    ),
    "loha": Method(
        "LoHa of rank {rank}", "products of two low-rank updates", 1e-3, _PRODUCTS, _adapt("loha", "rank", "alpha")
    ),
    "lokr": Method("LoKr of rank {rank}", "Kronecker products", 1e-3, _PRODUCTS, _adapt("lokr", "rank", "alpha")),
    "ia3": Method("IA3", "factors of keys, values and inner states", 1e-2, build=_ia3),
    "bitfit": Method("BitFit", "the biases", 1e-3, build=_adapt("bitfit")),
    "norms": Method("norms", "the norms", 1e-3, build=_adapt("norms")),
    "houlsby": Method(
        "Houlsby adapters of {size}",
        "bottlenecks behind attention and feed-forward",
        1e-3,
        {"size": 64},
        _insert("houlsby", "size"),
    ),
    "pfeiffer": Method(
        "Pfeiffer adapters of {size}",
        "bottlenecks behind feed-forward",
        1e-3,
        {"size": 48},
        _insert("pfeiffer", "size"),
    ),
    "parallel": Method(
        "parallel adapters of {size}",
        "bottlenecks beside feed-forward",
        1e-3,
        {"size": 48},
        _insert("parallel_adapter", "size"),
    ),
    "prompt": Method(
        "prompt of {length}", "vectors before the text", 1e-2, {"length": 20}, _insert("prompt", "length")
    ),
    "prefix": Method(
        "prefix of {length}", "keys and values in each layer", 1e-2, {"length": 20}, _insert("prefix", "length")
    ),
}

IN_PEFT = frozenset(
    {"lora", "rslora", "lora-fa", "dora", "pissa", "olora", "vera", "loha", "lokr", "ia3", "prompt", "prefix"}
)
"""Methods whose result the layout of Hugging Face PEFT can hold."""

BESIDE = frozenset({"houlsby", "pfeiffer", "parallel", "prompt", "prefix"})
"""Methods that stand beside the weights of the base and cannot be merged into them."""
