"""Adapters against PEFT itself: what it wrote is read, and what we wrote it read, with equal outputs."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxft as ft
from jaxft.trees import fingerprint, leaf_paths
from tests.models.golden import TASKS
from tests.train.peft_cases import (
    ATTENTION,
    BASE,
    CASES,
    GOLDEN,
    OTHERWISE,
    ROOM,
    base,
    inputs,
    model_of,
    seen,
    trained,
)

THEIRS = sorted(path.name.removeprefix("theirs_") for path in ROOM.glob("theirs_*"))
CONFIG, WEIGHTS, NOTES = "adapter_config.json", "adapter_model.safetensors", "jaxft.json"


def difference(directory: Path, model: ft.Model, params: ft.types.Params) -> float:
    """The largest one between our output with these params and PEFT's on the inputs of the base, over its largest."""
    golden = np.load(directory / "golden.npz")
    batch = inputs(fields_of(directory)["base_model_name_or_path"])
    outputs = model.apply(params, batch)
    ours = outputs.logits if "logits" in golden else outputs.hidden_states[-1]
    theirs = golden["logits" if "logits" in golden else "hidden"]
    scale = max(1.0, float(np.abs(theirs).max()))
    if ours.ndim == 2:
        return float(np.abs(ours - theirs).max()) / scale
    theirs = theirs[:, theirs.shape[1] - ours.shape[1] :]  # PEFT has outputs for a prompt too
    return float(np.abs(ours - theirs)[seen(batch)].max()) / scale


def effect(directory: Path) -> float:
    """The largest difference between PEFT's outputs with the adapter and those stored of the base."""
    golden = np.load(directory / "golden.npz")
    stored = np.load(GOLDEN / fields_of(directory)["base_model_name_or_path"] / "golden.npz")
    last = max((name for name in stored if name.startswith("hidden_")), key=lambda name: int(name[7:]))
    theirs, before = (golden["logits"], stored["logits"]) if "logits" in golden else (golden["hidden"], stored[last])
    return float(np.abs(theirs[:, theirs.shape[1] - before.shape[1] :] - before).max())


def fields_of(directory: Path) -> dict[str, Any]:
    return json.loads((directory / CONFIG).read_text())


def assert_same_bits(ours, theirs):
    first, second = leaf_paths(ours), leaf_paths(theirs)
    assert first.keys() == second.keys()
    for path in first:
        assert first[path].dtype == second[path].dtype
        np.testing.assert_array_equal(first[path], second[path], err_msg=path)


@functools.cache
def task_model(name: str) -> ft.Model:
    """The base of an adapter of PEFT's."""
    fields = fields_of(ROOM / f"theirs_{name}")
    source = fields["base_model_name_or_path"]
    if fields["task_type"] == "FEATURE_EXTRACTION":
        return ft.load_model(GOLDEN / source, task="features")
    return base("cls") if source == BASE.name else ft.load_model(GOLDEN / source, task=TASKS[source])


@pytest.mark.parametrize("name", THEIRS)
def test_an_adapter_of_peft_gives_its_outputs(name):
    model = task_model(name)
    adaptation, frozen, delta = ft.load_adapter(ROOM / f"theirs_{name}", model.params, config=model.config)
    assert difference(ROOM / f"theirs_{name}", model, adaptation.bind(frozen, delta)) < 1e-5
    assert effect(ROOM / f"theirs_{name}") > 0.1


def some(names):
    """Every fourth of the cases in `make test`, all in `make test-all`."""
    return [pytest.param(name, marks=() if place % 4 == 0 else pytest.mark.slow) for place, name in enumerate(names)]


@pytest.mark.parametrize("name", some(THEIRS))
def test_an_adapter_of_peft_survives_being_written_again(name, tmp_path):
    model = task_model(name)
    loaded = ft.load_adapter(ROOM / f"theirs_{name}", model.params, config=model.config)
    ft.save_adapter(tmp_path / "again", *loaded, config=model.config)
    again = ft.load_adapter(tmp_path / "again", model.params, config=model.config)
    assert_same_bits(ft.merge(*loaded), ft.merge(*again))
    assert_same_bits(loaded[2], again[2])


