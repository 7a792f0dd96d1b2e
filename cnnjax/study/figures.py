"""Figures of a comparison at the width of a journal's column, as PDF, SVG and PNG.

Colours are Okabe and Ito's, and every arm has a marker and a line style of its own too, so that
nothing is told by colour alone. Type is 7 and 8 points at 3.3 inches.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnnjax.study.comparison import Arm, Comparison
from cnnjax.study.runs import Run
from cnnjax.study.stats import summarize

WIDTH = 3.3
FORMATS = ("pdf", "svg", "png")
NAMES = ("curves", "parameters", "macs", "time", "effects")
# Okabe & Ito without yellow, which white paper swallows; black is the base's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
BASE = "#000000"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))
STYLE: Any = {
    "font.size": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "legend.fontsize": 7, "axes.titlesize": 8, "axes.linewidth": 0.6, "xtick.major.width": 0.6,
    "ytick.major.width": 0.6, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.alpha": 0.25, "grid.linewidth": 0.5, "legend.frameon": False,
    "pdf.fonttype": 42, "svg.fonttype": "path", "axes.axisbelow": True,
}  # fmt: skip
COSTS: dict[str, tuple[str, Callable[[Arm], float | int | None]]] = {
    "parameters": ("trainable parameters", lambda arm: arm.params),
    "macs": ("multiply-adds per image", lambda arm: arm.macs),
    "time": ("training time (s)", lambda arm: arm.seconds),
}


def draw(comparison: Comparison, folder: Path) -> list[Path]:
    """Write every figure that has something to show into `folder`; gives the PNG files."""
    arms = [arm for arm in comparison.arms if arm.n]
    looks = {arm.name: look for arm, look in zip(arms, _looks(arms, comparison.base), strict=True)}
    drawn = []
    if any(_points(run, _watched(arms)) for arm in arms for run in arm.runs):
        with _figure(folder, "curves", 2.3 + _legend_height(arms)) as (figure, axis):
            _curves(axis, comparison, arms, looks)
            _legend(figure, axis, arms)
        drawn.append(folder / "curves.png")
    for name, (label, cost) in COSTS.items():
        if len({cost(arm) for arm in arms} - {None}) > 1:
            with _figure(folder, name, 2.3 + _legend_height(arms)) as (figure, axis):
                _against(axis, comparison, arms, looks, label, cost)
                _legend(figure, axis, arms)
            drawn.append(folder / f"{name}.png")
    others = [arm for arm in arms if arm.effect and arm.effect.difference is not None]
    if others:
        with _figure(folder, "effects", 0.7 + 0.24 * len(others)) as (figure, axis):
            _effects(axis, comparison, others, looks)
        drawn.append(folder / "effects.png")
    return drawn


Look = dict[str, Any]


def _looks(arms: Sequence[Arm], base: str) -> Iterator[Look]:
    """Colour, marker and dashes of each arm; no two alike up to thirty."""
    place = 0
    for arm in arms:
        if arm.name == base:
            yield {"color": BASE, "marker": "*", "linestyle": "-"}
            continue
        yield {
            "color": COLOURS[place % len(COLOURS)],
            "marker": MARKERS[place % len(MARKERS)],
            "linestyle": DASHES[place % len(DASHES)],
        }
        place += 1


@contextmanager
def _figure(folder: Path, name: str, height: float) -> Iterator[tuple[Any, Any]]:
    """An empty figure with one axis, saved under `name` in every format when it is drawn."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Ids and dates that do not change: the same runs give the same files.
    fixed: Any = {"svg.hashsalt": name}
    with matplotlib.rc_context({**STYLE, **fixed}):
        figure = Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(h_pad=0.02))
        yield figure, figure.subplots()
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # what was found holds for every format
        dates: dict[str, dict[str, None]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
        for kind in FORMATS:
            figure.savefig(folder / f"{name}.{kind}", dpi=300, metadata=dates.get(kind))


def _watched(arms: Sequence[Arm]) -> str:
    """The split that training was watched on: validation where there is one."""
    seen = {row["split"] for arm in arms for run in arm.runs for row in run.metrics}
    return "validation" if "validation" in seen else "test" if "test" in seen else "train"


def _points(run: Run, split: str) -> dict[int, Any]:
    return {row["step"]: row for row in run.metrics if row["split"] == split}


def _curves(axis: Any, comparison: Comparison, arms: Sequence[Arm], looks: dict[str, Look]) -> None:
    """Mean over seeds with the 95 % interval as a band, at the steps that all seeds have."""
    split, measure = _watched(arms), comparison.measure
    highest, lowest = [], []
    for arm in arms:
        rows = [_points(run, split) for run in arm.runs]
        steps = sorted(set.intersection(*(set(r) for r in rows)))
        if not steps:
            continue
        found = [summarize([measure.of(r[step]) for r in rows]) for step in steps]
        mean = [s.mean for s in found]
        look = {k: v for k, v in looks[arm.name].items() if k != "marker"}
        dot = {"marker": ".", "ms": 3} if len(steps) < 2 else {}
        axis.plot(steps, mean, lw=1.1, label=arm.name, **look, **dot)
        if arm.n > 1:
            axis.fill_between(
                steps, [s.low for s in found], [s.high for s in found], lw=0, alpha=0.18,
                color=look["color"],
            )  # fmt: skip
        highest.append(mean[len(mean) // 4])
        lowest.append(min(mean) if measure.lower else max(mean))
    axis.set_xlabel("step")
    axis.set_ylabel(f"{split} {measure.label}")
    _zoom(axis, highest, lowest)


def _zoom(axis: Any, early: Sequence[float], ends: Sequence[float]) -> None:
    """Cut off the first quarter's descent and the widest bands: the ends are what is compared."""
    if not early:
        return
    low, high = min(*early, *ends), max(*early, *ends)
    room = 0.12 * (high - low)
    if room > 0:
        axis.set_ylim(low - room, high + room)
    if axis.dataLim.x0 < 0.25 * axis.dataLim.x1:
        axis.set_xlim(left=0)


def _against(
    axis: Any, comparison: Comparison, arms: Sequence[Arm], looks: dict[str, Look], label: str,
    cost: Callable[[Arm], float | int | None],
) -> None:  # fmt: skip
    """Score against a cost on a log axis, with the Pareto front of the means."""
    points = []
    aside = _aside([cost(arm) for arm in arms])
    for arm, factor in zip(arms, aside, strict=True):
        x, s = cost(arm), arm.summary
        if x is None or s is None:
            continue
        bar = None if s.low is None or s.high is None else [[s.mean - s.low], [s.high - s.mean]]
        look = {k: v for k, v in looks[arm.name].items() if k != "linestyle"}
        size = 7 if look["marker"] == "*" else 4.5
        hollow = {"mfc": "white"} if arm.flags else {}
        axis.errorbar(
            [x * factor], [s.mean], yerr=bar, ms=size, elinewidth=0.8, capsize=1.5, mew=0.9,
            linestyle="none", label=arm.name + "†" * bool(arm.flags), zorder=3, **look, **hollow,
        )  # fmt: skip
        if not arm.flags:
            points.append((float(x), s.mean))
    front = pareto(points, lower=comparison.measure.lower)
    if len(front) > 1:
        axis.plot(*zip(*front, strict=True), drawstyle="steps-post", color="0.55", lw=0.9, zorder=1)
    axis.set_xscale("log")
    _log_ticks(axis, plain="(s)" in label)
    axis.set_xlabel(label)
    axis.set_ylabel(comparison.label)


def _aside(costs: Sequence[float | int | None]) -> list[float]:
    """Factors that set marks of equal cost side by side, 2.5 % of the axis apart."""
    known = [c for c in costs if c]
    apart = 0.025 * math.log(max(known) / min(known)) if known else 0.0
    found = []
    for place, c in enumerate(costs):
        alike = [i for i, other in enumerate(costs) if other == c]
        found.append(math.exp((alike.index(place) - (len(alike) - 1) / 2) * apart))
    return found


def _log_ticks(axis: Any, *, plain: bool) -> None:
    """As many numbers on the log axis as fit, with k and M unless `plain`."""
    from matplotlib.ticker import (
        EngFormatter,
        FuncFormatter,
        LogLocator,
        NullFormatter,
        NullLocator,
    )

    low, high = axis.get_xlim()
    decades = high / low
    subs: tuple[float, ...]
    subs = (1.0,) if decades > 1e3 else (1.0, 3.0) if decades > 30 else (1.0, 2.0, 5.0)
    if decades < 4:
        subs = tuple(float(n) for n in range(1, 10)) if decades > 2 else subs
    axis.xaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,g}") if plain else EngFormatter(sep="")
    )
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())


