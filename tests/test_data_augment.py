"""Augmentation on the device: what each does, and that randomness belongs to the position."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnjax.data import AUGMENTS, NORMALIZE, augment_batch, fashion_mnist_12k, normalize, normalizer
from cnnjax.errors import SpecError

KEY = jax.random.key(3)
ALL = {
    "pad_crop": AUGMENTS["pad_crop"](pad=2),
    "flip": AUGMENTS["flip"](),
    "shift": AUGMENTS["shift"](max=1),
    "cutout": AUGMENTS["cutout"](size=4),
    "random_resized_crop": AUGMENTS["random_resized_crop"](),
}


def pictures(n=64, size=9, channels=3):
    return np.random.default_rng(0).integers(1, 256, (n, size, size, channels), np.uint8)


def each(augment, images, seed=0):
    keys = jax.random.split(jax.random.key(seed), len(images))
    return np.asarray(jax.jit(jax.vmap(augment))(keys, jnp.asarray(images)))


def windows(image, pad, fill):
    """Every crop of the old size out of the padded image."""
    height, width, _ = image.shape
    padded = np.full((height + 2 * pad, width + 2 * pad, image.shape[2]), fill, image.dtype)
    padded[pad : pad + height, pad : pad + width] = image
    return {
        (row, column): padded[row : row + height, column : column + width]
        for row in range(2 * pad + 1)
        for column in range(2 * pad + 1)
    }


@pytest.mark.parametrize(
    ("augment", "pad", "fill"),
    [
        (AUGMENTS["pad_crop"](pad=2), 2, 0),
        (AUGMENTS["pad_crop"](pad=1, fill=7), 1, 7),
        (AUGMENTS["shift"](max=1), 1, 0),
    ],
)
def test_pad_crop_and_shift_take_every_window_of_the_padded_image(augment, pad, fill):
    images = pictures(400, size=5)
    found = []
    for image, out in zip(images, each(augment, images), strict=True):
        places = [place for place, crop in windows(image, pad, fill).items() if (crop == out).all()]
        assert len(places) == 1
        found += places
    counts = [found.count(place) for place in windows(images[0], pad, fill)]
    assert min(counts) > 0.3 * len(images) / len(counts)


def test_flip_mirrors_half_of_the_images_left_and_right():
    images = pictures(1_000, size=3)
    out = each(AUGMENTS["flip"](), images)
    mirrored = (out == images[:, :, ::-1]).all((1, 2, 3))
    same = (out == images).all((1, 2, 3))
    assert (mirrored | same).all()
    assert 430 < mirrored.sum() < 570
    assert (each(AUGMENTS["flip"](probability=1.0), images) == images[:, :, ::-1]).all()
    assert (each(AUGMENTS["flip"](probability=0.0), images) == images).all()


@pytest.mark.parametrize("size", [3, 4])
def test_cutout_blanks_one_square_that_may_lie_partly_outside(size):
    images = pictures(500, size=8)
    areas = set()
    for image, out in zip(images, each(AUGMENTS["cutout"](size=size), images), strict=True):
        blank = (out == 0).all(-1)
        assert (out[~blank] == image[~blank]).all()
        rows, columns = np.flatnonzero(blank.any(1)), np.flatnonzero(blank.any(0))
        assert blank[np.ix_(rows, columns)].all()
        assert (np.diff(rows) == 1).all()
        assert max(len(rows), len(columns)) <= size
        areas.add((len(rows), len(columns)))
    assert (size, size) in areas
    assert all(len({area[axis] for area in areas}) > 1 for axis in (0, 1))


def test_random_resized_crop_of_the_whole_image_is_a_plain_resize():
    ramp = np.arange(12, dtype=np.float32)[:, None, None] * np.ones((12, 12, 1), np.float32)
    whole = AUGMENTS["random_resized_crop"](size=6, min_area=1.0, max_aspect=1.0)
    out = np.asarray(whole(KEY, jnp.asarray(ramp)))
    expected = Image.fromarray(ramp[..., 0]).resize((6, 6), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(out[..., 0], np.asarray(expected), atol=1e-5)


def test_random_resized_crop_takes_areas_and_aspects_of_the_stated_range():
    # The image holds its own coordinates, so the crop can be read off its corners.
    side = 64
    row, column = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    image = np.stack([row, column], -1).astype(np.float32)
    crop = AUGMENTS["random_resized_crop"](size=32, min_area=0.25, max_area=0.5, max_aspect=1.5)
    out = each(crop, np.repeat(image[None], 300, 0))
    # The first and last output centres lie (1 - 1/32) of the crop's side apart, but where a filter
    # meets the image's edge and is cut off, which moves them by less than a pixel.
    height = (out[:, -1, 16, 0] - out[:, 0, 16, 0]) * 32 / 31
    width = (out[:, 16, -1, 1] - out[:, 16, 0, 1]) * 32 / 31
    area, aspect = height * width / side**2, width / height
    assert area.min() > 0.24
    assert area.max() < 0.52
    assert 0.34 < area.mean() < 0.41
    assert aspect.min() > 1 / 1.56
    assert aspect.max() < 1.56
    assert abs(np.log(aspect).mean()) < 0.05


def test_random_resized_crop_refuses_an_empty_range():
    with pytest.raises(SpecError, match=r"min_area 0\.5 is above max_area 0\.2"):
        AUGMENTS["random_resized_crop"](min_area=0.5, max_area=0.2)


@pytest.mark.parametrize("name", AUGMENTS)
def test_every_augmentation_keeps_kind_and_shape_by_default(name):
    for kind in (np.uint8, np.float32):
        image = jax.ShapeDtypeStruct((8, 8, 3), kind)
        out = jax.eval_shape(AUGMENTS[name](), KEY, image)
        assert (out.shape, out.dtype) == (image.shape, image.dtype)


@pytest.mark.parametrize("name", AUGMENTS)
def test_every_option_is_keyword_only_typed_and_has_a_default(name):
    for option in inspect.signature(AUGMENTS[name]).parameters.values():
        assert option.kind is option.KEYWORD_ONLY
        assert option.annotation is not option.empty
        assert option.default is not option.empty


@functools.partial(jax.jit, static_argnums=0)
def run(names, key, positions, images):
    return augment_batch([ALL[name] for name in names], key, positions, images)


CHEAP = ("pad_crop", "flip", "cutout")


def test_randomness_is_a_function_of_key_and_position_alone():
    images, places = jnp.asarray(pictures(16)), jnp.arange(100, 116)
    whole = np.asarray(run(tuple(ALL), KEY, places, images))
    order = np.random.default_rng(1).permutation(16)
    assert (np.asarray(run(tuple(ALL), KEY, places[order], images[order])) == whole[order]).all()
    other = jax.random.key(4)
    assert (np.asarray(run(tuple(ALL), other, places, images)) != whole).any((1, 2, 3)).all()
    one = jnp.asarray(np.repeat(pictures(1), 16, 0))
    assert len({each.tobytes() for each in np.asarray(run(tuple(ALL), KEY, places, one))}) == 16


def test_neither_batch_size_nor_devices_change_what_an_example_gets():
    images, places = jnp.asarray(pictures(16)), jnp.arange(100, 116)
    whole = np.asarray(run(CHEAP, KEY, places, images))
    assert (np.asarray(run(CHEAP, KEY, places[4:12], images[4:12])) == whole[4:12]).all()
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    sharded = run(CHEAP, KEY, jax.device_put(places, rows), jax.device_put(images, rows))
    assert len(sharded.sharding.device_set) == 8
    assert (np.asarray(sharded) == whole).all()


def test_the_same_augmentation_twice_draws_twice():
    image = jnp.asarray(np.repeat(pictures(1, size=9), 200, 0))
    twice = run(("flip", "flip"), KEY, jnp.arange(200), image)
    flipped = (np.asarray(twice) != np.asarray(image)).any((1, 2, 3))
    assert 60 < flipped.sum() < 140


def test_no_augmentation_leaves_the_images_as_they_are():
    images = jnp.asarray(pictures(2))
    assert augment_batch([], KEY, jnp.arange(2), images) is images


def test_normalize_is_the_scaled_difference_from_the_mean():
    images = pictures(5)
    mean, sd = NORMALIZE["cifar10"]
    expected = (images.astype(np.float64) / 255 - np.array(mean)) / np.array(sd)
    np.testing.assert_allclose(normalize(jnp.asarray(images), mean, sd), expected, atol=1e-6)
    floats = (images / 255).astype(np.float32)
    np.testing.assert_allclose(normalize(jnp.asarray(floats), mean, sd), expected, atol=1e-6)


def test_lecuns_scale_puts_the_background_at_minus_a_tenth():
    ends = jnp.asarray(np.array([0, 255], np.uint8)[:, None])
    np.testing.assert_allclose(normalizer("lecun1998")(ends)[:, 0], [-0.1, 1.175], atol=1e-6)


def test_fashion_mnist_normalised_by_its_name_has_mean_0_and_sd_1():
    images = jnp.asarray(fashion_mnist_12k().split("train").images)
    out = np.asarray(normalizer("fashion_mnist")(images))
    assert abs(out.mean()) < 0.01
    assert abs(out.std() - 1) < 0.01


def test_normalize_takes_a_pair_and_none_means_as_they_are():
    images = jnp.asarray(pictures(2))
    np.testing.assert_allclose(
        normalizer({"mean": [0.5, 0.5, 0.5], "sd": 0.25})(images),
        np.asarray(images) / 63.75 - 2,
        atol=1e-6,
    )
    assert (np.asarray(normalizer("none")(images)) == np.asarray(images)).all()
    np.testing.assert_allclose(normalizer("unit")(images), np.asarray(images) / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cifar", "dataset.normalize: unknown name 'cifar'. Did you mean 'cifar10'? Known names: "),
        ({"mean": 0.5}, "dataset.normalize: expected the keys mean and sd, got mean."),
        ({"mean": 0.5, "sd": 0.0}, "dataset.normalize: sd must be above 0, got 0.0."),
    ],
)
def test_a_normalisation_that_cannot_be_says_why(how, message):
    with pytest.raises(SpecError) as error:
        normalizer(how)
    assert str(error.value).startswith(message)
