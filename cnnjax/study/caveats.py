"""What a reader must know before trusting a table: too few seeds, mixed code, runs left out."""

import json
from collections.abc import Iterable, Sequence

from cnnjax.spec import Spec
from cnnjax.study.comparison import Arm
from cnnjax.study.runs import Run


def caveats(arms: Sequence[Arm], base: str) -> list[str]:
    """Sentences for under the table."""
    runs = [run for arm in arms for run in arm.runs]
    return [
        *_seeds(arms, base),
        *_effects(arms),
        *_flagged(arms),
        *_waiting(arms),
        *_mixed(runs),
        *_altered(runs),
    ]


def _seeds(arms: Sequence[Arm], base: str) -> list[str]:
    counted = [arm for arm in arms if arm.n]
    if all(arm.n == 1 for arm in counted):
        return [
            "One seed per arm: no interval is given, and no difference can be told from chance."
        ]
    single = [arm.name for arm in counted if arm.n == 1]
    notes = [f"One seed only, so no interval: {', '.join(single)}."] if single else []
    if not next(arm for arm in arms if arm.name == base).n:
        notes.append(f"The base, {base}, has no finished run: no differences are given.")
    for arm in counted:
        if arm.effect is not None and arm.effect.n < arm.n:
            have = f"{arm.effect.n} of its {arm.n} seeds" if arm.effect.n else "none of its seeds"
            notes.append(f"{arm.name}: {have} are also the base's; the difference is over these.")
    return notes


def _effects(arms: Sequence[Arm]) -> list[str]:
    notes = []
    for arm in arms:
        effect = arm.effect
        if effect is None or effect.n < 2 or effect.p is not None:
            continue
        if effect.difference == 0:
            notes.append(
                f"{arm.name}: equal to the base in every seed, to the last digit: what it changes"
                " had no effect."
            )
        else:
            notes.append(
                f"{arm.name}: the same difference in all {effect.n} seeds, so t is undefined and no"
                " p value is given."
            )
    return notes


def _flagged(arms: Sequence[Arm]) -> list[str]:
    return [
        f"† {arm.name} was not trained and scored as the base was ({'; '.join(arm.flags)}): the"
        " difference is not the arm's alone."
        for arm in arms
        if arm.flags
    ]


def _waiting(arms: Sequence[Arm]) -> list[str]:
    left = [str(path) for arm in arms for path in arm.group.waiting]
    if not left:
        return []
    return [f"Unfinished and not counted: {', '.join(left)}."]


def _mixed(runs: Sequence[Run]) -> list[str]:
    """Runs of different code, versions or devices."""
    notes = []
    without = [run for run in runs if not run.env]
    if without:
        notes.append(f"{_count(len(without))} without env.json: code state and versions unknown.")
    states = _tally(" then ".join(run.commits) for run in runs if run.env)
    if len(states) > 1:
        notes.append(f"Runs come from different code states: {_listed(states)}.")
    if any("+" in state for state in states):
        notes.append("+ marks a code state with uncommitted changes, which cannot be named.")
    known = [run for run in runs if run.versions]
    for package in sorted({name for run in known for name in run.versions}):
        found = _tally(run.versions.get(package, "none") for run in known)
        if len(found) > 1:
            notes.append(f"Runs differ in the version of {package}: {_listed(found)}.")
    devices = _tally(run.device for run in known if run.device)
    if len(devices) > 1:
        notes.append(f"Runs come from different devices: {_listed(devices)}; times do not compare.")
    return notes


def _altered(runs: Sequence[Run]) -> list[str]:
    """A digest that is not that of the spec beside it: the record was edited."""
    wrong = [r for r in runs if Spec(json.dumps(dict(r.spec))).digest != r.digest]
    return [
        f"{run.directory}: spec.json is not the one that its digest was taken of; it was changed"
        " after the run, or written by another version."
        for run in wrong
    ]


def _tally(words: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in words:
        found[word] = found.get(word, 0) + 1
    return found


def _listed(tally: dict[str, int]) -> str:
    return ", ".join(f"{word} ({_count(n)})" for word, n in tally.items())


def _count(n: int) -> str:
    return f"{n} run{'s' * (n != 1)}"
