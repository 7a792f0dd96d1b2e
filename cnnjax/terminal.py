"""How answers look: tables for people, JSON for programs; messages go to stderr."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

MAPPED = 32 << 20  # bytes; a larger block glibc gives back when it is freed
Answer = Any
"""Plain values, as a command's --json prints them."""


def answer(content: Answer, as_json: bool, show: Callable[[Answer], None]) -> None:
    """Print `content` on stdout, as JSON or as `show` draws it."""
    if as_json:
        print(json.dumps(content, indent=2))
    else:
        show(content)


def say(message: str) -> None:
    """A line on stderr."""
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(message)


@contextmanager
def working() -> Iterator[Callable[[str], None]]:
    """A function that shows what goes on, until the next; where stderr is a terminal."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("", refresh_per_second=2) as status:  # rarely: what goes on is timed
        yield status.update


def complain(error: Exception) -> None:
    """An error on stderr: its kind and what it says, in red."""
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    console.print(f"{type(error).__name__}: {error}", style="red")


def _print(*parts: Any) -> None:
    # A file or a pipe has no width: do not cut the tables to that of a terminal.
    width = None if sys.stdout.isatty() else 200
    console = Console(highlight=False, markup=False, soft_wrap=False, width=width)
    for part in parts:
        console.print(part)


def _table(columns: str, rows: Iterable[Sequence[Any]], *, wide: str = "") -> Table:
    """A plain table; names that end in > stand to the right, `wide` is the one that may wrap."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns.split():
        label = name.rstrip(">").replace("_", " ")
        right = name.endswith(">")
        table.add_column(label, justify="right" if right else "left", no_wrap=name != wide)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool() | str():
            return str(value)
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4f}"
    return "x".join(map(str, value))


def _inputs(shape: Sequence[int]) -> str:
    """In words, where 32x32 is not the image that it may have been meant to be."""
    if len(shape) == 2:
        return "sequences of {} places with {} channels".format(*shape)
    return f"images {_cell(shape)}"


def run(content: dict[str, Any]) -> None:
    """What a run reached, and where its files are."""
    rows = [
        (r["split"], r["top1"], r.get("top5"), r["loss"], r.get("n"), r["step"])
        for r in content["scores"]
    ]
    _print(
        f"{content['experiment']}  digest {content['digest'][:8]}",
        _table("split top-1> top-5> loss> images> step>", rows),
        "",
        f"run       {content['directory']}",
        *(f"picture   {path}" for path in content["pictures"]),
    )


def scores(content: dict[str, Any]) -> None:
    row = (content["split"], content["top1"], content.get("top5"), content["loss"], content["n"])
    _print(_table("split top-1> top-5> loss> images>", [row]))


def outline(content: dict[str, Any]) -> None:
    cost = content["cost"]
    size = "x".join(map(str, content["input_shape"]))
    splits = ", ".join(
        f"{role} {part['examples']:,} ('{part['split']}')"
        for role, part in content["splits"].items()
    )
    length = f"{content['steps']:,} ({content['steps_per_epoch']:,} an epoch)"
    lines = {
        "experiment": f"{content['experiment']}, digest {content['digest'][:8]}",
        "model": content["model"],
        "parameters": f"{cost['params']['trainable']:,}, {cost['weight_mib']:.2f} MiB",
        "multiply-adds": f"{cost['macs']:,} an image",
        "data set": f"{content['dataset']}: {size}, {content['num_classes']} classes",
        "splits": splits,
        "steps": f"{length}, batch {content['batch_size']}",
        "run directory": content["directory"],
    }
    _print(*(f"{key:<14}{value}" for key, value in lines.items()))


