"""report.html: one page that needs no network, with every number linked to its run."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from cnnjax.study import protocol, tables
from cnnjax.study.comparison import Arm, Comparison
from cnnjax.study.runs import Run

CAPTIONS = {
    "curves": "Learning curves: mean over seeds; the band is the 95 % interval of the mean.",
    "parameters": "Score against trainable parameters.",
    "macs": "Score against multiply-adds.",
    "time": "Score against training time at each run's own steady rate, compiling and evaluation"
            " left out; runs that share a machine are slower.",
    "effects": "Difference to the base with its 95 % interval; filled: p < 0.05 after correction.",
}  # fmt: skip
FRONT = (
    " The grey line is the Pareto front; hollow marks (†) were not trained as the base was; marks"
    " of equal cost stand side by side."
)


def page(comparison: Comparison, folder: Path, drawn: Sequence[Path]) -> str:
    """The HTML, with styles, script and figures inside; links to runs are relative to `folder`."""
    here = files("cnnjax.study").joinpath("assets")
    runs = [run for arm in comparison.arms for run in arm.runs]
    experiments = list(dict.fromkeys(run.experiment for run in runs))
    title = f"{', '.join(experiments)}: {comparison.label}"
    count = f"{len(comparison.arms)} arms, {len(runs)} runs counted"
    notes = "".join(f"<li>{escape(note)}</li>" for note in comparison.notes)
    return _TEMPLATE.format(
        title=escape(title),
        style=here.joinpath("style.css").read_text(),
        script=here.joinpath("script.js").read_text(),
        count=escape(count),
        notes=f'<ul class="notes" aria-label="Notes">{notes}</ul>' if notes else "",
        arms=_arms(comparison),
        caption=escape(tables.caption(comparison)),
        setup=escape(protocol.setup(comparison)),
        figures="".join(_figure(path) for path in drawn),
        scores=_scores(comparison),
        runs="".join(_run(run, arm, folder) for arm in comparison.arms for run in arm.runs),
    )


def _arms(comparison: Comparison) -> str:
    """The table of arms: the words of the other tables, sorted by the numbers behind them."""
    found = tables.table(comparison)
    rows = []
    for number, (arm, cells) in enumerate(zip(comparison.arms, found.rows, strict=True)):
        values = _values(arm)
        columns = []
        for heading, cell in zip(found.headings, cells, strict=True):
            value = values.get(heading, values["mean"] if heading == comparison.label else None)
            shown = escape(cell)
            best = ' class="best"' if number == found.bold and heading == comparison.label else ""
            if heading == "arm":
                columns.append(f'<th scope="row" data-value="{escape(arm.name)}">{shown}</th>')
                continue
            if arm.n and cell:
                shown = f'<a href="#{_scores_id(arm, comparison)}">{shown}</a>'
            columns.append(f'<td{best} data-value="{_plain(value)}">{shown}</td>')
        base = ' class="base"' if arm.name == comparison.base else ""
        rows.append(f"<tr{base}>{''.join(columns)}</tr>")
    return _table("arms", found.headings, rows)


def _values(arm: Arm) -> dict[str, Any]:
    summary, effect = arm.summary, arm.effect
    return {
        "parameters": arm.params,
        "MACs": arm.macs,
        "n": arm.n,
        "mean": getattr(summary, "mean", None),
        "95 % interval": getattr(summary, "low", None),
        "difference": getattr(effect, "difference", None),
        "its 95 % interval": getattr(effect, "low", None),
        "p": arm.p,
        "d_z": getattr(effect, "effect_size", None),
        "smallest": getattr(effect, "smallest", None),
    }


def _scores(comparison: Comparison) -> str:
    """One line per run."""
    rows = []
    for arm in comparison.arms:
        for place, (run, value) in enumerate(
            zip(arm.runs, comparison.values(arm).values(), strict=True)
        ):
            anchor = f' id="{_scores_id(arm, comparison)}"' if place == 0 else ""
            link = f'<a href="#{_id(run)}">'
            cells = [
                f'<th scope="row" data-value="{escape(arm.name)}">{escape(arm.name)}</th>',
                _cell(run.seed, str(run.seed)),
                _cell(value, f"{link}{value:.{comparison.measure.digits}f}</a>"),
                *(_cell(v, f"{link}{t}</a>" if t else "") for v, t in _facts(run)),
            ]
            rows.append(f"<tr{anchor}>{''.join(cells)}</tr>")
    heads = ("arm", "seed", comparison.label, "loss", "parameters", "MACs", "images/s", "seconds",
             "device", "code")  # fmt: skip
    return _table("scores", heads, rows)


def _facts(run: Run) -> Iterable[tuple[Any, str]]:
    result = run.result or {}
    loss, rate, seconds = result.get("loss"), run.images_per_s, run.seconds
    commit = " then ".join(run.commits)
    return [
        (loss, f"{loss:.4f}" if loss is not None else ""),
        (run.params, f"{run.params:,}" if run.params is not None else ""),
        (run.macs, f"{run.macs:,}" if run.macs is not None else ""),
        (rate, f"{rate:,.0f}" if rate else ""),
        (seconds, f"{seconds:,.1f}" if seconds else ""),
        (run.device, escape(run.device or "")),
        (commit, escape(commit)),
    ]


def _run(run: Run, arm: Arm, folder: Path) -> str:
    """Everything about one run, folded."""
    where = Path(os.path.relpath(run.directory.resolve(), folder.resolve())).as_posix()
    facts = {
        "directory": f'<a href="{escape(where)}">{escape(str(run.directory))}</a>',
        "digest": run.digest,
        "step": f"{run.step:,} of {run.steps or 0:,}",
        "network": escape(str((run.result or {}).get("selected"))),
    }
    listed = "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in facts.items())
    blocks = {
        "Result": run.result,
        "Spec": run.spec,
        "Cost": run.cost,
        "Environment": list(run.env),
    }
    shown = "".join(
        f"<h3>{name}</h3><pre tabindex='0'>{escape(json.dumps(content, indent=2))}</pre>"
        for name, content in blocks.items()
        if content
    )
    return (
        f'<details id="{_id(run)}"><summary>{escape(arm.name)}, seed {run.seed}</summary>'
        f"<div><dl>{listed}</dl>{shown}</div></details>"
    )


def _figure(path: Path) -> str:
    """The SVG beside a PNG, inline, with ids that no other figure has."""
    name = path.stem
    caption = CAPTIONS[name] + FRONT * (name in ("parameters", "macs", "time"))
    svg = path.with_suffix(".svg").read_text()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(caption)}"', 1)
    return f'<figure id="figure-{name}">{svg}<figcaption>{escape(caption)}</figcaption></figure>'


def _table(name: str, headings: Iterable[str], rows: Iterable[str]) -> str:
    heads = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{escape(h)}</button></th>'
        for h in headings
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">'
        f'<table class="sortable" id="{name}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(value: Any, shown: str) -> str:
    return f'<td data-value="{_plain(value)}">{shown}</td>'


def _plain(value: Any) -> str:
    return "" if value is None else escape(str(value))


def _id(run: Run) -> str:
    return f"run-{run.digest[:12]}"


def _scores_id(arm: Arm, comparison: Comparison) -> str:
    names: Mapping[str, int] = {a.name: i for i, a in enumerate(comparison.arms)}
    return f"arm-{names[arm.name]}"


_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<header><h1>{title}</h1><p class="soft">{count}. Written by cnnjax from the runs' own files.</p>
</header>
<main>
{notes}
<h2 id="comparison">Comparison</h2>
{arms}
<p class="caption">{caption} A heading sorts its column; a number leads to its runs.</p>
<h2 id="figures">Figures</h2>
<div class="figures">{figures}</div>
<h2 id="set-up">Set-up</h2>
<p>{setup}</p>
<h2 id="each-run">Each run</h2>
{scores}
<h2 id="records">Records</h2>
{runs}
</main>
<script>
{script}</script>
</body>
</html>
"""
