"""Makes the golden BERT directories and outputs that the model tests compare with, by Hugging Face transformers.

It needs torch, which nothing else here does, so it runs in an environment of its own:

    python3.11 -m venv torchenv && torchenv/bin/pip install torch==2.13.0 transformers==5.23.0
    torchenv/bin/python tests/golden/make_bert.py           # writes tests/golden/bert_*/
    torchenv/bin/python tests/golden/make_bert.py DIR       # checks a directory that jaxft.save_model wrote:
                                                                 # DIR/outputs.npz holds what jaxft computed
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

HERE = Path(__file__).parent
SHARED: dict[str, Any] = {"vocab_size": 97, "max_position_embeddings": 20, "initializer_range": 0.3}
CASES: dict[str, dict[str, Any]] = {
    "gelu": {
        "hidden_size": 24,
        "num_attention_heads": 3,
        "num_hidden_layers": 3,
        "intermediate_size": 52,
        "num_labels": 3,
    },
    "gelu_new": {"hidden_size": 20, "num_attention_heads": 1, "num_hidden_layers": 2, "intermediate_size": 33},
    "relu": {
        "hidden_size": 30,
        "num_attention_heads": 5,
        "num_hidden_layers": 1,
        "intermediate_size": 41,
        "type_vocab_size": 3,
        "layer_norm_eps": 1e-5,
        "num_labels": 1,
        "problem_type": "regression",
    },
}


def batch(rng: np.random.Generator, types: int, rows: int = 5, length: int = 13) -> dict[str, np.ndarray]:
    """Rows of several lengths, padding inside a row, and every token type."""
    mask = (np.arange(length) < rng.integers(2, length + 1, size=(rows, 1))).astype(np.int32)
    mask[0] = 1
    mask[1, 2] = 0
    return {
        "input_ids": rng.integers(0, SHARED["vocab_size"], size=(rows, length), dtype=np.int32),
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, types, size=(rows, length), dtype=np.int32),
    }


def outputs(model: torch.nn.Module, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    tensors = {name: torch.from_numpy(array).long() for name, array in inputs.items()}
    with torch.no_grad():
        out = model(**tensors, output_hidden_states=True, output_attentions=True)
    found = {f"hidden_{index}": state.numpy() for index, state in enumerate(out.hidden_states)}
    found |= {f"attention_{index}": attention.numpy() for index, attention in enumerate(out.attentions)}
    return found | ({"logits": out.logits.numpy()} if "logits" in out else {})


def make() -> None:
    for index, (activation, case) in enumerate(CASES.items()):
        torch.manual_seed(index)
        config = BertConfig(**{**SHARED, "hidden_act": activation, "attn_implementation": "eager", **case})
        model = BertForSequenceClassification(config).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "LayerNorm" in name:  # as constants they would hide a swap
                parameter.data += 0.1 * torch.randn_like(parameter)
        directory = HERE / f"bert_{activation}"
        model.save_pretrained(directory)
        inputs = batch(np.random.default_rng(index), config.type_vocab_size)
        np.savez_compressed(directory / "golden.npz", **inputs, **outputs(model, inputs))


def check(directory: Path) -> None:
    """Reads what jaxft wrote with transformers' own classes and compares the outputs."""
    stored = dict(np.load(directory / "outputs.npz"))
    inputs = {name: stored.pop(name) for name in ("input_ids", "attention_mask", "token_type_ids") if name in stored}
    classes = AutoModelForSequenceClassification if "logits" in stored else AutoModel
    model = classes.from_pretrained(directory, attn_implementation="eager").eval()
    computed = outputs(model, inputs)
    for name, array in stored.items():
        difference = float(np.abs(array - computed[name]).max())
        print(f"{name}: largest difference {difference:.1e}")
        if difference > 1e-5:
            raise SystemExit(f"{directory}: {name} differs")


if __name__ == "__main__":
    check(Path(sys.argv[1])) if len(sys.argv) > 1 else make()
