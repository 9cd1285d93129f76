"""Llama, and those that differ from it in biases, norms of queries and keys, and windows: Mistral, Qwen2 and Qwen3.

References:
    Touvron et al. Llama 2: Open Foundation and Fine-Tuned Chat Models, 2023.
    Jiang et al. Mistral 7B, 2023.
    Yang et al. Qwen2 Technical Report, 2024, and Qwen3 Technical Report, 2025.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from jaxft.errors import InputError
from jaxft.models.config import activation, check_heads, flag, number, read_fields, size
from jaxft.models.decoder import POOLINGS, TASKS, Decoder, DecoderConfig
from jaxft.models.family import Family
from jaxft.models.keys import Entry, head, linear, scale, table
from jaxft.models.rotary import rotary_from_hf

FIELDS = {
    "vocab_size": size("vocab_size"),
    "hidden_size": size("hidden_size"),
    "intermediate_size": size("intermediate_size"),
    "num_layers": size("num_hidden_layers"),
    "num_heads": size("num_attention_heads"),
    "kv_heads": size("num_key_value_heads", None),
    "head_dim": size("head_dim", None),
    "max_positions": size("max_position_embeddings"),
    "activation": activation("hidden_act", "silu"),
    "norm_eps": number("rms_norm_eps", 1e-6),
    "tied": flag("tie_word_embeddings", False),
    "attention_dropout": number("attention_dropout", 0.0),
    "tag_dropout": number("classifier_dropout", 0.1),
    "initializer_range": number("initializer_range", 0.02),
}
BIASES = {"attention_bias": flag("attention_bias", False), "mlp_bias": flag("mlp_bias", False)}
WINDOW = {
    "use": flag("use_sliding_window", False),
    "window": size("sliding_window", None),
    "first": size("max_window_layers", 28),
}
ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}
FEED_FORWARD = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
Special = Callable[[Mapping[str, Any], int], dict[str, Any]]
"""A family's own values, from its ``config.json`` and the number of layers."""


def _fields(raw: Mapping[str, Any], special: Special) -> dict[str, Any]:
    values = read_fields(raw, FIELDS)
    heads, layers = values["num_heads"], values["num_layers"]
    if values["head_dim"] is None:
        check_heads(values["hidden_size"], heads)
        values["head_dim"] = values["hidden_size"] // heads
    values["kv_heads"] = values["kv_heads"] or heads
    check_heads(heads, values["kv_heads"], names=("num_attention_heads", "num_key_value_heads"))
    if values["head_dim"] % 2:
        raise InputError(f"head_dim {values['head_dim']} is odd: rotary positions turn pairs of dimensions")
    if raw.get("partial_rotary_factor", 1.0) != 1.0:
        raise InputError(
            f"partial_rotary_factor must be 1: only whole heads are rotated; got {raw['partial_rotary_factor']!r}"
        )
    common = {
        "gated": True,
        "norm": "rms",
        "qkv_bias": False,
        "output_bias": False,
        "mlp_bias": False,
        "scales": (values["head_dim"] ** -0.5,) * layers,
        "windows": (None,) * layers,
        "rope": rotary_from_hf(raw),
    }
    return values | common | special(raw, layers)


def _llama(raw: Mapping[str, Any], layers: int) -> dict[str, Any]:
    biases = read_fields(raw, BIASES)
    attention = biases["attention_bias"]
    _layer_types(raw, ("full_attention",) * layers, ("full_attention",))
    return {"qkv_bias": attention, "output_bias": attention, "mlp_bias": biases["mlp_bias"]}


