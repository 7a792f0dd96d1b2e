"""Convolution as CNN papers mean it: cross-correlation, over one, two or three spatial axes."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from cnnjax.errors import ShapeError
from cnnjax.ops import lowering
from cnnjax.ops.window import Padding, PerAxis, output_sizes, pad, pairs, per_axis


def conv(
    x: Float[Array, "n *space c_in"],
    kernel: Float[Array, "*window c_group c_out"],
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_value: float | int = 0.0,
) -> Float[Array, "n *space_out c_out"]:
    """Cross-correlate `x` with `kernel`, the operation CNN papers call convolution.

    The rank says whether it is 1-D, 2-D or 3-D. `groups=2` is AlexNet's two-GPU split,
    `groups=c_in` Xception's depthwise step; group g reads the g-th share of the input channels
    and writes the g-th share of the outputs, so the kernel has c_in / groups input channels.
    ShapeError where ranks, channels or groups do not fit, or no window fits the map.
    """
    rank = x.ndim - 2
    _check(x.shape, kernel.shape, groups)
    size, window = x.shape[1:-1], kernel.shape[:-2]
    strides, dilations = per_axis(stride, rank, "stride"), per_axis(dilation, rank, "dilation")
    sides = pairs(padding, size, window, stride=strides, dilation=dilations)
    output_sizes(size, window, stride=strides, padding=sides, dilation=dilations)
    if padding_value != 0 and any(map(any, sides)):
        x = pad(x, sides, padding_value)
        sides = ((0, 0),) * rank
    return lowering.convolution(x, kernel, strides, sides, dilations, groups)


def depthwise_conv(
    x: Float[Array, "n *space c"],
    kernel: Float[Array, "*window 1 c_out"],
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
) -> Float[Array, "n *space_out c_out"]:
    """Each channel by its own kernels; outputs i*m .. i*m + m-1 come from input channel i.

    m = c_out / c is the depth multiplier (Chollet 2016, sec. 1).
    """
    channels = x.shape[-1]
    return conv(
        x, kernel, stride=stride, padding=padding, dilation=dilation, groups=max(channels, 1)
    )


def separable_conv(
    x: Float[Array, "n *space c"],
    depthwise: Float[Array, "*window 1 c_mid"],
    pointwise: Float[Array, "*ones c_in c_out"],
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
) -> Float[Array, "n *space_out c_out"]:
    """Depthwise, then 1x1 across channels, with nothing between (Chollet 2016, sec. 2 and 4.7)."""
    if any(k != 1 for k in pointwise.shape[:-2]):
        raise ShapeError(f"the pointwise kernel must be 1x1, not {pointwise.shape}")
    y = depthwise_conv(x, depthwise, stride=stride, padding=padding, dilation=dilation)
    return conv(y, pointwise, padding="VALID")


def connection_conv(
    x: Float[Array, "n *space c_in"],
    kernel: Float[Array, "*window c_in c_out"],
    connections: Any,
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
) -> Float[Array, "n *space_out c_out"]:
    """Convolve along the connections of a (c_in, c_out) table of booleans only.

    LeNet-5's layer C3 (LeCun et al. 1998, table I). The kernel is held whole and masked: weights
    of absent connections change nothing and get a gradient of zero.
    """
    table = np.asarray(connections, dtype=bool)
    if table.shape != kernel.shape[-2:]:
        raise ShapeError(
            f"the connection table is {table.shape}, the kernel's channels are {kernel.shape[-2:]}"
        )
    mask = table.reshape((1,) * (kernel.ndim - 2) + table.shape)
    masked = jnp.where(mask, kernel, jnp.zeros((), kernel.dtype))
    return conv(x, masked, stride=stride, padding=padding, dilation=dilation)


def _check(x: tuple[int, ...], kernel: tuple[int, ...], groups: int) -> None:
    """ShapeError unless a kernel of shape `kernel` in `groups` can go over a batch of shape `x`."""
    if not 3 <= len(x) <= 5:
        raise ShapeError(f"conv needs (n, 1 to 3 spatial axes, channels), not an input of {x}")
    if len(kernel) != len(x):
        raise ShapeError(
            f"a kernel of {kernel} has {len(kernel) - 2} spatial axes, "
            f"the input of {x} has {len(x) - 2}"
        )
    c_in, (c_group, c_out) = x[-1], kernel[-2:]
    if groups < 1 or c_in % groups or c_out % groups:
        raise ShapeError(f"{groups} groups do not divide {c_in} input and {c_out} output channels")
    if c_group * groups != c_in:
        wanted = f"{c_in // groups} (of {c_in} in {groups} groups)" if groups > 1 else str(c_in)
        raise ShapeError(f"the kernel takes {c_group} input channels, the input has {wanted}")
