"""How fast rows become json and xml while they stream, beside core's writers on the same rows.

    python -m benchmarks.bench_rewriting [--small]

The rows are those of a table like the demo's flights, and of one whose cells are mostly text. Ours
begins with the exported lines, which it decodes as well; core begins with values that are decoded
already. Both give the same bytes, which is checked. The time is the processor's, of one thread, and
the best of several taken in turn.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from ckanext.datastore import writer

from ckanext.bigquery_datastore.dump.transform import to_json, to_xml

from .alone import run
from .report import Curve, Figure, alternately

CHUNK = 64 * 1024

_INTS = (
    *("_id", "year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time"),
    *("sched_arr_time", "arr_delay", "flight", "air_time", "distance", "hour", "minute"),
)
FLIGHTS = [
    *({"id": name, "type": "int4"} for name in _INTS),
    *({"id": name, "type": "text"} for name in ("carrier", "tailnum", "origin", "dest")),
    {"id": "time_hour", "type": "timestamp"},
]
PLACES = [
    {"id": "_id", "type": "int"},
    {"id": "place", "type": "text"},
    {"id": "text", "type": "text"},
    {"id": "count", "type": "int4"},
    {"id": "share", "type": "float8"},
    {"id": "amount", "type": "numeric"},
    {"id": "at", "type": "timestamp"},
    {"id": "valid", "type": "bool"},
]

Cells = dict[str, str]


def flights(count: int) -> Iterator[tuple[Cells, list[Any]]]:
    """Each row's cells as exported, and its values."""
    dice = random.Random(1)
    for n in range(1, count + 1):
        numbers = [n, 2013, *(dice.randrange(1, 2400) for _ in _INTS[2:])]
        texts = ["UA", f"N{dice.randrange(10**4)}AA", "EWR", "IAH", "2013-01-01T05:00:00"]
        values: list[Any] = [*numbers, *texts]
        if n % 40 == 0:  # one that was cancelled
            values[4] = values[6] = values[7] = values[9] = values[11] = None
        names = (field["id"] for field in FLIGHTS)
        pairs = zip(names, values, strict=True)
        yield {name: str(value) for name, value in pairs if value is not None}, values


def places(count: int) -> Iterator[tuple[Cells, list[Any]]]:
    dice = random.Random(1)
    for n in range(1, count + 1):
        values = [
            *(n, f"Ville de Genève {n % 1000}", 'some text with "quotes" & more of it'),
            *(dice.randrange(10**6), dice.random(), round(dice.uniform(1, 99), 1) + 0.01),
            *(f"2015-01-01T10:00:{n % 60:02d}", True),
        ]
        texts = [*map(str, values[:-1]), "t"]
        yield dict(zip((field["id"] for field in PLACES), texts, strict=True)), values


TABLES = {"flights": (FLIGHTS, flights), "places": (PLACES, places)}


def cut(data: bytes) -> list[bytes]:
    return [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]


def exported(rows: list[tuple[Cells, list[Any]]]) -> bytes:
    dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    return "".join(f"{dumps(cells)}\n" for cells, _ in rows).encode()


def of_core(kind: str, fields: list[dict[str, str]], records: list[Any]) -> Iterator[bytes]:
    """What core's dump would stream, 32,000 rows at a time as it does."""
    with getattr(writer, f"{kind}_writer")(fields) as out:
        for first in range(0, len(records), 32_000):
            yield out.write_records(records[first : first + 32_000])
        yield out.end_file()


def seconds(work: Callable[[], Iterator[bytes]]) -> float:
    begun = time.process_time()
    for _ in work():
        pass
    return time.process_time() - begun


def compared(name: str, kind: str, count: int, rounds: int) -> tuple[float, float, float]:
    """Seconds, ours and core's; MB of the export that ours were read from."""
    fields, made = TABLES[name]
    rows = list(made(count))
    data = exported(rows)
    chunks = cut(data)
    names = [field["id"] for field in fields]
    records: list[Any] = [
        values if kind == "json" else dict(zip(names, values, strict=True)) for _, values in rows
    ]
    rewrite = {"json": to_json, "xml": to_xml}[kind]
    if b"".join(rewrite(fields, chunks)) != b"".join(of_core(kind, fields, records)):
        raise AssertionError(f"{kind} of {name} is not what core writes")
    ours, core = alternately(
        lambda: rewrite(fields, chunks),
        lambda: of_core(kind, fields, records),
        rounds=rounds,
        measure=seconds,
    )
    return min(ours), min(core), len(data) / 1e6


def measure(small: bool) -> Iterator[Figure | Curve]:
    rounds, count = (2, 5_000) if small else (5, 50_000)
    for kind, least in ("json", 100), ("xml", 0):
        for name in TABLES:
            ours, core, size = compared(name, kind, count, rounds)
            yield Figure(
                f"{kind}, rewritten",
                f"a table of {name}, one core",
                f"{size / ours:.0f} MB/s of the export, {1e6 * ours / count:.1f} µs a row",
                f"core's writer alone {1e6 * core / count:.1f} µs a row: {core / ours:.1f} ×",
                "≥ 10 ×" + (f", ≥ {least} MB/s" if least else ""),
                ours * 10 <= core and size / ours >= least,
            )


if __name__ == "__main__":
    run(measure, __doc__)