def _mistral(raw: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """Every layer has the window, which ``null`` turns off and whose default was that of the first Mistral."""
    window = read_fields({"sliding_window": 4096} | dict(raw), WINDOW)["window"]
    kind = "full_attention" if window is None else "sliding_attention"
    _layer_types(raw, (kind,) * layers, (kind,))
    return {"windows": (window,) * layers}


def _qwen2(raw: Mapping[str, Any], layers: int) -> dict[str, Any]:
    return {"qkv_bias": True, "windows": _windows(raw, layers)}


def _qwen3(raw: Mapping[str, Any], layers: int) -> dict[str, Any]:
    biased = read_fields(raw, BIASES)["attention_bias"]
    return {"qkv_bias": biased, "output_bias": biased, "query_norm": True, "windows": _windows(raw, layers)}


def _windows(raw: Mapping[str, Any], layers: int) -> tuple[int | None, ...]:
    """The last layers have the window, or those that ``layer_types`` names."""
    held = read_fields({"sliding_window": 4096} | dict(raw), WINDOW)
    window = held["window"] if held["use"] else None
    sliding = ["full_attention" if window is None or i < held["first"] else "sliding_attention" for i in range(layers)]
    kinds = _layer_types(raw, tuple(sliding), ("full_attention", "sliding_attention"))
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _layer_types(raw: Mapping[str, Any], default: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    kinds = raw.get("layer_types")
    if kinds is None:
        return default
    if not isinstance(kinds, list) or len(kinds) != len(default) or not all(kind in known for kind in kinds):
        raise InputError(
            f"layer_types in config.json must name {len(default)} layers, each {' or '.join(known)}; got {kinds!r}"
        )
    return tuple(kinds)


def entries(config: DecoderConfig) -> list[Entry]:
    """Every array of a Llama."""
    c, hidden = config, config.hidden_size
    found = table("embeddings/word", "embed_tokens", c.vocab_size, hidden)
    outputs = {"query": c.num_heads * c.head_dim, "key": c.kv_heads * c.head_dim, "value": c.kv_heads * c.head_dim}
    for index in range(c.num_layers):
        here, there = f"decoder/layer_{index}", f"layers.{index}"
        for ours, theirs in ATTENTION.items():
            size_in, size_out = (c.num_heads * c.head_dim, hidden) if ours == "output" else (hidden, outputs[ours])
            bias = c.output_bias if ours == "output" else c.qkv_bias
            found += linear(f"{here}/attention/{ours}", f"{there}.self_attn.{theirs}", size_in, size_out, bias=bias)
        found += scale(f"{here}/attention/norm", f"{there}.input_layernorm", hidden)
        if c.query_norm:
            found += scale(f"{here}/attention/query_norm", f"{there}.self_attn.q_norm", c.head_dim)
            found += scale(f"{here}/attention/key_norm", f"{there}.self_attn.k_norm", c.head_dim)
        for ours, theirs in FEED_FORWARD.items():
            sizes = (c.intermediate_size, hidden) if ours == "down" else (hidden, c.intermediate_size)
            found += linear(f"{here}/feed_forward/{ours}", f"{there}.mlp.{theirs}", *sizes, bias=c.mlp_bias)
        found += scale(f"{here}/feed_forward/norm", f"{there}.post_attention_layernorm", hidden)
    found += scale("decoder/norm", "norm", hidden)
    if c.task == "lm" and not c.tied:
        found += [entry._replace(bare=True) for entry in linear("lm_head", "lm_head", hidden, c.vocab_size, bias=False)]
    if c.num_labels:
        found += head(linear("head", "score", hidden, c.num_labels, bias=c.task == "tag"))
    return found


def _family(model_type: str, name: str, special: Special) -> Family:
    return Family(
        model_type=model_type,
        config=DecoderConfig,
        fields=functools.partial(_fields, special=special),
        entries=entries,
        module=Decoder,
        tasks=TASKS,
        poolings=POOLINGS,
        prefix="model.",
        base=f"{name}Model",
        classes={
            "lm": f"{name}ForCausalLM",
            "classify": f"{name}ForSequenceClassification",
            "regress": f"{name}ForSequenceClassification",
            "tag": f"{name}ForTokenClassification",
        },
        class_pooling="last",
        ignored=(r"(lm_head|score|qa_outputs)\..*", r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq"),
    )


LLAMA = _family("llama", "Llama", _llama)
MISTRAL = _family("mistral", "Mistral", _mistral)
QWEN2 = _family("qwen2", "Qwen2", _qwen2)
QWEN3 = _family("qwen3", "Qwen3", _qwen3)
