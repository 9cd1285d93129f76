"""Makes the golden adapters of the PEFT tests, and checks with Hugging Face PEFT those that jaxft wrote.

It needs torch and peft, which nothing else here does, so it runs in an environment of its own:

    python3.11 -m venv torchenv && torchenv/bin/pip install torch==2.13.0 transformers==5.24.0 peft==0.21.2
    python tests/train/peft_cases.py                                # jaxft writes tests/golden/peft/ours_*/
    PYTHONHASHSEED=0 torchenv/bin/python tests/golden/make_peft.py  # PEFT writes theirs_*/ and every golden.npz
    torchenv/bin/python tests/golden/make_peft.py theirs NAME …     # PEFT writes the named ones of peft_theirs.py
    torchenv/bin/python tests/golden/make_peft.py ours              # PEFT reads ours_*/ and writes their golden.npz
    torchenv/bin/python tests/golden/make_peft.py check DIR         # PEFT reads what peft_cases.py wrote to DIR/*/ and
                                                                    # compares with the outputs.npz there

The base of an adapter is a directory in tests/golden, the one that base_model_name_or_path names. A golden.npz holds
what PEFT, having read the adapter, computes on the inputs stored with the base: logits, or the last hidden states
where Hugging Face has no class with the head. A run writes the same files again; the hash seed is what PEFT's order of
target modules depends on.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import peft
import torch
import transformers
from peft_theirs import THEIRS

HERE = Path(__file__).parent
ROOM = HERE / "peft"
TOLERANCE = 1e-5
transformers.logging.disable_progress_bar()


def base(name: str, task_type: str | None) -> torch.nn.Module:
    architecture = json.loads((HERE / name / "config.json").read_text())["architectures"][0]
    kind = transformers.AutoModel if task_type == "FEATURE_EXTRACTION" else getattr(transformers, architecture)
    return kind.from_pretrained(HERE / name, attn_implementation="eager").eval()


def inputs(name: str) -> dict[str, torch.Tensor]:
    with np.load(HERE / name / "golden.npz") as arrays:
        stored = dict(arrays)
    if "pixels" in stored:
        return {"pixel_values": torch.from_numpy(stored["pixels"].transpose(0, 3, 1, 2).copy())}
    names = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids", "decoder_attention_mask")
    return {name: torch.from_numpy(stored[name]).long() for name in names if name in stored}


def outputs(model: torch.nn.Module, name: str) -> dict[str, np.ndarray]:
    with torch.no_grad():
        out = model.eval()(**inputs(name))
    found = {"logits": out.logits} if "logits" in out else {"hidden": out.last_hidden_state}
    return {key: array.numpy() for key, array in found.items()}


def read(directory: Path) -> dict[str, np.ndarray]:
    """What PEFT computes with an adapter it reads from files."""
    config = peft.PeftConfig.from_pretrained(directory)
    name = config.base_model_name_or_path
    return outputs(peft.PeftModel.from_pretrained(base(name, config.task_type), directory), name)


def make_theirs(name: str) -> None:
    case = THEIRS[name]
    torch.manual_seed(list(THEIRS).index(name))
    model = peft.get_peft_model(base(case.base, case.fields.get("task_type")), getattr(peft, case.kind)(**case.fields))
    with tempfile.TemporaryDirectory() as start:
        if case.converted:
            model.peft_config["default"].init_lora_weights = True  # PEFT's recipe: what is subtracted is plain LoRA
            model.save_pretrained(start, save_embedding_layers=False)
            model.peft_config["default"].init_lora_weights = case.fields["init_lora_weights"]
        for parameter in model.parameters():
            if parameter.requires_grad:  # what starts at zero or one would hide a wrong scale
                parameter.data += case.noise * torch.randn_like(parameter)
        directory = ROOM / f"theirs_{name}"
        shutil.rmtree(directory, ignore_errors=True)
        model.peft_config["default"].base_model_name_or_path = case.base
        options = {"path_initial_model_for_weight_conversion": start} if case.converted else {}
        # Saving embedding layers would ask the hub about the base.
        model.save_pretrained(directory, save_embedding_layers=False, **options)
    (directory / "README.md").unlink(missing_ok=True)
    stored, found = read(directory), outputs(model, case.base)
    for key, array in stored.items():
        np.testing.assert_allclose(array, found[key], atol=TOLERANCE, err_msg=f"{name}: after reading the files")
    store(directory, stored)


def store(directory: Path, found: dict[str, np.ndarray]) -> None:
    np.savez_compressed(directory / "golden.npz", **found)
    size = sum(path.stat().st_size for path in directory.iterdir())
    print(f"{directory.name}: {size / 1000:.0f} kB, {', '.join(f'{key} {list(found[key].shape)}' for key in found)}")


def make_ours() -> None:
    for directory in sorted(ROOM.glob("ours_*")):
        store(directory, read(directory))


def words(theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """Without the places of a prompt, which our outputs leave out."""
    return theirs[:, theirs.shape[1] - ours.shape[1] :] if theirs.ndim == 3 else theirs


def check(room: Path) -> None:
    """Compares what PEFT computes with every adapter in a directory with what jaxft computed."""
    wrong = []
    for directory in sorted(path.parent for path in room.glob("*/adapter_config.json")):
        with np.load(directory / "outputs.npz") as arrays:
            ours = dict(arrays)
        theirs = read(directory)
        seen = ours.pop("seen")  # decoders count positions at padding as they like
        largest = max(float(np.abs((ours[key] - words(theirs[key], ours[key]))[seen]).max()) for key in theirs)
        wrong += [directory.name] if ours.keys() != theirs.keys() or largest > TOLERANCE else []
        print(f"{directory.name}: {largest:.2e}")
    if wrong:
        raise SystemExit(f"further than {TOLERANCE} from PEFT: {', '.join(wrong)}")


if __name__ == "__main__":
    warnings.simplefilter("error", UserWarning)  # PEFT reports what it leaves out as one
    warnings.filterwarnings("ignore", ".* changes the base weights of the model")  # the very reason for the conversion
    match sys.argv[1:]:
        case ["check", place]:
            check(Path(place))
        case ["ours"]:
            make_ours()
        case ["theirs", *names]:
            for name in names:
                make_theirs(name)
        case _:
            for name in THEIRS:
                make_theirs(name)
            make_ours()
