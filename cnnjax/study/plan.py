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
    source: "str | Path | Mapping[str, Any] | Spec",
    *,
    overrides: Iterable[str] = (),
    seeds: int | None = None,
) -> Plan:
    """`plan` in a process of its own. Raises what it raises."""
    if isinstance(source, str | Path):
        where: Any = str(source)
    else:
        where = dataclasses.asdict(spec.read(source))
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

    overrides = [*overrides]
    base_spec = load(source, overrides=overrides)
    where = base_spec.where
    ablation = base_spec.ablation
    if ablation is None:
        raise SpecError(
            f"{where}: has no ablation. Add one, such as"
            " ablation = {'vary': {'model.width': [0.5, 1.0]}, 'seeds': 3}."
        )
    ablation = ablation | ({} if seeds is None else {"seeds": seeds})
    base, arms = arms_of(base_spec, ablation)
    found = dataclasses.replace(spec.read(source), called=base_spec.name)
    content = {k: v for k, v in found.content.items() if v is not None}
    specs: dict[str, Spec] = {}

    def arm_spec(arm: Arm, changes: Changes) -> Spec:
        kept = content if not arm.changes else {k: v for k, v in content.items() if k != "paper"}
        named = dataclasses.replace(found, content=kept, where=f"{where}: arm '{arm.name}'")
        loaded = load(named, overrides=overrides, changes=changes)
        text = {k: v for k, v in loaded.to_dict().items() if k != "ablation"}
        return dataclasses.replace(loaded, text=json.dumps(text))

    done: list[Arm] = []
    target: int | None = None
    for arm in sorted(arms, key=lambda a: a.name != base):
        costed = _costed(arm, arm_spec(arm, arm.changes))
        if (by := ablation["match"]) is not None:
            if target is None:
                target = getattr(costed, by)
            else:
                costed = _matched(costed, by, target, arm_spec)
        done.append(costed)
    done.sort(key=lambda a: [b.name for b in arms].index(a.name))
    runs: list[dict[str, Any]] = []
    for number in range(ablation["seeds"]):
        for arm in done:
            changes = all_changes(arm)
            seed = arm_spec(arm, changes).schedule["seed"] + number
            one = arm_spec(arm, changes | {"schedule.seed": seed})
            if one.digest in specs:
                twin = next(r["arm"] for r in runs if r["digest"] == one.digest)
                raise SpecError(f"{where}: ablation: arms '{twin}' and '{arm.name}' are one run.")
            specs[one.digest] = one
            runs.append({
                "arm": arm.name, "seed": seed, "digest": one.digest,
                "directory": f"runs/{one.digest[:12]}",
            })  # fmt: skip
    return {
        "experiment": base_spec.name,
        "digest": _digest(base_spec, ablation),
        "ablation": ablation,
        "base": base,
        "arms": [arm.to_dict() for arm in done],
        "runs": runs,
        "spec": {part: base_spec.to_dict()[part] for part in REQUIRED},
        "files": {digest[:12]: one.to_json() for digest, one in specs.items()},
    }


def all_changes(arm: Arm) -> Changes:
    """What an arm puts where, its matched width included."""
    if arm.matched is None or arm.matched.path is None or arm.matched.value is None:
        return arm.changes
    return {**arm.changes, arm.matched.path: arm.matched.value}


def _digest(base: Spec, ablation: Mapping[str, Any]) -> str:
    """What makes two studies one: the experiment, mode and match. Arms and seeds may be added."""
    kept = [base.digest, ablation["mode"], ablation["match"]]
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def _costed(arm: Arm, found: Spec) -> Arm:
    """The arm with its counts, once its data, shapes and options are known to fit together."""
    from cnnjax.training.outline import outline

    facts = outline(found, Path())
    return dataclasses.replace(
        arm,
        params=facts["cost"]["params"]["trainable"],
        macs=facts["cost"]["macs"],
        steps=facts["steps"],
    )


def _matched(arm: Arm, by: str, target: int, arm_spec: Any) -> Arm:
    """The arm at the width at which it costs what the base does."""
    from cnnjax.models import MODELS

    if WIDTH in arm.changes:
        raise SpecError(
            f"{arm_spec(arm, {}).where}: ablation.match sets {WIDTH}, which the arm varies."
        )
    own = arm_spec(arm, arm.changes)
    factory = schema.look_up(MODELS, own.model["name"], f"{own.where}: model")
    counts = {own.model.get("width", 1.0): arm}

    def count(width: float) -> int:
        if width not in counts:
            counts[width] = _costed(arm, arm_spec(arm, {**arm.changes, WIDTH: width}))
        return getattr(counts[width], by)

    if "width" not in schema.options_of(factory)[0]:
        reached = getattr(arm, by)
        error = abs(reached - target) / target
        return dataclasses.replace(arm, matched=Matched(by, None, None, target, reached, error))
    start = own.model["width"]
    best = width_for(target, count, start)
    value = None if best.value == start else best.value
    matched = Matched(by, WIDTH, value, target, best.reached, best.error)
    return dataclasses.replace(counts[best.value], matched=matched)


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