@pytest.mark.parametrize("name", CASES)
def test_our_adapter_gives_the_outputs_that_peft_read_from_it(name, tmp_path):
    model = model_of(name)
    adaptation, frozen, delta = trained(name, model.params)
    ft.save_adapter(tmp_path / name, adaptation, frozen, delta, config=model.config, base=CASES[name].base)
    for file in (CONFIG, NOTES):
        assert (tmp_path / name / file).read_bytes() == (ROOM / f"ours_{name}" / file).read_bytes()
    # The factors are drawn at random, and releases of jax differ in the last bit of a normal.
    ours, stored = load_file(tmp_path / name / WEIGHTS), load_file(ROOM / f"ours_{name}" / WEIGHTS)
    assert ours.keys() == stored.keys()
    decomposed = name in ("pissa", "olora")  # decompositions are no more exact than their condition
    if not decomposed:
        for key, value in stored.items():
            np.testing.assert_allclose(ours[key], value, rtol=1e-5, atol=1e-6)
    read, read_frozen, read_delta = ft.load_adapter(ROOM / f"ours_{name}", model.params, config=model.config)
    assert difference(ROOM / f"ours_{name}", model, read.bind(read_frozen, read_delta)) < 1e-5
    assert difference(ROOM / f"ours_{name}", model, adaptation.bind(frozen, delta)) < (1e-3 if decomposed else 1e-5)
    assert effect(ROOM / f"ours_{name}") > 0.05


@pytest.mark.parametrize("name", some(CASES))
def test_a_round_trip_keeps_every_bit(name, tmp_path):
    model = model_of(name)
    adaptation, frozen, delta = trained(name, model.params)
    ft.save_adapter(tmp_path / name, adaptation, frozen, delta, config=model.config)
    loaded, loaded_frozen, loaded_delta = ft.load_adapter(tmp_path / name, model.params, config=model.config)
    before, after = ft.merge(adaptation, frozen, delta), ft.merge(loaded, loaded_frozen, loaded_delta)
    if name in OTHERWISE:  # what they compute comes back, in other parts
        for path, leaf in leaf_paths(before).items():
            np.testing.assert_allclose(leaf_paths(after)[path], leaf, rtol=1e-5, atol=1e-5, err_msg=path)
        return
    assert_same_bits(before, after)
    assert fingerprint(sorted(map(fingerprint, jax.tree.leaves(delta)))) == fingerprint(
        sorted(map(fingerprint, jax.tree.leaves(loaded_delta)))
    )


def test_a_head_that_did_not_learn_is_stored_all_the_same(tmp_path):
    model, other = (ft.load_model(BASE, task="classify", pooling="mean", num_labels=3, seed=seed) for seed in (0, 1))
    adaptation, frozen, delta = trained("stabilized", model.params)
    ft.save_adapter(tmp_path / "adapter", adaptation, frozen, delta, config=model.config)
    loaded = ft.load_adapter(tmp_path / "adapter", other.params, config=other.config)
    assert not np.array_equal(model.params["head"]["kernel"], other.params["head"]["kernel"])
    assert_same_bits(ft.merge(adaptation, frozen, delta), ft.merge(*loaded))
    assert_same_bits(delta, loaded[2])


@pytest.mark.parametrize(
    ("name", "task", "heads"),
    [
        ("bert_spans", "spans", ["qa_outputs"]),
        ("roberta_classify", "classify", ["classifier"]),
        ("distilbert_classify", "classify", ["classifier", "pre_classifier"]),
        ("electra_tag", "tag", ["classifier"]),
    ],
)
def test_a_head_is_kept_under_the_name_it_has_in_its_class(name, task, heads, tmp_path):
    model = ft.load_model(BASE.parent / name, task=task)
    adaptation = ft.chain(ft.lora("**/query/kernel", rank=1, alpha=1), ft.tune("head/bias"))
    frozen, delta = adaptation.init(jax.random.key(0), model.params)
    ft.save_adapter(tmp_path / "saved", adaptation, frozen, delta, config=model.config)
    assert json.loads((tmp_path / "saved" / CONFIG).read_text())["modules_to_save"] == heads
    held = {key.removeprefix("base_model.model.") for key in load_file(tmp_path / "saved" / WEIGHTS)}
    source = {key for key in load_file(BASE.parent / name / "model.safetensors") if key.split(".")[0] in heads}
    assert source == {key for key in held if "lora" not in key}
    again = ft.load_adapter(tmp_path / "saved", model.params, config=model.config)
    assert_same_bits(ft.merge(*again), ft.merge(adaptation, frozen, delta))


