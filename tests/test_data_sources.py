"""Data sets in memory: the bundled two, .npz files, arrays, and split strings."""

import hashlib
import inspect
import struct
from importlib import resources

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cnnjax.data import DATASETS, arrays, digits, fashion_mnist_12k, from_arrays
from cnnjax.data.shipped import FASHION_CLASSES, pack_fashion, unpack_fashion
from cnnjax.data.splits import resolve_split
from cnnjax.errors import DataError

SIZES = {"train": 1_234, "test": 17}


def test_fashion_mnist_12k_has_a_thousand_and_two_hundred_of_each_class():
    dataset = fashion_mnist_12k()
    train, test = dataset.split("train"), dataset.split("test")
    assert np.bincount(train.labels).tolist() == [1_000] * 10
    assert np.bincount(test.labels).tolist() == [200] * 10
    assert dataset.shape == train.images.shape[1:] == (28, 28, 1)
    assert dataset.class_names[0] == "T-shirt/top"
    assert dataset.class_names[9] == "Ankle boot"


def test_fashion_mnist_12k_is_the_published_pixels():
    # Of the raw rows of the first 1,000 training and 200 test images per class of the IDX files.
    content = fashion_mnist_12k().split("train+test")
    digest = hashlib.sha256(content.labels.astype(np.uint8).tobytes() + content.images.tobytes())
    assert digest.hexdigest() == "b27160246f759addb54f492c639077be17d812979f923b94c507c84788f534f6"
    # The well-known mean and standard deviation of the whole training set are 0.2860 and 0.3530.
    train = fashion_mnist_12k().split("train").images / 255
    assert abs(train.mean() - 0.2860) < 0.002
    assert abs(train.std() - 0.3530) < 0.002


def test_the_12k_content_is_rebuilt_from_idx_files(tmp_path):
    rng = np.random.default_rng(0)
    published = {}
    for prefix, per_class in (("train", 1_050), ("t10k", 210)):
        labels = rng.permutation(np.repeat(np.arange(10, dtype=np.uint8), per_class))
        images = rng.integers(0, 256, (len(labels), 28, 28), np.uint8)
        published[prefix] = images, labels
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (tmp_path / f"{prefix}-{kind}-ubyte").write_bytes(head + array.tobytes())
    packed = unpack_fashion(pack_fashion(tmp_path))
    for split, prefix, count in (("train", "train", 1_000), ("test", "t10k", 200)):
        images, labels = published[prefix]
        counts = dict.fromkeys(range(10), 0)
        rows = []
        for row, label in enumerate(labels):
            if counts[int(label)] < count:
                counts[int(label)] += 1
                rows.append(row)
        assert (packed[split].labels == labels[rows]).all()
        assert (packed[split].images[..., 0] == images[rows]).all()


def test_digits_are_the_1797_optdigits_cut_at_1437():
    dataset = digits()
    assert dataset.sizes == {"train": 1_437, "test": 360}
    both = dataset.split("all")
    # Published class counts of optdigits.tes.
    assert np.bincount(both.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert both.images.min() == 0
    assert both.images.max() == 255
    first = [0, 0, 5, 13, 9, 1, 0, 0]  # the first line of the first digit, a zero
    assert both.images[0, 0, :, 0].tolist() == [round(count * 255 / 16) for count in first]
    assert both.labels[0] == 0


def test_the_licences_lie_beside_the_bundled_files():
    folder = resources.files("cnnjax.data") / "bundled"
    assert "Zalando SE" in (folder / "fashion_mnist_12k.LICENSE.txt").read_text()
    assert "CC BY 4.0" in (folder / "digits.LICENSE.txt").read_text()


def test_a_split_gathers_the_rows_asked_for():
    split = digits().split("train[100:200]")
    images, labels = split.gather(np.array([5, 0, 5]))
    whole = digits().split("train")
    assert (images == whole.images[[105, 100, 105]]).all()
    assert (labels == whole.labels[[105, 100, 105]]).all()
    assert labels.dtype == np.int32
    assert (len(split), split.nbytes) == (100, 6_400)


def test_bundled_arrays_cannot_be_written_into():
    with pytest.raises(ValueError, match="read-only"):
        digits().split("train").images[0] = 0


@pytest.mark.parametrize(
    "split",
    [
        "train",
        "test",
        "train[:90%]",
        "train[90%:]",
        "train[10%:20%]",
        "train[-10%:]",
        "train[:-25%]",
        "train[33.3%:]",
        "train[100:]",
        "train[:100]",
        "train[-3:]",
        "train[5:-5]",
        "train+test",
        "test[:50%] + train[:3]",
        "all",
    ],
)
def test_split_strings_mean_what_tfds_says(split):
    from tensorflow_datasets.core.splits import AbstractSplit, SplitDict, SplitInfo

    template = tfds.core.ShardedFileTemplate(
        dataset_name="x", data_dir="/nowhere", filetype_suffix="array_record"
    )
    infos = SplitDict(
        [
            SplitInfo(name=name, shard_lengths=[n], num_bytes=0, filename_template=template)
            for name, n in SIZES.items()
        ]
    )
    instructions = AbstractSplit.from_spec(split).to_absolute(infos)
    expected = [
        (each.splitname, each.from_ or 0, SIZES[each.splitname] if each.to is None else each.to)
        for each in instructions
    ]
    positive = [
        (n, a % SIZES[n] if a < 0 else a, b + SIZES[n] if b < 0 else b) for n, a, b in expected
    ]
    assert resolve_split(split, SIZES) == positive


def test_a_percentage_and_its_rest_share_nothing_and_leave_nothing_out():
    for size in (1, 2, 3, 9, 99, 101, 1_437):
        for percent in (10, 33, 50, 90):
            sizes = {"train": size}
            parts = []
            for text in (f"train[:{percent}%]", f"train[{percent}%:]"):
                # A sum, since a part that is empty by itself is refused.
                parts += resolve_split(f"{text}+one", sizes | {"one": 1})[:-1]
            rows = [row for _, low, high in parts for row in range(low, high)]
            assert rows == list(range(size))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("trian", "split 'trian': unknown split 'trian'. "
 "Did you mean 'train'? Splits: test, train."),
        ("train[:0]", "split 'train[:0]' is empty. Splits: train (1,234), test (17)."),
        ("train[1300:]", "split 'train[1300:]' reaches outside the 1,234 examples there are."),
        ("test[:200%]", "split 'test[:200%]' reaches outside the 17 examples there are."),
        ("train[a:b]", "split 'train[a:b]': 'a' is neither a whole number nor a percentage."),
        ("train[1:2:3]", "split 'train[1:2:3]': expected [start:stop], got [1:2:3]."),
        ("train[", "split 'train[': cannot read 'train['. Write a name, a slice such as "
         "'train[:90%]' or 'train[1000:]', or a sum with '+'."),
    ],
)  # fmt: skip
def test_a_split_string_that_cannot_be_says_why(split, message):
    with pytest.raises(DataError) as error:
        resolve_split(split, SIZES)
    assert str(error.value) == message


