"""Linen modules that own parameters, over the primitives of `cnnjax.ops`; component tables.

Every layer computes in the dtype of its input: parameters are kept in float32 and cast on use, so
bfloat16 (or float64) compute is chosen by casting the images, nowhere else.
"""

from cnnjax.layers.conv import Conv, ConvUnit, Dense, FactoredConv, Factorization, SeparableConv
from cnnjax.layers.named import (
    INITIALIZERS,
    Activation,
    ActivationName,
    Initializer,
    InitializerName,
    activation,
    initializer,
    scaled,
    stem_of,
)
from cnnjax.layers.network import (
    Dropout,
    Network,
    PooledReadout,
    capture,
    flatten,
    offer_auxiliary,
    wants_auxiliary,
)
from cnnjax.layers.norm import (
    NORMS,
    BatchNorm,
    GroupNorm,
    Identity,
    LayerNorm,
    LocalResponseNorm,
    NormFactory,
    NormName,
    norm_factory,
)
from cnnjax.layers.pool import GlobalPool, Pool, PoolName

__all__ = [
    "INITIALIZERS", "NORMS", "Activation", "ActivationName", "BatchNorm", "Conv", "ConvUnit",
    "Dense", "Dropout", "FactoredConv", "Factorization", "GlobalPool", "GroupNorm", "Identity",
    "Initializer", "InitializerName", "LayerNorm", "LocalResponseNorm", "Network", "NormFactory",
    "NormName", "Pool", "PoolName", "PooledReadout", "SeparableConv", "activation", "capture",
    "flatten", "initializer", "norm_factory", "offer_auxiliary", "scaled", "stem_of",
    "wants_auxiliary",
]  # fmt: skip