def test_what_is_loaded_goes_on_learning_as_before(tmp_path):
    model = base("cls")
    adaptation, frozen, delta = trained("head", model.params)
    ft.save_adapter(tmp_path / "adapter", adaptation, frozen, delta, config=model.config)
    loaded, loaded_frozen, loaded_delta = ft.load_adapter(tmp_path / "adapter", model.params, config=model.config)
    key = jax.random.key(5)
    assert_same_bits(delta, loaded_delta)
    assert_same_bits(frozen, loaded_frozen)
    training = adaptation.bind(frozen, delta, key=key)
    assert fingerprint(training) == fingerprint(loaded.bind(loaded_frozen, loaded_delta, key=key))
    assert fingerprint(training) != fingerprint(adaptation.bind(frozen, delta))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_params_of_no_family_are_named_by_their_own_paths(dtype, tmp_path):
    rng = np.random.default_rng(0)
    params = {
        "blocks": [
            {"w": jnp.asarray(rng.normal(size=(4, 3)), dtype)},
            {"w": jnp.asarray(rng.normal(size=(3, 5)), dtype)},
        ],
        "out": {"kernel": jnp.asarray(rng.normal(size=(5, 2)), dtype), "bias": jnp.zeros(2, dtype)},
    }
    adaptation = ft.chain(ft.lora("blocks/*/w", rank={"blocks/0/w": 1, "**": 2}), ft.tune("out/**"))
    frozen, delta = adaptation.init(jax.random.key(0), params)
    delta = jax.tree.map(lambda leaf: leaf + jnp.asarray(0.37, dtype), delta)
    ft.save_adapter(tmp_path / "adapter", adaptation, frozen, delta)
    names = load_file(tmp_path / "adapter" / WEIGHTS)
    assert {name: array.shape for name, array in names.items()} == {
        "base_model.model.blocks.0.w.lora_A.weight": (1, 4),
        "base_model.model.blocks.0.w.lora_B.weight": (3, 1),
        "base_model.model.blocks.1.w.lora_A.weight": (2, 3),
        "base_model.model.blocks.1.w.lora_B.weight": (5, 2),
        "base_model.model.out.bias": (2,),
        "base_model.model.out.weight": (2, 5),
    }
    loaded = ft.load_adapter(tmp_path / "adapter", params)
    assert_same_bits(delta, loaded[2])
    assert_same_bits(ft.merge(adaptation, frozen, delta), ft.merge(*loaded))


def refused(adaptation, params, tmp_path, **options) -> str:
    frozen, delta = adaptation.init(jax.random.key(0), params)
    with pytest.raises(ft.InputError) as error:
        ft.save_adapter(tmp_path / "adapter", adaptation, frozen, delta, **options)
    assert list(tmp_path.iterdir()) == []
    return str(error.value)


def test_what_the_format_cannot_hold_is_refused_by_name(tmp_path):
    heads = {
        "query": {"kernel": jnp.ones((6, 2, 3))},
        "stack": {"kernel": jnp.ones((2, 4, 4))},
        "out": jnp.ones((6, 6)),
    }
    assert "'query/kernel' has shape [6, 2, 3]" in refused(ft.lora("query/kernel", axes="ioo", rank=1), heads, tmp_path)
    assert "'stack/kernel' has shape [2, 4, 4]" in refused(ft.lora("stack/kernel", axes="bio", rank=1), heads, tmp_path)
    for adaptation in (ft.tune("out"), ft.full()):
        assert "needs at least one adapted weight" in refused(adaptation, heads, tmp_path)
    twice = ft.chain(ft.lora("out", rank=1, dropout=0.1), ft.lora("stack/kernel", axes="bio", rank=1))
    assert "'stack/kernel'" in refused(twice, heads, tmp_path)
    two = {"a": jnp.ones((3, 3)), "b": jnp.ones((3, 3))}
    rates = ft.chain(ft.lora("a", rank=1, dropout=0.1), ft.lora("b", rank=1))
    assert "'b' has dropout 0.0 on its low-rank branch and 'a' 0.1" in refused(rates, two, tmp_path)


