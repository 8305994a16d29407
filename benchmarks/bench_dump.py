"""A whole table as csv: what it costs CKAN here, and with core's DataStore on PostgreSQL.

    . .stack/env; python -m benchmarks.bench_dump [--small]

The rows are those of flights, and thirty times those (--small: a tenth). Core writes the file in
its worker, page by page. Here BigQuery writes it, once: "cold" is that, for a client that comes
back when it is told to; "cold, waiting" by one that waits, which holds a thread of a WSGI server
(none under ASGI) for as long as the emulator takes. "cached" is every download after it.
PostgreSQL's own work, which is core's as well, is not counted.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.asking import calls
from benchmarks.report import Curve, Figure
from benchmarks.sides import MB, Bed, Side, Spent, bed, spend
from benchmarks.tables import ROWS, copy, flights, multiply, put

QUESTION = "whole dump, csv"
COLD, CACHED = 50, 5_000
TIMES = 30


def core_dump(app: Any, id: str) -> tuple[Spent, int]:
    """Core's dump, read to its end as a WSGI server does; and how many lines it had."""
    lines = 0

    def download() -> None:
        nonlocal lines
        with app.test_client().get(f"/datastore/dump/{id}", buffered=False) as answer:
            for chunk in answer.response:
                lines += chunk.count(b"\n" if isinstance(chunk, bytes) else "\n")

    return spend(download), lines


def warm_up(app: Any, id: str) -> None:
    """Have everything imported and connected."""
    app.test_client().get(f"/datastore/dump/{id}?limit=5").get_data()


@dataclass
class Cold:
    """An export from its first request to its redirect: what it took of CKAN, and of a worker."""

    spent: Spent
    held: float
    held_by_google: float
    rows: int


def cold_dump(app: Any, id: str, waits: bool) -> Cold:
    held = held_by_google = 0.0
    rows = 0
    client = app.test_client()
    url = f"/datastore/dump/{id}?format={'tsv' if waits else 'csv'}"
    headers = {"User-Agent": "curl/8.5.0"} | ({} if waits else {"Prefer": "respond-async"})

    def get(path: str) -> Any:
        nonlocal held, held_by_google
        begun = time.monotonic()
        with calls() as asked:
            answer = client.get(path, headers=headers)
        ended = time.monotonic()
        held += ended - begun
        held_by_google += asked.seconds(begun, ended)
        return answer

    def download() -> None:
        nonlocal rows
        while True:
            answer = get(url)
            if answer.status_code == 302 and "_hop" not in answer.headers["Location"]:
                break
            assert answer.status_code in (202, 302), (answer.status_code, answer.text)
            if not waits:
                time.sleep(int(answer.headers["Retry-After"]))
        status = client.get(f"/datastore/dump/{id}/status?{url.partition('?')[2]}").get_json()
        rows = status["rows"]

    return Cold(spend(download), held, held_by_google, rows)


def cached(app: Any, id: str, requests: int) -> Spent:
    """One click on the file that is there."""
    from ckanext.bigquery_datastore import config, downloads
    from ckanext.bigquery_datastore.dump import sign

    # Nothing expires while it is measured; what was kept for the usual time is heard anew.
    config.metadata_ttl_seconds = lambda: 3600
    for remembered in (downloads.TABLES, downloads.FILES, sign.LINKS):
        remembered.clear()
    client = app.test_client()
    client.get(f"/datastore/dump/{id}")
    found = []
    for _ in range(requests):
        found.append(spend(lambda: client.get(f"/datastore/dump/{id}")))
    return Spent(
        statistics.median(one.seconds for one in found),
        statistics.fmean(one.cpu for one in found),
        max(one.memory for one in found),
    )


def measure(small: bool) -> Iterator[Figure | Curve]:
    with bed() as made, Side(made.ours) as ours, Side(made.core) as core:
        yield from _measure(made, ours, core, small)


def _measure(made: Bed, ours: Side, core: Side, small: bool) -> Iterator[Figure | Curve]:
    few = ROWS // 10 if small else ROWS
    path = str(flights(made.folder, few))
    one = ours.do(put, path)
    beside: dict[str, list[tuple[float, float]]] = {"core on PostgreSQL": [], "here, cold": []}
    for times in (1, TIMES):
        mine = one if times == 1 else ours.do(multiply, one, few, times)
        theirs = core.do(copy, path, times)
        ours.do(warm_up, mine)
        core.do(warm_up, theirs)
        by_core, lines = core.do(core_dump, theirs)
        cold = ours.do(cold_dump, mine, False)
        rows = cold.rows
        assert lines == rows + 1, f"core wrote {lines} lines, we {rows} rows"
        waiting = ours.do(cold_dump, mine, True)
        yield from _figures(f"{rows:,} rows", by_core, cold, waiting)
        yield from _cached(f"{rows:,} rows", by_core, ours.do(cached, mine, 100))
        beside["core on PostgreSQL"].append((rows, by_core.cpu))
        beside["here, cold"].append((rows, cold.spent.cpu))
    yield Curve(
        "dump-cpu",
        "rows",
        "seconds of CKAN's CPU",
        beside,
        "Core's line rises with the rows, each of which passes through CKAN. Here no row does: "
        "what an export costs CKAN is a few requests and, with the time that BigQuery takes, some "
        "looks at its job.",
    )


def _figures(what: str, by_core: Spent, cold: Cold, waiting: Cold) -> Iterator[Figure]:
    beyond = cold.held - cold.held_by_google
    for name, mine, theirs in (
        ("CPU, cold", cold.spent.cpu, by_core.cpu),
        ("seconds of a worker, cold", cold.held, by_core.seconds),
        ("seconds of a worker, cold, beyond the emulator's answers", beyond, by_core.seconds),
        ("seconds of a worker, cold, waiting", waiting.held, by_core.seconds),
    ):
        yield Figure(
            QUESTION,
            f"{what}: {name}",
            f"{mine:.3f} s: {theirs / mine:,.0f} × less",
            f"core: {theirs:.1f} s",
            f"{COLD} × less",
            theirs >= COLD * mine,
        )
    yield Figure(
        QUESTION,
        f"{what}: memory beyond what CKAN had",
        f"{cold.spent.memory / MB:.1f} MB",
        f"core: {by_core.memory / MB:.1f} MB",
    )


def _cached(what: str, by_core: Spent, hot: Spent) -> Iterator[Figure]:
    for name, mine, theirs in (
        ("CPU, cached", hot.cpu, by_core.cpu),
        ("seconds of a worker, cached", hot.seconds, by_core.seconds),
    ):
        yield Figure(
            QUESTION,
            f"{what}: {name}",
            f"{1000 * mine:.1f} ms: {theirs / mine:,.0f} × less",
            f"core: {theirs:.1f} s",
            f"{CACHED:,} × less",
            theirs >= CACHED * mine,
        )


if __name__ == "__main__":
    from benchmarks.printing import show

    show(measure("--small" in sys.argv))
