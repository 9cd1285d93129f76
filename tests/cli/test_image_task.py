"""Images: from folders of files to a finished run, with attention and with convolutions."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from jaxft.cli.rebuild import load_run
from jaxft.models import load_model
from jaxft.trees import leaf_paths
from tests.cli.conftest import write_weights
from tests.cli.test_bad_input import check_refusal
from tests.cli.test_text_tasks import evaluated


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "vit"
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    write_weights(directory, {"model_type": "vit", "image_size": 16, "patch_size": 8, **sizes}, "features")
    return directory


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "resnet"
    sizes = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 2], "layer_type": "bottleneck"}
    write_weights(directory, {"model_type": "resnet", **sizes}, "features")
    return directory


def write_images(directory, rows, seed):
    """Pictures that are bright above, or below."""
    rng = np.random.default_rng(seed)
    for row in range(rows):
        label = ("above", "below")[row % 2]
        pixels = rng.integers(0, 60, (20, 24, 3))
        half = slice(0, 10) if label == "above" else slice(10, 20)
        pixels[half] += 180
        (directory / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(directory / label / f"{row:02}.png")
    return directory


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    return write_images(root / "train", 48, 1), write_images(root / "eval", 16, 2)


@pytest.fixture
def image_words(finetune_words, vit, pictures):
    def words(out, **changes):
        options = {"model": vit, "task": "images", "train": pictures[0], "eval": pictures[1], "max_length": None}
        return finetune_words(out, **{**options, "lr": 0.01, **changes})

    return words


def test_folders_are_classes(jaxft, image_words, pictures, tmp_path):
    run, out = tmp_path / "run", tmp_path / "p.csv"
    ended = jaxft(*image_words(run, epochs=6))
    assert ended.code == 0, ended.err
    figures = evaluated(jaxft, run, pictures[1])
    assert figures["accuracy"] > 0.8
    record = json.loads((run / "run.json").read_text())
    assert (record["labels"], record["configuration"]["image_size"]) == (["above", "below"], 16)
    assert record["data"]["train"]["source"] == str(pictures[0])
    assert "max-length" not in (run / "report.md").read_text()
    assert jaxft("predict", "--run", run, "--data", pictures[1] / "above", "--out", out).code == 0
    with out.open() as file:
        above = [row["label"] == "above" for row in csv.DictReader(file)]
    table = tmp_path / "table.csv"
    files = sorted((pictures[1] / "below").iterdir())
    table.write_text("image\n" + "".join(f"{file}\n" for file in files))
    assert jaxft("predict", "--run", run, "--data", table, "--out", out).code == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [str(file) for file in files]
    right = sum(above) + sum(row["label"] == "below" for row in rows)
    assert right / 16 == pytest.approx(figures["accuracy"])


@pytest.mark.parametrize(
    ("method", "extra"), [pytest.param("lora", {}, marks=pytest.mark.slow), ("top", {"layers": 1})]
)
def test_a_convolutional_net(method, extra, caplog, jaxft, image_words, resnet, tmp_path):
    run = tmp_path / "run"
    ended = jaxft(*image_words(run, model=resnet, method=method, epochs=1, image_size=32, eval=None, **extra))
    assert ended.code == 0, ended.err
    trained = load_run(run)
    pixels = {"pixels": trained.record.task.example(trained.model, trained.record.configuration, 2)["pixels"]}
    expected = trained.model.apply(trained.params, pixels).logits
    learned = {path for path, leaf in leaf_paths(trained.state.delta).items() if leaf is not None}
    if method == "lora":
        names = trained.record.configuration["settings"]["target"]
        assert names == [
            "encoder/**/convolution_0/kernel",
            "encoder/**/convolution_2/kernel",
            "encoder/**/shortcut/kernel",
        ]
        assert "no place for running statistics" in caplog.text
    else:
        assert {path.rpartition("layer_")[0] for path in learned} == {"encoder/stage_1/", ""}
        assert not any(path.endswith(("mean", "var")) for path in learned)
    ended = jaxft("export", "--run", run, "--format", "merged", "--out", tmp_path / "merged")
    assert "random pixels" in ended.out, ended
    merged = load_model(tmp_path / "merged", task="classify")
    np.testing.assert_allclose(merged.apply(merged.params, pixels).logits, expected, atol=1e-5)


def test_bad_images(jaxft, image_words, pictures, inputs, tmp_path):
    broken = write_images(tmp_path / "broken", 4, 0)
    (broken / "above" / "00.png").write_bytes(b"\x89PNG\r\n")
    check_refusal(jaxft(*image_words(tmp_path / "run", train=broken, eval=None)), "00.png is damaged")
    (broken / "above" / "00.png").unlink()
    Image.fromarray(np.zeros((8, 8), np.float32)).save(broken / "above" / "00.tif")
    check_refusal(jaxft(*image_words(tmp_path / "run", train=broken, eval=None)), "00.tif is F", "convert it first")
    table = tmp_path / "missing.csv"
    table.write_text("image,label\nnone.png,above\nnone.png,below\n")
    check_refusal(jaxft(*image_words(tmp_path / "run", train=table, eval=None)), "there is no image", "none.png")
    check_refusal(jaxft(*image_words(tmp_path / "run", image_size=32)), "--image-size 32", "16 x 16")
    check_refusal(jaxft(*image_words(tmp_path / "run", flip=1.5)), "--flip is a share of the images", "got 1.5")
    check_refusal(jaxft(*image_words(tmp_path / "run", train=tmp_path / "none", eval=None)), "none")
    check_refusal(jaxft(*image_words(tmp_path / "run", train=broken / "above", eval=None)), "has 0 folders")
    words = image_words(tmp_path / "run", model=inputs.model)
    check_refusal(jaxft(*words), "reads texts, but --task images is about images")
    words = image_words(tmp_path / "run", task="classify", train=inputs.train, eval=None)
    check_refusal(jaxft(*words), "reads images, but --task classify is about texts")
    assert not (tmp_path / "run").exists()


def test_an_unseen_class(jaxft, image_words, tmp_path):
    other = write_images(tmp_path / "eval", 4, 0)
    (other / "below").rename(other / "beside")
    ended = jaxft(*image_words(tmp_path / "run", eval=other))
    check_refusal(ended, "'beside'", "was not seen in training")
