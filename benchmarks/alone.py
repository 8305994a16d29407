"""A benchmark run by itself: its figures and curves as lines, and how a process uses memory."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable, Iterator

from .report import Curve, Figure


def run(measure: Callable[[bool], Iterator[Figure | Curve]], about: str | None) -> None:
    """What ``python -m benchmarks.bench_…`` does: measure, and tell each finding at once."""
    options = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--small", action="store_true", help="little of everything")
    for found in measure(options.parse_args().small):
        sys.stdout.write(f"{lines(found)}\n")
        sys.stdout.flush()


def lines(found: Figure | Curve) -> str:
    if isinstance(found, Curve):
        points = [
            f"    {name}: " + ", ".join(f"{x:,.10g} → {y:.4g}" for x, y in points)
            for name, points in found.lines.items()
        ]
        return "\n".join([f"{found.name} ({found.x} → {found.y})", *points, f"    {found.reading}"])
    parts = [found.question, f"{found.what}: {found.found}", found.against, found.target]
    verdict = {True: "reached", False: "MISSED", None: ""}[found.reached]
    return " | ".join(part for part in [*parts, verdict] if part)


def status(name: str) -> int:
    """A figure of this process, as Linux tells it; memory in KiB."""
    with open("/proc/self/status") as told:
        return next(int(line.split()[1]) for line in told if line.startswith(f"{name}:"))


class Peak(threading.Thread):
    """The most memory that this process has had since this was made, in KiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.least = self.most = status("VmRSS")
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ended.wait(0.02):
            self.most = max(self.most, status("VmRSS"))

    def added(self) -> int:
        self._ended.set()
        self.join()
        return self.most - self.least
