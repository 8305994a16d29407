"""The worst day, tried: `make torture` for twenty minutes, `make test` a short form of the same.

Each test says by the fixture ``ledger`` what it tried, how often, and what was lost; what all of
them said is printed as one table, and with ``--ledger FILE`` written into a page of the docs. How
much a test tries is told by the fixtures ``amount`` and ``seconds``: `amount(short, full)`, and
`seconds(short, full)` of twenty minutes, which are more of `--minutes 60`.
"""

from __future__ import annotations

import datetime as dt
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from ckanext.bigquery_datastore.tests.torture import budget

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

    def rows(self, when: str) -> dict[str, str]:
        """Each line as a row of the table, by what was tried."""
        return {
            line.what: f"| {line.what} | {line.tried:,} | {line.lost:,} | {line.seen} "
            f"| {line.seconds:.0f} | {when} |"
            for line in self.lines
        }


HEAD = "| what was tried | how often | lost | seen | seconds | of |\n|---|--:|--:|---|--:|---|\n"


def table(rows: Mapping[str, str]) -> str:
    return HEAD + "".join(f"{row}\n" for row in rows.values())


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEDGER] = Ledger()
    if config.getoption("--minutes"):
        budget.seeds[0] = str(dt.date.today())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What cannot be tried in short is for the full form alone."""
    if not config.getoption("--minutes"):
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
        return full if pytestconfig.getoption("--minutes") else short

    return choose


@pytest.fixture(scope="session")
def seconds(pytestconfig: pytest.Config) -> Callable[[float, float], float]:
    """How long something may take: of the short form, or of a full one that has twenty minutes."""

    def choose(short: float, full: float) -> float:
        return full * minutes / 20 if (minutes := pytestconfig.getoption("--minutes")) else short

    return choose


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    config = terminalreporter.config
    if not (lines := config.stash[LEDGER].lines):
        return
    rows = config.stash[LEDGER].rows(_now())
    terminalreporter.write_sep("=", f"tried, {len(lines)} ways")
    terminalreporter.write(table(rows))
    if page := config.getoption("--ledger"):
        _write(Path(page), rows)


def _now() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return f"`{commit}`, {dt.date.today():%Y-%m-%d}"


def _write(page: Path, rows: Mapping[str, str]) -> None:
    """The page with these rows; a run of some tests leaves the rows of all others as they are."""
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    before, _, tail = rest.partition(END)
    kept = {
        line.split("|")[1].strip(): line
        for line in before.splitlines()
        if line.startswith("|") and line not in HEAD.splitlines()
    }
    page.write_text(f"{head}{BEGIN}\n{table({**kept, **rows})}{END}{tail}", encoding="utf-8")
