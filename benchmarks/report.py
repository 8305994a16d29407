"""What a benchmark has found: figures beside what they are to reach, and curves of growth.

A benchmark is a module with ``measure(small: bool) -> Iterator[Figure | Curve]``; ``python -m
benchmarks`` runs them in turn, prints the figures as one table, writes them as JSON and each
curve as a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One figure: what was measured, beside what, and what it is to reach.

    ``reached`` is None where nothing was promised.
    """

    question: str
    what: str
    found: str
    against: str = ""
    target: str = ""
    reached: bool | None = None


@dataclass(frozen=True)
class Curve:
    """How something grows: ``lines`` are points (x, y) under a name each; ``reading`` says why."""

    name: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    reading: str


def alternately(
    *actions: Callable[[], Any], rounds: int, measure: Callable[[Callable[[], Any]], float]
) -> list[list[float]]:
    """Each action's figures, one of each in turn: what slows the machine down slows all of them."""
    found: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for figures, action in zip(found, actions, strict=True):
            figures.append(measure(action))
    return found
