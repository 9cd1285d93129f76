"""Makes the golden adapters of the PEFT tests, and checks with Hugging Face PEFT those that jaxft wrote.

It needs torch and peft, which nothing else here does, so it runs in an environment of its own:

    python3.11 -m venv torchenv && torchenv/bin/pip install torch==2.13.0 transformers==5.23.0 peft==0.21.2
    python tests/train/peft_cases.py                                # jaxft writes tests/golden/peft/ours_*/
    PYTHONHASHSEED=0 torchenv/bin/python tests/golden/make_peft.py  # PEFT writes theirs_*/ and every golden.npz

The base of all is tests/golden/bert_gelu. A golden.npz holds what PEFT computes on the inputs stored there: logits,
or the last hidden states where Hugging Face has no class with the head. A run writes the same files again; the hash
seed is what PEFT's order of target modules depends on.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import BertForSequenceClassification, BertModel

HERE = Path(__file__).parent
BASE = HERE / "bert_gelu"
ROOM = HERE / "peft"
THEIRS: dict[str, dict[str, Any]] = {
    "patterns": {
        "task_type": "SEQ_CLS",
        "target_modules": ["query", "value", "intermediate.dense"],
        "rank_pattern": {r"layer\.[12]\.attention\.self\.query": 2, "intermediate.dense": 3},
        "alpha_pattern": {"value": 10, "intermediate.dense": 5},
        "r": 4,
        "lora_alpha": 7,
        "lora_dropout": 0.1,
    },
    "rank_stabilized": {
        "task_type": "SEQ_CLS",
        "target_modules": r".*\.(output\.dense|word_embeddings)",
        "r": 5,
        "lora_alpha": 3,
        "use_rslora": True,
        "bias": "lora_only",
        "modules_to_save": ["pooler", "layer.0.output.LayerNorm"],
    },
    "biases": {"task_type": "SEQ_CLS", "target_modules": ["key"], "r": 1, "lora_alpha": 2, "bias": "all"},
    "encoder": {"task_type": "FEATURE_EXTRACTION", "target_modules": ["query", "key"], "r": 2, "lora_alpha": 4},
}


def base(task_type: str) -> torch.nn.Module:
    kind = BertForSequenceClassification if task_type == "SEQ_CLS" else BertModel
    return kind.from_pretrained(BASE, attn_implementation="eager").eval()


def store(model: torch.nn.Module, directory: Path) -> None:
    inputs = np.load(BASE / "golden.npz")
    tensors = {name: torch.from_numpy(inputs[name]).long() for name in inputs if inputs[name].dtype == np.int32}
    with torch.no_grad():
        out = model.eval()(**tensors)
    found = {"logits": out.logits} if "logits" in out else {"hidden": out.last_hidden_state}
    np.savez_compressed(directory / "golden.npz", **{name: array.numpy() for name, array in found.items()})
    print(f"{directory.name}: {', '.join(found)}")


def make_theirs() -> None:
    for index, (name, case) in enumerate(THEIRS.items()):
        torch.manual_seed(index)
        model = get_peft_model(base(case["task_type"]), LoraConfig(**case))
        for parameter in model.parameters():
            if parameter.requires_grad:  # lora_B starts at zero, where it would hide a wrong scale
                parameter.data += 0.3 * torch.randn_like(parameter)
        directory = ROOM / f"theirs_{name}"
        shutil.rmtree(directory, ignore_errors=True)
        model.peft_config["default"].base_model_name_or_path = "bert_gelu"
        model.save_pretrained(directory, save_embedding_layers=False)  # else it asks the hub about the base
        (directory / "README.md").unlink(missing_ok=True)
        store(model, directory)


def check_ours() -> None:
    for directory in sorted(ROOM.glob("ours_*")):
        task_type = LoraConfig.from_pretrained(directory).task_type
        store(PeftModel.from_pretrained(base(task_type), directory), directory)


if __name__ == "__main__":
    warnings.simplefilter("error", UserWarning)  # PEFT reports what it leaves out as one
    make_theirs()
    check_ours()
