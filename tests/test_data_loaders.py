"""Batches: the same by position whether resident or streamed, from any step, by any workers."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from cnnjax.data import Batches, Resident, Streaming, digits, indices

BATCH = 24


def batches(**options):
    return Batches(digits().split("train[:100]"), 5, BATCH, **options)


def stream(source, start, stop, **options):
    with Streaming(source, start=start, **options) as iterator:
        return [next(iterator) for _ in range(start, stop)]


def same(left, right):
    return all(
        np.array_equal(a, b)
        for x, y in zip(left, right, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_batch_i_holds_the_examples_at_its_positions():
    split = digits().split("train[:100]")
    rows = indices(5, 100, 0, 12 * BATCH)
    for step in range(12):
        batch = batches()[step]
        here = slice(step * BATCH, (step + 1) * BATCH)
        assert batch.positions.tolist() == list(range(here.start, here.stop))
        assert (batch.images == split.images[rows[here]]).all()
        assert (batch.labels == split.labels[rows[here]]).all()


def test_resident_and_streamed_batches_are_the_same_examples():
    resident = Resident.read(digits().split("train[:100]"), seed=5, batch_size=BATCH)
    taken = resident.indices(3, count=6)
    assert taken.shape == (6, BATCH)
    for batch, rows in zip(stream(batches(), 3, 9), taken, strict=True):
        assert (batch.images == resident.images[rows]).all()
        assert (batch.labels == resident.labels[rows]).all()


@pytest.mark.parametrize("options", [{"threads": 0}, {"threads": 2}, {"threads": 0, "workers": 2}])
def test_any_start_threads_and_workers_give_the_same_batches(options):
    expected = [batches()[step] for step in range(12)]
    assert same(stream(batches(), 7, 12, **options), expected[7:])
    if not options.get("workers"):
        assert same(stream(batches(), 0, 12, **options), expected)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_processes_share_each_global_batch_in_order(count):
    shares = [
        stream(batches(process_index=index, process_count=count), 2, 8) for index in range(count)
    ]
    for step in range(2, 8):
        joined = [
            np.concatenate(parts) for parts in zip(*(s[step - 2] for s in shares), strict=True)
        ]
        assert same([joined], [batches()[step]])


def test_a_batch_that_does_not_divide_among_processes_is_refused():
    with pytest.raises(ValueError, match="24 does not divide among 5 processes"):
        batches(process_count=5)


def test_a_stream_that_is_bounded_ends():
    with Streaming(batches(stop=4), start=1) as iterator:
        assert [batch.positions[0] for batch in iterator] == [BATCH, 2 * BATCH, 3 * BATCH]


@pytest.mark.slow
def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, time
            from cnnjax.data import Batches, Streaming, digits

            if __name__ == "__main__":
                stream = Streaming(Batches(digits().split("train"), 0, 8), threads=0, workers=2)
                next(stream), next(stream)  # one of each worker: both are up
                print(*(child.pid for child in multiprocessing.active_children()), flush=True)
                time.sleep(600)
            """
        )
    )
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    try:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        for pid in workers:
            os.kill(pid, signal.SIGTERM)  # as a signal to the whole group would: they stay
        time.sleep(0.2)
        assert all(alive(pid) for pid in workers)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    if sys.platform == "linux":
        for _ in range(200):
            if not any(alive(pid) for pid in workers):
                break
            time.sleep(0.05)
        assert not any(alive(pid) for pid in workers)


def alive(pid):
    """Whether the process runs; one that has ended and waits to be collected does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
