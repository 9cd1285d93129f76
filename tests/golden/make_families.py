"""Makes the golden directories of all model families, by Hugging Face transformers (families.py lists them).

It needs torch, which nothing else here does, so it runs in an environment of its own:

    python3.11 -m venv torchenv && torchenv/bin/pip install torch==2.13.0 transformers==5.23.0
    torchenv/bin/python tests/golden/make_families.py              # writes every tests/golden/<case>/
    torchenv/bin/python tests/golden/make_families.py gpt2_lm …    # writes the named cases
    torchenv/bin/python tests/golden/make_families.py check DIR    # reads what jaxft.save_model wrote to DIR with
                                                                   # transformers and compares with DIR/outputs.npz

A directory holds config.json, model.safetensors and golden.npz: the batch under jaxft's names (images as
[batch, height, width, channels]) and

    logits                              [batch, …]; spans as [batch, length, 2] = start, end
    hidden_i, attention_i               for seq2seq of the decoder; ResNet's as [batch, height, width, channels]
    encoder_hidden_i, encoder_attention_i, cross_attention_i   for seq2seq
    features                            where the hidden states end before the final norm: the normalised last ones
    pooled                              where the model has a pooler
    prompt_ids, prompt_mask, generated  for lm: a LEFT-padded batch and the twelve greedy tokens that follow;
                                        seq2seq generates from input_ids; config.json's eos_token_id stops a row,
                                        which then goes on with pad_token_id

Compare the hidden states of decoders only where the mask is 1: at padding the libraries may count positions
differently. Every row of `generated` was also generated alone, without padding, and came out the same.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from families import CASES, DECODERS, ENCODERS, IMAGES, OUT, SEQ2SEQ

HERE = Path(__file__).parent
transformers.logging.disable_progress_bar()
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids", "decoder_attention_mask", "pixels")
NEW_TOKENS = 12
TOLERANCE = 2e-5  # of the largest value
WRITERS = (".v.", ".o.", "wi", "wo.")  # T5's matrices behind what a layer adds to its input
MARGIN = 0.01  # between the best and the second-best logit, so that rounding cannot change a greedy choice


def build(case: dict[str, Any]) -> torch.nn.Module:
    settings = case["settings"]
    if "encoder" in settings:
        encoder = transformers.BertConfig(**settings["encoder"])
        decoder = transformers.BertConfig(**settings["decoder"], is_decoder=True, add_cross_attention=True)
        config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(
            encoder, decoder, decoder_start_token_id=3, pad_token_id=0, eos_token_id=None
        )
    else:
        config = getattr(transformers, case["config"])(**settings)
    config._attn_implementation = "eager"
    model = getattr(transformers, case["architecture"])(config).eval()
    if settings.get("tie_word_embeddings") is False and case["config"] == "T5Config":
        model.lm_head.weight = torch.nn.Parameter(0.3 * torch.randn_like(model.lm_head.weight))
    with torch.no_grad():
        perturb(model)
        for name, parameter in model.named_parameters():
            if case["gain"] and parameter.dim() == 2 and any(part in name for part in WRITERS):
                parameter *= case["gain"]
    return model


def perturb(model: torch.nn.Module) -> None:
    """Moves what starts as a constant, because it would hide a swap, and the statistics of batch norms."""
    for name, parameter in model.named_parameters():
        if "relative_attention_bias" in name:
            parameter += torch.randn_like(parameter)
        elif parameter.dim() == 1 or float(parameter.std()) == 0:
            parameter += 0.1 * torch.randn_like(parameter)
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
            row = module.weight[module.padding_idx]
            row += 0.3 * torch.randn_like(row)
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean += 0.3 * torch.randn_like(module.running_mean)
            module.running_var *= 0.5 + torch.rand_like(module.running_var)


def lengths_mask(rng: np.random.Generator, rows: int, length: int) -> np.ndarray:
    """A right-padded mask; the first row is full, the second short."""
    mask = (np.arange(length) < rng.integers(3, length + 1, size=(rows, 1))).astype(np.int32)
    mask[0] = 1
    mask[1, length // 2 :] = 0
    return mask


def tokens(rng: np.random.Generator, size: tuple[int, ...], vocabulary: int, pad: int) -> np.ndarray:
    """Random ids other than the padding token."""
    ids = rng.integers(0, vocabulary - 1, size=size, dtype=np.int32)
    return ids + (ids >= pad)


def inputs(name: str, config: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    if name in IMAGES:
        height, width = CASES[name]["pixels"]
        channels = config.num_channels
        return {"pixels": rng.normal(size=(3, height, width, channels)).astype(np.float32)}
    if name in SEQ2SEQ:
        source = getattr(config, "encoder", config)
        target = getattr(config, "decoder", config)
        mask, decoder_mask = lengths_mask(rng, 3, 11), lengths_mask(rng, 3, 9)
        decoder_ids = tokens(rng, (3, 9), target.vocab_size, config.pad_token_id)
        decoder_ids[:, 0] = config.decoder_start_token_id
        return {
            "input_ids": tokens(rng, (3, 11), source.vocab_size, config.pad_token_id) * mask,
            "attention_mask": mask,
            "decoder_input_ids": decoder_ids * decoder_mask,
            "decoder_attention_mask": decoder_mask,
        }
    mask = lengths_mask(rng, 4, 11)
    pad = config.pad_token_id
    ids = np.where(mask, tokens(rng, (4, 11), config.vocab_size, pad), pad).astype(np.int32)
    batch = {"input_ids": ids, "attention_mask": mask}
    if name in ENCODERS:
        mask[0, 3] = 0
        if getattr(config, "type_vocab_size", 1) > 1:
            batch["token_type_ids"] = rng.integers(0, config.type_vocab_size, size=(4, 11), dtype=np.int32)
    return batch


def prompts(config: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Three prompts of different lengths, padded on the left."""
    mask = (np.arange(7) >= np.array([[0], [3], [5]])).astype(np.int32)
    ids = tokens(rng, (3, 7), config.vocab_size, config.pad_token_id)
    return {"prompt_ids": np.where(mask, ids, config.pad_token_id).astype(np.int32), "prompt_mask": mask}


