"""State dicts are read without PyTorch, and a pickle that asks for more than a state dict needs runs nothing."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jaxft import InputError
from jaxft.files import fetch
from jaxft.models.pickled import read_state_dict

GOLDEN = Path(__file__).parents[1] / "golden" / "pickled"
START = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))


def text(word: str) -> bytes:
    return f"V{word}\n".encode()


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(f"I{value}\n".encode() for value in values) + b"t"


def legacy(
    path: Path, offset: int = 0, shape=(2, 2), strides=(2, 1), storage: bytes = b"ctorch\nFloatStorage\n"
) -> Path:
    """A file of one tensor "w" over the four floats 0 to 3, spelled out in the pickle language."""
    held = b"(" + text("storage") + storage + text("0") + text("cpu") + b"I4\ntQ"
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + held + f"I{offset}\n".encode() + numbers(*shape) + numbers(*strides)
    )
    program = b"(dp0\n" + text("w") + tensor + b"I00\nNtRs."
    path.write_bytes(START + program + pickle.dumps(["0"], 2) + struct.pack("<q4f", 4, 0, 1, 2, 3))
    return path


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_the_arrays_are_those_pytorch_wrote(layout):
    with np.load(GOLDEN / "expected.npz") as expected:
        read = read_state_dict(GOLDEN / f"{layout}.pth")
        assert set(read) == set(expected)
        for name, array in read.items():
            assert (array.dtype, array.shape) == (expected[name].dtype, expected[name].shape)
            np.testing.assert_array_equal(array, expected[name])


def test_the_packaged_image_model():
    arrays = read_state_dict(fetch("efficientnet-lite0") / "efficientnet-lite0-57934424.pth")
    assert arrays["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert arrays["_fc.weight"].shape == (1000, 1280)
    learned = [array for name, array in arrays.items() if "running" not in name and "batches" not in name]
    assert sum(array.size for array in learned) == 4_652_008
    assert all((array >= 0).all() for name, array in arrays.items() if name.endswith("running_var"))


class Touch:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path):
    bomb = pickle.dumps({"w": Touch(tmp_path / "ran")}, 2)
    (tmp_path / "bare.pth").write_bytes(bomb)
    (tmp_path / "legacy.pth").write_bytes(START + bomb)
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as made:
        made.writestr("archive/data.pkl", bomb)
    for file in ("bare.pth", "legacy.pth", "zip.pth"):
        with pytest.raises(
            InputError, match=rf"{file} asks for \w+\.system, which no state dict needs: it was not run"
        ):
            read_state_dict(tmp_path / file)
    assert not (tmp_path / "ran").exists()
    pickle.loads(bomb)  # the same bytes do harm elsewhere
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["builtins\neval", "torch\nload", "torch._utils\n_rebuild_tensor", "collections\nOrderedDict.__init__"]
)
def test_any_other_name_is_refused(tmp_path, name):
    (tmp_path / "model.pth").write_bytes(START + f"c{name}\n.".encode())
    with pytest.raises(InputError, match="was not run"):
        read_state_dict(tmp_path / "model.pth")


def test_a_tensor_spelled_out(tmp_path):
    np.testing.assert_array_equal(read_state_dict(legacy(tmp_path / "a.pth"))["w"], [[0, 1], [2, 3]])
    strided = legacy(tmp_path / "b.pth", offset=1, shape=(2,), strides=(2,))
    np.testing.assert_array_equal(read_state_dict(strided)["w"], [1, 3])


@pytest.mark.parametrize(
    "change",
    [
        {"offset": 1},
        {"offset": -1},
        {"strides": (3, 1)},
        {"strides": (-2, 1)},
        {"shape": (1 << 40,), "strides": (0,)},
        {"shape": (4,)},
        {"storage": text("object")},
    ],
)
def test_a_tensor_outside_its_storage_is_damage(tmp_path, change):
    with pytest.raises(InputError, match="is damaged, or no PyTorch state dict"):
        read_state_dict(legacy(tmp_path / "model.pth", **change))


@pytest.mark.parametrize("layout", ["zip", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.98])
def test_a_truncated_file_is_named(tmp_path, layout, share):
    content = (GOLDEN / f"{layout}.pth").read_bytes()
    (tmp_path / "model.pth").write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"model.pth is damaged.*fetch or write it again"):
        read_state_dict(tmp_path / "model.pth")


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3}])
def test_something_else_than_a_state_dict_is_named(tmp_path, content):
    (tmp_path / "model.pth").write_bytes(START + pickle.dumps(content, 2) + pickle.dumps([], 2))
    with pytest.raises(InputError, match=r"no dictionary of tensors|entry 'epoch' is no tensor"):
        read_state_dict(tmp_path / "model.pth")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_state_dict(tmp_path / "model.pth")
