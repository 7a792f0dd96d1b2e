"""What a handful of seeds can say: means, paired differences, corrected p values, power.

Student's t throughout, two-sided. scipy and statsmodels compute; they are imported when called,
because importing them takes longer than most commands.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnjax.errors import SpecError

Number = int | float


@dataclass(frozen=True)
class Summary:
    """`n` values: mean, standard deviation (n - 1) and the interval of the mean.

    `sd`, `low` and `high` are None for a single value, which says nothing of its spread.
    """

    n: int
    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Effect:
    """An arm less its base over the `n` seeds that both have.

    `effect_size` is the mean difference in standard deviations of the differences (Cohen's d_z).
    `smallest` is the smallest difference that n such pairs would have shown with 80 % power at the
    5 % level, in the units of the values. All but `n` and `difference` are None for one pair, and
    `p`, `effect_size` where the differences do not vary, since t is then undefined.
    """

    n: int
    difference: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    effect_size: float | None = None
    smallest: float | None = None


def summarize(values: Sequence[Number], confidence: float = 0.95) -> Summary:
    """Mean, standard deviation and t interval of `values`."""
    if not values:
        raise ValueError("no values to summarize")
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Summary(n, mean)
    sd = _sd(values)
    half = _half_width(n, sd, confidence)
    return Summary(n, mean, sd, mean - half, mean + half)


def paired(
    arm: Mapping[int, Number], base: Mapping[int, Number], confidence: float = 0.95
) -> Effect:
    """The paired t test of two {seed: value}, over the seeds that both have."""
    seeds = sorted(arm.keys() & base.keys())
    n = len(seeds)
    if n == 0:
        return Effect(0, None)
    differences = [arm[s] - base[s] for s in seeds]
    mean = math.fsum(differences) / n
    if n < 2:
        return Effect(n, mean)
    sd = _sd(differences)
    if sd <= 1e-12 * max(abs(v) for s in seeds for v in (arm[s], base[s], 1e-300)):
        return Effect(n, mean, mean, mean)
    from scipy import stats

    half = _half_width(n, sd, confidence)
    test = stats.ttest_rel([arm[s] for s in seeds], [base[s] for s in seeds])
    smallest = effect_for(n, sd, paired=True)
    return Effect(n, mean, mean - half, mean + half, float(test.pvalue), mean / sd, smallest)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979) over the p values that there are; None stays None."""
    from statsmodels.stats.multitest import multipletests

    given = [p for p in ps if p is not None]
    if not given:
        return list(ps)
    corrected = iter(multipletests(given, method="holm")[1].tolist())
    return [None if p is None else next(corrected) for p in ps]


def power_of(
    seeds: Number, effect: Number, sd: Number, *, alpha: float = 0.05, paired: bool = False
) -> float:
    """The chance that a two-sided t test with `seeds` per arm shows a true difference `effect`.

    `sd` is that of an arm's values, or with `paired` that of the differences between two arms.
    """
    _check(effect=effect, sd=sd, alpha=alpha)
    return _power(seeds, effect / sd, alpha, paired)


def seeds_for(
    effect: Number, sd: Number, power: float = 0.8, alpha: float = 0.05, paired: bool = False
) -> int:
    """The fewest seeds per arm, two at least, whose power is `power`. SpecError above a million."""
    _check(effect=effect, sd=sd, power=power, alpha=alpha)
    size, most = effect / sd, 1_000_000
    few, many = 1, 2
    while _power(many, size, alpha, paired) < power:
        few, many = many, 2 * many
        if few > most:
            raise SpecError(
                f"an effect of {effect:g} at a standard deviation of {sd:g} would take more than"
                f" {most:,} seeds an arm: ask for a larger effect."
            )
    while many - few > 1:
        middle = (few + many) // 2
        enough = _power(middle, size, alpha, paired) >= power
        few, many = (few, middle) if enough else (middle, many)
    return many


def effect_for(
    n: int, sd: Number, power: float = 0.8, alpha: float = 0.05, paired: bool = False
) -> float:
    """The smallest difference that `n` seeds per arm show with `power`, in the units of `sd`."""
    from scipy.optimize import brentq

    _check(sd=sd, power=power, alpha=alpha)
    if n < 2:
        raise SpecError(f"{n} seed an arm shows no spread, so no effect either: give 2 or more.")
    high = 1.0
    while _power(n, high, alpha, paired) < power:
        high *= 2
    lacking: Callable[[float], float] = lambda d: _power(n, d, alpha, paired) - power  # noqa: E731
    return float(brentq(lacking, 0.0, high, xtol=1e-12)) * sd


def plan(
    sd: Number,
    *,
    effect: Number | None = None,
    seeds: int | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
    paired: bool = False,
) -> dict[str, Any]:
    """Seeds for an effect, or the smallest effect for a number of seeds, whichever is asked.

    `power` of the answer is what the whole number of seeds comes to. SpecError unless exactly one
    of `effect` and `seeds` is given.
    """
    if (effect is None) == (seeds is None):
        given = "both" if seeds is not None else "neither"
        raise SpecError(f"give --effect to get seeds, or --seeds to get an effect; got {given}.")
    asked = {"sd": sd, "alpha": alpha, "paired": paired}
    if effect is not None:
        found = seeds_for(effect, sd, power, alpha, paired)
        reached = power_of(found, effect, sd, alpha=alpha, paired=paired)
        return {"seeds": found, "effect": effect, "power": reached, "asked_power": power, **asked}
    assert seeds is not None
    size = effect_for(seeds, sd, power, alpha, paired)
    return {"seeds": seeds, "effect": size, "power": power, "asked_power": power, **asked}


def _power(n: Number, size: Number, alpha: float, paired: bool) -> float:
    from statsmodels.stats import power

    def tail(alternative: str) -> float:
        if paired:
            return float(power.TTestPower().power(size, n, alpha / 2, alternative=alternative))
        test = power.TTestIndPower()
        return float(test.power(size, n, alpha / 2, ratio=1.0, alternative=alternative))

    wrong = tail("smaller")
    # scipy gives NaN for some of the far tails, where the chance is below 1e-8.
    return tail("larger") + (0.0 if math.isnan(wrong) else wrong)


def _sd(values: Sequence[Number]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def _half_width(n: int, sd: float, confidence: float) -> float:
    from scipy import stats

    return float(stats.t.ppf((1 + confidence) / 2, n - 1)) * sd / math.sqrt(n)


def _check(**given: Any) -> None:
    """Refuse what no plan can be made of, in the words of `cnnjax plan`."""
    for name, value in given.items():
        if name in ("power", "alpha"):
            if not 0 < value < 1:
                raise SpecError(f"{name}: {value:g} is no probability between 0 and 1.")
        elif not (value > 0 and math.isfinite(value)):
            raise SpecError(f"{name}: expected a number above 0, got {value:g}.")
    if {"power", "alpha"} <= given.keys() and given["power"] <= given["alpha"]:
        raise SpecError(
            f"power: {given['power']:g} is no more than alpha, {given['alpha']:g}: no effect at all"
            " would have it."
        )
