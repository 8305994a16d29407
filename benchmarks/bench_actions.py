"""datastore_search and datastore_upsert, beside core's on PostgreSQL.

    . .stack/env; python -m benchmarks.bench_actions [--small]

How long Google takes cannot be measured here: the round trips are counted, and each is priced at
0.3 s, on top of the CPU that CKAN itself used. Core's time is the whole of it. The process knows
nothing of the table before the first of each kind ("cold"); what comes after it is "warm".
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.asking import calls
from benchmarks.report import Curve, Figure
from benchmarks.sides import Bed, Side, Spent, a_resource, bed, call, spend
from benchmarks.tables import ROWS, copy, flights, put

SECONDS = 0.3
A_READ, A_WRITE = 2, 3

SEARCHES: dict[str, dict[str, Any]] = {
    "first page": {},
    "page 100": {"offset": 9_900},
    "a filter": {"filters": {"carrier": "UA"}},
    "a sort": {"sort": "dep_delay desc"},
    "q": {"q": "JFK"},
}
KEYED = [{"id": "code", "type": "text"}, {"id": "size", "type": "float"}]


@dataclass(frozen=True)
class Trips:
    spent: Spent
    trips: int

    @property
    def seconds(self) -> float:
        return self.spent.cpu + self.trips * SECONDS


def search(app: Any, id: str, params: dict[str, Any], times: int) -> list[Trips]:
    """Cold, and then warm."""
    _forget()
    return [
        _counted(lambda: call(app, "datastore_search", resource_id=id, limit=100, **params))
        for _ in range(times)
    ]


def keyed(app: Any, records: int) -> str:
    """A resource whose table has a key, and so many rows."""
    id = a_resource(app)
    call(app, "datastore_create", resource_id=id, force=True, fields=KEYED, primary_key=["code"])
    for first in range(0, records, 10_000):
        upsert(app, id, first, min(10_000, records - first), "insert")
    return id


def upsert(app: Any, id: str, first: int, records: int, method: str = "upsert") -> Trips:
    rows = [{"code": f"C{n:07d}", "size": n / 4} for n in range(first, first + records)]

    def work() -> None:
        call(app, "datastore_upsert", resource_id=id, force=True, method=method, records=rows)

    return _counted(work)


def _counted(work: Any) -> Trips:
    with calls() as found:
        spent = spend(work)
    return Trips(spent, found.in_a_row)


def _forget() -> None:
    from ckanext.bigquery_datastore.backend.table import lookup

    lookup.TABLES.clear()


def measure(small: bool) -> Iterator[Figure | Curve]:
    with bed() as made, Side(made.ours) as ours, Side(made.core) as core:
        yield from _searches(made, ours, core, small)
        yield from _upserts(ours, core, small)


def _searches(made: Bed, ours: Side, core: Side, small: bool) -> Iterator[Figure]:
    path = str(flights(made.folder, ROWS // 10 if small else ROWS))
    mine = ours.do(put, path)
    # Whether a column may be searched is core's own doing, at each row that comes.
    theirs = core.do(copy, path, 1, True)
    for what, params in SEARCHES.items():
        found: list[Trips] = []
        beside: list[Trips] = []
        for _ in range(3):
            found += ours.do(search, mine, params, 3)
            beside += core.do(search, theirs, params, 3)
        yield _figure(f"datastore_search, {what}", found, beside, A_READ)


def _upserts(ours: Side, core: Side, small: bool) -> Iterator[Figure]:
    # Half of the records are new.
    for records in (1, 100, 1_000) if small else (1, 1_000, 100_000):
        ids = [side.do(keyed, records // 2) for side in (ours, core)]
        # Each side has heard of its table before.
        for side, id in zip((ours, core), ids, strict=True):
            side.do(upsert, id, 0, 1)
        found, beside = (
            [side.do(upsert, id, 0, records)] for side, id in zip((ours, core), ids, strict=True)
        )
        yield _figure(f"datastore_upsert of {records:,}", found, beside, A_WRITE)


def _figure(what: str, found: list[Trips], beside: list[Trips], most: int) -> Figure:
    warm = statistics.median(one.seconds for one in found)
    theirs = statistics.median(one.spent.seconds for one in beside)
    trips = sorted({one.trips for one in found})
    return Figure(
        "everyday actions",
        what,
        f"{' to '.join(map(str, {trips[0]: 0, trips[-1]: 0}))} round trips, {warm:.2f} s",
        f"core: {theirs:.3f} s",
        f"≤ {most} round trips",
        trips[-1] <= most,
    )


if __name__ == "__main__":
    from benchmarks.printing import show

    show(measure("--small" in sys.argv))
