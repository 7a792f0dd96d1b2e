"""The picture of a run: loss and accuracy against the step."""

from cnnjax.training.runlog import RunLog, read_rows

# Okabe & Ito's colours, told apart by colour-blind readers too.
COLOURS = {"train": "#0072B2", "validation": "#E69F00", "test": "#D55E00"}


def curves(log: RunLog) -> None:
    """Write curves.png: loss and top-1 of every split in metrics.jsonl."""
    if not log.writes:
        return
    # The object interface: pyplot would hold every figure and choose a window system.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_rows(log.directory / "metrics.jsonl")
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, key, label in zip(
        figure.subplots(1, 2), ("loss", "top1"), ("loss", "top-1 accuracy"), strict=True
    ):
        for split, colour in COLOURS.items():
            points = [(r["step"], r[key]) for r in rows if r["split"] == split]
            if points:
                mark = "" if split == "train" else "o"
                axis.plot(*zip(*points, strict=True), color=colour, label=split, lw=1.3,
                          marker=mark, ms=3)  # fmt: skip
        axis.set_xlabel("step")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    figure.savefig(log.directory / "curves.png", dpi=130)
