"""The worst day, tried: `make torture` in full (`--full`), `make test` a short form of the same.

Each test says by the fixture ``ledger`` what it tried, how often, and what was lost; what all of
them said is printed as one table, and with ``--ledger FILE`` written into a page of the docs. How
much a test tries is told by the fixture ``amount``: `amount(short, full)`.
"""

from __future__ import annotations

import datetime as dt
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

_T = TypeVar("_T")

LEDGER = pytest.StashKey["Ledger"]()
BEGIN, END = "<!-- what was tried -->", "<!-- to here -->"


@dataclass(frozen=True)
class Line:
    """What was tried, how often, what was lost (of files, rows, answers), and what was seen."""

    what: str
    tried: int
    lost: int
    seen: str
    seconds: float


@dataclass
class Ledger:
    lines: list[Line] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def add(self, what: str, tried: int, lost: int = 0, seen: str = "") -> None:
        """A line of the table; it took all the time since the line before, or the test's begin."""
        now = time.monotonic()
        self.lines.append(Line(what, tried, lost, seen, now - self.began))
        self.began = now

    def table(self) -> str:
        rows = [
            f"| {line.what} | {line.tried:,} | {line.lost:,} | {line.seen} | {line.seconds:.0f} |"
            for line in self.lines
        ]
        head = ["| what was tried | how often | lost | seen | seconds |", "|---|--:|--:|---|--:|"]
        return "\n".join([*head, *rows, ""])


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEDGER] = Ledger()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What cannot be tried in short is for the full form alone."""
    if not config.getoption("--full"):
        left = [item for item in items if item.get_closest_marker("full")]
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=left)


@pytest.fixture()
def ledger(pytestconfig: pytest.Config) -> Ledger:
    found = pytestconfig.stash[LEDGER]
    found.began = time.monotonic()
    return found


@pytest.fixture(scope="session")
def amount(pytestconfig: pytest.Config) -> Callable[[_T, _T], _T]:
    """Of two amounts, the one that this run asks for: the short form's, or the full one's."""

    def choose(short: _T, full: _T) -> _T:
        return full if pytestconfig.getoption("--full") else short

    return choose


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    config = terminalreporter.config
    if not (lines := config.stash[LEDGER].lines):
        return
    table = config.stash[LEDGER].table()
    terminalreporter.write_sep("=", f"tried, {len(lines)} ways")
    terminalreporter.write(table)
    if page := config.getoption("--ledger"):
        _write(Path(page), table)


def _write(page: Path, table: str) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    told = f"{BEGIN}\nOn {dt.date.today():%Y-%m-%d}, of commit `{commit}`:\n\n{table}"
    page.write_text(f"{head}{told}{END}{tail}", encoding="utf-8")
