"""Split strings as TFDS writes them, for the sets that TFDS does not read.

`train`, `train[:90%]`, `train[100:-100]`, `test[-20%:]`, `all`, and sums
of them with `+`. A percentage is rounded to the nearest example, as TFDS does, so `train[:90%]` and
`train[90%:]` never overlap and never leave one out.
"""

import re
from collections.abc import Mapping

from cnnjax.errors import DataError, did_you_mean

_PART = re.compile(r"(?P<name>[\w-]+)(\[(?P<slice>[^\]]*)\])?")
_BOUND = re.compile(r"(?P<value>-?\d+(\.\d+)?)(?P<percent>%)?")


def resolve_split(split: str, sizes: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """What `split` means for splits of these `sizes`: a list of (name, start, stop), none empty.

    >>> resolve_split("train[:90%]+test", {"train": 60_000, "test": 10_000})
    [('train', 0, 54000), ('test', 0, 10000)]
    """
    parts = [_part(piece.strip(), split, sizes) for piece in split.split("+")]
    flat = [interval for part in parts for interval in part if interval[2] > interval[1]]
    if not flat:
        known = ", ".join(f"{name} ({size:,})" for name, size in sizes.items())
        raise DataError(f"split '{split}' is empty. Splits: {known}.")
    return flat


def _part(piece: str, split: str, sizes: Mapping[str, int]) -> list[tuple[str, int, int]]:
    match = _PART.fullmatch(piece)
    if not match:
        raise DataError(
            f"split '{split}': cannot read '{piece}'. "
            "Write a name, a slice such as 'train[:90%]' or 'train[1000:]', or a sum with '+'."
        )
    name, bounds = match["name"], match["slice"]
    if name == "all" and bounds is None and "all" not in sizes:
        return [(each, 0, size) for each, size in sizes.items()]
    if name not in sizes:
        raise DataError(
            f"split '{split}': unknown split '{name}'. {did_you_mean(name, sizes, label='Splits')}"
        )
    if bounds is None:
        return [(name, 0, sizes[name])]
    return [(name, *_interval(bounds, piece, sizes[name]))]


def _interval(bounds: str, piece: str, size: int) -> tuple[int, int]:
    ends = [bound.strip() for bound in bounds.split(":")]
    if len(ends) != 2 or not any(ends):
        raise DataError(f"split '{piece}': expected [start:stop], got [{bounds}].")
    low = _bound(ends[0], piece, size) if ends[0] else 0
    high = _bound(ends[1], piece, size) if ends[1] else size
    return _checked(low, high, piece, size)


def _bound(text: str, piece: str, size: int) -> int:
    match = _BOUND.fullmatch(text)
    if not match or ("." in match["value"] and not match["percent"]):
        raise DataError(f"split '{piece}': '{text}' is neither a whole number nor a percentage.")
    if match["percent"]:
        value = round(float(match["value"]) * size / 100)
    else:
        value = int(match["value"])
    return value if value >= 0 and not text.startswith("-") else size + value


def _checked(low: int, high: int, piece: str, size: int) -> tuple[int, int]:
    if not (0 <= low <= size and 0 <= high <= size):
        raise DataError(f"split '{piece}' reaches outside the {size:,} examples there are.")
    return low, high
