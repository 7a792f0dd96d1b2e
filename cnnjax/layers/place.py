"""Where in a network an error came from."""

from collections.abc import Iterator
from contextlib import contextmanager

import flax.linen as nn

from cnnjax.errors import ShapeError


@contextmanager
def located(module: nn.Module) -> Iterator[None]:
    """Put the layer's path in front of what a primitive says about its sizes."""
    try:
        yield
    except ShapeError as error:
        raise ShapeError(f"{'/'.join(module.path) or type(module).__name__}: {error}") from None
