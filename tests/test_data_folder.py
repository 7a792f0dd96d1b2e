"""Folders of pictures, decoding and resizing, and the grid that shows a data set."""

import io

import numpy as np
import originals
import pytest
from PIL import Image

from cnnjax.data import AUGMENTS, digits, folder, from_arrays, show
from cnnjax.data.pictures import decode, encode_png, resize_and_crop
from cnnjax.errors import DataError


def fill(root, splits=("train", "val"), classes=("cat", "dog"), count=8, size=(12, 10)):
    """Each picture is of one colour that tells its split, class and number."""
    for s, split in enumerate(splits):
        for c, kind in enumerate(classes):
            place = root / split / kind
            place.mkdir(parents=True)
            for i in range(count):
                array = np.full((*size, 3), (100 * s, 100 * c, 10 * i), np.uint8)
                (place / f"{i}.png").write_bytes(encode_png(array))
            (place / "notes.txt").write_text("not a picture")
    return root


def test_a_folder_of_splits_and_classes_is_a_data_set(tmp_path):
    dataset = folder(str(fill(tmp_path)))
    assert dataset.class_names == ("cat", "dog")
    assert dataset.shape == (12, 10, 3)
    assert dataset.sizes == {"train": 16, "val": 16}
    assert dataset.default_splits == {"train": "train", "test": "val"}
    split = dataset.split("val")
    images, labels = split.gather(np.arange(len(split)))
    assert (images[:, 0, 0, 0] == 100).all()
    assert (images[:, 0, 0, 1] == 100 * labels).all()
    assert sorted(images[labels == 1][:, 0, 0, 2] // 10) == list(range(8))


def test_a_folder_of_classes_is_one_split_whose_slices_mix_the_classes(tmp_path):
    fill(tmp_path, splits=("",), count=40)
    dataset = folder(None, path=str(tmp_path))
    assert dataset.sizes == {"train": 80}
    first, rest = dataset.split("train[:50%]"), dataset.split("train[50%:]")
    assert set(first.paths) & set(rest.paths) == set()
    assert 8 < (first.labels == 1).sum() < 32
    assert [p.name for p in dataset.split("train").paths] == [
        p.name for p in folder(str(tmp_path)).split("train").paths
    ]


def test_pictures_of_many_sizes_need_image_size(tmp_path):
    fill(tmp_path, splits=("train",))
    odd = tmp_path / "train" / "cat" / "odd.jpg"
    odd.write_bytes(originals.encoded(originals.pixels(30, 20, 3)))
    split = folder(str(tmp_path)).split("train")
    with pytest.raises(DataError, match=r"Give dataset\.image_size to resize them all"):
        split.gather(np.arange(len(split)))
    resized = folder(str(tmp_path), image_size=6, channels=1)
    assert resized.shape == (6, 6, 1)
    images, _ = resized.split("train").gather(np.arange(17))
    assert images.shape == (17, 6, 6, 1)


def test_a_folder_without_pictures_and_a_broken_picture_are_reported(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        folder(str(tmp_path), path="none")
    with pytest.raises(DataError, match="no pictures in"):
        folder(str(tmp_path))
    fill(tmp_path, splits=("train",))
    (tmp_path / "train" / "cat" / "broken.png").write_bytes(b"nothing")
    split = folder(str(tmp_path), image_size=8).split("train")
    with pytest.raises(DataError, match=r"broken\.png: not a picture that can be read"):
        split.gather(np.arange(len(split)))
    with pytest.raises(DataError, match="shorter_side 4 needs an image_size up to that"):
        folder(str(tmp_path), image_size=8, shorter_side=4)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpegs_decode_to_the_pixels_that_pillow_finds(channels):
    content = originals.encoded(np.kron(originals.pixels(6, 7, 3), np.ones((8, 8, 1), np.uint8)))
    with Image.open(io.BytesIO(content)) as picture:
        picture.draft("L" if channels == 1 else "RGB", picture.size)
        expected = np.asarray(picture)
    found = decode(content, channels=channels)
    assert found.shape == (48, 56, channels)
    assert (found == expected.reshape(found.shape)).all()


def test_a_cmyk_jpeg_and_a_grey_png_become_rgb():
    cmyk = originals.encoded(originals.pixels(16, 16, 3), mode="CMYK")
    assert decode(cmyk).shape == (16, 16, 3)
    grey = originals.pixels(5, 4, 1)
    assert (decode(encode_png(grey)) == np.repeat(grey, 3, -1)).all()
    assert (decode(encode_png(grey), channels=1) == grey).all()


def test_the_centre_square_is_resized():
    # Columns 10 to 29 of 40 are the centre square; each holds its own number.
    ramp = np.tile(np.arange(40, dtype=np.uint8)[None, :, None], (20, 1, 3))
    assert (resize_and_crop(ramp, size=20)[0, :, 0] == np.arange(10, 30)).all()
    half = resize_and_crop(ramp, size=10)
    assert np.abs(half[5, :, 0] - np.arange(10.5, 30, 2)).max() <= 1
    # Shorter side to 20 first, then the centre 10: columns 15 to 24, unscaled.
    assert (resize_and_crop(ramp, size=10, shorter_side=20)[0, :, 0] == np.arange(15, 25)).all()


def test_show_writes_raw_and_augmented_pictures_side_by_side(tmp_path):
    augments = [AUGMENTS["flip"](probability=1.0)]
    path = show(
        digits(), tmp_path / "new" / "grid.png", augments=augments, rows=2, columns=2, draws=1
    )
    with Image.open(path) as picture:
        grid = np.asarray(picture.convert("L"))
    # Digits of 8 pixels are enlarged 11 times; the cell starts after the gap and the name.
    raw = grid[24 : 24 + 88 : 11, 6 : 6 + 88 : 11]
    mirrored = grid[24 : 24 + 88 : 11, 6 + 88 + 8 : 6 + 2 * 88 + 8 : 11]
    assert raw.std() > 50
    assert (mirrored == raw[:, ::-1]).all()
    assert grid[6:20, 6:30].min() < 100  # the class's name above
    single = show(digits(), tmp_path / "one.png", rows=1, columns=1)
    with Image.open(single) as picture:
        assert picture.size == (100, 118)


def test_what_is_no_picture_is_not_shown(tmp_path):
    signal = from_arrays(np.zeros((4, 9, 2)), np.array([0, 1, 0, 1]), signal=True)
    with pytest.raises(DataError, match="not the shape of a picture"):
        show(signal, tmp_path / "x.png")
