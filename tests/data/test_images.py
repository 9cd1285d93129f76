"""Image files become RGB without loss or are refused by name."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxft import InputError
from jaxft.data import Table, class_folders, image_arrays, read_image, read_images, vocabulary


def colours(height=8, width=8):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path, array, mode=None, **settings):
    Image.fromarray(array).save(path) if mode is None else Image.fromarray(array).convert(mode).save(path, **settings)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1", "LA"])
def test_modes_that_lose_nothing_are_read(tmp_path, mode):
    array = np.full((6, 8, 3), 255, np.uint8)
    array[:, :4] = 0
    found = read_image(save(tmp_path / "a.png", array, mode))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


def test_colours_are_exact(tmp_path):
    array = colours()
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", array)), array)
    few = np.array([[[255, 0, 7], [3, 200, 0]]] * 2, np.uint8)
    picture = Image.fromarray(few).quantize(2)
    picture.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), np.asarray(picture.convert("RGB")))


def test_transparent_pixels_are_refused(tmp_path):
    array = np.dstack([colours(), np.full((8, 8), 255, np.uint8)])
    array[0, 0, 3] = 254
    with pytest.raises(InputError, match=r"a\.png has transparent pixels"):
        read_image(save(tmp_path / "a.png", array))
    picture = Image.fromarray(colours()).quantize(4)
    picture.save(tmp_path / "p.png", transparency=0)
    with pytest.raises(InputError, match=r"p\.png has transparent pixels"):
        read_image(tmp_path / "p.png")


@pytest.mark.parametrize(("name", "mode"), [("a.jpg", "CMYK"), ("a.tif", "F"), ("a.tif", "I"), ("a.tif", "LAB")])
def test_modes_that_would_lose_are_refused(tmp_path, name, mode):
    if mode == "LAB":
        picture = Image.frombytes("LAB", (8, 8), colours().tobytes())
    else:
        picture = Image.fromarray(colours()).convert("L" if mode in "FI" else "RGB").convert(mode)
    picture.save(tmp_path / name)
    with pytest.raises(InputError, match=f"{name} is {mode}, which does not become 8-bit RGB without loss"):
        read_image(tmp_path / name)


def test_16_bit_images_are_refused(tmp_path):
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match=r"deep\.png is I;16, which does not"):
        read_image(tmp_path / "deep.png")


def png(bits, colour, rows, transparent=b""):
    """A file that Pillow cannot write."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", rows.shape[1], len(rows), bits, colour, 0, 0, 0)
    lines = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows))
    parts = [chunk(b"IHDR", head), chunk(b"tRNS", transparent) if transparent else b""]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IDAT", lines), chunk(b"IEND", b"")])


def test_16_bit_colours_and_transparent_greys_are_refused(tmp_path):
    levels = np.arange(8 * 8 * 3).reshape(8, 8, 3) * 300
    (tmp_path / "rgb.png").write_bytes(png(16, 2, levels))
    with pytest.raises(InputError, match=r"rgb\.png has 16 bits a channel"):
        read_image(tmp_path / "rgb.png")
    (tmp_path / "grey.png").write_bytes(png(16, 0, levels[..., 0], transparent=b"\0\1"))
    with pytest.raises(InputError, match=r"grey\.png is I;16, which does not"):
        read_image(tmp_path / "grey.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.bmp", "a.tif", "a.webp"])
def test_truncated_files_are_named(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(colours(64, 64)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=f"{name} is damaged or not an image"):
        read_image(path)


def test_files_that_are_no_images_are_named(tmp_path):
    (tmp_path / "a.png").write_text("hello", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.png is damaged or not an image that can be read: it is no image"):
        read_image(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"there is no image .*b\.png"):
        read_image(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"c\.png is damaged"):
        read_image(tmp_path / "c.png")


def test_photographs_are_turned_as_the_camera_said(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.fromarray(colours(4, 8)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(colours(4, 8), -1))


def test_folders_are_classes(tmp_path, caplog):
    for label, shapes in {"cat": [(8, 12), (20, 10)], "dog": [(9, 9)]}.items():
        (tmp_path / label).mkdir()
        for number, shape in enumerate(shapes):
            save(tmp_path / label / f"{number}.png", colours(*shape))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("x", encoding="utf-8")
    table = class_folders(tmp_path)
    assert table["label"] == ("cat", "cat", "dog")
    assert "hold 1 entries that are no images" in caplog.text
    assert "notes.txt" in caplog.text
    dataset = read_images(table, size=8, labels=vocabulary(table).ids(table))
    assert dataset.columns["pixels"].shape == (3, 8, 8, 3)
    assert dataset.columns["labels"].tolist() == [0, 0, 1]
    np.testing.assert_array_equal(dataset.columns["pixels"][0], colours(8, 12)[:, 2:10])


def test_names_are_relative_to_the_root(tmp_path):
    save(tmp_path / "a.png", colours())
    dataset = read_images(Table.of({"image": ["a.png"]}), size=8, root=tmp_path)
    np.testing.assert_array_equal(dataset.columns["pixels"][0], colours())
    assert "labels" not in dataset.columns


def test_folders_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no directory"):
        class_folders(tmp_path / "none")
    (tmp_path / "one").mkdir()
    with pytest.raises(InputError, match="has 1 folders; expected one for each"):
        class_folders(tmp_path)
    (tmp_path / "two").mkdir()
    with pytest.raises(InputError, match="one holds no image"):
        class_folders(tmp_path)


def test_tables_that_cannot_be_are_refused():
    for columns, message in (
        ({"path": ["a"]}, "no column 'image'"),
        ({"image": []}, "has no rows"),
        ({"image": [None]}, "'image' must be a file name, but row 1"),
    ):
        with pytest.raises(InputError, match=message):
            read_images(Table.of(columns), size=8)
    with pytest.raises(InputError, match="size must be a whole number of pixels"):
        read_images(Table.of({"image": ["a"]}), size=0)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8), np.float32), "uint8 from 0 to 255, but these are float32"),
        (np.zeros((8, 8), np.uint8), r"got \[8, 8\]"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"got \[2, 8, 8, 4\]"),
        (np.zeros((0, 8, 8), np.uint8), r"got \[0, 8, 8\]"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"got \[2, 3, 8, 8\]"),
    ],
)
def test_arrays_that_are_no_images_are_refused(images, message):
    with pytest.raises(InputError, match=message):
        image_arrays(images)


def test_arrays_of_images_are_copied():
    images = colours()[None]
    dataset = image_arrays(images, labels=[1])
    images[:] = 0
    np.testing.assert_array_equal(dataset.columns["pixels"][0], colours())
    assert dataset.columns["labels"].tolist() == [1]
    with pytest.raises(InputError, match="expected 1 numeric labels"):
        image_arrays(images, labels=[1, 2])