def tensors(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    if "pixels" in batch:
        return {"pixel_values": torch.from_numpy(batch["pixels"].transpose(0, 3, 1, 2).copy())}
    return {name: torch.from_numpy(array).long() for name, array in batch.items()}


def outputs(model: torch.nn.Module, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    flags = {"output_hidden_states": True}
    if not isinstance(model, transformers.ResNetPreTrainedModel):
        flags["output_attentions"] = True
    with torch.no_grad():
        out = model(**tensors(batch), **flags)
    found = {"logits": out.logits} if "logits" in out else {}
    if "start_logits" in out:
        found["logits"] = torch.stack([out.start_logits, out.end_logits], -1)
    lists = {"hidden": "hidden_states", "attention": "attentions", "cross_attention": "cross_attentions"}
    lists |= {"encoder_hidden": "encoder_hidden_states", "encoder_attention": "encoder_attentions"}
    if "decoder_hidden_states" in out:
        lists |= {"hidden": "decoder_hidden_states", "attention": "decoder_attentions"}
    for short, long in lists.items():
        found |= {f"{short}_{index}": value for index, value in enumerate(out.get(long) or ())}
    if "pixels" in batch and "attentions" in out:
        with torch.no_grad():
            base = getattr(model, model.base_model_prefix, model)(**tensors(batch))
        found["features"] = base.last_hidden_state
        if not isinstance(base.get("pooler_output"), type(None)):
            found["pooled"] = base.pooler_output
    if "pixels" in batch:
        found = {
            name: value.movedim(1, -1) if value.dim() == 4 and "hidden" in name else value
            for name, value in found.items()
        }
    return {name: value.numpy() for name, value in found.items()}


def generate(model: torch.nn.Module, ids: np.ndarray, mask: np.ndarray, stop: int | None) -> tuple[np.ndarray, float]:
    """Greedy tokens [batch, NEW_TOKENS] and the smallest margin of a choice."""
    config = model.config
    options: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "num_beams": 1}
    options |= {"pad_token_id": config.pad_token_id, "eos_token_id": stop}
    if config.is_encoder_decoder:
        options["use_cache"] = False  # transformers' cache cannot hold more decoder than encoder layers
        options["decoder_start_token_id"] = config.decoder_start_token_id
    model.generation_config = transformers.GenerationConfig(**options)
    with torch.no_grad():
        out = model.generate(
            torch.from_numpy(ids).long(),
            attention_mask=torch.from_numpy(mask).long(),
            output_logits=True,
            return_dict_in_generate=True,
        )
    start = 1 if config.is_encoder_decoder else ids.shape[1]
    best = torch.stack(out.logits, 1).topk(2).values
    found = np.full((len(ids), NEW_TOKENS), config.pad_token_id, np.int32)
    found[:, : out.sequences.shape[1] - start] = out.sequences[:, start:].numpy()
    running = np.cumsum(found == stop, 1) - (found == stop) == 0
    margins = (best[..., 0] - best[..., 1]).numpy()
    return found, float(margins[running[:, : margins.shape[1]]].min())


def alone(model: torch.nn.Module, ids: np.ndarray, mask: np.ndarray, stop: int | None) -> np.ndarray:
    """The same, row by row without padding."""
    rows = [
        generate(model, row[seen == 1][None], seen[seen == 1][None], stop)[0]
        for row, seen in zip(ids, mask, strict=True)
    ]
    return np.concatenate(rows)


def stop_token(generated: np.ndarray) -> int | None:
    """A token that one row meets on the way and another row never does."""
    for row in generated:
        for token in row[2:8]:
            met = (generated == token).any(1)
            if met.any() and not met.all() and token not in row[:2]:
                return int(token)
    return None


def generation(name: str, model: torch.nn.Module, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """What to store about generation, or None if these weights make a poor test."""
    extra = {} if name in SEQ2SEQ else prompts(model.config, np.random.default_rng(7))
    ids, mask = (extra["prompt_ids"], extra["prompt_mask"]) if extra else (batch["input_ids"], batch["attention_mask"])
    found, margin = generate(model, ids, mask, None)
    if margin < MARGIN or len(np.unique(found)) < (5 if name in SEQ2SEQ else 8) or len(np.unique(found[0])) < 3:
        return None
    stop = stop_token(found) if CASES[name]["stops"] else None
    if CASES[name]["stops"]:
        if stop is None or stop == model.config.pad_token_id:
            return None
        model.config.eos_token_id = stop
        found, _ = generate(model, ids, mask, stop)
    if (alone(model, ids, mask, stop) != found).any():
        raise SystemExit(f"{name}: padding changes what is generated")
    return {**extra, "generated": found}


def save(name: str, model: torch.nn.Module) -> torch.nn.Module:
    """Writes the directory and reads it again, so that the outputs are those of the files."""
    directory = HERE / name
    model.save_pretrained(directory)
    for other in set(directory.iterdir()) - {directory / "config.json", directory / "model.safetensors"}:
        other.unlink()
    path = directory / "config.json"
    settings = json.loads(path.read_text()) | CASES[name]["file"]
    settings = {key: value for key, value in settings.items() if value is not OUT}
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    return load(directory)


def load(directory: Path) -> torch.nn.Module:
    architecture = json.loads((directory / "config.json").read_text())["architectures"][0]
    model, report = getattr(transformers, architecture).from_pretrained(
        directory, attn_implementation="eager", output_loading_info=True
    )
    wrong = {kind: sorted(map(str, keys)) for kind, keys in report.items() if keys}
    if wrong:
        raise SystemExit(f"{directory}: {wrong}")
    return model.eval()


def make(name: str) -> None:
    for seed in range(1000):
        torch.manual_seed(seed)
        model = build(CASES[name])
        batch = inputs(name, model.config, np.random.default_rng(seed))
        extra: dict[str, np.ndarray] | None = {}
        if name in SEQ2SEQ or (name in DECODERS and "classify" not in name):
            extra = generation(name, model, batch)
        if extra is not None:
            break
    else:
        raise SystemExit(f"{name}: no seed gives varied tokens")
    before = outputs(model, batch)
    model = save(name, model)
    found = outputs(model, batch)
    for key, array in before.items():
        np.testing.assert_allclose(found[key], array, atol=1e-6, err_msg=f"{name}: {key} after reading the files")
    np.savez_compressed(HERE / name / "golden.npz", **batch, **extra, **found)
    size = sum(path.stat().st_size for path in (HERE / name).iterdir())
    shapes = {key: list(array.shape) for key, array in (batch | extra | found).items()}
    print(f"{name}: seed {seed}, {size / 1000:.0f} kB, {shapes}")


def visible(name: str, array: np.ndarray, batch: dict[str, np.ndarray]) -> np.ndarray:
    """What stands at real tokens; arrays that have no token axis come back whole."""
    mask = batch.get("attention_mask")
    if not name.startswith("encoder"):
        mask = batch.get("decoder_attention_mask", mask)
    if mask is None or name == "generated":
        return array
    if "attention" in name:
        array = np.swapaxes(array, 1, 2)
    return array[mask == 1] if array.shape[:2] == mask.shape else array


def check(directory: Path) -> None:
    """Reads what jaxft wrote with the class that config.json names and compares the outputs."""
    with np.load(directory / "outputs.npz") as arrays:
        stored = dict(arrays)
    batch = {name: stored.pop(name) for name in INPUTS if name in stored}
    prompt = {name: stored.pop(name) for name in ("prompt_ids", "prompt_mask") if name in stored}
    model = load(directory)
    computed = outputs(model, batch)
    if "generated" in stored:
        ids = prompt.get("prompt_ids", batch.get("input_ids"))
        mask = prompt.get("prompt_mask", batch.get("attention_mask"))
        computed["generated"] = generate(model, ids, mask, getattr(model.config, "eos_token_id", None))[0]
    wrong = sorted(stored.keys() - computed.keys()) or ([] if stored else ["nothing to compare"])
    for name in sorted(stored.keys() & computed.keys()):
        mine, theirs = (visible(name, array, batch) for array in (stored[name], computed[name]))
        same = mine.shape == theirs.shape
        difference = float(np.abs(mine - theirs).max()) if same else float("inf")
        print(f"{name}: largest difference {difference:.1e}")
        if not difference <= TOLERANCE * max(1.0, float(np.abs(theirs).max())):
            wrong.append(name)
    if wrong:
        raise SystemExit(f"{directory}: {', '.join(wrong)} differ")


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        check(Path(sys.argv[2]))
    else:
        for chosen in sys.argv[1:] or CASES:
            make(chosen)