def test_arrays_of_ones_own_become_a_data_set():
    x = np.arange(4 * 6, dtype=np.uint8).reshape(4, 2, 3)
    dataset = from_arrays(x, np.array([0, 1, 2, 1]), x[:2], np.array([0, 2]))
    assert dataset.shape == (2, 3, 1)
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.default_splits == {"train": "train", "test": "test"}
    assert (dataset.split("train[2:]").images[..., 0] == x[2:]).all()


def test_float_arrays_become_float32_and_signals_keep_their_axes():
    x = np.linspace(0, 1, 4 * 10 * 10).reshape(4, 10, 10)
    dataset = from_arrays(x, np.array([0, 1, 0, 1]), signal=True, class_names=("no", "yes"))
    assert dataset.shape == (10, 10)
    assert dataset.dtype == np.float32
    assert dataset.num_classes == 2
    np.testing.assert_allclose(dataset.split("train").images, x, rtol=1e-6)


def test_an_npz_file_is_a_data_set(tmp_path):
    x = np.zeros((5, 4, 4, 3), np.uint8)
    y = np.array([0, 1, 2, 1, 0])
    np.savez(tmp_path / "my.npz", x_train=x, y_train=y, x_test=x[:1], y_test=y[:1], x_valid=x)
    dataset = arrays(str(tmp_path), path="my.npz", class_names=("a", "b", "c"))
    assert dataset.sizes == {"train": 5, "test": 1}
    assert dataset.shape == (4, 4, 3)
    assert DATASETS["arrays"](None, path=str(tmp_path / "my.npz")).num_classes == 3


@pytest.mark.parametrize(
    ("x", "y", "class_names", "message"),
    [
        (np.zeros((3, 4, 4), np.uint8), [0, 1], None, "has images (3, 4, 4) and labels (2,)"),
        (np.zeros((2, 4), np.uint8), [0, 1], None, "has images (2, 4) and labels (2,)"),
        (np.zeros((2, 4, 4), np.uint8), [0, -1], None, "whole numbers from 0 on"),
        (np.zeros((2, 4, 4), np.int64), [0, 1], None, "images are int64; expected uint8"),
        (np.zeros((2, 4, 4), np.uint8), [0, 2], ("a", "b"), "label 2 stands in the data"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(x, y, class_names, message, tmp_path):
    np.savez(tmp_path / "bad.npz", x_train=x, y_train=np.array(y))
    with pytest.raises(DataError) as error:
        arrays(path=str(tmp_path / "bad.npz"), class_names=class_names)
    assert message in str(error.value)


def test_an_absent_or_wrong_npz_file_is_reported(tmp_path):
    with pytest.raises(DataError, match="no file"):
        arrays(str(tmp_path), path="none.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(DataError, match=r"not an \.npz file of plain arrays"):
        arrays(str(tmp_path), path="text.npz")
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    with pytest.raises(DataError, match="holds images; expected x_train"):
        arrays(str(tmp_path), path="other.npz")


def test_every_class_name_of_fashion_mnist_is_that_of_tfds():
    source = inspect.getsource(tfds.builder_cls("fashion_mnist")._info)
    assert all(f'"{name}"' in source for name in FASHION_CLASSES)