def cost(content: dict[str, Any]) -> None:
    total = content["totals"]
    rows = [
        (r["name"], r["kind"], r["output_shape"], r["params"], r["macs"], r["activations"],
         r["receptive_field"], r["stride"])
        for r in content["layers"]
    ]  # fmt: skip
    table = _table(
        "layer kind output> parameters> MACs> activations> receptive_field> stride>", rows
    )
    params = total["params"]
    beside = [
        f"{value:,} {label}"
        for key, label in (("auxiliary", "in auxiliary heads"), ("fixed", "fixed"),
                           ("batch_stats", "running statistics"))
        if (value := params[key])
    ]  # fmt: skip
    lines = {
        "parameters": ", ".join([f"{params['trainable']:,}", *beside]),
        "weights": f"{total['weight_mib']:.2f} MiB in float32",
        "multiply-adds": f"{total['macs']:,} an image (padded taps counted)",
        "activations": f"{total['activations']:,} an image",
    }
    if total.get("training_mib") is not None:
        lines["training"] = f"{total['training_mib']:.2f} MiB at batch {total['batch_size']}"
    _print(table, "", *(f"{key:<15}{value}" for key, value in lines.items()))


def speed(content: dict[str, Any]) -> None:
    """What a network's steps cost here, and where the time goes."""
    c = content
    table = _table(
        "operation ms> share>",
        [(r["kind"], f"{r['ms']:.2f}", f"{100 * r['share']:.0f} %") for r in c["breakdown"]],
    )
    memory = c["temporary_bytes"]
    lines = {
        "network": f"{c['model']['name']}, {_inputs(c['input_shape'])}, batch {c['batch_size']}",
        "device": f"{c['devices']} {c['device']}, {c['cores']} cores, {c['lowering']} lowering, "
                  f"convolutions by {c['convolutions']}",
        "parameters": f"{c['params']:,}",
        "multiply-adds": f"{c['macs']:,} an image",
        "compile": f"{c['compile_s']:.2f} s, "
                   + ("each time: a program with oneDNN is not kept"
                      if c["convolutions"] == "oneDNN"
                      else f"{c['cached_compile_s']:.2f} s from the cache"),
        "training": f"{c['images_per_s']:,.1f} images/s, median {c['median_images_per_s']:,.1f}",
        "evaluation": f"{c['eval_images_per_s']:,.1f} images/s, "
                      f"median {c['median_eval_images_per_s']:,.1f}; "
                      f"{1000 * c['eval_begin_s']:,.1f} ms before its first batch",
        "arithmetic": f"{c['flops_per_s'] / 1e9:,.1f} GFLOP/s, {c['fraction_of_peak']:.2f} of a "
                      f"matrix product's {c['matmul_flops_per_s'] / 1e9:,.1f}",
    }  # fmt: skip
    if memory is not None:
        lines["memory"] = f"{memory / 2**20:,.1f} MiB for a training step beside its state"
        if memory > MAPPED and c["keeps_memory"] is False:
            lines["memory"] += ", taken anew by each: try CNNJAX_MALLOC=huge"
    _print(*(f"{key:<15}{value}" for key, value in lines.items()), "", table)


def predictions(content: list[dict[str, Any]]) -> None:
    rows = [
        (found["image"] if place == 0 else "", c["name"], c["probability"])
        for found in content
        for place, c in enumerate(found["classes"])
    ]
    _print(_table("image class probability>", rows))


def facts(content: dict[str, Any]) -> None:
    """Names and values, one a line."""
    width = max(map(len, content)) + 2
    _print(*(f"{key.replace('_', ' '):<{width}}{value}" for key, value in content.items()))


def contents(content: dict[str, list[str]]) -> None:
    _print(*(f"{kind:<16}{', '.join(names)}" for kind, names in content.items()))
    say("\nMore of each: cnnjax list KIND, cnnjax list KIND NAME.")


def entries(content: list[dict[str, Any]]) -> None:
    _print(_table("name about", [(e["name"], e["about"]) for e in content], wide="about"))


def entry(content: dict[str, Any]) -> None:
    """One table entry: its docstring and its options."""
    _print(content["doc"] or content["about"])
    if content["options"]:
        rows = [(o["name"], o["default"], o["type"]) for o in content["options"]]
        _print("", _table("option default type", rows, wide="type"))


