"""The order of data: one endless stream of permutations, read by position."""

import itertools

import numpy as np
import pytest

from cnnjax.data import eval_batches, indices, positions
from cnnjax.spec import steps_of


def test_each_epoch_is_a_permutation_of_every_example():
    stream = indices(7, 13, 0, 4 * 13).reshape(4, 13)
    assert (np.sort(stream, axis=1) == np.arange(13)).all()
    assert len({tuple(epoch) for epoch in stream.tolist()}) == 4


def test_epoch_e_is_the_philox_permutation_keyed_by_seed_and_epoch():
    for seed, epoch in [(0, 0), (3, 0), (3, 2), (2**63, 5)]:
        generator = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64)))
        expected = generator.permutation(50)
        assert (indices(seed, 50, 50 * epoch, 50 * (epoch + 1)) == expected).all()


def test_batches_run_on_across_the_ends_of_epochs():
    whole = indices(1, 10, 0, 40)
    batches = [indices(1, 10, 4 * step, 4 * (step + 1)) for step in range(10)]
    assert (np.concatenate(batches) == whole).all()
    assert (indices(1, 10, 3, 37) == whole[3:37]).all()


def test_a_position_is_the_same_example_however_far_back_one_starts():
    far = 1_000_003
    assert indices(4, 97, far, far + 1)[0] == indices(4, 97, far - 500, far + 1)[-1]


def test_two_seeds_give_two_orders():
    assert (indices(0, 1_000, 0, 1_000) != indices(1, 1_000, 0, 1_000)).mean() > 0.99


def test_no_positions_are_no_indices():
    assert indices(0, 5, 3, 3).shape == (0,)
    with pytest.raises(ValueError, match="do not exist"):
        indices(0, 5, 4, 3)


def test_the_positions_of_a_step_are_those_of_its_batch():
    assert positions(3, 4).tolist() == [12, 13, 14, 15]
    assert positions(3, 4, count=2).tolist() == list(range(12, 20))


@pytest.mark.parametrize(
    ("epochs", "n", "batch", "steps"),
    [
        (1, 60_000, 128, 469),
        (10, 60_000, 128, 4_688),
        (2, 10, 5, 4),
        (0.1, 30, 3, 1),
        (0.5, 7, 2, 2),
    ],
)
def test_epochs_are_rounded_up_to_whole_steps(epochs, n, batch, steps):
    assert steps_of({"epochs": epochs}, n, batch) == steps


@pytest.mark.parametrize(("n", "batch"), [(10, 4), (8, 4), (3, 8), (1, 1), (360, 128)])
def test_evaluation_takes_every_example_exactly_once_in_batches_of_one_size(n, batch):
    batches = list(eval_batches(n, batch))
    assert {len(rows) for rows, _ in batches} == {batch}
    assert all(rows.min() >= 0 and rows.max() < n for rows, _ in batches)
    seen = itertools.chain.from_iterable(rows[real].tolist() for rows, real in batches)
    assert sorted(seen) == list(range(n))
