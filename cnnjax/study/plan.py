"""What a study will run: every arm checked, counted and matched before anything trains.

The one module of `study` that imports the training code, and it does so in a process of its own
(`python -m cnnjax.study.plan`, a request on stdin, the plan on stdout), on the CPU: the process
that starts the runs neither loads JAX nor takes an accelerator from them.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cnnjax import errors, schema, spec
from cnnjax.errors import RunError, SpecError
from cnnjax.spec import REQUIRED, Source, Spec
from cnnjax.study.arms import Arm, Changes, Matched, arms_of
from cnnjax.study.match import width_for

Plan = dict[str, Any]
"""experiment, ablation, base, arms, runs, spec, digest: as in study.json; `files` {short: text}."""
WIDTH = "model.width"


def planned(
    source: "str | Path | Mapping[str, Any] | Spec | Source",
    *,
    overrides: Iterable[str] = (),
    seeds: int | None = None,
) -> Plan:
    """`plan` in a process of its own. Raises what it raises."""
    if isinstance(source, str | Path) and (Path(source) / "study.json").is_file():
        raise SpecError(
            f"{source}: is a study directory, which can be gone on with, not changed or shown in a"
            f" dry run. For that give its experiment file, and --out {source}."
        )
    found = spec.read(source)  # a file that is not there need not wait for another process
    where: Any = str(source) if isinstance(source, str | Path) else dataclasses.asdict(found)
    try:
        request = json.dumps({"source": where, "overrides": [*overrides], "seeds": seeds})
    except TypeError as error:
        raise SpecError(f"the experiment is not plain data: {error}.") from None
    done = subprocess.run(
        [sys.executable, "-m", __name__], input=request, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    if done.returncode:
        raise RunError(f"the study could not be planned: exit code {done.returncode}, see above.")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["message"])
    return answer


def plan(
    source: "str | Path | Mapping[str, Any] | Spec | Source",
    overrides: Iterable[str] = (),
    seeds: int | None = None,
) -> Plan:
    """Every arm and run of an experiment's `ablation`. Raises SpecError naming the arm."""
    from cnnjax.training import load

    given = tuple(overrides)
    base_spec = load(source, overrides=given)
    where, ablation = base_spec.where, base_spec.ablation
    if ablation is None:
        raise SpecError(
            f"{where}: has no ablation. Add one, such as"
            " ablation = {'vary': {'model.width': [0.5, 1.0]}, 'seeds': 3}."
        )
    if seeds is not None:
        ablation["seeds"] = seeds
    base, arms = arms_of(base_spec, ablation)
    found = dataclasses.replace(spec.read(source), called=base_spec.name)
    costed = _costed(_Arms(found, given), arms, base, ablation["match"])
    runs: list[dict[str, Any]] = []
    files: dict[str, str] = {}
    for number in range(ablation["seeds"]):
        for arm, derived in costed:
            seed = _Arms(found, given).spec(arm).schedule["seed"] + number
            one = _Arms(found, given).spec(arm, {"schedule.seed": seed})
            short = one.digest[:12]
            if short in files:
                twin = next(r["arm"] for r in runs if r["digest"] == one.digest)
                raise SpecError(f"{where}: ablation: arms '{twin}' and '{arm.name}' are one run.")
            files[short] = one.to_json(**derived)
            runs.append({
                "arm": arm.name, "seed": seed, "digest": one.digest, "directory": f"runs/{short}",
            })  # fmt: skip
    return {
        "experiment": base_spec.name,
        "digest": _digest(base_spec, ablation),
        "ablation": ablation,
        "base": base,
        "arms": [arm.to_dict() for arm, _ in costed],
        "runs": runs,
        "spec": {part: base_spec.to_dict()[part] for part in REQUIRED},
        "files": files,
    }


def _digest(base: Spec, ablation: Mapping[str, Any]) -> str:
    """What makes two studies one: the experiment, mode and match. Arms and seeds may be added."""
    kept = [base.digest, ablation["mode"], ablation["match"]]
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class _Arms:
    """The experiment as it was written, from which each arm's spec is made."""

    found: Source
    overrides: tuple[str, ...]

    def spec(self, arm: Arm, further: Changes | None = None) -> Spec:
        """An arm's own experiment: no ablation, and no paper's number unless it is as written."""
        from cnnjax.training import load

        matched = arm.matched
        width = {} if matched is None or matched.value is None else {WIDTH: matched.value}
        changes = {**arm.changes, **width, **(further or {})}
        content = {k: v for k, v in self.found.content.items() if k != "paper" or not arm.changes}
        where = f"{self.found.where}: arm '{arm.name}'"
        own = dataclasses.replace(self.found, content=content, where=where)
        loaded = load(own, overrides=self.overrides, changes=changes)
        text = {k: v for k, v in loaded.to_dict().items() if k != "ablation"}
        return dataclasses.replace(loaded, text=json.dumps(text))


def _costed(
    arms: _Arms, listed: Iterable[Arm], base: str, by: str | None
) -> list[tuple[Arm, dict[str, Any]]]:
    """Each arm, matched to the base and counted, and what spec.json keeps beside its spec.

    An arm is counted once its data, shapes and options are known to fit together.
    """
    from cnnjax.training.outline import outline

    def counted(arm: Arm) -> tuple[Arm, dict[str, Any]]:
        facts = outline(arms.spec(arm), Path())
        params, macs = facts["cost"]["params"]["trainable"], facts["cost"]["macs"]
        derived = {k: facts[k] for k in ("steps", "steps_per_epoch", "num_classes", "input_shape")}
        return dataclasses.replace(arm, params=params, macs=macs, steps=facts["steps"]), derived

    found = {arm.name: counted(arm) for arm in listed}
    if by is not None:
        target = getattr(found[base][0], by)
        for name, (arm, derived) in found.items():
            if name != base:
                found[name] = counted(_matched(arms, arm, derived, by, target))
    return list(found.values())


def _matched(arms: _Arms, arm: Arm, derived: Mapping[str, Any], by: str, target: int) -> Arm:
    """The arm at the width at which it costs what the base does."""
    from cnnjax.cost import cost
    from cnnjax.models import MODELS, build

    own = arms.spec(arm)
    where = f"{own.where}: model"
    if WIDTH in arm.changes:
        raise SpecError(f"{own.where}: 'match' sets {WIDTH}, which this arm sets too.")
    reached = getattr(arm, by)
    error = abs(reached - target) / target
    if "width" not in schema.options_of(schema.look_up(MODELS, own.model["name"], where))[0]:
        return dataclasses.replace(arm, matched=Matched(by, None, None, target, reached, error))
    given = {key: derived[key] for key in ("num_classes", "input_shape")}

    def count(width: float) -> int:
        module = build(own.model | {"width": width}, **given, where=where)
        totals = cost(module, derived["input_shape"], estimates=False).totals
        return totals.macs if by == "macs" else totals.params.trainable

    best = width_for(target, count, own.model["width"])
    value = None if best.value == own.model["width"] else best.value
    return dataclasses.replace(
        arm, matched=Matched(by, WIDTH, value, target, best.reached, best.error)
    )


def main() -> None:
    """Answer the request on stdin; an error a user can cause is an answer too."""
    request = json.load(sys.stdin)
    source = request["source"]
    if isinstance(source, dict):
        source = Source(**source)
    try:
        # What an experiment file prints is not our answer.
        with contextlib.redirect_stdout(sys.stderr):
            answer = plan(source, request["overrides"], request["seeds"])
    except errors.CnnjaxError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
