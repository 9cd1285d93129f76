"""The adapters that make_peft.py has Hugging Face PEFT write: for each the base, PEFT's config class and its fields.

The base is a directory in tests/golden. Seeds go by place in the table, so new cases stand at its end.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Case(NamedTuple):
    """One adapter.

    ``converted`` saves it as plain LoRA relative to its own start, as PEFT does for PiSSA and OLoRA; ``noise`` is how
    far what learns is moved, less for many convolutions one after another.
    """

    base: str
    kind: str
    fields: dict[str, Any]
    converted: bool = False
    noise: float = 0.3


CLASSIFY = {"task_type": "SEQ_CLS"}
LM = {"task_type": "CAUSAL_LM"}
PAIR = {"task_type": "SEQ_2_SEQ_LM"}
CONV1D = {"fan_in_fan_out": True}

THEIRS = {
    "patterns": Case(
        "bert_gelu",
        "LoraConfig",
        CLASSIFY
        | {
            "target_modules": ["query", "value", "intermediate.dense"],
            "rank_pattern": {r"layer\.[12]\.attention\.self\.query": 2, "intermediate.dense": 3},
            "alpha_pattern": {"value": 10, "intermediate.dense": 5},
            "r": 4,
            "lora_alpha": 7,
            "lora_dropout": 0.1,
        },
    ),
    "rank_stabilized": Case(
        "bert_gelu",
        "LoraConfig",
        CLASSIFY
        | {
            "target_modules": r".*\.(output\.dense|word_embeddings)",
            "r": 5,
            "lora_alpha": 3,
            "use_rslora": True,
            "bias": "lora_only",
            "modules_to_save": ["pooler", "layer.0.output.LayerNorm"],
        },
    ),
    "biases": Case(
        "bert_gelu", "LoraConfig", CLASSIFY | {"target_modules": ["key"], "r": 1, "lora_alpha": 2, "bias": "all"}
    ),
    "encoder": Case(
        "bert_gelu",
        "LoraConfig",
        {"task_type": "FEATURE_EXTRACTION", "target_modules": ["query", "key"], "r": 2, "lora_alpha": 4},
    ),
    "conv1d": Case(
        "gpt2_classify",
        "LoraConfig",
        CLASSIFY | CONV1D | {"target_modules": ["c_attn", "mlp.c_proj"], "r": 3, "lora_alpha": 5},
    ),
    "convolution": Case(
        "resnet_basic",
        "LoraConfig",
        {"target_modules": ["convolution"], "modules_to_save": ["classifier"], "r": 2, "lora_alpha": 3},
        noise=0.05,
    ),
    "embedding": Case(
        "llama_untied",
        "LoraConfig",
        LM
        | {"target_modules": ["embed_tokens", "k_proj"], "modules_to_save": ["lm_head"], "r": 3, "lora_alpha": 4}
        | {"use_rslora": True, "alpha_pattern": {"k_proj": 1.5}},
    ),
    "dora": Case(
        "bert_gelu",
        "LoraConfig",
        CLASSIFY
        | {"target_modules": ["query", "value", "output.dense", "word_embeddings"], "r": 2, "lora_alpha": 3}
        | {"use_dora": True},
    ),
    "dora_conv1d": Case(
        "gpt2_lm", "LoraConfig", LM | CONV1D | {"target_modules": ["c_attn"], "r": 2, "lora_alpha": 6, "use_dora": True}
    ),
    "dora_convolution": Case(
        "resnet_bottleneck",
        "LoraConfig",
        {"target_modules": ["convolution"], "modules_to_save": ["classifier"], "r": 2, "use_dora": True},
        noise=0.05,
    ),
    "ia3": Case(
        "bert_gelu",
        "IA3Config",
        CLASSIFY | {"target_modules": ["key", "value", "output.dense"], "feedforward_modules": ["output.dense"]},
    ),
    "ia3_llama": Case(
        "llama_lm",
        "IA3Config",
        LM | {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    ),
    "ia3_t5": Case("t5_gated", "IA3Config", PAIR | {"target_modules": ["k", "v", "wo"], "feedforward_modules": ["wo"]}),
    "ia3_conv1d": Case(
        "gpt2_classify",
        "IA3Config",
        CLASSIFY | CONV1D | {"target_modules": ["c_attn", "mlp.c_proj"], "feedforward_modules": ["mlp.c_proj"]},
    ),
    "pissa": Case(  # not of a classifier, whose head PEFT's conversion loses
        "llama_lm",
        "LoraConfig",
        LM | {"target_modules": ["q_proj", "v_proj"], "r": 3, "lora_alpha": 4, "init_lora_weights": "pissa"},
        converted=True,
    ),
    "olora": Case(
        "llama_untied",
        "LoraConfig",
        LM | {"target_modules": ["q_proj", "up_proj"], "r": 2, "lora_alpha": 2, "init_lora_weights": "olora"},
        converted=True,
    ),
    "prompt": Case("bert_gelu", "PromptTuningConfig", CLASSIFY | {"num_virtual_tokens": 4}),
    "prompt_roberta": Case("roberta_classify", "PromptTuningConfig", CLASSIFY | {"num_virtual_tokens": 3}),
    "prompt_gpt2": Case("gpt2_lm", "PromptTuningConfig", LM | {"num_virtual_tokens": 5}),
    "prompt_encoder": Case("llama_lm", "PromptEncoderConfig", LM | {"num_virtual_tokens": 3, "encoder_hidden_size": 7}),
    "prefix_gpt2": Case("gpt2_lm", "PrefixTuningConfig", LM | {"num_virtual_tokens": 4}),
    "prefix_projection": Case(
        "llama_lm",
        "PrefixTuningConfig",
        LM | {"num_virtual_tokens": 2, "prefix_projection": True, "encoder_hidden_size": 9},
    ),
}
