"""Run and study directories written as plain files: what reads runs needs no training."""

import copy
import json
import math
from pathlib import Path

from cnnjax.spec import Spec

SPEC = {
    "model": {"name": "resnet_cifar", "depth": 20, "shortcut": "identity", "width": 1.0},
    "dataset": {
        "name": "cifar10", "batch_size": 128, "split": None, "normalize": "cifar10",
        "augment": [{"name": "pad_crop", "pad": 4}, {"name": "flip", "probability": 0.5}],
        "data_dir": None,
    },
    "schedule": {
        "epochs": None, "steps": 100, "examples": None,
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
        "learning_rate": {"name": "constant", "value": 0.1},
        "loss": {"name": "cross_entropy", "label_smoothing": 0.0},
        "clip": None, "ema": None, "dtype": "float32", "seed": 0, "select": "last",
        "eval_every": None, "checkpoint_every": None,
    },
}  # fmt: skip
ENV = {
    "command": ["cnnjax", "train"],
    "python": "3.12.1",
    "platform": "Linux",
    "versions": {"cnnjax": "0.1.0", "jax": "0.10.0"},
    "device": {"platform": "cpu", "kind": "cpu", "count": 1, "processes": 1, "cores": 2},
    "git": {"commit": "a" * 40, "changed": False},
    "flags": {},
}


def changed(changes, spec=SPEC):
    """A copy of the spec with {path: value} put in."""
    found = copy.deepcopy(spec)
    for path, value in changes.items():
        *parts, last = path.split(".")
        node = found
        for part in parts:
            node = node[part]
        node[last] = value
    return found


def digest_of(spec):
    return Spec(json.dumps(spec)).digest


def write_run(
    directory, top1=None, *, changes=None, seed=0, params=270_000, macs=41_000_000, env=ENV,
    experiment="shortcut", derived=None, result=None, rate=1000.0,
):  # fmt: skip
    """A run directory: finished with accuracy `top1`, or unfinished without one."""
    directory = Path(directory)
    directory.mkdir(parents=True)
    spec = changed({**(changes or {}), "schedule.seed": seed})
    steps = spec["schedule"]["steps"]
    facts = {
        "steps": steps,
        "num_classes": 10,
        "input_shape": [32, 32, 3],
        "splits": {
            "train": {"split": "train", "examples": 50_000},
            "test": {"split": "test", "examples": 10_000},
        },
        "cost": {"params": {"trainable": params, "batch_stats": 64}, "macs": macs},
        **(derived or {}),
    }
    content = {**spec, "experiment": experiment, "digest": digest_of(spec), "derived": facts}
    (directory / "spec.json").write_text(json.dumps(content, indent=2))
    if env is not None:
        (directory / "env.json").write_text(json.dumps({"sessions": [env]}))
    rows = []
    for step in range(10, (steps if top1 is not None else 30) + 1, 10):
        reached = (top1 or 0.9) - 0.5 * math.exp(-6 * step / steps)
        rows.append({"step": step, "split": "test", "loss": 1 - reached, "top1": reached})
    (directory / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (directory / "timing.jsonl").write_text(
        json.dumps({"event": "end", "step": steps, "images_per_s": rate}) + "\n"
    )
    if top1 is not None:
        outcome = {
            "split": "test", "loss": 1 - top1, "top1": top1, "top5": (1 + top1) / 2, "n": 10_000,
            "step": steps, "selected": "last", "weights": "last", "seed": seed,
            "digest": content["digest"], **(result or {}),
        }  # fmt: skip
        (directory / "result.json").write_text(json.dumps(outcome))
    return directory


def write_study(directory, arms, *, base=None, experiment="shortcut"):
    """A study: {name: {"changes", "top1": {seed: accuracy or None}, and what write_run takes}}."""
    directory = Path(directory)
    listed, runs = [], []
    for name, arm in arms.items():
        options = {k: v for k, v in arm.items() if k not in ("top1", "changes", "absent")}
        changes = arm.get("changes", {})
        listed.append({"name": name, "changes": changes, "params": arm.get("params")})
        for seed, top1 in arm["top1"].items():
            digest = digest_of(changed({**changes, "schedule.seed": seed}))
            place = f"runs/{digest[:12]}"
            runs.append({"arm": name, "seed": seed, "digest": digest, "directory": place})
            if seed not in arm.get("absent", ()):
                write_run(directory / place, top1, changes=changes, seed=seed,
                          experiment=experiment, **options)  # fmt: skip
    content = {
        "version": 1, "experiment": experiment, "ablation": {}, "base": base or next(iter(arms)),
        "arms": listed, "runs": runs,
    }  # fmt: skip
    (directory / "study.json").write_text(json.dumps(content))
    return directory


# Names that LaTeX and HTML take amiss, arms that win, lose and change nothing.
SHOWCASE = {
    "base": {"top1": dict(enumerate([0.912, 0.9141, 0.9135, 0.9118, 0.9127]))},
    "shortcut=none": {
        "changes": {"model.shortcut": "none"},
        "top1": dict(enumerate([0.9041, 0.9072, 0.9068, 0.9035, 0.9049])),
    },
    "width=0.5 & 50 % fewer_maps": {
        "changes": {"model.width": 0.5}, "params": 68_000, "macs": 10_400_000, "rate": 2900.0,
        "top1": dict(enumerate([0.8921, 0.8887, 0.8903, 0.8934, 0.8866])),
    },
    "depth=32, shortcut=projection": {
        "changes": {"model.depth": 32, "model.shortcut": "projection"},
        "params": 467_000, "macs": 70_000_000, "rate": 610.0,
        "top1": dict(enumerate([0.9202, 0.9226, 0.9231, 0.9198, 0.9219])),
    },
    "learning_rate.value=0.05": {
        "changes": {"schedule.learning_rate.value": 0.05},
        "top1": dict(enumerate([0.9132, 0.9128, 0.914, 0.9111, 0.9137])),
    },
    "batch_size=256": {
        "changes": {"dataset.batch_size": 256}, "rate": 1400.0,
        "top1": dict(enumerate([0.9151, 0.9166, 0.9159])),
    },
    "depth=56": {
        "changes": {"model.depth": 56}, "params": 850_000, "macs": 126_000_000, "rate": 330.0,
        "top1": {0: 0.9301, 1: None},
    },
}  # fmt: skip
