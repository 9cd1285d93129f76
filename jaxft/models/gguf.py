"""GGUF files of the Llama architecture, as a Hugging Face configuration, arrays and a tokenizer."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxft.errors import InputError

_SUPPORTED = ("llama",)
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TENSOR = re.compile(r"(?:blk\.(?P<layer>\d+)\.)?(?P<part>\w+)\.(?P<kind>weight|bias)")


class Gguf(NamedTuple):
    """What a GGUF file holds.

    Attributes:
        config: the fields of a Hugging Face ``config.json``.
        arrays: float32 arrays by their Hugging Face names, such as "model.layers.0.self_attn.q_proj.weight".
        tokenizer: a Hugging Face tokenizer, with the file's chat template; None when the file has no vocabulary.
    """

    config: dict[str, Any]
    arrays: dict[str, np.ndarray]
    tokenizer: Any


def read_gguf(path: str | os.PathLike[str]) -> Gguf:
    """A GGUF file with its numbers dequantised to float32.

    GGUF stores the rows of a query or key head as pairs for interleaved rotary embeddings; here they are in
    Hugging Face's order, first halves before second halves.

    Args:
        path: the file.

    Raises:
        InputError: the file is missing, damaged or of another architecture than llama, or holds parts, a
            quantisation or a vocabulary that cannot be read.

    Example:
        >>> from jaxft.files import fetch
        >>> model = read_gguf(fetch("smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf")
        >>> model.config["num_hidden_layers"], model.arrays["model.layers.0.self_attn.k_proj.weight"].shape
        (30, (192, 576))
        >>> model.tokenizer.tokenize("In 2024")
        ['In', 'Ġ', '2', '0', '2', '4']
    """
    from jaxft.models.gguf_tokenizer import make_tokenizer

    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    reader, metadata = _open(path)
    architecture = metadata.get("general.architecture")
    if architecture not in _SUPPORTED:
        raise InputError(f"{path} is of the architecture {architecture!r}; supported: {', '.join(_SUPPORTED)}")
    try:
        config = _config(metadata, path)
        config["tie_word_embeddings"] = all(tensor.name != "output.weight" for tensor in reader.tensors)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged: its metadata lack or misstate {error}; fetch it again") from error
    arrays = dict(_array(tensor, config, path) for tensor in reader.tensors)
    return Gguf(config, arrays, make_tokenizer(metadata, path))


def _open(path: Path) -> tuple[Any, dict[str, Any]]:
    import gguf

    try:
        reader = gguf.GGUFReader(path)
        return reader, {name: field.contents() for name, field in reader.fields.items()}
    except Exception as error:  # damage surfaces as whatever the reader stumbled over
        raise InputError(f"{path} is damaged, truncated or no GGUF file: fetch it again") from error


def _config(metadata: Mapping[str, Any], path: Path) -> dict[str, Any]:
    held = {name.removeprefix("llama."): value for name, value in metadata.items() if name.startswith("llama.")}
    heads = int(held["attention.head_count"])
    head_dim = int(held.get("attention.key_length", held["embedding_length"] // heads))
    if held.get("rope.scaling.type", "none") != "none":
        raise InputError(f"{path} scales its rotary embeddings ({held['rope.scaling.type']}), which is not supported")
    if held.get("expert_count", 0):
        raise InputError(f"{path} is a mixture of {held['expert_count']} experts, which is not supported")
    if held.get("rope.dimension_count", head_dim) != head_dim:
        raise InputError(f"{path} rotates {held['rope.dimension_count']} of {head_dim} dimensions: not supported")
    vocabulary = held.get("vocab_size", len(metadata.get("tokenizer.ggml.tokens", ())))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": int(vocabulary),
        "hidden_size": int(held["embedding_length"]),
        "intermediate_size": int(held["feed_forward_length"]),
        "num_hidden_layers": int(held["block_count"]),
        "num_attention_heads": heads,
        "num_key_value_heads": int(held.get("attention.head_count_kv", heads)),
        "head_dim": head_dim,
        "max_position_embeddings": int(held["context_length"]),
        "rope_theta": _number(held.get("rope.freq_base", 10000.0)),
        "rms_norm_eps": _number(held["attention.layer_norm_rms_epsilon"]),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }
    ids = {"bos": "bos_token_id", "eos": "eos_token_id", "padding": "pad_token_id"}
    stated = {ours: metadata.get(f"tokenizer.ggml.{theirs}_token_id") for theirs, ours in ids.items()}
    return config | {name: int(value) for name, value in stated.items() if value is not None}


def _number(value: float) -> float:
    """The shortest decimal that float32 reads as this value: 1e-05 for 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _array(tensor: Any, config: Mapping[str, Any], path: Path) -> tuple[str, np.ndarray]:
    from gguf.quants import dequantize

    name = _name(tensor.name)
    if name is None:
        raise InputError(f"{path} holds the tensor {tensor.name!r}, which the supported llama models do not have")
    try:
        array = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    except NotImplementedError as error:
        raise InputError(
            f"{tensor.name!r} of {path} is quantised as {tensor.tensor_type.name}, which cannot be read: "
            "use a file of another quantisation, such as Q8_0"
        ) from error
    if array.size != math.prod(int(size) for size in tensor.shape):
        raise InputError(f"{path} is damaged: {tensor.name!r} has another size than stated; fetch it again")
    for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
        if f".{part}." in name:
            array = _halves_apart(array, config[heads], tensor.name, path)
    return name, array


def _name(gguf_name: str) -> str | None:
    match = _TENSOR.fullmatch(gguf_name)
    if match is None:
        return None
    part = (_TOP if match["layer"] is None else _LAYER).get(match["part"])
    if part is None:
        return None
    return f"{part if match['layer'] is None else 'model.layers.' + match['layer'] + '.' + part}.{match['kind']}"


def _halves_apart(array: np.ndarray, heads: int, name: str, path: Path) -> np.ndarray:
    rows = array.shape[0]
    if rows % (2 * heads):
        raise InputError(f"{path} is damaged: the {rows} rows of {name!r} are not {heads} heads of pairs")
    return np.ascontiguousarray(array.reshape(heads, rows // heads // 2, 2, -1).swapaxes(1, 2).reshape(array.shape))
