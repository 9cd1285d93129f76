"""GPT-2.

References:
    Radford, Wu, Child, Luan, Amodei, Sutskever. Language Models are Unsupervised Multitask Learners, 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxft.errors import InputError
from jaxft.models.config import activation, check_heads, flag, number, read_fields, size
from jaxft.models.decoder import POOLINGS, TASKS, Decoder, DecoderConfig
from jaxft.models.family import Family
from jaxft.models.keys import Entry, head, linear, norm, table

SIZES = {
    "vocab_size": size("vocab_size"),
    "hidden_size": size("n_embd"),
    "num_layers": size("n_layer"),
    "num_heads": size("n_head"),
    "max_positions": size("n_positions", None),
}
"""The fields that GPT-1 and GPT-2 share."""
RATES = {
    "norm_eps": number("layer_norm_epsilon", 1e-5),
    "embedding_dropout": number("embd_pdrop", 0.1),
    "hidden_dropout": number("resid_pdrop", 0.1),
    "attention_dropout": number("attn_pdrop", 0.1),
    "tag_dropout": number("classifier_dropout", 0.1),
    "initializer_range": number("initializer_range", 0.02),
    "tied": flag("tie_word_embeddings", True),
}
FIELDS = {"activation": activation("activation_function", "gelu_new"), "intermediate_size": size("n_inner", None)}
SCALES = {
    "scaled": flag("scale_attn_weights", True),
    "by_layer": flag("scale_attn_by_inverse_layer_idx", False),
}


def gpt_fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What GPT-1 and GPT-2 say of their sizes, rates and heads."""
    values = read_fields(raw, SIZES | RATES)
    if values["max_positions"] is None:
        values |= read_fields(raw, {"max_positions": size("n_ctx")})
    check_heads(values["hidden_size"], values["num_heads"], names=("n_embd", "n_head"))
    return values | {
        "kv_heads": values["num_heads"],
        "head_dim": values["hidden_size"] // values["num_heads"],
        "windows": (None,) * values["num_layers"],
    }


def fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a GPT-2."""
    if raw.get("add_cross_attention"):
        raise InputError(
            "expected a GPT-2 alone; this config.json describes the decoder of a pair (add_cross_attention)"
        )
    values = gpt_fields(raw) | read_fields(raw, FIELDS)
    scales = read_fields(raw, SCALES)
    scale = values["head_dim"] ** -0.5 if scales["scaled"] else 1.0
    divisors = [index + 1 if scales["by_layer"] else 1 for index in range(values["num_layers"])]
    values["intermediate_size"] = values["intermediate_size"] or 4 * values["hidden_size"]
    return values | {"scales": tuple(scale / divisor for divisor in divisors)}


def gpt_layers(config: DecoderConfig) -> list[Entry]:
    """The arrays of the layers of GPT-1 and GPT-2, whose dense layers lie as here, query, key and value in one."""
    c, hidden = config, config.hidden_size
    found: list[Entry] = []
    for index in range(c.num_layers):
        here, there = f"decoder/layer_{index}", f"h.{index}"
        for part, name in enumerate(("query", "key", "value")):
            joined = _dense(f"{here}/attention/{name}", f"{there}.attn.c_attn", hidden, hidden)
            found += [entry._replace(part=part, parts=3) for entry in joined]
        found += _dense(f"{here}/attention/output", f"{there}.attn.c_proj", hidden, hidden)
        found += norm(f"{here}/attention/norm", f"{there}.ln_1", hidden)
        found += _dense(f"{here}/feed_forward/up", f"{there}.mlp.c_fc", hidden, c.intermediate_size)
        found += _dense(f"{here}/feed_forward/down", f"{there}.mlp.c_proj", c.intermediate_size, hidden)
        found += norm(f"{here}/feed_forward/norm", f"{there}.ln_2", hidden)
    return found


def _dense(path: str, name: str, inputs: int, outputs: int) -> list[Entry]:
    return [
        Entry(f"{path}/kernel", f"{name}.weight", (inputs, outputs)),
        Entry(f"{path}/bias", f"{name}.bias", (outputs,)),
    ]


def gpt_heads(config: DecoderConfig, tagger: str) -> list[Entry]:
    """The arrays of a head; ``tagger`` is what the one over tokens is called in the file."""
    c = config
    if c.task == "lm" and not c.tied:
        untied = linear("lm_head", "lm_head", c.hidden_size, c.vocab_size, bias=False)
        return [entry._replace(bare=True) for entry in untied]
    if not c.num_labels:
        return []
    name = tagger if c.task == "tag" else "score"
    return head(linear("head", name, c.hidden_size, c.num_labels, bias=c.task == "tag"))


def entries(config: DecoderConfig) -> list[Entry]:
    """Every array of a GPT-2."""
    found = table("embeddings/word", "wte", config.vocab_size, config.hidden_size)
    found += table("embeddings/position", "wpe", config.max_positions, config.hidden_size)
    found += gpt_layers(config) + norm("decoder/norm", "ln_f", config.hidden_size)
    return found + gpt_heads(config, "classifier")


OTHER_HEADS = (
    r"(lm_head|score|classifier|qa_outputs|multiple_choice_head)\..*",
    r"h\.\d+\.attn\.(bias|masked_bias)",
)
"""Names of the arrays that files hold beside those of a model: other heads, tied copies and masks."""

GPT2 = Family(
    model_type="gpt2",
    config=DecoderConfig,
    fields=fields,
    entries=entries,
    module=Decoder,
    tasks=TASKS,
    poolings=POOLINGS,
    prefix="transformer.",
    base="GPT2Model",
    classes={
        "lm": "GPT2LMHeadModel",
        "classify": "GPT2ForSequenceClassification",
        "regress": "GPT2ForSequenceClassification",
        "tag": "GPT2ForTokenClassification",
    },
    class_pooling="last",
    ignored=OTHER_HEADS,
)
