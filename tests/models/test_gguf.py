"""GGUF files become Hugging Face configurations, arrays in its order and a tokenizer; bad ones are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter

from jaxft import InputError
from jaxft.files import fetch
from jaxft.models.gguf import Gguf, read_gguf

HEADS, GROUPS, HEAD_DIM, WIDTH, INNER = 3, 1, 4, 12, 32
TOKENS = ["<s>", "</s>", "a", "b", "ab", "Ġ", "0", "1", "<tool>"]
FIELDS: dict[str, Any] = {
    "llama.block_count": 1,
    "llama.context_length": 64,
    "llama.embedding_length": WIDTH,
    "llama.feed_forward_length": INNER,
    "llama.attention.head_count": HEADS,
    "llama.attention.head_count_kv": GROUPS,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [3, 3, 1, 1, 1, 1, 1, 1, 4],
    "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.bos_token_id": 0,
    "tokenizer.ggml.eos_token_id": 1,
}


def interleaved(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head as pairs, the order in the file: row i of the first half, row i of the second."""
    rows = [head.reshape(2, -1, *array.shape[1:]) for head in np.split(array, heads)]
    return np.concatenate([half[:, i] for half in rows for i in range(half.shape[1])])


@pytest.fixture
def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {
        "token_embd.weight": (len(TOKENS), WIDTH),
        "output_norm.weight": (WIDTH,),
        "blk.0.attn_norm.weight": (WIDTH,),
        "blk.0.attn_q.weight": (HEADS * HEAD_DIM, WIDTH),
        "blk.0.attn_q.bias": (HEADS * HEAD_DIM,),
        "blk.0.attn_k.weight": (GROUPS * HEAD_DIM, WIDTH),
        "blk.0.attn_v.weight": (GROUPS * HEAD_DIM, WIDTH),
        "blk.0.attn_output.weight": (WIDTH, HEADS * HEAD_DIM),
        "blk.0.ffn_norm.weight": (WIDTH,),
        "blk.0.ffn_gate.weight": (INNER, WIDTH),
        "blk.0.ffn_up.weight": (INNER, WIDTH),
        "blk.0.ffn_down.weight": (WIDTH, INNER),
    }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def written(path: Path, tensors: dict[str, np.ndarray], architecture: str = "llama", **fields: Any) -> Path:
    """A GGUF file of the given tensors; the down projection is quantised, fields set to None are left out."""
    writer = GGUFWriter(path, architecture)
    for name, value in {**FIELDS, **{name.replace("__", "."): value for name, value in fields.items()}}.items():
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif value is not None:
            writer.add_uint32(name, value)
    for name, array in tensors.items():
        if "ffn_down" in name:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def smollm2() -> Gguf:
    return read_gguf(fetch("smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf")


def test_arrays_come_back_by_name_and_in_order(tmp_path, tensors):
    q, bias, k = (tensors[f"blk.0.attn_{name}"].copy() for name in ("q.weight", "q.bias", "k.weight"))
    tensors["blk.0.attn_q.weight"] = interleaved(q, HEADS)
    tensors["blk.0.attn_q.bias"] = interleaved(bias, HEADS)
    tensors["blk.0.attn_k.weight"] = interleaved(k, GROUPS)
    arrays = read_gguf(written(tmp_path / "model.gguf", tensors)).arrays
    assert len(arrays) == len(tensors)
    assert all(array.dtype == np.float32 for array in arrays.values())
    np.testing.assert_array_equal(arrays["model.layers.0.self_attn.q_proj.weight"], q)
    np.testing.assert_array_equal(arrays["model.layers.0.self_attn.q_proj.bias"], bias)
    np.testing.assert_array_equal(arrays["model.layers.0.self_attn.k_proj.weight"], k)
    for ours, theirs in {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "model.layers.0.input_layernorm.weight": "blk.0.attn_norm.weight",
        "model.layers.0.self_attn.v_proj.weight": "blk.0.attn_v.weight",
        "model.layers.0.self_attn.o_proj.weight": "blk.0.attn_output.weight",
        "model.layers.0.post_attention_layernorm.weight": "blk.0.ffn_norm.weight",
        "model.layers.0.mlp.gate_proj.weight": "blk.0.ffn_gate.weight",
        "model.layers.0.mlp.up_proj.weight": "blk.0.ffn_up.weight",
    }.items():
        np.testing.assert_array_equal(arrays[ours], tensors[theirs])
    down, quantised = tensors["blk.0.ffn_down.weight"], arrays["model.layers.0.mlp.down_proj.weight"]
    assert 0 < np.abs(down - quantised).max() <= np.abs(down).max() / 127 * 0.51


def test_the_configuration(tmp_path, tensors):
    config = read_gguf(written(tmp_path / "tied.gguf", tensors)).config
    assert config["model_type"] == "llama"
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]) == (3, 1, 4)
    assert (config["rope_theta"], config["rms_norm_eps"]) == (10000.0, 1e-5)
    assert (config["vocab_size"], config["bos_token_id"], config["eos_token_id"]) == (9, 0, 1)
    assert config["tie_word_embeddings"] is True
    tensors["output.weight"] = tensors["token_embd.weight"] + 1
    untied = read_gguf(written(tmp_path / "untied.gguf", tensors))
    assert untied.config["tie_word_embeddings"] is False
    np.testing.assert_array_equal(untied.arrays["lm_head.weight"], tensors["output.weight"])


