"""Families that read pixels: poolings, running statistics, preprocessing, and EfficientNet on its published weights."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.errors import InputError
from jaxft.models import load_model, save_model
from jaxft.models.convolution import depthwise
from jaxft.trees import leaf_paths
from jaxft.types import Model
from tests.models.golden import GOLDEN, golden, run


def close(found, expected, name: str = "", tolerance: float = 1e-5) -> None:
    """Within the tolerance, relative to the largest value of a vector where that is above one."""
    assert found.shape == expected.shape, name
    error = np.abs(np.asarray(found) - expected) / np.maximum(1, np.abs(expected).max(axis=-1, keepdims=True))
    assert error.max() <= tolerance, (name, error.max())


@pytest.mark.parametrize("pooling", ["cls", "mean", "distilled"])
def test_each_pooling_has_its_head_and_comes_back(pooling: str, tmp_path: Path):
    model = load_model(GOLDEN / "deit_classify", task="classify", pooling=pooling, labels=["a", "b", "c"], seed=4)
    save_model(model, tmp_path / "saved")
    again = load_model(tmp_path / "saved", task="classify", labels=["c", "a", "b"])
    assert again.config.pooling == pooling
    batch = {"pixels": np.ones((2, 12, 12, 3), np.float32)}
    close(run(again, batch).logits, np.asarray(run(model, batch).logits)[:, [2, 0, 1]])


@pytest.mark.parametrize("name", ["resnet_basic", "vit_classify"])
def test_remat_gives_the_same_gradients(name: str):
    def gradient(remat: bool):
        model, batch, _ = golden(name, remat=remat)
        return jax.jit(jax.grad(lambda params: jnp.square(model.apply(params, batch).logits).sum()))(model.params)

    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), gradient(True), gradient(False))


@pytest.fixture(scope="module")
def lite() -> Model:
    return load_model("efficientnet-lite0", task="classify")


def test_lite0_equals_its_reference(lite: Model):
    with np.load(GOLDEN / "efficientnet_lite" / "golden.npz") as stored:
        expected = dict(stored)
    for index in (0, 1):
        outputs = run(lite, {"pixels": expected[f"pixels_{index}"]})
        close(outputs.logits, expected[f"logits_{index}"], "logits")
        close(outputs.features, expected[f"pooled_{index}"], "features")
        close(outputs.hidden_states[3], expected[f"map_{index}"], "map")
        names = [f"stem_{index}", *(f"block_{index}_{block}" for block in range(16))]
        for name, state in zip(names, outputs.hidden_states, strict=True):
            close(state.mean(axis=(1, 2)), expected[name], name)


def photograph(name: str) -> np.ndarray:
    """The middle of a photograph, 224 by 224 levels."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    image = Image.fromarray(load_sample_image(name))
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC))


def test_lite0_names_what_is_on_a_photograph(lite: Model):
    levels = np.stack([photograph("china.jpg"), photograph("flower.jpg")])
    pixels = (levels.astype(np.float32) / 255 - np.float32(lite.config.mean)) / np.float32(lite.config.std)
    np.testing.assert_allclose(pixels, (levels.astype(np.float32) - 127) / 128, atol=1e-5)
    logits = np.asarray(run(lite, {"pixels": pixels}).logits)
    temple, flower = (set(row.argsort()[::-1][:5].tolist()) for row in logits)
    assert logits[0].argmax() in (483, 663, 698), "castle, monastery or palace: there is no class for a temple's roof"
    assert logits[1].argmax() == 985, "daisy, the one class of a flower with petals around"
    assert {663, 698} <= temple, "monastery and palace"
    assert 309 in flower, "bee, which photographs show on flowers"


def test_lite0_comes_back_from_a_directory_of_ours(lite: Model, tmp_path: Path):
    save_model(lite, tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    again = load_model(tmp_path / "saved", task="classify")
    assert again.config == lite.config
    assert len(again.config.labels) == 1000
    ours, theirs = leaf_paths(again.params), leaf_paths(lite.params)
    assert all(np.array_equal(ours[path], theirs[path]) for path in theirs)
    np.testing.assert_allclose(again.config.mean, (127 / 255,) * 3, rtol=1e-6)
    other = load_model(tmp_path / "saved", task="classify", num_labels=3, seed=2)
    assert other.params["head"]["kernel"].shape == (1280, 3)


@pytest.mark.parametrize("padding", ["same", "centred"])
@pytest.mark.parametrize(("size", "stride", "shape"), [(3, 1, (7, 6)), (3, 2, (7, 6)), (5, 2, (9, 8)), (5, 1, (5, 4))])
def test_depthwise_is_a_grouped_convolution(size: int, stride: int, shape: tuple[int, int], padding: str):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *shape, 3)).astype(np.float32)
    kernel = rng.normal(size=(size, size, 1, 3)).astype(np.float32)
    around = [(size // 2, size // 2)] * 2 if padding == "centred" else "SAME"
    grouped = jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), around, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=3
    )
    close(depthwise(jnp.asarray(x), jnp.asarray(kernel), stride, padding), np.asarray(grouped))


def test_low_rank_depthwise_weights_are_refused_by_name(lite: Model):
    method = ft.lora("encoder/layer_1/depthwise/kernel", rank=1)
    bound = method.bind(*method.init(jax.random.key(0), lite.params))
    with pytest.raises(TypeError, match="no rule for the structured weight LowRank"):
        jax.eval_shape(lite.apply, bound, {"pixels": np.zeros((1, 32, 32, 3), np.float32)})


