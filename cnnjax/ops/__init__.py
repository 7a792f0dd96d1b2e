"""Pure functions on arrays of shape (n, *space, channels): no state, no classes, `jax.lax` only."""

from cnnjax.ops.conv import connection_conv, conv, depthwise_conv, separable_conv
from cnnjax.ops.pool import (
    adaptive_avg_pool,
    adaptive_max_pool,
    avg_pool,
    global_avg_pool,
    global_max_pool,
    global_min_pool,
    max_pool,
    min_pool,
    subsample,
)
from cnnjax.ops.window import Padding, output_size, output_sizes

__all__ = [
    "Padding",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "avg_pool",
    "connection_conv",
    "conv",
    "depthwise_conv",
    "global_avg_pool",
    "global_max_pool",
    "global_min_pool",
    "max_pool",
    "min_pool",
    "output_size",
    "output_sizes",
    "separable_conv",
    "subsample",
]