def test_the_small_tokenizer(tmp_path, tensors):
    tokenizer = read_gguf(written(tmp_path / "model.gguf", tensors)).tokenizer
    assert tokenizer("ab 10<tool></s>").input_ids == [4, 5, 7, 6, 8, 1]
    assert tokenizer.decode([4, 8, 1], skip_special_tokens=True) == "ab<tool>"
    first = written(tmp_path / "first.gguf", tensors, tokenizer__ggml__add_bos_token=True)
    assert read_gguf(first).tokenizer("ab").input_ids == [0, 4]
    bare = written(tmp_path / "bare.gguf", tensors, tokenizer__ggml__tokens=None, llama__vocab_size=9)
    assert read_gguf(bare).tokenizer is None


def test_the_packaged_chat_model(smollm2):
    config, arrays, _ = smollm2
    assert (config["num_hidden_layers"], config["hidden_size"], config["vocab_size"]) == (30, 576, 49152)
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (9, 3)
    assert (config["rope_theta"], config["rms_norm_eps"], config["tie_word_embeddings"]) == (1e5, 1e-5, True)
    assert len(arrays) == 2 + 30 * 9
    assert sum(array.size for array in arrays.values()) == 134_515_008
    assert arrays["model.layers.29.self_attn.k_proj.weight"].shape == (192, 576)
    assert arrays["model.layers.29.mlp.down_proj.weight"].shape == (576, 1536)
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert 0.05 < arrays["model.embed_tokens.weight"].std() < 0.3
    assert 0.05 < arrays["model.layers.0.mlp.up_proj.weight"].std() < 0.5


def test_the_packaged_tokenizer_round_trips(smollm2):
    tokenizer = smollm2.tokenizer
    text = "It cost 1,234 € in Zürich; didn't it?\n  “Yes”, 東京."
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.tokenize("In 2024") == ["In", "Ġ", "2", "0", "2", "4"]
    assert tokenizer("<|im_start|>user").input_ids[0] == tokenizer.bos_token_id == 1
    assert (tokenizer.eos_token, tokenizer.pad_token, len(tokenizer)) == ("<|im_end|>", "<|im_end|>", 49152)


def test_the_chat_template_renders(smollm2):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    said = smollm2.tokenizer.apply_chat_template(messages, tokenize=False)
    assert said.startswith("<|im_start|>system\nYou are a helpful AI assistant")
    assert said.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n")
    asked = smollm2.tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert asked.endswith("Hi<|im_end|>\n<|im_start|>assistant\n")


def test_the_tokenizer_survives_saving(smollm2, tmp_path):
    from transformers import AutoTokenizer

    smollm2.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "A year: 1999, isn't it?<|im_end|>"
    assert again(text).input_ids == smollm2.tokenizer(text).input_ids
    assert again.chat_template == smollm2.tokenizer.chat_template


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.2, 0.3, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path, tensors, share):
    path = written(tmp_path / "model.gguf", tensors)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"model.gguf is damaged, truncated or no GGUF file.*fetch it again"):
        read_gguf(path)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"llama__block_count": None}, "metadata lack or misstate 'block_count'"),
        ({"llama__attention__head_count": "many"}, "misstate"),
        ({"llama__attention__head_count": 0}, "misstate integer division"),
        ({"llama__attention__head_count": 5}, "are not 5 heads of pairs"),
        ({"llama__rope__scaling__type": "linear"}, "scales its rotary embeddings"),
        ({"llama__expert_count": 8}, "mixture of 8 experts"),
        ({"llama__rope__dimension_count": 2}, "rotates 2 of 4"),
        ({"tokenizer__ggml__model": "llama"}, "supported: 'gpt2' with 'smollm'"),
        ({"tokenizer__ggml__pre": "qwen2"}, "the splitting 'qwen2'"),
        ({"tokenizer__ggml__merges": ["a z"]}, "vocabulary does not fit together"),
        ({"tokenizer__ggml__eos_token_id": 99}, "vocabulary does not fit together"),
    ],
)
def test_metadata_that_cannot_be_used_are_named(tmp_path, tensors, fields, said):
    with pytest.raises(InputError, match=said):
        read_gguf(written(tmp_path / "model.gguf", tensors, **fields))


def test_another_architecture_names_the_supported_ones(tmp_path, tensors):
    with pytest.raises(InputError, match="of the architecture 'falcon'; supported: llama"):
        read_gguf(written(tmp_path / "model.gguf", tensors, architecture="falcon"))


def test_a_tensor_of_no_llama_is_named(tmp_path, tensors):
    tensors["rope_freqs.weight"] = np.ones(2, np.float32)
    with pytest.raises(InputError, match=r"holds the tensor 'rope_freqs\.weight'"):
        read_gguf(written(tmp_path / "model.gguf", tensors))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_gguf(tmp_path / "model.gguf")
