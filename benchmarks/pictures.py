"""A curve of growth as an SVG picture, which is the same for the same points, in light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.report import Curve

# What the axes are drawn in, until it is replaced by what the reader's background asks for.
_INK = "#012345"
_STYLE = "<style>svg{color:#333}@media(prefers-color-scheme:dark){svg{color:#ddd}}</style>"
# Of Okabe and Ito, whose colours the colour-blind tell apart; seen on white and on black.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKS = "os^Dvx"


def draw(curve: Curve, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    options: dict[Any, Any] = {
        "svg.hashsalt": curve.name,
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "text.color": _INK,
        "axes.edgecolor": _INK,
        "axes.labelcolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
    }
    with matplotlib.rc_context(options):
        figure, axes = pyplot.subplots(figsize=(6.4, 3.8), layout="constrained")
        for number, (name, points) in enumerate(curve.lines.items()):
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                label=name,
                color=_COLOURS[number % len(_COLOURS)],
                marker=_MARKS[number % len(_MARKS)],
            )
        every = [point for points in curve.lines.values() for point in points]
        # Of a hundred times as much, what is straight stays straight, and what is flat flat.
        if all(x > 0 for x, _ in every):
            axes.set_xscale("log")
        if all(y > 0 for _, y in every):
            axes.set_yscale("log")
        axes.set_xlabel(curve.x)
        axes.set_ylabel(curve.y)
        axes.grid(alpha=0.25, color=_INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        nothing: dict[str, Any] = {"Date": None, "Creator": None}
        figure.savefig(path, format="svg", transparent=True, metadata=nothing)
        pyplot.close(figure)
    drawn = path.read_text().replace(_INK, "currentColor")
    head, tag, rest = drawn.partition("<defs>")
    path.write_text(f"{head}{_STYLE}\n {tag}{rest}")
