"""Small archives in the layout of the published ones, for preparing data sets from them."""

import gzip
import hashlib
import io
import struct
import tarfile

import numpy as np
import scipy.io
from PIL import Image

from cnnjax.data.prepare import Original

RNG = np.random.default_rng(0)
IMAGENETTE = ("n01440764", "n02102040", "n03888257")


def pixels(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def encoded(array, kind="jpeg", mode=None):
    target = io.BytesIO()
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(target, kind)
    return target.getvalue()


def tar(members, mode="w"):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def idx(array):
    head = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(head + array.tobytes())


def mat(**arrays):
    target = io.BytesIO()
    scipy.io.savemat(target, arrays)
    return target.getvalue()


def mnist():
    files = {}
    for prefix, count in (("train", 20), ("t10k", 10)):
        files[f"{prefix}-images-idx3-ubyte.gz"] = idx(pixels(count, 28, 28))
        files[f"{prefix}-labels-idx1-ubyte.gz"] = idx(np.arange(count, dtype=np.uint8) % 10)
    return files


def _cifar(name, batches, labels_per_image, names):
    members = {}
    for batch in batches:
        rows = [pixels(10, 3072)]
        for column in range(labels_per_image):
            rows.insert(0, (np.arange(10, dtype=np.uint8) * (column + 1) % 10)[:, None])
        members[f"{name}/{batch}.bin"] = np.concatenate(rows, 1).tobytes()
    members |= {f"{name}/{file}": "\n".join(words).encode() for file, words in names.items()}
    return tar(members, "w:gz")


def cifar10():
    batches = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    names = {"batches.meta.txt": [f"kind{i}" for i in range(10)]}
    return {"cifar-10-binary.tar.gz": _cifar("cifar-10-batches-bin", batches, 1, names)}


def cifar100():
    names = {
        "coarse_label_names.txt": [f"group{i}" for i in range(20)],
        "fine_label_names.txt": [f"kind{i}" for i in range(100)],
    }
    return {"cifar-100-binary.tar.gz": _cifar("cifar-100-binary", ["train", "test"], 2, names)}


def svhn_cropped():
    labels = np.arange(1, 11, dtype=np.uint8)[:, None]  # 10 stands for the digit 0
    return {
        f"{split}_32x32.mat": mat(X=pixels(32, 32, 3, 10), y=labels)
        for split in ("train", "test", "extra")
    }


def imagenette():
    members = {
        f"imagenette2-160/{split}/{kind}/{split}_{kind}_{i}.JPEG": encoded(pixels(20, 30 + i, 3))
        for split in ("train", "val")
        for kind in IMAGENETTE
        for i in range(2)
    }
    return {"imagenette2-160.tgz": tar(members, "w:gz")}


def oxford_flowers102():
    members = {f"jpg/image_{i:05d}.jpg": encoded(pixels(40, 30, 3)) for i in range(1, 7)}
    return {
        "102flowers.tgz": tar(members, "w:gz"),
        "imagelabels.mat": mat(labels=np.array([[1, 2, 3, 102, 5, 6]])),
        "setid.mat": mat(trnid=[[1, 2]], valid=[[3, 4]], tstid=[[5, 6]]),
    }


def imagenet2012():
    train = {
        # Two of the pictures that are not RGB JPEGs in the published archive.
        "n01739381": {
            "n01739381_1.JPEG": encoded(pixels(30, 40, 3)),
            "n01739381_1309.JPEG": encoded(pixels(30, 40, 3), mode="CMYK"),
        },
        "n02105855": {"n02105855_2933.JPEG": encoded(pixels(30, 40, 3), "png")},
    }
    validation = {f"ILSVRC2012_val_{i:08d}.JPEG": encoded(pixels(30, 40, 3)) for i in (1, 2, 3)}
    return {
        "ILSVRC2012_img_train.tar": tar({f"{k}.tar": tar(v) for k, v in train.items()}),
        "ILSVRC2012_img_val.tar": tar(validation),
    }


def write(folder, files):
    """Put `files` into `folder`; their sizes and sums, as `prepare` takes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {
        name: Original(len(content), hashlib.sha256(content).hexdigest())
        for name, content in files.items()
    }
