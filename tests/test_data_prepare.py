"""Preparing and reading TFDS sets: no TensorFlow, no network, only the published files."""

import dataclasses
import gzip
import hashlib
import io
import pickle
import shutil
import subprocess
import sys

import fsspec
import numpy as np
import originals
import pytest
import scipy.io
from PIL import Image

from cnnjax import __main__ as command_line
from cnnjax.data import DATASETS, Resident, tfds_dataset
from cnnjax.data.idx import read_idx
from cnnjax.data.prepare import FILES, Original, check_file, prepare, restore_gzip_headers
from cnnjax.data.standin import tensorflow_standin
from cnnjax.errors import DataError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Each set prepared once from small archives: (data_dir, the files it came from)."""
    root = tmp_path_factory.mktemp("tfds")
    done = {}

    def get(name, make):
        if name not in done:
            files = make()
            source = root / "originals" / name
            expected = originals.write(source, files)
            prepare(name, str(source), str(root), expected=expected, say=str)
            done[name] = files
        return str(root), done[name]

    return get


def everything(split):
    return split.gather(np.arange(len(split)))


def by_label(images, labels):
    return images[np.argsort(labels, kind="stable")]


@pytest.mark.parametrize("name", ["mnist", "kmnist", "fashion_mnist"])
def test_the_mnist_family_is_prepared_from_its_four_idx_files(prepared, name):
    data_dir, files = prepared(name, originals.mnist)
    dataset = DATASETS[name](data_dir)
    assert dataset.sizes == {"train": 20, "test": 10}
    assert dataset.shape == (28, 28, 1)
    assert len(dataset.class_names) == 10
    images, labels = everything(dataset.split("test"))
    expected = np.frombuffer(
        gzip.decompress(files["t10k-images-idx3-ubyte.gz"]), np.uint8, offset=16
    ).reshape(10, 28, 28)
    assert sorted(labels) == list(range(10))
    assert (by_label(images, labels)[..., 0] == expected).all()


def test_cifar10_is_prepared_from_its_archive(prepared):
    data_dir, _ = prepared("cifar10", originals.cifar10)
    dataset = DATASETS["cifar10"](data_dir)
    assert dataset.sizes == {"train": 50, "test": 10}
    assert dataset.class_names == tuple(f"kind{i}" for i in range(10))
    images, labels = everything(dataset.split("train[:50%]+test"))
    assert images.shape == (35, 32, 32, 3)
    assert images.dtype == np.uint8
    assert images.std() > 60
    assert labels.dtype == np.int32


def test_cifar100_is_read_with_fine_or_coarse_labels(prepared):
    data_dir, _ = prepared("cifar100", originals.cifar100)
    fine, coarse = (DATASETS["cifar100"](data_dir, labels=kind) for kind in ("fine", "coarse"))
    assert (fine.num_classes, coarse.num_classes) == (100, 20)
    # In the file image i has coarse label 2 i and fine label i, modulo 10.
    one, two = everything(fine.split("test"))[1], everything(coarse.split("test"))[1]
    assert (two == one * 2 % 10).all()


def test_svhn_is_prepared_from_its_three_mat_files(prepared):
    data_dir, files = prepared("svhn_cropped", originals.svhn_cropped)
    dataset = DATASETS["svhn_cropped"](data_dir)
    assert dataset.sizes == {"train": 10, "test": 10, "extra": 10}
    assert dataset.default_splits == {"train": "train", "test": "test"}
    images, labels = everything(dataset.split("test"))
    published = scipy.io.loadmat(io.BytesIO(files["test_32x32.mat"]))["X"]
    assert (images[labels == 0][0] == published[..., 9]).all()


def test_imagenette_is_prepared_and_resized_as_it_is_read(prepared):
    data_dir, _ = prepared("imagenette/160px-v2", originals.imagenette)
    dataset = DATASETS["imagenette"](data_dir, config="160px-v2", image_size=16)
    assert dataset.sizes == {"train": 6, "validation": 6}
    assert dataset.default_splits == {"train": "train", "test": "validation"}
    images, labels = everything(dataset.split("train"))
    assert images.shape == (6, 16, 16, 3)
    assert np.bincount(labels).max() == 2
    with pytest.raises(DataError, match=r"say which: imagenette/160px-v2"):
        tfds_dataset("imagenette", data_dir)
    with pytest.raises(DataError, match=r"Give dataset\.image_size"):
        tfds_dataset("imagenette/160px-v2", data_dir)


def test_oxford_flowers_have_their_own_three_splits(prepared):
    data_dir, _ = prepared("oxford_flowers102", originals.oxford_flowers102)
    dataset = DATASETS["oxford_flowers102"](data_dir, image_size=8)
    assert dataset.sizes == {"train": 2, "test": 2, "validation": 2}
    assert set(dataset.default_splits) == {"train", "validation", "test"}
    assert sorted(everything(dataset.split("validation"))[1]) == [2, 101]


def test_imagenet_is_prepared_with_its_odd_pictures_as_rgb(prepared):
    data_dir, _ = prepared("imagenet2012", originals.imagenet2012)
    dataset = DATASETS["imagenet2012"](data_dir, image_size=24, shorter_side=28)
    assert dataset.sizes == {"train": 3, "validation": 3}
    assert dataset.num_classes == 1_000
    split = dataset.split("train")
    images, labels = everything(split)
    assert images.shape == (3, 24, 24, 3)
    for record in (split.source[i] for i in range(3)):
        with Image.open(io.BytesIO(record["image"])) as picture:
            assert (picture.format, picture.mode) == ("JPEG", "RGB")
    assert sorted(dataset.class_names[label] for label in labels) == [
        "n01739381",
        "n01739381",
        "n02105855",
    ]


def test_reading_and_preparing_leave_tensorflow_out(prepared):
    prepared("cifar10", originals.cifar10)
    assert "tensorflow" not in sys.modules


def test_the_standin_goes_when_its_block_ends():
    with tensorflow_standin():
        assert sys.modules["tensorflow"].compat.as_text(b"a") == "a"
    assert "tensorflow" not in sys.modules


def test_any_prepared_set_is_read_by_its_tfds_name(prepared):
    data_dir, _ = prepared("cifar10", originals.cifar10)
    dataset = DATASETS["tfds"](data_dir, dataset="cifar10:3.0.2", label_key="label")
    assert dataset.shape == (32, 32, 3)
    with pytest.raises(DataError, match="no feature 'lable'"):
        tfds_dataset("cifar10", data_dir, label_key="lable")
    with pytest.raises(DataError, match="'id' is not a class label"):
        tfds_dataset("cifar10", data_dir, label_key="id")
    with pytest.raises(DataError, match="unknown split 'trian'"):
        dataset.split("trian")
    with pytest.raises(DataError, match=r"cifar10:9\.9\.9 is not prepared"):
        tfds_dataset("cifar10:9.9.9", data_dir)


def test_a_split_travels_to_worker_processes(prepared):
    data_dir, _ = prepared("cifar10", originals.cifar10)
    split = DATASETS["cifar10"](data_dir).split("train")
    copy = pickle.loads(pickle.dumps(split))
    assert all(
        np.array_equal(a, b) for a, b in zip(everything(copy), everything(split), strict=True)
    )


def test_a_small_prepared_set_is_decoded_once(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path))
    data_dir, _ = prepared("cifar10", originals.cifar10)
    dataset = DATASETS["cifar10"](data_dir)
    split = dataset.split("train")
    expected = everything(split)

    def read(split):
        resident = Resident.read(split, seed=0, batch_size=8)
        return resident.images, resident.labels

    assert all(np.array_equal(a, b) for a, b in zip(read(split), expected, strict=True))
    assert split.nbytes == expected[0].nbytes
    # Kept: a source that can no longer be read gives the same, but another split does not.
    blind = dataclasses.replace(split, source=range(len(split)))
    assert all(np.array_equal(a, b) for a, b in zip(read(blind), expected, strict=True))
    first, last = (read(dataset.split(text)) for text in ("train[:25]", "train[25:]"))
    assert (np.concatenate([first[0], last[0]]) == expected[0]).all()
    # A kept file that is damaged is not believed.
    for file in (tmp_path / "decoded").iterdir():
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    assert all(np.array_equal(a, b) for a, b in zip(read(split), expected, strict=True))


def test_the_command_decodes_a_small_set_ahead(prepared, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path))
    data_dir, _ = prepared("cifar10", originals.cifar10)
    assert command_line.main(["data", "prepare", "cifar10", "--data-dir", data_dir]) == 0
    assert "cifar10: train, test decoded" in capsys.readouterr().out
    split = DATASETS["cifar10"](data_dir).split("train")
    blind = dataclasses.replace(split, source=range(len(split)))
    resident = Resident.read(blind, seed=0, batch_size=8)
    assert np.array_equal(resident.images, everything(split)[0])


def test_a_set_of_pictures_of_many_sizes_waits_for_its_experiment(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path))
    name = "imagenette/160px-v2"
    data_dir, _ = prepared(name, originals.imagenette)
    assert command_line.main(["data", "prepare", name, "--data-dir", data_dir]) == 0
    assert not (tmp_path / "decoded").exists()


def test_a_cache_that_cannot_be_written_is_done_without(prepared, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "file"))
    split = DATASETS["cifar10"](prepared("cifar10", originals.cifar10)[0]).split("test")
    assert len(Resident.read(split, seed=0, batch_size=8)) == 10


@pytest.mark.parametrize("name", [name for name in FILES if "/" not in name])
def test_a_set_that_is_not_prepared_is_reported_with_its_command(name, tmp_path):
    with pytest.raises(DataError) as error:
        DATASETS[name](str(tmp_path))
    assert str(error.value) == (
        f"{name} is not prepared in {tmp_path}. Prepare it with: "
        f"cnnjax data prepare {name} --from DIR (where its original files are)."
    )


def test_the_default_data_dir_is_that_of_tfds(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match=r"not prepared in .*elsewhere"):
        DATASETS["cifar10"](None)


def test_a_set_in_a_bucket_is_copied_once_and_read(prepared, tmp_path, monkeypatch):
    data_dir, _ = prepared("cifar10", originals.cifar10)
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "cache"))
    bucket = fsspec.filesystem("memory")
    bucket.put(f"{data_dir}/cifar10", "/bucket/tfds/cifar10", recursive=True)
    dataset = DATASETS["cifar10"]("memory://bucket/tfds")
    local = everything(DATASETS["cifar10"](data_dir).split("test"))
    assert all(
        np.array_equal(a, b) for a, b in zip(everything(dataset.split("test")), local, strict=True)
    )
    copies = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.*")}
    DATASETS["cifar10"]("memory://bucket/tfds")
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.*")} == copies
    with pytest.raises(DataError, match="mnist is not prepared in memory://bucket/tfds"):
        DATASETS["mnist"]("memory://bucket/tfds")


def test_a_missing_shard_is_reported(prepared, tmp_path):
    data_dir, _ = prepared("mnist", originals.mnist)
    shutil.copytree(f"{data_dir}/mnist", tmp_path / "mnist")
    next(tmp_path.rglob("*train*array_record*")).unlink()
    with pytest.raises(DataError, match=r"mnist-train\.array_record.* is missing"):
        DATASETS["mnist"](str(tmp_path))


def test_files_that_are_not_the_published_ones_are_refused(tmp_path):
    originals.write(tmp_path / "from", originals.cifar10())
    size = (tmp_path / "from" / "cifar-10-binary.tar.gz").stat().st_size
    with pytest.raises(DataError) as error:
        prepare("cifar10", str(tmp_path / "from"), str(tmp_path / "to"), say=str)
    assert f"cifar-10-binary.tar.gz: expected 170,052,171 bytes, found {size:,}." in str(
        error.value
    )
    assert list((tmp_path / "to").iterdir()) == []


def test_a_file_of_the_right_size_and_other_content_is_refused(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"content")
    wanted = hashlib.sha256(b"CONTENT").hexdigest()
    found = hashlib.sha256(b"content").hexdigest()
    with pytest.raises(DataError) as error:
        check_file(tmp_path / "a.bin", Original(7, wanted))
    assert str(error.value) == f"{tmp_path}/a.bin: expected SHA-256 {wanted}, found {found}."


def test_missing_files_are_named_with_what_was_found(tmp_path):
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "cifar-10-python.tar.gz").touch()
    with pytest.raises(DataError) as error:
        prepare("cifar10", str(tmp_path / "from"), str(tmp_path / "to"), say=str)
    assert str(error.value) == (
        f"{tmp_path}/from: expected cifar-10-binary.tar.gz, 170,052,171 bytes (published at "
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz); found cifar-10-python.tar.gz."
    )
    with pytest.raises(DataError, match=r"give --from DIR, .* holds cifar-10-binary\.tar\.gz"):
        prepare("cifar10", None, str(tmp_path / "to"), say=str)
    with pytest.raises(DataError, match="no such folder"):
        prepare("cifar10", str(tmp_path / "none"), str(tmp_path / "to"), say=str)


def test_images_of_another_shape_are_refused(tmp_path):
    files = originals.mnist()
    files["train-images-idx3-ubyte.gz"] = originals.idx(originals.pixels(20, 14, 14))
    expected = originals.write(tmp_path / "from", files)
    with pytest.raises(DataError, match=r"expected images \(n, 28, 28\).*found \(20, 14, 14\)"):
        prepare("mnist", str(tmp_path / "from"), str(tmp_path / "to"), expected=expected, say=str)


def test_a_name_that_tfds_does_not_know_is_a_typo(tmp_path):
    with pytest.raises(
        DataError, match=r"TFDS knows no data set 'cifar11'\. Did you mean 'cifar10'"
    ):
        prepare("cifar11", str(tmp_path), str(tmp_path), say=str)


def test_a_file_that_only_the_network_has_is_refused_at_once(tmp_path):
    (tmp_path / "from").mkdir()
    with pytest.raises(DataError, match=r"expected flower_photos\.tgz \(published at"):
        prepare("tf_flowers", str(tmp_path / "from"), str(tmp_path / "to"), say=str)


def test_a_set_that_is_there_is_not_prepared_again(prepared):
    data_dir, _ = prepared("mnist", originals.mnist)
    said = []
    place = prepare("mnist", None, data_dir, say=said.append)
    assert said == [f"mnist is already prepared: {place}"]


def test_the_command_says_what_is_wrong_and_exits_with_2(tmp_path):
    command = [sys.executable, "-m", "cnnjax.data.prepare", "mnist", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("DataError: mnist: give --from DIR, the folder that holds train-")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00", "not an IDX file of unsigned bytes"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x05ab", r"sizes \[5\] need 5 bytes, found 2"),
        (gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x01a")[:-6], "damaged gzip file"),
    ],
    ids=["type", "length", "gzip"],  # the bytes of a gzip file hold the time
)
def test_damaged_idx_files_are_refused(content, message, tmp_path):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / "x")


def test_a_stripped_gzip_header_is_put_back_as_published(tmp_path):
    body = b"\x00\x00\x08\x01\x00\x00\x00\x01a"
    published = {}
    for name in FILES["fashion_mnist"]:
        (tmp_path / name).write_bytes(gzip.compress(body, mtime=0))
        published[name] = Original(1_000, "")
    restored = restore_gzip_headers(tmp_path, published, tmp_path / "restored")
    content = (restored / "t10k-labels-idx1-ubyte.gz").read_bytes()
    # RFC 1952: magic, deflate, FNAME; the time; extra flags and Unix; the name and a zero.
    assert content[:4] == b"\x1f\x8b\x08\x08"
    assert int.from_bytes(content[4:8], "little") == 1_504_176_627
    assert content[10:].startswith(b"t10k-labels-idx1-ubyte\x00")
    assert gzip.decompress(content) == body


def test_the_standin_encodes_pictures_without_loss():
    array = originals.pixels(5, 6, 3)
    with tensorflow_standin():
        content = sys.modules["tensorflow"].image.encode_png(array).numpy()
    assert (np.asarray(Image.open(io.BytesIO(content))) == array).all()
