"""Published counts beside our own, and why they differ."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cnnjax.audit.facts import FACTS, LANDMARKS, Fact, Landmark, Quantity
from cnnjax.cost import MIB, Totals, summary
from cnnjax.errors import SpecError, did_you_mean

MEASURES: Mapping[Quantity, Callable[[Totals], int | float]] = {
    "parameters": lambda t: t.params.trainable,
    "parameters with auxiliary heads": lambda t: t.params.trainable + t.params.auxiliary,
    "parameters with moving statistics": lambda t: t.params.trainable + t.params.batch_stats,
    "multiply-adds": lambda t: t.macs,
    "activations": lambda t: t.activations,
    "weights in MB": lambda t: 4e-6 * t.params.trainable,
    "weights in MiB": lambda t: 4 * t.params.trainable / MIB,
    # Four bytes of all that is stored; a few hundred counters and the container come on top.
    "file in MiB": lambda t: (
        4 * (t.params.trainable + t.params.auxiliary + t.params.batch_stats) / MIB
    ),
}


@dataclass(frozen=True)
class Row:
    """One published number against ours.

    `paper` is what the paper's form of the network has, `form` the options under which it has what
    was published, to the precision of the source (`agrees`), and `ours` that count.
    """

    quantity: Quantity
    source: str
    published: int | float
    paper: int | float
    form: Mapping[str, Any]
    ours: int | float
    agrees: bool
    why: str

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def audit(name: str) -> list[Row]:
    """What papers and libraries say of the network `name`, each number against ours.

    Raises SpecError for a network that nobody's numbers are known of.
    """
    facts = [fact for fact in FACTS if fact.model == name]
    if not facts:
        hint = did_you_mean(name, {fact.model for fact in FACTS}, label="Audited networks")
        raise SpecError(f"no published counts of '{name}' are on record. {hint}")
    return [_row(fact) for fact in facts]


def _row(fact: Fact) -> Row:
    measure = MEASURES[fact.quantity]
    ours = measure(_totals(fact.model, json.dumps(dict(fact.form))))
    return Row(
        quantity=fact.quantity,
        source=fact.source + ("" if fact.verified else " (from the paper, unverified)"),
        published=fact.value,
        paper=measure(_totals(fact.model, "{}")),
        form=fact.form,
        ours=ours,
        agrees=abs(ours - fact.value) <= fact.unit / 2,
        why=fact.why,
    )


@functools.lru_cache(maxsize=64)
def _totals(name: str, options: str) -> Totals:
    return summary({"name": name, **json.loads(options)}, estimates=False).totals


def models_long() -> list[dict[str, Any]]:
    """The landmarks side by side: year, counts of the paper's form, published errors in percent."""
    return [
        {**dataclasses.asdict(landmark), "weight_mib": 4 * landmark.params / MIB}
        for landmark in LANDMARKS
    ]


__all__ = ["FACTS", "LANDMARKS", "Fact", "Landmark", "Row", "audit", "models_long"]
