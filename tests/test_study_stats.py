"""The statistics against R's worked examples and published tables."""

import math

import pytest

from cnnjax.errors import SpecError
from cnnjax.study import stats

# R's data set `sleep` (Student 1908): extra hours of sleep of ten patients under two drugs.
FIRST = dict(enumerate([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]))
SECOND = dict(enumerate([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]))


def test_the_paired_test_is_that_of_r_on_students_sleep_data():
    """t.test(extra ~ group, data = sleep, paired = TRUE) in R."""
    found = stats.paired(FIRST, SECOND)
    assert found.n == 10
    assert found.difference == pytest.approx(-1.58, abs=1e-12)
    assert found.p == pytest.approx(0.002833, abs=5e-7)
    assert (found.low, found.high) == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)
    # d_z is t over the root of n.
    assert found.effect_size * math.sqrt(10) == pytest.approx(-4.0621, abs=5e-5)


def test_a_summary_is_that_of_r_on_students_sleep_data():
    """R: mean and sd by group, and t.test(x)$conf.int of group 1."""
    found = stats.summarize(list(FIRST.values()))
    assert (found.n, found.mean) == (10, pytest.approx(0.75))
    assert found.sd == pytest.approx(1.789010, abs=5e-7)
    # 2.262157 is t(0.975, 9) in the printed tables.
    half = 2.262157 * 1.789010 / math.sqrt(10)
    assert (found.low, found.high) == pytest.approx((0.75 - half, 0.75 + half), abs=1e-5)


def test_seeds_are_paired_by_their_number_and_not_by_their_place():
    shuffled = {seed: SECOND[seed] for seed in (9, 3, 0, 7, 1, 2, 8, 4, 6, 5)}
    assert stats.paired(FIRST, shuffled) == stats.paired(FIRST, SECOND)
    assert stats.paired(FIRST | {77: 1e9}, SECOND | {78: -1e9}) == stats.paired(FIRST, SECOND)


def test_one_value_has_no_interval():
    assert stats.summarize([3.0]) == stats.Summary(1, 3.0, None, None, None)
    assert stats.paired({0: 3.0}, {0: 1.0, 1: 9.0}) == stats.Effect(1, 2.0)
    assert stats.paired({0: 3.0}, {1: 1.0}) == stats.Effect(0, None)


def test_differences_that_do_not_vary_have_no_p_value():
    found = stats.paired({0: 0.1, 1: 0.2, 2: 0.7}, {0: 0.1, 1: 0.2, 2: 0.7})
    assert (found.difference, found.low, found.high, found.p) == (0.0, 0.0, 0.0, None)
    shifted = stats.paired({0: 0.1 + 0.2, 1: 0.2 + 0.2}, {0: 0.1, 1: 0.2})
    assert (shifted.p, shifted.effect_size) == (None, None)


@pytest.mark.parametrize(
    ("ps", "corrected"),
    [
        # Worked by hand from Holm (1979): the i-th smallest of m times m - i + 1, then no less than
        # the one before it.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.6, 0.7], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([None, 0.02, None, 0.04], [None, 0.04, None, 0.04]),
        ([None], [None]),
        ([], []),
    ],
)
def test_holms_correction_is_the_step_down_rule(ps, corrected):
    assert stats.holm(ps) == [c if c is None else pytest.approx(c) for c in corrected]


def test_power_is_that_of_r():
    """The examples of R's ?power.t.test, which leaves out the wrong tail, 2e-7 here."""
    assert stats.power_of(20, 1.0, 1.0) == pytest.approx(0.8689528, abs=3e-7)
    assert stats.power_of(22.02110, 1.0, 1.0) == pytest.approx(0.90, abs=3e-7)
    assert stats.seeds_for(1.0, 1.0, power=0.90) == 23


def test_paired_power_is_that_of_cohens_one_sample_test():
    """G*Power's manual: d_z = 0.421637, n = 50 and alpha 0.05 two-sided have power 0.832114."""
    assert stats.power_of(50, 0.421637, 1.0, paired=True) == pytest.approx(0.832114, abs=5e-6)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("n", [2, 3, 5, 10, 40])
def test_the_smallest_effect_has_the_power_that_was_asked_for(n, paired):
    effect = stats.effect_for(n, 0.25, paired=paired)
    assert stats.power_of(n, effect, 0.25, paired=paired) == pytest.approx(0.8, abs=1e-6)
    assert stats.seeds_for(effect * 1.0001, 0.25, paired=paired) == n


def test_the_smallest_effect_of_a_pair_test_is_that_of_its_differences():
    found = stats.paired(FIRST, SECOND)
    sd = 1.229995  # R: sd(sleep$extra[1:10] - sleep$extra[11:20])
    assert found.smallest == pytest.approx(stats.effect_for(10, sd, paired=True), rel=1e-5)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: stats.seeds_for(0.0, 1.0), "effect: expected a number above 0, got 0"),
        (lambda: stats.seeds_for(1.0, -1.0), "sd: expected a number above 0, got -1"),
        (lambda: stats.seeds_for(1.0, 1.0, power=1.5), "power: 1.5 is no probability"),
        (lambda: stats.seeds_for(1.0, 1.0, power=0.04), "no more than alpha"),
        (lambda: stats.seeds_for(1e-9, 1.0), "more than 1,000,000 seeds"),
        (lambda: stats.effect_for(1, 1.0), "1 seed an arm shows no spread"),
    ],
)
def test_a_plan_that_cannot_be_says_why(call, said):
    with pytest.raises(SpecError, match=said):
        call()
