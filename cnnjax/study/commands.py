"""A study as a plain list of commands, for whoever starts them by other means."""

import shlex
from collections.abc import Sequence

from cnnjax.study.pool import command
from cnnjax.study.record import Cell, Study


def lines(study: Study, todo: Sequence[Cell]) -> list[str]:
    """One shell command for each run that is not finished."""
    return [shlex.join(command(study, cell)) for cell in todo]