def runs(content: list[dict[str, Any]]) -> None:
    rows = [
        (r["directory"], r["experiment"], r["digest"][:8], r["seed"],
         f"{r['step']:,}/{r['steps']:,}", r["state"], r.get("split"), r.get("top1"))
        for r in content
    ]  # fmt: skip
    _print(_table("run experiment digest seed> step> state split top-1>", rows))


def audit(content: list[dict[str, Any]]) -> None:
    """Published counts, the paper's form beside them, and the form that has what was published."""
    rows = [
        (r["quantity"], r["source"], _count(r["published"]), _count(r["paper"]),
         ", ".join(f"{k}={v}" for k, v in r["form"].items()) or "paper", _count(r["ours"]),
         "agrees" if r["agrees"] else "differs")
        for r in content
    ]  # fmt: skip
    _print(_table("quantity source published> paper's_form> form ours> verdict", rows))
    for why in dict.fromkeys(r["why"] for r in content):
        _print("", why)


def _count(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3f}"


def landmarks(content: list[dict[str, Any]]) -> None:
    """The networks side by side, with published errors in percent and their source."""

    def percent(value: float | None) -> str:
        return "" if value is None else f"{value:g}"

    rows = [
        (r["name"], str(r["year"]), r["params"], r["macs"], f"{r['weight_mib']:.2f}",
         percent(r["top1_error"]), percent(r["top5_error"]), r["source"])
        for r in content
    ]  # fmt: skip
    columns = "network year parameters> MACs> MiB> top-1_error> top-5_error> source"
    _print(_table(columns, rows))


def lines(content: list[str]) -> None:
    """As they are, one a line: for a shell."""
    print("\n".join(content))


def study(content: dict[str, Any]) -> None:
    """The arms of a study, what they cost and how many of their runs are done."""
    total = len(content["runs"]) // max(1, len(content["arms"]))
    rows = [
        (a["name"], "base" if a["base"] else "", a["params"], a["macs"], _match(a["matched"]),
         a["steps"], f"{a['finished']}/{total}")
        for a in content["arms"]
    ]  # fmt: skip
    _print(_table("arm _ parameters> MACs> match steps> finished>", rows))
    other = {r["state"] for r in content["runs"]} - {"finished"}
    for state in sorted(other):
        count = sum(r["state"] == state for r in content["runs"])
        _print(f"{count} of {len(content['runs'])} runs: {state}")
    _print("", f"study     {content['directory']}")
    if "jobs" in content:
        _print(f"jobs      {', '.join(content['jobs']) or 'none: nothing is left to run'}")


def preview(content: dict[str, Any]) -> None:
    """What a study would run, and for how long."""
    study(content)
    at_once = f"{content['processes']} at once"
    _print(f"runs      {content['todo']} of {len(content['runs'])} to do, {at_once}")
    if found := content["estimate"]:
        _print(f"time      about {_duration(found['seconds'])}", f"          from {found['from']}")


def _match(found: dict[str, Any] | None) -> str:
    """ "0.93: -0.4 %": the width that was set, and how far the cost is from the base's."""
    if found is None:
        return ""
    width = "no width" if found["path"] is None else found["value"] or "as it is"
    return f"{width}: {100 * (found['reached'] / found['target'] - 1):+.2f} %"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def comparison(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    below: Sequence[str],
    report: str,
) -> None:
    """Arms side by side; a narrow terminal gets the columns that matter most."""
    narrow = sys.stdout.isatty() and Console().width < 120
    less = ("parameters", "MACs", "95 % interval", "d_z", "smallest") if narrow else ()
    kept = [i for i, name in enumerate(headings) if name not in less]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i in kept:
        table.add_column(headings[i], justify="right" if i else "left", no_wrap=bool(i))
    for row in rows:
        table.add_row(*(row[i] for i in kept))
    _print(table, "", *below, "", f"report    {report}")


def claims(content: list[dict[str, Any]]) -> None:
    rows = [(c["id"], c["statement"], c["runs"], ", ".join(c["tiers"])) for c in content]
    _print(_table("claim statement runs> tiers", rows, wide="statement"))
    say("\nOne of them: cnnjax claims show ID. Try it: cnnjax claims run ID.")


