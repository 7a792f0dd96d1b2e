"""Claims tried: each an ordinary study, and a verdict beside it."""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cnnjax import atomic
from cnnjax.errors import RunError, SpecError, did_you_mean
from cnnjax.study.ablate import ablate
from cnnjax.study.claims import CLAIMS
from cnnjax.study.claims.claim import TIERS, Claim, Tier
from cnnjax.study.claims.verdict import Verdict, judge

VERDICT = "verdict.json"


def find(name: str) -> Claim:
    """The claim called `name`."""
    if name not in CLAIMS:
        raise SpecError(f"no claim '{name}'. {did_you_mean(name, CLAIMS, label='Claims')}")
    return CLAIMS[name]


def named(given: Sequence[str], all_of_them: bool, tier: str) -> list[str]:
    """The claims that a command line asks for."""
    level = tier_of(tier)
    if all_of_them and given:
        raise SpecError(f"--all runs every claim: leave out {', '.join(given)}, or --all.")
    if not all_of_them and not given:
        raise SpecError("name the claims to run, or give --all. 'cnnjax claims list' shows them.")
    return [c.id for c in CLAIMS.values() if level in c.settings] if all_of_them else list(given)


def tier_of(name: str) -> Tier:
    """The tier called `name`."""
    for tier in TIERS:
        if name == tier:
            return tier
    raise SpecError(f"--tier: no tier '{name}'. {did_you_mean(name, TIERS, label='Tiers')}")


def run(
    names: Sequence[str],
    out: Path,
    *,
    tier: str = "cpu",
    set: Iterable[str] = (),
    processes: int | None = None,
    retry: bool = False,
    progress: bool | None = None,
    data_dir: str | Path | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> list[Verdict]:
    """Try claims one after the other, each a study in `out`, and write its verdict.json.

    What is finished is not run again. `set` overrides every arm, and the verdict says so. A claim
    whose runs failed does not keep the next from running; RunError after the last of them.
    """
    level = tier_of(tier)
    claims = [find(name) for name in names]
    for claim in claims:
        if level not in claim.settings:
            known = did_you_mean(level, claim.settings, label="It has")
            raise SpecError(f"{claim.id}: has no tier '{level}'. {known}")
    _keep_compiled(out)
    found, failures = [], []
    for number, claim in enumerate(claims, 1):
        directory = out / claim.study_name(level)
        setting = claim.settings[level]
        count = len(setting.arms) * setting.seeds
        say(f"claim {number} of {len(claims)}: {claim.id}, {count} runs in {directory}")
        try:
            ablate(
                claim.source(level), out=directory, set=set, processes=processes, retry=retry,
                progress=progress, data_dir=data_dir,
            )  # fmt: skip
        except RunError as error:
            if getattr(error, "signal", None) is not None or not _is_study(directory):
                raise
            failures.append(str(error))
        verdict = judge(claim, level, directory)
        write(verdict, directory)
        found.append(verdict)
        say(f"  {verdict.outcome}: {verdict.reason}")
    if any(verdict.missing for verdict in found):
        raise RunError("\n".join(failures))
    return found


def _is_study(directory: Path) -> bool:
    return (directory / "study.json").is_file()


def _keep_compiled(out: Path) -> None:
    """Seeds of an arm are one program: let the first run's compilation serve the others."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str((out / "compiled").resolve()))


def write(verdict: Verdict, directory: Path) -> None:
    """Write verdict.json into the study directory."""
    text = json.dumps(verdict.to_dict(), indent=2) + "\n"
    atomic.write(directory / VERDICT, text)
