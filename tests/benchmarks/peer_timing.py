"""How every peer is timed, with nothing but the standard library: each has its own environment."""

import json
import resource
import time
from collections.abc import Callable

WINDOWS, SECONDS = 7, 1.0  # as many and as long as ours


def rate(step: Callable[[], None], batch: int) -> float:
    """Images per second of `step`, which waits for its result: the best of WINDOWS."""
    step()
    start = time.perf_counter()
    step()
    length = max(1, round(SECONDS / (time.perf_counter() - start)))
    rates = []
    for _ in range(WINDOWS):
        start = time.perf_counter()
        for _ in range(length):
            step()
        rates.append(length * batch / (time.perf_counter() - start))
    return max(rates)


def report(train: Callable[[], None], evaluate: Callable[[], None], batch: int) -> None:
    """Print images/s of both steps and the peak memory of the process as JSON."""
    found = {"images_per_s": rate(train, batch), "eval_images_per_s": rate(evaluate, batch)}
    found["peak_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(found))
