"""The same seed, step and row see the same pixels; what a transform keeps is exact."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft import InputError
from jaxft.data import (
    arrays,
    augmented,
    batches,
    eval_batches,
    evaluation_transform,
    image_arrays,
    training_transform,
    views,
)

PLAIN = {"mean": 0.0, "std": 1 / 255}


def images(rows=7, height=12, width=12, channels=3):
    return np.random.default_rng(0).integers(0, 256, (rows, height, width, channels), dtype=np.uint8)


def stream(seed=0, order=0, **changes):
    data = image_arrays(images(), labels=np.arange(7))
    transform = training_transform(**({"size": 8, "jitter": 0.4} | changes))
    return augmented(batches(data, batch_size=3, seed=order), transform, seed=seed)


def test_a_resumed_run_sees_the_same_pixels():
    first, fresh = stream(), stream()
    seen = list(itertools.islice(first, 8))
    for step in (7, 2, 5):
        np.testing.assert_array_equal(fresh[step]["pixels"], seen[step]["pixels"])
        np.testing.assert_array_equal(fresh[step]["labels"], seen[step]["labels"])
    assert first.steps_per_epoch == 3
    np.testing.assert_array_equal(next(fresh.epoch(2))["pixels"], seen[6]["pixels"])


def test_steps_rows_and_seeds_see_different_crops():
    data = image_arrays(np.repeat(images(1), 4, axis=0))
    cut = batches(data, batch_size=4, seed=0)
    transform = training_transform(size=8)
    seen = [augmented(cut, transform, seed=seed)[step]["pixels"] for seed in (0, 1) for step in (0, 1)]
    crops = np.concatenate(seen)
    assert len({crop.tobytes() for crop in crops}) == len(crops)


def test_the_order_of_rows_is_that_of_the_batches():
    data = image_arrays(images(), labels=np.arange(7))
    cut = batches(data, batch_size=3, seed=5)
    whole = augmented(cut, evaluation_transform(size=12, **PLAIN))[1]
    np.testing.assert_allclose(whole["pixels"], images()[whole["labels"]].astype(np.float32), atol=1e-4)
    np.testing.assert_array_equal(whole["mask"], cut[1]["mask"])


def test_evaluation_is_in_order_and_ends():
    data = image_arrays(images(5, channels=1), labels=np.arange(5))
    found = augmented(eval_batches(data, batch_size=2), evaluation_transform(size=12, **PLAIN))
    assert len(found) == len(list(found)) == 3
    pixels = np.concatenate([batch["pixels"][batch["mask"]] for batch in found])
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, np.repeat(images(5, channels=1), 3, axis=-1).astype(np.float32), atol=1e-4)
    with pytest.raises(IndexError):
        found[3]


def test_normalisation_is_per_channel():
    transform = evaluation_transform(size=2, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    white = transform(np.full((2, 2, 3), 255, np.uint8), np.random.default_rng(0))
    np.testing.assert_allclose(white[0, 0], [1.0, 1.0, 0.0])
    lite = evaluation_transform(size=2, mean=127 / 255, std=128 / 255)
    np.testing.assert_allclose(lite(np.full((2, 2, 1), 255, np.uint8), np.random.default_rng(0)), 1.0, rtol=1e-6)


def test_the_middle_is_kept_at_evaluation():
    picture = np.zeros((10, 30, 3), np.uint8)
    picture[:, 10:20] = 255
    found = evaluation_transform(size=10, **PLAIN)(picture, np.random.default_rng(0))
    np.testing.assert_allclose(found, 255.0, rtol=1e-5)
    assert evaluation_transform(size=25, **PLAIN)(picture, np.random.default_rng(0)).shape == (25, 25, 3)


def test_flips_happen_as_often_as_said():
    picture = images(1)[0]
    whole = {"size": 12, "scale": (1.0, 1.0), "ratio": (1.0, 1.0), **PLAIN}
    for flip, want in ((0.0, 0), (1.0, 200), (0.5, 100)):
        transform = training_transform(flip=flip, **whole)
        rng = np.random.default_rng(1)
        flipped = 0
        for _ in range(200):
            found = transform(picture, rng)
            mirrored = np.abs(found - picture[:, ::-1]).max() < 0.01
            assert mirrored or np.abs(found - picture).max() < 0.01
            flipped += mirrored
        assert abs(flipped - want) <= (25 if 0 < flip < 1 else 0)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), channels=st.sampled_from([1, 3]), seed=st.integers(0, 10**6)
)
def test_crops_of_any_image_have_the_size_and_its_colours(height, width, channels, seed):
    picture = np.full((height, width, channels), 128, np.uint8)
    found = training_transform(size=6, **PLAIN)(picture, np.random.default_rng(seed))
    assert found.shape == (6, 6, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 128, rtol=1e-5)


def test_jitter_changes_colours_within_its_range():
    grey = np.full((4, 4, 3), 100, np.uint8)
    transform = training_transform(size=4, jitter=0.2, **PLAIN)
    rng = np.random.default_rng(0)
    values = [transform(grey, rng)[0, 0] for _ in range(50)]
    # Contrast and saturation do nothing to one grey; brightness is uniform.
    assert 79.9 < np.min(values) < 85
    assert 115 < np.max(values) < 120.1
    np.testing.assert_allclose(np.ptp(values, axis=1), 0, atol=1e-3)


def test_views_of_images_run_side_by_side():
    both = views(source=stream(), target=stream(order=1))
    assert both[4]["target"]["pixels"].shape == (3, 8, 8, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "size must be a whole number of pixels"),
        ({"scale": (0.0, 1.0)}, r"scale must be two numbers above 0, in order and none above 1.0, got \(0.0, 1.0\)"),
        ({"scale": (0.5, 1.1)}, "scale must be"),
        ({"scale": (0.9, 0.5)}, "scale must be"),
        ({"ratio": (2.0, 1.0)}, "ratio must be"),
        ({"flip": 1.5}, "flip must be from 0 to 1, got 1.5"),
        ({"jitter": -0.1}, "jitter must be from 0 to 1"),
        ({"std": 0.0}, "each std above 0"),
        ({"mean": (0.1, 0.2)}, "one number or three"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        training_transform(**({"size": 8} | changes))


def test_other_columns_and_seeds_are_refused():
    data = image_arrays(images())
    transform = evaluation_transform(size=8)
    for seed in (-1, 1.5, True):
        with pytest.raises(InputError, match="seed must be an integer from 0"):
            augmented(batches(data, batch_size=2, seed=0), transform, seed=seed)
    for columns, found in (
        ({"x": np.ones(3)}, "got none"),
        ({"pixels": np.ones((3, 8, 8, 3))}, r"got \[3, 8, 8, 3\] of float32"),
        ({"pixels": np.ones((3, 8), np.uint8)}, r"got \[3, 8\] of uint8"),
    ):
        with pytest.raises(InputError, match=found):
            augmented(batches(arrays(columns), batch_size=2, seed=0), transform)