def pareto(points: Sequence[tuple[float, float]], *, lower: bool) -> list[tuple[float, float]]:
    """The points that no other is both cheaper than (or as cheap) and better, cheapest first."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], point[1] if lower else -point[1])):
        if not front or (y < front[-1][1] if lower else y > front[-1][1]):
            front.append((x, y))
    return front


def _effects(
    axis: Any, comparison: Comparison, arms: Sequence[Arm], looks: dict[str, Look]
) -> None:
    """A forest plot: the difference to the base with its interval, an arm a line."""
    for place, arm in enumerate(arms):
        e = arm.effect
        assert e is not None
        assert e.difference is not None
        bar = None
        if e.low is not None and e.high is not None:
            bar = [[e.difference - e.low], [e.high - e.difference]]
        sure = arm.p is not None and arm.p < 0.05
        colour = looks[arm.name]["color"]
        axis.errorbar(
            [e.difference], [place], xerr=bar, marker="o", ms=3.5, color=colour, elinewidth=1,
            capsize=2, mfc=colour if sure else "white", mew=0.9,
        )  # fmt: skip
    axis.axvline(0, color="0.3", lw=0.8, zorder=1)
    names = [shorten(arm.name + "†" * bool(arm.flags)) for arm in arms]
    axis.set_yticks(range(len(arms)), names)
    axis.set_ylim(len(arms) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
    unit = f" ({'points' if comparison.measure.unit == '%' else comparison.measure.unit})"
    what = f"{comparison.measure.name}, arm less base"
    # Of the whole figure: the names leave the axis itself too narrow for it.
    axis.figure.supxlabel(what + unit * bool(comparison.measure.unit), fontsize=8)


def shorten(name: str, most: int = 26) -> str:
    """Long names on two lines, or cut in the middle where that does not do."""
    if len(name) <= most:
        return name
    at = name.rfind(", ", 0, most + 1)
    if at > 0 and len(name) - at - 2 <= most:
        return f"{name[: at + 1]}\n{name[at + 2 :]}"
    return f"{name[: most - 12]}…{name[-11:]}"


def _legend_columns(arms: Sequence[Arm]) -> int:
    longest = max(len(arm.name) for arm in arms)
    return 1 if longest > 24 else 2 if longest > 12 else 3


def _legend_height(arms: Sequence[Arm]) -> float:
    """Inches that the legend takes below the axis."""
    return 0.15 * -(-len(arms) // _legend_columns(arms)) + 0.05


def _legend(figure: Any, axis: Any, arms: Sequence[Arm]) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
        handles, [shorten(label, 52).replace("\n", " ") for label in labels],
        loc="outside lower center", ncols=_legend_columns(arms), handlelength=2.2,
        columnspacing=1.2, labelspacing=0.3, borderaxespad=0.2,
    )  # fmt: skip
