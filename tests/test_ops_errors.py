"""What a user reads where sizes do not fit."""

import jax.numpy as jnp
import pytest

from cnnjax import ops
from cnnjax.errors import ShapeError, SpecError

x, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 6))
labels, logits = jnp.array([0]), jnp.ones((1, 3))

SHAPE_ERRORS = {
    "the map vanishes: a window of 9x9 does not fit a map of 8x8": lambda: ops.conv(
        x, jnp.ones((9, 9, 4, 6)), padding="VALID"
    ),
    "a window of 3x3, dilated to 3x11, does not fit a map of 8x8 padded by ((1, 1), (1, 1))": (
        lambda: ops.conv(x, kernel, padding=1, dilation=(1, 5))
    ),
    "the map vanishes: a window of 3 does not fit a map of 2": lambda: ops.output_size(2, 3),
    "the map vanishes: a window of 9x2 does not fit a map of 8x8": (
        lambda: ops.max_pool(x, (9, 2), ceil_mode=True)
    ),
    "the kernel takes 3 input channels, the input has 4": (
        lambda: ops.conv(x, jnp.ones((3, 3, 3, 6)))
    ),
    "the kernel takes 4 input channels, the input has 2 (of 4 in 2 groups)": (
        lambda: ops.conv(x, kernel, groups=2)
    ),
    "3 groups do not divide 4 input and 6 output channels": (lambda: ops.conv(x, kernel, groups=3)),
    "0 groups do not divide 4": lambda: ops.conv(x, kernel, groups=0),
    "a kernel of (3, 4, 6) has 1 spatial axes, the input of (1, 8, 8, 4) has 2": (
        lambda: ops.conv(x, jnp.ones((3, 4, 6)))
    ),
    "conv needs (n, 1 to 3 spatial axes, channels), not an input of (8, 4)": (
        lambda: ops.conv(jnp.ones((8, 4)), jnp.ones((4, 6)))
    ),
    "the pointwise kernel must be 1x1, not (3, 3, 4, 6)": (
        lambda: ops.separable_conv(x, jnp.ones((3, 3, 1, 4)), kernel)
    ),
    "the connection table is (2, 6), the kernel's channels are (4, 6)": (
        lambda: ops.connection_conv(x, kernel, [[True] * 6] * 2)
    ),
    "unknown padding 'same'. Did you mean 'SAME'? Known paddings: SAME, VALID.": (
        lambda: ops.conv(x, kernel, padding="same")
    ),
    "padding (1, 2, 3) does not fit 2 spatial axes": (
        lambda: ops.conv(x, kernel, padding=(1, 2, 3))
    ),
    "padding ((1, 2, 3), (1, 2, 3)) does not fit 2 spatial axes": (
        lambda: ops.conv(x, kernel, padding=((1, 2, 3), (1, 2, 3)))
    ),
    "padding must not be negative: (-1, 0)": lambda: ops.conv(x, kernel, padding=(-1, 0)),
    "padding must be at least 0 on every axis, not -1x-1": (
        lambda: ops.conv(x, kernel, padding=-1)
    ),
    "stride must be at least 1 on every axis, not 0x1": (
        lambda: ops.conv(x, kernel, stride=(0, 1))
    ),
    "stride (1, 2, 3) has 3 numbers for 2 spatial axes": (
        lambda: ops.max_pool(x, 2, stride=(1, 2, 3))
    ),
    "padding (3, 3) holds a whole pooling window of 3: its output would see no input": (
        lambda: ops.avg_pool(x, 3, padding=3)
    ),
    "pooling needs (n, spatial axes, channels), not an input of (8, 4)": (
        lambda: ops.global_avg_pool(jnp.ones((8, 4)))
    ),
    "pooling needs (n, spatial axes, channels), not an input of (1, 0, 4)": (
        lambda: ops.global_max_pool(jnp.ones((1, 0, 4)))
    ),
    "output_size must be at least 1 on every axis, not 0x0": (lambda: ops.adaptive_avg_pool(x, 0)),
    "3 groups do not divide 4 channels": lambda: ops.group_norm(x, groups=3),
    "local response norm needs a window of at least 1 channel, not 0": (
        lambda: ops.local_response_norm(x, size=0)
    ),
    "batch statistics need more values per channel than (1, 4) holds": (
        lambda: ops.batch_norm_train(x[0, 0, :1], jnp.ones(4), jnp.ones(4), unbiased=True)
    ),
    "top-5 of 3 classes": lambda: ops.top_k_correct(logits, labels, 5),
    "top-0 of 3 classes": lambda: ops.top_k(logits, 0),
}

SPEC_ERRORS = {
    "label_smoothing must lie in [0, 1], not 1.5": (
        lambda: ops.cross_entropy(logits, labels, label_smoothing=1.5)
    ),
    "ignore_index needs labels that are class numbers, not probabilities": (
        lambda: ops.cross_entropy(logits, logits, ignore_index=-1)
    ),
}


@pytest.mark.parametrize("message", SHAPE_ERRORS)
def test_sizes_that_do_not_fit_are_named(message):
    with pytest.raises(ShapeError) as caught:
        SHAPE_ERRORS[message]()
    assert message in str(caught.value)


@pytest.mark.parametrize("message", SPEC_ERRORS)
def test_options_that_cannot_be_are_named(message):
    with pytest.raises(SpecError) as caught:
        SPEC_ERRORS[message]()
    assert message in str(caught.value)
