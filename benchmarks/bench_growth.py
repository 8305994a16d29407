"""What grows with a table, from small to 100 times as many rows: downloads, and searches' bytes.

    python -m benchmarks.bench_growth [--small]

The tables lie in an emulator of the benchmark's own, in partitions of 20,000 numbers as the
DataStore makes them. A download is measured in the engine, from the question to the file that its
redirect names; a search by what BigQuery would bill. So that 10 MB, the least that a query costs,
are little, each byte counts as 1,000.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from ckan.plugins import toolkit as tk

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.backend.search.build import build
from ckanext.bigquery_datastore.backend.search.run import run as search
from ckanext.bigquery_datastore.backend.table import lookup
from ckanext.bigquery_datastore.dump.state import Ready
from ckanext.bigquery_datastore.tests.dump.exporting import Place, a_place
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator

from .alone import run
from .report import Curve, Figure

ROWS = (10_000, 40_000, 200_000, 1_000_000)
FACTOR = 1_000
COLUMNS = "n AS _id, LPAD(CAST(n AS STRING), 79, 'x') AS text, MOD(n, 100) AS kind, n / 4 AS size"
BUCKETS = "RANGE_BUCKET(_id, GENERATE_ARRAY(0, 80000000, 20000))"

Points = list[tuple[float, float]]


def fill(place: Place, rows: int) -> str:
    name = f"rows_{rows}"
    place.bigquery.query(
        f"CREATE TABLE `{place.dataset}.{name}` PARTITION BY {BUCKETS} AS SELECT {COLUMNS} "
        f"FROM UNNEST(GENERATE_ARRAY(1, {rows})) AS n"
    ).result()
    return name


def seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def download(place: Place, table: str, rounds: int) -> tuple[float, float]:
    """Seconds of the first one, then of one whose file is there."""

    def once() -> None:
        if not isinstance(place.advance(place.plan(table, "csv"), 300), Ready):
            raise TimeoutError("The export takes more than five minutes.")

    cold = seconds(once)
    return cold, statistics.median(seconds(once) for _ in range(rounds))


def set_defaults() -> None:
    """The site's options as they are declared: there is no CKAN around this."""
    declared = yaml.safe_load(
        (Path(config.__file__).parent / "config_declaration.yaml").read_text()
    )
    for group in declared["groups"]:
        for option in group["options"]:
            tk.config.setdefault(option["key"], str(option.get("default", "")))
    # A byte here counts as many.
    tk.config[config.SEARCH_MAXIMUM_BYTES_BILLED] = "0"


def billed(own: OwnEmulator, place: Place, table: str, **params: Any) -> float:
    """GB that a search is billed for."""
    found = lookup.from_api(place.bigquery.get_table(f"{place.project}.{place.dataset}.{table}"))
    # How many rows each partition has is asked once. What was asked already costs nothing.
    search(place.bigquery, build(found, {**params, "limit": 50}), 60)
    since = own.admin("GET", "costs")["now"]
    search(place.bigquery, build(found, params), 60)
    return own.admin("GET", f"costs?since={since}")["billed"] / 1e9


def measure(small: bool) -> Iterator[Figure | Curve]:
    set_defaults()
    sizes = ROWS[:2] if small else ROWS
    cold: Points = []
    cached: Points = []
    searched: dict[str, Points] = {
        "the first page": [],
        "a page in the middle": [],
        "a filter": [],
        "a sort by another column": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        own = OwnEmulator(Path(folder))
        os.environ.update(own.environment)
        try:
            with a_place("bench_growth", "bench-growth") as place:
                for rows in sizes:
                    table = fill(place, rows)
                    first, again = download(place, table, 5 if small else 30)
                    cold.append((rows, first))
                    cached.append((rows, 1000 * again))
                own.admin("PUT", "meter", {"factor": FACTOR})
                for rows in sizes:
                    table = f"rows_{rows}"
                    for (_, points), params in zip(
                        searched.items(),
                        (
                            {"limit": 100},
                            {"limit": 100, "offset": rows // 2},
                            {"limit": 100, "filters": {"kind": 7}},
                            {"limit": 100, "sort": "size desc"},
                        ),
                        strict=True,
                    ):
                        points.append((rows, billed(own, place, table, **params)))
        finally:
            own.end()
    times = cached[-1][1] / cached[0][1]
    yield Figure(
        "a table grows",
        f"a download whose file is there, {sizes[0]:,} and {sizes[-1]:,} rows",
        f"{cached[0][1]:.0f} and {cached[-1][1]:.0f} ms",
        target="≤ 1.5 ×",
        reached=times <= 1.5,
    )
    middle = searched["a page in the middle"]
    yield Figure(
        "a table grows",
        f"a page in the middle, {sizes[1]:,} and {sizes[-1]:,} rows",
        f"{middle[1][1]:.2f} and {middle[-1][1]:.2f} GB billed, were each byte {FACTOR:,}",
        target="≤ 2 ×",
        reached=middle[-1][1] <= 2 * middle[1][1],
    )
    yield Curve(
        "The first download of a table",
        "rows",
        "seconds, the emulator's own work included",
        {"csv": cold},
        "Straight from some size on: BigQuery's part, which reads and writes each row. Before, "
        "it is the calls that each export takes, however small.",
    )
    yield Curve(
        "A download whose file is there",
        "rows",
        "milliseconds",
        {"csv": cached},
        "Flat: the table's metadata and the file's are asked for, whatever the size of either.",
    )
    yield Curve(
        "What a search is billed for",
        "rows",
        f"GB, were each byte {FACTOR:,}",
        {name: points for name, points in searched.items()},
        "A page in the order of _id reads the one or two partitions of 20,000 rows that hold it: "
        "it is flat once there are more, however deep. A filter and a sort "
        "by another column read the columns that they name and show, of all rows: straight. (In a "
        "table that has lost rows, _id is read once more, after each change.)",
    )


if __name__ == "__main__":
    run(measure, __doc__)