def trained(update_stats: bool) -> tuple[Model, dict, dict]:
    """A ResNet after one step of everything; its params before and after, by path."""
    model, batch, _ = golden("resnet_basic", update_stats=update_stats)
    step = ft.make_step(model.apply, ft.full(), ft.cross_entropy(), optax.adamw(1e-2, weight_decay=0.5))
    frozen, state = step.init(jax.random.key(0), model.params, batch | {"labels": np.array([0, 1, 2])})
    state, _ = jax.jit(step.update)(frozen, state, batch | {"labels": np.array([0, 1, 2])})
    after = ft.join(state.stats, ft.full().bind(frozen.model, state.delta))
    return model, leaf_paths(model.params), leaf_paths(after)


def is_statistic(path: str) -> bool:
    return path.endswith(("/mean", "/var"))


def test_running_statistics_stay_unless_asked():
    _, before, after = trained(update_stats=False)
    assert before.keys() == after.keys()
    for path in before:
        assert np.array_equal(before[path], after[path]) == is_statistic(path), path


def test_running_statistics_move_towards_the_batch():
    model, before, after = trained(update_stats=True)
    assert all(not np.array_equal(before[path], after[path]) for path in before)
    pixels = golden("resnet_basic")[1]["pixels"]
    kernel = before["stem/kernel"]
    maps = jax.lax.conv_general_dilated(
        pixels, kernel, (2, 2), [(3, 3)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    ).reshape(-1, kernel.shape[-1])
    close(after["stem/norm/mean"], np.asarray(0.9 * before["stem/norm/mean"] + 0.1 * maps.mean(axis=0)))
    close(after["stem/norm/var"], np.asarray(0.9 * before["stem/norm/var"] + 0.1 * maps.var(axis=0, ddof=1)))
    outputs = jax.eval_shape(partial(model.apply, train=True), model.params, {"pixels": pixels})
    assert outputs.stats["stem"]["norm"].keys() == {"mean", "var"}


def test_only_nets_with_statistics_update_them():
    with pytest.raises(InputError, match="a vit has no running statistics"):
        golden("vit_classify", update_stats=True)


@pytest.mark.parametrize(
    ("name", "pixels", "message"),
    [
        ("vit_classify", (2, 20, 12, 3), r"\[batch, 12, 20, 3\]; got \[2, 20, 12, 3\]"),
        ("vit_nobias", (2, 15, 15, 3), r"\[batch, 15, 15, 1\]"),
        ("resnet_basic", (32, 32, 3), r"\[batch, height, width, 3\]; got \[32, 32, 3\]"),
        ("dinov2_resized", (2, 13, 12, 3), "multiples of 4; got 13 by 12"),
    ],
)
def test_pixels_of_another_shape_are_refused(name: str, pixels: tuple[int, ...], message: str):
    model = golden(name)[0]
    with pytest.raises(InputError, match=message):
        model.apply(model.params, {"pixels": np.zeros(pixels, np.float32)})


def test_levels_are_no_pixels():
    model, expected = golden("resnet_basic")[:2]
    with pytest.raises(InputError, match=r"got uint8: normalise the images"):
        model.apply(model.params, {"pixels": np.zeros(expected["pixels"].shape, np.uint8)})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of a small ResNet that a test may change."""
    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(GOLDEN / "resnet_basic" / name, copy / name)
    return copy


@pytest.mark.parametrize(
    ("fields", "mean", "std"),
    [
        ({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.25]}, (0.1, 0.2, 0.3), (0.5, 0.5, 0.25)),
        ({"image_mean": 127.5, "image_std": 127.5, "do_rescale": False}, (0.5,) * 3, (0.5,) * 3),
        ({"do_normalize": False}, (0.0,) * 3, (1.0,) * 3),
        ({}, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_preprocessing_is_read_and_comes_back(directory: Path, fields: dict, mean: tuple, std: tuple):
    (directory / "preprocessor_config.json").write_text(json.dumps({"resample": 3} | fields))
    model = load_model(directory, task="classify")
    np.testing.assert_allclose([model.config.mean, model.config.std], [mean, std], rtol=1e-6)
    save_model(model, directory.parent / "saved")
    again = load_model(directory.parent / "saved", task="features")
    np.testing.assert_allclose([again.config.mean, again.config.std], [mean, std], rtol=1e-6)
    assert json.loads((directory.parent / "saved" / "preprocessor_config.json").read_text())["resample"] == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_mean": [0.5, 0.5]}, "has 2 values but the model reads 3 channels"),
        ({"image_std": [0.5, 0.0, 0.5]}, "must be positive"),
        ({"image_mean": "grey"}, "must be a number for each channel; got 'grey'"),
    ],
)
def test_damaged_preprocessing_is_refused(directory: Path, fields: dict, message: str):
    (directory / "preprocessor_config.json").write_text(json.dumps(fields))
    with pytest.raises(InputError, match=message):
        load_model(directory, task="classify")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depths": [2, 1]}, r"differ in length: \[6, 8, 10\], \[2, 1\]"),
        ({"depths": [2, 0, 2]}, "depths in config.json must be whole numbers from 1 up"),
        ({"layer_type": "botleneck"}, "bottleneck"),
    ],
)
def test_damaged_configurations_are_refused(directory: Path, fields: dict, message: str):
    raw = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(raw | fields))
    with pytest.raises(InputError, match=message):
        load_model(directory, task="classify")
