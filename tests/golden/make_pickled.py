"""State dicts in both of PyTorch's layouts, and their arrays. Needs torch: python tests/golden/make_pickled.py."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent / "pickled"


def main() -> None:
    torch.manual_seed(0)
    shared = torch.randn(3, 4)
    layer = torch.nn.BatchNorm1d(2)
    tensors = OrderedDict(
        plain=shared,
        transposed=shared.T,
        part=shared[1:, 1:3],
        half=torch.randn(5).half(),
        brain=torch.randn(2, 2).bfloat16(),
        double=torch.randn(2, dtype=torch.float64),
        counts=torch.arange(3),
        flags=torch.tensor([True, False]),
        scalar=torch.tensor(2.5),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.randn(2)),
        **layer.state_dict(),
    )
    expected = {
        name: (tensor.detach().float() if tensor.is_floating_point() else tensor).numpy()
        for name, tensor in tensors.items()
    }
    HERE.mkdir(exist_ok=True)
    torch.save(tensors, HERE / "zip.pth")
    torch.save(tensors, HERE / "legacy.pth", _use_new_zipfile_serialization=False)
    np.savez(HERE / "expected.npz", **expected)


if __name__ == "__main__":
    main()
