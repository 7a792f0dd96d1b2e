"""The Neocognitron against Fukushima 1980: its cells, its competition, its learning."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from filled import abstract, logits_shape

from cnnjax.data import digits
from cnnjax.errors import ShapeError
from cnnjax.models.neocognitron import (
    c_cells,
    falling,
    neocognitron,
    reinforce,
    representatives,
    s_cells,
    self_organise,
    shunting_input,
)

RNG = np.random.default_rng(0)
SMALL = {
    "input_shape": (8, 8, 1), "planes": (4, 6), "s_windows": (3, 3), "c_windows": (3, 3),
    "c_strides": (1, 2), "selectivity": (4.0, 1.5), "rates": (1.0, 16.0), "column": 3,
}  # fmt: skip


def images(*shape):
    return RNG.uniform(size=shape).astype(np.float32)


def called(function, *args, **options):
    """`function` compiled as a whole; the answer in NumPy."""
    return jax.device_get(jax.jit(partial(function, **options))(*args))


def test_s_cells_are_shunted_as_the_formula_says():
    x, kernel, b = images(1, 5, 6, 2), images(3, 3, 2, 4), images(4)
    y = called(s_cells, x, kernel, b, selectivity=3.0, spread=0.8)
    v = called(shunting_input, x, window=3, spread=0.8)
    padded = np.pad(np.asarray(x[0], np.float64), ((1, 1), (1, 1), (0, 0)))
    c = falling(3, 0.8) / 2
    assert c[1, 1] / c[0, 0] == pytest.approx(0.8 ** -(2**0.5))
    for i in range(5):
        for j in range(6):
            patch = padded[i : i + 3, j : j + 3]
            root = np.sqrt((c[:, :, None] * patch**2).sum())
            assert v[0, i, j, 0] == pytest.approx(root, rel=1e-5)
            for k in range(4):
                e = (kernel[..., k] * patch).sum()
                h = 2 * 3.0 / (1 + 3.0) * float(b[k]) * root
                expected = 3.0 * max((1 + e) / (1 + h) - 1, 0)
                assert y[0, i, j, k] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_c_cells_sum_their_plane_and_are_inhibited_by_all():
    s = images(1, 6, 6, 3) * np.float32([2.0, 1.0, 0.1])
    y = called(c_cells, s, window=3, stride=2, blur=0.9, saturation=0.5)
    assert y.shape == (1, 3, 3, 3)
    padded = np.pad(np.asarray(s[0], np.float64), ((1, 1), (1, 1), (0, 0)))
    d = falling(3, 0.9)[:, :, None] * 9
    for i in range(3):
        for j in range(3):
            e = (d * padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3]).sum((0, 1))
            rest = np.maximum((1 + e) / (1 + e.mean()) - 1, 0)
            np.testing.assert_allclose(y[0, i, j], rest / (0.5 + rest), rtol=1e-4, atol=1e-6)


def test_a_trained_cell_fires_by_similarity_whatever_the_contrast():
    pattern = images(3, 3, 1)
    # Many reinforcements.
    big = np.float32(1e4 * falling(3, 0.9)[:, :, None] * pattern)[..., None]
    v = called(shunting_input, pattern[None], window=3, spread=0.9)[0, 1, 1, 0]
    inhibition = np.float32([1e4 / 2 * v])
    cells = jax.jit(partial(s_cells, selectivity=4.0, spread=0.9))

    def answer(x):
        return float(np.asarray(cells(x[None], big, inhibition))[0, 1, 1, 0])

    # cosine 1 against the threshold 4 / 5: 4 * (2 / (8 / 5) - 1) in the limit.
    assert answer(pattern) == pytest.approx(1.0, rel=1e-2)
    assert answer(np.float32(0.3) * pattern) == pytest.approx(1.0, rel=1e-2)
    other = np.zeros((3, 3, 1), np.float32)
    other[0, 0] = 1
    assert answer(other) == 0


def test_one_representative_per_plane_and_no_rival_near_it():
    s = np.zeros((7, 7, 3), np.float32)
    s[1, 1, 0] = 5  # the strongest of its columns
    s[2, 2, 1] = 4  # in the same column as the winner above, but also in columns without it
    s[1, 1, 2] = 1  # every column that holds it holds the winner of plane 0
    s[5, 5, 0] = 3  # a candidate of plane 0, which has a better one
    choose = jax.jit(partial(representatives, column=3))
    positions, found = jax.device_get(choose(s))
    assert found.tolist() == [True, True, False]
    assert positions[0].tolist() == [1, 1]
    assert positions[1].tolist() == [2, 2]
    _, found = choose(np.zeros_like(s))
    assert not np.any(jax.device_get(found))


def test_reinforcement_teaches_the_winner_what_it_saw_and_nobody_else():
    x = np.zeros((7, 7, 1), np.float32)
    x[2:5, 3] = 1
    none = np.zeros(2, np.float32)
    start = images(3, 3, 1, 2) * np.float32([2e-3, 1e-3])
    kernel, inhibition = called(
        reinforce, start, none, x, selectivity=4.0, spread=0.9, rate=8.0, column=13
    )
    s = called(s_cells, x[None], start, none, selectivity=4.0, spread=0.9)[0]
    i, j, plane = np.unravel_index(np.argmax(s), s.shape)
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    patch, c = padded[i : i + 3, j : j + 3], falling(3, 0.9)[:, :, None]
    np.testing.assert_allclose(
        kernel[..., plane] - start[..., plane], 8 * c * patch, rtol=1e-4, atol=1e-6
    )
    assert inhibition[plane] == pytest.approx(8 / 2 * np.sqrt((c * patch**2).sum()), rel=1e-5)
    np.testing.assert_array_equal(kernel[..., 1 - plane], start[..., 1 - plane])
    assert inhibition[1 - plane] == 0


def test_an_empty_image_teaches_nothing():
    start = images(3, 3, 1, 2)
    ones, empty = np.ones(2, np.float32), np.zeros((7, 7, 1), np.float32)
    kernel, inhibition = called(
        reinforce, start, ones, empty, selectivity=4.0, spread=0.9, rate=1.0, column=3
    )
    np.testing.assert_array_equal(kernel, start)
    np.testing.assert_array_equal(inhibition, ones)


def test_planes_organise_themselves_into_the_patterns_shown():
    """Vertical and horizontal bars in turn, without labels: one plane comes to each."""
    bars = np.zeros((2, 7, 7, 1), np.float32)
    bars[0, 1:6, 3], bars[1, 3, 1:6] = 1, 1
    bars = jnp.asarray(bars)
    one_level = {k: v[:1] for k, v in SMALL.items() if isinstance(v, tuple)}
    module = neocognitron(**{**one_level, "input_shape": (7, 7, 1), "column": 7})
    variables = jax.jit(module.init)(jax.random.key(0), bars)
    before = jax.tree.map(np.array, variables)
    learned = self_organise(module, variables, bars, epochs=10)
    jax.tree.map(np.testing.assert_array_equal, before, variables)  # nothing changed in place
    again = self_organise(module, variables, bars, epochs=10)
    jax.tree.map(np.testing.assert_array_equal, learned, again)
    jax.tree.map(np.testing.assert_array_equal, learned["params"], variables["params"])
    start, state = (jax.device_get(v["fixed"]["features"]["level1"]) for v in (variables, learned))
    s = called(s_cells, bars, state["kernel"], state["inhibition"], selectivity=4.0, spread=0.9)
    upright, flat = s.max((1, 2)).argmax(-1)
    growth = (state["kernel"] - start["kernel"])[:, :, 0]
    assert upright != flat
    # What grew is a piece of the bar: several rows of one column, several columns of one row.
    assert [np.any(growth[..., upright], axis=i).sum() > 1 for i in (0, 1)] == [False, True]
    assert [np.any(growth[..., flat], axis=i).sum() > 1 for i in (0, 1)] == [True, False]


def test_no_gradient_reaches_the_s_cells():
    variables = abstract(neocognitron(), (1, 28, 28, 1))
    assert set(variables["params"]) == {"classifier"}
    shapes = {n: v["kernel"].shape for n, v in variables["fixed"]["features"].items()}
    assert shapes == {
        "level1": (5, 5, 1, 24), "level2": (5, 5, 24, 24), "level3": (5, 5, 24, 24)
    }  # fmt: skip


def test_the_slope_on_an_empty_image_is_finite():
    kernel, b = images(3, 3, 1, 2), images(2)

    def fired(x, kernel, b):
        return s_cells(x, kernel, b, selectivity=4.0, spread=0.9).sum()

    slope = called(jax.grad(fired), np.zeros((1, 4, 4, 1), np.float32), kernel, b)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_images_of_common_sizes_fit(shape):
    assert logits_shape(neocognitron(input_shape=shape), (2, *shape)) == (2, 10)


def test_levels_that_do_not_match_are_refused():
    with pytest.raises(ShapeError, match="2 levels of planes, but 3 s_windows"):
        neocognitron(planes=(8, 8))
    with pytest.raises(ShapeError, match="must be odd"):
        neocognitron(c_windows=(4, 5, 5))


def test_a_linear_readout_of_it_beats_pixels_on_digits_shifted_by_a_pixel():
    """Ridge regression on the unshifted digits, in a frame that a shift does not leave."""
    sets = [digits().split(name) for name in ("train", "test")]
    frames = [np.pad(s.images[:360] / np.float32(255), ((0, 0), (1, 1), (1, 1), (0, 0)))
              for s in sets]  # fmt: skip
    labels = [s.labels[:360] for s in sets]
    module = neocognitron(
        **{**SMALL, "input_shape": (10, 10, 1), "planes": (16, 48), "s_windows": (3, 5)}
    )
    variables = jax.jit(module.init)(jax.random.key(0), frames[0][:1])
    learned = self_organise(module, variables, jnp.asarray(frames[0]))
    apply = jax.jit(module.features.apply)

    def shifted_accuracy(read):
        x = read(frames[0])
        mean, deviation = x.mean(0), x.std(0) + 1e-3
        x = (x - mean) / deviation
        dual = np.linalg.solve(x @ x.T + 100 * np.eye(len(x)), np.eye(10)[labels[0]] - 0.1)
        shifts = [(-1, 0), (1, 0), (0, -1), (0, 1)]
        moved = [(read(np.roll(frames[1], s, (1, 2))) - mean) / deviation for s in shifts]
        return np.mean([np.argmax(m @ (x.T @ dual), 1) == labels[1] for m in moved])

    def features(images):
        base = {"fixed": learned["fixed"]["features"]}
        return np.asarray(apply(base, jnp.asarray(images))).reshape(len(images), -1)

    pixels = shifted_accuracy(lambda images: images.reshape(len(images), -1))
    found = shifted_accuracy(features)
    print(f"shifted by one pixel: pixels {pixels:.3f}, neocognitron {found:.3f}")
    assert found > pixels + 0.15