def test_what_learned_by_other_means_is_refused_by_name(tmp_path):
    def init(key, params):
        return params, {"query": jnp.ones(4)}

    def bind(frozen, delta, *, key=None):
        return {"query": {"kernel": frozen["query"]["kernel"] * delta["query"]}}

    params = {"query": {"kernel": jnp.ones((4, 4))}}
    assert "learned 'query'" in refused(ft.Adaptation(init, bind), params, tmp_path)


@pytest.mark.parametrize("name", ["bert_gelu", "roberta_classify", "llama_lm"])
def test_names_are_not_guessed_for_a_model_without_its_config(name, tmp_path):
    task = "lm" if name == "llama_lm" else "features"
    params = ft.load_model(ROOM.parent / name, task=task).params
    assert "give config=model.config" in refused(ft.lora("**/query/kernel", rank=1), params, tmp_path)


def test_a_config_of_another_model_is_refused(tmp_path):
    model = base("cls")
    mean = base("mean").config
    assert "pooler/bias, pooler/kernel have no name" in refused(ft.lora(ATTENTION), model.params, tmp_path, config=mean)
    assert "config of a model from load_model" in refused(ft.lora(ATTENTION), model.params, tmp_path, config={})


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "notes.txt").write_text("mine")
    model = base("cls")
    with pytest.raises(ft.InputError, match="already holds files"):
        ft.save_adapter(tmp_path / "adapter", *trained("head", model.params), config=model.config)
    assert [file.name for file in (tmp_path / "adapter").iterdir()] == ["notes.txt"]


def changed(tmp_path: Path, source: str, fields=None, tensors=None, drop=()) -> Path:
    """A copy of a golden adapter with fields and tensors replaced."""
    directory = tmp_path / "changed"
    shutil.copytree(ROOM / source, directory)
    if fields:
        stored = json.loads((directory / CONFIG).read_text())
        (directory / CONFIG).write_text(json.dumps(stored | fields))
    if tensors or drop:
        arrays = load_file(directory / WEIGHTS) | (tensors or {})
        save_file({name: array for name, array in arrays.items() if name not in drop}, directory / WEIGHTS)
    return directory


