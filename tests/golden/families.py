"""The tiny configurations of every model family that make_families.py turns into golden directories.

A case names its transformers class, its config class and the settings; `file` holds what config.json says in the
form of older checkpoints (OUT removes a key), `stops` asks for a stop token that some prompt meets, `gain`
multiplies the matrices that write to T5's residual stream (or else a random decoder repeats one token).
"""

from __future__ import annotations

from typing import Any

OUT = "leave out"
BERT = {"vocab_size": 79, "max_position_embeddings": 17, "initializer_range": 0.3}
ROBERTA = {**BERT, "type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
DISTIL = {"vocab_size": 71, "max_position_embeddings": 18, "initializer_range": 0.3, "pad_token_id": 0}
LLAMA = {
    "max_position_embeddings": 40,
    "initializer_range": 0.3,
    "pad_token_id": 3,
    "bos_token_id": 1,
    "eos_token_id": None,
    "num_hidden_layers": 2,
}
T5 = {"pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": None, "num_layers": 2, "dropout_rate": 0.1}
IMAGE = {"initializer_range": 0.3, "num_channels": 3}


def case(architecture: str, config: str, settings: dict[str, Any], **more: Any) -> dict[str, Any]:
    defaults = {"file": {}, "stops": False, "gain": 0}
    return {"architecture": architecture, "config": config, "settings": settings, **defaults, **more}


def sizes(hidden: int, heads: int, layers: int, intermediate: int, **more: Any) -> dict[str, Any]:
    """Sizes under the names that most families use."""
    return {
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "intermediate_size": intermediate,
        **more,
    }


ENCODERS: dict[str, dict[str, Any]] = {
    "bert_spans": case(
        "BertForQuestionAnswering", "BertConfig", BERT | sizes(24, 4, 2, 37, hidden_act="gelu", num_labels=2)
    ),
    "bert_tag": case("BertForTokenClassification", "BertConfig", BERT | sizes(21, 3, 2, 40, num_labels=5)),
    "bert_pair": case("BertForSequenceClassification", "BertConfig", BERT | sizes(20, 2, 2, 35, num_labels=2)),
    "roberta_classify": case(
        "RobertaForSequenceClassification",
        "RobertaConfig",
        ROBERTA | sizes(24, 3, 2, 41, layer_norm_eps=1e-5, num_labels=4),
    ),
    "roberta_spans": case("RobertaForQuestionAnswering", "RobertaConfig", ROBERTA | sizes(20, 4, 2, 33, num_labels=2)),
    "xlm_roberta_tag": case(
        "XLMRobertaForTokenClassification",
        "XLMRobertaConfig",
        ROBERTA | sizes(30, 5, 2, 43, layer_norm_eps=1e-5, num_labels=6),
    ),
    "distilbert_classify": case(
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        {**DISTIL, "dim": 24, "n_heads": 3, "n_layers": 2, "hidden_dim": 50, "activation": "gelu", "num_labels": 3},
    ),
    "distilbert_spans": case(
        "DistilBertForQuestionAnswering",
        "DistilBertConfig",
        {**DISTIL, "dim": 28, "n_heads": 2, "n_layers": 3, "hidden_dim": 31, "activation": "relu", "num_labels": 2},
    ),
    "distilbert_tag": case(
        "DistilBertForTokenClassification",
        "DistilBertConfig",
        {**DISTIL, "dim": 20, "n_heads": 4, "n_layers": 2, "hidden_dim": 33, "num_labels": 5},
    ),
    "electra_classify": case(
        "ElectraForSequenceClassification",
        "ElectraConfig",
        BERT | sizes(24, 4, 2, 39, embedding_size=14, hidden_act="relu", num_labels=3),
    ),
    "electra_tag": case(
        "ElectraForTokenClassification", "ElectraConfig", BERT | sizes(26, 2, 2, 34, embedding_size=26, num_labels=4)
    ),
}

GPT = {"initializer_range": 0.3, "n_positions": 24, "eos_token_id": None, "bos_token_id": None, "pad_token_id": 2}
DECODERS: dict[str, dict[str, Any]] = {
    "gpt1_lm": case(
        "OpenAIGPTLMHeadModel",
        "OpenAIGPTConfig",
        {**GPT, "vocab_size": 67, "n_embd": 24, "n_head": 3, "n_layer": 2, "afn": "gelu"},
    ),
    "gpt2_lm": case(
        "GPT2LMHeadModel", "GPT2Config", {**GPT, "vocab_size": 73, "n_embd": 24, "n_head": 4, "n_layer": 3}
    ),
    "gpt2_lm_scaled": case(
        "GPT2LMHeadModel",
        "GPT2Config",
        {
            **GPT,
            "vocab_size": 61,
            "n_embd": 30,
            "n_head": 5,
            "n_layer": 3,
            "n_inner": 47,
            "activation_function": "relu",
            "scale_attn_by_inverse_layer_idx": True,
        },
        stops=True,
    ),
    "gpt2_classify": case(
        "GPT2ForSequenceClassification",
        "GPT2Config",
        {**GPT, "vocab_size": 64, "n_embd": 20, "n_head": 2, "n_layer": 2, "num_labels": 3},
    ),
    "llama_lm": case(
        "LlamaForCausalLM",
        "LlamaConfig",
        LLAMA | sizes(24, 6, 2, 41, num_key_value_heads=2, vocab_size=71, tie_word_embeddings=True),
        stops=True,
        file={"rope_parameters": OUT, "rope_theta": 10000.0, "rope_scaling": None},
    ),
    "llama_untied": case(
        "LlamaForCausalLM",
        "LlamaConfig",
        LLAMA
        | sizes(28, 2, 2, 37, vocab_size=67, tie_word_embeddings=False, attention_bias=True, mlp_bias=True)
        | {"rms_norm_eps": 1e-5},
    ),
    "llama_rope3": case(
        "LlamaForCausalLM",
        "LlamaConfig",
        LLAMA
        | sizes(32, 2, 2, 36, num_key_value_heads=1, vocab_size=66, tie_word_embeddings=True)
        | {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500.0,
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            }
        },
        file={
            "rope_parameters": OUT,
            "rope_theta": 500.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        },
    ),
    "llama_linear": case(
        "LlamaForCausalLM",
        "LlamaConfig",
        LLAMA
        | sizes(24, 3, 2, 35, num_key_value_heads=3, vocab_size=62, tie_word_embeddings=False)
        | {"rope_parameters": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 2.5}},
    ),
    "llama_classify": case(
        "LlamaForSequenceClassification",
        "LlamaConfig",
        LLAMA | sizes(24, 4, 2, 33, num_key_value_heads=2, vocab_size=64, num_labels=4),
    ),
    "mistral_lm": case(
        "MistralForCausalLM",
        "MistralConfig",
        LLAMA | sizes(24, 4, 3, 38, num_key_value_heads=2, vocab_size=69, sliding_window=4, tie_word_embeddings=False),
    ),
    "qwen2_lm": case(
        "Qwen2ForCausalLM",
        "Qwen2Config",
        LLAMA | sizes(30, 5, 2, 34, num_key_value_heads=1, vocab_size=68, tie_word_embeddings=True),
        file={"rope_parameters": OUT, "rope_theta": 10000.0, "layer_types": OUT},
    ),
    "qwen2_window": case(
        "Qwen2ForCausalLM",
        "Qwen2Config",
        LLAMA
        | sizes(24, 3, 3, 31, num_key_value_heads=3, vocab_size=63, tie_word_embeddings=False)
        | {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
    ),
    "qwen3_lm": case(
        "Qwen3ForCausalLM",
        "Qwen3Config",
        LLAMA | sizes(26, 4, 2, 37, num_key_value_heads=2, head_dim=10, vocab_size=65, tie_word_embeddings=True),
        stops=True,
    ),
    "smollm": case(
        "LlamaForCausalLM",
        "LlamaConfig",
        LLAMA
        | sizes(36, 9, 2, 45, num_key_value_heads=3, vocab_size=83, tie_word_embeddings=True)
        | {"rms_norm_eps": 1e-5, "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0}},
        file={"rope_parameters": OUT, "rope_theta": 100000, "rope_scaling": None, "rope_interleaved": False},
    ),
}

SEQ2SEQ: dict[str, dict[str, Any]] = {
    "t5_relu": case(
        "T5ForConditionalGeneration",
        "T5Config",
        {**T5, "vocab_size": 74, "d_model": 24, "d_kv": 8, "num_heads": 3, "d_ff": 43, "tie_word_embeddings": True}
        | {"feed_forward_proj": "relu", "relative_attention_num_buckets": 12, "relative_attention_max_distance": 20},
        stops=True,
        gain=4,
    ),
    "t5_gated": case(
        "T5ForConditionalGeneration",
        "T5Config",
        {**T5, "vocab_size": 66, "d_model": 26, "d_kv": 5, "num_heads": 4, "d_ff": 35, "tie_word_embeddings": False}
        | {"feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 8, "num_decoder_layers": 3}
        | {"relative_attention_max_distance": 9},
        gain=2,
        file={"tie_word_embeddings": False, "scale_decoder_outputs": OUT},
    ),
    "encoder_decoder_bert": case(
        "EncoderDecoderModel",
        "EncoderDecoderConfig",
        {
            "encoder": BERT | sizes(24, 3, 2, 35),
            "decoder": BERT | sizes(24, 4, 2, 37, vocab_size=67, max_position_embeddings=20, hidden_act="relu"),
        },
        stops=True,
    ),
    "encoder_decoder_sizes": case(
        "EncoderDecoderModel",
        "EncoderDecoderConfig",
        {
            "encoder": BERT | sizes(20, 2, 3, 31, hidden_act="relu"),
            "decoder": {**BERT, "initializer_range": 0.4}
            | sizes(28, 4, 2, 33, vocab_size=62, max_position_embeddings=20),
        },
    ),
}

IMAGES: dict[str, dict[str, Any]] = {
    "vit_classify": case(
        "ViTForImageClassification",
        "ViTConfig",
        IMAGE | sizes(24, 3, 2, 41, image_size=[12, 20], patch_size=4, qkv_bias=True, num_labels=5),
        pixels=(12, 20),
    ),
    "vit_nobias": case(
        "ViTForImageClassification",
        "ViTConfig",
        IMAGE
        | sizes(30, 5, 2, 37, image_size=15, patch_size=5, qkv_bias=False, num_labels=3)
        | {"hidden_act": "gelu_new", "layer_norm_eps": 1e-6, "num_channels": 1},
        pixels=(15, 15),
    ),
    "vit_features": case(
        "ViTModel",
        "ViTConfig",
        IMAGE | sizes(20, 2, 3, 33, image_size=12, patch_size=3, qkv_bias=True),
        pixels=(12, 12),
    ),
    "deit_classify": case(
        "DeiTForImageClassification",
        "DeiTConfig",
        IMAGE | sizes(24, 4, 2, 39, image_size=12, patch_size=4, num_labels=4),
        pixels=(12, 12),
    ),
    "deit_teacher": case(
        "DeiTForImageClassificationWithTeacher",
        "DeiTConfig",
        IMAGE | sizes(20, 2, 2, 35, image_size=[8, 12], patch_size=4, num_labels=4),
        pixels=(8, 12),
    ),
    "dinov2_classify": case(
        "Dinov2ForImageClassification",
        "Dinov2Config",
        IMAGE | sizes(24, 3, 2, 96, image_size=12, patch_size=4, mlp_ratio=2, num_labels=4),
        pixels=(12, 12),
    ),
    "dinov2_swiglu": case(
        "Dinov2ForImageClassification",
        "Dinov2Config",
        IMAGE | sizes(20, 4, 2, 80, image_size=12, patch_size=3, mlp_ratio=3, num_labels=3, use_swiglu_ffn=True),
        pixels=(12, 12),
    ),
    "dinov2_resized": case(
        "Dinov2Model",
        "Dinov2Config",
        IMAGE | sizes(20, 2, 2, 80, image_size=16, patch_size=4, mlp_ratio=2),
        pixels=(12, 20),
    ),
    "resnet_basic": case(
        "ResNetForImageClassification",
        "ResNetConfig",
        {
            "embedding_size": 6,
            "hidden_sizes": [6, 8, 10],
            "depths": [2, 1, 2],
            "layer_type": "basic",
            "hidden_act": "relu",
            "num_labels": 5,
        },
        pixels=(33, 50),
    ),
    "resnet_bottleneck": case(
        "ResNetForImageClassification",
        "ResNetConfig",
        {
            "embedding_size": 8,
            "hidden_sizes": [16, 24],
            "depths": [2, 2],
            "layer_type": "bottleneck",
            "downsample_in_bottleneck": True,
            "downsample_in_first_stage": True,
            "num_labels": 3,
        },
        pixels=(37, 30),
    ),
    "resnet_bottleneck_v15": case(
        "ResNetForImageClassification",
        "ResNetConfig",
        {
            "embedding_size": 8,
            "hidden_sizes": [16, 24],
            "depths": [1, 2],
            "layer_type": "bottleneck",
            "num_labels": 3,
        },
        pixels=(32, 32),
    ),
}

CASES = ENCODERS | DECODERS | SEQ2SEQ | IMAGES
