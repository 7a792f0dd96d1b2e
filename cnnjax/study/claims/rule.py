"""The rule of the verdict, on one interval of a paired difference.

`effect` is the measure of the arm that is claimed to be worse less that of the better one, so that
a positive effect is in the claimed direction; `low` and `high` are its 95 % t interval over seeds;
`smallest` > 0 is the smallest effect of interest, fixed beforehand.

A claim that one arm is better is

- reproduced where the whole interval lies above zero and the effect is at least `smallest`;
- contradicted where the whole interval lies below `smallest`: every effect of interest in the
  claimed direction is excluded (one half of the two one-sided tests of equivalence, each at 2.5 %).
  An interval wholly below zero is the stronger case of it;
- else inconclusive. So is an interval above zero whose estimate is smaller than `smallest` while
  larger effects are not excluded: the direction is shown, its size is not.

A claim of no difference is the other side of the same coin. It is reproduced where a claim of a
difference would be contradicted in both directions, which puts the whole interval within
+-`smallest` (both one-sided tests); contradicted where such a claim would be reproduced in one of
them; else inconclusive.

A censored measure ("at least so many steps") is smaller than the truth. Where that of the worse arm
is censored the effect is at least what it seems, and cannot contradict; where that of the better
arm is, it is at most that, and cannot reproduce. Either leaves a claim of no difference
inconclusive. Fewer than two pairs of seeds have no interval: inconclusive.
"""

from dataclasses import dataclass
from typing import Literal

from cnnjax.study.stats import Effect

Outcome = Literal["reproduced", "contradicted", "inconclusive"]


@dataclass(frozen=True)
class Ruling:
    """An outcome and why."""

    outcome: Outcome
    reason: str


def rule(
    effect: Effect,
    smallest: float,
    kind: Literal["lower", "equal"] = "lower",
    *,
    better_censored: bool = False,
    worse_censored: bool = False,
) -> Ruling:
    """The ruling on one contrast, as this module's docstring has it."""
    if effect.difference is None or effect.low is None or effect.high is None:
        return Ruling("inconclusive", f"{effect.n} pair of seeds gives no interval")
    if kind == "equal":
        found = _equal(effect.difference, effect.low, effect.high, smallest)
        if better_censored or worse_censored:
            return Ruling("inconclusive", "some runs never reached the threshold")
        return found
    found = _lower(effect.difference, effect.low, effect.high, smallest)
    if found.outcome == "contradicted" and worse_censored:
        return Ruling(
            "inconclusive", "the effect is a lower bound: runs of the worse arm never got there"
        )
    if found.outcome == "reproduced" and better_censored:
        return Ruling(
            "inconclusive", "the effect is an upper bound: runs of the better arm never got there"
        )
    return found


def _lower(effect: float, low: float, high: float, smallest: float) -> Ruling:
    if high < 0:
        return Ruling("contradicted", "the interval lies on the other side of zero")
    if high < smallest:
        return Ruling("contradicted", "the interval excludes the smallest effect of interest")
    if low > 0 and effect >= smallest:
        return Ruling("reproduced", "the interval lies on the claimed side of zero")
    if low > 0:
        return Ruling(
            "inconclusive", "the direction is shown, but not that it is of an interesting size"
        )
    return Ruling("inconclusive", "the interval holds zero and effects of interest")


def _equal(effect: float, low: float, high: float, smallest: float) -> Ruling:
    outcomes = {_lower(effect, low, high, smallest).outcome,
                _lower(-effect, -high, -low, smallest).outcome}  # fmt: skip
    if "reproduced" in outcomes:
        return Ruling("contradicted", "there is a difference of an interesting size")
    if outcomes == {"contradicted"}:
        return Ruling("reproduced", "the interval lies within the smallest effect of interest")
    return Ruling("inconclusive", "the interval reaches beyond the smallest effect of interest")


def together(outcomes: list[Outcome]) -> Outcome:
    """A claim holds where every part holds, and falls with any part that is contradicted."""
    if "contradicted" in outcomes:
        return "contradicted"
    return "inconclusive" if not outcomes or "inconclusive" in outcomes else "reproduced"
