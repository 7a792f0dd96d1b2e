"""What a user can cause, and how it is said: where, what was given, what was expected, the mend."""

import difflib
from collections.abc import Iterable


class CnnjaxError(Exception):
    """Any error a user can cause; the command line prints it without a traceback."""


class SpecError(CnnjaxError):
    """An experiment file, dict or option says something that cannot be."""


class ShapeError(CnnjaxError, ValueError):
    """Array sizes that do not fit the operation."""


class DataError(CnnjaxError):
    """A data set that is absent, damaged or not what it was said to be."""


class RunError(CnnjaxError):
    """A run that cannot start, go on or be read."""


def did_you_mean(word: object, known: Iterable[object], *, label: str = "Known keys") -> str:
    """The nearest known word, then all of them: the last sentence of every typo's error.

    >>> did_you_mean("weigth_decay", ["momentum", "weight_decay"])
    "Did you mean 'weight_decay'? Known keys: momentum, weight_decay."
    """
    names = sorted(str(k) for k in known)
    nearest = difflib.get_close_matches(str(word), names, n=1)
    hint = f"Did you mean '{nearest[0]}'? " if nearest else ""
    return f"{hint}{label}: {', '.join(names)}."
