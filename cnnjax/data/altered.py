"""A split whose images are altered when they are read, the same way every time."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int64

from cnnjax.data.augment import Augment, augment_batch
from cnnjax.data.sources import Images, Labels, Split


@dataclass(frozen=True, eq=False)
class AugmentedSplit:
    """`split` through `augments`: what is drawn for an image depends on its index alone.

    No seed of a run enters, so that networks trained from different seeds are scored on the same
    altered images.
    """

    split: Split
    augments: Sequence[Augment]

    def __len__(self) -> int:
        return len(self.split)

    @property
    def nbytes(self) -> int:
        return self.split.nbytes

    def gather(self, indices: Int64[np.ndarray, " k"]) -> tuple[Images, Labels]:
        images, labels = self.split.gather(indices)
        positions = jnp.asarray(np.asarray(indices).astype(np.uint32))
        altered = augment_batch(self.augments, jax.random.key(0), positions, jnp.asarray(images))
        return np.asarray(altered), labels

    def shape_of(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of an image of `shape` once it is altered; nothing is computed."""
        image = jax.ShapeDtypeStruct((1, *shape), np.uint8)
        position = jax.ShapeDtypeStruct((1,), np.uint32)
        out = jax.eval_shape(
            lambda p, x: augment_batch(self.augments, jax.random.key(0), p, x), position, image
        )
        return tuple(out.shape[1:])
