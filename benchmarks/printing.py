"""What was measured as text: lines, a table for a terminal, one for the documentation."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from benchmarks.report import Curve, Figure

_VERDICTS = {True: "reached", False: "missed", None: ""}


def show(found: Iterable[Figure | Curve]) -> None:
    """Each as it comes, a line of standard output."""
    for one in found:
        sys.stdout.write(line(one) + "\n")
        sys.stdout.flush()


def line(found: Figure | Curve) -> str:
    if isinstance(found, Figure):
        told = [found.found, found.against, " ".join(filter(None, _target(found)))]
        return f"{found.question}, {found.what}: {'; '.join(filter(None, told))}"
    points = (
        f"{name} {', '.join(f'{x:g} → {y:.3g}' for x, y in line)}"
        for name, line in found.lines.items()
    )
    return f"{found.name}, {found.y} by {found.x}: {'; '.join(points)}"


def table(figures: Sequence[Figure]) -> str:
    """All figures in columns, a heading for each question."""
    rows = [(one.what, one.found, one.against, *_target(one)) for one in figures]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    written, question = [], ""
    for one, row in zip(figures, rows, strict=True):
        if one.question != question:
            question = one.question
            written += ["", question]
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        written.append(f"  {'  '.join(cells)}".rstrip())
    return "\n".join(written[1:]) + "\n"


def markdown(figures: Sequence[Figure]) -> str:
    written, question = [], ""
    for one in figures:
        if one.question != question:
            question = one.question
            written += [
                *("", f"### {question[:1].upper()}{question[1:]}", ""),
                *("| what | found | against | to reach | |", "|---|---|---|---|---|"),
            ]
        cells = (one.what, one.found, one.against, *_target(one))
        written.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(written[1:]) + "\n"


def _target(found: Figure) -> tuple[str, str]:
    return found.target, _VERDICTS[found.reached]