def claim(content: dict[str, Any]) -> None:
    """What is claimed, where, and how each tier would decide it."""
    _print(content["statement"], f"{content['paper']}, {content['where']}", "")
    for key in ("published", "contradictions"):
        _print(*(f"{key:<15}{line}" for line in content[key]))
    for tier, setting in content["tiers"].items():
        _print("", f"{tier}: {len(setting['arms'])} arms, {setting['seeds']} seeds each")
        _print(setting["scope"])
        _print(*(f"  {part}: {json.dumps(v)}" for part, v in setting["experiment"].items()))
        _print(
            _table(
                "arm changes",
                [(name, json.dumps(changes)) for name, changes in setting["arms"].items()],
                wide="changes",
            )
        )
        rows = [
            (c["says"], f"{'less' if c['kind'] == 'lower' else 'equal'} {c['measure']}",
             f"{c['smallest']:g} {c['unit']}")
            for c in setting["contrasts"]
        ]  # fmt: skip
        _print(_table("contrast claimed smallest_of_interest", rows, wide="contrast"))


def verdicts(headings: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> None:
    """Claims and what came of them; a narrow terminal gets the columns that matter most."""
    narrow = sys.stdout.isatty() and Console().width < 160
    less = ("TMAC", "device", "part", "of interest") if narrow else ()
    kept = [i for i, name in enumerate(headings) if name not in less]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i in kept:
        table.add_column(headings[i], no_wrap=headings[i] != "contrast")
    for row in rows:
        table.add_row(*(row[i] for i in kept))
    _print(table, *(["", *notes] if notes else []))


def difference(content: dict[str, Any]) -> None:
    """Two runs, part by part; what is equal takes one line."""
    _print(f"a  {content['a']}", f"b  {content['b']}")
    if content["same_run"]:
        _print("", "The same run: one digest.")
    layers = content["architecture"]
    changed = [
        {"path": row["name"], "a": _facts(row["a"]), "b": _facts(row["b"])}
        for row in layers["layers"]
    ]
    parts = {
        "spec": content["spec"],
        "architecture": changed,
        "cost": content["cost"],
        "code": content["code"],
        "versions": content["versions"],
        "machine": content["machine"],
    }
    for name, rows in parts.items():
        if rows:
            table = _table(f"{name} a b", [(r["path"], _show(r["a"]), _show(r["b"])) for r in rows])
            _print("", table)
    same = [name for name, rows in parts.items() if not rows and not (
        name == "architecture" and layers["unknown"])]  # fmt: skip
    _print("", f"equal: {', '.join(same)}" if same else "nothing else is equal")
    if layers["unknown"]:
        _print(f"architecture: {layers['unknown']}")
    _print(*_order_and_course(content))
    rows = [(r["path"], _show(r["a"]), _show(r["b"]), r["difference"]) for r in content["result"]]
    _print("", _table("result a> b> b_less_a>", rows))


def _order_and_course(content: dict[str, Any]) -> list[str]:
    order, course = content["data_order"], content["training"]
    lines = ["data order: the same"]
    if not order["same"]:
        first = [", ".join(map(str, order[side]["first"])) for side in "ab"]
        lines = [f"data order: differs; a begins {first[0]}; b begins {first[1]}"]
    if course["rows_compared"]:
        apart = course["first_difference"]
        where = f"from step {apart['step']} ({apart['split']})" if apart else "nowhere"
        lines.append(f"metrics differ: {where}, over {course['rows_compared']} rows of both")
    return lines


def _facts(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    return ", ".join(f"{key.replace('_', ' ')} {_cell(value)}" for key, value in row.items())


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else str(value)


def power(content: dict[str, Any]) -> None:
    """Seeds and effect that go together."""
    kind = "paired by seed, sd of the differences" if content["paired"] else "two arms, sd of each"
    _print(
        f"seeds per arm        {content['seeds']}",
        f"smallest effect      {content['effect']:.4g}",
        f"power                {content['power']:.3f}",
        f"alpha, two-sided     {content['alpha']:g}",
        f"standard deviation   {content['sd']:g} ({kind})",
    )
