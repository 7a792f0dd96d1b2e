"""What differs between two runs: spec, layers, cost, code, versions, data order, result."""

import difflib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cnnjax import data
from cnnjax.cost import Layer, summary
from cnnjax.errors import CnnjaxError, RunError
from cnnjax.spec import differences
from cnnjax.study.runs import Run, flatten, places, read

# Examples of the training stream that are shown to tell two orders apart.
SHOWN = 8


def diff(a: str | Path, b: str | Path) -> dict[str, Any]:
    """The differences of run `b` from run `a`, as plain values; empty parts are equal.

    `architecture` rebuilds both networks from their specs with the code as it is now.
    """
    one, two = _run(a), _run(b)
    return {
        "a": str(one.directory),
        "b": str(two.directory),
        "same_run": one.digest == two.digest,
        "spec": _changes(one.spec, two.spec),
        "architecture": _architecture(one, two),
        "cost": _changes(flatten(one.cost), flatten(two.cost)),
        "code": _changes(_code(one), _code(two)),
        "versions": _changes(one.versions, two.versions),
        "machine": _changes(_machine(one), _machine(two)),
        "data_order": _order(one, two),
        "training": _first_difference(one, two),
        "result": _results(one, two),
    }


def _run(path: str | Path) -> Run:
    if isinstance(path, str | Path) and (Path(path) / "spec.json").is_file():
        return read(path)
    found = places(Path(path))
    raise RunError(
        f"{path}: is no run directory, but holds some, such as {found[0]}. Give one of the runs."
    )


def _changes(a: Any, b: Any) -> list[dict[str, Any]]:
    rows = differences(_plain(a), _plain(b))
    return [{"path": path, "a": here, "b": there} for path, here, there in rows]


def _plain(content: Any) -> Any:
    return {k: _plain(v) for k, v in content.items()} if isinstance(content, Mapping) else content


def _code(run: Run) -> dict[str, Any]:
    git = run.env[-1].get("git") if run.env else None
    return {"commit": None, "changed": None} | dict(git or {})


def _machine(run: Run) -> dict[str, Any]:
    if not run.env:
        return {}
    last = run.env[-1]
    return {**{f"device.{k}": v for k, v in last.get("device", {}).items()},
            "platform": last.get("platform"),
            **{f"flags.{k}": v for k, v in last.get("flags", {}).items()}}  # fmt: skip


def _architecture(one: Run, two: Run) -> dict[str, Any]:
    """Layers by name, in the order of computation: what was added, removed or changed."""
    try:
        ours, theirs = _layers(one), _layers(two)
    except CnnjaxError as error:
        return {"unknown": f"a network cannot be rebuilt from its spec: {error}", "layers": []}
    rows = []
    names = [layer.name for layer in ours], [layer.name for layer in theirs]
    matcher = difflib.SequenceMatcher(a=names[0], b=names[1], autojunk=False)
    for kind, i, j, k, m in matcher.get_opcodes():
        if kind == "equal":
            pairs = zip(ours[i:j], theirs[k:m], strict=True)
            rows += [_layer(a, b) for a, b in pairs if a != b]
        else:
            rows += [_layer(a, None) for a in ours[i:j]] + [_layer(None, b) for b in theirs[k:m]]
    return {"unknown": None, "equal": sum(a in theirs for a in ours), "layers": rows}


def _layers(run: Run) -> tuple[Layer, ...]:
    facts = {k: run.derived[k] for k in ("num_classes", "input_shape") if k in run.derived}
    return summary({**facts, **run.spec["model"]}, estimates=False).layers


def _layer(a: Layer | None, b: Layer | None) -> dict[str, Any]:
    present = a or b
    assert present is not None
    shown = ("kind", "output_shape", "params", "buffers", "macs", "receptive_field", "stride")
    before, after = (asdict(layer) if layer else {} for layer in (a, b))
    changed = [k for k in shown if before.get(k) != after.get(k)]
    return {
        "name": present.name,
        "a": {k: before[k] for k in changed} if a else None,
        "b": {k: after[k] for k in changed} if b else None,
    }


def _order(one: Run, two: Run) -> dict[str, Any]:
    """Whether both saw the same examples in the same order, and the first few if not."""
    streams = [_stream(run) for run in (one, two)]
    same = all(a == b for a, b in zip(*(s["facts"].items() for s in streams), strict=True))
    return {
        "same": same,
        "a": {**streams[0]["facts"], "first": streams[0]["first"]},
        "b": {**streams[1]["facts"], "first": streams[1]["first"]},
    }


def _stream(run: Run) -> dict[str, Any]:
    train = run.derived.get("splits", {}).get("train", {})
    n = train.get("examples")
    facts = {
        "seed": run.seed,
        "data set": run.spec["dataset"]["name"],
        "split": train.get("split"),
        "examples": n,
        "batch_size": run.spec["dataset"]["batch_size"],
    }
    return {"facts": facts, "first": data.indices(run.seed, n, 0, SHOWN).tolist() if n else []}


def _first_difference(one: Run, two: Run) -> dict[str, Any]:
    """The first step whose row of metrics differs, over the rows that both have."""
    rows = [{(r["step"], r["split"]): r for r in run.metrics} for run in (one, two)]
    shared = sorted(rows[0].keys() & rows[1].keys())
    apart = [key for key in shared if rows[0][key] != rows[1][key]]
    return {
        "rows_compared": len(shared),
        "first_difference": {"step": apart[0][0], "split": apart[0][1]} if apart else None,
    }


def _results(one: Run, two: Run) -> list[dict[str, Any]]:
    """Every score of result.json, and b less a where both are numbers."""
    results = [dict(run.result or {}) for run in (one, two)]
    keys = [k for k in ("split", "top1", "top5", "loss", "n", "step", "selected", "weights")
            if any(k in r for r in results)]  # fmt: skip
    found = []
    for key in keys:
        a, b = (r.get(key) for r in results)
        apart = None
        if isinstance(a, int | float) and isinstance(b, int | float):
            apart = b - a
        found.append({"path": key, "a": a, "b": b, "difference": apart})
    return found
