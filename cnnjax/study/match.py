"""Matched cost: the width at which a network costs what another one does."""

import math
from collections.abc import Callable
from dataclasses import dataclass

WITHIN = 0.01
"""An arm this near its target, relatively, counts as matched."""
ENOUGH = 0.001
"""The search ends where it is this near."""
FINEST = 1e-4
"""Relative resolution of the search."""
NARROWEST, WIDEST = 1 / 64, 64.0
"""How far from where it starts a width is searched, as a factor."""


@dataclass(frozen=True)
class Width:
    """A width, what the network costs there, and how far that is from the target, relatively."""

    value: float
    reached: int
    error: float


def width_for(target: int, count: Callable[[float], int], start: float) -> Width:
    """The width at which `count` is nearest to `target`, by bisection.

    `count` grows with the width in steps, since maps are whole: the two widths between which it
    passes the target are found to within FINEST of each other, and the nearest one seen is taken.
    If `start` is within WITHIN it is kept.
    """
    seen: dict[float, Width] = {}

    def at(value: float) -> Width:
        if value not in seen:
            reached = count(value)
            seen[value] = Width(value, reached, abs(reached - target) / target)
        return seen[value]

    if at(start).error <= WITHIN:
        return at(start)
    # Weights and multiply-adds grow nearly with the square of the width.
    guess = round(start * math.sqrt(target / max(1, at(start).reached)), 4)
    low = high = min(max(guess, start * NARROWEST), start * WIDEST)
    while at(low).reached > target and low > start * NARROWEST:
        low = round(low / 1.1, 4)
    while at(high).reached < target and high < start * WIDEST:
        high = round(high * 1.1, 4)
    while high - low > FINEST * high and min(at(low).error, at(high).error) > ENOUGH:
        middle = round((low + high) / 2, 4)
        if middle in (low, high):
            break
        low, high = (middle, high) if at(middle).reached <= target else (low, middle)
    return min(seen.values(), key=lambda w: (w.error, abs(w.value - start)))
