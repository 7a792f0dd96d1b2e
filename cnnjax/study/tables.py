"""A comparison as text: Markdown, LaTeX (booktabs), CSV, and the cells that a page shows."""

import csv
import io
from dataclasses import dataclass

from cnnjax.study.comparison import Arm, Comparison, Measure

STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


@dataclass(frozen=True)
class Table:
    """Headings and rows of plain text; `bold` is the row of the best arm, if one is told."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: int | None


def table(comparison: Comparison) -> Table:
    """The table in words. Parameters and multiply-adds are left out where all arms share them."""
    measure, arms = comparison.measure, comparison.arms
    columns = {
        "arm": [arm.name + "†" * bool(arm.flags) for arm in arms],
        "parameters": [amount(arm.params) for arm in arms],
        "MACs": [amount(arm.macs) for arm in arms],
        "n": [str(arm.n) for arm in arms],
        comparison.label: [_mean(arm, measure) for arm in arms],
        "95 % interval": [
            _interval(arm.summary.low, arm.summary.high, measure) if arm.summary else ""
            for arm in arms
        ],
        "difference": [_difference(arm, comparison) for arm in arms],
        "its 95 % interval": [
            _interval(arm.effect.low, arm.effect.high, measure, signed=True) if arm.effect else ""
            for arm in arms
        ],
        "p": [chance(arm.p) for arm in arms],
        "d_z": [_number(arm.effect.effect_size if arm.effect else None, 2) for arm in arms],
        "smallest": [
            _number(arm.effect.smallest if arm.effect else None, measure.digits) for arm in arms
        ],
    }
    for name, values in (
        ("parameters", {a.params for a in arms}),
        ("MACs", {a.macs for a in arms}),
    ):
        if len(values - {None}) < 2:
            del columns[name]
    best = [i for i, arm in enumerate(arms) if arm.best]
    rows = tuple(zip(*columns.values(), strict=True))
    return Table(tuple(columns), rows, best[0] if best else None)


def caption(comparison: Comparison, *, bold: bool = True) -> str:
    """What the columns are and how they were made; `bold`: the best mean is set in bold."""
    arms, k = comparison.arms, sum(arm.p is not None for arm in comparison.arms)
    some = any(arm.n > 1 for arm in arms)
    means = "mean ± standard deviation over n seeds" if some else "one seed"
    label = comparison.label[0].upper() + comparison.label[1:]
    text = f"{label}: {means}, {_shared(arms)}"
    if any(arm.effect and arm.effect.n > 1 for arm in arms):
        over = f", Holm-corrected over {k} arms" if k > 1 else ""
        base = "base" if comparison.base == "base" else f"base ({comparison.base})"
        text += (
            f" Difference: arm less {base}, paired by seed, with its uncorrected"
            f" 95 % t interval; p: two-sided paired t test{over} (* p < 0.05, ** p < 0.01,"
            " *** p < 0.001); d_z: mean difference in standard deviations of the differences;"
            " smallest: the difference that so many pairs show with 80 % power at the 5 % level."
        )
    if bold and any(arm.best for arm in arms):
        alike = " of the arms trained as the base was" if any(arm.flags for arm in arms) else ""
        text += f" Bold: the best mean{alike}."
    return text


def _shared(arms: tuple[Arm, ...]) -> str:
    """Steps, and the counts that the table leaves out because all arms share them."""
    samples = [arm.group.sample for arm in arms if arm.group.sample]
    steps = {run.steps for run in samples if run.steps is not None}
    last = f"after {min(steps):,} steps" if len(steps) == 1 else "each after its own steps"
    chosen = {run.result["selected"] for arm in arms for run in arm.runs if run.result}
    how = {"last": "of the last step's network"}.get(*chosen) if len(chosen) == 1 else None
    how = how or ("of the network best on validation" if len(chosen) == 1 else "as reported")
    params = {arm.params for arm in arms if arm.params is not None}
    macs = {arm.macs for arm in arms if arm.macs is not None}
    same = [
        f"{amount(min(found))} {name}"
        for found, name in ((params, "parameters"), (macs, "multiply-adds"))
        if len(found) == 1
    ]
    return (
        f"{how} {last}{'; ' if same else ''}{' and '.join(same)}{' in every arm' if same else ''}."
    )


def markdown(comparison: Comparison) -> str:
    """A Markdown table, its caption and its notes."""
    found = table(comparison)
    lines = [
        "| " + " | ".join(found.headings) + " |",
        "|" + "|".join(":--" if i == 0 else "--:" for i in range(len(found.headings))) + "|",
    ]
    for number, cells in enumerate(found.rows):
        shown = [cell.replace("|", "\\|").replace("*", "\\*") for cell in cells]
        if number == found.bold:
            at = found.headings.index(comparison.label)
            shown[at] = f"**{shown[at]}**"
        lines.append("| " + " | ".join(shown) + " |")
    notes = "".join(f"- {escape_markdown(note)}\n" for note in comparison.notes)
    return "\n".join([*lines, "", escape_markdown(caption(comparison)), ""]) + (
        "\n" + notes
    ) * bool(notes)


def escape_markdown(text: str) -> str:
    """`text` with its asterisks and underscores as they are."""
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("_", "\\_")


def comma_separated(comparison: Comparison) -> str:
    """Full precision, one row per arm, for a spreadsheet or R."""
    rows = [_record(arm, comparison) for arm in comparison.arms]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _record(arm: Arm, comparison: Comparison) -> dict[str, object]:
    summary, effect = arm.summary, arm.effect
    return {
        "arm": arm.name,
        "base": arm.name == comparison.base,
        "measure": comparison.label,
        "params": arm.params,
        "macs": arm.macs,
        "seconds": arm.seconds,
        "n": arm.n,
        **{k: getattr(summary, k, None) for k in ("mean", "sd", "low", "high")},
        "pairs": getattr(effect, "n", None),
        "difference": getattr(effect, "difference", None),
        "difference_low": getattr(effect, "low", None),
        "difference_high": getattr(effect, "high", None),
        "p": getattr(effect, "p", None),
        "p_holm": arm.p,
        "d_z": getattr(effect, "effect_size", None),
        "smallest": getattr(effect, "smallest", None),
        "seeds": " ".join(str(run.seed) for run in arm.runs),
        "flags": "; ".join(arm.flags),
    }


def amount(n: int | None) -> str:
    """61,706 -> "61.7 k"; "" for nothing."""
    if n is None:
        return ""
    size, unit = next(
        ((n / s, u) for s, u in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")) if n >= s),
        (n, ""),
    )
    return f"{size:.3g}{unit}" if unit and size < 999.5 else f"{size:.0f}{unit}"


def chance(p: float | None) -> str:
    """A p value in three decimals."""
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def stars(p: float | None) -> str:
    """The usual marks of a corrected p value."""
    return next((mark for limit, mark in STARS if p is not None and p < limit), "")


def _mean(arm: Arm, measure: Measure) -> str:
    if arm.summary is None:
        return "unfinished"
    mean, sd = _number(arm.summary.mean, measure.digits), _number(arm.summary.sd, measure.digits)
    return f"{mean} ± {sd}" if sd else mean


def _difference(arm: Arm, comparison: Comparison) -> str:
    if arm.name == comparison.base:
        return "base"
    if arm.effect is None or arm.effect.difference is None:
        return ""
    return _signed(arm.effect.difference, comparison.measure.digits) + stars(arm.p)


def _interval(
    low: float | None, high: float | None, measure: Measure, *, signed: bool = False
) -> str:
    if low is None or high is None:
        return ""
    shown = _signed if signed else _number
    return f"[{shown(low, measure.digits)}, {shown(high, measure.digits)}]"


def _signed(value: float, digits: int) -> str:
    """With its sign, and never "-0.00"."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text[1:] if float(f"{value:.{digits}f}") == 0 else text


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return ""
    return f"{value:.{digits}f}".replace("-", "−")
