"""What a sliding window sees, by walking it over a padded map: the tests' own definition."""

import numpy as np
from hypothesis import assume, settings
from hypothesis import strategies as st

few = settings(max_examples=20, deadline=None, derandomize=True, database=None)


def starts_of(size, window, stride, dilation, before, after, ceil_mode=False):
    """Where windows start on a padded axis, by walking along it."""
    reach, padded = dilation * (window - 1) + 1, before + size + after
    starts = [p for p in range(0, padded, stride) if p + reach <= padded]
    if ceil_mode and starts and starts[-1] + reach < padded:
        beyond = starts[-1] + stride
        starts += [beyond] if beyond < before + size else []
    return starts


def sides_of(padding, size, window, stride, dilation):
    """`padding` spelled out; SAME is what makes ceil(size / stride) windows, the odd one after."""
    if padding == "VALID":
        return [(0, 0)] * len(size)
    if padding == "SAME":
        sides = []
        for n, k, s, d in zip(size, window, stride, dilation, strict=True):
            total = 0
            while len(starts_of(n, k, s, d, 0, total)) < np.ceil(n / s):
                total += 1
            sides.append((total // 2, total - total // 2))
        return sides
    per_axis = [padding] * len(size) if isinstance(padding, int) else padding
    return [(p, p) if isinstance(p, int) else tuple(p) for p in per_axis]


def windows_of(geometry, ceil_mode=False):
    """Each output's index and, per axis, the positions of its taps on the padded map."""
    size, window, stride, dilation, sides = geometry
    axes = [
        [[p + t * d for t in range(k)] for p in starts_of(n, k, s, d, *side, ceil_mode=ceil_mode)]
        for n, k, s, d, side in zip(size, window, stride, dilation, sides, strict=True)
    ]
    shape = tuple(map(len, axes))
    return shape, [(i, [a[j] for a, j in zip(axes, i, strict=True)]) for i in np.ndindex(*shape)]


def padded_map(x, sides, value):
    return np.pad(x, [(0, 0), *sides, (0, 0)], constant_values=value)


@st.composite
def geometries(draw, *, dilated=True, covered=False):
    """(padding as given, (size, window, stride, dilation, sides)) of one to three axes."""
    rank = draw(st.integers(1, 3))

    def numbers(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    size, window, stride = numbers(2, 11 - 2 * rank), numbers(1, 3), numbers(1, 3)
    dilation = numbers(1, 2) if dilated else (1,) * rank
    symmetric, after = numbers(0, 2), numbers(0, 2)
    padding = draw(
        st.sampled_from(
            [
                "SAME",
                "VALID",
                symmetric[0],
                symmetric,
                tuple(zip(symmetric, after, strict=True)),
            ]
        )
    )
    sides = sides_of(padding, size, window, stride, dilation)
    reaches = [d * (k - 1) for d, k in zip(dilation, window, strict=True)]
    rooms = zip(size, reaches, sides, strict=True)
    assume(all(n + sum(side) > reach for n, reach, side in rooms))
    assume(not covered or all(max(s) <= r for s, r in zip(sides, reaches, strict=True)))
    return padding, (size, window, stride, dilation, sides)


def random(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)