LAYER = "base_model.model.bert.encoder.layer.0"
BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "other method": ({"fields": {"peft_type": "LOHA"}}, "peft_type 'LOHA'; expected one of LORA, IA3"),
    "wrong method": ({"fields": {"peft_type": "IA3"}}, "asks for alpha_pattern, .*lora_alpha"),
    "no method": ({"fields": {"peft_type": None}}, "peft_type None"),
    "DoRA without lengths": ({"fields": {"use_dora": True}}, "lacks lora_magnitude_vector of"),
    "an option of PEFT": ({"fields": {"use_qalora": True}}, "asks for use_qalora"),
    "an option to come": ({"fields": {"use_tomorrow": 1, "later": None}}, "asks for use_tomorrow, which"),
    "an expression that matches else": (
        {"fields": {"target_modules": r".*\.query"}},
        "value', which its target_modules",
    ),
    "base changed": ({"fields": {"init_lora_weights": "pissa_niter_4"}}, "changes the base model"),
    "other rank": ({"fields": {"rank_pattern": {}}}, "layer.0.intermediate.dense has rank 3 .* but 4"),
    "patterns that are none": ({"fields": {"rank_pattern": {"(": 2}}}, "rank_pattern as regular expressions .*'\\('"),
    "no alpha": ({"fields": {"lora_alpha": "7"}}, "lora_alpha of .* as a number; got '7'"),
    "target without factors": ({"fields": {"target_modules": ["query", "valeu"]}}, "'valeu' matches nothing .*value"),
    "target left out": ({"fields": {"target_modules": ["query", "key"]}}, "'key' matches nothing"),
    "factors lost": (
        {"drop": [f"{LAYER}.attention.self.query.lora_{part}.weight" for part in "AB"]},
        "targets 'bert.encoder.layer.0.attention.self.query', but its file lacks",
    ),
    "half a pair": ({"drop": [f"{LAYER}.attention.self.query.lora_B.weight"]}, "lacks lora_B of .*query"),
    "head lost": ({"drop": ["base_model.model.classifier.weight"]}, "trained 'classifier', but its file lacks"),
    "unknown tensor": (
        {"tensors": {f"{LAYER}.attention.self.query.lora_magnitude_vector": np.ones(24, np.float32)}},
        "holds 'magnitude_vector' of .*query', but its adapter_config.json does not say",
    ),
    "unknown module": (
        {"tensors": {f"{LAYER}.attention.self.qeury.lora_A.weight": np.ones((4, 24), np.float32)}},
        "'bert.encoder.layer.0.attention.self.qeury', which .* nearest: .*query",
    ),
    "other width": (
        {"tensors": {f"{LAYER}.attention.self.query.lora_A.weight": np.ones((4, 25), np.float32)}},
        r"query has lora_A \[4, 25\] and lora_B \[24, 4\] .* expect \[r, 24\] and \[24, r\]",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_adapter_is_refused_and_says_what_is_wrong(name, tmp_path):
    change, message = BROKEN[name]
    model = base("cls")
    with pytest.raises(ft.InputError, match=message):
        ft.load_adapter(changed(tmp_path, "theirs_patterns", **change), model.params, config=model.config)


def test_missing_and_damaged_files_are_refused(tmp_path):
    params = base("cls").params
    with pytest.raises(ft.InputError, match=r"holds no adapter_config.json"):
        ft.load_adapter(tmp_path / "nowhere", params)
    directory = changed(tmp_path, "ours_head")
    whole = (directory / WEIGHTS).read_bytes()
    (directory / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ft.InputError, match=r"adapter_model.safetensors is damaged or truncated"):
        ft.load_adapter(directory, params)
    (directory / WEIGHTS).rename(directory / "adapter_model.bin")
    with pytest.raises(ft.InputError, match=r"holds no adapter_model.safetensors but a pickle"):
        ft.load_adapter(directory, params)
    for text, message in (("{", "not valid JSON"), ("[]", "must hold a JSON object")):
        (directory / CONFIG).write_text(text)
        with pytest.raises(ft.InputError, match=message):
            ft.load_adapter(directory, params)


def test_an_adapter_for_another_base_is_refused():
    _, params, config, _ = base("cls")
    other = {**params, "pooler": jax.tree.map(lambda leaf: leaf + 1e-3, params["pooler"])}
    with pytest.raises(ft.InputError, match=r"trained on a base model with fingerprint [0-9a-f]{64}, but these params"):
        ft.load_adapter(ROOM / "ours_head", other, config=config)


def test_a_head_of_another_size_names_both_shapes():
    model = ft.load_model(BASE, task="classify", pooling="mean", num_labels=5)
    with pytest.raises(ft.InputError, match=r"classifier.bias is \[3\] in the adapter but \[5\].*num_labels"):
        ft.load_adapter(ROOM / "ours_mean", model.params, config=model.config)


def test_an_adapter_of_another_pooling_says_which():
    mean, cls = base("mean"), base("cls")
    with pytest.raises(ft.InputError, match="class with a head: load the model with pooling='cls'"):
        ft.load_adapter(ROOM / "ours_head", mean.params, config=mean.config)
    with pytest.raises(ft.InputError, match="bare model: load the model with pooling='mean'"):
        ft.load_adapter(ROOM / "ours_mean", cls.params, config=cls.config)
    features = ft.load_model(BASE, task="features")
    with pytest.raises(ft.InputError, match=r"classifier.bias.*load the model with a head"):
        ft.load_adapter(ROOM / "ours_mean", features.params, config=features.config)


def test_labels_in_another_order_are_refused(tmp_path):
    names = ["negative", "neutral", "positive"]
    model, turned = (
        ft.load_model(BASE, task="classify", pooling="mean", labels=order) for order in (names, names[::-1])
    )
    adaptation = ft.chain(ft.lora("**/attention/query/kernel", rank=2), ft.tune("head/**"))
    frozen, delta = adaptation.init(jax.random.key(0), model.params)
    ft.save_adapter(tmp_path / "adapter", adaptation, frozen, delta, config=model.config)
    ft.load_adapter(tmp_path / "adapter", model.params, config=model.config)
    with pytest.raises(ft.InputError, match=r"the labels \['negative', .* but the model has \['positive', .* labels="):
        ft.load_adapter(tmp_path / "adapter", turned.params, config=turned.config)
