"""What a claim is: plain data, from the paper's sentence to the runs that would decide it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cnnjax.spec import Source
from cnnjax.study.claims.measures import Measure

Tier = Literal["cpu", "gpu", "cluster"]
TIERS: tuple[Tier, ...] = ("cpu", "gpu", "cluster")
Experiment = Mapping[str, Mapping[str, Any]]
"""model, dataset and schedule, as an experiment file has them."""
Arms = Mapping[str, Mapping[str, Any]]
"""Name -> {path: value}, as in an ablation."""
Choice = str | tuple[str, ...]
"""An arm; or several, of which each seed takes the one that was best on the other seeds."""


@dataclass(frozen=True)
class Contrast:
    """What is set against what. A measure is the better the lower it is.

    `says` is the contrast in words. "lower": the `better` arm has the lower measure; "equal": the
    two differ by less than `smallest`, the smallest effect of interest in the measure's unit.
    """

    says: str
    better: Choice
    worse: Choice
    measure: Measure
    smallest: float
    kind: Literal["lower", "equal"] = "lower"

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm that it needs."""
        return (*alternatives(self.better), *alternatives(self.worse))


def alternatives(choice: Choice) -> tuple[str, ...]:
    """The arms of a choice."""
    return (choice,) if isinstance(choice, str) else choice


@dataclass(frozen=True)
class Setting:
    """How a claim is tried at one tier; `scope` says what that leaves open.

    `contrasts` replaces the claim's own, where the measure is another one at this scale.
    """

    scope: str
    experiment: Experiment
    arms: Arms
    seeds: int
    contrasts: tuple[Contrast, ...] | None = None


@dataclass(frozen=True)
class Claim:
    """A statement of a paper (`paper`, `where`) and the settings that can decide it, by tier.

    `published` are numbers that the paper or the named source gives, `contradictions` what is known
    against it. All `contrasts` must hold for the claim to hold.
    """

    id: str
    statement: str
    paper: str
    where: str
    published: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    settings: Mapping[Tier, Setting]
    contradictions: tuple[str, ...] = ()

    def contrasts_at(self, tier: Tier) -> tuple[Contrast, ...]:
        """The contrasts that decide it at `tier`."""
        own = self.settings[tier].contrasts
        return self.contrasts if own is None else own

    def study_name(self, tier: Tier) -> str:
        """The name of its study, and of the study's folder."""
        return self.id if tier == "cpu" else f"{self.id}-{tier}"

    def source(self, tier: Tier) -> Source:
        """The experiment with its ablation, as `ablate` takes it."""
        setting = self.settings[tier]
        content = {part: dict(value) for part, value in setting.experiment.items()}
        content["ablation"] = {
            "mode": "arms",
            "arms": {name: dict(changes) for name, changes in setting.arms.items()},
            "seeds": setting.seeds,
        }
        name = self.study_name(tier)
        doc = f"{self.statement} ({self.paper}, {self.where})\n\n{setting.scope}"
        return Source(content, where=name, doc=doc, called=name)
